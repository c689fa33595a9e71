//! What the workers of one tenant share: `/tmp` and `/dev/shm`, small file systems in memory.
//!
//! They are mounted in a mount namespace of the supervisor's own (a slave of the machine's: what is mounted there shows
//! here, not the other way round), below a directory that only root can enter. They end with the supervisor and the
//! last worker; nothing is left on the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};

use super::TmpSpec;
use crate::sys::sandbox;

/// The mount points, in a mount namespace of the supervisor's own.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    /// Tenant → the size of its file systems.
    tenants: BTreeMap<String, u64>,
}

fn failed(path: &Path, e: impl std::fmt::Display) -> String {
    format!("{}: {e}", path.display())
}

impl Shared {
    /// Leaves the machine's mount namespace and makes room. Once only.
    pub(crate) fn new(run_dir: &Path) -> Result<Self, String> {
        let dir = run_dir.join("mnt");
        make(run_dir, 0o755).map_err(|e| failed(run_dir, e))?;
        make(&dir, 0o700).map_err(|e| failed(&dir, e))?;
        sandbox::unshare(libc::CLONE_NEWNS).map_err(|e| format!("a mount namespace: {e}"))?;
        mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .map_err(|e| format!("making mounts slaves: {e}"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(c"vivarium", &dir, c"tmpfs", flags, c"mode=0700,size=16m")
            .map_err(|e| failed(&dir, e))?;
        mount_change(&dir, MountPropagationFlags::PRIVATE).map_err(|e| failed(&dir, e))?;
        let shared = Self { dir, tenants: BTreeMap::new() };
        for name in ["root", "t"] {
            fs::create_dir(shared.dir.join(name)).map_err(|e| failed(&shared.dir, e))?;
        }
        Ok(shared)
    }

    /// Where helpers, each in a mount namespace of its own, put their root together.
    pub(crate) fn root(&self) -> String {
        self.dir.join("root").to_string_lossy().into_owned()
    }

    fn paths(&self, tenant: &str) -> [PathBuf; 2] {
        let at = self.dir.join("t").join(tenant);
        [at.join("tmp"), at.join("shm")]
    }

    /// The tenant's own `/tmp` and `/dev/shm`, of `size` bytes each.
    pub(crate) fn tmp(&mut self, tenant: &str, size: Option<u64>) -> Result<TmpSpec, String> {
        // Half of the memory is what the kernel takes for "no limit".
        let size = size.unwrap_or(0);
        let options = options(size);
        let [tmp, shm] = self.paths(tenant);
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let known = self.tenants.get(tenant).copied();
        for path in [&tmp, &shm] {
            match known {
                Some(old) if old == size => {}
                Some(_) => {
                    mount_remount(path, flags, options.as_str()).map_err(|e| failed(path, e))?;
                }
                None => {
                    fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(path)
                        .map_err(|e| failed(path, e))?;
                    let data = std::ffi::CString::new(options.clone()).unwrap_or_default();
                    mount(c"tenant", path, c"tmpfs", flags, data.as_c_str())
                        .map_err(|e| failed(path, e))?;
                }
            }
        }
        self.tenants.insert(tenant.to_owned(), size);
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Ok(TmpSpec { tmp: text(tmp), shm: text(shm) })
    }

    /// Takes a tenant's away: what runs keeps it until it ends.
    pub(crate) fn forget(&mut self, tenant: &str) {
        if self.tenants.remove(tenant).is_none() {
            return;
        }
        for path in self.paths(tenant) {
            let _ = unmount(&path, UnmountFlags::DETACH);
            let _ = fs::remove_dir(&path);
        }
        let _ = fs::remove_dir(self.dir.join("t").join(tenant));
    }
}

/// Bytes, and a number of files that goes with them: an empty file costs kernel memory too.
fn options(size: u64) -> String {
    let files = (size / 4096).max(1024);
    if size == 0 { "mode=1777".into() } else { format!("mode=1777,size={size},nr_inodes={files}") }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(true).mode(mode).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    // The umask may have narrowed it; nobody but root may have it.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    super::super::tenants::trusted::check_directory(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_bring_a_number_of_files() {
        assert_eq!(options(64 << 20), "mode=1777,size=67108864,nr_inodes=16384");
        assert_eq!(options(4096), "mode=1777,size=4096,nr_inodes=1024");
        assert_eq!(options(0), "mode=1777");
    }
}
