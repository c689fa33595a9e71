//! Who holds a lane: the claim word, and how it and the ready bit beside it change.
//!
//! These are the bare steps on bare atomics, so that the models can run them; [`crate::region::Region`] applies them to
//! its lanes. The claim word is the authority, a ready bit is a hint that spares the worker a walk over all claim words.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The most workers a pool may have.
pub const MAX_WORKERS: u32 = 64;

/// A worker: its slot in the pool (below [`MAX_WORKERS`]), and which of the processes that slot has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The slot.
    pub slot: u8,
    /// Counts the processes of the slot, wrapping.
    pub epoch: u16,
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

const ANY: u32 = 0xff;

impl Claim {
    /// The word: state in the top byte, slot in the next, epoch below.
    pub(crate) fn to_word(self) -> u32 {
        let pack =
            |state: u32, o: Owner| state << 24 | u32::from(o.slot) << 16 | u32::from(o.epoch);
        match self {
            Self::Idle => 0,
            Self::Offered(None) => 1 << 24 | ANY << 16,
            Self::Offered(Some(o)) => pack(1, o),
            Self::Claimed(o) => pack(2, o),
            Self::Released(o) => pack(3, o),
            Self::Garbage(word) => word,
        }
    }

    /// What a word says; every word says something.
    pub(crate) fn from_word(word: u32) -> Self {
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

/// httpd: offers a lane. The word first, then the bit: who takes the bit must find the offer.
pub(crate) fn offer(claim: &AtomicU32, ready: &AtomicU64, bit: u64, to: Option<Owner>) {
    // SYNC(claim): pairs with the acquire in `claim`: `Enter` is in the ring before the lane can be claimed.
    claim.store(Claim::Offered(to).to_word(), Ordering::Release);
    set_ready(ready, bit);
}

/// httpd: sets the ready bit (again) of a lane that is offered.
pub(crate) fn set_ready(ready: &AtomicU64, bit: u64) {
    // SYNC(ready): pairs with the acquire in `take_bit`: who takes the bit sees the offer.
    ready.fetch_or(bit, Ordering::Release);
}

/// httpd: takes an offer back; false if a worker has the lane already. A bit that stays behind is ignored by whoever
/// takes it.
pub(crate) fn withdraw(claim: &AtomicU32, to: Option<Owner>) -> bool {
    let offered = Claim::Offered(to).to_word();
    claim.compare_exchange(offered, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Worker: takes one ready bit; false if somebody else was faster.
pub(crate) fn take_bit(ready: &AtomicU64, bit: u64) -> bool {
    // SYNC(ready): pairs with the release in `set_ready`.
    ready.fetch_and(!bit, Ordering::AcqRel) & bit != 0
}

/// Worker: takes the lane behind a bit, if it is offered to `to` (any worker, or this very one).
pub(crate) fn claim(claim: &AtomicU32, to: Option<Owner>, me: Owner) -> bool {
    let offered = Claim::Offered(to).to_word();
    // SYNC(claim): pairs with the release in `offer`.
    claim
        .compare_exchange(
            offered,
            Claim::Claimed(me).to_word(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        )
        .is_ok()
}

/// Worker: gives the lane back, if it is still this worker's. A word that httpd has changed meanwhile stays as it is.
pub(crate) fn release(claim: &AtomicU32, me: Owner) -> bool {
    let (from, to) = (Claim::Claimed(me).to_word(), Claim::Released(me).to_word());
    claim.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_claim_survives_its_word() {
        let owners = [
            Owner { slot: 0, epoch: 0 },
            Owner { slot: 63, epoch: u16::MAX },
            Owner { slot: 7, epoch: 1 },
        ];
        let mut all = vec![Claim::Idle, Claim::Offered(None)];
        for o in owners {
            all.extend([Claim::Offered(Some(o)), Claim::Claimed(o), Claim::Released(o)]);
        }
        for claim in &all {
            assert_eq!(Claim::from_word(claim.to_word()), *claim);
        }
        let mut words: Vec<u32> = all.iter().map(|c| c.to_word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all.len(), "two claims share a word");
    }

    #[test]
    fn words_that_cannot_be_are_garbage_and_stay_so() {
        for word in [1, 0xffff, 1 << 24 | 64 << 16, 1 << 24 | ANY << 16 | 1, 2 << 24 | ANY << 16] {
            assert_eq!(Claim::from_word(word), Claim::Garbage(word));
        }
        for state in 4..=255_u32 {
            assert_eq!(Claim::from_word(state << 24), Claim::Garbage(state << 24));
        }
        let mut rng = crate::mock::Rng::new(1);
        for _ in 0..100_000 {
            let word = rng.next_u32();
            assert_eq!(Claim::from_word(word).to_word(), word);
        }
    }

    #[test]
    fn a_late_release_does_not_touch_a_new_offer() {
        let (me, word) = (Owner { slot: 1, epoch: 1 }, AtomicU32::new(0));
        let ready = AtomicU64::new(0);
        offer(&word, &ready, 1, None);
        assert!(claim(&word, None, me));
        assert!(release(&word, me));
        offer(&word, &ready, 1, None);
        assert!(!release(&word, me));
        assert_eq!(Claim::from_word(word.load(Ordering::Relaxed)), Claim::Offered(None));
    }
}
