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
use crate::shm::{MapError, Mapping, ShmRing};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

const MAGIC: u64 = u64::from_le_bytes(*b"VIVREGN\x01");
/// The most lanes a region may have.
pub const MAX_LANES: u32 = 512;
/// The most workers a pool may have.
pub const MAX_WORKERS: u32 = 64;
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
        Self { lanes: 64, to_guest: 128 << 10, to_host: 128 << 10 }
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
    #[error("the region speaks protocol {0}, this side speaks {PROTOCOL_VERSION}: restart httpd and vivariumd so that both are of one version")]
    Version(u32),
    /// A geometry outside the limits.
    #[error("the region's geometry is outside the limits: {0:?}")]
    Geometry(Geometry),
}

/// Who holds a lane, as its claim word says. The word can be written by the tenant's workers: httpd believes it only
/// as far as it concerns that tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody.
    Idle,
    /// Offered to any worker (`None`) or to one (slot, epoch).
    Offered(Option<Owner>),
    /// Taken.
    Claimed(Owner),
    /// Given back.
    Released(Owner),
    /// A word that cannot be.
    Garbage(u32),
}

/// A worker: its slot in the pool (below [`MAX_WORKERS`]), and which of the processes that slot has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The slot.
    pub slot: u8,
    /// Counts the processes of the slot, wrapping.
    pub epoch: u16,
}

const ANY: u32 = 0xff;

impl Claim {
    fn to_word(self) -> u32 {
        let pack = |state: u32, o: Owner| state << 24 | u32::from(o.slot) << 16 | u32::from(o.epoch);
        match self {
            Self::Idle => 0,
            Self::Offered(None) => 1 << 24 | ANY << 16,
            Self::Offered(Some(o)) => pack(1, o),
            Self::Claimed(o) => pack(2, o),
            Self::Released(o) => pack(3, o),
            Self::Garbage(word) => word,
        }
    }
    fn from_word(word: u32) -> Self {
        let slot = (word >> 16) & 0xff;
        let owner = Owner { slot: slot as u8, epoch: word as u16 };
        let known = slot < MAX_WORKERS;
        match word >> 24 {
            0 if word == 0 => Self::Idle,
            1 if slot == ANY && owner.epoch == 0 => Self::Offered(None),
            1 if known => Self::Offered(Some(owner)),
            2 if known => Self::Claimed(owner),
            3 if known => Self::Released(owner),
            _ => Self::Garbage(word),
        }
    }
}

/// A mapped region.
#[derive(Debug)]
pub struct Region {
    mapping: Arc<Mapping>,
    geometry: Geometry,
}

impl Region {
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
        Ok((Self { mapping: Arc::new(mapping), geometry }, fd))
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
        let size = usize::try_from(size)
            .map_err(|_| MapError::Size { expected: least, actual: size })?;
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
        Ok(Self { mapping: Arc::new(mapping), geometry })
    }

    /// The geometry, as it was checked.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn control(&self, lane: u32) -> usize {
        assert!(lane < self.geometry.lanes, "lane {lane} of {}", self.geometry.lanes);
        LANES + lane as usize * self.geometry.stride()
    }

    fn claim_word(&self, lane: u32) -> &AtomicU32 {
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
    pub fn offer(&self, lane: u32, to: Option<Owner>) {
        // SYNC(claim): pairs with the acquire in `take`: Enter is in the ring before the lane can be claimed.
        self.claim_word(lane).store(Claim::Offered(to).to_word(), Ordering::Release);
        self.set_ready(lane, to.map(|o| o.slot));
    }

    /// httpd: sets the ready bit (again) of a lane that is offered.
    pub fn set_ready(&self, lane: u32, slot: Option<u8>) {
        self.ready_word(slot, lane as usize / 64).fetch_or(1 << (lane % 64), Ordering::Release);
    }

    /// httpd: takes an offer back; false if a worker has the lane already.
    pub fn withdraw(&self, lane: u32, to: Option<Owner>) -> bool {
        let offered = Claim::Offered(to).to_word();
        self.claim_word(lane)
            .compare_exchange(offered, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn ready_word(&self, slot: Option<u8>, word: usize) -> &AtomicU64 {
        assert!(word < WORDS && slot.is_none_or(|s| u32::from(s) < MAX_WORKERS));
        let bitmap = slot.map_or(0, |s| 1 + s as usize);
        self.mapping.u64(BITMAPS + (bitmap * WORDS + word) * 8)
    }

    /// Worker: whether any lane is offered that `slot` may take (a hint, without taking it).
    pub fn any_ready(&self, slot: u8) -> bool {
        let words = (self.geometry.lanes as usize).div_ceil(64);
        (0..words).any(|w| {
            self.ready_word(Some(slot), w).load(Ordering::Acquire) != 0
                || self.ready_word(None, w).load(Ordering::Acquire) != 0
        })
    }

    /// Worker: takes one offered lane, those offered to this very worker first.
    pub fn take(&self, me: Owner) -> Option<u32> {
        self.take_from(Some(me.slot), me).or_else(|| self.take_from(None, me))
    }

    fn take_from(&self, slot: Option<u8>, me: Owner) -> Option<u32> {
        let words = (self.geometry.lanes as usize).div_ceil(64);
        for w in 0..words {
            let word = self.ready_word(slot, w);
            let mut bits = word.load(Ordering::Acquire);
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                bits &= !bit;
                if word.fetch_and(!bit, Ordering::AcqRel) & bit == 0 {
                    continue;
                }
                let lane = w as u32 * 64 + bit.trailing_zeros();
                if lane >= self.geometry.lanes {
                    continue;
                }
                let offered = Claim::Offered(slot.map(|_| me)).to_word();
                // SYNC(claim): pairs with the release in `offer`.
                let claimed = self.claim_word(lane).compare_exchange(
                    offered,
                    Claim::Claimed(me).to_word(),
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if claimed.is_ok() {
                    return Some(lane);
                }
            }
        }
        None
    }

    /// Worker: gives the lane back. Must happen before the last `Leave` is published: httpd may use the lane again as
    /// soon as it has read that.
    pub fn release(&self, lane: u32, me: Owner) {
        self.claim_word(lane).store(Claim::Released(me).to_word(), Ordering::Release);
    }
}
