//! One pool as the supervisor sees it: its page, its worker slots, the regions that are attached to it.
//!
//! This module knows no system call: what happens to a pool is decided here and in [`crate::server`], and done in
//! [`crate::workers`].

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use vivarium_protocol::control::PoolKey;
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::policy::{MAX_TENANT, TenantPolicy, is_valid_name};

use crate::backoff::Backoff;
use crate::elastic::{Count, Scale, Watch};
use crate::log::escape;
use crate::spawn::{Launch, StartError};

/// The longest interpreter name, in bytes.
const LONGEST_INTERPRETER: usize = 4096;

/// What makes a pool that pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolName {
    pub(crate) instance: u64,
    pub(crate) generation: u32,
    pub(crate) key: PoolKey,
}

/// Why this key cannot name a pool, if it cannot.
pub(crate) fn check_key(key: &PoolKey) -> Result<(), &'static str> {
    let PoolKey { tenant, interpreter } = key;
    if !tenant.is_empty() && !is_valid_name(tenant) {
        return Err("that is no tenant's name");
    }
    if interpreter.is_empty()
        || interpreter.len() > LONGEST_INTERPRETER
        || interpreter.contains('\0')
    {
        return Err("that is no interpreter's name");
    }
    Ok(())
}

/// The state of a worker slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Nothing will be started: the pool is being stopped, or needs no more workers.
    Idle,
    /// To be started at that time.
    Due(Instant),
    /// Started, not yet ready.
    Starting(u64),
    /// In service.
    Ready(u64),
    /// Asked to stop, or being killed.
    Leaving(u64),
}

/// A worker slot.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: SlotState,
    pub(crate) epoch: u16,
    pub(crate) backoff: Backoff,
    /// What was last seen of its worker.
    pub(crate) watch: Option<Watch>,
}

impl Slot {
    fn new(state: SlotState) -> Self {
        Self { state, epoch: 0, backoff: Backoff::default(), watch: None }
    }
}

/// A region of an httpd child.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) child: u64,
    /// The child's number for it.
    pub(crate) number: u32,
    pub(crate) memory: Rc<OwnedFd>,
    /// The workers' end of the descriptor socket.
    pub(crate) socket: Rc<OwnedFd>,
}

/// Keeps a pool that fails again and again from filling the log.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: String,
    window: Option<Instant>,
    lines: u32,
    muted: u32,
}

impl Quiet {
    const WINDOW: Duration = Duration::from_secs(60);
    const LINES: u32 = 5;

    /// Whether `text` should be logged now; if so, how many lines were left out before it.
    /// The same text comes once a minute, and different ones at most five times.
    pub(crate) fn allow(&mut self, text: &str, now: Instant) -> Option<u32> {
        let over =
            self.window.is_none_or(|start| now.saturating_duration_since(start) >= Self::WINDOW);
        if over {
            self.window = Some(now);
            self.lines = 0;
        } else if text == self.last || self.lines >= Self::LINES {
            self.muted = self.muted.saturating_add(1);
            return None;
        }
        self.lines += 1;
        text.clone_into(&mut self.last);
        Some(std::mem::take(&mut self.muted))
    }
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    /// `tenant/interpreter`, safe to log.
    pub(crate) label: String,
    pub(crate) launch: Rc<Launch>,
    pub(crate) page: PoolPage,
    pub(crate) page_fd: Rc<OwnedFd>,
    pub(crate) slots: Vec<Slot>,
    /// By the supervisor's number.
    pub(crate) regions: BTreeMap<u64, Region>,
    /// Why there was no worker when the children were last told; cleared by the next worker that is ready.
    pub(crate) down: Option<StartError>,
    /// The latest failure of any slot.
    pub(crate) last_failure: Option<StartError>,
    pub(crate) quiet: Quiet,
    pub(crate) retiring: bool,
    /// What each worker is told first ([`vivarium_protocol::message::Startup`], encoded; never looked into here).
    pub(crate) startup: Option<Rc<Vec<u8>>>,
    /// How many workers it may have. There are as many slots, or more if a reload has made them fewer.
    pub(crate) scale: Scale,
    /// Requests wait, and a worker is to be started as soon as a slot is free.
    pub(crate) called: bool,
    /// When somebody last attached, or waited.
    pub(crate) last_call: Instant,
    /// When idle workers are looked for.
    pub(crate) look_at: Option<Instant>,
    /// The policy that its children were last told.
    pub(crate) policy: Option<Rc<TenantPolicy>>,
}

impl Pool {
    pub(crate) fn new(
        name: PoolName,
        launch: Rc<Launch>,
        page: PoolPage,
        page_fd: OwnedFd,
        scale: Scale,
        now: Instant,
    ) -> Self {
        let label = label(&name.key);
        let state = |n| if n < scale.first() { SlotState::Due(now) } else { SlotState::Idle };
        Self {
            name,
            label,
            launch,
            page,
            page_fd: Rc::new(page_fd),
            slots: (0..scale.max).map(|n| Slot::new(state(n))).collect(),
            regions: BTreeMap::new(),
            down: None,
            last_failure: None,
            quiet: Quiet::default(),
            retiring: false,
            startup: None,
            scale,
            called: false,
            last_call: now,
            look_at: scale.look().map(|wait| now + wait),
            policy: None,
        }
    }

    /// The workers that are in service: (slot, epoch, worker).
    pub(crate) fn ready(&self) -> impl Iterator<Item = (u8, u16, u64)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| match slot.state {
            SlotState::Ready(worker) => Some((i as u8, slot.epoch, worker)),
            _ => None,
        })
    }

    /// All workers there are.
    pub(crate) fn workers(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(|slot| match slot.state {
            SlotState::Starting(w) | SlotState::Ready(w) | SlotState::Leaving(w) => Some(w),
            SlotState::Idle | SlotState::Due(_) => None,
        })
    }

    /// Whether no worker is in service nor about to be: all slots wait for a later start.
    pub(crate) fn is_down(&self, now: Instant) -> bool {
        !self.slots.iter().any(|slot| match slot.state {
            SlotState::Starting(_) | SlotState::Ready(_) => true,
            SlotState::Due(at) => at <= now,
            SlotState::Leaving(_) | SlotState::Idle => false,
        })
    }

    /// When the next worker will be started.
    pub(crate) fn next_start(&self) -> Option<Instant> {
        self.slots
            .iter()
            .filter_map(|slot| match slot.state {
                SlotState::Due(at) => Some(at),
                _ => None,
            })
            .min()
    }

    /// The same in milliseconds from now, for [`vivarium_protocol::control::ToChild::PoolDown`].
    pub(crate) fn retry_ms(&self, now: Instant) -> u32 {
        let wait = self.next_start().map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
    }

    /// Something was changed that may cure what keeps workers from starting: try at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if let SlotState::Due(_) = slot.state {
                slot.state = SlotState::Due(now);
                slot.backoff.reset();
            }
        }
    }

    /// What its slots do.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        for slot in &self.slots {
            match slot.state {
                SlotState::Idle => {}
                SlotState::Due(_) => count.due += 1,
                SlotState::Starting(_) => count.starting += 1,
                SlotState::Ready(_) => count.ready += 1,
                SlotState::Leaving(_) => count.leaving += 1,
            }
        }
        count
    }

    /// Has a worker started in the first slot that is free.
    pub(crate) fn start_another(&mut self, now: Instant) {
        self.called = false;
        let most = usize::from(self.scale.max);
        if let Some(slot) = self.slots.iter_mut().take(most).find(|s| s.state == SlotState::Idle) {
            slot.state = SlotState::Due(now);
            slot.backoff.reset();
        }
    }

    /// As many slots as its tenant may have workers now, and its least number of workers. Those that are there are the
    /// caller's to replace.
    pub(crate) fn resize(&mut self, scale: Scale, now: Instant) {
        self.scale = scale;
        self.look_at = scale.look().map(|wait| now + wait);
        let most = usize::from(scale.max);
        while self.slots.len() < most {
            self.slots.push(Slot::new(SlotState::Idle));
        }
        for slot in self.slots.iter_mut().skip(most) {
            if let SlotState::Due(_) = slot.state {
                slot.state = SlotState::Idle;
            }
        }
        let used = self.slots.iter().take(most).filter(|s| s.state != SlotState::Idle).count();
        for _ in used..usize::from(scale.first()) {
            self.start_another(now);
        }
    }

    /// No more starts; the workers that exist are [`SlotState::Leaving`]. Returns them.
    pub(crate) fn retire(&mut self) -> Vec<u64> {
        self.retiring = true;
        let workers: Vec<u64> = self.workers().collect();
        for slot in &mut self.slots {
            slot.state = match slot.state {
                SlotState::Starting(w) | SlotState::Ready(w) | SlotState::Leaving(w) => {
                    SlotState::Leaving(w)
                }
                SlotState::Idle | SlotState::Due(_) => SlotState::Idle,
            };
        }
        workers
    }
}

/// `tenant/interpreter`, safe to log and not too long.
pub(crate) fn label(key: &PoolKey) -> String {
    let interpreter = escape(key.interpreter.as_bytes(), 200);
    format!("{}/{interpreter}", escape(key.tenant.as_bytes(), MAX_TENANT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, interpreter: &str) -> PoolKey {
        PoolKey { tenant: tenant.into(), interpreter: interpreter.into() }
    }

    fn pool(processes: u8, now: Instant) -> Pool {
        let name = PoolName { instance: 1, generation: 1, key: key("default", "main") };
        let launch = Rc::new(Launch {
            package_dir: "/p".into(),
            extension: "/e".into(),
            optimize: false,
            httpd: None,
        });
        let (page, fd) = PoolPage::create().unwrap();
        Pool::new(name, launch, page, fd, Scale::fixed(processes), now)
    }

    #[test]
    fn keys_are_checked() {
        assert_eq!(check_key(&key("default", "main_interpreter")), Ok(()));
        assert_eq!(check_key(&key("default", &"x".repeat(4096))), Ok(()));
        for bad in [
            key(".", "x"),
            key("a b", "x"),
            key("a\nb", "x"),
            key(&"t".repeat(65), "x"),
            key("default", ""),
            key("default", "a\0b"),
            key("default", &"x".repeat(4097)),
        ] {
            assert!(check_key(&bad).is_err(), "{bad:?}");
        }
        assert_eq!(label(&key("default", "a\nb")), "default/a\\nb");
        assert!(label(&key("default", &"x".repeat(4096))).len() < 300);
    }

    #[test]
    fn a_pool_is_down_only_if_nothing_is_up_or_coming_up() {
        let now = Instant::now();
        let later = now + Duration::from_millis(400);
        let mut p = pool(3, now);
        assert!(!p.is_down(now), "new slots are due at once");
        for slot in &mut p.slots {
            slot.state = SlotState::Due(later + Duration::from_secs(1));
        }
        p.slots[1].state = SlotState::Due(later);
        assert!(p.is_down(now));
        assert_eq!(p.retry_ms(now), 400);
        assert!(!p.is_down(later));
        p.slots[0].state = SlotState::Starting(7);
        assert!(!p.is_down(now));
        p.slots[0].state = SlotState::Leaving(7);
        assert!(p.is_down(now));
        p.slots[2].state = SlotState::Ready(8);
        assert!(!p.is_down(now));
        assert_eq!(p.ready().collect::<Vec<_>>(), [(2, 0, 8)]);
        assert_eq!(p.workers().collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn retiring_starts_nothing_more() {
        let now = Instant::now();
        let mut p = pool(3, now);
        p.slots[0].state = SlotState::Starting(1);
        p.slots[1].state = SlotState::Ready(2);
        assert_eq!(p.retire(), [1, 2]);
        assert_eq!(p.next_start(), None);
        assert_eq!(p.slots[2].state, SlotState::Idle);
        assert!(p.is_down(now) && p.ready().next().is_none());
    }

    #[test]
    fn a_reload_changes_the_number_of_slots() {
        let now = Instant::now();
        let mut p = pool(2, now);
        p.slots[0].state = SlotState::Ready(1);
        p.slots[1].state = SlotState::Ready(2);
        p.resize(Scale::fixed(3), now);
        assert_eq!(p.slots[2].state, SlotState::Due(now));
        p.resize(Scale::fixed(1), now);
        assert_eq!((p.slots[2].state, p.slots[1].state), (SlotState::Idle, SlotState::Ready(2)));
        p.resize(Scale { min: 0, max: 3, idle: None }, now);
        assert_eq!(p.slots[2].state, SlotState::Idle, "not before somebody waits");
        p.resize(Scale::fixed(3), now);
        assert_eq!(p.slots[2].state, SlotState::Due(now));
    }

    #[test]
    fn an_elastic_pool_starts_one_and_then_as_asked() {
        let now = Instant::now();
        let (page, fd) = PoolPage::create().unwrap();
        let launch = Rc::clone(&pool(1, now).launch);
        let name = PoolName { instance: 1, generation: 1, key: key("alice", "main") };
        let scale = Scale { min: 0, max: 3, idle: Some(Duration::from_secs(4)) };
        let mut p = Pool::new(name, launch, page, fd, scale, now);
        assert_eq!(p.count(), Count { due: 1, ..Count::default() });
        assert_eq!(p.look_at, Some(now + Duration::from_secs(1)));
        p.slots[0].state = SlotState::Leaving(1);
        p.called = true;
        p.start_another(now);
        assert_eq!((p.slots[1].state, p.called), (SlotState::Due(now), false));
        assert_eq!(p.count(), Count { due: 1, leaving: 1, ..Count::default() });
    }

    #[test]
    fn hurrying_wakes_what_waits() {
        let now = Instant::now();
        let mut p = pool(2, now);
        p.slots[0].state = SlotState::Due(now + Duration::from_secs(10));
        p.slots[1].state = SlotState::Ready(4);
        p.slots[0].backoff.after_failed_start();
        p.hurry(now);
        assert_eq!(p.slots[0].state, SlotState::Due(now));
        assert_eq!(p.slots[1].state, SlotState::Ready(4));
        assert_eq!(p.slots[0].backoff.after_failed_start(), Duration::from_millis(100));
    }

    #[test]
    fn the_log_is_not_flooded() {
        let now = Instant::now();
        let mut q = Quiet::default();
        assert_eq!(q.allow("no python", now), Some(0));
        for _ in 0..7 {
            assert_eq!(q.allow("no python", now), None);
        }
        assert_eq!(q.allow("no package", now), Some(7), "another cause is said at once");
        assert_eq!(q.allow("no python", now + Quiet::WINDOW), Some(0));
        let logged =
            (0..100).filter(|i| q.allow(&format!("r{i}"), now + Quiet::WINDOW).is_some()).count();
        assert_eq!(logged, 4, "random reasons are bounded too");
    }
}
