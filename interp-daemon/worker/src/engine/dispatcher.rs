//! The dispatcher: the Python object whose methods run handlers, and how it is given them.

use std::collections::HashMap;
use std::sync::Mutex;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple};
use vivarium_protocol::message::HandlerRef;

use super::buffers::Buffer;
use super::lock;
use crate::types::text;

/// The most handler lists that are kept ready.
const MAX_LISTS: usize = 1024;

/// The bound methods of the dispatcher.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) handler: Py<PyAny>,
    pub(crate) filter: Py<PyAny>,
    pub(crate) connection: Py<PyAny>,
    pub(crate) cleanup: Py<PyAny>,
    ssi: Option<Py<PyAny>>,
    provider: Option<Py<PyAny>>,
}

fn served<'d>(method: Option<&'d Py<PyAny>>, name: &str) -> PyResult<&'d Py<PyAny>> {
    method.ok_or_else(|| PyRuntimeError::new_err(format!("the dispatcher has no method {name}")))
}

impl Dispatcher {
    /// The method that runs an element of an SSI page.
    pub(crate) fn ssi(&self) -> PyResult<&Py<PyAny>> {
        served(self.ssi.as_ref(), "ssi")
    }

    /// The method that asks a provider.
    pub(crate) fn provider(&self) -> PyResult<&Py<PyAny>> {
        served(self.provider.as_ref(), "provider")
    }
}

static DISPATCHER: PyOnceLock<Dispatcher> = PyOnceLock::new();

/// Sets the object whose methods run handlers.
///
/// # Errors
/// `AttributeError` if a method is missing, `RuntimeError` the second time.
pub(crate) fn set_dispatcher(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let method = |name: &str| object.getattr(name).map(Bound::unbind);
    let dispatcher = Dispatcher {
        handler: method("handler")?,
        filter: method("filter")?,
        connection: method("connection")?,
        cleanup: method("cleanup")?,
        ssi: object.getattr_opt("ssi")?.map(Bound::unbind),
        provider: object.getattr_opt("provider")?.map(Bound::unbind),
    };
    DISPATCHER
        .set(py, dispatcher)
        .map_err(|_| PyRuntimeError::new_err("the dispatcher has been set already"))
}

/// The bound methods of the dispatcher.
///
/// # Errors
/// `RuntimeError` if there is none.
pub(crate) fn dispatcher(py: Python<'_>) -> PyResult<&Dispatcher> {
    DISPATCHER.get(py).ok_or_else(|| PyRuntimeError::new_err("no dispatcher has been set"))
}

/// A phase's result.
///
/// # Errors
/// `TypeError` if it is no number.
pub(crate) fn number(result: &Bound<'_, PyAny>) -> PyResult<i32> {
    result.extract::<i32>().map_err(|_| {
        PyTypeError::new_err(format!("the dispatcher has returned no result number: {result:?}"))
    })
}

/// Handler lists by their encoded form.
type Lists = HashMap<Box<[u8]>, Py<PyTuple>>;

static LISTS: Mutex<Option<Lists>> = Mutex::new(None);

/// `[(name, directory, silent, is_location), ...]`: a new list every time, with the same tuples for the same handlers.
pub(crate) fn handler_list<'py>(
    py: Python<'py>,
    handlers: &[HandlerRef<'_>],
) -> PyResult<Bound<'py, PyList>> {
    let mut key = Buffer::take();
    for handler in handlers {
        key.push(
            u8::from(handler.silent)
                | u8::from(handler.is_location) << 1
                | u8::from(handler.directory.is_some()) << 2,
        );
        for part in [handler.directory.unwrap_or_default(), handler.name] {
            key.extend_from_slice(&(part.len() as u32).to_le_bytes());
            key.extend_from_slice(part);
        }
    }
    let known = lock(&LISTS)
        .as_ref()
        .and_then(|map| map.get(key.as_slice()).map(|list| list.clone_ref(py)));
    if let Some(list) = known {
        return Ok(list.bind(py).to_list());
    }
    let items = handlers.iter().map(|handler| {
        let name = text::to_py(py, handler.name);
        let directory = handler.directory.map(|d| text::to_py(py, d));
        (name, directory, handler.silent, handler.is_location).into_pyobject(py)
    });
    let list = PyTuple::new(py, items.collect::<PyResult<Vec<_>>>()?)?;
    let mut lists = lock(&LISTS);
    let map = lists.get_or_insert_with(HashMap::new);
    if map.len() < MAX_LISTS {
        map.insert(key.as_slice().into(), list.clone().unbind());
    }
    drop(lists);
    Ok(list.to_list())
}
