//! How long to poll before sleeping: as long as the last waits let one hope, and not at all while the machine has more to
//! do than it has cores for.
//!
//! Measured: a poll with `sched_yield` notices within 0.5 µs across cores, a sleep costs the waker a system call and the
//! sleeper some 50 µs. So a wait that is likely to be over soon is polled through, and any other one is slept through
//! from the start: what is then lost is a few microseconds of a long wait.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Waits that usually take longer than this are not polled for.
const HOPE: Duration = Duration::from_micros(100);
/// What is polled without much hope, so that a change is noticed.
const GLANCE: Duration = Duration::from_micros(4);
/// Longer waits count as this long.
const LONG: Duration = Duration::from_millis(1);

/// Who yields and comes back this late has let somebody in who computes: on such a machine a thread that sleeps is
/// called sooner than one that yields.
const CROWDED: Duration = Duration::from_millis(2);
/// For how long it is not tried again.
const REST: Duration = Duration::from_millis(20);

/// Nobody polls before this moment, in nanoseconds since [`start`].
static REST_UNTIL: AtomicU64 = AtomicU64::new(0);

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn nanos_at(moment: Instant) -> u64 {
    moment.saturating_duration_since(start()).as_nanos() as u64
}

/// How long waits of one kind usually take in this process.
#[derive(Debug)]
pub struct Habit {
    nanos: AtomicU32,
    hope: Duration,
}

impl Habit {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self::hoping(HOPE)
    }

    /// The same for waits that are worth polling for if they usually take less than `hope`: less than 500 µs.
    pub const fn hoping(hope: Duration) -> Self {
        Self { nanos: AtomicU32::new(30_000), hope }
    }

    /// A moving average over the last eight waits or so.
    pub fn usual(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed).into())
    }

    /// Counts one that has ended. Threads may overwrite each other's; each value is as good as the next.
    pub fn learn(&self, took: Duration) {
        let took = took.min(LONG).as_nanos() as u32;
        let usual = self.nanos.load(Ordering::Relaxed);
        self.nanos.store(usual - usual / 8 + took / 8, Ordering::Relaxed);
    }

    /// Begins a wait. `at_most` bounds the polling: nothing for nothing.
    pub fn begin(&self, at_most: Duration) -> Wait<'_> {
        let usual = self.usual();
        let wish = if usual < self.hope { usual * 2 + GLANCE } else { GLANCE };
        let began = Instant::now();
        let rests = nanos_at(began) < REST_UNTIL.load(Ordering::Relaxed);
        let poll = if rests { Duration::ZERO } else { wish.min(at_most) };
        Wait { habit: self, began, looked: began, poll }
    }
}

impl Default for Habit {
    fn default() -> Self {
        Self::new()
    }
}

/// A wait that goes on.
#[derive(Debug)]
pub struct Wait<'h> {
    habit: &'h Habit,
    began: Instant,
    looked: Instant,
    poll: Duration,
}

impl Wait<'_> {
    /// Yields if there is still time to poll; false if it is time to sleep.
    pub fn yield_once(&mut self) -> bool {
        if self.looked.saturating_duration_since(self.began) >= self.poll {
            return false;
        }
        std::thread::yield_now();
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) > CROWDED {
            REST_UNTIL.store(nanos_at(now + REST), Ordering::Relaxed);
            self.poll = Duration::ZERO;
        }
        self.looked = now;
        true
    }

    /// Polls no more.
    pub fn stop_polling(&mut self) {
        self.poll = Duration::ZERO;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.habit.learn(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_waits_are_polled_for_and_long_ones_are_not() {
        let habit = Habit::new();
        for _ in 0..100 {
            habit.learn(Duration::from_micros(10));
        }
        let usual = habit.usual();
        assert!(usual > Duration::from_micros(8) && usual < Duration::from_micros(11), "{usual:?}");
        for _ in 0..100 {
            habit.learn(Duration::from_secs(5));
        }
        assert!(habit.usual() > HOPE);
        assert!(habit.begin(Duration::from_secs(1)).poll <= GLANCE);
        // It learns again.
        for _ in 0..100 {
            habit.learn(Duration::from_micros(50));
        }
        assert!(habit.usual() < HOPE);
    }

    #[test]
    fn who_must_not_poll_does_not_yield() {
        let habit = Habit::new();
        assert!(!habit.begin(Duration::ZERO).yield_once());
        let mut wait = habit.begin(Duration::from_secs(1));
        wait.stop_polling();
        assert!(!wait.yield_once());
    }
}
