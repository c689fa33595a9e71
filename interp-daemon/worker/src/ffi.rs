//! The calls that need `unsafe`: text and bytes without copies, and the descriptors the process was born with.

#![allow(unsafe_code)]

use std::ffi::c_char;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

unsafe extern "C" {
    // Exported by every CPython since 3.3, but part of the limited API from 3.10 on only, so pyo3 hides it here.
    fn PyUnicode_AsUTF8AndSize(
        unicode: *mut ffi::PyObject,
        size: *mut ffi::Py_ssize_t,
    ) -> *const c_char;
}

/// The UTF-8 form of a Python string, kept by the string itself: no copy for ASCII text.
///
/// # Errors
/// `UnicodeEncodeError` for lone surrogates.
pub(crate) fn utf8<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    let mut size: ffi::Py_ssize_t = 0;
    // SAFETY: `text` is a str and we are attached; the function sets `size` or fails with NULL and an exception.
    let data = unsafe { PyUnicode_AsUTF8AndSize(text.as_ptr(), &raw mut size) };
    if data.is_null() {
        return Err(PyErr::fetch(text.py()));
    }
    let len = usize::try_from(size).unwrap_or(0);
    // SAFETY: CPython keeps these `len` bytes with the string object, immutable, as long as that lives; the result
    // borrows from the reference that keeps it alive.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    // SAFETY: the function's contract is valid UTF-8.
    Ok(unsafe { std::str::from_utf8_unchecked(bytes) })
}

/// A new `bytes` object of `len` bytes that `fill` writes from its start; `fill` returns how many it wrote.
///
/// The buffer has no defined contents before: `fill` must only write to it. What it leaves unwritten is cut off.
///
/// # Errors
/// `MemoryError`, or what `fill` returns.
pub(crate) fn bytes_filled_by(
    py: Python<'_>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> PyResult<usize>,
) -> PyResult<Bound<'_, PyBytes>> {
    let size = ffi::Py_ssize_t::try_from(len)
        .map_err(|_| PyMemoryError::new_err("the request body is too large"))?;
    // SAFETY: attached; NULL asks for a bytes object with room for `size` bytes, whose reference we own on success.
    let object = unsafe {
        let raw = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        Bound::from_owned_ptr_or_err(py, raw)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: nobody else has seen the object yet, so its `len` bytes are ours to write; any bit pattern is a valid u8
    // and the allocation is as long as the object, which outlives the slice.
    let buffer = unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>();
        std::slice::from_raw_parts_mut(start, len)
    };
    let filled = fill(buffer)?;
    if filled == len { Ok(object) } else { Ok(PyBytes::new(py, &object.as_bytes()[..filled])) }
}

/// Takes over a descriptor that this process was born with, and makes it close-on-exec.
///
/// # Errors
/// `EBADF` if there is no such descriptor.
pub(crate) fn inherited_fd(number: RawFd) -> rustix::io::Result<OwnedFd> {
    // SAFETY: only asked for its flags, which fails without harm if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(borrowed)?;
    // SAFETY: open, as just seen, and by the start protocol ours alone: the caller takes each number once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Ends the process at once: no clean-ups, no interpreter shutdown.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` may be called from any thread at any time.
    unsafe { libc::_exit(status) }
}
