//! The worker's side of one conversation on one lane.
//!
//! A conversation begins with an `Enter` at depth 1 and ends with the `Leave` that answers it. In between, whoever
//! holds a request of the tree may ask httpd something: one thread at a time, from the question to its answer
//! ([`Gate`]). While a thread waits for an answer, httpd may enter Python again, one level deeper: the waiting thread
//! runs that, leaves, and goes on waiting. Questions always belong to the innermost level, whoever asks.
//!
//! The interpreter is detached exactly while waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use rustix::io::Errno;
use vivarium_protocol::codec;
use vivarium_protocol::frame::{Header, Kind, MAX_DEPTH};
use vivarium_protocol::futex::{self, Patience, SleepFor, Waited};
use vivarium_protocol::lane::{Channel, Guard, LaneError};
use vivarium_protocol::message::{Call, Leave};
use vivarium_protocol::region::Owner;
use vivarium_protocol::ring::BadIndex;

use super::buffers::Buffer;
use super::gate::{Gate, Inside};
use super::lock;
use super::phases;
use super::regions::{Entry, Gone, WhileThere};
use super::state::Core;
use super::tree::{Tree, frame_rid};

/// Bytes that may lie in the ring without httpd being woken for them: few enough that it copies one part while the next is
/// written, and enough that it does not go back to sleep in between.
const QUIET: usize = 128 << 10;

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The httpd child is gone.
    #[error("httpd has ended the connection to this worker in the middle of the request")]
    Gone,
    /// httpd said something impossible.
    #[error("httpd sent something that cannot be understood: {0}")]
    Broken(String),
    /// The request is over already.
    #[error("the request is over")]
    Over,
    /// This is a child of the worker.
    #[error("a forked process cannot use the request of its parent")]
    Forked,
    /// The message is too long to be sent.
    #[error("too long to be sent to httpd: {0} bytes")]
    TooLong(usize),
}

impl From<LaneError<Gone>> for Trouble {
    fn from(error: LaneError<Gone>) -> Self {
        match error {
            LaneError::Stopped(Gone) => Self::Gone,
            LaneError::TooLong(n) => Self::TooLong(n),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<BadIndex> for Trouble {
    fn from(error: BadIndex) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<Trouble> for PyErr {
    fn from(trouble: Trouble) -> Self {
        let text = trouble.to_string();
        match trouble {
            Trouble::Gone => PyOSError::new_err((Errno::CONNRESET.raw_os_error(), text)),
            Trouble::Broken(_) => PyOSError::new_err((Errno::PROTO.raw_os_error(), text)),
            Trouble::Over | Trouble::Forked => PyRuntimeError::new_err(text),
            Trouble::TooLong(_) => pyo3::exceptions::PyValueError::new_err(text),
        }
    }
}

/// One `Enter` that is being run.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    /// The request that was entered.
    pub(crate) rid: u32,
    /// Writes to it have to be synchronous.
    pub(crate) sync: bool,
    /// The filter that runs, if it is a filter phase.
    pub(crate) filter: Option<u32>,
    /// Its tree.
    pub(crate) tree: Arc<Tree>,
}

/// Where the data frames of an answer go.
#[derive(Debug)]
pub(crate) enum Sink<'a> {
    /// No data is expected.
    Nowhere,
    /// A place of expected size, how much of it is filled, and what comes beyond it.
    Slice(&'a mut [u8], usize, &'a mut Vec<u8>),
    /// Memory that grows.
    Growing(&'a mut Vec<u8>),
}

impl<'a> Sink<'a> {
    /// A place of expected size, empty so far.
    pub(crate) fn slice(place: &'a mut [u8], beyond: &'a mut Vec<u8>) -> Self {
        Self::Slice(place, 0, beyond)
    }

    /// Reads `len` payload bytes of the current frame into the sink.
    fn take(
        &mut self,
        channel: &mut Channel,
        mut len: usize,
        guard: &mut WhileThere<'_>,
    ) -> Result<(), Trouble> {
        let growing: &mut Vec<u8> = match self {
            Sink::Nowhere => return Err(Trouble::Broken("data that was not asked for".into())),
            Sink::Slice(place, filled, beyond) => {
                let n = len.min(place.len() - *filled);
                channel.read_exact(&mut place[*filled..*filled + n], guard)?;
                *filled += n;
                len -= n;
                beyond
            }
            Sink::Growing(all) => all,
        };
        if len > 0 {
            let start = growing.len();
            growing.resize(start + len, 0);
            channel.read_exact(&mut growing[start..], guard)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Io {
    channel: Channel,
    levels: Vec<Level>,
    scratch: Vec<u8>,
    /// Bytes published since httpd was last woken.
    quiet: usize,
}

#[derive(Debug)]
enum Event {
    Reply,
    Enter(Header),
}

/// One conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    entry: Arc<Entry>,
    lane: u32,
    gate: Gate,
    /// None when the conversation is over for this side.
    io: Mutex<Option<Io>>,
    only_logs: AtomicBool,
}

impl Conversation {
    /// Takes up the conversation of a claimed lane.
    pub(crate) fn new(entry: Arc<Entry>, lane: u32) -> Self {
        let channel = Channel::guest(Arc::clone(entry.region()), lane);
        let io = Io { channel, levels: Vec::with_capacity(4), scratch: Vec::new(), quiet: 0 };
        Self {
            entry,
            lane,
            gate: Gate::default(),
            io: Mutex::new(Some(io)),
            only_logs: AtomicBool::new(false),
        }
    }

    /// The region.
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The lane's number and flags.
    pub(crate) fn lane(&self) -> u32 {
        self.lane
    }

    /// Whether httpd only serves log calls (the request itself is over).
    pub(crate) fn only_logs(&self) -> bool {
        self.only_logs.load(Ordering::Relaxed)
    }

    /// From now on httpd only serves log calls.
    pub(crate) fn set_only_logs(&self) {
        self.only_logs.store(true, Ordering::Relaxed);
    }

    /// Goes through the gate: nobody else speaks until the result is dropped.
    pub(crate) fn enter(&self, py: Python<'_>) -> Inside<'_> {
        self.gate.enter(py)
    }

    /// The conversation's number, for the descriptor socket.
    pub(crate) fn number(&self) -> Result<u32, Trouble> {
        self.with(|io| Ok(io.channel.conversation()))
    }

    /// The innermost level.
    pub(crate) fn level(&self) -> Option<Level> {
        lock(&self.io).as_ref().and_then(|io| io.levels.last().cloned())
    }

    /// The tree of this number, if one of the levels is about it.
    pub(crate) fn level_tree(&self, id: u64) -> Option<Arc<Tree>> {
        let io = lock(&self.io);
        let levels = &io.as_ref()?.levels;
        levels.iter().rev().find(|l| l.tree.id() == id).map(|l| Arc::clone(&l.tree))
    }

    /// Ends the conversation because httpd said something impossible.
    pub(crate) fn give_up<T>(&self, what: String) -> Result<T, Trouble> {
        self.with(|_| Err(Trouble::Broken(what)))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Io) -> Result<T, Trouble>) -> Result<T, Trouble> {
        if super::control::is_forked() {
            return Err(Trouble::Forked);
        }
        let mut guard = lock(&self.io);
        let io = guard.as_mut().ok_or(Trouble::Over)?;
        let done = f(io);
        if matches!(done, Err(Trouble::Gone | Trouble::Broken(_))) {
            let io = guard.take();
            // What follows may have to wait.
            drop(guard);
            self.drop_lane(io, &done);
        }
        done
    }

    /// Reads the conversation's first frame: an `Enter` at depth 1.
    pub(crate) fn first(&self, py: Python<'_>) -> Result<(Header, Buffer), Trouble> {
        let mut payload = Buffer::take();
        let header = self.with(|io| {
            let Some(header) = io.channel.try_recv::<Gone>()? else { return Ok(None) };
            payload.resize(header.len as usize, 0);
            let n = io.channel.try_read(&mut payload)?;
            Ok(Some((header, n)))
        })?;
        let header = match header {
            Some((header, n)) if n == header.len as usize => header,
            partly => py.detach(|| {
                self.with(|io| {
                    let mut guard = WhileThere(&self.entry);
                    let (header, n) = match partly {
                        Some(partly) => partly,
                        None => (io.channel.recv(&mut guard)?, 0),
                    };
                    payload.resize(header.len as usize, 0);
                    io.channel.read_exact(&mut payload[n..], &mut guard)?;
                    Ok(header)
                })
            })?,
        };
        if header.kind != Kind::Enter || header.depth != 1 {
            return self.give_up("the first frame is no Enter".into());
        }
        Ok((header, payload))
    }

    /// Begins a level.
    pub(crate) fn push(&self, level: Level) -> Result<(), Trouble> {
        self.with(|io| {
            if io.levels.len() >= MAX_DEPTH as usize {
                return Err(Trouble::Broken("nested too deeply".into()));
            }
            io.levels.push(level);
            Ok(())
        })
    }

    /// Sends the pending changes of a tree's requests.
    pub(crate) fn flush_changes(&self, py: Python<'_>, tree: &Tree) -> Result<(), Trouble> {
        for core in tree.take_dirty() {
            let Some(bytes) = core.take_pending() else { continue };
            let rid = frame_rid(&core, self.level().map_or(core.rid(), |l| l.rid));
            let sent = self.send(py, Kind::Changes, 0, rid, &bytes, false);
            core.return_pending(bytes);
            sent?;
        }
        Ok(())
    }

    /// Sends one frame at the current depth; waits (detached) only if there is no room for it.
    fn send(
        &self,
        py: Python<'_>,
        kind: Kind,
        flags: u8,
        rid: u32,
        bytes: &[u8],
        wake: bool,
    ) -> Result<(), Trouble> {
        let after = |io: &mut Io| {
            io.quiet += bytes.len();
            if wake || io.quiet >= QUIET {
                io.quiet = 0;
                io.channel.wake();
            }
        };
        let sent = self.with(|io| {
            let depth = io.levels.len() as u16;
            let sent = io.channel.try_send(kind, flags, depth, rid, &[bytes])?;
            if sent {
                after(io);
            }
            Ok(sent)
        })?;
        if sent {
            return Ok(());
        }
        py.detach(|| {
            self.with(|io| {
                let depth = io.levels.len() as u16;
                let mut guard = WhileThere(&self.entry);
                io.channel.send(kind, flags, depth, rid, &[bytes], &mut guard)?;
                after(io);
                Ok(())
            })
        })
    }

    /// Sends a call and waits for its reply, whose payload is returned. Go through the gate first.
    pub(crate) fn call(
        self: &Arc<Self>,
        py: Python<'_>,
        rid: u32,
        call: &Call<'_>,
        sink: Sink<'_>,
    ) -> Result<Buffer, Trouble> {
        let tree = self.level().ok_or(Trouble::Over)?.tree;
        self.flush_changes(py, &tree)?;
        let mut scratch = self.with(|io| Ok(std::mem::take(&mut io.scratch)))?;
        scratch.clear();
        let encoded = codec::encode_into(call, &mut scratch);
        let sent = match encoded {
            Ok(()) => self.send(py, Kind::Call, 0, rid, &scratch, false),
            Err(_) => Err(Trouble::TooLong(scratch.len())),
        };
        if let Some(io) = lock(&self.io).as_mut() {
            io.scratch = scratch;
        }
        sent?;
        self.answer(py, sink)
    }

    /// Sends a body frame. With `sync` in its flags, waits for the reply. Go through the gate first.
    pub(crate) fn body(
        self: &Arc<Self>,
        py: Python<'_>,
        core: &Core,
        bytes: &[u8],
        flags: u8,
        wake: bool,
    ) -> Result<Option<Buffer>, Trouble> {
        self.flush_changes(py, core.tree())?;
        self.send(py, Kind::Body, flags, core.rid(), bytes, wake)?;
        if flags & vivarium_protocol::frame::BODY_SYNC == 0 {
            return Ok(None);
        }
        self.answer(py, Sink::Nowhere).map(Some)
    }

    /// Waits for the reply at the current depth, and runs what httpd enters meanwhile.
    fn answer(self: &Arc<Self>, py: Python<'_>, mut sink: Sink<'_>) -> Result<Buffer, Trouble> {
        loop {
            let mut payload = Buffer::take();
            let event = py.detach(|| self.with(|io| self.next(io, &mut sink, &mut payload)))?;
            match event {
                Event::Reply => return Ok(payload),
                Event::Enter(header) => {
                    let out = self.gate.step_out();
                    let run = phases::enter(py, self, header, payload);
                    self.gate.step_in(py, out);
                    run?;
                }
            }
        }
    }

    fn next(
        &self,
        io: &mut Io,
        sink: &mut Sink<'_>,
        payload: &mut Buffer,
    ) -> Result<Event, Trouble> {
        let mut guard = WhileThere(&self.entry);
        io.quiet = 0;
        loop {
            let header = io.channel.recv(&mut guard)?;
            let depth = io.levels.len() as u16;
            match header.kind {
                Kind::Data if header.depth == depth => {
                    sink.take(&mut io.channel, header.len as usize, &mut guard)?;
                }
                Kind::Reply if header.depth == depth => {
                    io.channel.read_payload(payload, &mut guard)?;
                    return Ok(Event::Reply);
                }
                Kind::Enter if header.depth == depth + 1 => {
                    io.channel.read_payload(payload, &mut guard)?;
                    return Ok(Event::Enter(header));
                }
                kind => {
                    let what = format!("{kind:?} at depth {} while at depth {depth}", header.depth);
                    return Err(Trouble::Broken(what));
                }
            }
        }
    }

    /// Ends the innermost level: sends its `Leave`; at depth 1 that is the end of the conversation.
    pub(crate) fn leave(&self, py: Python<'_>, leave: &Leave) -> Result<(), Trouble> {
        let depth = self.with(|io| Ok(io.levels.len()))?;
        if depth > 1 {
            let mut bytes = Buffer::take();
            codec::encode_into(leave, &mut bytes).map_err(|e| Trouble::Broken(e.to_string()))?;
            let rid = self.level().map_or(0, |l| l.rid);
            self.send(py, Kind::Leave, 0, rid, &bytes, false)?;
            return self.with(|io| {
                io.levels.pop();
                Ok(())
            });
        }
        let rid = self.level().map_or(0, |l| l.rid);
        let staged = self.with(|io| stage_leave(io, 1, leave, rid))?;
        if !staged {
            py.detach(|| self.with(|io| self.stage_leave_when_room(io, leave, rid)))?;
        }
        if let Some(io) = lock(&self.io).take() {
            io.channel.leave(me());
        }
        Ok(())
    }

    /// The conversation is over in the middle. A living httpd is told: it would wait for ever.
    fn drop_lane<T>(&self, io: Option<Io>, done: &Result<T, Trouble>) {
        let (Some(io), Err(Trouble::Broken(what))) = (io, done) else { return };
        super::control::complain(&format!(
            "a conversation was given up: {}",
            Trouble::Broken(what.clone())
        ));
        let mut bytes = Buffer::take();
        if codec::encode_into(&FAILED, &mut bytes).is_err() {
            return;
        }
        // Others run while this waits for room; if httpd is gone meanwhile, nobody is left to be told.
        let _ = Python::attach(|py| {
            py.detach(|| io.channel.finish(0, &bytes, me(), &mut WhileThere(&self.entry)))
        });
    }

    fn stage_leave_when_room(&self, io: &mut Io, leave: &Leave, rid: u32) -> Result<(), Trouble> {
        io.channel.publish();
        io.channel.wake();
        let region = Arc::clone(self.entry.region());
        let word = region.guest_word(self.lane);
        let there = || WhileThere(&self.entry).check().map_err(|Gone| Trouble::Gone);
        loop {
            there()?;
            let staged = || stage_leave(io, 1, leave, rid);
            let patience = Patience::default();
            let waited = futex::wait_watching(word, SleepFor::Room, patience, staged, there)?;
            if waited == Waited::Ready {
                return Ok(());
            }
        }
    }
}

/// What is sent for a level that could not be run.
pub(crate) const FAILED: Leave = Leave { result: 500, keep: false, cleanups: false };

fn stage_leave(io: &mut Io, depth: u16, leave: &Leave, rid: u32) -> Result<bool, Trouble> {
    let mut bytes = Buffer::take();
    codec::encode_into(leave, &mut bytes).map_err(|e| Trouble::Broken(e.to_string()))?;
    Ok(io.channel.try_stage(Kind::Leave, 0, depth, rid, &[&bytes])?)
}

fn me() -> Owner {
    super::control::worker().me
}
