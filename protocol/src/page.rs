//! The pool page: the doorbell on which a pool's idle threads sleep, and what each worker slot says of itself.
//!
//! One small sealed memfd for each pool, made by the supervisor, mapped by its workers and by the httpd children that
//! use the pool. It is a place for hints: a worker that ruins it ruins its own pool's wake-ups, nothing else, and httpd
//! never waits on it.
//!
//! A thread that will look for lanes before it sleeps (it polls, or it runs a request that will not take long) counts
//! itself as a *looker*: while there is one, an offer needs no ring. That is a hint too. A thread that has promised to
//! look and does not come back soon is helped by whoever waits: httpd's thread looks at its lane again after a
//! millisecond, and rings whatever the count says ([`PoolPage::ring_anyhow`]) unless lanes are being taken meanwhile
//! ([`PoolPage::taken`]).
//!
//! A thread that has found nothing to do reads the doorbell, announces itself as a sleeper, looks once more, and sleeps
//! while the doorbell has that value. Who offers a lane looks for sleepers after setting the ready bit, and rings
//! (changes the doorbell and wakes) only if there are any.

use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::PROTOCOL_VERSION;
use crate::doorbell::Doorbell;
use crate::futex;
use crate::region::{MAX_WORKERS, RegionError};
use crate::shm::Mapping;
use crate::sync::{AtomicU32, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"VIVPAGE\x01");
const SIZE: usize = 8192;
const BELL: usize = 64;
const SLEEPERS: usize = 128;
const LOOKERS: usize = 192;
const TAKEN: usize = 196;
const SLOTS: usize = 256;
const SLOT_LEN: usize = 64;
// Inside a slot's cache line.
const SLOT_LOOKERS: usize = 4;
const SLOT_TAKEN: usize = 8;
/// The bit of the threads that were at work last: their memory is warm.
const HOT: u32 = 1 << 31;
/// Slots share the other bits.
const MASK_BITS: u32 = 31;
const ALL: u32 = i32::MAX as u32;

/// A mapped pool page.
#[derive(Debug)]
pub struct PoolPage {
    mapping: Mapping,
}

fn mask(slot: u8) -> NonZeroU32 {
    NonZeroU32::new(1 << (u32::from(slot) % MASK_BITS)).unwrap_or(NonZeroU32::MIN)
}

impl PoolPage {
    /// Creates a page; the descriptor is for the peers.
    ///
    /// # Errors
    /// [`RegionError::Map`].
    pub fn create() -> Result<(Self, OwnedFd), RegionError> {
        let (mapping, fd) = Mapping::create(c"vivarium-pool", SIZE)?;
        mapping.u32(8).store(PROTOCOL_VERSION, Ordering::Relaxed);
        mapping.u64(0).store(MAGIC, Ordering::Release);
        Ok((Self { mapping }, fd))
    }

    /// Checks and maps a page.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, RegionError> {
        let mapping = Mapping::open(fd, SIZE)?;
        let magic = mapping.u64(0).load(Ordering::Acquire);
        if magic != MAGIC {
            return Err(RegionError::Magic(magic));
        }
        let version = mapping.u32(8).load(Ordering::Relaxed);
        if version != PROTOCOL_VERSION {
            return Err(RegionError::Version(version));
        }
        Ok(Self { mapping })
    }

    fn bell(&self) -> &AtomicU32 {
        self.mapping.u32(BELL)
    }

    fn doorbell(&self) -> Doorbell<'_> {
        Doorbell { bell: self.bell(), sleepers: self.sleepers() }
    }

    fn sleepers(&self) -> &AtomicU32 {
        self.mapping.u32(SLEEPERS)
    }

    fn slot_sleepers(&self, slot: u8) -> &AtomicU32 {
        assert!(u32::from(slot) < MAX_WORKERS);
        self.mapping.u32(SLOTS + slot as usize * SLOT_LEN)
    }

    fn lookers(&self) -> &AtomicU32 {
        self.mapping.u32(LOOKERS)
    }

    fn slot_lookers(&self, slot: u8) -> &AtomicU32 {
        assert!(u32::from(slot) < MAX_WORKERS);
        self.mapping.u32(SLOTS + slot as usize * SLOT_LEN + SLOT_LOOKERS)
    }

    /// Worker: this thread will look for lanes before it sleeps.
    pub fn look_begin(&self, slot: u8) {
        self.slot_lookers(slot).fetch_add(1, Ordering::Relaxed);
        self.lookers().fetch_add(1, Ordering::Relaxed);
    }

    /// Worker: this thread may not look for a long time, or is about to sleep: it looks once more afterwards, as
    /// [`PoolPage::sleep`] does, or leaves that to another looker.
    pub fn look_end(&self, slot: u8) {
        self.lookers().fetch_sub(1, Ordering::Relaxed);
        self.slot_lookers(slot).fetch_sub(1, Ordering::Relaxed);
    }

    /// How many threads of the pool have promised to look.
    pub fn looking(&self) -> u32 {
        self.lookers().load(Ordering::Relaxed)
    }

    /// Worker: how many of its threads have promised to look.
    pub fn looking_in(&self, slot: u8) -> u32 {
        self.slot_lookers(slot).load(Ordering::Relaxed)
    }

    fn slot_taken(&self, slot: u8) -> &AtomicU32 {
        assert!(u32::from(slot) < MAX_WORKERS);
        self.mapping.u32(SLOTS + slot as usize * SLOT_LEN + SLOT_TAKEN)
    }

    /// Worker: counts a lane that was taken.
    pub fn count_taken(&self, slot: u8) {
        self.slot_taken(slot).fetch_add(1, Ordering::Relaxed);
        self.mapping.u32(TAKEN).fetch_add(1, Ordering::Relaxed);
    }

    /// How many lanes the worker in `slot` has taken, wrapping, and how many of its threads sleep: whether it does
    /// anything.
    pub fn activity(&self, slot: u8) -> (u32, u32) {
        let taken = self.slot_taken(slot).load(Ordering::Relaxed);
        (taken, self.slot_sleepers(slot).load(Ordering::Relaxed))
    }

    /// How many lanes have been taken, wrapping: while it changes, the pool gets on.
    pub fn taken(&self) -> u32 {
        self.mapping.u32(TAKEN).load(Ordering::Relaxed)
    }

    /// Wakes one idle thread that may take the lane just offered, of any worker or of the one in `slot`, unless a thread
    /// that may take it has promised to look. Costs no system call then, or when nobody sleeps; returns whether one was
    /// made.
    pub fn ring(&self, slot: Option<u8>) -> bool {
        let lookers = slot.map_or_else(|| self.lookers(), |s| self.slot_lookers(s));
        // Either we see that a looker has counted itself out, or its last look sees the offer.
        !Doorbell::someone(lookers) && self.ring_anyhow(slot)
    }

    /// Wakes a thread of a worker of which no thread looks, if there is one: for a pool that has more to do than its
    /// lookers can.
    pub fn ring_idle_worker(&self) -> bool {
        (0..MAX_WORKERS as u8)
            .find(|s| {
                self.slot_sleepers(*s).load(Ordering::Relaxed) != 0 && self.looking_in(*s) == 0
            })
            .is_some_and(|s| self.ring_anyhow(Some(s)))
    }

    /// [`PoolPage::ring`], whether anybody has promised to look or not.
    pub fn ring_anyhow(&self, slot: Option<u8>) -> bool {
        let counter = slot.map_or_else(|| self.sleepers(), |s| self.slot_sleepers(s));
        if !Doorbell::someone(counter) {
            return false;
        }
        self.doorbell().change();
        match slot {
            None => {
                let hot = NonZeroU32::new(HOT).unwrap_or(NonZeroU32::MIN);
                if futex::wake_mask(self.bell(), 1, hot) == 0 {
                    futex::wake_mask(self.bell(), 1, NonZeroU32::MAX);
                }
            }
            Some(s) => {
                // Some slots share a mask bit: if another of them has sleepers, all are woken, and look.
                let shared = (0..MAX_WORKERS as u8)
                    .skip(usize::from(s) % MASK_BITS as usize)
                    .step_by(MASK_BITS as usize)
                    .any(|other| {
                        other != s && self.slot_sleepers(other).load(Ordering::Relaxed) != 0
                    });
                futex::wake_mask(self.bell(), if shared { ALL } else { 1 }, mask(s));
            }
        }
        true
    }

    /// Wakes every idle thread of the pool, sleeping by its own account or not.
    pub fn ring_all(&self) {
        self.doorbell().change();
        futex::wake_mask(self.bell(), ALL, NonZeroU32::MAX);
    }

    /// Worker: sleeps until rung, at most `limit`; not at all if `ready` says there is something to do. A thread that is
    /// `hot` is woken before others.
    ///
    /// `ready` must look at everything that somebody may ring for: offered lanes ([`crate::region::Region::any_ready`]
    /// of every region), and also whatever [`PoolPage::ring_all`] announces, such as "stop". What is looked at only
    /// before this call can change unnoticed for `limit`.
    ///
    /// A wake is for one thread: a thread that was woken and then finds more than the one lane that it takes, or does
    /// not take any because it is to stop, rings again, so that no lane waits beside an idle thread.
    pub fn sleep(&self, slot: u8, hot: bool, limit: Duration, ready: impl FnOnce() -> bool) {
        let counter = self.slot_sleepers(slot);
        let seen = self.doorbell().prepare(counter);
        if !ready() {
            let mask = if hot { mask(slot) | HOT } else { mask(slot) };
            let _ = futex::sleep_on_mask(self.bell(), seen, mask, limit);
        }
        self.doorbell().awake(counter);
    }

    /// Supervisor: takes a dead worker's sleepers and lookers off the counts.
    pub fn forget(&self, slot: u8) {
        let gone = self.slot_sleepers(slot).swap(0, Ordering::Relaxed);
        self.sleepers().fetch_sub(gone, Ordering::Relaxed);
        let gone = self.slot_lookers(slot).swap(0, Ordering::Relaxed);
        self.lookers().fetch_sub(gone, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
