//! Elastic pools: what [`crate::elastic`] decides is done here.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use vivarium_protocol::codes;
use vivarium_protocol::control::{ToChild, ToWorker};
use vivarium_protocol::policy::is_default;

use crate::elastic::{Grow, Watch, grow, shrink, sleeps};
use crate::pool::SlotState;
use crate::server::Server;
use crate::workers::{Worker, raw};

/// A control group whose last process is just ending is tried again after this.
const TIDY_AGAIN: Duration = Duration::from_secs(1);

impl Server {
    /// Requests wait in a pool.
    pub(crate) fn call(&mut self, id: u64, now: Instant) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        pool.last_call = now;
        if pool.retiring {
            return;
        }
        match grow(pool.scale, pool.count()) {
            Grow::No => {}
            Grow::Later => pool.called = true,
            Grow::Now => {
                pool.start_another(now);
            }
        }
    }

    /// Looks for workers that are not needed any more.
    pub(crate) fn look_for_idle(&mut self, now: Instant) {
        let due: Vec<u64> = self
            .pools
            .iter()
            .filter(|(_, p)| p.look_at.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.look_at(id, now);
        }
        if self.tidy_at.is_some_and(|at| at <= now) {
            self.tidy_at = None;
            self.tidy_tenants(now);
        }
    }

    fn look_at(&mut self, id: u64, now: Instant) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        pool.look_at = pool.scale.look().filter(|_| !pool.retiring).map(|wait| now + wait);
        if pool.look_at.is_none() {
            return;
        }
        let mut idle = Vec::new();
        for (slot, entry) in (0_u8..).zip(&mut pool.slots) {
            let SlotState::Ready(worker) = entry.state else { continue };
            let Some(worker) = self.workers.get(&worker) else { continue };
            let activity = pool.page.activity(slot);
            let watch = entry.watch.get_or_insert_with(|| Watch::new(activity.0, now));
            idle.push((slot, watch.look(activity, *worker.tenant.base.threads.get(), now)));
        }
        let mut leave = shrink(pool.scale, pool.count(), &idle);
        // Somebody has just come, and will have something to do.
        let quiet = now.saturating_duration_since(pool.last_call);
        if pool.scale.idle.is_some_and(|most| quiet < most) {
            let stay = usize::from(leave.len() == usize::from(pool.count().ready));
            leave.truncate(leave.len() - stay);
        }
        let mut workers = Vec::new();
        for slot in leave {
            let Some(entry) = pool.slots.get_mut(usize::from(slot)) else { continue };
            if let SlotState::Ready(worker) = entry.state {
                entry.state = SlotState::Leaving(worker);
                workers.push(worker);
            }
        }
        for id in workers {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            worker.resting = true;
            let (slot, pid) = (worker.slot, raw(worker.pid));
            let label = self.pools.get(&worker.pool).map_or("?", |p| p.label.as_str());
            self.log.debug(
                codes::POOL_RETIRED,
                format_args!(
                    "pool {label}: worker {slot} (pid {pid}) has nothing to do and is asked to end"
                ),
            );
            self.tell_worker(id, &ToWorker::Drain { grace_ms: None }, &[]);
        }
        self.sleep_if_unused(id, now);
    }

    /// A worker that was asked to leave because there was nothing to do has gone.
    pub(crate) fn rested(&mut self, worker: &Worker, how: &str, now: Instant) {
        let id = worker.pool;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        if let Some(entry) = pool.slots.get_mut(usize::from(worker.slot)) {
            entry.state = SlotState::Idle;
        }
        self.log.info(
            codes::POOL_RETIRED,
            format_args!(
                "pool {}: worker {} (pid {}) had nothing to do and has ended: {how}",
                pool.label,
                worker.slot,
                raw(worker.pid)
            ),
        );
        if pool.called && grow(pool.scale, pool.count()) == Grow::Now {
            pool.start_another(now);
        }
        self.sleep_if_unused(id, now);
    }

    /// Puts a pool to sleep that nobody needs: its children forget it, and come again with their next request.
    pub(crate) fn sleep_if_unused(&mut self, id: u64, now: Instant) {
        let Some(pool) = self.pools.get(&id) else { return };
        let quiet = now.saturating_duration_since(pool.last_call);
        if pool.retiring || !sleeps(pool.scale, pool.count(), pool.called, quiet) {
            return;
        }
        let Some(pool) = self.pools.remove(&id) else { return };
        if self.index.get(&pool.name) == Some(&id) {
            self.index.remove(&pool.name);
        }
        for region in pool.regions.values() {
            if let Some(child) = self.children.get_mut(&region.child) {
                child.forget_region(region.number);
            }
            self.tell_child(region.child, &ToChild::Asleep { region: region.number }, &[]);
        }
        self.log
            .info(codes::POOL_RETIRED, format_args!("pool {} sleeps: nobody uses it", pool.label));
        drop(pool);
        self.tidy_tenants(now);
        crate::sys::release_memory();
    }

    /// Takes away what is kept for tenants of whom nothing runs any more: their control groups and prepared sandboxes.
    /// Their `/tmp` stays, unless they were removed.
    pub(crate) fn tidy_tenants(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        let pools =
            self.pools.values().filter(|p| p.slots.iter().any(|s| s.state != SlotState::Idle));
        let used: HashSet<&str> = pools
            .map(|p| p.name.key.tenant.as_str())
            .chain(self.workers.values().map(|w| w.tenant.name.as_str()))
            .collect();
        let over: Vec<String> = self
            .tenants
            .groups
            .keys()
            .chain(self.tenants.prepared_names())
            .filter(|name| !used.contains(name.as_str()))
            .cloned()
            .collect();
        for name in over {
            if !self.tenants.put_away(&name) {
                self.tidy_at = Some(now + TIDY_AGAIN);
            }
        }
    }

    /// Pools of tenants that were removed, once nobody uses them.
    pub(crate) fn drop_unknown(&mut self, id: u64, now: Instant) {
        let Some(pool) = self.pools.get(&id) else { return };
        if is_default(&pool.name.key.tenant)
            || !pool.regions.is_empty()
            || pool.workers().next().is_some()
        {
            return;
        }
        let name = pool.name.key.tenant.clone();
        if self.tenants.registry.find(&name).is_ok() {
            return;
        }
        let Some(pool) = self.pools.remove(&id) else { return };
        if self.index.get(&pool.name) == Some(&id) {
            self.index.remove(&pool.name);
        }
        self.log.info(
            codes::POOL_RETIRED,
            format_args!("pool {} has ended: there is no such tenant any more", pool.label),
        );
        self.tidy_tenants(now);
    }
}
