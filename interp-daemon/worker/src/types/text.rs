//! Text between httpd's bytes and Python's strings.
//!
//! # Reading
//!
//! httpd's strings are bytes without a declared encoding. They are read as UTF-8; a string that is not valid UTF-8 is
//! read as ISO-8859-1, whole, so that every byte string has a reading and none raises. (mod_python reads UTF-8 too, and
//! raises `UnicodeDecodeError` or crashes on anything else.) `req.user`, the password of basic authentication and
//! their like are ISO-8859-1 always, as in mod_python.
//!
//! # Writing
//!
//! Attributes and table values take `str` that can be written as ISO-8859-1, or `bytes`, else `TypeError: not an
//! ISO-8859-1 string`. A zero byte ends the value. Body text is written as UTF-8.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::ffi;

/// ISO-8859-1 bytes as text.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// Bytes as text.
pub(crate) fn to_string(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| latin1(bytes), str::to_owned)
}

/// Bytes as a Python string.
pub(crate) fn to_py<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text),
        Err(_) => PyString::new(py, &latin1(bytes)),
    }
}

/// ISO-8859-1 bytes as a Python string.
pub(crate) fn latin1_to_py<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => PyString::new(py, text),
        _ => PyString::new(py, &latin1(bytes)),
    }
}

/// What is raised for a value that cannot be written as ISO-8859-1.
pub(crate) fn not_latin1() -> PyErr {
    PyTypeError::new_err("not an ISO-8859-1 string")
}

/// Hands the ISO-8859-1 bytes of a `str`, or the bytes of a `bytes`, to `with`.
///
/// # Errors
/// `TypeError` for anything else; what `with` returns.
pub(crate) fn with_bytes<T>(
    value: &Bound<'_, PyAny>,
    with: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    let cut = |b: &[u8]| b.iter().position(|&b| b == 0).unwrap_or(b.len());
    if let Ok(text) = value.cast::<PyString>() {
        let text = ffi::utf8(text).map_err(|_| not_latin1())?;
        if text.is_ascii() {
            let bytes = text.as_bytes();
            return with(&bytes[..cut(bytes)]);
        }
        let bytes: Option<Vec<u8>> =
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let bytes = bytes.ok_or_else(not_latin1)?;
        return with(&bytes[..cut(&bytes)]);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        let bytes = bytes.as_bytes();
        return with(&bytes[..cut(bytes)]);
    }
    Err(not_latin1())
}

/// The ISO-8859-1 bytes of a `str`, or the bytes of a `bytes`.
pub(crate) fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    with_bytes(value, |b| Ok(b.to_vec()))
}

/// What a function that takes text says of another type.
fn argument(n: usize, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let name = value.get_type().name().map_or_else(|_| String::from("?"), |n| n.to_string());
    PyTypeError::new_err(format!("argument {n} must be {expected}, not {name}"))
}

/// The UTF-8 bytes of argument number `n`, which must be a `str`.
pub(crate) fn str_argument(n: usize, value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(ffi::utf8(text)?.to_owned()),
        Err(_) => Err(argument(n, "str", value)),
    }
}

/// The same, or `None`.
pub(crate) fn opt_str_argument(n: usize, value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if value.is_none() {
        return Ok(None);
    }
    match value.cast::<PyString>() {
        Ok(text) => Ok(Some(ffi::utf8(text)?.to_owned())),
        Err(_) => Err(argument(n, "str or None", value)),
    }
}

/// Text for a log line: lone surrogates and all.
pub(crate) fn log_text(value: &Bound<'_, PyString>) -> String {
    ffi::utf8(value).map_or_else(|_| value.to_string_lossy().into_owned(), str::to_owned)
}

/// Hands the bytes of body text (`str` as UTF-8) or of `bytes` to `with`.
///
/// # Errors
/// `TypeError` for anything else, `UnicodeEncodeError` for lone surrogates; what `with` returns.
pub(crate) fn with_body<T>(
    value: &Bound<'_, PyAny>,
    with: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return with(bytes.as_bytes());
    }
    if let Ok(text) = value.cast::<PyString>() {
        return with(ffi::utf8(text)?.as_bytes());
    }
    let name = value.get_type().name().map_or_else(|_| String::from("?"), |n| n.to_string());
    Err(PyTypeError::new_err(format!("a bytes-like object is required, not '{name}'")))
}
