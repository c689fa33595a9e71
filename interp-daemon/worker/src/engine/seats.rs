//! What the request threads have promised: to look for offered lanes before they sleep.
//!
//! While requests are short, one thread of a worker that keeps its promise while it runs them serves them one after the
//! other; httpd need not wake anybody, and no two threads hand the interpreter's lock to and fro. Where requests take
//! long (they compute, or wait for something), no promise is kept beyond the start of a request, and every offer wakes
//! a thread. A thread whose request takes longer than it should loses its promise to the next thread that wakes up.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use vivarium_protocol::page::PoolPage;

use super::lock;

/// Requests that usually take less are short.
const SHORT: Duration = Duration::from_micros(200);
/// A request under way for this long is not short after all.
const STUCK: Duration = Duration::from_micros(500);
/// Longer requests count as this long.
const LONG: Duration = Duration::from_millis(1);

/// How long requests usually take here, in nanoseconds: a moving average. The first ones import modules: not short.
static USUAL: AtomicU32 = AtomicU32::new(LONG.as_nanos() as u32);
static SEATS: Mutex<Vec<Arc<Seat>>> = Mutex::new(Vec::new());

fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Never 0: that is "no request".
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

/// Whether requests are short here.
pub(crate) fn short() -> bool {
    Duration::from_nanos(USUAL.load(Ordering::Relaxed).into()) < SHORT
}

/// One request thread.
#[derive(Debug)]
pub(crate) struct Seat {
    slot: u8,
    promised: AtomicBool,
    /// When its request began; 0 without one.
    since: AtomicU64,
}

impl Seat {
    /// The seat of a new thread.
    pub(crate) fn take(slot: u8) -> Arc<Self> {
        let seat =
            Arc::new(Self { slot, promised: AtomicBool::new(false), since: AtomicU64::new(0) });
        lock(&SEATS).push(Arc::clone(&seat));
        seat
    }

    /// The thread will look before it sleeps.
    pub(crate) fn promise(&self, page: &PoolPage) {
        if !self.promised.swap(true, Ordering::AcqRel) {
            page.look_begin(self.slot);
        }
    }

    /// It may not; whoever calls this sees to it that somebody looks.
    pub(crate) fn withdraw(&self, page: &PoolPage) {
        if self.promised.swap(false, Ordering::AcqRel) {
            page.look_end(self.slot);
        }
    }

    /// A request begins.
    pub(crate) fn begin(&self, page: &PoolPage) {
        if short() {
            self.since.store(now(), Ordering::Release);
        } else {
            self.withdraw(page);
            self.since.store(now(), Ordering::Relaxed);
        }
    }

    /// It has ended.
    pub(crate) fn end(&self) {
        let began = self.since.swap(0, Ordering::AcqRel);
        let took = now().saturating_sub(began).min(LONG.as_nanos() as u64) as u32;
        let usual = USUAL.load(Ordering::Relaxed);
        USUAL.store(usual - usual / 8 + took / 8, Ordering::Relaxed);
    }
}

/// Takes their promises from threads whose requests take longer than is usual.
pub(crate) fn withdraw_stuck(page: &PoolPage) {
    let now = now();
    for seat in lock(&SEATS).iter() {
        let since = seat.since.load(Ordering::Acquire);
        if since != 0 && now.saturating_sub(since) > STUCK.as_nanos() as u64 {
            seat.withdraw(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test after the other: all seats of a process are in one list.
    #[test]
    fn promises() {
        a_promise_counts_once_and_a_stuck_one_is_withdrawn();
        requests_are_short_once_enough_of_them_were();
    }

    fn a_promise_counts_once_and_a_stuck_one_is_withdrawn() {
        let (page, _fd) = PoolPage::create().unwrap();
        let seat = Seat::take(3);
        seat.promise(&page);
        seat.promise(&page);
        assert_eq!((page.looking(), page.looking_in(3)), (1, 1));
        // Nothing under way: it keeps its promise.
        withdraw_stuck(&page);
        assert_eq!(page.looking(), 1);
        seat.since.store(1, Ordering::Release);
        let began = Instant::now();
        while began.elapsed() < STUCK * 2 {
            std::thread::yield_now();
        }
        withdraw_stuck(&page);
        assert_eq!((page.looking(), page.looking_in(3)), (0, 0));
        seat.withdraw(&page);
        assert_eq!(page.looking(), 0);
        lock(&SEATS).clear();
    }

    fn requests_are_short_once_enough_of_them_were() {
        let (page, _fd) = PoolPage::create().unwrap();
        let seat = Seat::take(4);
        for _ in 0..100 {
            seat.begin(&page);
            seat.end();
        }
        assert!(short());
        seat.promise(&page);
        seat.begin(&page);
        assert_eq!(page.looking_in(4), 1, "kept while a short request runs");
        USUAL.store(LONG.as_nanos() as u32, Ordering::Relaxed);
        seat.begin(&page);
        assert_eq!(page.looking_in(4), 0, "and not while a long one does");
    }
}
