//! `mp_conn`: the client's connection.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyAttributeError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use vivarium_protocol::codec;
use vivarium_protocol::frame::NO_RID;
use vivarium_protocol::message::{Call, Change, ConnectionInfo, LogScope, Reply, TableId};
use vivarium_protocol::region::FLAG_ABORTED;

use super::hlist::MpHlist;
use super::server::MpServer;
use super::table::MpTable;
use super::text;
use crate::engine::conversation::{Sink, Trouble};
use crate::engine::phases::ERR;
use crate::engine::state::Core;
use crate::engine::tree::Tree;
use crate::engine::{calls, lock};

/// One call sends at most this much.
const CHUNK: usize = 64 << 10;

/// `mp_conn`
#[pyclass(name = "mp_conn", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct MpConn {
    core: Arc<Core>,
    info: Mutex<Arc<ConnectionInfo>>,
    notes: Py<MpTable>,
    /// The handlers of a connection phase.
    hlist: Mutex<Option<Py<MpHlist>>>,
    input: Mutex<Input>,
}

/// What a connection handler reads.
#[derive(Debug, Default)]
struct Input {
    /// Read by `readline` beyond what it gave.
    rest: Vec<u8>,
    /// The client has closed its side.
    ended: bool,
}

type Address<'py> = (Bound<'py, PyString>, u16);

impl MpConn {
    /// The connection of a tree: always the same object.
    pub(crate) fn of(py: Python<'_>, tree: &Arc<Tree>) -> PyResult<Py<Self>> {
        let told = tree.take_connection_snap();
        let decoded = told.map(|snap| codec::decode::<ConnectionInfo>(snap.bytes()));
        let told = decoded.transpose().map_err(|e| Trouble::Broken(e.to_string()))?;
        if let Some(known) = tree.connection(py) {
            if let Some(info) = told {
                known.get().notes.get().load(&info.notes)?;
                *lock(&known.get().info) = Arc::new(info);
            }
            return Ok(known);
        }
        let core = Arc::new(Core::new(NO_RID, Arc::clone(tree)));
        let info = match told {
            Some(info) => info,
            None => match calls::ask(py, &core, &Call::Connection)?.reply()? {
                Reply::Connection(info) => info,
                other => return Err(calls::unexpected(&other)),
            },
        };
        let notes = MpTable::live_with(Arc::clone(&core), TableId::ConnectionNotes, &info.notes)?;
        let made = Self {
            core: Arc::clone(&core),
            info: Mutex::new(Arc::new(info)),
            notes: Py::new(py, notes)?,
            hlist: Mutex::new(None),
            input: Mutex::default(),
        };
        let made = Py::new(py, made)?;
        Ok(tree.keep_connection(py, core, made))
    }

    /// Sets the handlers of a connection phase, or none.
    pub(crate) fn set_hlist(&self, value: Option<Py<MpHlist>>) {
        let before = std::mem::replace(&mut *lock(&self.hlist), value);
        drop(before);
    }

    fn info(&self) -> Arc<ConnectionInfo> {
        Arc::clone(&lock(&self.info))
    }
}

/// What mod_python says of a read at the end of the input. The usual loop of a connection handler ends by it.
fn ended_error() -> PyErr {
    PyOSError::new_err("Connection read error")
}

fn opt<'py>(py: Python<'py>, value: Option<&Vec<u8>>) -> Option<Bound<'py, PyString>> {
    value.map(|v| text::to_py(py, v))
}

#[pymethods]
impl MpConn {
    /// Writes to the error log, with the connection's client.
    #[pyo3(signature = (message, level=None, /))]
    fn log_error(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        level: Option<i64>,
    ) -> PyResult<()> {
        let Some(line) = text::opt_str_argument(1, message)? else { return Ok(()) };
        let level = level.filter(|l| *l != 0).map_or(ERR, |l| (l & 7) as u8);
        let conversation = self.core.tree().conversation()?;
        calls::log(py, &conversation, None, LogScope::Connection, level, line.as_bytes())
    }

    #[getter]
    fn base_server(&self, py: Python<'_>) -> PyResult<Py<MpServer>> {
        MpServer::of(py, &self.core, self.info().base_server)
    }

    #[getter]
    fn local_addr<'py>(&self, py: Python<'py>) -> Address<'py> {
        let info = self.info();
        (text::to_py(py, &info.local.0), info.local.1)
    }

    #[getter]
    fn client_addr<'py>(&self, py: Python<'py>) -> Address<'py> {
        let info = self.info();
        (text::to_py(py, &info.client.0), info.client.1)
    }

    #[getter]
    fn local_ip<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        text::to_py(py, &self.info().local.0)
    }

    #[getter]
    fn client_ip<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        text::to_py(py, &self.info().client.0)
    }

    /// The old name of `client_addr`.
    #[getter]
    fn remote_addr<'py>(&self, py: Python<'py>) -> Address<'py> {
        self.deprecated(py, "remote_addr", "client_addr");
        self.client_addr(py)
    }

    /// The old name of `client_ip`.
    #[getter]
    fn remote_ip<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        self.deprecated(py, "remote_ip", "client_ip");
        self.client_ip(py)
    }

    #[getter]
    fn remote_host<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        opt(py, self.info().remote_host.as_ref())
    }

    #[getter]
    fn remote_logname<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        opt(py, self.info().remote_logname.as_ref())
    }

    #[getter]
    fn local_host<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        opt(py, self.info().local_host.as_ref())
    }

    /// 1 as soon as the client is known to be gone.
    #[getter]
    fn aborted(&self) -> u8 {
        let flagged = self.core.tree().conversation().is_ok_and(|c| {
            let flags = c.entry().region().flags(c.lane()).load(Ordering::Relaxed);
            flags & FLAG_ABORTED != 0
        });
        u8::from(flagged || self.info().aborted)
    }

    #[getter]
    fn keepalive(&self) -> i32 {
        self.info().keepalive
    }

    #[setter]
    fn set_keepalive(&self, value: i32) -> PyResult<()> {
        if !(0..=2).contains(&value) {
            return Err(PyValueError::new_err(
                "keepalive is AP_CONN_UNKNOWN, AP_CONN_CLOSE or AP_CONN_KEEPALIVE",
            ));
        }
        let changed = ConnectionInfo { keepalive: value, ..(*self.info()).clone() };
        *lock(&self.info) = Arc::new(changed);
        self.core.change(&Change::Keepalive(value));
        Ok(())
    }

    #[getter]
    fn double_reverse(&self) -> i32 {
        self.info().double_reverse
    }

    #[getter]
    fn keepalives(&self) -> i32 {
        self.info().keepalives
    }

    #[getter]
    fn id(&self) -> i64 {
        self.info().id
    }

    #[getter]
    fn notes(&self, py: Python<'_>) -> Py<MpTable> {
        self.notes.clone_ref(py)
    }

    /// The handlers of a connection phase.
    #[getter]
    fn hlist(&self, py: Python<'_>) -> PyResult<Py<MpHlist>> {
        let list = lock(&self.hlist).as_ref().map(|l| l.clone_ref(py));
        list.ok_or_else(|| PyAttributeError::new_err("hlist: no connection handler is running"))
    }

    /// In a connection handler: reads up to n bytes, or until the client closes the connection. OSError when there is
    /// nothing more.
    #[pyo3(signature = (n=-1, /))]
    fn read<'py>(&self, py: Python<'py>, n: i64) -> PyResult<Bound<'py, PyBytes>> {
        let most = usize::try_from(n).ok().filter(|n| *n > 0);
        let (mut data, ended) = self.take_rest(most);
        if most.is_some() && !data.is_empty() {
            return Ok(PyBytes::new(py, &data));
        }
        if !ended {
            let left = data.len();
            let call = Call::ConnectionRead(most.map(|n| n as u64));
            let done = self.fetch(py, &call, &mut data);
            // The end is an error too, but not to who is given what a `readline` has left.
            if done.is_err() && (left == 0 || data.len() > left) {
                lock(&self.input).rest = data;
                return done.map(|_| PyBytes::new(py, b""));
            }
            lock(&self.input).ended |= data.is_empty() || most.is_none();
        }
        if data.is_empty() { Err(ended_error()) } else { Ok(PyBytes::new(py, &data)) }
    }

    /// In a connection handler: reads a line with its end, at most n bytes of it; the next read goes on from there.
    /// OSError when there is nothing more.
    #[pyo3(signature = (n=-1, /))]
    fn readline<'py>(&self, py: Python<'py>, n: i64) -> PyResult<Bound<'py, PyBytes>> {
        let most = usize::try_from(n).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
        let (mut data, mut ended) = self.take_rest(None);
        let mut searched = 0;
        let end = loop {
            if let Some(at) = data[searched..].iter().position(|&b| b == b'\n') {
                break searched + at + 1;
            }
            searched = data.len();
            if ended || searched >= most {
                break searched;
            }
            match self.fetch(py, &Call::ConnectionReadLine(None), &mut data) {
                Ok(more) => ended = !more,
                // The last line may have no end. A failure shows itself again at the next read.
                Err(_) if !data.is_empty() => break data.len(),
                Err(error) => return Err(error),
            }
        };
        let rest = data.split_off(end.min(most));
        *lock(&self.input) = Input { rest, ended };
        if data.is_empty() {
            return Err(ended_error());
        }
        Ok(PyBytes::new(py, &data))
    }

    /// In a connection handler: sends text (as UTF-8) or bytes now.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        text::with_body(data, |bytes| {
            for chunk in bytes.chunks(CHUNK) {
                calls::ask(py, &self.core, &Call::ConnectionWrite(chunk))?.done()?;
            }
            Ok(())
        })
    }
}

impl MpConn {
    /// Takes what a `readline` has left, at most so much; also whether there will be no more.
    fn take_rest(&self, most: Option<usize>) -> (Vec<u8>, bool) {
        let mut input = lock(&self.input);
        let n = most.unwrap_or(usize::MAX).min(input.rest.len());
        let after = input.rest.split_off(n);
        (std::mem::replace(&mut input.rest, after), input.ended)
    }

    /// Reads at the end of `to`; whether anything came.
    fn fetch(&self, py: Python<'_>, call: &Call<'_>, to: &mut Vec<u8>) -> PyResult<bool> {
        let before = to.len();
        calls::ask_into(py, &self.core, call, Sink::Growing(to))?.done()?;
        Ok(to.len() > before)
    }

    fn deprecated(&self, py: Python<'_>, old: &str, new: &str) {
        let line = format!("{old} is deprecated in 2.4, use {new} or req.useragent_{}", &new[7..]);
        if let Ok(conversation) = self.core.tree().conversation() {
            // A warning that cannot be written does not keep the value from being read.
            let _ = calls::log(py, &conversation, None, LogScope::Connection, 4, line.as_bytes());
        }
    }
}
