//! Workers: started, told of regions, heard, reaped, replaced.
//!
//! A worker is hostile from the moment its interpreter starts. It may say two things, once, and write lines; anything
//! else ends it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use vivarium_protocol::codes;
use vivarium_protocol::control::{FromWorker, ToChild, ToWorker};
use vivarium_protocol::seqpacket::PacketError;
use vivarium_protocol::{PROTOCOL_VERSION, codec};

use crate::children::more;
use crate::conn::{Conn, Source};
use crate::log::{Log, escape};
use crate::output::{Lines, Out};
use crate::pool::{Pool, SlotState};
use crate::reaping::reap;
use crate::server::{Server, TURN};
use crate::spawn::{self, Place, StartError, Who};
use crate::tenants::Tenant;

/// The most packets that may wait for a worker: two for each region.
const QUEUE: usize = 16 << 10;
/// A worker that has said that it cannot come up, or has closed its socket, should end by itself within this.
const LINGER: Duration = Duration::from_secs(3);

/// Why a worker is to be killed, or is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// Not ready in time.
    Start,
    /// Not stopped in time.
    Stop,
    /// Did not end although it should have by itself.
    Linger,
    /// Broke the protocol.
    Misbehaved,
    /// Does not read its socket.
    Deaf,
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pool: u64,
    pub(crate) slot: u8,
    pub(crate) epoch: u16,
    pub(crate) pid: Pid,
    pub(crate) pidfd: Rc<OwnedFd>,
    /// None: it has closed its end.
    pub(crate) conn: Option<Conn>,
    pub(crate) output: Option<OwnedFd>,
    pub(crate) lines: Lines,
    pub(crate) report: OwnedFd,
    pub(crate) who: Rc<Who>,
    pub(crate) tenant: Rc<Tenant>,
    pub(crate) ready_at: Option<Instant>,
    /// What it said, or what we know, of why it cannot come up.
    pub(crate) failure: Option<StartError>,
    pub(crate) kill_at: Option<(Instant, KillReason)>,
    /// SIGKILL was sent.
    pub(crate) killed: bool,
    /// Asked to stop so that another can take its place.
    pub(crate) recycled: bool,
    /// Asked to end because it had nothing to do.
    pub(crate) resting: bool,
}

impl Worker {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.kill_at.map(|(at, _)| at).into_iter().chain(self.lines.deadline()).min()
    }
}

pub(crate) fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

impl Server {
    // ---- starting ----

    /// Starts what is due.
    pub(crate) fn start_due(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (id, pool) in &self.pools {
            for (slot, state) in pool.slots.iter().enumerate() {
                if matches!(state.state, SlotState::Due(at) if at <= now) {
                    due.push((*id, slot as u8));
                }
            }
        }
        for (pool, slot) in due {
            if let Err(error) = self.start_worker(pool, slot, now) {
                self.start_failed(pool, slot, error);
            }
        }
    }

    fn start_worker(&mut self, pool_id: u64, slot: u8, now: Instant) -> Result<(), StartError> {
        if let Err(reason) = &self.settings {
            return Err(StartError::new(codes::SUPERVISOR_CONFIG, reason.clone()));
        }
        let Some(pool) = self.pools.get(&pool_id) else { return Ok(()) };
        let (key, launch) = (pool.name.key.clone(), Rc::clone(&pool.launch));
        let tenant = self.servable(&key, &launch)?;
        let prepared = self.prepare(&tenant, &launch)?;
        let id = self.new_id();
        let own_uid = self.own_uid;
        let Some(pool) = self.pools.get_mut(&pool_id) else { return Ok(()) };
        let Some(entry) = pool.slots.get_mut(usize::from(slot)) else { return Ok(()) };
        let who = match &tenant.declared {
            Some(d) => Who::declared(&d.user.name, d.home.as_deref(), d.identity.clone()),
            None => spawn::who(&tenant.base, &pool.launch, own_uid)?,
        };
        entry.epoch = entry.epoch.wrapping_add(1);
        let startup = pool.startup.clone();
        let place =
            Place { key: &pool.name.key, slot, epoch: entry.epoch, startup: startup.is_some() };
        let spawned = spawn::spawn(
            &tenant.base,
            &pool.launch,
            &who,
            place,
            &pool.page_fd,
            prepared.as_deref(),
        )?;
        let (epoch, pid) = (entry.epoch, spawned.pid);
        entry.state = SlotState::Starting(id);

        let watched = self
            .poller
            .add(&spawned.pidfd, Source::Process(id))
            .and_then(|()| self.poller.add(&spawned.output, Source::Output(id)))
            .and_then(|()| Conn::new(&self.poller, spawned.control, Source::Worker(id), QUEUE));
        let conn = match watched {
            Ok(conn) => Some(conn),
            Err(e) => {
                self.poller.remove(&spawned.pidfd);
                self.poller.remove(&spawned.output);
                let _ = rustix::process::pidfd_send_signal(&spawned.pidfd, Signal::KILL);
                reap(&spawned.pidfd);
                let reason = format!("its descriptors cannot be watched: {e}");
                return Err(StartError::new(codes::CANNOT_START_WORKER, reason));
            }
        };
        let worker = Worker {
            pool: pool_id,
            slot,
            epoch,
            pid,
            pidfd: Rc::new(spawned.pidfd),
            conn,
            output: Some(spawned.output),
            lines: Lines::new(now),
            report: spawned.report,
            who: Rc::new(who),
            ready_at: None,
            failure: None,
            kill_at: Some((now + tenant.start_time(), KillReason::Start)),
            tenant,
            killed: false,
            recycled: false,
            resting: false,
        };
        self.workers.insert(id, worker);
        if let Some(data) = startup {
            self.tell_worker(id, &ToWorker::Startup { data: data.to_vec() }, &[]);
        }
        Ok(())
    }

    /// A worker did not come up: wait, then try again; the children are told if nobody else is there.
    pub(crate) fn start_failed(&mut self, pool_id: u64, slot: u8, error: StartError) {
        let now = Instant::now();
        let Some(pool) = self.pools.get_mut(&pool_id) else { return };
        let Some(entry) = pool.slots.get_mut(usize::from(slot)) else { return };
        let wait = entry.backoff.after_failed_start();
        entry.state = SlotState::Due(now + wait);
        if let Some(muted) = pool.quiet.allow(&error.reason, now) {
            self.log.error(
                error.code,
                format_args!(
                    "pool {}: worker {slot} cannot be started: {}; next try in {} ms{}",
                    pool.label,
                    error.reason,
                    wait.as_millis(),
                    more(muted)
                ),
            );
        }
        pool.last_failure = Some(error);
        self.tell_if_down(pool_id, now);
    }

    pub(crate) fn tell_if_down(&mut self, pool_id: u64, now: Instant) {
        let Some(pool) = self.pools.get_mut(&pool_id) else { return };
        if pool.retiring || !pool.is_down(now) {
            return;
        }
        let Some(error) = pool.last_failure.clone() else { return };
        let retry_ms = pool.retry_ms(now);
        pool.down = Some(error.clone());
        let to: Vec<(u64, u32)> = pool.regions.values().map(|r| (r.child, r.number)).collect();
        for (child, region) in to {
            let code = error.code.to_string();
            let reason = error.reason.clone();
            self.tell_child(child, &ToChild::PoolDown { region, code, reason, retry_ms }, &[]);
        }
    }

    // ---- hearing and telling ----

    /// Sends to a worker; one that does not read is killed.
    pub(crate) fn tell_worker(&mut self, id: u64, message: &ToWorker, fds: &[&Rc<OwnedFd>]) {
        let Some(conn) = self.workers.get_mut(&id).and_then(|w| w.conn.as_mut()) else { return };
        if let Err(e) = conn.send(&self.poller, message, fds) {
            self.deaf(id, &e);
        }
    }

    fn deaf(&mut self, id: u64, error: &crate::conn::SendError) {
        match error {
            crate::conn::SendError::Full(_) => {
                self.kill_worker(id, KillReason::Deaf, &error.to_string());
            }
            // It has ended or closed its socket: that is seen by reading.
            crate::conn::SendError::Gone(_) => self.closed(id),
        }
    }

    pub(crate) fn worker_event(&mut self, id: u64) {
        let Some(conn) = self.workers.get_mut(&id).and_then(|w| w.conn.as_mut()) else { return };
        if let Err(e) = conn.flush(&self.poller) {
            self.deaf(id, &e);
            return;
        }
        for _ in 0..TURN {
            let Some(conn) = self.workers.get(&id).and_then(|w| w.conn.as_ref()) else { return };
            let wrong = match conn.recv(&mut self.buffer) {
                Ok(None) => return,
                Ok(Some((len, fds))) => {
                    let bytes = self.buffer.get(..len).unwrap_or_default();
                    match codec::decode::<FromWorker>(bytes) {
                        Ok(_) if !fds.is_empty() => "it sent descriptors".to_owned(),
                        Ok(packet) => match self.worker_packet(id, packet) {
                            Ok(()) => continue,
                            Err(wrong) => wrong.to_owned(),
                        },
                        Err(e) => format!("it sent what is no message: {e}"),
                    }
                }
                Err(PacketError::Closed) => {
                    self.closed(id);
                    return;
                }
                Err(e) => format!("it sent what is no message: {e}"),
            };
            self.kill_worker(id, KillReason::Misbehaved, &wrong);
            return;
        }
    }

    /// It has closed its control socket: either it is ending just now, or it should be.
    fn closed(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(conn) = worker.conn.take() {
            conn.close(&self.poller);
        }
        // One that was asked to stop has its grace; any other should be dead in a moment.
        if !matches!(worker.kill_at, Some((_, KillReason::Stop))) && !worker.killed {
            worker.kill_at = Some((Instant::now() + LINGER, KillReason::Linger));
        }
    }

    fn worker_packet(&mut self, id: u64, packet: FromWorker) -> Result<(), &'static str> {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        if worker.ready_at.is_some() || worker.failure.is_some() {
            return Err("it spoke again after Ready or Failed");
        }
        let now = Instant::now();
        let stopping = matches!(worker.kill_at, Some((_, KillReason::Stop)));
        match packet {
            FromWorker::Failed { reason } => {
                let reason = format!("it says: {}", escape(reason.as_bytes(), 1000));
                worker.failure = Some(StartError::new(codes::CANNOT_START_WORKER, reason));
                worker.kill_at = Some((now + LINGER, KillReason::Linger));
            }
            FromWorker::Ready { version, .. } if version != PROTOCOL_VERSION => {
                let reason = format!(
                    "the worker extension {} speaks protocol {version}, vivariumd speaks {PROTOCOL_VERSION}: install both \
                     from one version",
                    self.pools.get(&worker.pool).map_or("", |p| p.launch.extension.as_str())
                );
                worker.failure = Some(StartError::new(codes::VERSION_MISMATCH, reason));
                worker.kill_at = Some((now, KillReason::Linger));
            }
            FromWorker::Ready { python, .. } => {
                worker.ready_at = Some(now);
                if !stopping {
                    worker.kill_at = None;
                    self.worker_ready(id, &python);
                }
            }
        }
        Ok(())
    }

    fn worker_ready(&mut self, id: u64, python: &str) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (pid, slot) = (raw(worker.pid), worker.slot);
        let Some(pool) = self.pools.get_mut(&worker.pool) else { return };
        if let Some(entry) = pool.slots.get_mut(usize::from(slot)) {
            entry.state = SlotState::Ready(id);
            entry.watch = None;
        }
        pool.down = None;
        self.log.info(
            codes::WORKER_UP,
            format_args!(
                "pool {}: worker {slot} is up: pid {pid}, Python {}, user {}",
                pool.label,
                escape(python.as_bytes(), 50),
                worker.who.name
            ),
        );
        let regions: Vec<_> = pool
            .regions
            .iter()
            .map(|(number, r)| {
                (*number, Rc::clone(&r.memory), Rc::clone(&r.socket), r.child, r.number)
            })
            .collect();
        for (region, memory, socket, _, _) in &regions {
            self.tell_worker(id, &ToWorker::Region { region: *region }, &[memory, socket]);
        }
        for (_, _, _, child, number) in regions {
            self.announce_worker(id, child, number);
        }
    }

    /// Tells a child of a worker that is ready.
    pub(crate) fn announce_worker(&mut self, id: u64, child: u64, region: u32) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (slot, epoch, pid) = (worker.slot, worker.epoch, raw(worker.pid));
        let pidfd = Rc::clone(&worker.pidfd);
        self.tell_child(child, &ToChild::WorkerUp { region, slot, epoch, pid }, &[&pidfd]);
    }

    // ---- output ----

    pub(crate) fn output_readable(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(output) = &worker.output else { return };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(output, &mut buffer) {
            Ok(got) if got > 0 => {
                let bytes = buffer.get(..got).unwrap_or_default();
                let say = output_line(&self.log, &self.pools, worker.pool, worker.pid);
                worker.lines.feed(bytes, Instant::now(), say);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Closed on purpose, or the end of the worker.
            _ => {
                if let Some(output) = worker.output.take() {
                    self.poller.remove(&output);
                }
            }
        }
    }

    /// Time-outs of workers, and lines about lines that were left out.
    pub(crate) fn worker_timers(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (id, worker) in &mut self.workers {
            if worker.lines.deadline().is_some_and(|at| at <= now) {
                let say = output_line(&self.log, &self.pools, worker.pool, worker.pid);
                worker.lines.tick(now, say);
            }
            if let Some((at, reason)) = worker.kill_at
                && at <= now
            {
                late.push((*id, reason));
            }
        }
        for (id, reason) in late {
            self.kill_worker(id, reason, "");
        }
    }
}

/// Logs what a worker wrote.
pub(crate) fn output_line<'a>(
    log: &'a Log,
    pools: &'a BTreeMap<u64, Pool>,
    pool: u64,
    pid: Pid,
) -> impl FnMut(Out) + 'a {
    move |out| {
        let label = pools.get(&pool).map_or("?", |p| p.label.as_str());
        let pid = raw(pid);
        match out {
            Out::Line(line) => {
                log.notice(codes::WORKER_OUTPUT, format_args!("[{label} pid {pid}] {line}"));
            }
            Out::Suppressed(count) => log.warn(
                codes::WORKER_OUTPUT,
                format_args!(
                    "[{label} pid {pid}] suppressed {count} lines: more than 1000 in a second"
                ),
            ),
        }
    }
}
