//! Questions to httpd, typed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyOSError, PyPermissionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use vivarium_protocol::codec;
use vivarium_protocol::fields::Field;
use vivarium_protocol::frame::{BODY_FLUSH, BODY_SYNC};
use vivarium_protocol::message::{Call, ErrorKind, LogScope, Op, Reply, TableId};
use vivarium_protocol::policy::{is_guarded, is_guarded_table};
use vivarium_protocol::region::FLAG_ABORTED;

use super::buffers::Buffer;
use super::conversation::{Conversation, Sink, Trouble};
use super::state::{ALL_TABLES, Core, LIVE, OUTPUT_TABLES, Snap};
use super::tree::frame_rid;
use crate::types::SERVER_RETURN;
use crate::types::text;

/// Body frames carry at most this much: less than a ring, so that httpd works on one while the next is written.
const CHUNK: usize = 64 << 10;

/// A reply's payload.
#[derive(Debug)]
pub(crate) struct Answer(Buffer);

impl Answer {
    /// A reply's payload.
    pub(crate) fn new(payload: Buffer) -> Self {
        Self(payload)
    }

    /// The reply in it.
    ///
    /// # Errors
    /// The Python exception that an error reply stands for; `OSError` for a payload that is no reply.
    pub(crate) fn reply(&self) -> PyResult<Reply<'_>> {
        match codec::decode(&self.0) {
            Ok(Reply::Error { kind, text }) => Err(exception(kind, text)),
            Ok(reply) => Ok(reply),
            Err(e) => Err(Trouble::Broken(e.to_string()).into()),
        }
    }

    /// The snapshot in it.
    pub(crate) fn into_snap(self) -> PyResult<Snap> {
        let payload = Arc::new(self.0);
        match codec::decode(&payload) {
            Ok(Reply::Bytes(part)) => Ok(Snap::new(&payload, part)),
            Ok(Reply::Error { kind, text }) => Err(exception(kind, text)),
            Ok(other) => Err(unexpected(&other)),
            Err(e) => Err(Trouble::Broken(e.to_string()).into()),
        }
    }

    /// A text or `None`.
    pub(crate) fn text(&self) -> PyResult<Option<&[u8]>> {
        match self.reply()? {
            Reply::Text(t) => Ok(t),
            Reply::None => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// A number.
    pub(crate) fn int(&self) -> PyResult<i64> {
        match self.reply()? {
            Reply::Int(n) => Ok(n),
            other => Err(unexpected(&other)),
        }
    }

    /// Success, whatever comes with it.
    pub(crate) fn done(&self) -> PyResult<()> {
        self.reply().map(|_| ())
    }
}

/// The exception for a reply of another kind than the call has.
pub(crate) fn unexpected(reply: &Reply<'_>) -> PyErr {
    let name = format!("{reply:?}");
    let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
    Trouble::Broken(format!("a reply of kind {name} that does not answer the question")).into()
}

fn exception(kind: ErrorKind, message: &[u8]) -> PyErr {
    let message = text::to_string(message);
    match kind {
        ErrorKind::Io => PyOSError::new_err(message),
        ErrorKind::Value => PyValueError::new_err(message),
        ErrorKind::Permission => PyPermissionError::new_err(message),
        ErrorKind::ServerReturn => {
            let digits = message.split(|c: char| !c.is_ascii_digit() && c != '-').next();
            let code: i64 = digits.and_then(|d| d.parse().ok()).unwrap_or(500);
            SERVER_RETURN::new_err(code)
        }
        ErrorKind::State => PyRuntimeError::new_err(message),
    }
}

/// Asks about a request.
///
/// # Errors
/// `RuntimeError` if the request is over, `OSError` if httpd is gone.
pub(crate) fn ask(py: Python<'_>, core: &Core, call: &Call<'_>) -> PyResult<Answer> {
    ask_into(py, core, call, Sink::Nowhere)
}

/// Asks about a request; data frames go to `sink`.
pub(crate) fn ask_into(
    py: Python<'_>,
    core: &Core,
    call: &Call<'_>,
    sink: Sink<'_>,
) -> PyResult<Answer> {
    let conversation = core.tree().conversation()?;
    let _inside = conversation.enter(py);
    let rid = frame_rid(core, conversation.level().map_or(core.rid(), |l| l.rid));
    Ok(Answer(conversation.call(py, rid, call, sink)?))
}

/// Sends an assignment at once if httpd may refuse it, and asks whether it did.
///
/// # Errors
/// `PermissionError` if it was refused: the local value is given up.
pub(crate) fn confirm_field(py: Python<'_>, core: &Core, field: Field) -> PyResult<()> {
    if !core.tree().is_confined() || !is_guarded(field) || core.tree().asking().is_none() {
        return Ok(());
    }
    let done = ask(py, core, &Call::Field(field as u8)).and_then(|answer| answer.done());
    done.inspect_err(|_| core.spoil(1 << field as u32, 0))
}

/// The same of a change to a table.
///
/// # Errors
/// As [`confirm_field`].
pub(crate) fn confirm_table(py: Python<'_>, core: &Core, table: TableId) -> PyResult<()> {
    if !core.tree().is_confined() || !is_guarded_table(table) || core.tree().asking().is_none() {
        return Ok(());
    }
    let done = ask(py, core, &Call::Table(table)).and_then(|answer| answer.done());
    done.inspect_err(|_| core.spoil(0, 1 << table as u32))
}

/// An operation with a number and a text.
pub(crate) fn op(
    py: Python<'_>,
    core: &Core,
    op: Op,
    number: i64,
    text: &[u8],
) -> PyResult<Answer> {
    ask(py, core, &Call::Op { op, number, text })
}

/// An operation after which live fields and the output headers have to be asked for again.
pub(crate) fn changing_op(
    py: Python<'_>,
    core: &Core,
    operation: Op,
    number: i64,
    text: &[u8],
) -> PyResult<Answer> {
    let answer = op(py, core, operation, number, text);
    core.spoil(LIVE, OUTPUT_TABLES);
    answer
}

/// A call after which everything known of the tree is out of date.
pub(crate) fn sweeping(py: Python<'_>, core: &Core, call: &Call<'_>) -> PyResult<Answer> {
    let answer = ask(py, core, call);
    core.tree().spoil_all();
    core.spoil(LIVE, ALL_TABLES);
    answer
}

/// Writes a line to httpd's error log; it is there when this returns.
pub(crate) fn log(
    py: Python<'_>,
    conversation: &Arc<Conversation>,
    rid: Option<u32>,
    scope: LogScope,
    level: u8,
    text: &[u8],
) -> PyResult<()> {
    let _inside = conversation.enter(py);
    let rid = match rid {
        Some(rid) => rid,
        None => conversation.level().ok_or(Trouble::Over)?.rid,
    };
    let answer = conversation.call(py, rid, &Call::Log { scope, level, text }, Sink::Nowhere)?;
    Answer(answer).done()
}

fn closed() -> PyErr {
    PyOSError::new_err("Write failed, client closed connection.")
}

/// Writes to the client (through the request's output filters).
///
/// # Errors
/// `OSError` if the client or httpd is gone, `RuntimeError` if the request is over.
pub(crate) fn write(py: Python<'_>, core: &Core, bytes: &[u8], flush: bool) -> PyResult<()> {
    let conversation = core.tree().conversation()?;
    let _inside = conversation.enter(py);
    let entry = conversation.entry();
    if entry.is_gone() {
        return Err(Trouble::Gone.into());
    }
    if conversation.only_logs() {
        return Err(Trouble::Over.into());
    }
    if entry.region().flags(conversation.lane()).load(Ordering::Relaxed) & FLAG_ABORTED != 0 {
        return Err(closed());
    }
    let level = conversation.level().ok_or(Trouble::Over)?;
    let sync = level.sync || level.rid != core.rid() || core.state().filtered;
    let mut rest = bytes;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
        rest = after;
        let last = rest.is_empty();
        let mut flags = if sync { BODY_SYNC } else { 0 };
        if last && flush {
            flags |= BODY_FLUSH;
        }
        // One wake for all that fits the ring; what does not is announced on the way.
        let wake = flush && last;
        let done = conversation.body(py, core, chunk, flags, wake);
        core.spoil(LIVE, OUTPUT_TABLES);
        if let Some(reply) = done? {
            Answer(reply).done()?;
        }
        if last {
            return Ok(());
        }
    }
}
