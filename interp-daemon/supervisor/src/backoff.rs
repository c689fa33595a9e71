//! How long to wait before a worker is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(10);
/// A worker that was up this long is forgiven what its slot did before.
const GOOD: Duration = Duration::from_secs(10);

/// The failures of one worker slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

fn delay(nth: u32) -> Duration {
    // 100 ms doubled seven times is already over the limit.
    (FIRST * (1 << nth.min(10))).min(MOST)
}

impl Backoff {
    /// A worker that had been ready for `up` died. At once the first time, then longer and longer.
    pub(crate) fn after_death(&mut self, up: Duration) -> Duration {
        if up >= GOOD {
            self.failures = 0;
        }
        let wait = self.failures.checked_sub(1).map_or(Duration::ZERO, delay);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// A worker never became ready: what stopped it will most likely still be there, so never at once.
    pub(crate) fn after_failed_start(&mut self) -> Duration {
        self.failures = self.failures.max(1);
        let wait = delay(self.failures - 1);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Something has changed (a new configuration): begin again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn deaths_double_from_the_second_on() {
        let mut b = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| b.after_death(SHORT).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn ten_good_seconds_forgive() {
        let mut b = Backoff::default();
        for _ in 0..5 {
            b.after_death(SHORT);
        }
        assert_eq!(b.after_death(Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(b.after_death(Duration::from_millis(9_999)), FIRST);
    }

    #[test]
    fn failed_starts_never_retry_at_once() {
        let mut b = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| b.after_failed_start().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        b.reset();
        assert_eq!(b.after_failed_start(), FIRST);
    }

    #[test]
    fn the_count_cannot_overflow() {
        let mut b = Backoff { failures: u32::MAX };
        assert_eq!(b.after_death(SHORT), MOST);
        assert_eq!(b.after_failed_start(), MOST);
    }
}
