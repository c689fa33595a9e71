//! Leaving without losing a request: told to drain, a worker takes no new ones, and ends when those that it has are over.
//!
//! It has a request from the first phase that one of its threads runs until httpd has said, or the worker has, that its objects
//! are not needed any more. Between two phases nothing of it runs here: those wait in `super::regions`, and their next
//! phase is offered to this very worker.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::lock;

/// How often is looked whether the last request is over, and for new phases of those that are kept.
pub(crate) const LOOK: Duration = Duration::from_millis(10);
/// What is left for clean-ups at the end if nobody sets a limit.
const END: Duration = Duration::from_secs(10);

/// Whether the worker drains, and what still runs.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    on: AtomicBool,
    /// Threads that run a request or are looking for one.
    busy: AtomicUsize,
    limit: Mutex<Option<Instant>>,
}

/// A thread that runs a request or looks for one.
#[derive(Debug)]
pub(crate) struct Busy<'d>(&'d Drain);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drain {
    /// From now on nothing new is taken. `grace`: how long this may take.
    pub(super) fn begin(&self, grace: Option<Duration>) {
        if let Some(grace) = grace {
            let limit = Instant::now() + grace;
            let mut known = lock(&self.limit);
            *known = Some(known.map_or(limit, |old| old.min(limit)));
        }
        self.on.store(true, Ordering::SeqCst);
    }

    /// Whether nothing new is to be taken.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// A thread looks for a request; what it gets is kept as long as it runs it. While any thread has this, the worker
    /// does not end. Ask [`Drain::is_on`] afterwards, never before: who came too late to be counted sees it.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self)
    }

    /// Whether all is over, or the time is: then how long the end may take.
    pub(super) fn over(&self, keeps_any: impl FnOnce() -> bool) -> Option<Duration> {
        let left = lock(&self.limit).map(|at| at.saturating_duration_since(Instant::now()));
        // What runs may be kept when it ends, so that is looked at first.
        let done = self.busy.load(Ordering::SeqCst) == 0 && !keeps_any();
        (done || left == Some(Duration::ZERO)).then_some(left.unwrap_or(END))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_nothing_runs_and_nothing_is_kept() {
        let drain = Drain::default();
        drain.begin(None);
        let busy = drain.busy();
        assert_eq!(drain.over(|| false), None, "a request runs");
        drop(busy);
        assert_eq!(drain.over(|| true), None, "one waits for its next phase");
        assert_eq!(drain.over(|| false), Some(END));
    }

    #[test]
    fn its_time_may_be_over_before() {
        let drain = Drain::default();
        assert!(!drain.is_on());
        drain.begin(Some(Duration::from_secs(3600)));
        let _busy = drain.busy();
        assert_eq!(drain.over(|| true), None);
        drain.begin(Some(Duration::ZERO));
        assert!(drain.is_on());
        assert_eq!(drain.over(|| true), Some(Duration::ZERO));
        drain.begin(Some(Duration::from_secs(3600)));
        assert_eq!(drain.over(|| true), Some(Duration::ZERO), "the shorter time holds");
    }
}
