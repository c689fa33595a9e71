//! One pool as a child sees it: its region, its free lanes, and what is known of its workers.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vivarium_protocol::control::PoolKey;
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::region::{Claim, Geometry, MAX_WORKERS, Owner, Region};
use vivarium_protocol::{codes, futex, seqpacket};

use super::{NoPool, lock};
use crate::tenants::{self, Tenant};

/// How long a request may wait for a worker to take it.
const QUEUE_LIMIT: Duration = Duration::from_secs(60);

/// A lane that waits for longer than this rings for itself, whatever goes on.
const TURN_LIMIT: Duration = Duration::from_millis(20);

/// A lane that waits for longer than this may need another worker, and the supervisor is told, at most so often.
const CALL_AFTER: Duration = Duration::from_millis(20);
const CALL_AGAIN: Duration = Duration::from_millis(100);
/// So does a pool whose workers each have more than so many requests that have run for as long: an interpreter runs one at a
/// time. Requests that run for longer than the second time wait for something else.
const CROWD: usize = 2;
const CROWDED_UNTIL: Duration = Duration::from_secs(1);

/// A tenant that there was not may have been declared meanwhile: the supervisor is asked again after this long.
const ASK_AGAIN_MS: u32 = 2000;

/// Why a lane's thread should not wait any longer.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// The worker that has the request is dead.
    Died,
    /// No worker has taken the request, and none will; it has been withdrawn and may go elsewhere.
    NotTaken { reason: String, retry_after: u32 },
    /// The claim word says something impossible.
    Garbage(u32),
    /// The worker has given the lane back and not said how the phase ended.
    Silent,
    /// The phase runs longer than the tenant's may.
    TooLong,
}

/// How a lane that is worth waiting for stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Offered, or taken by a worker that lives.
    Running,
    /// Given back: the end of the phase must be there or arrive at once.
    Released,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    key: PoolKey,
    tenant: Arc<Tenant>,
    id: u32,
    region: Arc<Region>,
    page: OnceLock<PoolPage>,
    /// Our end of the socket on which workers send descriptors.
    descriptors: OwnedFd,
    /// Descriptors that have come and were not asked for yet: at most one a lane.
    arrived: Mutex<HashMap<u32, (u32, u32, OwnedFd)>>,
    lanes: Mutex<Lanes>,
    /// Lanes in use, for wake-ups after events.
    busy: Vec<AtomicBool>,
    /// For each slot: bit 17 told of, bit 16 alive, below the epoch.
    workers: Vec<AtomicU32>,
    /// Counts what a waiting thread should know.
    events: AtomicU32,
    conversations: AtomicU32,
    retired: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// When the supervisor was last told that lanes wait.
    called: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Lanes {
    /// Last used first: its pages and cache lines are warm.
    free: Vec<u32>,
    /// Lanes on which a worker may still be writing.
    quarantine: Vec<(u32, Owner)>,
}

#[derive(Debug, Default)]
struct State {
    down: Option<(String, Instant)>,
    last_death: Option<String>,
    /// The supervisor knows no such tenant: the pool will never be usable.
    refused: bool,
}

const TOLD: u32 = 1 << 17;
const ALIVE: u32 = 1 << 16;

impl Pool {
    /// A pool with a new region; the region's descriptor and the workers' end of the descriptor socket are for the
    /// supervisor.
    pub(super) fn create(
        key: PoolKey,
        id: u32,
        geometry: Geometry,
    ) -> Result<(Self, OwnedFd, OwnedFd), Box<dyn std::error::Error>> {
        let (region, region_fd) = Region::create(geometry)?;
        let (descriptors, theirs) = seqpacket::pair()?;
        let pool = Self {
            tenant: tenants::get(&key.tenant),
            key,
            id,
            region: Arc::new(region),
            page: OnceLock::new(),
            descriptors,
            arrived: Mutex::default(),
            lanes: Mutex::new(Lanes {
                free: (0..geometry.lanes).rev().collect(),
                quarantine: Vec::new(),
            }),
            busy: (0..geometry.lanes).map(|_| AtomicBool::new(false)).collect(),
            workers: (0..MAX_WORKERS).map(|_| AtomicU32::new(0)).collect(),
            events: AtomicU32::new(0),
            conversations: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            called: Mutex::default(),
        };
        Ok((pool, region_fd, theirs))
    }

    pub(crate) fn key(&self) -> &PoolKey {
        &self.key
    }
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }
    pub(crate) fn retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
    /// Counts events; see [`crate::conversation::exchange`].
    pub(crate) fn events(&self) -> u32 {
        self.events.load(Ordering::SeqCst)
    }

    /// How many lanes the pool's workers have taken, wrapping.
    pub(crate) fn taken(&self) -> u32 {
        self.page.get().map_or(0, PoolPage::taken)
    }

    /// Rings the doorbell for a lane that was offered.
    pub(crate) fn ring(&self, slot: Option<u8>) {
        if let Some(page) = self.page.get() {
            page.ring(slot);
        }
    }

    /// A number for the next conversation: never 0, never the last one's.
    pub(crate) fn next_conversation(&self) -> u32 {
        self.conversations.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1)
    }

    /// Takes a free lane.
    pub(crate) fn take_lane(&self) -> Option<u32> {
        let mut lanes = lock(&self.lanes);
        if !lanes.quarantine.is_empty() {
            let Lanes { free, quarantine } = &mut *lanes;
            quarantine.retain(|(lane, owner)| {
                let over = self.is_alive(*owner) == Some(false)
                    || matches!(self.region.claim(*lane), Claim::Released(_));
                if over {
                    free.push(*lane);
                }
                !over
            });
        }
        let lane = lanes.free.pop()?;
        self.busy[lane as usize].store(true, Ordering::Release);
        Some(lane)
    }

    /// Gives a lane back that no worker writes on any more.
    pub(crate) fn free_lane(&self, lane: u32) {
        self.region.set_idle(lane);
        self.busy[lane as usize].store(false, Ordering::Release);
        lock(&self.arrived).remove(&lane);
        lock(&self.lanes).free.push(lane);
    }

    /// Puts a lane aside until the worker that has it is dead or has released it.
    pub(crate) fn quarantine(&self, lane: u32, owner: Owner) {
        self.busy[lane as usize].store(false, Ordering::Release);
        lock(&self.arrived).remove(&lane);
        lock(&self.lanes).quarantine.push((lane, owner));
    }

    /// The descriptor that a worker sent for this use of a lane.
    pub(crate) fn descriptor(&self, lane: u32, conversation: u32, serial: u32) -> Option<OwnedFd> {
        let mut arrived = lock(&self.arrived);
        let mut buffer = [0; 64];
        // As many as there are lanes may be waiting; a worker that sends more pushes out its own pool's.
        for _ in 0..self.busy.len() * 2 {
            let Ok((len, fds)) = seqpacket::recv_bytes(&self.descriptors, &mut buffer, true) else {
                break;
            };
            let word = |i: usize| {
                u32::from_le_bytes([buffer[i], buffer[i + 1], buffer[i + 2], buffer[i + 3]])
            };
            if let (12, Some(fd)) = (len, fds.into_iter().next()) {
                let to = word(0);
                if (to as usize) < self.busy.len() {
                    arrived.insert(to, (word(4), word(8), fd));
                }
            }
        }
        match arrived.remove(&lane) {
            Some((c, s, fd)) if c == conversation && s == serial => Some(fd),
            _ => None,
        }
    }

    /// Whether a worker lives; `None` if we have not been told of it yet.
    pub(crate) fn is_alive(&self, owner: Owner) -> Option<bool> {
        let word = self.workers.get(owner.slot as usize)?.load(Ordering::Acquire);
        let epoch = word as u16;
        if word & TOLD == 0 || owner.epoch.wrapping_sub(epoch) as i16 > 0 {
            return None;
        }
        Some(owner.epoch == epoch && word & ALIVE != 0)
    }

    fn any_alive(&self) -> bool {
        self.workers.iter().any(|w| w.load(Ordering::Acquire) & ALIVE != 0)
    }

    /// Whether a new request makes sense.
    pub(super) fn usable(&self) -> Result<(), NoPool> {
        let state = lock(&self.state);
        match &state.down {
            Some((reason, until)) if !self.any_alive() => {
                let left = until.saturating_duration_since(Instant::now());
                // A refused one has been given up: nobody will ever look at its lanes.
                if left.is_zero() && !state.refused {
                    return Ok(());
                }
                Err(NoPool { reason: reason.clone(), retry_after: left.as_secs() as u32 + 1 })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn wait_attached(&self, limit: Duration) -> Result<(), NoPool> {
        let until = Instant::now() + limit;
        let mut state = lock(&self.state);
        loop {
            if self.page.get().is_some() {
                return Ok(());
            }
            let reason = if self.retired() {
                Some(format!("{}: the supervisor has gone away", codes::SOCKET))
            } else {
                state.down.as_ref().map(|(reason, _)| reason.clone())
            };
            if let Some(reason) = reason {
                return Err(NoPool { reason, retry_after: 1 });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason = format!("{}: the supervisor does not answer", codes::SOCKET);
                return Err(NoPool { reason, retry_after: 1 });
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn attached(&self, page: PoolPage) {
        let state = lock(&self.state);
        let _ = self.page.set(page);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn down(&self, reason: String, retry_ms: u32) {
        let until = Instant::now() + Duration::from_millis(u64::from(retry_ms.min(60_000)));
        lock(&self.state).down = Some((reason, until));
        self.changed.notify_all();
        self.event();
    }

    /// The supervisor knows no such tenant.
    pub(super) fn refuse(&self, reason: String, retry_ms: u32) {
        lock(&self.state).refused = true;
        self.down(reason, retry_ms.min(ASK_AGAIN_MS));
    }

    /// Why the pool can never be used, and when another may be tried.
    pub(super) fn refusal(&self) -> Option<(NoPool, Instant)> {
        let state = lock(&self.state);
        let (reason, until) = state.down.as_ref().filter(|_| state.refused)?;
        Some((NoPool { reason: reason.clone(), retry_after: 1 }, *until))
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        drop(lock(&self.state));
        self.changed.notify_all();
        self.event();
    }

    pub(super) fn worker_up(&self, owner: Owner) {
        if let Some(word) = self.workers.get(owner.slot as usize) {
            word.store(TOLD | ALIVE | u32::from(owner.epoch), Ordering::Release);
        }
        lock(&self.state).down = None;
    }

    /// A worker's pidfd says that it is dead.
    pub(super) fn worker_died(&self, owner: Owner) {
        if let Some(word) = self.workers.get(owner.slot as usize) {
            let alive = TOLD | ALIVE | u32::from(owner.epoch);
            let dead = TOLD | u32::from(owner.epoch);
            if word.compare_exchange(alive, dead, Ordering::AcqRel, Ordering::Acquire).is_err() {
                return;
            }
        }
        // It may have taken a ready bit and not the lane: lanes on offer are shown again.
        for lane in self.busy_lanes() {
            if let Claim::Offered(to) = self.region.claim(lane) {
                self.region.set_ready(lane, to.map(|o| o.slot));
            }
        }
        if let Some(page) = self.page.get() {
            page.ring_all();
        }
        self.event();
    }

    /// The supervisor says how a worker ended.
    pub(super) fn worker_ended(&self, owner: Owner, how: &str) {
        lock(&self.state).last_death = Some(how.to_owned());
        self.worker_died(owner);
    }

    /// How the last worker ended, if the supervisor has said so already.
    pub(crate) fn last_death(&self) -> Option<String> {
        lock(&self.state).last_death.clone()
    }

    fn busy_lanes(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.busy).filter(|(_, b)| b.load(Ordering::Acquire)).map(|(lane, _)| lane)
    }

    /// Makes every thread that waits on this pool look around.
    fn event(&self) {
        self.events.fetch_add(1, Ordering::SeqCst);
        for lane in self.busy_lanes() {
            futex::wake_always(self.region.host_word(lane));
        }
    }

    /// Whether the thread of `lane`, offered to `to` at `since`, should go on waiting.
    pub(crate) fn look(
        &self,
        lane: u32,
        to: Option<Owner>,
        since: Instant,
        taken: &Cell<u32>,
    ) -> Result<Standing, Trouble> {
        let claim = self.region.claim(lane);
        match claim {
            Claim::Claimed(owner) | Claim::Released(owner) => {
                if self.is_alive(owner) == Some(false) {
                    Err(Trouble::Died)
                } else if matches!(claim, Claim::Released(_)) {
                    Ok(Standing::Released)
                } else {
                    if (CALL_AFTER..CROWDED_UNTIL).contains(&since.elapsed()) {
                        self.call_if(|| self.is_crowded());
                    }
                    Ok(Standing::Running)
                }
            }
            Claim::Offered(_) => {
                if let Some((reason, retry_after)) = self.hopeless(to, since) {
                    if self.region.withdraw(lane, to) {
                        return Err(Trouble::NotTaken { reason, retry_after });
                    }
                    // Taken at this very moment.
                    return Ok(Standing::Running);
                }
                if to.is_none() && (since.elapsed() > CALL_AFTER || !self.any_alive()) {
                    self.call_if(|| true);
                }
                // A worker of the tenant may have ruined the ready bit or the doorbell.
                let slot = to.map(|o| o.slot);
                self.region.set_ready(lane, slot);
                // Whoever has promised to look does not get to it. While lanes are taken, this one's turn will come.
                let now = self.taken();
                let idle = taken.replace(now) == now;
                if let (true, Some(page)) =
                    (idle || to.is_some() || since.elapsed() > TURN_LIMIT, self.page.get())
                {
                    page.ring_anyhow(slot);
                }
                Ok(Standing::Running)
            }
            Claim::Idle => Err(Trouble::Garbage(0)),
            Claim::Garbage(word) => Err(Trouble::Garbage(word)),
        }
    }

    /// Whether each worker has several requests of this child alone.
    fn is_crowded(&self) -> bool {
        let alive = self.workers.iter().filter(|w| w.load(Ordering::Acquire) & ALIVE != 0).count();
        self.busy_lanes().count() > CROWD * alive
    }

    /// Lets the supervisor know that lanes wait, or would with fewer threads; looks now and then only.
    fn call_if(&self, wanted: impl FnOnce() -> bool) {
        let now = Instant::now();
        {
            let mut called = lock(&self.called);
            if called.is_some_and(|at| now.saturating_duration_since(at) < CALL_AGAIN) {
                return;
            }
            *called = Some(now);
        }
        if !wanted() {
            return;
        }
        if let Some(link) = super::get() {
            link.wanted(self);
        }
    }

    /// Why nobody will take an offered lane.
    fn hopeless(&self, to: Option<Owner>, since: Instant) -> Option<(String, u32)> {
        if self.retired() {
            return Some((
                format!("{}: the pool or the supervisor has gone away", codes::SOCKET),
                1,
            ));
        }
        if to.is_some_and(|o| self.is_alive(o) == Some(false)) {
            return Some(("the worker that holds the request has died".into(), 1));
        }
        if let Err(no) = self.usable() {
            return Some((no.reason, no.retry_after));
        }
        let policy = self.tenant.policy();
        let limit = match policy.queue_deadline_ms {
            // Until its Python is up for the first time, a tenant's requests wait for that.
            0 => QUEUE_LIMIT,
            _ if !self.any_alive() => QUEUE_LIMIT,
            ms => Duration::from_millis(u64::from(ms)),
        };
        if since.elapsed() > limit {
            let reason = format!("no worker took it within {} s", limit.as_secs_f32());
            let retry_after = if policy.retry_after_s == 0 { 5 } else { policy.retry_after_s };
            return Some((reason, retry_after));
        }
        None
    }
}
