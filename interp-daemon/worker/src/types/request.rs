//! `mp_request`: what a handler gets. The scalar attributes are in [`super::fields`], reading and writing in
//! [`super::request_io`], the rest of the methods' work in [`super::request_methods`].

use std::hash::Hasher;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use vivarium_protocol::message::{Call, Op, Reply, TableId};

use super::conn::MpConn;
use super::fields::malformed;
use super::hlist::MpHlist;
use super::request_objects::Held;
use super::server::MpServer;
use super::table::MpTable;
use super::{request_io as io, request_methods as methods, text, wsgi};
use crate::engine::state::Core;
use crate::engine::{calls, control, lock};

/// `mp_request`
#[pyclass(name = "mp_request", frozen, dict, weakref)]
#[derive(Debug)]
pub(crate) struct MpRequest {
    pub(super) core: Arc<Core>,
    pub(super) held: Mutex<Held>,
}

#[pymethods]
impl MpRequest {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Never waits: what cannot be looked at now is left for the next time.
        let Ok(held) = self.held.try_lock() else { return Ok(()) };
        visit.call(&held.server)?;
        visit.call(&held.running.walk)?;
        visit.call(&held.running.list)?;
        held.added.iter().try_for_each(|(_, list)| visit.call(list))
    }

    fn __clear__(&self) {
        let held = std::mem::take(&mut *lock(&self.held));
        drop(held);
    }

    // Objects

    /// The client's connection.
    #[getter]
    fn connection(&self, py: Python<'_>) -> PyResult<Py<MpConn>> {
        if self.core.tree().is_over()
            && let Some(known) = &lock(&self.held).connection
        {
            return Ok(known.clone_ref(py));
        }
        let found = MpConn::of(py, self.core.tree())?;
        let before = lock(&self.held).connection.replace(found.clone_ref(py));
        drop(before);
        Ok(found)
    }

    /// The virtual host.
    #[getter]
    fn server(&self, py: Python<'_>) -> PyResult<Py<MpServer>> {
        if let Some(known) = &lock(&self.held).server {
            return Ok(known.clone_ref(py));
        }
        let relations = self.relations(py)?;
        let number = relations.ok_or_else(|| PyRuntimeError::new_err("the request is over"))?;
        let made = MpServer::of(py, &self.core, number.server)?;
        Ok(lock(&self.held).server.get_or_insert(made).clone_ref(py))
    }

    /// The request that was redirected to this one.
    #[getter]
    fn prev(&self, py: Python<'_>) -> PyResult<Option<Py<Self>>> {
        self.related(py, |r| r.prev)
    }

    /// The request that this one was redirected to.
    #[getter]
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<Self>>> {
        self.related(py, |r| r.next)
    }

    /// The main request, if this is a sub-request.
    #[getter]
    fn main(&self, py: Python<'_>) -> PyResult<Option<Py<Self>>> {
        self.related(py, |r| r.main)
    }

    #[getter]
    fn headers_in(&self, py: Python<'_>) -> PyResult<Py<MpTable>> {
        self.table(py, TableId::HeadersIn)
    }

    #[getter]
    fn headers_out(&self, py: Python<'_>) -> PyResult<Py<MpTable>> {
        self.table(py, TableId::HeadersOut)
    }

    #[getter]
    fn err_headers_out(&self, py: Python<'_>) -> PyResult<Py<MpTable>> {
        self.table(py, TableId::ErrHeadersOut)
    }

    #[getter]
    fn subprocess_env(&self, py: Python<'_>) -> PyResult<Py<MpTable>> {
        self.table(py, TableId::SubprocessEnv)
    }

    #[getter]
    fn notes(&self, py: Python<'_>) -> PyResult<Py<MpTable>> {
        self.table(py, TableId::Notes)
    }

    /// The Python directives that hold for the request.
    fn get_config(&self, py: Python<'_>) -> PyResult<Py<MpTable>> {
        self.table(py, TableId::Config)
    }

    /// The `PythonOption`s that hold for the request.
    fn get_options(&self, py: Python<'_>) -> PyResult<Py<MpTable>> {
        self.table(py, TableId::Options)
    }

    // What runs

    /// The directive name of the phase that runs.
    #[getter]
    fn phase(&self) -> Option<&'static str> {
        self.core.state().phase
    }

    /// The extension that the handler was chosen by (`| .ext`), or nothing.
    #[getter]
    fn extension<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let extension = self.core.state().extension.clone();
        text::to_py(py, extension.as_deref().unwrap_or_default())
    }

    /// The interpreter's name.
    #[getter]
    #[allow(clippy::unused_self)]
    fn interpreter(&self) -> &'static str {
        &control::worker().interpreter
    }

    /// The handler that runs and those that follow.
    #[getter]
    fn hlist(&self, py: Python<'_>) -> PyResult<Option<Py<MpHlist>>> {
        let list = {
            let held = lock(&self.held);
            if let Some(walk) = &held.running.walk {
                return Ok(Some(walk.clone_ref(py)));
            }
            held.running.list.as_ref().map(|list| list.clone_ref(py))
        };
        let Some(list) = list else { return Ok(None) };
        let made = Py::new(py, MpHlist::new(list))?;
        Ok(Some(lock(&self.held).running.walk.get_or_insert(made).clone_ref(py)))
    }

    /// For the dispatcher: which handler of the list runs now; `None` after the last one.
    fn _set_hlist(&self, py: Python<'_>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(walk) = self.hlist(py)? {
            walk.get().go_to(py, handler);
        }
        Ok(())
    }

    /// For the dispatcher: equal for requests of equal configuration.
    #[getter]
    fn _config_id(&self) -> PyResult<u64> {
        let found = self.core.state().table(TableId::Config).map_err(malformed)?;
        let mut hasher = std::hash::DefaultHasher::new();
        if let Some((payload, at, len)) = found {
            hasher.write(payload.get(at..at + len).unwrap_or_default());
        }
        Ok(hasher.finish())
    }

    /// 1 if Python has assigned `content_type`.
    #[getter]
    fn _content_type_set(&self) -> u8 {
        self.core.state().content_type_set.into()
    }

    /// How many bytes were written.
    #[getter]
    fn _bytes_queued(&self) -> i64 {
        self.core.state().bytes_queued
    }

    /// Adds a handler to a phase: to the running list if it is this phase, else after the configured ones.
    #[pyo3(signature = (phase, handler, directory=None, /))]
    fn add_handler(
        &self,
        py: Python<'_>,
        phase: &Bound<'_, PyAny>,
        handler: &Bound<'_, PyAny>,
        directory: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        methods::add_handler(py, self, phase, handler, directory)
    }

    // Body

    /// Reads up to n bytes of the request body; all that is left without n. b"" at the end.
    #[pyo3(signature = (n=-1, /))]
    fn read<'py>(&self, py: Python<'py>, n: i64) -> PyResult<Bound<'py, PyBytes>> {
        io::read(py, &self.core, n)
    }

    /// Reads a line of the request body, at most n bytes of it.
    #[pyo3(signature = (n=-1, /))]
    fn readline<'py>(&self, py: Python<'py>, n: i64) -> PyResult<Bound<'py, PyBytes>> {
        io::readline(py, &self.core, n)
    }

    /// Reads lines until their length reaches the hint, or all.
    #[pyo3(signature = (hint=-1, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: i64) -> PyResult<Bound<'py, PyList>> {
        io::readlines(py, &self.core, hint)
    }

    /// Writes text (as UTF-8) or bytes to the client.
    #[pyo3(signature = (data, flush=1, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, flush: i64) -> PyResult<()> {
        io::write(py, &self.core, data, flush != 0)
    }

    /// Sends what was written so far.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        io::flush(py, &self.core)
    }

    /// Sends a file, from `offset` on, `len` bytes of it; returns how many bytes were sent.
    #[pyo3(signature = (path, offset=0, len=-1, /))]
    fn sendfile(
        &self,
        py: Python<'_>,
        path: &Bound<'_, PyAny>,
        offset: i64,
        len: i64,
    ) -> PyResult<i64> {
        io::sendfile(py, &self.core, &text::str_argument(1, path)?, offset, len)
    }

    // Doing things

    /// Writes to the error log.
    #[pyo3(signature = (message, level=None, /))]
    fn log_error(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        level: Option<i64>,
    ) -> PyResult<()> {
        methods::log_error(py, &self.core, message, level)
    }

    /// Runs another URI in place of this one; returns when it is done.
    fn internal_redirect(&self, py: Python<'_>, uri: &Bound<'_, PyAny>) -> PyResult<()> {
        methods::internal_redirect(py, &self.core, uri)
    }

    /// Calls `callable(data)` when the request is over.
    #[pyo3(signature = (callable, data=None, /))]
    fn register_cleanup(
        slf: &Bound<'_, Self>,
        callable: &Bound<'_, PyAny>,
        data: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        methods::register_cleanup(slf, callable, data)
    }

    /// Puts a registered output filter on the request.
    fn add_output_filter(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        methods::add_filter(py, &self.core, name, false)
    }

    /// Puts a registered input filter on the request.
    fn add_input_filter(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        methods::add_filter(py, &self.core, name, true)
    }

    /// Makes a Python output filter known to the request.
    #[pyo3(signature = (name, handler, directory=None, /))]
    fn register_output_filter(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        handler: &Bound<'_, PyAny>,
        directory: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        methods::register_filter(py, &self.core, name, handler, directory, false)
    }

    /// Makes a Python input filter known to the request.
    #[pyo3(signature = (name, handler, directory=None, /))]
    fn register_input_filter(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        handler: &Bound<'_, PyAny>,
        directory: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        methods::register_filter(py, &self.core, name, handler, directory, true)
    }

    /// Puts the common variables into `subprocess_env`.
    fn add_common_vars(&self, py: Python<'_>) -> PyResult<()> {
        let call = Call::Op { op: Op::AddCommonVars, number: 0, text: b"" };
        calls::sweeping(py, &self.core, &call)?.done()
    }

    /// Puts the CGI variables into `subprocess_env`.
    fn add_cgi_vars(&self, py: Python<'_>) -> PyResult<()> {
        if self.core.take_cgi_vars() {
            return Ok(());
        }
        // Nothing else of the request changes, and httpd answers with the variables.
        let answer = calls::ask(py, &self.core, &Call::AddCgiVars)?;
        match answer.reply()? {
            Reply::Bytes(encoded) => {
                self.table(py, TableId::SubprocessEnv)?.get().refreshed(encoded)
            }
            other => Err(calls::unexpected(&other)),
        }
    }

    /// What httpd knows for a WSGI environment; `None` if the request's URI is not below `base`.
    fn _wsgi_environ<'py>(
        &self,
        py: Python<'py>,
        base: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let base = text::str_argument(1, base)?;
        // As the client sent them: httpd takes some of them away for CGI scripts.
        let headers = self.table(py, TableId::HeadersIn)?.get().pairs(py)?;
        self.add_cgi_vars(py)?;
        let env = self.table(py, TableId::SubprocessEnv)?.get().pairs(py)?;
        wsgi::environ(py, &self.core, &base, &headers, &env)
    }

    /// A WSGI environment for the request; `None` if its URI is not below `mod_python.wsgi.base_uri`.
    fn build_wsgi_env<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        methods::wsgi(slf.py(), "build_env")?.call1((slf,))
    }

    /// WSGI's `start_response`; returns `write`.
    #[pyo3(signature = (status, headers, exc_info=None, /))]
    fn wsgi_start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        methods::wsgi(slf.py(), "start_response")?.call1((slf, status, headers, exc_info))
    }

    /// Adds methods to the `Allow` header; with `reset` they are the only ones.
    #[pyo3(signature = (names, reset=0, /))]
    fn allow_methods(&self, py: Python<'_>, names: &Bound<'_, PyAny>, reset: i64) -> PyResult<()> {
        methods::allow_methods(py, &self.core, names, reset != 0)
    }

    /// `AuthName`, or `None`.
    fn auth_name(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        methods::text_op(py, &self.core, methods::Text::AuthName, "")
    }

    /// `AuthType`, or `None`.
    fn auth_type(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        methods::text_op(py, &self.core, methods::Text::AuthType, "")
    }

    /// The full URL of a path on this server.
    fn construct_url(
        &self,
        py: Python<'_>,
        uri: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyString>>> {
        let uri = text::str_argument(1, uri)?;
        methods::text_op(py, &self.core, methods::Text::ConstructUrl, &uri)
    }

    /// Reads the request body and throws it away; returns a status.
    fn discard_request_body(&self, py: Python<'_>) -> PyResult<i64> {
        methods::int_op(py, &self.core, methods::Int::DiscardBody, 0)
    }

    /// `DocumentRoot`.
    fn document_root(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        methods::text_op(py, &self.core, methods::Text::DocumentRoot, "")
    }

    /// The password that the client sent, or `None`; sets `user`.
    fn get_basic_auth_pw(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        methods::basic_password(py, &self.core)
    }

    /// The client's name, or its address; with a second argument `(name, is_ip)`.
    #[pyo3(signature = (kind=1, str_is_ip=None, /))]
    fn get_remote_host(
        &self,
        py: Python<'_>,
        kind: i64,
        str_is_ip: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        methods::remote_host(py, &self.core, kind, str_is_ip.is_some_and(|s| !s.is_none()))
    }

    /// 1 if the request came over TLS.
    fn is_https(&self, py: Python<'_>) -> PyResult<i64> {
        methods::int_op(py, &self.core, methods::Int::IsHttps, 0)
    }

    /// A variable of `mod_ssl`, or `None`.
    fn ssl_var_lookup(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyString>>> {
        let name = text::str_argument(1, name)?;
        methods::text_op(py, &self.core, methods::Text::SslVar, &name)
    }

    /// Compares the conditions of the request with the answer's headers: a status to return, or `OK`.
    fn meets_conditions(&self, py: Python<'_>) -> PyResult<i64> {
        methods::int_op(py, &self.core, methods::Int::MeetsConditions, 0)
    }

    /// Sets `Content-Length`.
    fn set_content_length(&self, py: Python<'_>, length: i64) -> PyResult<()> {
        methods::int_op(py, &self.core, methods::Int::SetContentLength, length).map(|_| ())
    }

    /// Sets `ETag`.
    fn set_etag(&self, py: Python<'_>) -> PyResult<()> {
        methods::int_op(py, &self.core, methods::Int::SetEtag, 0).map(|_| ())
    }

    /// Sets `Last-Modified` from `mtime`.
    fn set_last_modified(&self, py: Python<'_>) -> PyResult<()> {
        methods::int_op(py, &self.core, methods::Int::SetLastModified, 0).map(|_| ())
    }

    /// Sets `mtime` if the given time (in seconds) is later.
    #[allow(clippy::cast_possible_truncation)]
    fn update_mtime(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let micros = (seconds * 1e6) as i64;
        methods::int_op(py, &self.core, methods::Int::UpdateMtime, micros).map(|_| ())
    }

    /// The extensions that `AddHandler` maps to this module, without dots, a space behind each.
    fn get_addhandler_exts(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        methods::addhandler_exts(py, &self.core)
    }

    /// The `Require` lines that hold for the request, a string each.
    fn requires<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        methods::requires(py, &self.core)
    }

    /// Does nothing: headers are sent with the first part of the body.
    #[allow(clippy::unused_self)]
    fn send_http_header(&self) {}
}
