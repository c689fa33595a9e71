//! `mp_server`: a virtual host. What is known of it is constant, asked once and kept for the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use vivarium_protocol::message::{Call, LogScope, Reply, ServerInfo};

use super::request::MpRequest;
use super::table::MpTable;
use super::text;
use crate::engine::phases::{self, ERR};
use crate::engine::state::Core;
use crate::engine::{calls, control, lock};

/// What the process knows of one virtual host.
#[derive(Debug)]
struct Known {
    number: u32,
    info: ServerInfo,
    config: Py<MpTable>,
    options: Py<MpTable>,
}

static MAIN: PyOnceLock<Py<MpServer>> = PyOnceLock::new();

fn nobody() -> PyErr {
    PyRuntimeError::new_err("no request is running on this thread: httpd cannot be asked")
}

static KNOWN: Mutex<Option<HashMap<u32, Arc<Known>>>> = Mutex::new(None);

fn known(py: Python<'_>, core: &Core, number: u32) -> PyResult<Arc<Known>> {
    if let Some(found) = lock(&KNOWN).as_ref().and_then(|map| map.get(&number)) {
        return Ok(Arc::clone(found));
    }
    let answer = calls::ask(py, core, &Call::Server(number))?;
    let info = match answer.reply()? {
        Reply::Server(info) => info,
        other => return Err(calls::unexpected(&other)),
    };
    keep(py, number, info)
}

fn keep(py: Python<'_>, number: u32, info: ServerInfo) -> PyResult<Arc<Known>> {
    let config = Py::new(py, MpTable::alone(&info.config)?)?;
    let options = MpTable::alone(&info.options)?;
    options.drop_empty();
    let options = Py::new(py, options)?;
    let made = Arc::new(Known { number, info, config, options });
    let mut map = lock(&KNOWN);
    let kept = map.get_or_insert_with(HashMap::new).entry(number).or_insert(made);
    Ok(Arc::clone(kept))
}

/// `mp_server`
#[pyclass(name = "mp_server", frozen, dict, weakref)]
#[derive(Debug)]
pub(crate) struct MpServer {
    known: Arc<Known>,
    /// Whom to ask about other virtual hosts: else whoever runs on the thread.
    core: Option<Arc<Core>>,
}

impl MpServer {
    /// The virtual host of this number.
    pub(crate) fn of(py: Python<'_>, core: &Arc<Core>, number: u32) -> PyResult<Py<Self>> {
        let known = known(py, core, number)?;
        Py::new(py, Self { known, core: Some(Arc::clone(core)) })
    }

    /// The main server: one object for the life of the process.
    ///
    /// # Errors
    /// `RuntimeError` if nothing is known of it and no request is running that could be asked.
    pub(crate) fn main(py: Python<'_>) -> PyResult<Py<Self>> {
        if let Some(known) = MAIN.get(py) {
            return Ok(known.clone_ref(py));
        }
        let core = phases::current_core().ok_or_else(nobody)?;
        let made = Py::new(py, Self { known: known(py, &core, 0)?, core: None })?;
        Ok(MAIN.get_or_init(py, || made).clone_ref(py))
    }

    /// Keeps what was told of the main server before there was a request.
    pub(crate) fn tell_main(py: Python<'_>, info: ServerInfo) -> PyResult<Py<Self>> {
        let known = keep(py, 0, info)?;
        let made = Py::new(py, Self { known, core: None })?;
        Ok(MAIN.get_or_init(py, || made).clone_ref(py))
    }

    fn info(&self) -> &ServerInfo {
        &self.known.info
    }
}

type Text<'py> = Option<Bound<'py, pyo3::types::PyString>>;

fn text_of<'py>(py: Python<'py>, value: Option<&Vec<u8>>) -> Text<'py> {
    value.map(|v| text::to_py(py, v))
}

fn names<'py>(py: Python<'py>, names: &[Vec<u8>]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, names.iter().map(|n| text::to_py(py, n)).collect::<Vec<_>>())
}

#[pymethods]
impl MpServer {
    /// The virtual host's configuration, as it is at server level.
    fn get_config(&self, py: Python<'_>) -> Py<MpTable> {
        self.known.config.clone_ref(py)
    }

    /// The `PythonOption`s of the virtual host; what is changed here stays changed in this process.
    fn get_options(&self, py: Python<'_>) -> Py<MpTable> {
        self.known.options.clone_ref(py)
    }

    /// Writes to the virtual host's error log.
    #[pyo3(signature = (message, level=None, /))]
    fn log_error(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        level: Option<i64>,
    ) -> PyResult<()> {
        let Some(line) = text::opt_str_argument(1, message)? else { return Ok(()) };
        let level = level.filter(|l| *l != 0).map_or(ERR, |l| (l & 7) as u8);
        let scope = LogScope::Server(self.known.number);
        let Some((conversation, rid)) = phases::current() else {
            control::say(py, &line);
            return Ok(());
        };
        calls::log(py, &conversation, Some(rid), scope, level, line.as_bytes())
    }

    /// Calls `callable(data)` when the worker ends.
    #[pyo3(signature = (request, callable, data=None, /))]
    #[allow(clippy::unused_self)]
    fn register_cleanup(
        &self,
        request: &Bound<'_, PyAny>,
        callable: &Bound<'_, PyAny>,
        data: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        if !request.is_instance_of::<MpRequest>() {
            return Err(PyValueError::new_err("first argument must be a request object"));
        }
        if !callable.is_callable() {
            return Err(PyValueError::new_err("second argument must be a callable object"));
        }
        phases::at_end(callable.py(), callable.clone().unbind(), data);
        Ok(())
    }

    /// The virtual host's number.
    #[getter]
    fn _number(&self) -> u32 {
        self.known.number
    }

    #[getter]
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<Self>>> {
        let Some(number) = self.info().next else { return Ok(None) };
        let running = phases::current_core();
        let core = self.core.as_ref().or(running.as_ref()).ok_or_else(nobody)?;
        Self::of(py, core, number).map(Some)
    }

    #[getter]
    fn defn_name<'py>(&self, py: Python<'py>) -> Text<'py> {
        text_of(py, self.info().defn_name.as_ref())
    }

    #[getter]
    fn defn_line_number(&self) -> u32 {
        self.info().defn_line_number
    }

    #[getter]
    fn server_admin<'py>(&self, py: Python<'py>) -> Text<'py> {
        text_of(py, self.info().server_admin.as_ref())
    }

    #[getter]
    fn server_hostname<'py>(&self, py: Python<'py>) -> Text<'py> {
        text_of(py, self.info().server_hostname.as_ref())
    }

    #[getter]
    fn server_scheme<'py>(&self, py: Python<'py>) -> Text<'py> {
        text_of(py, self.info().server_scheme.as_ref())
    }

    #[getter]
    fn port(&self) -> u16 {
        self.info().port
    }

    #[getter]
    fn error_fname<'py>(&self, py: Python<'py>) -> Text<'py> {
        text_of(py, self.info().error_fname.as_ref())
    }

    #[getter]
    fn loglevel(&self) -> i32 {
        self.info().loglevel
    }

    #[getter]
    fn is_virtual(&self) -> u8 {
        self.info().is_virtual.into()
    }

    #[getter]
    fn timeout(&self) -> f64 {
        self.info().timeout
    }

    #[getter]
    fn keep_alive_timeout(&self) -> f64 {
        self.info().keep_alive_timeout
    }

    #[getter]
    fn keep_alive_max(&self) -> i32 {
        self.info().keep_alive_max
    }

    #[getter]
    fn keep_alive(&self) -> i32 {
        self.info().keep_alive
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> Text<'py> {
        text_of(py, self.info().path.as_ref())
    }

    #[getter]
    fn pathlen(&self) -> usize {
        self.info().path.as_ref().map_or(0, Vec::len)
    }

    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        names(py, &self.info().names)
    }

    #[getter]
    fn wild_names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        names(py, &self.info().wild_names)
    }

    #[getter]
    fn limit_req_line(&self) -> i32 {
        self.info().limit_req_line
    }

    #[getter]
    fn limit_req_fieldsize(&self) -> i32 {
        self.info().limit_req_fieldsize
    }

    #[getter]
    fn limit_req_fields(&self) -> i32 {
        self.info().limit_req_fields
    }

    #[getter]
    fn my_generation(&self) -> i32 {
        self.info().my_generation
    }

    #[getter]
    #[allow(clippy::cast_precision_loss)]
    fn restart_time(&self) -> f64 {
        self.info().restart_time as f64 / 1e6
    }
}
