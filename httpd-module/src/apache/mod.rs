//! The façade over httpd's C interface: the only modules of the crate that use `unsafe` on httpd's structures.
//!
//! Handles ([`Pool`](pool::Pool), [`Request`](request::Request), [`Server`](server::Server), ...) are `Copy` pointers
//! whose lifetime is tied to the callback that got them; they are neither `Send` nor `Sync`. They never give out `&mut`
//! to a C structure: two hooks can hold the same request.
#![allow(unsafe_code)]

pub(crate) mod auth;
pub(crate) mod brigade;
pub(crate) mod buffers;
pub(crate) mod connection;
pub(crate) mod edge;
pub(crate) mod ending;
mod file;
pub(crate) mod filter;
mod finfo;
pub(crate) mod log;
pub(crate) mod next_request;
pub(crate) mod ops;
pub(crate) mod pattern;
pub(crate) mod pool;
pub(crate) mod request;
pub(crate) mod server;
pub(crate) mod ssi;
pub(crate) mod table;

use core::ffi::{CStr, c_char};

/// The bytes of a C string that httpd owns, without its NUL; `None` for a null pointer.
///
/// # Safety
/// `p` is null or points to a NUL-terminated string that stays unchanged for `'a`.
pub(crate) unsafe fn bytes<'a>(p: *const c_char) -> Option<&'a [u8]> {
    if p.is_null() {
        return None;
    }
    // SAFETY: not null, and NUL-terminated by the caller's promise.
    Some(unsafe { CStr::from_ptr(p) }.to_bytes())
}

/// Whether httpd has loaded a module, by the name in its record.
pub(crate) fn has_module(name: &CStr) -> bool {
    // SAFETY: a NUL-terminated name; httpd is single-threaded while it reads its configuration, and the list does not
    // change afterwards.
    !unsafe { crate::sys::ap_find_linked_module(name.as_ptr()) }.is_null()
}

/// An element of an APR array, whose storage is declared as bytes and aligned for any type (`apr_palloc`).
///
/// # Safety
/// The array is live, has elements of type `T`, and more than `i` of them.
#[allow(clippy::cast_ptr_alignment)]
pub(crate) unsafe fn element<T: Copy>(array: &crate::sys::apr_array_header_t, i: usize) -> T {
    // SAFETY: by the caller's promise.
    unsafe { *array.elts.cast::<T>().add(i) }
}

/// The same as text, with anything that is not UTF-8 replaced.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn text(p: *const c_char) -> Option<String> {
    // SAFETY: passed on.
    unsafe { bytes(p) }.map(|b| String::from_utf8_lossy(b).into_owned())
}
