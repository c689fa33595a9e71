//! The helper's system calls that no safe crate has.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

fn done(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// New namespaces for this process. Not for `CLONE_NEWPID`, which concerns children only.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: numbers only; the process has one thread, so nothing is unshared under another's feet.
    done(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// As `fork`, into a new PID namespace if asked for. The child is 0.
///
/// # Safety
/// As `fork`, and more: the C library does not know of it. The child may make system calls and must leave by `execve`
/// or `_exit`.
pub(crate) unsafe fn fork(pid_namespace: bool) -> io::Result<i32> {
    let pid = if pid_namespace {
        let flags = libc::c_long::from(libc::CLONE_NEWPID | libc::SIGCHLD);
        // SAFETY: no stack is given and no memory is shared, so this is a fork; the rest is the caller's promise. All
        // machines that we know take the flags first, and zero for whatever comes after.
        unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) }
    } else {
        // SAFETY: the caller's promise.
        unsafe { libc::fork() }.into()
    };
    i32::try_from(done(pid)?).map_err(io::Error::other)
}

/// Leaves the session keyring for a new one with nothing in it, so that none is shared with anybody.
pub(crate) fn own_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;
    // SAFETY: no name, so no memory is read.
    done(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>())
    })
    .map(drop)
}

/// Nobody but root may look into this process from now on; reads it back.
pub(crate) fn not_dumpable() -> io::Result<()> {
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into())?;
    // SAFETY: numbers only.
    match done(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }.into())? {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// 2 if a seccomp filter holds.
pub(crate) fn seccomp_mode() -> io::Result<i64> {
    // SAFETY: numbers only.
    done(unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) }.into())
}

/// A resource limit, soft and hard, not above the hard limit that there is; reads it back.
pub(crate) fn limit(resource: u32, most: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for two numbers.
    done(unsafe { libc::getrlimit(resource, &raw mut now) }.into())?;
    let wanted = most.min(now.rlim_max);
    let new = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
    // SAFETY: two numbers.
    done(unsafe { libc::setrlimit(resource, &raw const new) }.into())?;
    // SAFETY: a place for two numbers.
    done(unsafe { libc::getrlimit(resource, &raw mut now) }.into())?;
    if (now.rlim_cur, now.rlim_max) == (wanted, wanted) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a whole ifreq with a NUL-terminated name.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    done(result.into()).map(drop)
}

/// Sets a whole tree of mounts `nosuid` and `nodev` (unless it is a device's), and read-only if asked for.
/// Linux 5.12.
pub(crate) fn restrict_mount(
    tree: BorrowedFd<'_>,
    read_only: bool,
    device: bool,
) -> io::Result<()> {
    let mut set = libc::MOUNT_ATTR_NOSUID;
    if !device {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let empty: &CStr = c"";
    // SAFETY: the path is empty and terminated, the attributes are of the size given.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Replaces this process.
pub(crate) fn exec(
    program: &CStr,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> io::Error {
    debug_assert!(arguments.last().is_some_and(|p| p.is_null()));
    debug_assert!(environment.last().is_some_and(|p| p.is_null()));
    // SAFETY: both arrays end with a null pointer and point to strings that the caller keeps.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
