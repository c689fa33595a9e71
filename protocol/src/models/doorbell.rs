use super::{Arc, Futex, check, thread};
use crate::doorbell::Doorbell;
use crate::sync::{AtomicU32, Ordering};

#[derive(Debug)]
struct Pool {
    futex: Futex,
    bell: AtomicU32,
    sleepers: AtomicU32,
    slot: AtomicU32,
    /// Threads that have promised to look.
    lookers: AtomicU32,
    /// Offered lanes, as a number: taking one is the claim.
    work: AtomicU32,
}

impl Pool {
    fn new() -> Arc<Self> {
        let zero = || AtomicU32::new(0);
        let (bell, sleepers, slot, work) = (zero(), zero(), zero(), zero());
        let lookers = zero();
        Arc::new(Self { futex: Futex::new(), bell, sleepers, slot, lookers, work })
    }
    fn doorbell(&self) -> Doorbell<'_> {
        Doorbell { bell: &self.bell, sleepers: &self.sleepers }
    }
    fn take(&self) -> bool {
        self.work.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_ok()
    }
    /// An idle thread: takes one piece of work, sleeping as `PoolPage::sleep` does until there is one.
    fn serve_one(&self) {
        while !self.take() {
            let seen = self.doorbell().prepare(&self.slot);
            if self.work.load(Ordering::Acquire) == 0 {
                self.futex.sleep(&self.bell, seen);
            }
            self.doorbell().awake(&self.slot);
        }
    }
    /// Offers one piece of work and rings as `PoolPage::ring` does.
    fn offer(&self) {
        self.work.fetch_add(1, Ordering::Release);
        if !Doorbell::someone(&self.lookers) && Doorbell::someone(&self.sleepers) {
            self.doorbell().change();
            self.futex.wake_one();
        }
    }
}

/// Catches: no fence in `prepare`; no fence in `someone`; no change of the bell; the bell read after the last look for
/// work instead of before it.
#[test]
fn no_ring_is_lost() {
    check(3, || {
        let pool = Pool::new();
        let ringer = Arc::clone(&pool);
        let host = thread::spawn(move || ringer.offer());
        pool.serve_one();
        host.join().unwrap();
        assert_eq!(pool.sleepers.load(Ordering::Relaxed), 0);
        assert_eq!(pool.slot.load(Ordering::Relaxed), 0);
    });
}

/// Catches: no fence before the ringer looks for lookers; a looker that counts itself out only when it sleeps.
#[test]
fn a_promise_to_look_is_kept() {
    check(3, || {
        let pool = Pool::new();
        pool.lookers.store(1, Ordering::Relaxed);
        let ringer = Arc::clone(&pool);
        let host = thread::spawn(move || ringer.offer());
        if !pool.take() {
            // As `PoolPage::look_end`; then `PoolPage::sleep`.
            pool.lookers.fetch_sub(1, Ordering::Relaxed);
            pool.serve_one();
        }
        host.join().unwrap();
    });
}

/// Catches: a ringer that does not ring again when it has rung before.
#[test]
fn two_offers_reach_two_sleepers() {
    check(2, || {
        let pool = Pool::new();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.serve_one())
            })
            .collect();
        pool.offer();
        pool.offer();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(pool.work.load(Ordering::Relaxed), 0);
    });
}
