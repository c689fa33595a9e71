//! One lane during one conversation: enter a phase, then serve the worker until it leaves.
//!
//! Conversations nest: while a call is carried out, httpd may run Python again for the same tree, on the same lane, one
//! level deeper. Nothing of a conversation is borrowed while foreign code runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vivarium_protocol::codec;
use vivarium_protocol::frame::{BODY_SYNC, Header, Kind, MAX_DEPTH, NO_RID};
use vivarium_protocol::lane::{Channel, Guard, LaneError};
use vivarium_protocol::message::{Call, ErrorKind, Leave, Reply};
use vivarium_protocol::region::{Claim, FLAG_ABORTED, Owner};

use super::after::Afterwards;
pub(crate) use super::level::Level;
use super::tree::{Entry, Tree};
use super::{Fault, body, calls, connections};
use crate::apache::connection::Connection;
use crate::grants::view::View;
use crate::link;
use crate::link::pool::{Pool, Standing, Trouble};

/// How long the end of a phase may take to arrive after the worker has given its lane back: it lies in the ring already.
const SILENCE: Duration = Duration::from_secs(1);
/// After this long a thread looks whether its lane has been taken.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// How many bytes of a large body are sent before the worker is woken for them.
const WAKE_EVERY: usize = 32 << 10;

/// What a conversation is served from: a live tree, or what was taken down of one.
#[derive(Clone, Copy)]
enum Source<'s> {
    Tree(&'s Rc<Tree>),
    After(&'s Afterwards<'s>),
    Connection(Connection<'s>),
}

/// A conversation.
pub(crate) struct Conversation {
    pool: Arc<Pool>,
    lane: u32,
    number: u32,
    channel: RefCell<Channel>,
    /// To whom the lane was offered: a particular worker, or anyone.
    to: Option<Owner>,
    offered: Cell<bool>,
    since: Instant,
    /// When the running phase was entered, at depth 1.
    entered: Cell<Instant>,
    events: Cell<u32>,
    depth: Cell<u16>,
    /// The request that was entered last.
    rid: Cell<u32>,
    /// What the pool's count of taken lanes was when we last looked.
    taken: Cell<u32>,
    /// Set when the conversation cannot go on; every level then fails the same way.
    fault: RefCell<Option<Fault>>,
    finished: Cell<bool>,
    /// Data bytes sent since the worker was last woken for any.
    unannounced: Cell<usize>,
}

/// Looks after a waiting thread.
pub(crate) struct HostGuard<'c> {
    c: &'c Conversation,
    /// Checks so far: one before each wait, one after the sleep is announced, one after it.
    looks: u32,
    /// When the lane was first seen to have been given back.
    released: Option<Instant>,
}

impl Guard for HostGuard<'_> {
    type Stop = Trouble;
    fn check(&mut self) -> Result<(), Trouble> {
        let events = self.c.pool.events();
        // The first check of a wait costs one load; later ones, and those after an event, look at the lane.
        if self.looks > 1 || events != self.c.events.get() {
            self.c.events.set(events);
            if self.c.is_late() {
                return Err(Trouble::TooLong);
            }
            let standing = self.c.pool.look(self.c.lane, self.c.to, self.c.since, &self.c.taken)?;
            if standing == Standing::Released {
                let since = *self.released.get_or_insert_with(Instant::now);
                if since.elapsed() > SILENCE {
                    return Err(Trouble::Silent);
                }
            }
        }
        self.looks += 1;
        Ok(())
    }
    fn done(&self) -> u32 {
        self.c.pool.taken()
    }
}

impl Conversation {
    /// Takes a lane for a conversation, to be offered to one worker or to any.
    pub(crate) fn begin(pool: Arc<Pool>, to: Option<Owner>) -> Result<Rc<Self>, Fault> {
        Self::begin_waiting(pool, to, Instant::now())
    }

    /// The same for a request that has been waiting since `since`.
    pub(crate) fn begin_waiting(
        pool: Arc<Pool>,
        to: Option<Owner>,
        since: Instant,
    ) -> Result<Rc<Self>, Fault> {
        let Some(lane) = pool.take_lane() else {
            let reason =
                format!("{}: all lanes of the pool are in use", vivarium_protocol::codes::NO_LANE);
            return Err(Fault::Unavailable { reason, retry_after: 1 });
        };
        let number = pool.next_conversation();
        // Read before the offer: whatever happens later changes it.
        let events = pool.events();
        let channel = Channel::host(Arc::clone(pool.region()), lane, number);
        Ok(Rc::new(Self {
            pool,
            lane,
            number,
            channel: RefCell::new(channel),
            to,
            offered: Cell::new(false),
            since,
            entered: Cell::new(Instant::now()),
            events: Cell::new(events),
            depth: Cell::new(0),
            rid: Cell::new(NO_RID),
            taken: Cell::new(0),
            fault: RefCell::new(None),
            finished: Cell::new(false),
            unannounced: Cell::new(0),
        }))
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
    pub(crate) fn lane(&self) -> u32 {
        self.lane
    }
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether its phase was not taken by anybody because its pool is gone: nothing is lost by asking the one that has
    /// come in its place.
    pub(crate) fn may_go_elsewhere(&self, fault: &Fault) -> bool {
        matches!(fault, Fault::Unavailable { .. }) && self.pool.retired()
    }

    /// Whether a worker has had the lane for longer than the tenant's policy allows for a phase.
    fn is_late(&self) -> bool {
        let limit = self.pool.tenant().confined().map_or(0, |p| p.request_timeout_ms);
        limit > 0
            && self.entered.get().elapsed() > Duration::from_millis(limit.into())
            && self.owner().is_some()
    }

    fn guard(&self) -> HostGuard<'_> {
        HostGuard { c: self, looks: 0, released: None }
    }

    /// The worker that has the conversation, by its claim word.
    pub(crate) fn owner(&self) -> Option<Owner> {
        match self.pool.region().claim(self.lane) {
            Claim::Claimed(owner) | Claim::Released(owner) => Some(owner),
            _ => None,
        }
    }

    /// Tells the worker that the client is gone.
    pub(crate) fn set_aborted(&self) {
        self.pool
            .region()
            .flags(self.lane)
            .store(FLAG_ABORTED, vivarium_protocol::sync::Ordering::Relaxed);
    }

    fn failed(&self, error: LaneError<Trouble>) -> Fault {
        match error {
            LaneError::Stopped(Trouble::Died) => {
                let how =
                    self.pool.last_death().map_or_else(String::new, |how| format!(" ({how})"));
                Fault::Died(format!("the worker that had the request has died{how}"))
            }
            LaneError::Stopped(Trouble::NotTaken { reason, retry_after }) => {
                Fault::Unavailable { reason, retry_after }
            }
            LaneError::Stopped(Trouble::Garbage(word)) => {
                Fault::Broken(format!("impossible claim word {word:#x}"))
            }
            LaneError::Stopped(Trouble::TooLong) => {
                Fault::TooLong("the phase has run for longer than its tenant's may".into())
            }
            LaneError::Stopped(Trouble::Silent) => Fault::Broken(
                "the worker gave the lane back without saying how the phase ended".into(),
            ),
            other => Fault::Broken(other.to_string()),
        }
    }

    /// Runs `operation` on the channel; its failure ends the conversation.
    fn on_channel<T>(
        &self,
        operation: impl FnOnce(&mut Channel, &mut HostGuard<'_>) -> Result<T, LaneError<Trouble>>,
    ) -> Result<T, Fault> {
        if let Some(fault) = self.fault.borrow().clone() {
            return Err(fault);
        }
        let done = operation(&mut self.channel.borrow_mut(), &mut self.guard());
        done.map_err(|e| self.fail(self.failed(e)))
    }

    /// Ends the conversation with a fault.
    pub(crate) fn fail(&self, fault: Fault) -> Fault {
        let first = self.fault.borrow_mut().get_or_insert(fault).clone();
        if let (Fault::Broken(reason) | Fault::TooLong(reason), Some(link), Some(owner)) =
            (&first, link::get(), self.owner())
            && !self.finished.get()
        {
            link.misbehaved(&self.pool, owner, reason);
        }
        first
    }

    /// Runs one phase in the worker and serves it. `payload` is an encoded `Enter`.
    pub(crate) fn enter(
        &self,
        tree: &Rc<Tree>,
        level: &Level,
        payload: &[u8],
    ) -> Result<Leave, Fault> {
        self.enter_from(Source::Tree(tree), level, payload)
    }

    /// The same when the tree is over.
    pub(crate) fn enter_afterwards(
        &self,
        after: &Afterwards<'_>,
        level: &Level,
        payload: &[u8],
    ) -> Result<Leave, Fault> {
        self.enter_from(Source::After(after), level, payload)
    }

    /// The same for a connection without a request.
    pub(crate) fn enter_connection(
        &self,
        connection: Connection<'_>,
        payload: &[u8],
    ) -> Result<Leave, Fault> {
        self.enter_from(Source::Connection(connection), &Level::default(), payload)
    }

    fn enter_from(
        &self,
        source: Source<'_>,
        level: &Level,
        payload: &[u8],
    ) -> Result<Leave, Fault> {
        let depth = self.depth.get() + 1;
        if depth > MAX_DEPTH {
            return Err(Fault::Unavailable {
                reason: format!("the request is nested more than {MAX_DEPTH} levels deep"),
                retry_after: 1,
            });
        }
        let rid = level.rid();
        if let Some(entry) = &level.entry {
            entry.met.set(true);
        }
        self.on_channel(|channel, guard| {
            if channel.try_send(Kind::Enter, 0, depth, rid, &[payload])? {
                self.offer();
                return Ok(());
            }
            // Larger than the ring: the worker must be reading while it is written.
            self.offer();
            channel.send(Kind::Enter, 0, depth, rid, &[payload], guard)
        })?;
        self.depth.set(depth);
        let outer = self.rid.replace(rid);
        if depth == 1 {
            self.entered.set(Instant::now());
            self.channel.borrow_mut().set_first_slice(Some(FIRST_LOOK));
        }
        let result = self.serve(source, level, depth);
        self.rid.set(outer);
        if let (Ok(leave), Some(entry), None) = (&result, &level.entry, &level.filter) {
            // What was written last goes out while Python that runs meanwhile can still find this conversation.
            if level.is_content && leave.result == 0 {
                body::finish(self, entry);
                if entry.output.promise.is_broken() {
                    body::break_off(entry);
                }
            } else if leave.result > 0 && entry.output.is_unsent() {
                // The page of that status takes the place of what nobody has asked to be sent yet.
                body::drop_gathered(entry);
            } else {
                body::pass(self, entry, false);
            }
        }
        self.depth.set(depth - 1);
        result
    }

    fn offer(&self) {
        if !self.offered.replace(true) {
            self.taken.set(self.pool.taken());
            self.pool.region().offer(self.lane, self.to);
            self.pool.ring(self.to.map(|o| o.slot));
        }
    }

    fn serve(&self, source: Source<'_>, level: &Level, depth: u16) -> Result<Leave, Fault> {
        let mut buffer = Vec::new();
        loop {
            let next = self.on_channel(|channel, _| channel.try_recv())?;
            let header = if let Some(header) = next {
                header
            } else {
                // Nothing more to batch with: what asked to be flushed goes out before we wait.
                if let Some(entry) = &level.entry
                    && entry.output.wants_flush()
                {
                    match self.on_channel(|c, _| a_moment(c))? {
                        Some(header) => {
                            match self.frame(source, level, depth, header, &mut buffer)? {
                                Some(leave) => return Ok(leave),
                                None => continue,
                            }
                        }
                        None => body::pass(self, entry, true),
                    }
                }
                let header = self.on_channel(|channel, guard| channel.recv(guard))?;
                self.channel.borrow_mut().set_first_slice(None);
                header
            };
            if let Some(leave) = self.frame(source, level, depth, header, &mut buffer)? {
                return Ok(leave);
            }
        }
    }

    /// Handles one frame; `Some` when the phase is over.
    fn frame(
        &self,
        source: Source<'_>,
        level: &Level,
        depth: u16,
        header: Header,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Leave>, Fault> {
        if header.depth != depth {
            return Err(self.broken(format!("a frame of depth {} at depth {depth}", header.depth)));
        }
        match header.kind {
            Kind::Leave => {
                self.payload(buffer)?;
                let leave: Leave =
                    codec::decode(buffer).map_err(|e| self.broken(format!("Leave: {e}")))?;
                if depth == 1 {
                    self.finished.set(true);
                }
                Ok(Some(leave))
            }
            Kind::Body => {
                match source {
                    Source::Tree(tree) => body::write(self, tree, level, header)?,
                    // There is nobody left to send it to.
                    Source::After(_) | Source::Connection(_) => {
                        self.payload(buffer)?;
                        if header.flags & BODY_SYNC != 0 {
                            let text = body::CLIENT_GONE;
                            self.reply(header, &Reply::Error { kind: ErrorKind::Io, text })?;
                        }
                    }
                }
                Ok(None)
            }
            Kind::Changes => {
                self.payload(buffer)?;
                if let Source::Tree(tree) = source {
                    let entry = self.entry(tree, header.rid)?;
                    // The head as it is now goes with it.
                    if !entry.output.begun() {
                        body::settle(self, &entry);
                    }
                    if let Err(e) = calls::apply_changes(self, level, &entry, buffer) {
                        return Err(self.broken(format!("Changes: {e}")));
                    }
                }
                Ok(None)
            }
            Kind::Call => {
                self.payload(buffer)?;
                let call: Call<'_> =
                    codec::decode(buffer).map_err(|e| self.broken(format!("Call: {e}")))?;
                match source {
                    Source::Tree(tree) => calls::answer(self, tree, level, header, call)?,
                    Source::After(after) => after.answer(self, header, &call)?,
                    Source::Connection(at) => connections::answer(self, at, header, &call)?,
                }
                Ok(None)
            }
            Kind::Enter | Kind::Reply | Kind::Data => {
                Err(self.broken(format!("a frame of kind {:?} from a worker", header.kind)))
            }
        }
    }

    /// A protocol error of the worker.
    pub(crate) fn broken(&self, what: String) -> Fault {
        self.fail(Fault::Broken(what))
    }

    /// The request that a frame names.
    pub(crate) fn entry(&self, tree: &Tree, rid: u32) -> Result<Rc<Entry>, Fault> {
        let entry = tree.entry(rid).ok_or_else(|| {
            self.broken(format!("a frame names request {rid}, which is not in the tree"))
        })?;
        // What is another tenant's is not in what this one was told: it has guessed the number.
        if rid != self.rid.get()
            && let (Some(policy), Some(r)) = (self.pool.tenant().confined(), entry.request())
            && !(View { tenant: self.pool.tenant().name(), policy: &policy }).owns(r)
        {
            return Err(
                self.broken(format!("a frame names request {rid}, which is another tenant's"))
            );
        }
        entry.met.set(true);
        Ok(entry)
    }

    fn payload(&self, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        self.on_channel(|channel, guard| channel.read_payload(buffer, guard))
    }

    /// Reads exactly `to.len()` payload bytes of the current frame.
    pub(crate) fn read_into(&self, to: &mut [u8]) -> Result<(), Fault> {
        self.on_channel(|channel, guard| channel.read_exact(to, guard))
    }

    /// Where the current frame's payload lies, if all of it is there; see [`Channel::payload_places`].
    pub(crate) fn payload_places(&self) -> Result<Option<[(*const u8, usize); 2]>, Fault> {
        self.on_channel(|channel, _| Ok(channel.payload_places()?))
    }

    /// It has been copied by somebody else.
    pub(crate) fn skip_payload(&self) {
        self.channel.borrow_mut().skip_payload();
    }

    /// Reads `len` payload bytes of the current frame for nobody.
    pub(crate) fn skip(&self, mut len: usize) -> Result<(), Fault> {
        let mut nowhere = [0; 4096];
        while len > 0 {
            let n = len.min(nowhere.len());
            self.read_into(&mut nowhere[..n])?;
            len -= n;
        }
        Ok(())
    }

    /// Sends raw bytes that belong to the coming reply, and wakes the worker for them.
    pub(crate) fn send_data(&self, header: Header, data: &[u8]) -> Result<(), Fault> {
        self.on_channel(|channel, guard| {
            channel.send(Kind::Data, 0, header.depth, header.rid, &[data], guard)?;
            // The worker copies one part of a large body while the next is read from the client.
            let sent = self.unannounced.get() + data.len();
            if sent >= WAKE_EVERY {
                channel.wake();
            }
            self.unannounced.set(if sent >= WAKE_EVERY { 0 } else { sent });
            Ok(())
        })
    }

    /// Answers a call, or a synchronous body frame.
    pub(crate) fn reply(&self, header: Header, reply: &Reply<'_>) -> Result<(), Fault> {
        let bytes = codec::encode(reply)
            .or_else(|_| {
                codec::encode(&Reply::Error {
                    kind: vivarium_protocol::message::ErrorKind::Value,
                    text: b"the answer is too large",
                })
            })
            .unwrap_or_default();
        self.on_channel(|channel, guard| {
            channel.send(Kind::Reply, 0, header.depth, header.rid, &[&bytes], guard)?;
            channel.wake();
            Ok(())
        })
    }
}

/// Looks for a frame a few times before output is flushed: most handlers leave right after their last write, and then
/// body and end go out together.
fn a_moment(channel: &mut Channel) -> Result<Option<Header>, LaneError<Trouble>> {
    for _ in 0..6 {
        std::thread::yield_now();
        if let Some(header) = channel.try_recv()? {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let dead = matches!(*self.fault.borrow(), Some(Fault::Died(_)));
        // An offer that nobody took is taken back; from then on nobody can.
        let taken = self.offered.get() && !self.pool.region().withdraw(self.lane, self.to);
        match self.owner() {
            Some(owner) if taken && !dead && !self.finished.get() => {
                self.pool.quarantine(self.lane, owner);
            }
            _ => self.pool.free_lane(self.lane),
        }
    }
}
