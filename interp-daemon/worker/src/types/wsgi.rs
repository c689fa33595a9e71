//! The part of a WSGI environment (PEP 3333) that comes from httpd: made here, as every application waits for it.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use vivarium_protocol::fields::{Field, Value};

use super::fields::malformed;
use super::pairs::Pairs;
use super::text;
use crate::engine::state::Core;

/// The bytes of `PATH_INFO` for an application that lives at `base`; none if the URI is not below it.
fn below<'u>(uri: &'u [u8], base: &[u8]) -> Option<&'u [u8]> {
    let rest = uri.strip_prefix(base)?;
    (uri.starts_with(b"/") && (rest.is_empty() || rest.starts_with(b"/"))).then_some(rest)
}

/// The variables of `env` (`subprocess_env` with the CGI variables) with `SCRIPT_NAME` and `PATH_INFO` as WSGI has them:
/// text with a character for each byte. `None` if the request's URI is not below `base`.
///
/// `Authorization`, which httpd gives no CGI script, comes from `headers`. `HTTP_TRANSFER_ENCODING` is left out: httpd has
/// put the chunks together, and an application that looks for them would find none.
pub(super) fn environ<'py>(
    py: Python<'py>,
    core: &Core,
    base: &str,
    headers: &Pairs,
    env: &Pairs,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let found = PyDict::new(py);
    let base = base.as_bytes();
    let path = |value: &Value<'_>| match value {
        Value::Str(uri) => below(uri, base).map(<[u8]>::to_vec),
        _ => None,
    };
    let Some(path) = core.state().field(Field::Uri, path).map_err(malformed)? else {
        return Ok(None);
    };
    for (key, value) in env.iter() {
        if !matches!(key, b"SCRIPT_NAME" | b"PATH_INFO" | b"HTTP_TRANSFER_ENCODING") {
            found.set_item(text::to_py(py, key), text::latin1_to_py(py, value))?;
        }
    }
    found.set_item("SCRIPT_NAME", text::latin1_to_py(py, base))?;
    found.set_item("PATH_INFO", text::latin1_to_py(py, &path))?;
    if let Some(value) = headers.of_key(b"Authorization").next() {
        found.set_item("HTTP_AUTHORIZATION", text::latin1_to_py(py, value))?;
    }
    Ok(Some(found))
}
