//! Phases that are no walk along a list of handlers: elements of SSI pages, and providers of httpd's authentication and
//! authorisation modules. What they are about are arguments, which are asked for.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use vivarium_protocol::message::{Call, ENTER_DEBUG, Enter, FilterRef, Phase};

use super::calls;
use super::conversation::Trouble;
use super::dispatcher::{dispatcher, number};
use super::state::Core;
use crate::types::filter::MpFilter;
use crate::types::request::MpRequest;
use crate::types::text;

/// What mod_python calls an element's filter.
const NAME: &[u8] = b"includes";

/// An argument of the phase; its bytes go through `decode`.
fn argument<'py>(
    py: Python<'py>,
    core: &Core,
    n: u8,
    decode: impl FnOnce(Python<'py>, &[u8]) -> Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyString>> {
    let answer = calls::ask(py, core, &Call::Argument(n))?;
    let bytes = answer.text()?.ok_or_else(|| Trouble::Broken(format!("no argument {n}")))?;
    Ok(decode(py, bytes))
}

/// Runs an element of a page. To Python it is a filter that has nothing to read; what it writes goes into the page.
pub(crate) fn ssi(
    py: Python<'_>,
    core: Arc<Core>,
    request: &Py<MpRequest>,
    enter: &Enter<'_>,
) -> PyResult<i32> {
    let described =
        enter.filter.ok_or_else(|| Trouble::Broken("an SSI phase without a filter".into()))?;
    let described = FilterRef { name: NAME, ..described };
    let what = argument(py, &core, 0, text::to_py)?;
    let code = argument(py, &core, 1, text::to_py)?;
    let filter = Py::new(py, MpFilter::new(core, request, described, None, py))?;
    let debug = enter.flags & ENTER_DEBUG != 0;
    number(dispatcher(py)?.ssi()?.call1(py, (filter, what, code, debug))?.bind(py))
}

/// Asks a provider. A name or a password is ISO-8859-1, as `req.user` and `req.get_basic_auth_pw()` are.
pub(crate) fn provider(
    py: Python<'_>,
    core: &Core,
    request: &Py<MpRequest>,
    phase: Phase,
    handlers: Bound<'_, PyList>,
) -> PyResult<i32> {
    let (name, arguments) = match phase {
        Phase::CheckPassword => {
            let user = argument(py, core, 0, text::latin1_to_py)?;
            ("checkpassword", vec![user, argument(py, core, 1, text::latin1_to_py)?])
        }
        Phase::RealmHash => {
            let user = argument(py, core, 0, text::latin1_to_py)?;
            ("realmhash", vec![user, argument(py, core, 1, text::to_py)?])
        }
        _ => ("groups", vec![argument(py, core, 0, text::to_py)?]),
    };
    let args = (request, name, handlers, arguments);
    let (result, answer) =
        dispatcher(py)?.provider()?.call1(py, args)?.extract::<(i32, Option<Py<PyBytes>>)>(py)?;
    if let Some(answer) = answer {
        calls::ask(py, core, &Call::Answer(answer.as_bytes(py)))?.done()?;
    }
    Ok(result)
}
