//! Reading files that decide who Python runs as: nobody else may have written them.
//!
//! The file is opened first and then looked at, so that what was checked is what is read.

use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Nothing of ours is larger.
const LARGEST: u64 = 1 << 20;

/// Why a file's owner or mode makes it unfit, if it does. Only a supervisor that is root has anything to lose: another
/// could not become anybody.
fn objection(uid: u32, mode: u32, own_uid: u32) -> Option<String> {
    if own_uid == 0 && uid != 0 {
        return Some(format!("it belongs to uid {uid}: only root's is read (chown root)"));
    }
    if mode & 0o022 != 0 {
        let mode = mode & 0o7777;
        return Some(format!("others may write to it (mode {mode:04o}): chmod go-w"));
    }
    None
}

fn refuse(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether a directory may be read for such files: otherwise somebody could rename one in its place.
pub(crate) fn check_directory(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    match objection(metadata.uid(), metadata.mode(), own_uid()) {
        Some(text) => Err(refuse(text)),
        None => Ok(()),
    }
}

/// Reads a file that nobody but root (or the supervisor's own user, if that is not root) can have written.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    // Without waiting: a named pipe in its place must not hang the supervisor.
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(refuse("it is no regular file".into()));
    }
    if let Some(text) = objection(metadata.uid(), metadata.mode(), own_uid()) {
        return Err(refuse(text));
    }
    let mut text = String::new();
    let got = Read::by_ref(&mut file).take(LARGEST + 1).read_to_string(&mut text)?;
    if got as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is over 1 MiB long"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_else_can_have_written_is_fit() {
        assert_eq!(objection(0, 0o100_644, 0), None);
        assert!(objection(0, 0o100_664, 0).unwrap().contains("0664"));
        assert!(objection(0, 0o100_646, 0).unwrap().contains("chmod go-w"));
        assert!(objection(1000, 0o100_644, 0).unwrap().contains("uid 1000"));
        assert_eq!(objection(1000, 0o100_644, 1000), None);
        assert_eq!(objection(0, 0o100_644, 1000), None);
        assert!(objection(1000, 0o100_666, 1000).is_some());
    }

    #[test]
    fn devices_are_not_read() {
        let error = read(Path::new("/dev/null")).unwrap_err();
        assert!(error.to_string().contains("regular"), "{error}");
        assert!(read(Path::new("/no/such/file")).is_err());
    }
}
