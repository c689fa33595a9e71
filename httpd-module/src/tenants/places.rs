//! The places of one tenant in one child: how many threads may run, how many may wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vivarium_protocol::policy::TenantPolicy;

/// The limits of one tenant in one child. 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Threads that run, and that are held, in this child.
    pub(super) run: u32,
    pub(super) hold: u32,
    /// Threads that wait, in this child.
    pub(super) queue: u32,
    /// Threads that run, and that are held, in all children.
    pub(super) run_all: u32,
    pub(super) hold_all: u32,
    pub(super) wait: Duration,
    pub(super) retry_after: u32,
}

impl Limits {
    /// `threads` of a child, `all` of all children.
    pub(super) fn of(policy: &TenantPolicy, threads: u32, all: u32) -> Self {
        let half = |n: u32| (n / 2).max(1);
        let bound = |most: u32, half: u32| if most == 0 { (0, 0) } else { (most.min(half), half) };
        let (run, hold) = bound(policy.max_threads_per_child, half(threads));
        let (run_all, hold_all) = bound(policy.max_threads, half(all));
        let wait = Duration::from_millis(u64::from(policy.queue_deadline_ms));
        Self {
            run,
            hold,
            queue: policy.queue,
            run_all,
            hold_all,
            wait: if wait.is_zero() { DEFAULT_WAIT } else { wait },
            retry_after: policy.retry_after_s.max(1),
        }
    }

    pub(super) fn is_open(self) -> bool {
        self.run == 0 && self.run_all == 0
    }
}

/// How long a request waits for a place if its tenant says nothing.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// What keeps a request from a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All that the tenant may hold is held.
    Held,
    /// As many as may wait do so.
    Queue,
    /// It has waited its time.
    Expired,
}

impl Full {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Held => "holds as many of httpd's threads as it may",
            Self::Queue => "has as many requests waiting for a thread as it may",
            Self::Expired => "had no thread for a request within its time",
        }
    }
}

#[derive(Debug)]
struct State {
    limits: Limits,
    running: u32,
    waiting: u32,
}

/// A tenant's places.
#[derive(Debug)]
pub(super) struct Places {
    state: Mutex<State>,
    freed: Condvar,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { state: Mutex::new(State { limits, running: 0, waiting: 0 }), freed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> Limits {
        self.state().limits
    }

    pub(super) fn set(&self, limits: Limits) {
        self.state().limits = limits;
        self.freed.notify_all();
    }

    /// A place in this child.
    pub(super) fn enter(&self, since: Instant) -> Result<Limits, (Full, Limits)> {
        let mut state = self.state();
        let limits = state.limits;
        if limits.hold > 0 && state.running + state.waiting >= limits.hold {
            return Err((Full::Held, limits));
        }
        if limits.run > 0 && state.running >= limits.run {
            if state.waiting >= limits.queue {
                return Err((Full::Queue, limits));
            }
            state.waiting += 1;
            let until = since + limits.wait;
            while state.limits.run > 0 && state.running >= state.limits.run {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    state.waiting -= 1;
                    return Err((Full::Expired, limits));
                }
                state =
                    self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            state.waiting -= 1;
        }
        state.running += 1;
        Ok(limits)
    }

    pub(super) fn leave(&self) {
        self.state().running -= 1;
        self.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn policy(run: u32, queue: u32, wait_ms: u32) -> TenantPolicy {
        TenantPolicy {
            confined: true,
            max_threads_per_child: run,
            queue,
            queue_deadline_ms: wait_ms,
            ..TenantPolicy::unconfined("alice")
        }
    }

    #[test]
    fn a_tenant_has_half_of_a_child_at_most() {
        let limits = Limits::of(&policy(8, 32, 0), 10, 100);
        assert_eq!((limits.run, limits.hold), (5, 5));
        let limits = Limits::of(&policy(8, 32, 0), 25, 100);
        assert_eq!((limits.run, limits.hold), (8, 12), "four more may wait");
        let limits = Limits::of(&policy(8, 0, 0), 1, 6);
        assert_eq!((limits.run, limits.hold), (1, 1), "one thread is not halved");
        let limits = Limits::of(&TenantPolicy { max_threads: 64, ..policy(0, 0, 0) }, 1, 100);
        assert_eq!((limits.run, limits.run_all, limits.hold_all), (0, 50, 50));
        assert!(Limits::of(&policy(0, 0, 0), 4, 8).is_open());
    }

    #[test]
    fn more_than_may_wait_are_refused_at_once() {
        let b = Places::new(Limits::of(&policy(1, 1, 1), 100, 100));
        let now = Instant::now();
        b.enter(now).unwrap();
        // It has nothing left to wait.
        assert_eq!(
            b.enter(now.checked_sub(Duration::from_secs(1)).unwrap()).unwrap_err().0,
            Full::Expired
        );
        b.state.lock().unwrap().waiting = 1;
        assert_eq!(b.enter(now).unwrap_err().0, Full::Queue);
        b.leave();
        b.state.lock().unwrap().waiting = 0;
        b.enter(now).unwrap();
    }

    #[test]
    fn who_waits_gets_the_place_that_comes_free() {
        let b = Arc::new(Places::new(Limits::of(&policy(1, 1, 60_000), 100, 100)));
        b.enter(Instant::now()).unwrap();
        let other = std::thread::spawn({
            let b = Arc::clone(&b);
            move || b.enter(Instant::now()).is_ok()
        });
        while b.state.lock().unwrap().waiting == 0 {
            std::thread::yield_now();
        }
        b.leave();
        assert!(other.join().unwrap());
        assert_eq!(b.state.lock().unwrap().running, 1);
    }

    #[test]
    fn what_may_be_held_counts_who_waits() {
        let limits = Limits::of(&policy(2, 9, 1), 6, 100);
        let b = Places::new(limits);
        assert_eq!((limits.run, limits.hold), (2, 3));
        b.enter(Instant::now()).unwrap();
        b.enter(Instant::now()).unwrap();
        b.state.lock().unwrap().waiting = 1;
        assert_eq!(b.enter(Instant::now()).unwrap_err().0, Full::Held);
    }
}
