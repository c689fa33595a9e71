//! The pool page: the doorbell on which a pool's idle threads sleep, and what each worker slot says of itself.
//!
//! One small sealed memfd for each pool, made by the supervisor, mapped by its workers and by the httpd children that
//! use the pool. It is a place for hints: a worker that ruins it ruins its own pool's wake-ups, nothing else, and httpd
//! never waits on it.
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
const SLOTS: usize = 256;
const SLOT_LEN: usize = 64;
const ALL: u32 = i32::MAX as u32;

/// A mapped pool page.
#[derive(Debug)]
pub struct PoolPage {
    mapping: Mapping,
}

fn mask(slot: u8) -> NonZeroU32 {
    NonZeroU32::new(1 << (u32::from(slot) % 32)).unwrap_or(NonZeroU32::MIN)
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

    /// Wakes one idle thread that may take the lane just offered: of any worker, or of the one in `slot`.
    /// Costs no system call when nobody sleeps; returns whether one was made.
    pub fn ring(&self, slot: Option<u8>) -> bool {
        let counter = slot.map_or_else(|| self.sleepers(), |s| self.slot_sleepers(s));
        if !Doorbell::someone(counter) {
            return false;
        }
        self.doorbell().change();
        let (count, mask) = match slot {
            None => (1, NonZeroU32::MAX),
            // Slots that are 32 apart share a mask bit: if both have sleepers, all are woken, and look.
            Some(s) if Doorbell::someone(self.slot_sleepers(s ^ 32)) => (ALL, mask(s)),
            Some(s) => (1, mask(s)),
        };
        futex::wake_mask(self.bell(), count, mask);
        true
    }

    /// Wakes every idle thread of the pool, sleeping by its own account or not.
    pub fn ring_all(&self) {
        self.doorbell().change();
        futex::wake_mask(self.bell(), ALL, NonZeroU32::MAX);
    }

    /// Worker: sleeps until rung, at most `limit`; not at all if `ready` says there is something to do.
    ///
    /// `ready` must look at everything that somebody may ring for: offered lanes ([`crate::region::Region::any_ready`]
    /// of every region), and also whatever [`PoolPage::ring_all`] announces, such as "stop". What is looked at only
    /// before this call can change unnoticed for `limit`.
    ///
    /// A wake is for one thread: a thread that was woken and then finds more than the one lane that it takes, or does
    /// not take any because it is to stop, rings again, so that no lane waits beside an idle thread.
    pub fn sleep(&self, slot: u8, limit: Duration, ready: impl FnOnce() -> bool) {
        let counter = self.slot_sleepers(slot);
        let seen = self.doorbell().prepare(counter);
        if !ready() {
            let _ = futex::sleep_on_mask(self.bell(), seen, mask(slot), limit);
        }
        self.doorbell().awake(counter);
    }

    /// Supervisor: takes a dead worker's sleepers off the count.
    pub fn forget(&self, slot: u8) {
        let gone = self.slot_sleepers(slot).swap(0, Ordering::Relaxed);
        self.sleepers().fetch_sub(gone, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
