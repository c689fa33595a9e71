//! How many workers a pool has: decided here, from what is known of it; done in [`crate::scaling`].
//!
//! A pool begins with `min` workers (one at least, or nobody would answer), gets another one when requests wait for longer
//! than a moment, up to `max`, and loses those that have had nothing to do for a while, down to `min`. Where that is 0 the
//! pool goes to sleep: it is gone until somebody asks for it.

use std::time::{Duration, Instant};

/// Between two looks at a pool's workers.
const LOOKS: u32 = 4;
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// How many workers a pool may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) min: u8,
    pub(crate) max: u8,
    /// How long a worker that is not needed has nothing to do before it ends; none: it stays.
    pub(crate) idle: Option<Duration>,
}

impl Scale {
    /// Always as many.
    #[cfg(test)]
    pub(crate) fn fixed(workers: u8) -> Self {
        Self { min: workers, max: workers, idle: None }
    }

    /// How many are started with the pool.
    pub(crate) fn first(self) -> u8 {
        self.min.clamp(1, self.max.max(1))
    }

    /// How long until idle workers are looked for again.
    pub(crate) fn look(self) -> Option<Duration> {
        Some((self.idle? / LOOKS).clamp(SHORTEST_LOOK, LONGEST_LOOK))
    }
}

/// What a pool's slots do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    /// In service.
    pub(crate) ready: u8,
    /// Started and not in service yet.
    pub(crate) starting: u8,
    /// To be started, now or after a failure's pause.
    pub(crate) due: u8,
    /// Asked to end.
    pub(crate) leaving: u8,
}

impl Count {
    /// In service, or about to be.
    fn coming(self) -> u8 {
        self.ready + self.starting + self.due
    }
}

/// What follows when requests wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grow {
    /// Nothing: there are enough, or one is coming.
    No,
    /// Another worker is started.
    Now,
    /// As soon as one of those that are leaving has gone: all slots are taken.
    Later,
}

/// Whether another worker is started for requests that wait. One at a time: the next one when that one is there and
/// requests still wait. A worker that cannot start keeps its pause.
pub(crate) fn grow(scale: Scale, count: Count) -> Grow {
    if count.starting + count.due > 0 || count.coming() >= scale.max {
        Grow::No
    } else if count.coming() + count.leaving >= scale.max {
        Grow::Later
    } else {
        Grow::Now
    }
}

/// Which of the workers in service (slot, how long it has had nothing to do) end now: the highest slots first, so that what
/// stays is in a row.
pub(crate) fn shrink(scale: Scale, count: Count, idle: &[(u8, Duration)]) -> Vec<u8> {
    let Some(most) = scale.idle else { return Vec::new() };
    let over = (count.ready + count.starting).saturating_sub(scale.min);
    let mut out: Vec<u8> =
        idle.iter().filter(|(_, since)| *since >= most).map(|(slot, _)| *slot).collect();
    out.sort_unstable_by(|a, b| b.cmp(a));
    out.truncate(over.into());
    out
}

/// Whether the pool goes to sleep: nobody is there or coming, and nobody has asked for `quiet`.
pub(crate) fn sleeps(scale: Scale, count: Count, waiting: bool, quiet: Duration) -> bool {
    // One that waits for its next start has failed: it need not be tried again for nobody.
    let nobody = count.ready + count.starting + count.leaving == 0;
    let Some(idle) = scale.idle else { return false };
    scale.min == 0 && nobody && !waiting && (count.due == 0 || quiet >= idle)
}

/// What was seen of a worker, to tell since when it has had nothing to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    taken: u32,
    since: Instant,
}

impl Watch {
    /// Of a worker that is new.
    pub(crate) fn new(taken: u32, now: Instant) -> Self {
        Self { taken, since: now }
    }

    /// How long it has had nothing to do: it has taken nothing, and all of its `threads` sleep.
    pub(crate) fn look(
        &mut self,
        (taken, asleep): (u32, u32),
        threads: u32,
        now: Instant,
    ) -> Duration {
        if taken != self.taken || asleep < threads {
            *self = Self { taken, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn scale(min: u8, max: u8) -> Scale {
        Scale { min, max, idle: Some(MINUTE) }
    }

    fn ready(ready: u8) -> Count {
        Count { ready, ..Count::default() }
    }

    #[test]
    fn a_pool_begins_with_its_least_and_one_at_least() {
        assert_eq!(scale(0, 4).first(), 1);
        assert_eq!(scale(3, 4).first(), 3);
        assert_eq!(Scale::fixed(4).first(), 4);
    }

    #[test]
    fn it_grows_by_one_at_a_time_up_to_its_most() {
        assert_eq!(grow(scale(0, 2), ready(0)), Grow::Now);
        assert_eq!(grow(scale(0, 2), ready(1)), Grow::Now);
        assert_eq!(grow(scale(0, 2), ready(2)), Grow::No);
        assert_eq!(grow(scale(0, 9), Count { starting: 1, ..ready(1) }), Grow::No);
        assert_eq!(grow(scale(0, 9), Count { due: 1, ..ready(1) }), Grow::No, "it cannot start");
        assert_eq!(grow(Scale::fixed(4), ready(4)), Grow::No);
    }

    #[test]
    fn who_leaves_still_has_its_slot() {
        assert_eq!(grow(scale(0, 1), Count { leaving: 1, ..ready(0) }), Grow::Later);
        assert_eq!(grow(scale(0, 2), Count { leaving: 1, ..ready(1) }), Grow::Later);
        assert_eq!(grow(scale(0, 3), Count { leaving: 1, ..ready(1) }), Grow::Now);
    }

    #[test]
    fn it_shrinks_to_its_least_from_the_top() {
        let idle = [(0, MINUTE), (1, MINUTE * 2), (2, MINUTE / 2), (3, MINUTE)];
        assert_eq!(shrink(scale(0, 4), ready(4), &idle), [3, 1, 0]);
        assert_eq!(shrink(scale(2, 4), ready(4), &idle), [3, 1]);
        assert_eq!(shrink(scale(4, 4), ready(4), &idle), [0; 0]);
        assert_eq!(shrink(Scale { idle: None, ..scale(0, 4) }, ready(4), &idle), [0; 0]);
        assert_eq!(shrink(scale(1, 4), ready(1), &[(3, MINUTE)]), [0; 0], "the last one stays");
    }

    #[test]
    fn it_sleeps_when_nobody_is_there_and_nobody_waits() {
        let long = MINUTE * 9;
        assert!(sleeps(scale(0, 2), ready(0), false, Duration::ZERO));
        assert!(!sleeps(scale(0, 2), ready(0), true, long), "somebody waits");
        assert!(!sleeps(scale(1, 2), ready(0), false, long));
        assert!(!sleeps(scale(0, 2), ready(1), false, long));
        assert!(!sleeps(scale(0, 2), Count { leaving: 1, ..ready(0) }, false, long));
        assert!(!sleeps(Scale::fixed(2), ready(0), false, long));
        let failed = Count { due: 1, ..ready(0) };
        assert!(!sleeps(scale(0, 2), failed, false, MINUTE / 2), "it is tried again for a while");
        assert!(sleeps(scale(0, 2), failed, false, MINUTE));
    }

    #[test]
    fn who_takes_or_runs_something_is_not_idle() {
        let start = Instant::now();
        let mut watch = Watch::new(7, start);
        assert_eq!(watch.look((7, 8), 8, start + MINUTE), MINUTE);
        assert_eq!(watch.look((7, 7), 8, start + 2 * MINUTE), Duration::ZERO, "one thread is busy");
        assert_eq!(watch.look((7, 8), 8, start + 3 * MINUTE), MINUTE);
        assert_eq!(watch.look((8, 8), 8, start + 4 * MINUTE), Duration::ZERO, "it took one");
        assert_eq!(watch.look((8, 9), 8, start + 5 * MINUTE), MINUTE);
    }

    #[test]
    fn looks_are_neither_rare_nor_constant() {
        assert_eq!(scale(0, 1).look(), Some(MINUTE / 4));
        assert_eq!(Scale { idle: Some(MINUTE * 60), ..scale(0, 1) }.look(), Some(MINUTE));
        assert_eq!(Scale { idle: Some(Duration::ZERO), ..scale(0, 1) }.look(), Some(SHORTEST_LOOK));
        assert_eq!(Scale::fixed(1).look(), None);
    }
}
