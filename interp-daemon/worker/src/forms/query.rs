//! Query strings as Python objects.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::urlencoded::fields;
use crate::ffi;

/// A piece of a query string as the caller wants it: as text or as bytes.
fn to_py<'py>(py: Python<'py>, part: &[u8], text: bool) -> Bound<'py, PyAny> {
    if text {
        PyString::new(py, &String::from_utf8_lossy(part)).into_any()
    } else {
        PyBytes::new(py, part).into_any()
    }
}

/// Hands the bytes of a query string to `with`, and whether it was text.
fn with_query<T>(
    query: &Bound<'_, PyAny>,
    with: impl FnOnce(&[u8], bool) -> PyResult<T>,
) -> PyResult<T> {
    if let Ok(text) = query.cast::<PyString>() {
        if let Ok(text) = ffi::utf8(text) {
            return with(text.as_bytes(), true);
        }
        // Lone surrogates: bytes that were no text.
        let bytes = text.call_method1("encode", ("utf-8", "surrogateescape"))?;
        return with(bytes.cast::<PyBytes>()?.as_bytes(), true);
    }
    match query.cast::<PyBytes>() {
        Ok(bytes) => with(bytes.as_bytes(), false),
        Err(_) => Err(PyTypeError::new_err("not an ISO-8859-1 string")),
    }
}

/// parse_qsl(query[, keep_blank[, most]]): the fields as a list of pairs; `OverflowError` if they are more than `most`
/// (0: any number). Text gives text (what is no UTF-8 is replaced), bytes give bytes.
#[pyfunction]
#[pyo3(signature = (query, keep_blank=false, most=0, /))]
pub(crate) fn parse_qsl<'py>(
    query: &Bound<'py, PyAny>,
    keep_blank: bool,
    most: usize,
) -> PyResult<Bound<'py, PyList>> {
    let py = query.py();
    let list = PyList::empty(py);
    with_query(query, |bytes, text| {
        for (count, (name, value)) in fields(bytes, keep_blank).enumerate() {
            if most > 0 && count >= most {
                return Err(PyOverflowError::new_err(format!("more than {most} fields")));
            }
            list.append((to_py(py, &name, text), to_py(py, &value, text)))?;
        }
        Ok(())
    })?;
    Ok(list)
}
