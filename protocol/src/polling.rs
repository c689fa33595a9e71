//! How long to poll before sleeping: as long as the last waits let one hope, and not at all while the machine has more to
//! do than it has cores for.
//!
//! Measured: a poll with `sched_yield` notices within 0.5 µs across cores, a sleep costs the waker a system call and the
//! sleeper some 50 µs. So a wait that is likely to be over soon is polled through, and any other one is slept through
//! from the start: what is then lost is a few microseconds of a long wait.
//!
//! Where many wait for one peer, what counts is not how long each of them waits but how fast the peer gets on: among
//! sixty threads that a worker serves one after the other, each in twenty microseconds, who yields lets the others run
//! and mostly finds its answer when it comes back, without a sleep on its side and a wake-up on the other. So a wait's
//! length is divided by what the peer got done in it ([`Habit::begin`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Waits that usually take longer than this are not polled for.
const HOPE: Duration = Duration::from_micros(100);
/// What is polled without much hope, so that a change is noticed.
const GLANCE: Duration = Duration::from_micros(4);
/// Longer waits count as this long.
const LONG: Duration = Duration::from_millis(1);

/// Who yields and comes back this late has let somebody in who computes, unless the peer got much done meanwhile: on such
/// a machine a thread that sleeps is called sooner than one that yields.
const CROWDED: Duration = Duration::from_millis(2);
/// The peer got little done then: less than one thing in this time.
const SLUGGISH: Duration = Duration::from_micros(500);
/// For how long it is not tried again.
const REST: Duration = Duration::from_millis(20);
/// A look has at least so many turns.
const TURNS: u32 = 4;

/// Nobody polls before this moment, in nanoseconds since [`start`].
static REST_UNTIL: AtomicU64 = AtomicU64::new(0);

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn nanos_at(moment: Instant) -> u64 {
    moment.saturating_duration_since(start()).as_nanos() as u64
}

/// Yields, and takes down in `looked` when it came back. False if that let somebody in who computes: then nobody polls
/// for a while. `meanwhile` tells how much got done that we wait for.
fn yield_watching(looked: &mut Instant, meanwhile: impl FnOnce() -> u32) -> bool {
    std::thread::yield_now();
    let now = Instant::now();
    let away = now.saturating_duration_since(*looked);
    *looked = now;
    let crowded = away > CROWDED && away / meanwhile().max(1) > SLUGGISH;
    if crowded {
        REST_UNTIL.store(nanos_at(now + REST), Ordering::Relaxed);
    }
    !crowded
}

/// Looks whether `ready`, yielding in between, for `at_most`, but a few times in any case: where many run, a yield takes
/// long, and it is they who make it so. `None`, without a look, while the machine is crowded. `done` counts what this
/// process gets done, for whomever; it may wrap.
pub fn look(at_most: Duration, ready: impl Fn() -> bool, done: impl Fn() -> u32) -> Option<bool> {
    let began = Instant::now();
    if nanos_at(began) < REST_UNTIL.load(Ordering::Relaxed) {
        return None;
    }
    let (mut looked, mut before) = (began, done());
    for turn in 0.. {
        if ready() {
            return Some(true);
        }
        if turn >= TURNS && looked.saturating_duration_since(began) >= at_most {
            return Some(false);
        }
        let meanwhile = || {
            let now = done();
            now.wrapping_sub(std::mem::replace(&mut before, now))
        };
        if !yield_watching(&mut looked, meanwhile) {
            return Some(ready());
        }
    }
    None
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

    /// Counts one that has ended, and took so long for each thing that the peer got done. Threads may overwrite each
    /// other's; each value is as good as the next.
    pub fn learn(&self, took: Duration) {
        let took = took.min(LONG).as_nanos() as u32;
        let usual = self.nanos.load(Ordering::Relaxed);
        self.nanos.store(usual - usual / 8 + took / 8, Ordering::Relaxed);
    }

    /// Begins a wait. `at_most` bounds the polling: nothing for nothing. `done` is how much the peer has got done so far,
    /// for whomever: a count that may wrap, or always the same.
    pub fn begin(&self, at_most: Duration, done: u32) -> Wait<'_> {
        let usual = self.usual();
        let wish = if usual < self.hope { usual * 2 + GLANCE } else { GLANCE };
        let began = Instant::now();
        let rests = nanos_at(began) < REST_UNTIL.load(Ordering::Relaxed);
        let poll = if rests { Duration::ZERO } else { wish.min(at_most) };
        Wait { habit: self, began, looked: began, poll, before: done, done }
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
    /// What the peer had got done when the wait began, and when we last looked.
    before: u32,
    done: u32,
}

impl Wait<'_> {
    /// Yields if there is still time to poll; false if it is time to sleep. `done`: see [`Habit::begin`].
    pub fn yield_once(&mut self, done: impl FnOnce() -> u32) -> bool {
        if self.looked.saturating_duration_since(self.began) >= self.poll {
            return false;
        }
        let mut looked = self.looked;
        if !yield_watching(&mut looked, || self.saw(done())) {
            self.poll = Duration::ZERO;
        }
        self.looked = looked;
        true
    }

    /// Takes down how much the peer has got done by now; returns how much of it is new.
    pub fn saw(&mut self, done: u32) -> u32 {
        let new = done.wrapping_sub(self.done);
        self.done = done;
        new
    }

    /// Polls no more.
    pub fn stop_polling(&mut self) {
        self.poll = Duration::ZERO;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.habit.learn(self.began.elapsed() / self.done.wrapping_sub(self.before).max(1));
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
        assert!(habit.begin(Duration::from_secs(1), 0).poll <= GLANCE);
        // It learns again.
        for _ in 0..100 {
            habit.learn(Duration::from_micros(50));
        }
        assert!(habit.usual() < HOPE);
    }

    #[test]
    fn a_look_ends_when_its_time_is_over_or_it_has_found_what_it_looked_for() {
        let looks = std::cell::Cell::new(0);
        let third = || looks.replace(looks.get() + 1) == 2;
        // Others' tests may have found the machine crowded: then nothing is looked at.
        let found = look(Duration::from_secs(3600), third, || looks.get());
        assert!(found != Some(true) || looks.get() == 3);
        assert_ne!(look(Duration::ZERO, || false, || 0), Some(true));
    }

    #[test]
    fn who_must_not_poll_does_not_yield() {
        let habit = Habit::new();
        assert!(!habit.begin(Duration::ZERO, 0).yield_once(|| 0));
        let mut wait = habit.begin(Duration::from_secs(1), 0);
        wait.stop_polling();
        assert!(!wait.yield_once(|| 0));
    }

    #[test]
    fn a_long_wait_for_a_peer_that_gets_on_fast_counts_as_many_short_ones() {
        let long_one = |habit: &Habit, done: u32| {
            let mut wait = habit.begin(Duration::ZERO, u32::MAX - 7);
            wait.began = Instant::now().checked_sub(Duration::from_millis(50)).unwrap();
            wait.saw((u32::MAX - 7).wrapping_add(done));
        };
        let (alone, among) = (Habit::new(), Habit::new());
        for _ in 0..100 {
            long_one(&alone, 1);
            long_one(&among, 5000);
        }
        assert!(alone.usual() > HOPE, "{alone:?}");
        assert!(among.usual() < HOPE, "{among:?}");
    }
}
