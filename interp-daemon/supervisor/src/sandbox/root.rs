//! A root directory of its own: an empty file system, what the rules name bound into it, and the way back cut off.
//!
//! Sources are opened one component at a time. Symbolic links are followed if they belong to root and made again in the
//! new root; any other link is refused, for it could have been made by the tenant to have somebody else's directory
//! bound for it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};

use super::rules::{Access, Rule};
use super::{RootSpec, TmpSpec};
use crate::sys::sandbox::restrict_mount;

/// Why a root cannot be made.
type Failed = String;

fn at_path(path: &Path) -> impl Fn(Errno) -> Failed + '_ {
    move |e| format!("{}: {e}", path.display())
}

/// A path of the machine as it really is.
#[derive(Debug)]
struct Found {
    fd: OwnedFd,
    real: PathBuf,
    is_dir: bool,
    /// Symbolic links on the way: where, and to what.
    links: Vec<(PathBuf, OsString)>,
}

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a path from `root` on. `None` if it does not exist.
fn find(root: &Path, path: &Path) -> Result<Option<Found>, Failed> {
    let mut links = Vec::new();
    let mut left: VecDeque<OsString> = components(path);
    let mut real = PathBuf::from("/");
    let start =
        || openat(CWD, root, PATH | OFlags::DIRECTORY, Mode::empty()).map_err(at_path(root));
    let mut at = start()?;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            // The path so far has no links in it: the parent is what its text says.
            real.pop();
            let mut again = components(&real);
            again.append(&mut left);
            left = again;
            real = PathBuf::from("/");
            at = start()?;
            continue;
        }
        let here = real.join(&name);
        let next = match openat(&at, &name, PATH, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(at_path(&here)(e)),
        };
        let stat = fstat(&next).map_err(at_path(&here))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            real = here;
            at = next;
            continue;
        }
        if stat.st_uid != 0 {
            return Err(format!(
                "{}: a symbolic link that is not root's is not followed: name what it points to",
                here.display()
            ));
        }
        if links.len() >= 40 {
            return Err(at_path(&here)(Errno::LOOP));
        }
        let target = readlinkat(&next, c"", Vec::new()).map_err(at_path(&here))?.into_bytes();
        let target = OsString::from_vec(target);
        let mut again = components(Path::new(&target));
        again.append(&mut left);
        left = again;
        if target.as_bytes().starts_with(b"/") {
            real = PathBuf::from("/");
            at = start()?;
        }
        links.push((here, target));
    }
    let stat = fstat(&at).map_err(at_path(&real))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(Some(Found { fd: at, real, is_dir, links }))
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.as_os_str()
        .as_bytes()
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect()
}

/// Opens a place in the new root, never through a link, and makes what is missing on the way.
fn place(root: &OwnedFd, path: &Path, is_dir: bool) -> Result<OwnedFd, Failed> {
    let parts = components(path);
    let last = parts.len();
    let mut at =
        openat(root, c".", PATH | OFlags::DIRECTORY, Mode::empty()).map_err(at_path(path))?;
    for (i, name) in parts.iter().enumerate() {
        let next = match openat(&at, name, PATH, Mode::empty()) {
            Err(Errno::NOENT) => {
                let made = if i + 1 == last && !is_dir {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    openat(&at, name, flags | OFlags::WRONLY, Mode::from_raw_mode(0o644)).map(drop)
                } else {
                    mkdirat(&at, name, Mode::from_raw_mode(0o755))
                };
                // The workers of a tenant share its `/tmp`: another one that starts now may have made it.
                if let Err(e) = made
                    && e != Errno::EXIST
                {
                    return Err(at_path(path)(e));
                }
                openat(&at, name, PATH, Mode::empty())
            }
            other => other,
        };
        at = next.map_err(at_path(path))?;
    }
    Ok(at)
}

/// Binds `source` over `target`.
fn bind(
    source: BorrowedFd<'_>,
    target: &OwnedFd,
    access: Access,
    path: &Path,
) -> Result<(), Failed> {
    let read_only = !matches!(access, Access::Write | Access::Device);
    let device = access == Access::Device;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    match open_tree(source, c"", flags) {
        Ok(tree) => match restrict_mount(tree.as_fd(), read_only, device) {
            Ok(()) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
                    | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                return move_mount(tree.as_fd(), c"", target.as_fd(), c"", flags)
                    .map_err(at_path(path));
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {}
            Err(e) => return Err(format!("{}: {e}", path.display())),
        },
        Err(Errno::NOSYS) => {}
        Err(e) => return Err(at_path(path)(e)),
    }
    old_bind(source, target, read_only, device).map_err(at_path(path))
}

/// Before Linux 5.12: one mount without those below it, through `/proc`.
fn old_bind(
    source: BorrowedFd<'_>,
    target: &OwnedFd,
    read_only: bool,
    device: bool,
) -> Result<(), Errno> {
    let by_number = |fd: i32| format!("/proc/self/fd/{fd}");
    let place = std::fs::read_link(by_number(target.as_raw_fd())).map_err(|_| Errno::BADF)?;
    rustix::mount::mount_bind(by_number(source.as_raw_fd()), &place)?;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID;
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    if !device {
        flags |= MountFlags::NODEV;
    }
    mount_remount(&place, flags, "")
}

fn mount_proc(at: &Path, pid_namespace: bool) -> Result<(), Failed> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Without a PID namespace of its own, at least other users' processes stay unseen.
    let data = if pid_namespace { c"" } else { c"hidepid=2" };
    mount(c"proc", at, c"proc", flags, data).map_err(at_path(at))
}

/// Makes the root and enters it. Afterwards `/proc` is one of this process's own PID namespace.
pub(crate) fn enter(spec: &RootSpec, pid_namespace: bool) -> Result<(), Failed> {
    match spec {
        RootSpec::Host { mounts: false, .. } => Ok(()),
        RootSpec::Host { tmp, .. } => {
            keep_mounts_in()?;
            if pid_namespace {
                mount_proc(Path::new("/proc"), true)?;
            }
            if let Some(tmp) = tmp {
                let root =
                    openat(CWD, c"/", PATH, Mode::empty()).map_err(at_path(Path::new("/")))?;
                bind_tmp(&root, tmp)?;
            }
            Ok(())
        }
        RootSpec::Private { at, rules, tmp, passwd, group } => {
            keep_mounts_in()?;
            let at = Path::new(at);
            mount(c"root", at, c"tmpfs", MountFlags::NOSUID, c"mode=0755,size=4m")
                .map_err(at_path(at))?;
            let root =
                openat(CWD, at, PATH | OFlags::DIRECTORY, Mode::empty()).map_err(at_path(at))?;
            // First, so that what is named below the machine's `/tmp` is seen in the tenant's own.
            place(&root, Path::new("/tmp"), true)?;
            place(&root, Path::new("/dev/shm"), true)?;
            if let Some(tmp) = tmp {
                bind_tmp(&root, tmp)?;
            }
            let bound = bind_rules(&root, rules)?;
            for (name, text) in [("passwd", passwd), ("group", group)] {
                let path = Path::new("/etc").join(name);
                if rules.iter().any(|r| r.own && Path::new(&r.path) == path) {
                    place(&root, &path, false)?;
                    std::fs::write(at.join("etc").join(name), text)
                        .map_err(|e| format!("{}: {e}", path.display()))?;
                }
            }
            for (link, target) in [
                ("fd", "/proc/self/fd"),
                ("stdin", "/proc/self/fd/0"),
                ("stdout", "/proc/self/fd/1"),
                ("stderr", "/proc/self/fd/2"),
            ] {
                place(&root, Path::new("/dev"), true)?;
                let _ = symlinkat(target, CWD, at.join("dev").join(link));
            }
            place(&root, Path::new("/proc"), true)?;
            mount_proc(&at.join("proc"), pid_namespace)?;
            change_to(at)?;
            mount_remount(
                c"/",
                MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
                "",
            )
            .map_err(at_path(Path::new("/")))?;
            check(&bound, tmp.is_some())
        }
        RootSpec::Directory { path, tmp, rules } => {
            keep_mounts_in()?;
            let path = Path::new(path);
            let found = find(Path::new("/"), path)?
                .filter(|f| f.is_dir)
                .ok_or_else(|| format!("root = {:?} is no directory", path.display()))?;
            // A mount point it must be, to be pivoted to.
            bind(found.fd.as_fd(), &found.fd, Access::Run, path)?;
            let root = openat(CWD, &found.real, PATH | OFlags::DIRECTORY, Mode::empty())
                .map_err(at_path(path))?;
            let bound = bind_rules(&root, rules)?;
            mount_proc(&found.real.join("proc"), pid_namespace)
                .map_err(|e| format!("{e}: make the directory in the root"))?;
            if let Some(tmp) = tmp {
                bind_tmp(&root, tmp)?;
            }
            change_to(&found.real)?;
            check(&bound, tmp.is_some())
        }
    }
}

/// Nothing that is mounted from here on is seen outside.
fn keep_mounts_in() -> Result<(), Failed> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|e| format!("making mounts private: {e}"))
}

fn bind_tmp(root: &OwnedFd, tmp: &TmpSpec) -> Result<(), Failed> {
    for (from, to) in [(&tmp.tmp, "/tmp"), (&tmp.shm, "/dev/shm")] {
        let (from, to) = (Path::new(from), Path::new(to));
        let source = openat(CWD, from, PATH, Mode::empty()).map_err(at_path(from))?;
        bind(source.as_fd(), &place(root, to, true)?, Access::Write, to)?;
    }
    Ok(())
}

/// Binds what the rules name, directories before what is in them. Gives what is there and may be written.
fn bind_rules(root: &OwnedFd, rules: &[Rule]) -> Result<Vec<(PathBuf, bool)>, Failed> {
    let mut found: Vec<(Found, Access)> = Vec::new();
    for rule in rules.iter().filter(|r| !r.own) {
        let Some(source) = find(Path::new("/"), Path::new(&rule.path))? else { continue };
        for (link, target) in &source.links {
            let Some((parent, name)) = link.parent().zip(link.file_name()) else { continue };
            let inside = found.iter().any(|(f, _)| link.starts_with(&f.real));
            if !inside {
                match symlinkat(target, &place(root, parent, true)?, name) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(at_path(link)(e)),
                }
            }
        }
        match found.iter_mut().find(|(f, _)| f.real == source.real) {
            Some((_, access)) => *access = (*access).max(rule.access),
            None => found.push((source, rule.access)),
        }
    }
    found.sort_by(|a, b| a.0.real.cmp(&b.0.real));
    let mut bound: Vec<(PathBuf, bool)> = Vec::new();
    for (source, access) in found {
        let writable = matches!(access, Access::Write | Access::Device);
        // It is there already, in what was bound, with the same rights.
        let covering = bound.iter().rev().find(|(path, _)| source.real.starts_with(path));
        if covering.is_some_and(|(_, w)| *w == writable) && access != Access::Device {
            continue;
        }
        let target = place(root, &source.real, source.is_dir)?;
        bind(source.fd.as_fd(), &target, access, &source.real)?;
        bound.push((source.real, writable));
    }
    Ok(bound)
}

/// Makes `at` the root and lets go of the old one.
fn change_to(at: &Path) -> Result<(), Failed> {
    rustix::process::chdir(at).map_err(at_path(at))?;
    rustix::process::pivot_root(c".", c".").map_err(|e| format!("pivot_root: {e}"))?;
    unmount(c".", UnmountFlags::DETACH).map_err(|e| format!("letting go of the old root: {e}"))?;
    rustix::process::chdir(c"/").map_err(at_path(Path::new("/")))
}

/// Reads back what is mounted: every mount is nosuid, and read-only unless it was to be writable.
fn check(bound: &[(PathBuf, bool)], tmp: bool) -> Result<(), Failed> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
    check_mounts(&text, bound, tmp)
}

fn check_mounts(mountinfo: &str, bound: &[(PathBuf, bool)], tmp: bool) -> Result<(), Failed> {
    let writable = |path: &Path| {
        path == Path::new("/proc")
            || (tmp && ["/tmp", "/dev/shm"].iter().any(|p| path == Path::new(p)))
            || bound.iter().rev().find(|(b, _)| path.starts_with(b)).is_some_and(|(_, w)| *w)
    };
    let mut root = false;
    for line in mountinfo.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else { continue };
        let point = PathBuf::from(unescape(point));
        root |= point == Path::new("/");
        let has = |option: &str| options.split(',').any(|o| o == option);
        if !has("nosuid") {
            return Err(format!("the mount {} is not nosuid", point.display()));
        }
        if !has("ro") && !writable(&point) {
            return Err(format!("the mount {} is writable", point.display()));
        }
    }
    if root { Ok(()) } else { Err("the new root is no mount".into()) }
}

/// `\040` and the like in a mountinfo.
fn unescape(text: &str) -> OsString {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(byte) = bytes.get(i) {
        let octal = bytes.get(i + 1..i + 4).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        if let (b'\\', Some(value)) = (byte, octal) {
            out.push(value);
            i += 4;
        } else {
            out.push(*byte);
            i += 1;
        }
    }
    OsString::from_vec(out)
}

/// Whether the directory is there and who may be meant by it: for `vivarium check`.
pub(crate) fn reachable(path: &str) -> Result<bool, String> {
    Ok(find(Path::new("/"), Path::new(path))?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_as_they_really_are() {
        let found = find(Path::new("/"), Path::new("/usr/../usr/./bin")).unwrap().unwrap();
        assert_eq!(found.real, Path::new("/usr/bin"));
        assert!(found.is_dir && found.links.is_empty());
        assert!(find(Path::new("/"), Path::new("/no/such/path")).unwrap().is_none());
        assert!(find(Path::new("/"), Path::new("/etc/hostname/below")).unwrap().is_none());
        let device = find(Path::new("/"), Path::new("/dev/null")).unwrap().unwrap();
        assert!(!device.is_dir);
    }

    #[test]
    fn links_are_followed_if_they_are_roots() {
        let dir = std::env::temp_dir().join(format!("viv-root-links-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
        let through = find(Path::new("/"), &dir.join("link"));
        if rustix::process::geteuid().is_root() {
            let found = through.unwrap().unwrap();
            assert_eq!(found.real, dir.join("real"));
            assert_eq!(found.links, [(dir.join("link"), OsString::from("real"))]);
            assert!(find(Path::new("/"), &dir.join("loop")).is_err());
            std::os::unix::fs::lchown(dir.join("link"), Some(65_534), None).unwrap();
            let error = find(Path::new("/"), &dir.join("link")).unwrap_err();
            assert!(error.contains("not root's"), "{error}");
        } else {
            assert!(through.unwrap_err().contains("not root's"));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn mounts_are_read_back() {
        let bound = vec![(PathBuf::from("/usr"), false), (PathBuf::from("/home/a b"), true)];
        let root = "1 1 0:1 / / ro,nosuid,nodev - tmpfs root rw\n";
        let with = |line: &str| check_mounts(&format!("{root}{line}"), &bound, true);
        assert_eq!(with("2 1 0:2 / /usr ro,nosuid - ext4 x rw\n"), Ok(()));
        assert_eq!(with("2 1 0:2 / /home/a\\040b rw,nosuid - ext4 x rw\n"), Ok(()));
        assert_eq!(with("2 1 0:2 / /tmp rw,nosuid - tmpfs x rw\n"), Ok(()));
        assert!(with("2 1 0:2 / /usr rw,nosuid - ext4 x rw\n").unwrap_err().contains("writable"));
        assert!(with("2 1 0:2 / /usr ro - ext4 x rw\n").unwrap_err().contains("nosuid"));
        assert!(with("2 1 0:2 / /srv rw,nosuid - ext4 x rw\n").is_err());
        assert!(check_mounts("", &bound, true).is_err());
    }

    #[test]
    fn mountinfo_is_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/a\\"), "/a\\");
    }
}
