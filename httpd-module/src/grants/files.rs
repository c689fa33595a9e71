//! Files that a confined tenant may have httpd serve: those in its document roots, links followed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// The true path of what a path names or would name, if that is in one of the roots; with the root. What does not exist
/// yet is where its nearest directory that does is.
fn placed(roots: &[PathBuf], path: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let path = Path::new(OsStr::from_bytes(path));
    let plain = path.is_absolute()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !plain {
        return None;
    }
    let mut known = path;
    let there = loop {
        match known.canonicalize() {
            Ok(there) => break there,
            // A link that leads nowhere could lead somewhere else later.
            Err(e) if e.kind() == io::ErrorKind::NotFound && known.symlink_metadata().is_err() => {
                known = known.parent()?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => known = known.parent()?,
            Err(_) => return None,
        }
    };
    let whole = match path.strip_prefix(known) {
        Ok(rest) if !rest.as_os_str().is_empty() => there.join(rest),
        _ => there,
    };
    roots
        .iter()
        .filter_map(|root| root.canonicalize().ok())
        .find(|root| whole.starts_with(root))
        .map(|root| (root, whole))
}

/// Whether the tenant may name it.
pub(crate) fn is_inside(roots: &[PathBuf], path: &[u8]) -> bool {
    placed(roots, path).is_some()
}

/// Opens a file of the roots for reading. Nobody can put a link in its place meanwhile: it is reached from the root, and
/// no link is followed.
///
/// # Errors
/// `PermissionDenied` if it is in none of the roots, `Unsupported` on a kernel without `openat2`.
pub(crate) fn open(roots: &[PathBuf], path: &[u8]) -> io::Result<OwnedFd> {
    let (root, whole) = placed(roots, path).ok_or(io::ErrorKind::PermissionDenied)?;
    let flags = OFlags::CLOEXEC | OFlags::NOCTTY;
    let root_fd = rustix::fs::open(&root, flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let rest = whole.strip_prefix(&root).map_err(|_| io::ErrorKind::PermissionDenied)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A pipe would wait for a writer.
    let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK;
    Ok(rustix::fs::openat2(&root_fd, rest, flags, Mode::empty(), resolve)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("vivarium-files-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("root/sub")).unwrap();
            fs::write(path.join("root/sub/page"), "inside").unwrap();
            fs::write(path.join("secret"), "outside").unwrap();
            Self(path.canonicalize().unwrap())
        }
        fn at(&self, name: &str) -> Vec<u8> {
            self.0.join(name).into_os_string().into_encoded_bytes()
        }
        fn roots(&self) -> Vec<PathBuf> {
            vec![self.0.join("root")]
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_what_is_in_a_root_is_inside() {
        let dir = Dir::new("inside");
        let inside = |name: &str| is_inside(&dir.roots(), &dir.at(name));
        assert!(inside("root/sub/page") && inside("root") && inside("root/new/file"));
        assert!(inside("root/sub/page/path/info"));
        assert!(!inside("secret") && !inside("root/../secret") && !inside("rooted"));
        assert!(!is_inside(&dir.roots(), b"root/sub/page"));
        assert!(!is_inside(&[], &dir.at("root/sub/page")));
    }

    #[test]
    fn links_count_as_what_they_lead_to() {
        let dir = Dir::new("links");
        symlink(dir.0.join("secret"), dir.0.join("root/out")).unwrap();
        symlink(&dir.0, dir.0.join("root/up")).unwrap();
        symlink("sub/page", dir.0.join("root/in")).unwrap();
        symlink(dir.0.join("not-yet"), dir.0.join("root/dangling")).unwrap();
        let inside = |name: &str| is_inside(&dir.roots(), &dir.at(name));
        assert!(!inside("root/out") && !inside("root/up/secret") && !inside("root/up/new"));
        assert!(!inside("root/dangling"), "its target could appear");
        assert!(inside("root/in"));
    }

    #[test]
    fn what_is_opened_is_in_the_root() {
        let dir = Dir::new("open");
        assert!(open(&dir.roots(), &dir.at("root/sub/page")).is_ok());
        symlink(dir.0.join("secret"), dir.0.join("root/out")).unwrap();
        let no = open(&dir.roots(), &dir.at("root/out")).unwrap_err();
        assert_eq!(no.kind(), io::ErrorKind::PermissionDenied);
        // A link that takes the place of a directory after the look is not followed.
        let real = dir.roots()[0].canonicalize().unwrap();
        fs::rename(real.join("sub"), real.join("was")).unwrap();
        symlink(real.join("was"), real.join("sub")).unwrap();
        assert!(
            open(&dir.roots(), &dir.at("root/sub/page")).is_ok(),
            "resolved again, still inside"
        );
    }
}
