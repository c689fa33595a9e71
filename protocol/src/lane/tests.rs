use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use std::time::Instant;

use super::*;
use crate::codec;
use crate::frame::MAX_BODY;
use crate::message::Leave;
use crate::mock::Rng;
use crate::region::{Claim, Geometry};
use crate::ring::RingMemory;
use crate::testing::{Flag, Never, Watchdog, my_tid, wait_until_asleep};

const ME: Owner = Owner { slot: 1, epoch: 2 };

/// Slices so long that a lost wake-up hangs (and the watchdog speaks); no polling, so that every wait sleeps.
const SLEEPY: Patience = Patience { poll: Duration::ZERO, slice: Duration::from_secs(3600) };

fn region(ring: u32) -> Arc<Region> {
    Arc::new(Region::create(Geometry { lanes: 2, to_guest: ring, to_host: ring }).unwrap().0)
}

fn ends(ring: u32, patience: Patience) -> (Channel, Channel) {
    let region = region(ring);
    let mut host = Channel::host(Arc::clone(&region), 0, 77);
    region.offer(0, None);
    let lane = region.take(ME).unwrap();
    let mut guest = Channel::guest(region, lane);
    host.set_patience(patience);
    guest.set_patience(patience);
    (host, guest)
}

/// The guest knows the conversation once it has read a frame.
fn introduce(host: &mut Channel, guest: &mut Channel) {
    assert!(host.try_send(Kind::Enter, 0, 1, 0, &[]).unwrap());
    assert_eq!(guest.recv(&mut Never).unwrap().kind, Kind::Enter);
    assert_eq!(guest.conversation(), 77);
}

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + salt * 13 + (i >> 8)) as u8).collect()
}

#[test]
fn frames_arrive_whole_and_in_order() {
    let (mut host, mut guest) = ends(4096, Patience::default());
    introduce(&mut host, &mut guest);
    guest.send(Kind::Call, 3, 2, 9, &[b"one ", b"", b"two"], &mut Never).unwrap();
    guest.send(Kind::Changes, 0, 1, u32::MAX, &[], &mut Never).unwrap();
    let header = host.recv(&mut Never).unwrap();
    assert_eq!((header.kind, header.flags, header.depth, header.rid), (Kind::Call, 3, 2, 9));
    let mut payload = vec![1, 2, 3];
    host.read_payload(&mut payload, &mut Never).unwrap();
    assert_eq!(payload, b"one two");
    assert_eq!(host.recv(&mut Never).unwrap().kind, Kind::Changes);
    assert!(host.try_recv::<()>().unwrap().is_none());
    assert_eq!((host.lane(), host.conversation(), host.unread()), (0, 77, 0));
}

#[test]
fn a_frame_as_large_as_the_ring_is_sent_at_once_and_one_byte_more_is_not() {
    let (mut host, mut guest) = ends(4096, Patience::default());
    introduce(&mut host, &mut guest);
    let body = pattern(4096 - HEADER_LEN, 1);
    assert!(!guest.try_send(Kind::Body, 0, 1, 0, &[&body, b"x"]).unwrap());
    assert!(guest.try_send(Kind::Body, 0, 1, 0, &[&body]).unwrap());
    assert!(!guest.try_send(Kind::Body, 0, 1, 0, &[]).unwrap(), "the ring is full");
    host.recv(&mut Never).unwrap();
    let mut payload = Vec::new();
    host.read_payload(&mut payload, &mut Never).unwrap();
    assert_eq!(payload, body);
    assert!(guest.try_send(Kind::Body, 0, 1, 0, &[]).unwrap());
}

#[test]
fn frames_over_the_kinds_limit_are_never_begun() {
    let (mut host, mut guest) = ends(4096, Patience::default());
    introduce(&mut host, &mut guest);
    let body = vec![0; MAX_BODY + 1];
    let error = guest.send(Kind::Body, 0, 1, 0, &[&body], &mut Never).unwrap_err();
    assert!(matches!(error, LaneError::TooLong(n) if n == MAX_BODY + 1));
    assert!(host.try_recv::<()>().unwrap().is_none());
    let waste = vec![0; 5000];
    let error = guest.finish(0, &waste, ME, &mut Never).unwrap_err();
    assert!(matches!(error, LaneError::TooLong(5000)));
    assert_eq!(host.region().claim(0), Claim::Claimed(ME), "the lane was given back");
}

/// Headers and payloads cut at every place by the ring's end, and senders that sleep for room in the middle of a header.
#[test]
fn frames_of_all_sizes_go_through_a_small_ring() {
    let _dog = Watchdog::new("lane: frames of all sizes");
    for patience in [SLEEPY, Patience::default()] {
        let (mut host, mut guest) = ends(4096, patience);
        introduce(&mut host, &mut guest);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for i in 0..3000 {
                    let len = if i % 100 == 0 { 30_000 + i } else { (i * 37) % 1500 };
                    let data = pattern(len, i);
                    let (a, b) = data.split_at(len / 3);
                    guest.send(Kind::Body, 0, 1, i as u32, &[a, b], &mut Never).unwrap();
                    if i % 3 == 0 {
                        guest.wake();
                    }
                }
                guest.wake();
            });
            let mut buffer = Vec::new();
            for i in 0..3000 {
                let len = if i % 100 == 0 { 30_000 + i } else { (i * 37) % 1500 };
                let header = host.recv(&mut Never).unwrap();
                assert_eq!((header.rid, header.len), (i as u32, len as u32));
                match i % 4 {
                    0 => host.discard_payload(&mut Never).unwrap(),
                    1 => {
                        // In bites, as a slow client takes them.
                        buffer.clear();
                        let mut bite = [0; 100];
                        while host.unread() > 0 {
                            let n = bite.len().min(host.unread());
                            host.read_exact(&mut bite[..n], &mut Never).unwrap();
                            buffer.extend(&bite[..n]);
                        }
                        assert!(buffer == pattern(len, i), "frame {i}");
                    }
                    _ => {
                        host.read_payload(&mut buffer, &mut Never).unwrap();
                        assert!(buffer == pattern(len, i), "frame {i}");
                    }
                }
            }
        });
    }
}

/// A reader that never waits in the channel (an event loop) still gives back enough for a sleeping sender.
#[test]
fn a_reader_that_only_tries_does_not_starve_a_sleeping_sender() {
    let _dog = Watchdog::new("lane: try-only reader");
    for bite in [1, 100, 1000, 5000] {
        let (mut host, mut guest) = ends(4096, SLEEPY);
        introduce(&mut host, &mut guest);
        let data = pattern(60_000, bite);
        std::thread::scope(|scope| {
            let data = &data;
            scope.spawn(move || {
                for _ in 0..3 {
                    guest.send(Kind::Body, 0, 1, 0, &[data], &mut Never).unwrap();
                }
            });
            for _ in 0..3 {
                while host.try_recv::<()>().unwrap().is_none() {
                    std::thread::yield_now();
                }
                let mut got: Vec<u8> = Vec::new();
                let mut to = vec![0; bite];
                while host.unread() > 0 {
                    let n = host.try_read(&mut to).unwrap();
                    got.extend(&to[..n]);
                    if n == 0 {
                        std::thread::yield_now();
                    }
                }
                assert!(got == *data);
            }
        });
    }
}

/// Calls and replies, each far larger than the ring, in turns.
#[test]
fn large_calls_and_replies_in_turns() {
    let _dog = Watchdog::new("lane: large ping-pong");
    for patience in [SLEEPY, Patience::default()] {
        let (mut host, mut guest) = ends(4096, patience);
        introduce(&mut host, &mut guest);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut buffer = Vec::new();
                for i in 0..60 {
                    let data = pattern(1 + i * 1777, i);
                    guest.send(Kind::Call, 0, 1, 0, &[&data], &mut Never).unwrap();
                    let header = guest.recv(&mut Never).unwrap();
                    assert_eq!(header.kind, Kind::Data);
                    guest.read_payload(&mut buffer, &mut Never).unwrap();
                    assert!(buffer == data);
                    assert_eq!(guest.recv(&mut Never).unwrap().kind, Kind::Reply);
                }
                guest.finish(0, b"bye", ME, &mut Never).unwrap();
            });
            let mut buffer = Vec::new();
            loop {
                let header = host.recv(&mut Never).unwrap();
                host.read_payload(&mut buffer, &mut Never).unwrap();
                if header.kind == Kind::Leave {
                    break;
                }
                host.send(Kind::Data, 0, 1, 0, &[&buffer], &mut Never).unwrap();
                host.send(Kind::Reply, 0, 1, 0, &[], &mut Never).unwrap();
            }
            assert_eq!(buffer, b"bye");
            assert_eq!(host.region().claim(0), Claim::Released(ME));
        });
    }
}

/// The last `Leave` waits for room, and the lane is given back before it can be read: the host uses the lane again at
/// once, and no late word of the old conversation disturbs the new one.
#[test]
fn a_lane_goes_from_conversation_to_conversation() {
    let _dog = Watchdog::new("lane: conversations");
    let region = region(4096);
    let leave = codec::encode(&Leave { result: 200, keep: false, cleanups: true }).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (region, leave, stop) = (&region, &leave, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let Some(lane) = region.take(ME) else {
                    std::thread::yield_now();
                    continue;
                };
                let mut guest = Channel::guest(Arc::clone(region), lane);
                let header = guest.recv(&mut Never).unwrap();
                let mut enter = Vec::new();
                guest.read_payload(&mut enter, &mut Never).unwrap();
                assert_eq!(enter, header.conversation.to_le_bytes());
                // Fills the ring to the last byte every other time, so that the Leave has to wait.
                let fill =
                    if header.conversation.is_multiple_of(2) { 4096 - HEADER_LEN } else { 10 };
                guest.send(Kind::Body, 0, 1, 0, &[&pattern(fill, 0)], &mut Never).unwrap();
                guest.finish(0, leave, ME, &mut Never).unwrap();
            }
        });
        for conversation in 1..4000_u32 {
            let mut host = Channel::host(Arc::clone(region), 1, conversation);
            let word = conversation.to_le_bytes();
            assert!(host.try_send(Kind::Enter, 0, 1, 0, &[&word]).unwrap());
            region.offer(1, None);
            let mut kinds = Vec::new();
            loop {
                let header = host.recv(&mut Never).unwrap();
                host.discard_payload(&mut Never).unwrap();
                kinds.push(header.kind);
                if header.kind == Kind::Leave {
                    break;
                }
            }
            assert_eq!(kinds, [Kind::Body, Kind::Leave]);
            assert_eq!(region.claim(1), Claim::Released(ME));
        }
        stop.store(true, Ordering::Release);
    });
}

#[test]
fn late_frames_of_another_conversation_are_refused() {
    let (mut host, mut guest) = ends(4096, Patience::default());
    introduce(&mut host, &mut guest);
    let mut next = Channel::host(Arc::clone(host.region()), 0, 78);
    // The old worker goes on as if nothing had happened; its index begins where it thinks it is: at 0.
    assert!(guest.try_send(Kind::Body, 0, 1, 0, &[b"late"]).unwrap());
    let error = next.try_recv::<()>().unwrap_err();
    let expected = HeaderError::Conversation { ours: 78, theirs: 77 };
    assert!(matches!(error, LaneError::Header(e) if e == expected), "{error:?}");
}

#[test]
fn a_stop_is_noticed_by_a_sleeper_however_it_races() {
    let _dog = Watchdog::new("lane: stop");
    for round in 0..200 {
        let (mut host, _guest) = ends(4096, SLEEPY);
        if round % 2 == 0 {
            host.set_patience(Patience { poll: Duration::from_micros(20), ..SLEEPY });
        }
        let (stop, tid) = (AtomicBool::new(false), AtomicI32::new(0));
        let region = Arc::clone(host.region());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tid.store(my_tid(), Ordering::Release);
                let error = host.recv(&mut Flag(&stop)).unwrap_err();
                assert!(matches!(error, LaneError::Stopped(())));
            });
            while tid.load(Ordering::Acquire) == 0 {
                std::hint::spin_loop();
            }
            // Sometimes surely asleep, else in any state before it.
            if round % 4 == 0 {
                wait_until_asleep(tid.load(Ordering::Acquire));
            }
            stop.store(true, Ordering::Release);
            futex::wake_always(region.host_word(0));
        });
    }
}

/// The stop comes when the sleeper has already looked at its flag for the last time but one: on the announcement.
#[test]
fn a_stop_between_the_first_look_and_the_sleep_is_noticed() {
    struct Late<'a>(&'a Region, u32);
    impl Guard for Late<'_> {
        type Stop = ();
        fn check(&mut self) -> Result<(), ()> {
            self.1 += 1;
            match self.1 {
                1 => {
                    // Set right after this look: the wake finds nobody announced yet.
                    futex::wake_always(self.0.host_word(0));
                    Ok(())
                }
                _ => Err(()),
            }
        }
    }
    let _dog = Watchdog::new("lane: late stop");
    let (mut host, _guest) = ends(4096, SLEEPY);
    let region = Arc::clone(host.region());
    let error = host.recv(&mut Late(&region, 0)).unwrap_err();
    assert!(matches!(error, LaneError::Stopped(())));
}

#[test]
fn what_a_peer_wrote_before_it_died_is_received() {
    let (mut host, mut guest) = ends(4096, SLEEPY);
    introduce(&mut host, &mut guest);
    let dead = AtomicBool::new(true);
    // As many frames as the ring holds, more than the guard's rhythm.
    let mut sent = 0;
    while guest.try_send(Kind::Body, 0, 1, 0, &[b"x"]).unwrap() {
        sent += 1;
    }
    assert!(sent > 2 * GUARD_EVERY);
    for _ in 0..sent {
        assert_eq!(host.recv(&mut Flag(&dead)).unwrap().len, 1);
        host.discard_payload(&mut Flag(&dead)).unwrap();
    }
    let error = host.recv(&mut Flag(&dead)).unwrap_err();
    assert!(matches!(error, LaneError::Stopped(())));
}

#[test]
fn a_peer_that_never_stops_sending_is_cut_off_by_the_guard() {
    let _dog = Watchdog::new("lane: flood");
    for len in [0, 100_000] {
        let (mut host, mut guest) = ends(4096, Patience::default());
        introduce(&mut host, &mut guest);
        let (enough, over) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let over = &over;
            scope.spawn(move || {
                let body = vec![0; len];
                while guest.send(Kind::Body, 0, 1, 0, &[&body], &mut Flag(over)).is_ok() {}
            });
            let mut frames = 0_u32;
            let stopped = loop {
                match host.recv(&mut Flag(&enough)).map(|_| ()) {
                    Ok(()) => {}
                    Err(error) => break error,
                }
                if let Err(error) = host.discard_payload(&mut Flag(&enough)) {
                    break error;
                }
                frames += 1;
                if frames == 300 {
                    enough.store(true, Ordering::Release);
                }
                assert!(frames < 300 + 2 * 4096 / 16 + GUARD_EVERY, "it goes on and on");
            };
            assert!(matches!(stopped, LaneError::Stopped(())), "{stopped:?}");
            over.store(true, Ordering::Release);
            futex::wake_always(host.region().guest_word(0));
        });
    }
}

/// A peer that keeps writing into the host's word makes every sleep fail at once: the host must slow down, not spin.
#[test]
fn a_ruined_word_does_not_make_the_waiter_spin() {
    struct Count<'a>(u32, &'a AtomicBool);
    impl Guard for Count<'_> {
        type Stop = ();
        fn check(&mut self) -> Result<(), ()> {
            self.0 += 1;
            if self.1.load(Ordering::Acquire) { Err(()) } else { Ok(()) }
        }
    }
    let (mut host, _guest) = ends(4096, SLEEPY);
    let region = Arc::clone(host.region());
    let (done, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (looks, time) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                region.host_word(0).store(0xffff, Ordering::Relaxed);
                futex::wake_always(region.host_word(0));
            }
        });
        let waiter = scope.spawn(|| {
            let (mut guard, start) = (Count(0, &done), Instant::now());
            let error = host.recv(&mut guard).unwrap_err();
            assert!(matches!(error, LaneError::Stopped(())));
            (guard.0, start.elapsed())
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            std::thread::yield_now();
        }
        done.store(true, Ordering::Release);
        let result = waiter.join().unwrap();
        over.store(true, Ordering::Release);
        result
    });
    // Two looks a nap, a nap of at least one millisecond, and the first ones free of naps.
    let most = 2 * (u128::from(FRUITLESS) + 2 + time.as_millis());
    assert!(u128::from(looks) <= most, "{looks} looks in {time:?}");
}

#[test]
fn hostile_indices_and_headers_are_typed_errors() {
    let (mut host, mut guest) = ends(4096, SLEEPY);
    introduce(&mut host, &mut guest);
    let ring = host.region().to_host(0);
    ring.tail().store(5000, Ordering::Relaxed);
    assert!(matches!(host.try_recv::<()>(), Err(LaneError::Index(_))));
    assert!(matches!(host.recv(&mut Never), Err(LaneError::Index(_))));
    ring.tail().store(0, Ordering::Relaxed);
    host.region().to_guest(0).head().store(4096, Ordering::Relaxed);
    let body = vec![0; 5000];
    let error = host.send(Kind::Data, 0, 1, 0, &[&body], &mut Never).unwrap_err();
    assert!(matches!(error, LaneError::Index(_)), "{error:?}");
    host.region().to_guest(0).head().store(16, Ordering::Relaxed);
    // A true frame whose length is a lie: it is as long as it says, up to the limit, and costs nothing before it comes.
    let header = Header {
        len: MAX_BODY as u32,
        kind: Kind::Body,
        flags: 0,
        depth: 1,
        conversation: 77,
        rid: 0,
    };
    guest.tx.stage(&header.encode()).unwrap();
    guest.publish();
    host.recv(&mut Never).unwrap();
    let (dead, mut buffer) = (AtomicBool::new(true), Vec::new());
    let error = host.read_payload(&mut buffer, &mut Flag(&dead)).unwrap_err();
    assert!(matches!(error, LaneError::Stopped(())));
    assert!(buffer.capacity() <= 2 * STEP, "{} bytes for a promise", buffer.capacity());
}

/// Random rhythms of sends, wakes and reads on both sides at once, with full-duplex traffic that each side drains.
#[test]
fn random_rhythms_lose_no_wake() {
    let _dog = Watchdog::new("lane: random rhythms");
    for seed in 0..6 {
        let (mut host, mut guest) = ends(4096, SLEEPY);
        introduce(&mut host, &mut guest);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                for turn in 0..400 {
                    for _ in 0..rng.below(4) {
                        let data = pattern(rng.below(6000), turn);
                        guest.send(Kind::Body, 0, 1, 0, &[&data], &mut Never).unwrap();
                    }
                    guest.send(Kind::Call, 0, 1, 0, &[b"?"], &mut Never).unwrap();
                    let mut got = 0;
                    while guest.recv(&mut Never).unwrap().kind == Kind::Data {
                        guest.discard_payload(&mut Never).unwrap();
                        got += 1;
                    }
                    assert_eq!(got, turn % 3);
                }
                guest.finish(0, &[], ME, &mut Never).unwrap();
            });
            let mut rng = Rng::new(seed + 100);
            let mut turn = 0;
            loop {
                let header = host.recv(&mut Never).unwrap();
                host.discard_payload(&mut Never).unwrap();
                match header.kind {
                    Kind::Call => {
                        for _ in 0..turn % 3 {
                            let data = pattern(rng.below(9000), turn);
                            host.send(Kind::Data, 0, 1, 0, &[&data], &mut Never).unwrap();
                        }
                        host.send(Kind::Reply, 0, 1, 0, &[], &mut Never).unwrap();
                        turn += 1;
                    }
                    Kind::Leave => break,
                    _ => {}
                }
            }
            assert_eq!(turn, 400);
        });
    }
}

/// What somebody who copies by address finds there.
fn copied(pieces: &[(*const u8, usize); 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, len) in pieces {
        // SAFETY: the test has both ends of the ring and writes nothing meanwhile.
        #[allow(unsafe_code)]
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(*place, *len) });
    }
    bytes
}

#[test]
fn a_payload_can_be_copied_from_where_it_lies() {
    let (mut host, mut guest) = ends(4096, Patience::default());
    introduce(&mut host, &mut guest);
    // So often that payloads lie across the ring's end too.
    for turn in 0..40 {
        let bytes = pattern(1000, turn);
        guest.send(Kind::Body, 0, 1, 0, &[&bytes], &mut Never).unwrap();
        guest.send(Kind::Body, 1, 1, 0, &[b"next"], &mut Never).unwrap();
        assert_eq!(host.recv(&mut Never).unwrap().len, 1000);
        // A part may have been read in the usual way.
        let part = turn % 3 * 100;
        host.read_exact(&mut vec![0; part], &mut Never).unwrap();
        let pieces = host.payload_places().unwrap().unwrap();
        assert_eq!(copied(&pieces), bytes[part..]);
        host.skip_payload();
        assert_eq!(host.unread(), 0);
        let next = host.recv(&mut Never).unwrap();
        let mut payload = Vec::new();
        host.read_payload(&mut payload, &mut Never).unwrap();
        assert_eq!((next.flags, &payload[..]), (1, &b"next"[..]));
    }
}

#[test]
fn a_payload_of_which_a_part_is_missing_has_no_place() {
    let region = region(4096);
    let mut guest_bytes = crate::ring::Producer::new(region.to_host(0), 0);
    let mut host = Channel::host(region, 0, 5);
    let header = Header { len: 100, kind: Kind::Body, flags: 0, depth: 1, conversation: 5, rid: 0 };
    guest_bytes.stage(&header.encode()).unwrap();
    guest_bytes.stage(&[7; 60]).unwrap();
    guest_bytes.publish();
    assert_eq!(host.recv(&mut Never).unwrap().len, 100);
    assert_eq!(host.payload_places().unwrap(), None);
    assert_eq!(host.unread(), 100, "nothing was read");
    guest_bytes.stage(&[8; 40]).unwrap();
    guest_bytes.publish();
    let pieces = host.payload_places().unwrap().unwrap();
    assert_eq!(copied(&pieces), [[7; 60].as_slice(), &[8; 40]].concat());
    host.skip_payload();
    assert!(host.try_recv::<()>().unwrap().is_none());
}
