//! The module record that httpd looks up under the name `python_module`.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::ffi::c_int;

use crate::config::edge;
use crate::sys;

/// `MODULE_MAGIC_COOKIE`: "AP24".
const MAGIC_COOKIE: core::ffi::c_ulong = 0x4150_3234;

/// httpd writes the record's index and list pointers while it loads modules.
#[repr(transparent)]
struct Record(UnsafeCell<sys::module>);

// SAFETY: httpd changes the record only while it is single-threaded (loading modules); afterwards it is read.
unsafe impl Sync for Record {}

#[unsafe(export_name = "python_module")]
static MODULE: Record = Record(UnsafeCell::new(sys::module {
    version: sys::MODULE_MAGIC_NUMBER_MAJOR,
    minor_version: sys::MODULE_MAGIC_NUMBER_MINOR,
    module_index: -1,
    // The name that `<IfModule mod_python.c>` asks for: existing configurations keep their meaning.
    name: c"mod_python.c".as_ptr(),
    dynamic_load_handle: core::ptr::null_mut(),
    next: core::ptr::null_mut(),
    magic: MAGIC_COOKIE,
    rewrite_args: None,
    create_dir_config: Some(edge::create_dir),
    merge_dir_config: Some(edge::merge_dir),
    create_server_config: Some(edge::create_server),
    merge_server_config: Some(edge::merge_server),
    cmds: edge::commands(),
    register_hooks: Some(crate::hooks::register),
    flags: 0,
}));

/// The record's address, for httpd's per-module look-ups.
pub(crate) fn ptr() -> *const sys::module {
    MODULE.0.get().cast_const()
}

/// The index that httpd gave us: log levels are kept by it.
pub(crate) fn index() -> c_int {
    // SAFETY: a plain read of an integer that changes only while httpd is single-threaded.
    unsafe { (*ptr()).module_index }
}
