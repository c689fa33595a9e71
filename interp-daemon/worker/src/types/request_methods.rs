//! The work of the request's methods that ask httpd for something.

use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PySequence, PyString, PyTuple};
use vivarium_protocol::fields::Field;
use vivarium_protocol::message::{Call, LogScope, Op, Phase};

use super::request::MpRequest;
use super::text;
use crate::engine::calls;
use crate::engine::phases::ERR;
use crate::engine::state::Core;
use crate::engine::tree::Cleanup;

/// `req.log_error(message, level)`: level 0 counts as not given, as in mod_python.
pub(super) fn log_error(
    py: Python<'_>,
    core: &Core,
    message: &Bound<'_, PyAny>,
    level: Option<i64>,
) -> PyResult<()> {
    if !message.is_none() && !message.is_instance_of::<PyString>() {
        text::opt_str_argument(1, message)?;
    }
    let Ok(line) = message.cast::<PyString>() else { return Ok(()) };
    let line = text::log_text(line);
    if line.contains('\0') {
        return Err(PyValueError::new_err("embedded null character"));
    }
    let level = level.filter(|l| *l != 0).map_or(ERR, |l| (l & 7) as u8);
    let conversation = core.tree().conversation()?;
    calls::log(py, &conversation, Some(core.rid()), LogScope::Request, level, line.as_bytes())
}

/// `req.internal_redirect(uri)`
pub(super) fn internal_redirect(
    py: Python<'_>,
    core: &Core,
    uri: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let uri = text::str_argument(1, uri)?;
    calls::sweeping(py, core, &Call::InternalRedirect(uri.as_bytes()))?.done()
}

/// `req.register_cleanup(callable, data)`
pub(super) fn register_cleanup(
    slf: &Bound<'_, MpRequest>,
    callable: &Bound<'_, PyAny>,
    data: Option<Py<PyAny>>,
) -> PyResult<()> {
    if !callable.is_callable() {
        return Err(PyValueError::new_err("first argument must be a callable object"));
    }
    slf.get().core().tree().add_cleanup(Cleanup {
        request: Some(slf.clone().unbind()),
        callable: callable.clone().unbind(),
        data: data.unwrap_or_else(|| slf.py().None()),
    })
}

/// `req.add_output_filter(name)` and `req.add_input_filter(name)`
pub(super) fn add_filter(
    py: Python<'_>,
    core: &Core,
    name: &Bound<'_, PyAny>,
    is_input: bool,
) -> PyResult<()> {
    let name = text::str_argument(1, name)?;
    calls::ask(py, core, &Call::AddFilter { name: name.as_bytes(), is_input })?.done()?;
    core.tree().register();
    core.state().filtered |= !is_input;
    Ok(())
}

/// A path from `/` on without steps that lead nowhere, with a slash at its end.
fn absolute(given: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for step in given.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    steps.iter().fold(String::from("/"), |path, step| path + step + "/")
}

/// The directory of a handler that is added at run time: absolute (httpd's own working directory is `/`), with a slash
/// at its end.
fn directory(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<String>> {
    let given = given.map(|d| text::opt_str_argument(3, d)).transpose()?.flatten();
    Ok(given.as_deref().map(absolute))
}

/// `req.register_output_filter(name, handler, dir)` and its input twin.
pub(super) fn register_filter(
    py: Python<'_>,
    core: &Core,
    name: &Bound<'_, PyAny>,
    handler: &Bound<'_, PyAny>,
    given: Option<&Bound<'_, PyAny>>,
    is_input: bool,
) -> PyResult<()> {
    let name = text::str_argument(1, name)?;
    let handler = text::str_argument(2, handler)?;
    let directory = directory(given)?;
    let call = Call::RegisterFilter {
        name: name.as_bytes(),
        is_input,
        handler: handler.as_bytes(),
        directory: directory.as_deref().map(str::as_bytes),
    };
    calls::ask(py, core, &call)?.done()?;
    core.tree().register();
    Ok(())
}

/// The phases that handlers can be added to.
const ADDABLE: [Phase; 11] = [
    Phase::PostReadRequest,
    Phase::Trans,
    Phase::Init,
    Phase::HeaderParser,
    Phase::Access,
    Phase::Authen,
    Phase::Authz,
    Phase::Type,
    Phase::Fixup,
    Phase::Content,
    Phase::Log,
];

/// `req.add_handler(phase, handler, dir)`
pub(super) fn add_handler(
    py: Python<'_>,
    request: &MpRequest,
    phase: &Bound<'_, PyAny>,
    handler: &Bound<'_, PyAny>,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let name = text::str_argument(1, phase)?;
    let handler = text::str_argument(2, handler)?;
    let directory = directory(given)?;
    let Some(phase) = ADDABLE.into_iter().find(|p| p.directive() == name) else {
        return Err(PyIndexError::new_err(format!("Invalid phase: {name}")));
    };
    let added = (handler, directory, false, false).into_pyobject(py)?;
    let core = request.core();
    let running = core.state().phase;
    if running == Some(phase.directive())
        && let Some(list) = request.running(py)
    {
        return list.bind(py).append(added);
    }
    // httpd has to come here for that phase even if nothing is configured for it.
    calls::op(py, core, Op::AddedHandler, phase as i64, b"")?.done()?;
    core.tree().register();
    request.add(py, phase.directive(), added.into_any())
}

/// The part of WSGI that is easier in Python.
pub(super) fn wsgi<'py>(py: Python<'py>, function: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("mod_python._wsgi")?.getattr(function)
}

/// `req.allow_methods(names, reset)`
pub(super) fn allow_methods(
    py: Python<'_>,
    core: &Core,
    names: &Bound<'_, PyAny>,
    reset: bool,
) -> PyResult<()> {
    if names.cast::<PySequence>().is_err() {
        return Err(PyTypeError::new_err("First argument must be a sequence"));
    }
    let mut list = Vec::new();
    for name in names.try_iter()? {
        if !list.is_empty() {
            list.push(b' ');
        }
        list.extend(text::bytes_of(&name?)?);
    }
    calls::changing_op(py, core, Op::AllowMethods, reset.into(), &list)?.done()
}

/// Operations that return text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text {
    AuthName,
    AuthType,
    ConstructUrl,
    DocumentRoot,
    SslVar,
}

/// An operation that returns text or nothing.
pub(super) fn text_op(
    py: Python<'_>,
    core: &Core,
    which: Text,
    argument: &str,
) -> PyResult<Option<Py<PyString>>> {
    let op = match which {
        Text::AuthName => Op::AuthName,
        Text::AuthType => Op::AuthType,
        Text::ConstructUrl => Op::ConstructUrl,
        Text::DocumentRoot => Op::DocumentRoot,
        Text::SslVar => Op::SslVar,
    };
    let answer = calls::op(py, core, op, 0, argument.as_bytes())?;
    Ok(answer.text()?.map(|t| text::to_py(py, t).unbind()))
}

/// Operations that return a number, or nothing worth returning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Int {
    DiscardBody,
    IsHttps,
    MeetsConditions,
    SetContentLength,
    SetEtag,
    SetLastModified,
    UpdateMtime,
}

/// An operation that returns a number; 0 if it returns nothing.
pub(super) fn int_op(py: Python<'_>, core: &Core, which: Int, number: i64) -> PyResult<i64> {
    let op = match which {
        Int::IsHttps => return calls::op(py, core, Op::IsHttps, number, b"")?.int(),
        Int::DiscardBody => Op::DiscardRequestBody,
        Int::MeetsConditions => Op::MeetsConditions,
        Int::SetContentLength => Op::SetContentLength,
        Int::SetEtag => Op::SetEtag,
        Int::SetLastModified => Op::SetLastModified,
        Int::UpdateMtime => Op::UpdateMtime,
    };
    let answer = calls::changing_op(py, core, op, number, b"")?;
    match op {
        Op::DiscardRequestBody | Op::MeetsConditions => answer.int(),
        _ => answer.done().map(|()| 0),
    }
}

/// `req.get_basic_auth_pw()`
pub(super) fn basic_password(py: Python<'_>, core: &Core) -> PyResult<Option<Py<PyString>>> {
    let answer = calls::op(py, core, Op::BasicAuthPassword, 0, b"");
    core.spoil(1 << Field::User as u8 | 1 << Field::ApAuthType as u8, 0);
    Ok(answer?.text()?.map(|t| text::latin1_to_py(py, t).unbind()))
}

/// `req.get_addhandler_exts()`: every extension without its dot, with a space behind it.
pub(super) fn addhandler_exts(py: Python<'_>, core: &Core) -> PyResult<Py<PyString>> {
    let answer = calls::op(py, core, Op::AddHandlerExtensions, 0, b"")?;
    Ok(text::to_py(py, answer.text()?.unwrap_or_default()).unbind())
}

/// `req.requires()`
pub(super) fn requires<'py>(py: Python<'py>, core: &Core) -> PyResult<Bound<'py, PyTuple>> {
    let answer = calls::op(py, core, Op::Requires, 0, b"")?;
    let lines = answer.text()?.unwrap_or_default();
    let lines = lines.split(|&b| b == b'\n').filter(|l| !l.is_empty());
    PyTuple::new(py, lines.map(|l| text::to_py(py, l)).collect::<Vec<_>>())
}

/// `req.get_remote_host(kind, str_is_ip)`
pub(super) fn remote_host(
    py: Python<'_>,
    core: &Core,
    kind: i64,
    with_flag: bool,
) -> PyResult<Py<PyAny>> {
    let answer = calls::op(py, core, Op::RemoteHost, kind, b"")?;
    let Some(name) = answer.text()? else { return Ok(py.None()) };
    let shown = text::to_py(py, name);
    if !with_flag {
        return Ok(shown.into_any().unbind());
    }
    let is_ip = std::str::from_utf8(name).is_ok_and(|n| n.parse::<std::net::IpAddr>().is_ok());
    Ok((shown, i32::from(is_ip)).into_pyobject(py)?.into_any().unbind())
}
