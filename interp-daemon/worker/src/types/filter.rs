//! `mp_filter`: one instance of a Python filter in a request's chain.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyBytes, PyString};
use vivarium_protocol::frame::BODY_FILTER;
use vivarium_protocol::message::{Call, FilterRef, HandlerRef, Reply};

use super::request::MpRequest;
use super::text;
use crate::engine::calls;
use crate::engine::conversation::{Conversation, Sink};
use crate::engine::lock;
use crate::engine::state::Core;

/// How much `readline` asks for at a time.
const LINE_CHUNK: u64 = 8 << 10;
/// Body frames of a filter carry at most this much.
const CHUNK: usize = 64 << 10;

/// How far a filter has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stream {
    #[default]
    Flowing,
    /// Its end was reached, and what came before it handed out with it.
    Ended,
    /// The filter was told of the end by a `None`.
    Told,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    stream: Stream,
    softspace: i64,
    /// Read by `readline` beyond its line.
    input: Vec<u8>,
}

/// `mp_filter`
#[pyclass(name = "mp_filter", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct MpFilter {
    core: Arc<Core>,
    id: u32,
    name: Box<[u8]>,
    is_input: bool,
    handler: Option<Box<[u8]>>,
    directory: Option<Box<[u8]>>,
    request: Mutex<Py<PyAny>>,
    state: Mutex<State>,
}

impl MpFilter {
    /// A filter of a request.
    pub(crate) fn new(
        core: Arc<Core>,
        request: &Py<MpRequest>,
        filter: FilterRef<'_>,
        handler: Option<HandlerRef<'_>>,
        py: Python<'_>,
    ) -> Self {
        Self {
            core,
            id: filter.id,
            name: filter.name.into(),
            is_input: filter.is_input,
            handler: handler.map(|h| h.name.into()),
            directory: handler.and_then(|h| h.directory).map(Into::into),
            request: Mutex::new(request.clone_ref(py).into_any()),
            state: Mutex::default(),
        }
    }

    /// Goes through the gate of the conversation, if this filter is what it runs.
    fn with<T>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Arc<Conversation>) -> PyResult<T>,
    ) -> PyResult<T> {
        self.check()?;
        self.running(py, f)
    }

    /// The same for what may be done to a closed filter too.
    fn running<T>(
        &self,
        py: Python<'_>,
        f: impl FnOnce(&Arc<Conversation>) -> PyResult<T>,
    ) -> PyResult<T> {
        let conversation = self.core.tree().conversation()?;
        let _inside = conversation.enter(py);
        if conversation.level().and_then(|l| l.filter) != Some(self.id) {
            return Err(PyRuntimeError::new_err("the filter is not running"));
        }
        f(&conversation)
    }

    fn ask(&self, py: Python<'_>, call: &Call<'_>) -> PyResult<()> {
        self.with(py, |_| calls::ask(py, &self.core, call)?.done())
    }

    /// Reads more at the end of `to`; whether anything came. At the end of the stream, or if there is nothing now,
    /// nothing does.
    fn fetch(&self, py: Python<'_>, want: Option<u64>, to: &mut Vec<u8>) -> PyResult<bool> {
        if lock(&self.state).stream != Stream::Flowing {
            return Ok(false);
        }
        let call = Call::FilterRead(want);
        let before = to.len();
        let answer =
            self.with(py, |_| calls::ask_into(py, &self.core, &call, Sink::Growing(to)))?;
        match answer.reply()? {
            Reply::Int(_) => {}
            Reply::None => lock(&self.state).stream = Stream::Ended,
            other => return Err(calls::unexpected(&other)),
        }
        Ok(to.len() > before)
    }

    /// What a read gives: bytes, or `None` once at the end of the stream (then `b""`, as in mod_python).
    fn give<'py>(&self, py: Python<'py>, data: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let mut state = lock(&self.state);
        if data.is_empty() && state.stream == Stream::Ended {
            state.stream = Stream::Told;
            return None;
        }
        drop(state);
        Some(PyBytes::new(py, data))
    }

    fn check(&self) -> PyResult<()> {
        if lock(&self.state).closed {
            return Err(PyValueError::new_err("I/O operation on closed filter"));
        }
        Ok(())
    }
}

#[pymethods]
impl MpFilter {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Never waits: what cannot be looked at now is left for the next time.
        self.request.try_lock().map_or(Ok(()), |request| visit.call(&*request))
    }

    fn __clear__(&self, py: Python<'_>) {
        self.set_req(py.None());
    }

    /// F.read([n]): bytes; b"" when there is nothing now, None at the end of the stream.
    #[pyo3(signature = (n=-1, /))]
    fn read<'py>(&self, py: Python<'py>, n: i64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.check()?;
        let want = u64::try_from(n).ok();
        let mut data = std::mem::take(&mut lock(&self.state).input);
        let have = data.len() as u64;
        match want {
            Some(want) if want <= have => {
                lock(&self.state).input = data.split_off(want as usize);
                if want == 0 {
                    return Ok(Some(PyBytes::new(py, b"")));
                }
            }
            _ => {
                self.fetch(py, want.map(|w| w - have), &mut data)?;
            }
        }
        Ok(self.give(py, &data))
    }

    /// F.readline([n]): a line as bytes; the last one may lack its end. None at the end of the stream.
    #[pyo3(signature = (n=-1, /))]
    fn readline<'py>(&self, py: Python<'py>, n: i64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.check()?;
        let want = usize::try_from(n).unwrap_or(usize::MAX);
        if want == 0 {
            return Ok(Some(PyBytes::new(py, b"")));
        }
        let mut data = std::mem::take(&mut lock(&self.state).input);
        let mut searched = 0;
        let end = loop {
            if let Some(at) = data[searched..].iter().position(|&b| b == b'\n') {
                break searched + at + 1;
            }
            searched = data.len();
            if searched >= want || !self.fetch(py, Some(LINE_CHUNK), &mut data)? {
                break searched;
            }
        };
        let rest = data.split_off(end.min(want));
        lock(&self.state).input = rest;
        Ok(self.give(py, &data))
    }

    /// F.write(s): passes text (as UTF-8) or bytes on.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        text::with_body(data, |bytes| {
            self.with(py, |conversation| {
                for chunk in bytes.chunks(CHUNK) {
                    let wake = chunk.len() == CHUNK;
                    conversation.body(py, &self.core, chunk, BODY_FILTER, wake)?;
                }
                Ok(())
            })
        })
    }

    /// F.flush(): sends on what was written.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.state).closed {
            return Ok(());
        }
        self.ask(py, &Call::FilterFlush)
    }

    /// F.close(): ends the stream; the filter cannot be read or written after that.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.state).closed {
            return Ok(());
        }
        self.ask(py, &Call::FilterClose)?;
        lock(&self.state).closed = true;
        Ok(())
    }

    /// F.pass_on(): hands what was not read on as it is.
    fn pass_on(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.state).closed {
            return Ok(());
        }
        self.ask(py, &Call::FilterPassOn)
    }

    /// F.disable(): takes the filter out of the chain.
    fn disable(&self, py: Python<'_>) -> PyResult<()> {
        self.running(py, |_| calls::ask(py, &self.core, &Call::FilterDisable)?.done())
    }

    #[getter]
    fn closed(&self) -> u8 {
        lock(&self.state).closed.into()
    }

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        text::to_py(py, &self.name)
    }

    #[getter]
    fn is_input(&self) -> u8 {
        self.is_input.into()
    }

    #[getter]
    fn handler<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.handler.as_ref().map(|h| text::to_py(py, h))
    }

    #[getter]
    fn dir<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.directory.as_ref().map(|d| text::to_py(py, d))
    }

    #[getter]
    fn softspace(&self) -> i64 {
        lock(&self.state).softspace
    }

    #[setter]
    fn set_softspace(&self, value: i64) {
        lock(&self.state).softspace = value;
    }

    #[getter]
    fn req(&self, py: Python<'_>) -> Py<PyAny> {
        lock(&self.request).clone_ref(py)
    }

    #[setter]
    fn set_req(&self, value: Py<PyAny>) {
        let before = std::mem::replace(&mut *lock(&self.request), value);
        // Dropped here, when the lock is free again.
        drop(before);
    }
}
