//! `req.hlist`: the handler that runs and those that follow.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::engine::lock;

/// `mp_hlist`
#[pyclass(name = "mp_hlist", frozen)]
#[derive(Debug)]
pub(crate) struct MpHlist {
    list: Py<PyList>,
    /// Where we are in the list; past its end when there is no handler.
    at: Mutex<usize>,
}

impl MpHlist {
    /// The start of a list of `(name, directory, silent, is_location)`.
    pub(crate) fn new(list: Py<PyList>) -> Self {
        Self { list, at: Mutex::new(0) }
    }

    /// Goes to the handler that runs now, or to the end.
    pub(crate) fn go_to(&self, py: Python<'_>, handler: &Bound<'_, PyAny>) {
        let from = *lock(&self.at);
        let list = self.list.bind(py);
        let place = |n: usize| list.get_item(n).is_ok_and(|h| h.is(handler));
        // The same tuple may stand in the list twice: look from where we are, then from the start.
        let found = (from..list.len()).chain(0..from).find(|&n| place(n));
        *lock(&self.at) = found.unwrap_or(list.len());
    }

    fn part<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyAny>> {
        let at = *lock(&self.at);
        match self.list.bind(py).get_item(at) {
            Ok(handler) => handler.cast::<PyTuple>()?.get_item(n),
            Err(_) => Ok(py.None().into_bound(py)),
        }
    }

    fn flag(&self, py: Python<'_>, n: usize) -> PyResult<Option<u8>> {
        Ok(self.part(py, n)?.extract::<Option<bool>>()?.map(u8::from))
    }
}

#[pymethods]
impl MpHlist {
    /// `module` or `module::object`.
    #[getter]
    fn handler<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.part(py, 0)
    }

    /// The directory of the section that names the handler.
    #[getter]
    fn directory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.part(py, 1)
    }

    /// 1 if a missing handler is skipped.
    #[getter]
    fn silent(&self, py: Python<'_>) -> PyResult<Option<u8>> {
        self.flag(py, 2)
    }

    /// 1 if the section is a `<Location>`.
    #[getter]
    fn is_location(&self, py: Python<'_>) -> PyResult<Option<u8>> {
        self.flag(py, 3)
    }

    /// Goes on to the next handler; at the end all attributes are `None`.
    fn next(&self, py: Python<'_>) {
        let len = self.list.bind(py).len();
        let mut at = lock(&self.at);
        *at = len.min(*at + 1);
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let directory = self.part(py, 1)?;
        let directory = if directory.is_none() {
            String::new()
        } else {
            format!("'directory':{},", directory.repr()?)
        };
        Ok(format!(
            "{{'handler':{},{directory}'is_location':{},'silent':{}}}",
            self.part(py, 0)?.repr()?,
            self.part(py, 3)?.repr()?,
            self.flag(py, 2)?.unwrap_or(0),
        ))
    }
}
