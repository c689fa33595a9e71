//! The user and group database, by `getpwnam_r` and its kin.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
}

/// No entry is larger than this.
const LARGEST: usize = 1 << 20;

fn string(text: *const libc::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the database functions leave NUL-terminated strings in the buffer that the caller still holds.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn find<T, R>(
    mut call: impl FnMut(*mut T, *mut libc::c_char, usize, *mut *mut T) -> libc::c_int,
    take: impl FnOnce(&T) -> R,
) -> io::Result<Option<R>> {
    let mut size = 1024;
    loop {
        let mut buffer = vec![0u8; size];
        let mut entry = MaybeUninit::<T>::uninit();
        let mut found = std::ptr::null_mut();
        match call(entry.as_mut_ptr(), buffer.as_mut_ptr().cast(), size, &raw mut found) {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: success with a result: the function has filled `entry`, which points into `buffer`.
                return Ok(Some(take(unsafe { entry.assume_init_ref() })));
            }
            libc::ERANGE if size < LARGEST => size *= 2,
            // Several of these mean "no such entry" with some databases.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn user(entry: &libc::passwd) -> User {
    User {
        name: string(entry.pw_name),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home: string(entry.pw_dir),
    }
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL in a name"))
}

/// The user of this name.
pub(crate) fn by_name(name: &str) -> io::Result<Option<User>> {
    let name = c_string(name)?;
    find(
        // SAFETY: all pointers are valid for the call, the size is the buffer's.
        |entry, buffer, size, found| unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer, size, found)
        },
        user,
    )
}

/// The user with this number.
pub(crate) fn by_uid(uid: u32) -> io::Result<Option<User>> {
    find(
        // SAFETY: as in `by_name`.
        |entry, buffer, size, found| unsafe { libc::getpwuid_r(uid, entry, buffer, size, found) },
        user,
    )
}

/// The number of the group of this name.
pub(crate) fn group(name: &str) -> io::Result<Option<u32>> {
    let name = c_string(name)?;
    find(
        // SAFETY: as in `by_name`.
        |entry, buffer, size, found| unsafe {
            libc::getgrnam_r(name.as_ptr(), entry, buffer, size, found)
        },
        |entry: &libc::group| entry.gr_gid,
    )
}

/// The name of the group with this number.
pub(crate) fn group_name(gid: u32) -> io::Result<Option<String>> {
    find(
        // SAFETY: as in `by_name`.
        |entry, buffer, size, found| unsafe { libc::getgrgid_r(gid, entry, buffer, size, found) },
        |entry: &libc::group| string(entry.gr_name),
    )
}

/// All groups of a user, `gid` among them.
pub(crate) fn groups(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let name = c_string(name)?;
    let mut list: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut count = libc::c_int::try_from(list.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: `list` has room for `count` entries; the name is NUL-terminated.
        let done =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, list.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if done >= 0 {
            list.truncate(count);
            return Ok(list);
        }
        // 65536 is the kernel's own limit (NGROUPS_MAX).
        if list.len() >= 1 << 16 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        list.resize((list.len() * 2).max(count), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_both_ways() {
        let root = by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(by_uid(0).unwrap().unwrap(), root);
        assert_eq!(group("root").unwrap(), Some(0));
        assert!(groups("root", 0).unwrap().contains(&0));
        assert_eq!(group_name(0).unwrap().as_deref(), Some("root"));
        assert_eq!(group_name(3_999_999_999).unwrap(), None);
    }

    #[test]
    fn nobody_of_that_name_is_no_error() {
        assert_eq!(by_name("no-such-user-here").unwrap(), None);
        assert_eq!(group("no-such-group-here").unwrap(), None);
        assert_eq!(by_uid(3_999_999_999).unwrap(), None);
        assert!(by_name("a\0b").is_err());
    }
}
