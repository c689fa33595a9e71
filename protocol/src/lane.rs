//! One lane as a channel of frames, seen from either side.
//!
//! A [`Channel`] is one end of a lane for the length of one conversation. Sending stages a whole frame when it fits and
//! streams it through the ring when it is larger; receiving reads a checked header, then the payload in whatever
//! pieces the caller likes. Every wait goes through [`futex::wait`] and asks a [`Guard`] at least once a slice whether
//! waiting still makes sense.
//!
//! Wakes are lazy: [`Channel::send`] publishes, [`Channel::wake`] wakes the peer if it sleeps. A send that has to wait
//! for room, and any receive that has to wait, wakes by itself first.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{HEADER_LEN, Header, HeaderError, Kind};
use crate::futex::{self, Patience, SleepFor, Waited};
use crate::region::{Owner, Region};
use crate::ring::{BadIndex, Consumer, Producer};
use crate::shm::ShmRing;
use crate::sync::AtomicU32;

/// Whether a thread should go on waiting for its peer.
///
/// A flag that a guard looks at is noticed at once if whoever sets it then calls [`futex::wake_always`] on the waiting
/// side's word; otherwise when the slice is over.
pub trait Guard {
    /// Why waiting has no more sense.
    type Stop;
    /// Called before every wait, once more after the sleep was announced, after every sleep, and every few frames
    /// of a peer that never lets us wait.
    ///
    /// # Errors
    /// The reason to stop. What the peer published before it died is still received: see [`Channel::recv`].
    fn check(&mut self) -> Result<(), Self::Stop>;
    /// How much the peer has got done for whomever it works, if that is known: a count that may wrap. See
    /// [`crate::polling`].
    fn done(&self) -> u32 {
        0
    }
}

/// Why a channel operation failed. After any of these the conversation is over for this side.
#[derive(Debug, thiserror::Error)]
pub enum LaneError<S> {
    /// The peer published an impossible index.
    #[error(transparent)]
    Index(#[from] BadIndex),
    /// The peer sent an impossible header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The guard said stop.
    #[error("interrupted")]
    Stopped(S),
    /// Our own frame is longer than its kind allows.
    #[error("a frame of {0} bytes is over the limit")]
    TooLong(usize),
}

/// Which end of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The httpd thread.
    Host,
    /// The worker thread.
    Guest,
}

/// One end of a lane during one conversation.
#[derive(Debug)]
pub struct Channel {
    region: Arc<Region>,
    lane: u32,
    side: Side,
    conversation: u32,
    tx: Producer<ShmRing>,
    rx: Consumer<ShmRing>,
    /// Payload bytes of the current frame that have not been read yet.
    unread: u32,
    /// Something was published that the peer was not woken for.
    unannounced: bool,
    patience: Patience,
    /// The first sleep of a wait is this long at most, the next ones each twice as long.
    first_slice: Option<Duration>,
    /// Headers received.
    frames: u32,
    /// Our index in the receiving ring when the guard first said stop.
    stopped_at: Option<u32>,
}

/// The guard is asked after this many frames even if there was nothing to wait for.
const GUARD_EVERY: u32 = 64;
/// After this many looks in a row for which nothing had changed, waiting slows down.
const FRUITLESS: u32 = 64;
/// How long a wait that was woken for nothing too often naps before the next look.
const NAP: Duration = Duration::from_millis(1);
/// Where waits are short, polling may take this many times [`Patience::poll`].
const POLL_FACTOR: u32 = 5;
/// A payload buffer grows in steps of this, as the bytes arrive: a claimed length alone costs nothing.
const STEP: usize = 64 << 10;

impl Channel {
    fn new(region: Arc<Region>, lane: u32, side: Side, conversation: u32) -> Self {
        let (to_guest, to_host) = (region.to_guest(lane), region.to_host(lane));
        let (tx, rx) = match side {
            Side::Host => (to_guest, to_host),
            Side::Guest => (to_host, to_guest),
        };
        Self {
            tx: Producer::new(tx, 0),
            rx: Consumer::new(rx, 0),
            region,
            lane,
            side,
            conversation,
            unread: 0,
            unannounced: false,
            patience: Patience::default(),
            first_slice: None,
            frames: 0,
            stopped_at: None,
        }
    }

    /// httpd: begins a conversation on an idle lane: resets it; send `Enter`, then [`Region::offer`].
    pub fn host(region: Arc<Region>, lane: u32, conversation: u32) -> Self {
        region.reset(lane);
        Self::new(region, lane, Side::Host, conversation)
    }

    /// Worker: takes up the conversation of a lane it has claimed. The conversation number is learned from the first
    /// frame, which must be an `Enter`.
    pub fn guest(region: Arc<Region>, lane: u32) -> Self {
        Self::new(region, lane, Side::Guest, 0)
    }

    /// The region.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
    /// The lane's number.
    pub fn lane(&self) -> u32 {
        self.lane
    }
    /// The conversation's number.
    pub fn conversation(&self) -> u32 {
        self.conversation
    }
    /// Sets how long to poll and to sleep.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Sets how long the first sleep of a wait may be; each further one may be twice as long, up to the slice.
    pub fn set_first_slice(&mut self, first: Option<Duration>) {
        self.first_slice = first;
    }

    fn peer_word(&self) -> &AtomicU32 {
        match self.side {
            Side::Host => self.region.guest_word(self.lane),
            Side::Guest => self.region.host_word(self.lane),
        }
    }

    /// Wakes the peer if it sleeps and anything was published since the last wake.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            futex::wake(self.peer_word(), SleepFor::Data);
        }
    }

    fn header(&self, kind: Kind, flags: u8, depth: u16, rid: u32, len: usize) -> [u8; HEADER_LEN] {
        let conversation = self.conversation;
        Header { len: len as u32, kind, flags, depth, conversation, rid }.encode()
    }

    /// Sends a frame if all of it fits the ring now; false (and nothing sent) if not. Never waits, never wakes.
    ///
    /// # Errors
    /// [`BadIndex`].
    pub fn try_send(
        &mut self,
        kind: Kind,
        flags: u8,
        depth: u16,
        rid: u32,
        parts: &[&[u8]],
    ) -> Result<bool, BadIndex> {
        let staged = self.try_stage(kind, flags, depth, rid, parts)?;
        if staged {
            self.publish();
        }
        Ok(staged)
    }

    /// [`Channel::try_send`] without making the frame visible yet: call [`Channel::publish`].
    ///
    /// # Errors
    /// [`BadIndex`].
    pub fn try_stage(
        &mut self,
        kind: Kind,
        flags: u8,
        depth: u16,
        rid: u32,
        parts: &[&[u8]],
    ) -> Result<bool, BadIndex> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        let need = len.saturating_add(HEADER_LEN);
        if len > kind.max_len() || need > self.tx.capacity() as usize {
            return Ok(false);
        }
        if (self.tx.space(need as u32)? as usize) < need {
            return Ok(false);
        }
        let header = self.header(kind, flags, depth, rid, len);
        self.tx.stage(&header)?;
        for part in parts {
            self.tx.stage(part)?;
        }
        Ok(true)
    }

    /// Makes staged frames visible to the peer, without waking it.
    pub fn publish(&mut self) {
        self.unannounced |= self.tx.publish();
    }

    /// Sends a frame, waiting for room as often as needed. Does not wake the peer at the end: see [`Channel::wake`].
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn send<G: Guard>(
        &mut self,
        kind: Kind,
        flags: u8,
        depth: u16,
        rid: u32,
        parts: &[&[u8]],
        guard: &mut G,
    ) -> Result<(), LaneError<G::Stop>> {
        if self.try_send(kind, flags, depth, rid, parts)? {
            return Ok(());
        }
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if len > kind.max_len() {
            return Err(LaneError::TooLong(len));
        }
        let header = self.header(kind, flags, depth, rid, len);
        self.stream(&header, guard)?;
        for part in parts {
            self.stream(part, guard)?;
        }
        self.publish();
        Ok(())
    }

    fn stream<G: Guard>(
        &mut self,
        mut bytes: &[u8],
        guard: &mut G,
    ) -> Result<(), LaneError<G::Stop>> {
        while !bytes.is_empty() {
            let n = self.tx.stage(bytes)?;
            bytes = &bytes[n..];
            if n == 0 {
                self.publish();
                self.wake();
                // Wait for a good part of the ring, so that a large body moves in few wake-ups.
                self.wait_for(SleepFor::Room, self.tx.capacity() / 2, guard)?;
            }
        }
        Ok(())
    }

    /// How many bytes there are of what we wait for.
    fn level(&mut self, what: SleepFor, want: u32) -> Result<u32, BadIndex> {
        match what {
            SleepFor::Data => self.rx.available(want),
            SleepFor::Room => self.tx.space(want),
        }
    }

    /// Waits until `want` bytes can be read or written.
    fn wait_for<G: Guard>(
        &mut self,
        what: SleepFor,
        want: u32,
        guard: &mut G,
    ) -> Result<(), LaneError<G::Stop>> {
        // The word lives as long as the region; the clone lets the closure borrow the rings mutably.
        let region = Arc::clone(&self.region);
        let word = match self.side {
            Side::Host => region.host_word(self.lane),
            Side::Guest => region.guest_word(self.lane),
        };
        let Patience { poll, slice: longest } = self.patience;
        let mut slice = self.first_slice.unwrap_or(longest).min(longest);
        let habit = region.habit(self.side, what);
        let mut wait = habit.begin(poll.saturating_mul(POLL_FACTOR), guard.done());
        let (mut level, mut fruitless) = (0, 0);
        loop {
            let checked = guard.check().map_err(LaneError::Stopped);
            let guard = RefCell::new(&mut *guard);
            let waited = checked.and_then(|()| {
                let ready = || Ok(self.level(what, want)? >= want);
                futex::poll_and_sleep(
                    word,
                    what,
                    slice,
                    || wait.yield_once(|| guard.borrow().done()),
                    ready,
                    || guard.borrow_mut().check().map_err(LaneError::Stopped),
                )
            });
            wait.saw(guard.borrow().done());
            match waited {
                Ok(Waited::Ready) => return Ok(()),
                Ok(Waited::Look) => {}
                Err(LaneError::Stopped(stop)) => {
                    // What it wrote before it died may have come after our last look.
                    let there = what == SleepFor::Data && self.level(what, want)? >= want;
                    return if there && self.may_drain() {
                        Ok(())
                    } else {
                        Err(LaneError::Stopped(stop))
                    };
                }
                Err(error) => return Err(error),
            }
            // Polling is for the first moments only.
            wait.stop_polling();
            slice = (slice * 2).min(longest);
            // A peer that keeps changing our word, or keeps waking us, gets us to look but not to spin.
            let now = self.level(what, want)?;
            fruitless = if now == level { fruitless + 1 } else { 0 };
            level = now;
            if fruitless >= FRUITLESS {
                fruitless = FRUITLESS;
                std::thread::sleep(NAP);
            }
        }
    }

    /// After the guard said stop: whether what is in the ring may be what the peer wrote before it died, which is one
    /// ring full at most.
    fn may_drain(&mut self) -> bool {
        let now = self.rx.position();
        let since = *self.stopped_at.get_or_insert(now);
        now.wrapping_sub(since) <= self.rx.capacity()
    }

    /// Gives room back to the peer, and wakes it if it waits for that and half of the ring is free: a body then moves in
    /// few wake-ups. Who reads on gets there; who does not read on leaves the peer waiting, as it should.
    fn give_back(&mut self) {
        if (self.unread == 0 || self.rx.unreleased() >= self.rx.capacity() / 4)
            && self.rx.release()
            && self.rx.mostly_read()
        {
            futex::wake(self.peer_word(), SleepFor::Room);
        }
    }

    /// The next header if it is there; never waits. All of the last frame's payload must have been read.
    ///
    /// # Errors
    /// [`LaneError::Index`], [`LaneError::Header`].
    pub fn try_recv<S>(&mut self) -> Result<Option<Header>, LaneError<S>> {
        debug_assert_eq!(self.unread, 0, "a payload was left unread");
        if (self.rx.available(HEADER_LEN as u32)? as usize) < HEADER_LEN {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_LEN];
        self.rx.pull(&mut bytes)?;
        if self.side == Side::Guest && self.conversation == 0 {
            self.conversation = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        }
        let header = Header::decode(&bytes, self.side == Side::Guest, self.conversation)?;
        self.unread = header.len;
        if header.len == 0 {
            self.give_back();
        }
        Ok(Some(header))
    }

    /// The next header; wakes the peer for what it was sent, then waits.
    ///
    /// When the guard says stop, what is in the ring already is still received, up to one ring full: a peer that sends
    /// its last frame and ends loses nothing, and one that never stops sending is cut off.
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn recv<G: Guard>(&mut self, guard: &mut G) -> Result<Header, LaneError<G::Stop>> {
        self.frames = self.frames.wrapping_add(1);
        if self.frames.is_multiple_of(GUARD_EVERY)
            && let Err(stop) = guard.check()
            && !self.may_drain()
        {
            return Err(LaneError::Stopped(stop));
        }
        loop {
            if let Some(header) = self.try_recv()? {
                return Ok(header);
            }
            self.publish();
            self.wake();
            self.wait_for(SleepFor::Data, HEADER_LEN as u32, guard)?;
        }
    }

    /// How many payload bytes of the current frame are still to be read.
    pub fn unread(&self) -> usize {
        self.unread as usize
    }

    /// Reads up to `to.len()` payload bytes that are there already; returns how many. Never waits.
    ///
    /// # Errors
    /// [`BadIndex`].
    pub fn try_read(&mut self, to: &mut [u8]) -> Result<usize, BadIndex> {
        let n = to.len().min(self.unread as usize);
        let n = self.rx.pull(&mut to[..n])?;
        self.unread -= n as u32;
        self.give_back();
        Ok(n)
    }

    /// Where the rest of the current frame's payload lies in the ring, if all of it is there: up to two pieces, an address
    /// and a length in bytes each. They are the peer's to change at any time, and good until [`Channel::skip_payload`].
    ///
    /// # Errors
    /// [`BadIndex`].
    pub fn payload_places(&mut self) -> Result<Option<[(*const u8, usize); 2]>, BadIndex> {
        self.rx.places(self.unread)
    }

    /// Counts the payload that [`Channel::payload_places`] found as read, and gives its room back.
    pub fn skip_payload(&mut self) {
        self.unread -= self.rx.skip(self.unread);
        self.give_back();
    }

    /// Fills `to` with payload bytes (at most [`Channel::unread`] of them), waiting as needed.
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn read_exact<G: Guard>(
        &mut self,
        mut to: &mut [u8],
        guard: &mut G,
    ) -> Result<(), LaneError<G::Stop>> {
        debug_assert!(to.len() <= self.unread as usize);
        while !to.is_empty() {
            let n = self.try_read(to)?;
            to = &mut to[n..];
            if n == 0 {
                self.publish();
                self.wake();
                if self.rx.release() {
                    futex::wake(self.peer_word(), SleepFor::Room);
                }
                self.wait_for(SleepFor::Data, 1, guard)?;
            }
        }
        Ok(())
    }

    /// Replaces the contents of `buffer` by the rest of the current frame's payload.
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn read_payload<G: Guard>(
        &mut self,
        buffer: &mut Vec<u8>,
        guard: &mut G,
    ) -> Result<(), LaneError<G::Stop>> {
        buffer.clear();
        while self.unread > 0 {
            let at = buffer.len();
            buffer.resize(at + (self.unread as usize).min(STEP), 0);
            self.read_exact(&mut buffer[at..], guard)?;
        }
        Ok(())
    }

    /// Reads the rest of the current frame's payload and forgets it.
    ///
    /// # Errors
    /// [`LaneError`].
    pub fn discard_payload<G: Guard>(&mut self, guard: &mut G) -> Result<(), LaneError<G::Stop>> {
        let mut waste = [0; 4096];
        while self.unread > 0 {
            let len = waste.len().min(self.unread as usize);
            self.read_exact(&mut waste[..len], guard)?;
        }
        Ok(())
    }

    /// Worker: sends the last `Leave`, waiting for room if needed, and ends the conversation as [`Channel::leave`] does.
    ///
    /// # Errors
    /// [`LaneError`]; then the lane has not been given back.
    pub fn finish<G: Guard>(
        mut self,
        rid: u32,
        leave: &[u8],
        me: Owner,
        guard: &mut G,
    ) -> Result<(), LaneError<G::Stop>> {
        let need = leave.len().saturating_add(HEADER_LEN);
        if need > self.tx.capacity() as usize {
            return Err(LaneError::TooLong(leave.len()));
        }
        while !self.try_stage(Kind::Leave, 0, 1, rid, &[leave])? {
            self.publish();
            self.wake();
            self.wait_for(SleepFor::Room, need as u32, guard)?;
        }
        self.leave(me);
        Ok(())
    }

    /// Worker: ends the conversation: releases the lane, makes the last frame (staged, not published) visible, wakes.
    /// The lane must not be released after its last frame became visible: httpd may have offered it again by then.
    pub fn leave(mut self, me: Owner) {
        self.rx.release();
        self.region.release(self.lane, me);
        self.publish();
        self.wake();
    }
}

#[cfg(test)]
mod tests;
