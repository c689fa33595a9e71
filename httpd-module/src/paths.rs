//! Where things are: beside the module first, then where packages install them.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::apache;
use crate::sys;

/// Where a distribution's package puts the supervisor, the extension and the Python packages.
const INSTALLED: &str = "/usr/lib/vivarium";

/// The files that a worker needs.
pub(crate) struct WorkerFiles {
    /// The directory that holds the packages `vivarium` and `mod_python`.
    pub(crate) packages: PathBuf,
    /// The extension module.
    pub(crate) extension: PathBuf,
}

/// The directory of the module's own file.
fn own_directory() -> Option<PathBuf> {
    let mut info = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is one of our own code; `dladdr` fills the record when it returns non-zero.
    let file = unsafe {
        let here: fn() -> Option<PathBuf> = own_directory;
        if libc::dladdr(here as *const core::ffi::c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        apache::bytes(info.assume_init().dli_fname)?
    };
    let path = Path::new(std::ffi::OsStr::from_bytes(file));
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.parent().map(Path::to_owned)
}

/// The first of `candidates` that exists, or the last one (which then shows in the error message).
fn first_existing(candidates: Vec<PathBuf>) -> PathBuf {
    let found = candidates.iter().find(|p| p.exists()).or(candidates.last());
    found.cloned().unwrap_or_default()
}

fn candidates(beside: &[&str], installed: &str) -> PathBuf {
    let mut all = Vec::new();
    if let Some(own) = own_directory() {
        all.extend(beside.iter().map(|b| own.join(b)));
    }
    all.push(Path::new(INSTALLED).join(installed));
    let found = first_existing(all);
    found.canonicalize().unwrap_or(found)
}

/// The supervisor.
pub(crate) fn supervisor() -> PathBuf {
    candidates(&["vivariumd"], "vivariumd")
}

/// The worker's files.
pub(crate) fn worker_files() -> WorkerFiles {
    WorkerFiles {
        packages: candidates(&["../../interp-daemon/python", "python"], "python"),
        extension: candidates(&["lib_vivarium.so"], "lib_vivarium.so"),
    }
}

/// `name` in httpd's run directory (`DefaultRuntimeDir`).
pub(crate) fn runtime_file(name: &str) -> PathBuf {
    let fallback = || std::env::temp_dir().join(name);
    let (Some(pool), Ok(name_c)) = (crate::hooks::pconf(), CString::new(name)) else {
        return fallback();
    };
    // SAFETY: live pool, NUL-terminated name; the result lives in the pool.
    unsafe { apache::bytes(sys::ap_runtime_dir_relative(pool.as_ptr(), name_c.as_ptr())) }
        .map_or_else(fallback, |p| PathBuf::from(std::ffi::OsStr::from_bytes(p)))
}

/// `ServerRoot`.
pub(crate) fn server_root() -> String {
    // SAFETY: httpd sets the pointer when it reads the configuration.
    unsafe { apache::text(sys::ap_server_root) }.unwrap_or_default()
}

/// The user and group that httpd's children run as.
pub(crate) fn child_ids() -> (u32, u32) {
    if rustix::process::geteuid().is_root() {
        // SAFETY: plain reads; httpd sets the record when it reads the configuration.
        unsafe { (sys::ap_unixd_config.user_id, sys::ap_unixd_config.group_id) }
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }
}
