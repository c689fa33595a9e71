//! A million hostile frames and scribbles against the host's end of the lanes: every error typed, nothing hangs.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::*;
use crate::codec::CodecError;
use crate::frame::HeaderError;
use crate::futex::{self, Patience};
use crate::lane::{Channel, Guard, LaneError};
use crate::message::{Call, Reply};
use crate::region::{Geometry, MAX_WORKERS};
use crate::testing::Watchdog;
use crate::wire::{Reader, WireError};

const ME: Owner = Owner { slot: 3, epoch: 7 };

#[test]
fn the_same_seed_gives_the_same_numbers() {
    let (mut a, mut b, mut c) = (Rng::new(1), Rng::new(1), Rng::new(2));
    let first = a.bytes(1000);
    assert_eq!(first, b.bytes(1000));
    assert_ne!(first, c.bytes(1000));
    assert_ne!(Rng::new(0).next_u64(), 0);
    let mut seen = [false; 5];
    for _ in 0..200 {
        seen[a.below(5)] = true;
    }
    assert_eq!((seen, a.below(0)), ([true; 5], 0));
    for (name, mode) in MODES {
        assert_eq!(Mode::named(name), Some(*mode));
    }
    assert_eq!(Mode::named("polite"), None);
}

/// Why the host's side of a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Left,
    Index,
    Kind,
    Length,
    Depth,
    Conversation,
    Codec,
    Changes,
    BadDepth,
    Stopped,
}

/// Says stop when the peer has given up, or when the conversation has been going on for long enough.
struct Patient<'a> {
    peer_gone: &'a AtomicBool,
    until: Instant,
}

impl Guard for Patient<'_> {
    type Stop = ();
    fn check(&mut self) -> Result<(), ()> {
        let over = self.peer_gone.load(std::sync::atomic::Ordering::Acquire);
        if over || Instant::now() >= self.until { Err(()) } else { Ok(()) }
    }
}

impl From<LaneError<()>> for Fate {
    fn from(error: LaneError<()>) -> Self {
        match error {
            LaneError::Index(_) => Self::Index,
            LaneError::Header(HeaderError::Kind(_)) => Self::Kind,
            LaneError::Header(HeaderError::Length { .. }) => Self::Length,
            LaneError::Header(HeaderError::Depth(_)) => Self::Depth,
            LaneError::Header(HeaderError::Conversation { .. }) => Self::Conversation,
            LaneError::Stopped(()) => Self::Stopped,
            LaneError::TooLong(n) => panic!("our own frame of {n} bytes is too long"),
        }
    }
}

impl From<WireError> for Fate {
    fn from(_: WireError) -> Self {
        Self::Changes
    }
}

impl From<CodecError> for Fate {
    fn from(_: CodecError) -> Self {
        Self::Codec
    }
}

/// Serves a lane as httpd does, with answers of random size.
fn serve(
    channel: &mut Channel,
    guard: &mut Patient<'_>,
    rng: &mut Rng,
    frames: &AtomicU64,
) -> Result<(), Fate> {
    let mut payload = Vec::new();
    loop {
        let header = channel.recv(guard)?;
        frames.fetch_add(1, Ordering::Relaxed);
        if header.depth != 1 {
            return Err(Fate::BadDepth);
        }
        match header.kind {
            Kind::Body => channel.discard_payload(guard)?,
            kind => {
                channel.read_payload(&mut payload, guard)?;
                match kind {
                    Kind::Changes => {
                        let mut r = Reader::new(&payload);
                        while Change::read(&mut r)?.is_some() {}
                    }
                    Kind::Call => answer(channel, guard, rng, codec::decode(&payload)?)?,
                    _ => {
                        codec::decode::<Leave>(&payload)?;
                        return Ok(());
                    }
                }
                continue;
            }
        }
        if header.flags & frame::BODY_SYNC != 0 {
            reply(channel, guard, &Reply::Ok)?;
        }
    }
}

fn answer(
    channel: &mut Channel,
    guard: &mut Patient<'_>,
    rng: &mut Rng,
    call: Call<'_>,
) -> Result<(), Fate> {
    let bytes = vec![b'a'; rng.below(20_000)];
    match call {
        Call::Read(_) | Call::ReadSome(_) | Call::FilterRead(_) => {
            channel.send(Kind::Data, 0, 1, 0, &[&bytes], guard)?;
            reply(channel, guard, &Reply::Int(bytes.len() as i64))
        }
        Call::Table(_) | Call::Snapshot => reply(channel, guard, &Reply::Bytes(&bytes)),
        _ => reply(channel, guard, &Reply::Ok),
    }
}

fn reply(channel: &mut Channel, guard: &mut Patient<'_>, reply: &Reply<'_>) -> Result<(), Fate> {
    let payload = codec::encode(reply)?;
    Ok(channel.send(Kind::Reply, 0, 1, 0, &[&payload], guard)?)
}

/// One lane of the test: the host thread and the hostile thread beside it.
#[derive(Default)]
struct Lane {
    /// The conversation that the host is in; 0 when it has given it up.
    current: AtomicU32,
    peer_gone: AtomicBool,
}

struct Arena {
    region: Arc<Region>,
    lanes: Vec<Lane>,
    /// Whether a conversation may begin before the last one's peer has ended.
    overlap: bool,
    acts: AtomicU64,
    frames: AtomicU64,
    fates: Mutex<BTreeMap<Fate, u64>>,
}

impl Arena {
    fn hostile(&self, lane: u32, seed: u64, mode: Mode, orders: &Receiver<u32>) {
        let mut hostile = Hostile::new(Arc::clone(&self.region), ME, seed, mode);
        let mine = &self.lanes[lane as usize];
        let mut before = 0;
        while let Ok(conversation) = orders.recv() {
            // The bitmaps may be in ruins; the lane is played anyhow.
            let _ = self.region.take(ME);
            let _ = self.region.take(Owner { slot: (MAX_WORKERS - 1) as u8, ..ME });
            hostile.converse(lane, &|| mine.current.load(Ordering::Acquire) == conversation);
            self.acts.fetch_add(hostile.acts() - before, Ordering::Relaxed);
            before = hostile.acts();
            mine.peer_gone.store(true, Ordering::Release);
            futex::wake_always(self.region.host_word(lane));
        }
    }

    fn host(&self, lane: u32, seed: u64, acts: u64, orders: &SyncSender<u32>) {
        let mut rng = Rng::new(seed);
        let mine = &self.lanes[lane as usize];
        for conversation in 1.. {
            if self.acts.load(Ordering::Relaxed) >= acts {
                return;
            }
            let mut channel = Channel::host(Arc::clone(&self.region), lane, conversation);
            let poll = Duration::from_micros(rng.below(30) as u64);
            channel.set_patience(Patience { poll, slice: Duration::from_millis(2) });
            mine.peer_gone.store(false, Ordering::Release);
            mine.current.store(conversation, Ordering::Release);
            let enter = vec![0; rng.below(3000)];
            // The last conversation's peer has gone, but its scribbles have not: even this may fail.
            let sent = channel.try_send(Kind::Enter, 0, 1, 0, &[&enter]);
            self.region.offer(lane, None);
            orders.send(conversation).unwrap();
            let until = Instant::now() + Duration::from_millis(100);
            let mut guard = Patient { peer_gone: &mine.peer_gone, until };
            let fate = match sent {
                Ok(_) => serve(&mut channel, &mut guard, &mut rng, &self.frames),
                Err(_) => Err(Fate::Index),
            };
            let fate = fate.err().unwrap_or(Fate::Left);
            *self.fates.lock().unwrap().entry(fate).or_default() += 1;
            // Giving up is told outside of the region, as a kill is. A real httpd then waits for the peer's death; here
            // the next conversation may begin while the old peer still writes.
            mine.current.store(0, Ordering::Release);
            futex::wake_always(self.region.guest_word(lane));
            if !self.overlap || rng.one_in(2) {
                while !mine.peer_gone.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            }
            self.region.withdraw(lane, None);
            self.region.set_idle(lane);
        }
    }
}

fn fight(mode: Mode, seed: u64, acts: u64) -> BTreeMap<Fate, u64> {
    let geometry = Geometry { lanes: 4, to_guest: 4096, to_host: 8192 };
    let start = Instant::now();
    let arena = Arena {
        region: Arc::new(Region::create(geometry).unwrap().0),
        lanes: (0..geometry.lanes).map(|_| Lane::default()).collect(),
        overlap: matches!(mode, Mode::Mixed | Mode::Scribble),
        acts: AtomicU64::new(0),
        frames: AtomicU64::new(0),
        fates: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for lane in 0..geometry.lanes {
            let (tx, rx) = sync_channel(1);
            let arena = &arena;
            let seed = seed * 1000 + u64::from(lane);
            scope.spawn(move || arena.hostile(lane, seed, mode, &rx));
            scope.spawn(move || arena.host(lane, seed + 500, acts, &tx));
        }
    });
    let fates = arena.fates.into_inner().unwrap();
    let frames = arena.frames.load(Ordering::Relaxed);
    let acts = arena.acts.load(Ordering::Relaxed);
    println!("{mode:?}: {acts} acts, {frames} frames served in {:?}: {fates:?}", start.elapsed());
    assert!(frames > 0);
    fates
}

#[test]
fn a_million_hostile_acts_end_in_typed_errors() {
    let _dog = Watchdog::new("mock: a million acts");
    let fates = fight(Mode::Mixed, 1, 1_000_000);
    // Each way to fail was met, and so were conversations that ended well.
    for fate in [
        Fate::Left,
        Fate::Index,
        Fate::Kind,
        Fate::Length,
        Fate::Depth,
        Fate::Conversation,
        Fate::Codec,
        Fate::Changes,
        Fate::Stopped,
    ] {
        assert!(fates.get(&fate).is_some_and(|n| *n > 10), "{fate:?} in {fates:?}");
    }
}

#[test]
fn each_mode_does_what_it_says() {
    let _dog = Watchdog::new("mock: each mode");
    for (mode, must, must_not) in [
        (Mode::Honest, Fate::Left, &[Fate::Index, Fate::Kind, Fate::Codec, Fate::Changes][..]),
        (Mode::Chatter, Fate::Left, &[Fate::Index, Fate::Kind, Fate::Codec, Fate::Changes]),
        (Mode::Flood, Fate::Stopped, &[Fate::Left, Fate::Codec]),
        (Mode::Lies, Fate::Changes, &[Fate::Index]),
        (Mode::Random, Fate::Kind, &[Fate::Index]),
        (Mode::Scribble, Fate::Index, &[]),
    ] {
        let acts = if mode == Mode::Flood { 8 } else { 3000 };
        let fates = fight(mode, 7, acts);
        assert!(fates.contains_key(&must), "{mode:?}: no {must:?} in {fates:?}");
        for fate in must_not {
            assert!(!fates.contains_key(fate), "{mode:?}: {fate:?} in {fates:?}");
        }
    }
}

#[test]
fn silence_ends_with_the_callers_word_and_death_is_only_asked_for() {
    let region =
        Arc::new(Region::create(Geometry { lanes: 1, to_guest: 4096, to_host: 4096 }).unwrap().0);
    let go_on = std::cell::Cell::new(5);
    let few = || {
        go_on.set(go_on.get() - 1);
        go_on.get() > 0
    };
    let mut silent = Hostile::new(Arc::clone(&region), ME, 1, Mode::Silent);
    assert_eq!(silent.converse(0, &few), End::Stopped);
    assert_eq!((silent.acts(), go_on.get()), (0, 0));
    let mut host = Channel::host(Arc::clone(&region), 0, 9);
    host.try_send(Kind::Enter, 0, 1, 0, &[]).unwrap();
    let mut dying = Hostile::new(Arc::clone(&region), ME, 1, Mode::Die);
    // There is nobody to reply to its call: it is stopped in the middle, and wants to die all the same.
    go_on.set(50);
    assert_eq!(dying.converse(0, &few), End::Die);
    assert_eq!(dying.region().geometry().lanes, 1);
}

#[test]
fn a_spoiled_lane_ends_every_wait_of_the_host() {
    let _dog = Watchdog::new("mock: spoil");
    let geometry = Geometry { lanes: 1, to_guest: 4096, to_host: 4096 };
    for what in ["header", "payload", "room"] {
        let region = Arc::new(Region::create(geometry).unwrap().0);
        let mut hostile = Hostile::new(Arc::clone(&region), ME, 1, Mode::Silent);
        let mut host = Channel::host(Arc::clone(&region), 0, 9);
        let patience = Patience { poll: Duration::ZERO, slice: Duration::from_secs(3600) };
        host.set_patience(patience);
        let mut guard =
            Patient { peer_gone: &AtomicBool::new(false), until: Instant::now() + patience.slice };
        if what == "payload" {
            let mut raw = Raw::new(&region, 0);
            raw.conversation = 9;
            let header = raw.header(Kind::Body, 0, 5000);
            assert!(raw.send(&header.encode(), &|| true) && raw.publish());
            host.recv(&mut guard).unwrap();
        }
        let tid = AtomicU32::new(0);
        let error = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                tid.store(crate::testing::my_tid() as u32, Ordering::Release);
                match what {
                    "header" => host.recv(&mut guard).map(drop),
                    "payload" => host.discard_payload(&mut guard),
                    _ => host.send(Kind::Data, 0, 1, 0, &[&[0; 9000]], &mut guard),
                }
            });
            while tid.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            crate::testing::wait_until_asleep(tid.load(Ordering::Acquire) as i32);
            hostile.spoil(0);
            waiter.join().unwrap().unwrap_err()
        });
        assert_eq!(Fate::from(error), Fate::Index, "{what}");
    }
}
