//! The objects that belong to a request: tables, handler lists, related requests.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use vivarium_protocol::message::{Call, TableId};

use super::conn::MpConn;
use super::fields::malformed;
use super::hlist::MpHlist;
use super::request::MpRequest;
use super::server::MpServer;
use super::table::MpTable;
use crate::engine::state::{Core, Relations};
use crate::engine::{calls, lock};

/// Objects that belong to a request and are always the same.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) tables: [Option<Py<MpTable>>; 7],
    /// The handlers of the phase that runs.
    pub(super) running: Running,
    /// Handlers that were added, a list for each phase: `(name, directory, silent, is_location)`.
    pub(super) added: Vec<(&'static str, Py<PyList>)>,
    pub(super) connection: Option<Py<MpConn>>,
    pub(super) server: Option<Py<MpServer>>,
}

/// The handlers of a phase that runs: the list, and its walker once somebody has looked at it.
#[derive(Debug, Default)]
pub(crate) struct Running {
    pub(super) list: Option<Py<PyList>>,
    pub(super) walk: Option<Py<MpHlist>>,
}

impl MpRequest {
    /// The object of a request.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, held: Mutex::default() }
    }

    /// The request's state.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Appends a handler to those that were added to a phase.
    pub(crate) fn add(
        &self,
        py: Python<'_>,
        phase: &'static str,
        handler: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if let Some(list) = self.added(py, phase) {
            return list.bind(py).append(handler);
        }
        let made = PyList::new(py, [handler])?.unbind();
        lock(&self.held).added.push((phase, made));
        Ok(())
    }

    /// The handlers that were added to a phase.
    pub(crate) fn added(&self, py: Python<'_>, phase: &str) -> Option<Py<PyList>> {
        let held = lock(&self.held);
        held.added.iter().find(|(p, _)| *p == phase).map(|(_, list)| list.clone_ref(py))
    }

    /// Sets the handlers of the phase that begins; returns those of the one around it.
    pub(crate) fn begin_handlers(&self, list: &Bound<'_, PyList>) -> Running {
        let running = Running { list: Some(list.clone().unbind()), walk: None };
        std::mem::replace(&mut lock(&self.held).running, running)
    }

    /// Sets the handlers back after a phase.
    pub(crate) fn end_handlers(&self, before: Running) {
        let ended = std::mem::replace(&mut lock(&self.held).running, before);
        drop(ended);
    }

    /// The list of handlers that runs.
    pub(crate) fn running(&self, py: Python<'_>) -> Option<Py<PyList>> {
        lock(&self.held).running.list.as_ref().map(|list| list.clone_ref(py))
    }

    /// One of the request's tables.
    pub(crate) fn table(&self, py: Python<'_>, id: TableId) -> PyResult<Py<MpTable>> {
        let place = id as usize;
        if let Some(Some(known)) = lock(&self.held).tables.get(place) {
            return Ok(known.clone_ref(py));
        }
        let made = Py::new(py, MpTable::live(Arc::clone(&self.core), id))?;
        let mut held = lock(&self.held);
        match held.tables.get_mut(place) {
            Some(place) => Ok(place.get_or_insert(made).clone_ref(py)),
            None => Ok(made),
        }
    }

    /// The related requests and the virtual host, asked again if httpd may have changed them.
    pub(super) fn relations(&self, py: Python<'_>) -> PyResult<Option<Relations>> {
        let (known, stale) = {
            let state = self.core.state();
            (state.has_snapshot(), state.stale_relations)
        };
        if (stale || !known) && self.core.tree().asking().is_some() {
            let snap = calls::ask(py, &self.core, &Call::Snapshot)?.into_snap()?;
            self.core.state().refresh(snap);
        }
        self.core.state().relations().map_err(malformed)
    }

    /// A related request's object.
    pub(super) fn related(
        &self,
        py: Python<'_>,
        which: impl FnOnce(&Relations) -> Option<u32>,
    ) -> PyResult<Option<Py<Self>>> {
        let Some(rid) = self.relations(py)?.as_ref().and_then(which) else { return Ok(None) };
        let tree = self.core.tree();
        if let Some((_, known)) = tree.request(py, rid) {
            return Ok(Some(known));
        }
        if tree.asking().is_none() {
            return Err(PyRuntimeError::new_err("the request is over"));
        }
        let (core, object) = tree.request_or_new(py, rid)?;
        let snap = calls::ask(py, &core, &Call::Snapshot)?.into_snap()?;
        core.state().refresh(snap);
        Ok(Some(object))
    }
}
