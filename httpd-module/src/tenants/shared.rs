//! Counters in memory that all children of one httpd share: how many threads a tenant holds in all of them.
//!
//! httpd's parent makes the memory before it has children; only they can reach it, never a worker. Each child counts in a
//! place of its own, so what a child held is found and cleared when it has died.
#![allow(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vivarium_protocol::futex;

/// The most children at a time that count; more of them count for themselves.
const CHILDREN: usize = 1024;
/// The most tenants that hold threads at a time; of more, only what each child sees is limited.
const TENANTS: usize = 4096;
/// How many places after its own a tenant's name is looked for.
const PROBES: usize = 32;
/// How long a wait for another child's place lasts before looking around.
const LOOK: Duration = Duration::from_millis(50);

/// What belongs to one child lies together, not what belongs to one tenant: a thousand tenants touch a few pages.
#[repr(C)]
struct Table {
    children: [AtomicI32; CHILDREN],
    /// No child has a place from here on.
    end: AtomicU32,
    /// For each tenant: a hash of its name; 0 for none.
    names: [AtomicU64; TENANTS],
    /// For each tenant: changes when a place comes free; who waits sleeps on it.
    freed: [AtomicU32; TENANTS],
    /// For each child and tenant: threads held (upper half) and running (lower half).
    counts: [[AtomicU32; TENANTS]; CHILDREN],
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(core::ptr::null_mut());
/// This child's place.
static PLACE: OnceLock<Option<usize>> = OnceLock::new();

const HELD: u32 = 1 << 16;

/// In the parent: makes the memory, once in its life. Without it, only what each child sees is limited.
pub(crate) fn make() {
    if !TABLE.load(Ordering::Acquire).is_null() {
        return;
    }
    // SAFETY: a new anonymous mapping; all-zero memory is a valid `Table`, and untouched pages of it cost nothing.
    let memory = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            size_of::<Table>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if memory != libc::MAP_FAILED {
        TABLE.store(memory.cast(), Ordering::Release);
    }
}

fn table() -> Option<&'static Table> {
    // SAFETY: null, or the mapping of `make`, which is never taken away; it holds atomics alone.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

impl Table {
    fn places(&self) -> usize {
        (self.end.load(Ordering::Relaxed) as usize).min(CHILDREN)
    }

    /// Takes a place for this process; that of a dead child is cleared first.
    fn take_place(&self, pid: i32) -> Option<usize> {
        self.clear_dead();
        let free =
            |c: &AtomicI32| c.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let place = self.children.iter().position(free)?;
        self.end.fetch_max(place as u32 + 1, Ordering::Relaxed);
        Some(place)
    }

    /// Clears what dead children held.
    fn clear_dead(&self) {
        for (place, child) in self.children[..self.places()].iter().enumerate() {
            let pid = child.load(Ordering::Acquire);
            if pid == 0 || crate::process::exists(pid) {
                continue;
            }
            // -1: being cleared, by one process.
            if child.compare_exchange(pid, -1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                for (count, name) in self.counts[place].iter().zip(&self.names) {
                    if name.load(Ordering::Relaxed) != 0 {
                        count.store(0, Ordering::Relaxed);
                    }
                }
                child.store(0, Ordering::Release);
            }
        }
    }

    fn slot(&self, name: &str) -> Option<usize> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let hash = hasher.finish().max(1);
        (0..PROBES).map(|i| (hash as usize).wrapping_add(i) % TENANTS).find(|slot| {
            match self.names[*slot].compare_exchange(0, hash, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => true,
                Err(other) => other == hash,
            }
        })
    }
}

/// A tenant's counters, as this child uses them.
#[derive(Clone, Copy)]
pub(crate) struct Counter {
    table: &'static Table,
    /// The tenant's place.
    slot: usize,
    /// The child's.
    place: usize,
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counter").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The counters of a tenant; none if there is no room for it.
pub(crate) fn counter(tenant: &str) -> Option<Counter> {
    let table = table()?;
    let place = (*PLACE.get_or_init(|| table.take_place(crate::process::pid())))?;
    Some(Counter { table, slot: table.slot(tenant)?, place })
}

impl Counter {
    fn freed(&self) -> &AtomicU32 {
        &self.table.freed[self.slot]
    }

    fn own(&self) -> &AtomicU32 {
        &self.table.counts[self.place][self.slot]
    }

    /// Threads held and running, in all children.
    fn totals(&self) -> (u32, u32) {
        let counts = self.table.counts[..self.table.places()].iter();
        counts
            .map(|c| c[self.slot].load(Ordering::Relaxed))
            .fold((0, 0), |(held, running), n| (held + (n >> 16), running + (n & 0xffff)))
    }

    fn fits(&self, over: impl Fn((u32, u32)) -> bool, take_back: u32) -> bool {
        if !over(self.totals()) {
            return true;
        }
        // What a dead child held is nobody's.
        self.table.clear_dead();
        let fits = !over(self.totals());
        if !fits {
            self.own().fetch_sub(take_back, Ordering::Relaxed);
        }
        fits
    }

    /// Counts a thread as held unless there are `most` already (0: any number).
    pub(super) fn hold(&self, most: u32) -> bool {
        self.own().fetch_add(HELD, Ordering::SeqCst);
        most == 0 || self.fits(|(held, _)| held > most, HELD)
    }

    /// Counts it as running, as soon as there are fewer than `most`, until `until` at the latest.
    pub(super) fn run(&self, most: u32, until: Instant) -> bool {
        loop {
            let word = self.freed().load(Ordering::SeqCst);
            self.own().fetch_add(1, Ordering::SeqCst);
            if most == 0 || self.fits(|(_, running)| running > most, 1) {
                return true;
            }
            // Somebody may have counted us while we tried.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let _ = futex::sleep_on(self.freed(), word, left.min(LOOK));
        }
    }

    /// The thread no longer runs.
    pub(super) fn stop(&self) {
        self.own().fetch_sub(1, Ordering::SeqCst);
        self.freed().fetch_add(1, Ordering::SeqCst);
        let one = core::num::NonZeroU32::MAX;
        futex::wake_mask(self.freed(), 1, one);
    }

    /// It is no longer held.
    pub(super) fn release(&self) {
        self.own().fetch_sub(HELD, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter_of(place: usize) -> Counter {
        let table = table().unwrap();
        table.end.fetch_max(place as u32 + 1, Ordering::Relaxed);
        table.children[place].store(crate::process::pid(), Ordering::Relaxed);
        Counter { table, slot: table.slot("alice").unwrap(), place }
    }

    #[test]
    fn children_share_a_limit_and_the_dead_hold_nothing() {
        make();
        let (a, b) = (counter_of(0), counter_of(1));
        assert!(a.hold(3) && b.hold(3) && a.hold(3));
        assert!(!b.hold(3), "three are held already");
        a.release();
        assert!(b.hold(3));
        let now = Instant::now();
        assert!(a.run(1, now));
        assert!(!b.run(1, now), "one runs already");
        a.stop();
        assert!(b.run(1, now));
        // The second child dies with what it holds. No process has this number.
        b.table.children[1].store(i32::MAX, Ordering::Relaxed);
        assert!(a.run(1, now), "what the dead child ran does not count");
        assert_eq!(a.totals(), (1, 1));
        a.stop();
        assert_eq!(a.table.slot("alice"), Some(a.slot));
        assert_ne!(a.table.slot("bob"), Some(a.slot));
    }
}
