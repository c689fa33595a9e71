//! `mp_filter`: one instance of a Python filter in a request's chain.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyBytes, PyString};
use vivarium_protocol::frame::{BODY_CLOSE, BODY_FILTER, BODY_FLUSH, BODY_SYNC};
use vivarium_protocol::message::{Call, FILTER_SYNC, FilterRef, HandlerRef, Reply, Then};

use super::request::MpRequest;
use super::text;
use crate::engine::calls;
use crate::engine::conversation::{Conversation, Sink};
use crate::engine::lock;
use crate::engine::seats;
use crate::engine::state::Core;

/// How much `readline` asks for at a time, and short reads of what comes through the filter.
const CHUNK: u64 = 32 << 10;
/// Body frames of a filter carry at most this much.
const PIECE: usize = 64 << 10;

/// What of the filter's input is here: sent ahead by httpd, or read beyond what Python asked for.
#[derive(Debug)]
struct Input {
    bytes: Vec<u8>,
    /// How much of that has been read.
    at: usize,
    then: Then,
    /// The filter was told of the end by a `None`.
    told: bool,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: Vec::new(), at: 0, then: Then::Ask, told: false }
    }
}

impl Input {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// What a read gives that may have `most` bytes; `None` once at the end of the stream (then `b""`, as in mod_python).
    fn give<'py>(&mut self, py: Python<'py>, most: usize) -> Option<Bound<'py, PyBytes>> {
        if self.rest().is_empty() && self.then == Then::End && !self.told {
            self.told = true;
            return None;
        }
        let n = self.rest().len().min(most);
        let given = PyBytes::new(py, &self.rest()[..n]);
        self.at += n;
        Some(given)
    }

    /// Takes what was not read.
    fn take(&mut self) -> Vec<u8> {
        let at = std::mem::take(&mut self.at);
        std::mem::take(&mut self.bytes).split_off(at)
    }
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    disabled: bool,
    input: Input,
    /// Whether Python comes after the filter.
    is_sync: bool,
    /// Bytes written since httpd was last waited for.
    unsynced: usize,
    softspace: i64,
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

    /// httpd enters the filter.
    pub(crate) fn begin(&self, filter: FilterRef<'_>) {
        let mut state = lock(&self.state);
        state.is_sync = filter.is_sync;
        state.unsynced = 0;
        let input = &mut state.input;
        // What a filter leaves of a brigade is lost with it; input goes on.
        if !filter.is_input {
            input.bytes.clear();
            input.bytes.extend_from_slice(filter.ahead);
            input.at = 0;
        }
        input.then = filter.then;
    }

    /// The filter has run: what a disabled one did not read goes on as it is.
    pub(crate) fn end(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.state).disabled { self.write_rest(py) } else { Ok(()) }
    }

    /// Hands on what has come here without having been read.
    fn write_rest(&self, py: Python<'_>) -> PyResult<()> {
        let rest = lock(&self.state).input.take();
        if rest.is_empty() { Ok(()) } else { self.running(py, |c| self.send(py, c, &rest)) }
    }

    fn send(&self, py: Python<'_>, conversation: &Arc<Conversation>, bytes: &[u8]) -> PyResult<()> {
        for chunk in bytes.chunks(PIECE) {
            let mut flags = BODY_FILTER;
            {
                let mut state = lock(&self.state);
                state.unsynced += chunk.len();
                if state.is_sync && state.unsynced >= FILTER_SYNC {
                    state.unsynced = 0;
                    flags |= BODY_SYNC;
                }
            }
            let wake = chunk.len() == PIECE;
            if let Some(reply) = conversation.body(py, &self.core, chunk, flags, wake)? {
                calls::Answer::new(reply).done()?;
            }
        }
        Ok(())
    }

    /// Tells httpd something about what was written; asks, where Python has to be waiting meanwhile.
    fn mark(&self, py: Python<'_>, flag: u8, call: &Call<'_>) -> PyResult<()> {
        if lock(&self.state).is_sync || self.is_input {
            return self.ask(py, call);
        }
        // After a close there is little more to come; where requests are short, their end wakes httpd soon enough.
        let wake = flag == BODY_FLUSH || !seats::short();
        self.with(py, |c| Ok(c.body(py, &self.core, &[], BODY_FILTER | flag, wake)?)).map(drop)
    }

    fn ask(&self, py: Python<'_>, call: &Call<'_>) -> PyResult<()> {
        self.with(py, |_| calls::ask(py, &self.core, call)?.done())
    }

    /// Asks for more, if there may be more; whether anything came.
    fn fetch(&self, py: Python<'_>, want: Option<u64>) -> PyResult<bool> {
        let mut bytes = {
            let mut state = lock(&self.state);
            if state.input.then != Then::Ask {
                return Ok(false);
            }
            state.input.take()
        };
        let before = bytes.len();
        // What is in a brigade is there: a short read takes more of it than it was asked for.
        let want = if self.is_input { want } else { want.map(|n| n.max(CHUNK)) };
        let call = Call::FilterRead(want);
        let answer =
            self.with(py, |_| calls::ask_into(py, &self.core, &call, Sink::Growing(&mut bytes)));
        let came = bytes.len() > before;
        lock(&self.state).input.bytes = bytes;
        match answer?.reply()? {
            Reply::Int(_) => {}
            Reply::None => lock(&self.state).input.then = Then::End,
            other => return Err(calls::unexpected(&other)),
        }
        Ok(came)
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
        let want = usize::try_from(n).unwrap_or(usize::MAX);
        if want == 0 {
            return Ok(Some(PyBytes::new(py, b"")));
        }
        let here = lock(&self.state).input.rest().len();
        if here < want {
            self.fetch(py, u64::try_from(n).ok().map(|n| n - here as u64))?;
        }
        Ok(lock(&self.state).input.give(py, want))
    }

    /// F.readline([n]): a line as bytes; the last one may lack its end. None at the end of the stream.
    #[pyo3(signature = (n=-1, /))]
    fn readline<'py>(&self, py: Python<'py>, n: i64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.check()?;
        let want = usize::try_from(n).unwrap_or(usize::MAX);
        if want == 0 {
            return Ok(Some(PyBytes::new(py, b"")));
        }
        let mut searched = 0;
        loop {
            {
                let mut state = lock(&self.state);
                let rest = state.input.rest();
                let found = rest[searched..].iter().position(|&b| b == b'\n');
                let end = found.map_or(rest.len(), |at| searched + at + 1);
                if found.is_some() || end >= want {
                    return Ok(state.input.give(py, end.min(want)));
                }
                searched = end;
            }
            if !self.fetch(py, Some(CHUNK))? {
                return Ok(lock(&self.state).input.give(py, want));
            }
        }
    }

    /// F.write(s): passes text (as UTF-8) or bytes on.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        text::with_body(data, |bytes| {
            self.with(py, |conversation| self.send(py, conversation, bytes))
        })
    }

    /// F.flush(): sends on what was written.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.state).closed {
            return Ok(());
        }
        self.mark(py, BODY_FLUSH, &Call::FilterFlush)
    }

    /// F.close(): ends the stream; the filter cannot be read or written after that.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.state).closed {
            return Ok(());
        }
        self.mark(py, BODY_CLOSE, &Call::FilterClose)?;
        lock(&self.state).closed = true;
        Ok(())
    }

    /// F.pass_on(): hands what was not read on as it is.
    fn pass_on(&self, py: Python<'_>) -> PyResult<()> {
        if lock(&self.state).closed {
            return Ok(());
        }
        self.write_rest(py)?;
        self.ask(py, &Call::FilterPassOn)
    }

    /// F.disable(): takes the filter out of the chain.
    fn disable(&self, py: Python<'_>) -> PyResult<()> {
        self.running(py, |_| calls::ask(py, &self.core, &Call::FilterDisable)?.done())?;
        lock(&self.state).disabled = true;
        Ok(())
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
