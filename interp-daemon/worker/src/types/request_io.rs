//! The request's body and the answer's.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use vivarium_protocol::fields::{Field, Value};
use vivarium_protocol::message::{Call, Reply};
use vivarium_protocol::seqpacket;

use super::fields::malformed;
use super::text;
use crate::engine::calls;
use crate::engine::conversation::{Sink, Trouble};
use crate::engine::state::{Core, LIVE, OUTPUT_TABLES};
use crate::ffi;

/// How much `readline` asks for at a time.
const LINE_CHUNK: u32 = 16 << 10;
/// Without a content length to go by, `read(n)` makes room for at most this much at first.
const GUESS: u64 = 1 << 20;

fn total(answer: &calls::Answer) -> PyResult<u64> {
    match answer.reply()? {
        Reply::Int(n) => Ok(u64::try_from(n).unwrap_or(0)),
        Reply::None => Ok(0),
        other => Err(calls::unexpected(&other)),
    }
}

/// How many body bytes are left to read, as far as `Content-Length` says. Chunked bodies: unknown.
fn body_left(core: &Core) -> PyResult<Option<u64>> {
    let mut state = core.state();
    let number = |value: &Value<'_>| match value {
        Value::Int(n) => u64::try_from(*n).ok(),
        _ => None,
    };
    let chunked = state.field(Field::ReadChunked, number).map_err(malformed)?;
    let remaining = state.field(Field::Remaining, number).map_err(malformed)?;
    let read = if state.is_stale(Field::Remaining) { state.body_read } else { 0 };
    Ok(match (chunked, remaining) {
        (Some(0) | None, Some(left)) if left > 0 => Some(left.saturating_sub(read)),
        _ => None,
    })
}

/// `req.read(n)`
pub(super) fn read<'py>(py: Python<'py>, core: &Core, n: i64) -> PyResult<Bound<'py, PyBytes>> {
    let want = u64::try_from(n).ok();
    let head = {
        let mut state = core.state();
        let buffered = state.buffered();
        let take = want.map_or(buffered.len(), |w| buffered.len().min(w as usize));
        let head = buffered[..take].to_vec();
        state.consume(take);
        head
    };
    let want = want.map(|w| w - head.len() as u64);
    if want == Some(0) {
        return Ok(PyBytes::new(py, &head));
    }
    let left = body_left(core)?;
    let room = match (want, left) {
        (Some(want), Some(left)) => want.min(left),
        (Some(want), None) => want.min(GUESS),
        (None, left) => left.unwrap_or(0),
    };
    let mut beyond = Vec::new();
    let known = head.len();
    // Straight into the bytes object; a filter of httpd's may yield more than was announced.
    let place = ffi::bytes_filled_by(py, known + room as usize, |place| {
        place[..known].copy_from_slice(&head);
        let sink = Sink::slice(&mut place[known..], &mut beyond);
        let answer = calls::ask_into(py, core, &Call::Read(want), sink)?;
        let count = total(&answer)?;
        core.state().body_read += count;
        core.spoil(LIVE, 0);
        Ok(place.len().min(known + count as usize))
    })?;
    if beyond.is_empty() {
        return Ok(place);
    }
    let mut all = place.as_bytes().to_vec();
    all.append(&mut beyond);
    Ok(PyBytes::new(py, &all))
}

/// `req.readline(n)`
pub(super) fn readline<'py>(py: Python<'py>, core: &Core, n: i64) -> PyResult<Bound<'py, PyBytes>> {
    let want = usize::try_from(n).unwrap_or(usize::MAX);
    let mut searched = 0;
    loop {
        {
            let mut state = core.state();
            let buffered = state.buffered();
            let found = buffered.get(searched..).and_then(|b| b.iter().position(|&b| b == b'\n'));
            let end = match found {
                Some(at) => Some(searched + at + 1),
                None if buffered.len() >= want => Some(want),
                None => None,
            };
            if let Some(end) = end {
                let end = end.min(want);
                let line = PyBytes::new(py, &buffered[..end]);
                state.consume(end);
                return Ok(line);
            }
            searched = buffered.len();
        }
        let mut more = Vec::new();
        let call = Call::ReadSome(LINE_CHUNK);
        let answer = calls::ask_into(py, core, &call, Sink::Growing(&mut more))?;
        let count = total(&answer)?;
        core.spoil(LIVE, 0);
        let mut state = core.state();
        state.body_read += count;
        if more.is_empty() {
            let rest = PyBytes::new(py, state.buffered());
            state.input.clear();
            state.input_at = 0;
            return Ok(rest);
        }
        if state.input_at > 0 {
            let at = state.input_at;
            state.input.drain(..at);
            state.input_at = 0;
        }
        state.input.extend_from_slice(&more);
    }
}

/// `req.readlines(hint)`: the hint also limits every line but the first, as mod_python has it.
pub(super) fn readlines<'py>(
    py: Python<'py>,
    core: &Core,
    hint: i64,
) -> PyResult<Bound<'py, PyList>> {
    let lines = PyList::empty(py);
    let mut size = 0_i64;
    let mut line = readline(py, core, -1)?;
    while !line.as_bytes().is_empty() {
        size += line.as_bytes().len() as i64;
        lines.append(&line)?;
        if hint >= 0 && size >= hint {
            break;
        }
        line = readline(py, core, hint)?;
    }
    Ok(lines)
}

/// `req.write(data, flush)`
pub(super) fn write(
    py: Python<'_>,
    core: &Core,
    data: &Bound<'_, PyAny>,
    flush: bool,
) -> PyResult<()> {
    text::with_body(data, |bytes| {
        if bytes.is_empty() && !flush {
            return Ok(());
        }
        calls::write(py, core, bytes, flush)?;
        core.state().bytes_queued += bytes.len() as i64;
        Ok(())
    })
}

/// `req.flush()`
pub(super) fn flush(py: Python<'_>, core: &Core) -> PyResult<()> {
    let answer = calls::ask(py, core, &Call::Flush);
    core.spoil(LIVE, OUTPUT_TABLES);
    answer?.done()
}

static SERIAL: AtomicU32 = AtomicU32::new(1);

/// `req.sendfile(path, offset, len)`: the file is opened here, as this process's user; httpd gets its descriptor.
pub(super) fn sendfile(
    py: Python<'_>,
    core: &Core,
    path: &str,
    offset: i64,
    len: i64,
) -> PyResult<i64> {
    let offset = u64::try_from(offset)
        .map_err(|_| PyValueError::new_err("the offset of sendfile is negative"))?;
    let file = py.detach(|| {
        let meta = std::fs::metadata(path)?;
        if !meta.is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "no regular file"));
        }
        File::open(path)
    });
    let file = file.map_err(|e| {
        let what = match e.kind() {
            std::io::ErrorKind::NotFound => "Could not stat file for reading",
            std::io::ErrorKind::InvalidInput => "Not a regular file",
            _ => "Could not open file for reading",
        };
        match e.raw_os_error() {
            Some(number) => PyOSError::new_err((number, what, path.to_owned())),
            None => PyOSError::new_err(format!("{what}: {path}")),
        }
    })?;
    let conversation = core.tree().conversation()?;
    let _inside = conversation.enter(py);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut packet = [0; 12];
    for (place, word) in
        packet.chunks_exact_mut(4).zip([conversation.lane(), conversation.number()?, serial])
    {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let socket = conversation.entry().socket().ok_or(Trouble::Gone)?;
    py.detach(|| seqpacket::send_bytes(&*socket, &packet, &[file.as_fd()], false))
        .map_err(|e| PyOSError::new_err(format!("the file cannot be handed to httpd: {e}")))?;
    let call = Call::SendFile { serial, offset, len: u64::try_from(len).ok() };
    let answer = calls::ask(py, core, &call);
    core.spoil(LIVE, OUTPUT_TABLES);
    answer?.int()
}
