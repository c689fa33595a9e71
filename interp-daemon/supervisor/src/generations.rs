//! Which configuration generations of which httpd are still in use.
//!
//! A pool belongs to one (instance, generation). It may stay while a child of that generation is connected, and while
//! its generation is the newest of its instance. A managed supervisor keeps the newest for ever (its httpd is alive, or
//! the channel would have ended); a service forgets an instance that has had no child for a minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// After this long without any child a service takes an httpd instance for gone.
const EMPTY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Instance {
    newest: u32,
    children: HashMap<u32, usize>,
    /// Since when no child of any generation has been connected.
    empty_since: Option<Instant>,
}

/// The count of connected children for each instance and generation.
#[derive(Debug)]
pub(crate) struct Generations {
    instances: HashMap<u64, Instance>,
    managed: bool,
}

impl Generations {
    pub(crate) fn new(managed: bool) -> Self {
        Self { instances: HashMap::new(), managed }
    }

    /// httpd's parent says that `generation` is now the newest.
    pub(crate) fn announce(&mut self, instance: u64, generation: u32) {
        let entry = self.instances.entry(instance).or_default();
        entry.newest = entry.newest.max(generation);
    }

    /// A child has said hello.
    pub(crate) fn hello(&mut self, instance: u64, generation: u32) {
        let entry = self.instances.entry(instance).or_default();
        entry.newest = entry.newest.max(generation);
        entry.empty_since = None;
        *entry.children.entry(generation).or_default() += 1;
    }

    /// A child that had said hello is gone.
    pub(crate) fn bye(&mut self, instance: u64, generation: u32, now: Instant) {
        let Some(entry) = self.instances.get_mut(&instance) else { return };
        if let Some(count) = entry.children.get_mut(&generation) {
            *count -= 1;
            if *count == 0 {
                entry.children.remove(&generation);
            }
        }
        if entry.children.is_empty() {
            entry.empty_since = Some(now);
        }
    }

    /// Whether pools of this generation are to be stopped.
    pub(crate) fn is_over(&self, instance: u64, generation: u32, now: Instant) -> bool {
        let Some(entry) = self.instances.get(&instance) else { return true };
        if entry.children.contains_key(&generation) {
            return false;
        }
        generation < entry.newest || self.is_gone(entry, now)
    }

    fn is_gone(&self, entry: &Instance, now: Instant) -> bool {
        !self.managed
            && entry.empty_since.is_some_and(|since| now.saturating_duration_since(since) >= EMPTY)
    }

    /// When the next instance will have been empty for too long.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.managed {
            return None;
        }
        self.instances.values().filter_map(|i| i.empty_since).map(|since| since + EMPTY).min()
    }

    /// Drops the instances that are gone; their pools must have been looked at first. Whether any were dropped.
    pub(crate) fn forget_gone(&mut self, now: Instant) -> bool {
        let before = self.instances.len();
        let managed = self.managed;
        self.instances.retain(|_, entry| {
            managed
                || entry
                    .empty_since
                    .is_none_or(|since| now.saturating_duration_since(since) < EMPTY)
        });
        self.instances.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_generation_stays_while_a_child_has_it() {
        let now = Instant::now();
        let mut g = Generations::new(true);
        g.announce(7, 1);
        g.hello(7, 1);
        g.hello(7, 1);
        g.announce(7, 2);
        assert!(!g.is_over(7, 1, now));
        g.bye(7, 1, now);
        assert!(!g.is_over(7, 1, now));
        g.bye(7, 1, now);
        assert!(g.is_over(7, 1, now));
        assert!(!g.is_over(7, 2, now), "the newest stays without children");
    }

    #[test]
    fn an_old_child_that_reconnects_brings_its_generation_back() {
        let now = Instant::now();
        let mut g = Generations::new(true);
        g.announce(7, 5);
        assert!(g.is_over(7, 4, now));
        g.hello(7, 4);
        assert!(!g.is_over(7, 4, now));
        assert!(!g.is_over(7, 5, now));
    }

    #[test]
    fn managed_keeps_the_newest_for_ever() {
        let now = Instant::now();
        let mut g = Generations::new(true);
        g.hello(7, 1);
        g.bye(7, 1, now);
        let later = now + Duration::from_secs(3600);
        assert!(!g.is_over(7, 1, later));
        assert_eq!(g.next_deadline(), None);
        assert!(!g.forget_gone(later));
    }

    #[test]
    fn a_service_forgets_an_empty_instance_after_a_minute() {
        let now = Instant::now();
        let mut g = Generations::new(false);
        g.hello(7, 1);
        g.hello(8, 1);
        assert_eq!(g.next_deadline(), None);
        g.bye(7, 1, now);
        assert_eq!(g.next_deadline(), Some(now + EMPTY));
        assert!(!g.is_over(7, 1, now + EMPTY / 2));
        assert!(g.is_over(7, 1, now + EMPTY));
        assert!(g.forget_gone(now + EMPTY));
        assert!(!g.is_over(8, 1, now + EMPTY));
        assert_eq!(g.next_deadline(), None);
    }

    #[test]
    fn a_child_that_comes_back_in_time_keeps_its_service_pools() {
        let now = Instant::now();
        let mut g = Generations::new(false);
        g.hello(7, 1);
        g.bye(7, 1, now);
        g.hello(7, 1);
        assert!(!g.is_over(7, 1, now + 2 * EMPTY));
        assert!(!g.forget_gone(now + 2 * EMPTY));
    }

    #[test]
    fn two_httpds_do_not_concern_each_other() {
        let now = Instant::now();
        let mut g = Generations::new(false);
        g.hello(1, 1);
        g.hello(2, 9);
        assert!(!g.is_over(1, 1, now));
        assert!(g.is_over(3, 1, now), "an instance that nobody knows has no pools to keep");
    }
}
