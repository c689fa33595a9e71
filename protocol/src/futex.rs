//! Waiting and waking across processes: poll a little, then sleep on a shared futex word.
//!
//! The word of a sleep/wake pair is 0 while its owner is awake; while it sleeps, or is about to, the word says what for:
//! data to read or room to write. The sleeper stores that, fences, looks once more, and only then sleeps; the waker
//! publishes, fences, and looks at the word. One of the two always sees the other, so no wake-up is lost, and nobody
//! pays a system call when nobody sleeps, or when the sleeper waits for something else.
//!
//! The futex calls are the shared form: the `PRIVATE` form does not reach another process.

use std::time::Duration;

#[cfg(not(loom))]
use rustix::thread::futex;

use crate::sync::{AtomicU32, Ordering, fence};

const AWAKE: u32 = 0;

/// What a thread sleeps for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum SleepFor {
    /// Something to read.
    Data = 1,
    /// Room to write.
    Room = 2,
}

/// How long to poll before sleeping, and the longest single sleep.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Poll with `sched_yield` in between for this long. Measured: 0.5 µs across cores against 55 µs for a sleep.
    pub poll: Duration,
    /// Sleep at most this long before looking around again (a guard against a peer that ruins the word).
    pub slice: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { poll: Duration::from_micros(20), slice: Duration::from_secs(1) }
    }
}

/// How one wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The condition holds.
    Ready,
    /// One slice is over, or somebody woke us, and the condition does not hold yet.
    Look,
}

/// Waits until `ready` holds, for one polling time and at most one slice of sleep.
///
/// `ready` may fail; its error ends the wait.
///
/// # Errors
/// Whatever `ready` returns.
#[cfg(not(loom))]
pub fn wait<E>(
    word: &AtomicU32,
    what: SleepFor,
    patience: Patience,
    ready: impl FnMut() -> Result<bool, E>,
) -> Result<Waited, E> {
    wait_watching(word, what, patience, ready, || Ok(()))
}

/// [`wait`], with a last look at whatever [`wake_always`] announces: `watch` is called once, after the sleep has been
/// announced and before it begins. What is looked at only earlier can change unnoticed for a whole slice.
///
/// # Errors
/// Whatever `ready` or `watch` returns.
#[cfg(not(loom))]
pub fn wait_watching<E>(
    word: &AtomicU32,
    what: SleepFor,
    patience: Patience,
    ready: impl FnMut() -> Result<bool, E>,
    watch: impl FnOnce() -> Result<(), E>,
) -> Result<Waited, E> {
    let start = std::time::Instant::now();
    let on = || {
        let goes_on = start.elapsed() < patience.poll;
        if goes_on {
            std::thread::yield_now();
        }
        goes_on
    };
    poll_and_sleep(word, what, patience.slice, on, ready, watch)
}

/// [`wait_watching`] that polls while `on` (which yields) says so, and sleeps for a `slice` at most.
///
/// # Errors
/// Whatever `ready` or `watch` returns.
#[cfg(not(loom))]
pub(crate) fn poll_and_sleep<E>(
    word: &AtomicU32,
    what: SleepFor,
    slice: Duration,
    mut on: impl FnMut() -> bool,
    mut ready: impl FnMut() -> Result<bool, E>,
    watch: impl FnOnce() -> Result<(), E>,
) -> Result<Waited, E> {
    if ready()? {
        return Ok(Waited::Ready);
    }
    while on() {
        if ready()? {
            return Ok(Waited::Ready);
        }
    }
    announce_sleep(word, what);
    let done = ready().and_then(|ready| if ready { Ok(true) } else { watch().map(|()| false) });
    if !matches!(done, Ok(false)) {
        word.store(AWAKE, Ordering::Relaxed);
        return done.map(|_| Waited::Ready);
    }
    // Whatever ends the sleep (a wake, the time, a signal, another value in the word), the answer is to look again.
    let _ = sleep_on(word, what as u32, slice);
    word.store(AWAKE, Ordering::Relaxed);
    if ready()? { Ok(Waited::Ready) } else { Ok(Waited::Look) }
}

/// The sleeper's half of the pair: call, look once more at the condition, then sleep.
pub fn announce_sleep(word: &AtomicU32, what: SleepFor) {
    word.store(what as u32, Ordering::Relaxed);
    // SYNC(sleep): pairs with the fence in `needs_wake`: either the waker sees us or we see what it published.
    fence(Ordering::SeqCst);
}

/// The waker's half of the pair: call after publishing; if it returns true, the sleeper has to be woken.
pub fn needs_wake(word: &AtomicU32, what: SleepFor) -> bool {
    // SYNC(sleep): pairs with the fence in `announce_sleep`.
    fence(Ordering::SeqCst);
    word.load(Ordering::Relaxed) == what as u32
}

/// The first half of [`wake_always`]: makes a thread that is about to sleep on `word` look again. Whoever the flag
/// was set for either sees it after [`announce_sleep`], or has its word changed under it and does not fall asleep.
pub fn announce_event(word: &AtomicU32) {
    // SYNC(event): pairs with the fence in `announce_sleep`.
    fence(Ordering::SeqCst);
    word.store(AWAKE, Ordering::Relaxed);
}

/// Wakes the owner of `word` if it sleeps for `what`; returns whether a system call was made.
#[cfg(not(loom))]
pub fn wake(word: &AtomicU32, what: SleepFor) -> bool {
    if !needs_wake(word, what) {
        return false;
    }
    word.store(AWAKE, Ordering::Relaxed);
    let _ = futex::wake(word, futex::Flags::empty(), 1);
    true
}

/// Wakes the owner of `word` whatever the word says: for events (set a flag first) that must get through to a thread
/// whose word a hostile peer may have overwritten. The thread looks at the flag in [`wait_watching`].
///
/// A peer that maps the word can even move its sleeper to another futex (`FUTEX_REQUEUE`): then the wake finds nobody,
/// and the slice ends the sleep.
#[cfg(not(loom))]
pub fn wake_always(word: &AtomicU32) {
    announce_event(word);
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

#[cfg(not(loom))]
fn timespec(d: Duration) -> futex::Timespec {
    futex::Timespec {
        tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: d.subsec_nanos().into(),
    }
}

/// Sleeps while `word` is `value`, for at most `limit`.
///
/// # Errors
/// What `futex(2)` says: `EAGAIN` (the word had another value), `ETIMEDOUT`, `EINTR`.
#[cfg(not(loom))]
pub fn sleep_on(word: &AtomicU32, value: u32, limit: Duration) -> rustix::io::Result<()> {
    futex::wait(word, futex::Flags::empty(), value, Some(&timespec(limit)))
}

/// Sleeps while `word` is `value`, until woken with a mask that shares a bit with `mask`, for at most `limit`.
///
/// # Errors
/// As [`sleep_on`].
#[cfg(not(loom))]
pub fn sleep_on_mask(
    word: &AtomicU32,
    value: u32,
    mask: std::num::NonZeroU32,
    limit: Duration,
) -> rustix::io::Result<()> {
    // FUTEX_WAIT_BITSET takes a point in time, not a length.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = i64::from(limit.subsec_nanos()) + now.tv_nsec;
    let until = futex::Timespec {
        tv_sec: now.tv_sec
            + i64::try_from(limit.as_secs()).unwrap_or(1 << 30)
            + nanos / 1_000_000_000,
        tv_nsec: nanos % 1_000_000_000,
    };
    futex::wait_bitset(word, futex::Flags::empty(), value, Some(&until), mask)
}

/// Wakes up to `count` sleepers of [`sleep_on_mask`] whose mask shares a bit with `mask`; returns how many.
#[cfg(not(loom))]
pub fn wake_mask(word: &AtomicU32, count: u32, mask: std::num::NonZeroU32) -> usize {
    futex::wake_bitset(word, futex::Flags::empty(), count, mask).unwrap_or(0)
}
