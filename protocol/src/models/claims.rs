#![allow(unsafe_code)]

use loom::cell::UnsafeCell;

use super::{Arc, check, thread};
use crate::claim::{self, Claim, Owner};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

const BIT: u64 = 1;

/// One lane: its claim word, its ready bit, and the `Enter` behind them.
#[derive(Debug)]
struct Lane {
    word: AtomicU32,
    ready: AtomicU64,
    enter: UnsafeCell<u32>,
    runs: AtomicU32,
    left: AtomicU32,
}

// SAFETY: loom checks every access to the cell; an unordered one fails the model.
unsafe impl Sync for Lane {}

impl Lane {
    fn new() -> Arc<Self> {
        let zero = || AtomicU32::new(0);
        Arc::new(Self {
            word: zero(),
            ready: AtomicU64::new(0),
            enter: UnsafeCell::new(0),
            runs: zero(),
            left: zero(),
        })
    }
    fn write_enter(&self, n: u32) {
        // SAFETY: the pointer is the cell's own, and loom runs one thread at a time.
        self.enter.with_mut(|place| unsafe { *place = n });
    }
    /// The steps of `Region::take` for one lane; what `Enter` says if it was claimed.
    fn take(&self, to: Option<Owner>, me: Owner) -> Option<u32> {
        let there = self.ready.load(Ordering::Acquire) & BIT != 0;
        if there && claim::take_bit(&self.ready, BIT) && claim::claim(&self.word, to, me) {
            self.runs.fetch_add(1, Ordering::Relaxed);
            // SAFETY: as above.
            return Some(self.enter.with(|place| unsafe { *place }));
        }
        None
    }
    fn state(&self) -> Claim {
        Claim::from_word(self.word.load(Ordering::Relaxed))
    }
}

fn worker(slot: u8) -> Owner {
    Owner { slot, epoch: 1 }
}

/// Two workers reach for a lane that httpd offers, withdraws, writes anew and offers again.
///
/// Catches: the bit set before the word in `offer` (an offer without a bit); a plain store in `withdraw` (two owners);
/// a plain store in `claim` (two owners); `Relaxed` in the success case of `claim`, or in the store of `offer` (an
/// `Enter` that is read before it is written).
#[test]
fn an_offer_is_claimed_once_or_still_to_be_had() {
    check(3, || {
        let lane = Lane::new();
        let workers: Vec<_> = (0..2)
            .map(|slot| {
                let lane = Arc::clone(&lane);
                thread::spawn(move || lane.take(None, worker(slot)))
            })
            .collect();
        lane.write_enter(1);
        claim::offer(&lane.word, &lane.ready, BIT, None);
        let mut enter = 1;
        if claim::withdraw(&lane.word, None) {
            enter = 2;
            lane.write_enter(enter);
            claim::offer(&lane.word, &lane.ready, BIT, None);
        }
        let seen: Vec<u32> = workers.into_iter().filter_map(|w| w.join().unwrap()).collect();
        assert_eq!(lane.runs.load(Ordering::Relaxed) as usize, seen.len());
        match lane.state() {
            Claim::Claimed(_) => assert_eq!(seen, [enter]),
            Claim::Offered(None) => {
                assert!(seen.is_empty());
                assert!(lane.ready.load(Ordering::Relaxed) & BIT != 0, "nobody will ever look");
            }
            other => panic!("{other:?}"),
        }
    });
}

/// The end of one conversation and the offer of the next: the late release of the first does not spoil the second.
///
/// Catches: `release` as a plain store, after the `Leave`. With the compare-and-swap either order leaves the new offer
/// alone.
#[test]
fn the_next_offer_survives_the_last_release() {
    check(3, || {
        let lane = Lane::new();
        claim::offer(&lane.word, &lane.ready, BIT, None);
        let peer = Arc::clone(&lane);
        let first = thread::spawn(move || {
            peer.take(None, worker(1)).unwrap();
            claim::release(&peer.word, worker(1));
            peer.left.store(1, Ordering::Release);
        });
        while lane.left.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        lane.write_enter(2);
        claim::offer(&lane.word, &lane.ready, BIT, None);
        first.join().unwrap();
        assert_eq!(lane.state(), Claim::Offered(None));
        assert_eq!(lane.take(None, worker(2)), Some(2));
    });
}

/// A worker dies between bit and word; httpd sets the bit again while another worker looks.
///
/// Catches: `set_ready` as a plain store of the bit (a neighbour's bit is lost).
#[test]
fn a_lane_whose_bit_died_with_a_worker_is_found_again() {
    check(3, || {
        let lane = Lane::new();
        lane.write_enter(1);
        claim::offer(&lane.word, &lane.ready, BIT, None);
        // The dead one.
        assert!(claim::take_bit(&lane.ready, BIT));
        let peer = Arc::clone(&lane);
        let other = thread::spawn(move || {
            claim::set_ready(&peer.ready, 2);
            peer.take(None, worker(1))
        });
        claim::set_ready(&lane.ready, BIT);
        let seen = other.join().unwrap();
        assert!(lane.ready.load(Ordering::Relaxed) & 2 != 0, "the neighbour's bit is gone");
        let second = lane.take(None, worker(2));
        assert_eq!(seen.or(second), Some(1));
        assert_eq!(lane.runs.load(Ordering::Relaxed), 1);
    });
}
