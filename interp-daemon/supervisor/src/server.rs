//! The event loop and what is decided for the whole supervisor: configuration, generations, stopping, timers.
//!
//! Children's packets are served in [`crate::children`], workers are started and watched in [`crate::workers`].

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::SocketFlags;
use vivarium_protocol::PROTOCOL_VERSION;
use vivarium_protocol::codes;
use vivarium_protocol::control::{MAX_PACKET, ToChild, ToWorker};

use crate::admin::Admin;
use crate::children::Child;
use crate::config::{self, Settings};
use crate::conn::{Poller, Source};
use crate::generations::Generations;
use crate::log::Log;
use crate::notify::Notify;
use crate::pool::{Pool, PoolName, Quiet};
use crate::reload::{GRACE_MARGIN, Tenants};
use crate::spawn::Launch;
use crate::sys::Signals;
use crate::workers::{KillReason, Worker};

/// How long workers may finish what they are doing.
const GRACE: Duration = Duration::from_secs(10);
/// The same when httpd is gone, its children with it: it has waited for its requests itself, and what still runs is for
/// nobody.
const ALONE_GRACE: Duration = Duration::from_secs(2);
/// After the system has refused a connection for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// The most packets taken from one socket before the others have their turn.
pub(crate) const TURN: usize = 32;

/// What `main` has found or made.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) log: Log,
    pub(crate) signals: Signals,
    pub(crate) listener: OwnedFd,
    /// Managed: the channel to httpd's parent.
    pub(crate) channel: Option<OwnedFd>,
    pub(crate) source: config::Source,
    pub(crate) settings: Result<Settings, String>,
    /// Service: what a managed supervisor gets with each configuration.
    pub(crate) launch: Option<Launch>,
    pub(crate) notify: Notify,
    pub(crate) own_uid: u32,
    /// Where sockets and mount points are made.
    pub(crate) run_dir: Option<PathBuf>,
}

/// The supervisor.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) log: Log,
    pub(crate) poller: Poller,
    signals: Signals,
    listener: OwnedFd,
    listening: bool,
    listen_again: Option<Instant>,
    pub(crate) channel: Option<OwnedFd>,
    pub(crate) managed: bool,
    pub(crate) source: config::Source,
    /// The last good configuration file, or why there is none.
    pub(crate) settings: Result<Rc<Settings>, String>,
    /// What new pools are made with.
    pub(crate) launch: Option<Rc<Launch>>,
    /// Managed: the httpd instance.
    pub(crate) instance: Option<u64>,
    /// The parent speaks another version: no child can be served.
    pub(crate) refuse: Option<String>,
    /// Who may connect, beside root and ourselves.
    pub(crate) httpd_uid: Option<u32>,
    pub(crate) own_uid: u32,
    pub(crate) generations: Generations,
    pub(crate) children: HashMap<u64, Child>,
    pub(crate) pools: BTreeMap<u64, Pool>,
    pub(crate) index: HashMap<PoolName, u64>,
    pub(crate) workers: HashMap<u64, Worker>,
    pub(crate) last_id: u64,
    pub(crate) buffer: Vec<u8>,
    /// Connections to be given up once nobody is going through them.
    pub(crate) doomed: Vec<(u64, String)>,
    pub(crate) stopping: bool,
    /// How long workers have when everything stops.
    grace: Duration,
    notify: Notify,
    /// Strangers that connect.
    pub(crate) peer_quiet: Quiet,
    /// Packets that are refused.
    pub(crate) packet_quiet: Quiet,
    /// Children that are refused, pools that cannot be made.
    pub(crate) refuse_quiet: Quiet,
    pub(crate) run_dir: Option<PathBuf>,
    pub(crate) tenants: Tenants,
    pub(crate) admin: Option<Admin>,
    /// When what is kept for tenants is looked through again.
    pub(crate) tidy_at: Option<Instant>,
}

impl Server {
    pub(crate) fn new(start: Start) -> rustix::io::Result<Self> {
        let poller = Poller::new()?;
        let managed = start.channel.is_some();
        poller.add(&start.signals, Source::Signals)?;
        if let Some(channel) = &start.channel {
            poller.add(channel, Source::Channel)?;
        }
        let mut server = Self {
            log: start.log,
            poller,
            signals: start.signals,
            listener: start.listener,
            listening: false,
            listen_again: None,
            channel: start.channel,
            managed,
            source: start.source,
            settings: start.settings.map(Rc::new),
            launch: start.launch.map(Rc::new),
            instance: None,
            refuse: None,
            httpd_uid: None,
            own_uid: start.own_uid,
            generations: Generations::new(managed),
            children: HashMap::new(),
            pools: BTreeMap::new(),
            index: HashMap::new(),
            workers: HashMap::new(),
            last_id: 0,
            buffer: vec![0; MAX_PACKET],
            doomed: Vec::new(),
            stopping: false,
            grace: GRACE,
            notify: start.notify,
            peer_quiet: Quiet::default(),
            packet_quiet: Quiet::default(),
            refuse_quiet: Quiet::default(),
            run_dir: start.run_dir,
            tenants: Tenants::default(),
            admin: None,
            tidy_at: None,
        };
        server.apply_settings();
        server.open_admin();
        // A managed supervisor does not know how to serve anybody before it has its first configuration.
        if !managed {
            server.reload_tenants();
            server.listen(true)?;
        }
        Ok(server)
    }

    /// A number that nothing else has or will have.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Serves until everything has stopped.
    pub(crate) fn run(&mut self) -> rustix::io::Result<()> {
        let who = if self.managed { "managed by httpd" } else { "as a service" };
        let version = env!("CARGO_PKG_VERSION");
        self.log.notice(
            codes::STARTED,
            format_args!("vivariumd {version} (protocol {PROTOCOL_VERSION}) has started, {who}"),
        );
        self.notify.say("READY=1");
        let mut events = Vec::new();
        loop {
            self.drop_doomed();
            self.timers(Instant::now());
            self.drop_doomed();
            if self.stopping && self.workers.is_empty() {
                break;
            }
            self.poller.wait(self.next_deadline(), &mut events)?;
            for event in events.drain(..) {
                self.dispatch(event);
            }
        }
        self.remove_groups();
        self.log.notice(codes::STOPPING, format_args!("vivariumd has stopped; no worker is left"));
        Ok(())
    }

    fn dispatch(&mut self, event: Source) {
        match event {
            Source::Listener => self.accept(),
            Source::Channel => self.channel_readable(),
            Source::Signals => self.signalled(),
            Source::Child(id) => self.child_event(id),
            Source::Worker(id) => self.worker_event(id),
            Source::Process(id) => self.worker_gone(id),
            Source::Output(id) => self.output_readable(id),
            Source::Admin => self.admin_accept(),
            Source::AdminClient(id) => self.admin_asks(id),
        }
    }

    // ---- the listening socket ----

    pub(crate) fn listen(&mut self, on: bool) -> rustix::io::Result<()> {
        if on && !self.listening && !self.stopping {
            self.poller.add(&self.listener, Source::Listener)?;
        } else if !on && self.listening {
            self.poller.remove(&self.listener);
        }
        self.listening = on && !self.stopping;
        Ok(())
    }

    /// Accepts nobody for a while.
    pub(crate) fn pause_listening(&mut self) {
        let _ = self.listen(false);
        self.listen_again = Some(Instant::now() + ACCEPT_PAUSE);
    }

    fn accept(&mut self) {
        for _ in 0..TURN {
            if !self.listening || !self.room_for_child() {
                return;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => self.connected(socket),
                Err(e) if e == rustix::io::Errno::AGAIN => return,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(e) => {
                    self.log.error(
                        codes::SUPERVISOR_LIMIT,
                        format_args!(
                            "no connection can be accepted: {e}; trying again in a second"
                        ),
                    );
                    self.pause_listening();
                }
            }
        }
    }

    // ---- signals, stopping ----

    fn signalled(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                libc::SIGHUP => {
                    self.reload_all("SIGHUP");
                }
                _ if self.stopping => {
                    // Asked twice: no more patience.
                    let now = Instant::now();
                    for worker in self.workers.values_mut() {
                        worker.kill_at = Some((now, KillReason::Stop));
                    }
                }
                libc::SIGTERM => self.stop("asked by SIGTERM"),
                libc::SIGINT => self.stop("asked by SIGINT"),
                _ => {}
            }
        }
    }

    /// Reads everything again because somebody asks for it; gives what there is to say, and whether all is right.
    pub(crate) fn reload_all(&mut self, who: &str) -> (bool, Vec<String>) {
        self.notify.reloading();
        let (ok, lines) = self.reload();
        self.log.info(
            codes::CONFIGURED,
            format_args!("asked by {who}: {} was read again", self.source.path().display()),
        );
        self.notify.say("READY=1");
        (ok, lines)
    }

    /// Stops everything gracefully; [`Server::run`] ends when the last worker is gone.
    pub(crate) fn stop(&mut self, why: &str) {
        if self.stopping {
            return;
        }
        let count = self.workers.len();
        if self.managed && self.channel.is_none() && self.children.is_empty() {
            self.grace = ALONE_GRACE;
        }
        self.log.notice(
            codes::STOPPING,
            format_args!(
                "vivariumd is stopping: {why}; {count} workers have {} s to finish",
                self.grace.as_secs()
            ),
        );
        self.notify.say("STOPPING=1");
        let _ = self.listen(false);
        self.stopping = true;
        self.listen_again = None;
        let ids: Vec<u64> = self.pools.keys().copied().collect();
        for id in ids {
            self.retire(id);
        }
        // To a child this looks like our death: it takes back what nobody has claimed, the rest is finished.
        for (_, child) in self.children.drain() {
            child.conn.close(&self.poller);
        }
    }

    /// Stops the pools of generations that nobody uses any more.
    pub(crate) fn retire_old(&mut self) {
        let now = Instant::now();
        let over: Vec<u64> = self
            .pools
            .iter()
            .filter(|(_, p)| {
                !p.retiring && self.generations.is_over(p.name.instance, p.name.generation, now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.retire(id);
        }
        self.generations.forget_gone(now);
    }

    /// Asks a pool's workers to stop and starts no more.
    fn retire(&mut self, id: u64) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        if self.index.get(&pool.name) == Some(&id) {
            self.index.remove(&pool.name);
        }
        let most = if self.stopping { self.grace } else { Duration::MAX };
        for id in pool.retire() {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            let grace = worker.tenant.stop_time().min(most);
            worker.kill_at = Some((Instant::now() + grace + GRACE_MARGIN, KillReason::Stop));
            let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
            self.tell_worker(id, &ToWorker::Stop { grace_ms }, &[]);
        }
        self.bury(id);
    }

    /// Removes a retired pool once its last worker is gone.
    pub(crate) fn bury(&mut self, id: u64) {
        let Some(pool) = self.pools.get(&id) else { return };
        if !pool.retiring || pool.workers().next().is_some() {
            return;
        }
        if !self.stopping {
            self.log.info(
                codes::POOL_RETIRED,
                format_args!(
                    "pool {} of httpd generation {} has stopped: nobody uses it any more",
                    pool.label, pool.name.generation
                ),
            );
        }
        self.pools.remove(&id);
        self.tidy_tenants(Instant::now());
    }

    // ---- timers ----

    fn next_deadline(&self) -> Option<Instant> {
        let pools = self.pools.values().flat_map(|p| [p.next_start(), p.look_at]).flatten();
        let workers = self.workers.values().filter_map(Worker::deadline);
        let children = self.children.values().filter_map(Child::deadline);
        pools
            .chain(workers)
            .chain(children)
            .chain(self.listen_again)
            .chain(self.tidy_at)
            .chain(self.generations.next_deadline())
            .min()
    }

    fn timers(&mut self, now: Instant) {
        self.look_for_idle(now);
        self.start_due(now);
        self.worker_timers(now);
        self.child_timers(now);
        if self.listen_again.is_some_and(|at| at <= now) {
            self.listen_again = None;
            self.start_listening();
        }
        if self.generations.next_deadline().is_some_and(|at| at <= now) {
            self.retire_old();
        }
    }

    // ---- talking to children ----

    /// Sends to a child; one that cannot take it is given up.
    pub(crate) fn tell_child(&mut self, id: u64, message: &ToChild, fds: &[&Rc<OwnedFd>]) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if let Err(e) = child.conn.send(&self.poller, message, fds) {
            // A child that ends while it is written to is no news: its pools hear of it by the connection's end.
            let why = match e {
                crate::conn::SendError::Gone(_) => String::new(),
                full @ crate::conn::SendError::Full(_) => full.to_string(),
            };
            self.doomed.push((id, why));
        }
    }

    /// Gives a connection up, soon.
    pub(crate) fn doom(&mut self, id: u64, why: impl Into<String>) {
        self.doomed.push((id, why.into()));
    }

    fn drop_doomed(&mut self) {
        while let Some((id, why)) = self.doomed.pop() {
            self.drop_child(id, Some(why.as_str()).filter(|why| !why.is_empty()));
        }
    }
}
