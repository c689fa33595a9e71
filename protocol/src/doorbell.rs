//! The doorbell of a pool: one word that changes with every ring, and counters that spare the ringing when nobody sleeps.
//!
//! These are the bare steps on bare atomics, so that the models can run them; [`crate::page::PoolPage`] adds the futex.
//!
//! Sleeper: read the bell, count yourself in, fence, look for work once more, sleep while the bell is what you read.
//! Ringer: publish the work, fence, look at the counter; if somebody is counted in, change the bell, then wake. Either
//! the ringer sees the sleeper in the counter or the sleeper sees the work; and a sleeper that is counted in but does
//! not sleep yet finds the bell changed.

use crate::sync::{AtomicU32, Ordering, fence};

/// The words that one sleeper or ringer deals with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doorbell<'a> {
    /// Changes with every ring.
    pub(crate) bell: &'a AtomicU32,
    /// How many threads sleep, or are about to.
    pub(crate) sleepers: &'a AtomicU32,
}

impl Doorbell<'_> {
    /// Sleeper: announces itself; returns the bell's value to sleep on. `slot` is its worker's own counter.
    pub(crate) fn prepare(self, slot: &AtomicU32) -> u32 {
        // SYNC(bell): pairs with the release in `change`: who has seen the new value sees what it was rung for. It must
        // be read before the last look for work, or a ring in between would be slept through.
        let seen = self.bell.load(Ordering::Acquire);
        // The total first and last: a worker killed in between leaves the total too high (a needless ring), never low.
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        slot.fetch_add(1, Ordering::Relaxed);
        // SYNC(doorbell): pairs with the fence in `someone`.
        fence(Ordering::SeqCst);
        seen
    }

    /// Sleeper: is awake again.
    pub(crate) fn awake(self, slot: &AtomicU32) {
        slot.fetch_sub(1, Ordering::Relaxed);
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ringer: whether `counter` (of all sleepers, or of one slot's) says that somebody has to be woken for what was
    /// published before.
    pub(crate) fn someone(counter: &AtomicU32) -> bool {
        // SYNC(doorbell): pairs with the fence in `prepare`: either we see the sleeper or it sees the work.
        fence(Ordering::SeqCst);
        counter.load(Ordering::Relaxed) != 0
    }

    /// Ringer: changes the bell. Wake afterwards.
    pub(crate) fn change(self) {
        // SYNC(bell): pairs with the acquire in `prepare`.
        self.bell.fetch_add(1, Ordering::Release);
    }
}
