//! What outlives a reload of the configuration: one plain record in httpd's retained memory.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::apache::edge::guarded;
use crate::apache::pool::Pool;
use crate::sys;

const KEY: &core::ffi::CStr = c"mod_vivarium";
/// Changes with the record's layout: after an upgrade in place the old record is left alone.
const LAYOUT: u32 = 1;
const PATH_ROOM: usize = 108;
const PROGRAM_ROOM: usize = 1024;

/// Plain data: no pointers into the module, which may be another file after an upgrade and a restart.
#[repr(C)]
pub(crate) struct Retained {
    layout: u32,
    /// Counts configurations that were read to the end.
    pub(crate) generation: u32,
    /// Names this httpd to the supervisor; 0 before the first configuration.
    pub(crate) instance: u64,
    /// The parent's pid.
    pub(crate) parent: i32,
    /// The supervisor's pid, 0 if none runs.
    pub(crate) pid: i32,
    /// The listening socket, or -1.
    pub(crate) listener: i32,
    /// Our end of the supervisor's channel, or -1.
    pub(crate) channel: i32,
    /// When the supervisor was started, in microseconds since 1970.
    pub(crate) started: i64,
    /// Begin of the window in which deaths are counted.
    pub(crate) window_began: i64,
    /// Deaths in it.
    pub(crate) deaths: u32,
    pub(crate) managed: bool,
    path: [u8; PATH_ROOM],
    program: [u8; PROGRAM_ROOM],
}

impl Retained {
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(until_nul(&self.path)))
    }
    pub(crate) fn set_path(&mut self, path: &[u8]) {
        store(&mut self.path, path);
    }
    pub(crate) fn program(&self) -> Option<&OsStr> {
        let p = until_nul(&self.program);
        (!p.is_empty()).then(|| OsStr::from_bytes(p))
    }
    pub(crate) fn set_program(&mut self, path: &[u8]) {
        store(&mut self.program, path);
    }
}

fn until_nul(b: &[u8]) -> &[u8] {
    &b[..b.iter().position(|c| *c == 0).unwrap_or(b.len())]
}

fn store(to: &mut [u8], from: &[u8]) {
    to.fill(0);
    let n = from.len().min(to.len() - 1);
    to[..n].copy_from_slice(&from[..n]);
}

/// The record, if it has been made. For the parent and, before threads start, for a new child; children's threads only
/// read it.
pub(crate) fn get() -> Option<&'static mut Retained> {
    // SAFETY: retained memory lives as long as the process and is aligned for any type; the layout number says that it
    // is ours. The parent is single-threaded, and in children only plain reads follow `child_init`.
    unsafe {
        let p = sys::ap_retained_data_get(KEY.as_ptr()).cast::<Retained>();
        p.as_mut().filter(|r| r.layout == LAYOUT)
    }
}

/// The record, made if need be.
pub(crate) fn get_or_make() -> Option<&'static mut Retained> {
    if get().is_none() {
        // SAFETY: zeroed memory is a valid `Retained`.
        unsafe {
            let p = sys::ap_retained_data_create(KEY.as_ptr(), size_of::<Retained>())
                .cast::<Retained>();
            let r = p.as_mut()?;
            r.layout = LAYOUT;
            r.listener = -1;
            r.channel = -1;
        }
    }
    get()
}

/// Removes the socket's file when the parent (and no child) ends.
pub(crate) fn unlink_at_exit(pool: Pool<'_>) {
    unsafe extern "C" fn unlink(_: *mut c_void) -> sys::apr_status_t {
        guarded("the removal of the supervisor's socket", 0, || {
            if let Some(r) = get()
                && r.parent == crate::process::pid()
                && r.managed
            {
                let _ = std::fs::remove_file(r.path());
                crate::process::remove_private_directory(&r.path());
            }
            0
        })
    }
    pool.on_destroy(core::ptr::null_mut(), unlink);
}

/// Stops the supervisor before the configuration's pool goes for good: its logs are still open then.
pub(crate) fn stop_at_exit(pool: Pool<'_>) {
    unsafe extern "C" fn stop(_: *mut c_void) -> sys::apr_status_t {
        guarded("the end of the supervisor", 0, || {
            crate::daemon::stop_at_exit();
            0
        })
    }
    pool.before_destroy(stop);
}

/// Asks httpd to tell of the death of `pid`. Holds for this configuration only: called anew after each reload.
pub(crate) fn watch(pid: i32) {
    let Some(pool) = crate::hooks::pconf() else { return };
    // SAFETY: an all-zero `apr_proc_t` is valid; it lives in the configuration's pool, like the registration.
    unsafe {
        let size = size_of::<sys::apr_proc_t>();
        let proc_ = sys::apr_palloc(pool.as_ptr(), size).cast::<sys::apr_proc_t>();
        if proc_.is_null() {
            return;
        }
        proc_.write_bytes(0, 1);
        let p = &mut *proc_;
        p.pid = pid;
        let data = pid as usize as *mut c_void;
        sys::apr_proc_other_child_register(
            proc_,
            Some(maintenance),
            data,
            core::ptr::null_mut(),
            pool.as_ptr(),
        );
    }
}

unsafe extern "C" fn maintenance(reason: c_int, data: *mut c_void, status: c_int) {
    guarded("the watch over the supervisor", (), || {
        if reason != sys::APR_OC_REASON_DEATH && reason != sys::APR_OC_REASON_LOST {
            return;
        }
        // SAFETY: the registration is ours; after a death it has served.
        unsafe { sys::apr_proc_other_child_unregister(data) };
        if get().is_some_and(|r| r.pid == data as usize as i32) {
            crate::daemon::died(&crate::process::describe_wait_status(status));
        }
    });
}
