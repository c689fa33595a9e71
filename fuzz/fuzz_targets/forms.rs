//! Forms: query strings, and multipart bodies fed in pieces of any size. What comes out is never more than what went in, and no
//! piece is held back or made up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

#[allow(dead_code)]
#[path = "../../interp-daemon/worker/src/ffi.rs"]
mod ffi;
#[path = "../../interp-daemon/worker/src/forms/multipart.rs"]
mod multipart;
#[path = "../../interp-daemon/worker/src/forms/urlencoded.rs"]
mod urlencoded;

const MAX_HEADER: usize = 256;

fn check_query(bytes: &[u8]) {
    let mut size = 0;
    for (name, value) in urlencoded::fields(bytes, true) {
        assert!(!name.contains(&0) && !value.contains(&0), "cut at NUL");
        size += name.len() + value.len();
    }
    assert!(size <= bytes.len(), "decoding never makes anything longer");
    assert!(urlencoded::fields(bytes, false).count() <= urlencoded::fields(bytes, true).count());
}

/// How many bytes of parts and of headers are in a list of events.
fn sizes(events: &Bound<'_, PyAny>) -> (usize, usize) {
    let (mut data, mut headers) = (0, 0);
    for event in events.cast::<PyList>().expect("a list") {
        if let Ok(bytes) = event.cast::<PyBytes>() {
            data += bytes.as_bytes().len();
        } else if let Ok(pairs) = event.extract::<Vec<(String, Vec<u8>)>>() {
            let one: usize = pairs.iter().map(|(k, v)| k.len() + v.len()).sum();
            assert!(one <= MAX_HEADER);
            headers += one;
        } else {
            assert!(event.is_none());
        }
    }
    (data, headers)
}

fn check_multipart(py: Python<'_>, bytes: &[u8]) {
    let Some((step, body)) = bytes.split_first() else { return };
    let parser = py.get_type::<multipart::Parser>().call1(("xyz", MAX_HEADER)).expect("a parser");
    let (mut data, mut headers) = (0, 0);
    for piece in body.chunks(usize::from(*step).max(1)) {
        // A refusal ends it: ValueError or OverflowError, nothing else.
        match parser.call_method1("feed", (PyBytes::new(py, piece),)) {
            Ok(events) => {
                let found = sizes(&events);
                data += found.0;
                headers += found.1;
            }
            Err(error) => {
                let known = error.is_instance_of::<pyo3::exceptions::PyValueError>(py)
                    || error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py);
                assert!(known, "{error}");
                return;
            }
        }
    }
    let _ = parser.call_method0("end");
    assert!(data + headers <= body.len());
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    if which % 2 == 0 {
        check_query(bytes);
    } else {
        Python::attach(|py| check_multipart(py, bytes));
    }
});
