//! The layout of a region: header, ready bitmaps, claim words, and the lanes' rings.
//!
//! ```text
//! 0      header (magic, version, geometry)          written once by the creator before the fd leaves its hands
//! 4096   ready bitmap "any worker", then one bitmap for each worker slot
//! ...    lane 0: control block (one page), ring to the worker, ring to httpd
//! ...    lane 1 ...
//! ```
//!
//! The geometry is read once, checked, and kept privately by each side: what the peer writes into the header later
//! changes nothing.
//!
//! # Offering and claiming
//!
//! The *claim word* of a lane is the authority, the ready bitmaps are hints. httpd resets the lane, writes `Enter`,
//! sets the claim word to *offered* and then the lane's bit. A worker takes the bit with `fetch_and`, then the lane with
//! a compare-and-swap of the claim word from *offered* to *claimed by (slot, epoch)*. A worker that dies between the
//! two leaves a lane that is still *offered*: httpd sets the bit again when it hears of the death. A bit without an
//! offer behind it is ignored. So no crash can lose a lane or hand it out twice.
//!
//! Before its last `Leave` becomes visible the worker sets the word to *released*.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::PROTOCOL_VERSION;
use crate::claim;
pub use crate::claim::{Claim, MAX_WORKERS, Owner};
use crate::futex::SleepFor;
use crate::lane::Side;
use crate::polling::Habit;
use crate::shm::{MapError, Mapping, ShmRing};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"VIVREGN\x01");
/// The most lanes a region may have.
pub const MAX_LANES: u32 = 512;
const WORDS: usize = MAX_LANES as usize / 64;
const PAGE: usize = 4096;
const BITMAPS: usize = PAGE;
const BITMAPS_LEN: usize = (1 + MAX_WORKERS as usize) * WORDS * 8;
const LANES: usize = (BITMAPS + BITMAPS_LEN).next_multiple_of(PAGE);

// Offsets inside a lane's control block; each word has a cache line of its own.
const CLAIM: usize = 0;
const FLAGS: usize = 64;
const HOST_WORD: usize = 128;
const GUEST_WORD: usize = 192;
const TO_GUEST_HEAD: usize = 256;
const TO_GUEST_TAIL: usize = 320;
const TO_HOST_HEAD: usize = 384;
const TO_HOST_TAIL: usize = 448;

/// The flag that tells the worker that the client is gone: writes raise, nothing more will be sent.
pub const FLAG_ABORTED: u32 = 1;

/// How many lanes, and how large their rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// 1 to [`MAX_LANES`].
    pub lanes: u32,
    /// Bytes of the ring towards the worker: a power of two from 4 KiB to 16 MiB.
    pub to_guest: u32,
    /// Bytes of the ring towards httpd: likewise.
    pub to_host: u32,
}

impl Default for Geometry {
    fn default() -> Self {
        Self { lanes: 64, to_guest: 128 << 10, to_host: 512 << 10 }
    }
}

impl Geometry {
    fn check(self) -> Result<Self, RegionError> {
        let ring = |n: u32| n.is_power_of_two() && (4 << 10..=16 << 20).contains(&n);
        if (1..=MAX_LANES).contains(&self.lanes) && ring(self.to_guest) && ring(self.to_host) {
            Ok(self)
        } else {
            Err(RegionError::Geometry(self))
        }
    }
    fn stride(self) -> usize {
        PAGE + self.to_guest as usize + self.to_host as usize
    }
    /// The size of a region of this geometry, in bytes.
    pub fn size(self) -> usize {
        LANES + self.lanes as usize * self.stride()
    }
}

/// Why a region cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// Seals, size or a system call.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Not a region at all.
    #[error("the memory is not a region (magic {0:#x})")]
    Magic(u64),
    /// A region of another protocol version.
    #[error(
        "the region speaks protocol {0}, this side speaks {PROTOCOL_VERSION}: restart httpd and vivariumd so that both are of one version"
    )]
    Version(u32),
    /// A geometry outside the limits.
    #[error("the region's geometry is outside the limits: {0:?}")]
    Geometry(Geometry),
}

/// A mapped region.
#[derive(Debug)]
pub struct Region {
    mapping: Arc<Mapping>,
    geometry: Geometry,
    /// Worker: where the next search for an offered lane begins. Private; it only spreads the luck.
    cursor: AtomicU32,
    /// Usual lengths of waits in this region: of the host and of the guest, for data and for room. Private.
    habits: [[Habit; 2]; 2],
}

impl Region {
    fn of(mapping: Mapping, geometry: Geometry) -> Self {
        Self {
            mapping: Arc::new(mapping),
            geometry,
            cursor: AtomicU32::new(0),
            habits: Default::default(),
        }
    }

    /// How long one side's waits for `what` usually take here.
    pub(crate) fn habit(&self, side: Side, what: SleepFor) -> &Habit {
        &self.habits[side as usize][what as usize - 1]
    }

    /// All of the memory, for the mock peer's scribbles.
    #[cfg(any(test, feature = "mock"))]
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Where the bitmaps begin and end.
    #[cfg(any(test, feature = "mock"))]
    pub(crate) const BITMAP_BYTES: (usize, usize) = (BITMAPS, BITMAPS + BITMAPS_LEN);

    /// Where a lane's rings begin.
    #[cfg(any(test, feature = "mock"))]
    pub(crate) fn lane_bytes(&self, lane: u32) -> usize {
        self.control(lane) + PAGE
    }

    /// Creates a region; the descriptor is for the peers.
    ///
    /// # Errors
    /// [`RegionError::Geometry`] or [`RegionError::Map`].
    pub fn create(geometry: Geometry) -> Result<(Self, OwnedFd), RegionError> {
        let geometry = geometry.check()?;
        let (mapping, fd) = Mapping::create(c"vivarium-region", geometry.size())?;
        mapping.u32(8).store(PROTOCOL_VERSION, Ordering::Relaxed);
        mapping.u32(12).store(geometry.lanes, Ordering::Relaxed);
        mapping.u32(16).store(geometry.to_guest, Ordering::Relaxed);
        mapping.u32(20).store(geometry.to_host, Ordering::Relaxed);
        mapping.u64(0).store(MAGIC, Ordering::Release);
        Ok((Self::of(mapping, geometry), fd))
    }

    /// Checks and maps a peer's region.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, RegionError> {
        let size = Mapping::sealed_size(fd)?;
        let least = LANES as u64;
        if size < least {
            return Err(MapError::Size { expected: least, actual: size }.into());
        }
        let size =
            usize::try_from(size).map_err(|_| MapError::Size { expected: least, actual: size })?;
        let mapping = Mapping::open(fd, size)?;
        let magic = mapping.u64(0).load(Ordering::Acquire);
        if magic != MAGIC {
            return Err(RegionError::Magic(magic));
        }
        let version = mapping.u32(8).load(Ordering::Relaxed);
        if version != PROTOCOL_VERSION {
            return Err(RegionError::Version(version));
        }
        let geometry = Geometry {
            lanes: mapping.u32(12).load(Ordering::Relaxed),
            to_guest: mapping.u32(16).load(Ordering::Relaxed),
            to_host: mapping.u32(20).load(Ordering::Relaxed),
        }
        .check()?;
        if geometry.size() != size {
            let expected = geometry.size() as u64;
            return Err(MapError::Size { expected, actual: size as u64 }.into());
        }
        Ok(Self::of(mapping, geometry))
    }

    /// The geometry, as it was checked.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn control(&self, lane: u32) -> usize {
        assert!(lane < self.geometry.lanes, "lane {lane} of {}", self.geometry.lanes);
        LANES + lane as usize * self.geometry.stride()
    }

    pub(crate) fn claim_word(&self, lane: u32) -> &AtomicU32 {
        self.mapping.u32(self.control(lane) + CLAIM)
    }

    /// The lane's flags ([`FLAG_ABORTED`]); httpd writes, the worker reads.
    pub fn flags(&self, lane: u32) -> &AtomicU32 {
        self.mapping.u32(self.control(lane) + FLAGS)
    }

    /// The word on which httpd's thread sleeps.
    pub fn host_word(&self, lane: u32) -> &AtomicU32 {
        self.mapping.u32(self.control(lane) + HOST_WORD)
    }

    /// The word on which the worker's thread sleeps while it holds the lane.
    pub fn guest_word(&self, lane: u32) -> &AtomicU32 {
        self.mapping.u32(self.control(lane) + GUEST_WORD)
    }

    /// The ring towards the worker.
    pub fn to_guest(&self, lane: u32) -> ShmRing {
        let c = self.control(lane);
        let mapping = Arc::clone(&self.mapping);
        ShmRing::new(
            mapping,
            c + TO_GUEST_HEAD,
            c + TO_GUEST_TAIL,
            c + PAGE,
            self.geometry.to_guest,
        )
    }

    /// The ring towards httpd.
    pub fn to_host(&self, lane: u32) -> ShmRing {
        let c = self.control(lane);
        let mapping = Arc::clone(&self.mapping);
        let data = c + PAGE + self.geometry.to_guest as usize;
        ShmRing::new(mapping, c + TO_HOST_HEAD, c + TO_HOST_TAIL, data, self.geometry.to_host)
    }

    /// httpd: makes an idle lane ready for a new conversation. Both sides start at index 0.
    pub fn reset(&self, lane: u32) {
        let c = self.control(lane);
        for at in [TO_GUEST_HEAD, TO_GUEST_TAIL, TO_HOST_HEAD, TO_HOST_TAIL, FLAGS, GUEST_WORD] {
            self.mapping.u32(c + at).store(0, Ordering::Relaxed);
        }
    }

    /// What the lane's claim word says.
    pub fn claim(&self, lane: u32) -> Claim {
        Claim::from_word(self.claim_word(lane).load(Ordering::Acquire))
    }

    /// httpd: sets the claim word back to idle, whatever it says.
    pub fn set_idle(&self, lane: u32) {
        self.claim_word(lane).store(0, Ordering::Release);
    }

    /// httpd: offers the lane to any worker or to one. Ring the doorbell afterwards.
    ///
    /// # Panics
    /// If the lane or the slot is out of range: check a slot number that came in a packet before using it here.
    pub fn offer(&self, lane: u32, to: Option<Owner>) {
        let (ready, bit) = self.ready_bit(lane, to.map(|o| o.slot));
        claim::offer(self.claim_word(lane), ready, bit, to);
    }

    /// httpd: sets the ready bit (again) of a lane that is offered.
    pub fn set_ready(&self, lane: u32, slot: Option<u8>) {
        let (ready, bit) = self.ready_bit(lane, slot);
        claim::set_ready(ready, bit);
    }

    /// httpd: takes an offer back; false if a worker has the lane already.
    pub fn withdraw(&self, lane: u32, to: Option<Owner>) -> bool {
        claim::withdraw(self.claim_word(lane), to)
    }

    fn ready_bit(&self, lane: u32, slot: Option<u8>) -> (&AtomicU64, u64) {
        assert!(lane < self.geometry.lanes, "lane {lane} of {}", self.geometry.lanes);
        (self.ready_word(slot, lane as usize / 64), 1 << (lane % 64))
    }

    fn ready_word(&self, slot: Option<u8>, word: usize) -> &AtomicU64 {
        assert!(word < WORDS && slot.is_none_or(|s| u32::from(s) < MAX_WORKERS));
        let bitmap = slot.map_or(0, |s| 1 + s as usize);
        self.mapping.u64(BITMAPS + (bitmap * WORDS + word) * 8)
    }

    fn ready_words(&self) -> usize {
        (self.geometry.lanes as usize).div_ceil(64)
    }

    /// Worker: whether any lane is offered that `slot` may take (a hint, without taking it).
    pub fn any_ready(&self, slot: u8) -> bool {
        (0..self.ready_words()).any(|w| {
            self.ready_word(Some(slot), w).load(Ordering::Acquire) != 0
                || self.ready_word(None, w).load(Ordering::Acquire) != 0
        })
    }

    /// Worker: takes one lane that is offered to this very worker.
    pub fn take_own(&self, me: Owner) -> Option<u32> {
        self.take_from(Some(me.slot), me, 0)
    }

    /// Worker: how many lanes are offered that `slot` may take (a hint).
    pub fn count_ready(&self, slot: u8) -> u32 {
        (0..self.ready_words())
            .map(|w| {
                self.ready_word(Some(slot), w).load(Ordering::Relaxed).count_ones()
                    + self.ready_word(None, w).load(Ordering::Relaxed).count_ones()
            })
            .sum()
    }

    /// Worker: takes one offered lane, those offered to this very worker first. Every search begins behind the lane
    /// that the last one found, so that no lane starves while others are offered again and again.
    pub fn take(&self, me: Owner) -> Option<u32> {
        let start = self.cursor.load(Ordering::Relaxed) % self.geometry.lanes;
        let lane =
            self.take_from(Some(me.slot), me, start).or_else(|| self.take_from(None, me, start))?;
        self.cursor.store(lane + 1, Ordering::Relaxed);
        Some(lane)
    }

    fn take_from(&self, slot: Option<u8>, me: Owner, start: u32) -> Option<u32> {
        let words = self.ready_words();
        let (first, low) = (start as usize / 64, (1_u64 << (start % 64)) - 1);
        // The word in which the search begins comes twice: its high bits first, its low bits at the end.
        (0..=words).find_map(|i| {
            let mask = match i {
                0 => !low,
                i if i == words => low,
                _ => u64::MAX,
            };
            self.take_from_word(slot, me, (first + i) % words, mask)
        })
    }

    fn take_from_word(&self, slot: Option<u8>, me: Owner, w: usize, mask: u64) -> Option<u32> {
        let word = self.ready_word(slot, w);
        // Each bit is tried once, whatever the peer sets meanwhile.
        let mut bits = word.load(Ordering::Acquire) & mask;
        while bits != 0 {
            let bit = bits & bits.wrapping_neg();
            bits &= !bit;
            if !claim::take_bit(word, bit) {
                continue;
            }
            let lane = w as u32 * 64 + bit.trailing_zeros();
            if lane < self.geometry.lanes
                && claim::claim(self.claim_word(lane), slot.map(|_| me), me)
            {
                return Some(lane);
            }
        }
        None
    }

    /// Worker: gives the lane back. Must happen before the last `Leave` is published: httpd may use the lane again as
    /// soon as it has read that. Changes nothing if the lane is not this worker's any more.
    pub fn release(&self, lane: u32, me: Owner) {
        claim::release(self.claim_word(lane), me);
    }
}

#[cfg(test)]
mod tests;
