//! A hostile peer: the worker's end of a region in the hands of an attacker, for tests, fuzzing and benches.
//!
//! A [`Hostile`] plays conversations on claimed lanes. What it does is chosen by a [`Mode`] and by a seed: the same
//! seed does the same things in the same order (what the host makes of them depends on timing, as in life). It can
//! answer properly, so that an attack comes in the middle of a conversation; send random bytes; send well-formed frames
//! with lying lengths, counts, depths and conversations; overwrite any word and any byte of the region; say nothing.
//!
//! It obeys no rule of this crate but one: it never waits longer than its caller's `go_on` allows.

mod lies;
mod raw;

use std::sync::Arc;

pub use self::lies::{honest_call, lying_payload};
use self::raw::Raw;
use crate::claim::Owner;
use crate::codec;
use crate::fields::Field;
use crate::frame::{self, HEADER_LEN, Header, Kind};
use crate::futex;
use crate::message::{Call, Change, Leave, LogScope, TableId};
use crate::region::Region;
use crate::ring::RingMemory;
use crate::sync::Ordering;
use crate::wire::Writer;

/// A small deterministic generator (xorshift64*). Not for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator for this seed.
    pub fn new(seed: u64) -> Self {
        // One step of splitmix64: near seeds give far states, and no seed gives the one bad state 0.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1)
    }
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }
    /// A number below `n` (0 if `n` is 0).
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next_u64() % n as u64) as usize }
    }
    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    /// One of the items, which must not be none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
    /// A number as attackers like them: small, huge, a power of two, one beside it, or anything.
    pub fn odd_u32(&mut self) -> u32 {
        let power = 1_u32 << self.below(32);
        match self.below(6) {
            0 => self.below(4) as u32,
            1 => u32::MAX - self.below(4) as u32,
            2 => power,
            3 => power.wrapping_sub(1),
            4 => power.wrapping_add(1),
            _ => self.next_u32(),
        }
    }
    /// Fills `to`.
    pub fn fill(&mut self, to: &mut [u8]) {
        for chunk in to.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
    /// Up to `most` random bytes.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut v = vec![0; self.below(most + 1)];
        self.fill(&mut v);
        v
    }
}

/// What a hostile peer does with a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Any of the others but [`Mode::Die`], chosen for each conversation.
    Mixed,
    /// Answers properly.
    Honest,
    /// Many well-formed frames with random contents, then a proper end.
    Chatter,
    /// Random bytes for frames.
    Random,
    /// Well-formed frames of which something is a lie.
    Lies,
    /// Overwrites words and bytes of the region between proper frames.
    Scribble,
    /// Frames without end.
    Flood,
    /// Takes the lane and says nothing.
    Silent,
    /// Answers half, then asks its caller to die ([`End::Die`]).
    Die,
    /// Names the tree's first request, whosever it is, in one frame of this kind, and tells the client if an answer comes.
    Foreign(Named),
}

/// The frame in which [`Mode::Foreign`] names a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// All that an `Enter` tells.
    Snapshot,
    /// Its headers.
    Table,
    /// One field.
    Field,
    /// A change to it.
    Change,
    /// A part of its answer.
    Body,
    /// A line in its log.
    Log,
    /// Its virtual host.
    Server,
    /// A redirect of it.
    Redirect,
    /// Its body.
    Read,
}

/// All modes by name, as in `VIVARIUM_HOSTILE_MODE`.
pub const MODES: &[(&str, Mode)] = &[
    ("mixed", Mode::Mixed),
    ("honest", Mode::Honest),
    ("chatter", Mode::Chatter),
    ("random", Mode::Random),
    ("lies", Mode::Lies),
    ("scribble", Mode::Scribble),
    ("flood", Mode::Flood),
    ("silent", Mode::Silent),
    ("die", Mode::Die),
    ("foreign.snapshot", Mode::Foreign(Named::Snapshot)),
    ("foreign.table", Mode::Foreign(Named::Table)),
    ("foreign.field", Mode::Foreign(Named::Field)),
    ("foreign.change", Mode::Foreign(Named::Change)),
    ("foreign.body", Mode::Foreign(Named::Body)),
    ("foreign.log", Mode::Foreign(Named::Log)),
    ("foreign.server", Mode::Foreign(Named::Server)),
    ("foreign.redirect", Mode::Foreign(Named::Redirect)),
    ("foreign.read", Mode::Foreign(Named::Read)),
];

impl Mode {
    /// The mode of a name.
    pub fn named(name: &str) -> Option<Self> {
        MODES.iter().find(|(n, _)| *n == name).map(|(_, mode)| *mode)
    }
}

/// How a conversation ended, as far as the hostile peer is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It sent its last `Leave` and gave the lane back.
    Left,
    /// It stopped talking in the middle.
    Vanished,
    /// `go_on` said no.
    Stopped,
    /// The process should die now.
    Die,
}

/// What to overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scribble {
    /// The region's header.
    Header,
    /// The ready bitmaps.
    Bitmaps,
    /// A lane's claim word.
    Claim,
    /// A lane's flags.
    Flags,
    /// The words that both sides sleep on.
    Words,
    /// A lane's four ring indices.
    Indices,
    /// Bytes in a lane's rings.
    Bytes,
    /// Anywhere.
    Anywhere,
}

const SCRIBBLES: [Scribble; 8] = [
    Scribble::Header,
    Scribble::Bitmaps,
    Scribble::Claim,
    Scribble::Flags,
    Scribble::Words,
    Scribble::Indices,
    Scribble::Bytes,
    Scribble::Anywhere,
];

/// A hostile worker thread.
#[derive(Debug)]
pub struct Hostile {
    region: Arc<Region>,
    me: Owner,
    rng: Rng,
    mode: Mode,
    acts: u64,
}

impl Hostile {
    /// A hostile peer on the worker's side of `region`, which passes itself off as `me`.
    pub fn new(region: Arc<Region>, me: Owner, seed: u64, mode: Mode) -> Self {
        Self { region, me, rng: Rng::new(seed), mode, acts: 0 }
    }

    /// How many frames were sent and scribbles made so far.
    pub fn acts(&self) -> u64 {
        self.acts
    }

    /// The region.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Overwrites something on `lane`, or of the region as a whole, with random or odd values.
    pub fn scribble(&mut self, what: Scribble, lane: u32) {
        self.acts += 1;
        let (mapping, rng) = (self.region.mapping(), &mut self.rng);
        let mut blot = |from: usize, len: usize, most: usize| {
            let junk = rng.bytes(most.min(len));
            mapping.copy_in(from + rng.below(len - junk.len() + 1), &junk);
        };
        match what {
            Scribble::Header => blot(0, 64, 64),
            Scribble::Bitmaps => {
                let (from, to) = Region::BITMAP_BYTES;
                blot(from, to - from, 512);
            }
            Scribble::Bytes => {
                let g = self.region.geometry();
                let from = self.region.lane_bytes(lane);
                blot(from, g.to_guest as usize + g.to_host as usize, 4096);
            }
            Scribble::Anywhere => blot(0, mapping.len(), 4096),
            Scribble::Claim => {
                let word = match rng.below(4) {
                    0 => 0,
                    1 => (1 + rng.below(3) as u32) << 24 | (rng.next_u32() & 0x003f_ffff),
                    _ => rng.odd_u32(),
                };
                self.region.claim_word(lane).store(word, Ordering::Relaxed);
            }
            Scribble::Flags => self.region.flags(lane).store(rng.odd_u32(), Ordering::Relaxed),
            Scribble::Words => {
                let word = rng.pick(&[0, 1, 2, 3, u32::MAX]);
                if rng.one_in(2) {
                    self.region.host_word(lane).store(word, Ordering::Relaxed);
                } else {
                    self.region.guest_word(lane).store(word, Ordering::Relaxed);
                }
            }
            Scribble::Indices => {
                let ring = if rng.one_in(2) {
                    self.region.to_host(lane)
                } else {
                    self.region.to_guest(lane)
                };
                let index = if rng.one_in(2) { ring.head() } else { ring.tail() };
                let near = index.load(Ordering::Relaxed).wrapping_add(rng.odd_u32());
                let value = if rng.one_in(2) { near } else { rng.odd_u32() };
                index.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Makes sure that httpd's thread on `lane` sees something impossible at once, whatever it waits for: both rings'
    /// indices far from the truth, and a wake. For the end of a conversation that httpd would wait in for ever.
    pub fn spoil(&mut self, lane: u32) {
        self.acts += 1;
        for index in [self.region.to_host(lane).tail(), self.region.to_guest(lane).head()] {
            index.fetch_add(1 << 31, Ordering::Relaxed);
        }
        futex::wake_always(self.region.host_word(lane));
    }

    /// Plays one conversation on a lane that is (said to be) claimed. `go_on` is asked again and again; when it says
    /// no, the conversation is left as it is.
    pub fn converse(&mut self, lane: u32, go_on: &dyn Fn() -> bool) -> End {
        let mode = match self.mode {
            Mode::Mixed => match self.rng.below(128) {
                0 => Mode::Silent,
                1 => Mode::Flood,
                2..20 => Mode::Honest,
                20..44 => Mode::Chatter,
                44..72 => Mode::Random,
                72..100 => Mode::Lies,
                _ => Mode::Scribble,
            },
            mode => mode,
        };
        let mut raw = Raw::new(&self.region, lane);
        if mode == Mode::Silent {
            while go_on() {
                raw.nap();
            }
            return End::Stopped;
        }
        // Whatever the first frame says, its conversation number is the one to lie about.
        let Some(enter) = raw.recv(go_on) else { return End::Stopped };
        raw.conversation = enter.conversation;
        let honest_end = match mode {
            Mode::Honest => self.answer(&mut raw, enter.rid, go_on),
            Mode::Chatter => self.chatter(&mut raw, enter.rid, go_on),
            Mode::Flood => self.flood(&mut raw, enter.rid, go_on),
            Mode::Foreign(named) => self.foreign(named, &mut raw, enter.rid, go_on),
            Mode::Die => {
                let _ = self.answer(&mut raw, enter.rid, go_on);
                return End::Die;
            }
            mode => self.misbehave(mode, &mut raw, enter.rid, go_on),
        };
        match honest_end {
            None => End::Stopped,
            Some(false) => End::Vanished,
            Some(true) => self.leave(&mut raw, enter.rid, go_on),
        }
    }

    fn send(&mut self, raw: &mut Raw, header: Header, payload: &[u8], go_on: Go<'_>) -> bool {
        self.acts += 1;
        raw.send(&header.encode(), go_on) && raw.send(payload, go_on) && raw.publish()
    }

    /// Sends a call and reads its reply; true when the reply (or an `Enter` in its place) is there.
    fn call(&mut self, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> bool {
        let payload = honest_call(&mut self.rng);
        let header = raw.header(Kind::Call, rid, payload.len());
        self.send(raw, header, &payload, go_on) && raw.recv_reply(go_on)
    }

    /// A proper answer, up to the `Leave`. `None`: stopped.
    fn answer(&mut self, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> Option<bool> {
        let mut changes = Vec::new();
        Change::Set(TableId::HeadersOut, b"X-Hostile", b"not yet")
            .write(&mut Writer::new(&mut changes));
        let text = b"honest so far\n".repeat(1 + self.rng.below(200));
        let header = raw.header(Kind::Changes, rid, changes.len());
        let body = raw.header(Kind::Body, rid, text.len());
        (self.send(raw, header, &changes, go_on)
            && self.call(raw, rid, go_on)
            && self.send(raw, body, &text, go_on))
        .then_some(true)
    }

    /// Names request 0, then answers its own. The first request of a tree is itself, or one that it was redirected from.
    fn foreign(&mut self, named: Named, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> Option<bool> {
        let call = match named {
            Named::Snapshot => Some(Call::Snapshot),
            Named::Table => Some(Call::Table(TableId::HeadersIn)),
            Named::Field => Some(Call::Field(Field::TheRequest as u8)),
            Named::Log => Some(Call::Log { scope: LogScope::Request, level: 3, text: b"foreign" }),
            Named::Server => Some(Call::Server(0)),
            Named::Redirect => Some(Call::InternalRedirect(b"/foreign")),
            Named::Read => Some(Call::Read(None)),
            Named::Change | Named::Body => None,
        };
        let (kind, payload) = match &call {
            Some(call) => (Kind::Call, codec::encode(call).unwrap_or_default()),
            None if named == Named::Body => (Kind::Body, b"foreign".to_vec()),
            None => {
                let mut out = Vec::new();
                Change::Set(TableId::HeadersOut, b"X-Foreign", b"1")
                    .write(&mut Writer::new(&mut out));
                (Kind::Changes, out)
            }
        };
        let header = raw.header(kind, 0, payload.len());
        let mut ok = self.send(raw, header, &payload, go_on);
        if call.is_some() {
            ok = ok && raw.recv_reply(go_on);
        }
        let text = b"named and went on";
        let body = raw.header(Kind::Body, rid, text.len());
        (ok && self.send(raw, body, text, go_on)).then_some(true)
    }

    fn chatter(&mut self, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> Option<bool> {
        for _ in 0..self.rng.below(400) {
            let ok = match self.rng.below(4) {
                0 => self.call(raw, rid, go_on),
                1 => {
                    let changes = lies::changes(&mut self.rng);
                    let header = raw.header(Kind::Changes, rid, changes.len());
                    self.send(raw, header, &changes, go_on)
                }
                _ => {
                    let body = self.rng.bytes(300);
                    let mut header = raw.header(Kind::Body, rid, body.len());
                    let sync = self.rng.one_in(8);
                    header.flags = if sync { frame::BODY_SYNC } else { frame::BODY_FLUSH };
                    self.send(raw, header, &body, go_on) && (!sync || raw.recv_reply(go_on))
                }
            };
            if !ok || !go_on() {
                return None;
            }
        }
        Some(true)
    }

    fn flood(&mut self, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> Option<bool> {
        // Counts once, however long it lasts.
        let bytes = raw.header(Kind::Body, rid, 0).encode();
        self.acts += 1;
        while raw.send(&bytes, go_on) && raw.publish() {}
        None
    }

    /// Steps of attack between proper ones. `Some(true)`: end properly.
    fn misbehave(&mut self, mode: Mode, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> Option<bool> {
        for _ in 0..=self.rng.below(24) {
            if !go_on() {
                return None;
            }
            let ok = match (mode, self.rng.below(4)) {
                (_, 0) => {
                    let body = self.rng.bytes(2000);
                    let header = raw.header(Kind::Body, rid, body.len());
                    self.send(raw, header, &body, go_on)
                }
                (Mode::Random, 1) => {
                    self.acts += 1;
                    let junk = self.rng.bytes(3 * HEADER_LEN);
                    raw.send(&junk, go_on) && raw.publish()
                }
                (Mode::Random, _) => self.random_payload(raw, rid, go_on),
                (Mode::Lies, _) => self.lie(raw, rid, go_on),
                (_, n) => {
                    for _ in 0..n {
                        let lanes = self.region.geometry().lanes as usize;
                        let other = self.rng.one_in(8);
                        let lane = if other { self.rng.below(lanes) as u32 } else { raw.lane() };
                        let what = self.rng.pick(&SCRIBBLES);
                        self.scribble(what, lane);
                    }
                    raw.wake();
                    !self.rng.one_in(4) || self.call(raw, rid, go_on)
                }
            };
            if !ok {
                return None;
            }
        }
        Some(!self.rng.one_in(3))
    }

    /// A true header, and a payload of the right length that is noise.
    fn random_payload(&mut self, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> bool {
        let payload = self.rng.bytes(600);
        let kind = self.rng.pick(&[Kind::Call, Kind::Changes, Kind::Body, Kind::Leave]);
        let mut header = raw.header(kind, rid, payload.len());
        header.flags = self.rng.next_u32() as u8;
        self.send(raw, header, &payload, go_on)
    }

    /// A frame that would be well-formed, but for one thing.
    fn lie(&mut self, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> bool {
        let (kind, payload) = lying_payload(&mut self.rng);
        let mut bytes = raw.header(kind, rid, payload.len()).encode();
        let odd = self.rng.odd_u32().to_le_bytes();
        match self.rng.below(12) {
            0 => bytes[0..4].copy_from_slice(&odd),
            1 => bytes[4] = odd[0],
            2 => bytes[5] = odd[0],
            3 => bytes[6..8].copy_from_slice(&odd[..2]),
            4 => bytes[8..12].copy_from_slice(&odd),
            5 => bytes[12..16].copy_from_slice(&odd),
            6 => {
                // A header that promises what never comes.
                self.acts += 1;
                return raw.send(&bytes[..self.rng.below(HEADER_LEN)], go_on) && raw.publish();
            }
            _ => {}
        }
        self.acts += 1;
        raw.send(&bytes, go_on) && raw.send(&payload, go_on) && raw.publish()
    }

    fn leave(&mut self, raw: &mut Raw, rid: u32, go_on: Go<'_>) -> End {
        let leave = Leave { result: 0, keep: false, cleanups: false };
        let Ok(payload) = codec::encode(&leave) else { return End::Vanished };
        let header = raw.header(Kind::Leave, rid, payload.len());
        self.acts += 1;
        if !raw.send(&header.encode(), go_on) || !raw.send(&payload, go_on) {
            return End::Stopped;
        }
        self.region.release(raw.lane(), self.me);
        raw.publish();
        End::Left
    }
}

type Go<'a> = &'a dyn Fn() -> bool;

#[cfg(test)]
mod tests;
