//! httpd children: who may connect, and what their packets do.
//!
//! A child is believed as far as its uid may ask: it can use pools and have misbehaving workers of those pools killed.
//! A packet that cannot be decoded or comes out of turn ends its connection and nothing else.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use vivarium_protocol::codes;
use vivarium_protocol::control::{MAX_STARTUP, PoolKey, ToChild, ToSupervisor, ToWorker};
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::policy::{DEFAULT_TENANT, TenantPolicy, is_default};
use vivarium_protocol::seqpacket::PacketError;
use vivarium_protocol::shm::Mapping;
use vivarium_protocol::{PROTOCOL_VERSION, codec};

use crate::conn::{Conn, Source};
use crate::log::escape;
use crate::pool::{Pool, PoolName, Region, SlotState, check_key};
use crate::server::{Server, TURN};
use crate::tenants::{NO_TENANT, closed_policy};
use crate::workers::KillReason;

/// The most connections.
const CHILDREN: usize = 4096;
/// The most regions of one child.
const REGIONS: usize = 1024;
/// The most pools of one child whose start-up data has come and which are not attached yet.
const STARTUPS: usize = 16;
/// The most packets that may wait for a child.
const QUEUE: usize = 4096;
/// A connection that says nothing is closed after this.
const HELLO: Duration = Duration::from_secs(10);
/// A refused connection is closed after this.
const REFUSED: Duration = Duration::from_secs(2);

/// A connection.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) conn: Conn,
    pid: i32,
    state: State,
    /// The child's number → (pool, our number).
    regions: HashMap<u32, (u64, u64)>,
    /// Start-up data that came and whose pool was not attached yet.
    startups: HashMap<PoolKey, Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Hello is expected until then.
    New(Instant),
    Served {
        instance: u64,
        generation: u32,
    },
    /// A refusal was sent. The other side is to close first, by then: if we did, what it has sent and we have not read
    /// would make the kernel show it an error instead of the refusal.
    Refused(Instant),
}

impl Child {
    /// A region whose pool is gone.
    pub(crate) fn forget_region(&mut self, number: u32) {
        self.regions.remove(&number);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::New(until) | State::Refused(until) => Some(until),
            State::Served { .. } => None,
        }
    }
}

/// What is wrong with a packet.
type Wrong = String;

impl Server {
    /// Whether there is room for another connection; if not, none is accepted for a while.
    pub(crate) fn room_for_child(&mut self) -> bool {
        if self.children.len() < CHILDREN {
            return true;
        }
        let text = "no more processes are accepted for now";
        if let Some(muted) = self.refuse_quiet.allow(text, Instant::now()) {
            self.log.error(
                codes::SUPERVISOR_LIMIT,
                format_args!("{CHILDREN} processes are connected: {text}{}", more(muted)),
            );
        }
        self.pause_listening();
        false
    }

    /// Somebody has connected.
    pub(crate) fn connected(&mut self, socket: OwnedFd) {
        let peer = match rustix::net::sockopt::socket_peercred(&socket) {
            Ok(peer) => peer,
            Err(e) => {
                self.log.warn(
                    codes::PEER_REFUSED,
                    format_args!(
                        "a connection was closed: the kernel does not say whose it is: {e}"
                    ),
                );
                return;
            }
        };
        let uid = peer.uid.as_raw();
        let pid = peer.pid.as_raw_pid();
        let id = self.new_id();
        let conn = match Conn::new(&self.poller, socket, Source::Child(id), QUEUE) {
            Ok(conn) => conn,
            Err(e) => {
                self.log.error(
                    codes::SUPERVISOR_LIMIT,
                    format_args!("a connection of process {pid} cannot be watched: {e}"),
                );
                return;
            }
        };
        let state = State::New(Instant::now() + HELLO);
        self.children.insert(
            id,
            Child { conn, pid, state, regions: HashMap::new(), startups: HashMap::new() },
        );
        if uid != 0 && uid != self.own_uid && Some(uid) != self.httpd_uid {
            let reason =
                format!("process {pid} of uid {uid} may not connect: only httpd's children may");
            if let Some(muted) = self.peer_quiet.allow(&format!("uid {uid}"), Instant::now()) {
                self.log.warn(codes::PEER_REFUSED, format_args!("{reason}{}", more(muted)));
            }
            self.refuse_child(id, reason);
        }
    }

    /// Says why, and no more.
    fn refuse_child(&mut self, id: u64, reason: String) {
        self.tell_child(id, &ToChild::Refuse { version: PROTOCOL_VERSION, reason }, &[]);
        if let Some(child) = self.children.get_mut(&id) {
            child.state = State::Refused(Instant::now() + REFUSED);
            child.conn.end_sending();
        }
    }

    /// Connections that have taken too long to say hello, or to go.
    pub(crate) fn child_timers(&mut self, now: Instant) {
        let late: Vec<u64> = self
            .children
            .iter()
            .filter(|(_, child)| child.deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let refused =
                self.children.get(&id).is_some_and(|c| matches!(c.state, State::Refused(_)));
            self.drop_child(
                id,
                if refused { None } else { Some("it has connected and said nothing") },
            );
        }
    }

    pub(crate) fn child_event(&mut self, id: u64) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if let Err(e) = child.conn.flush(&self.poller) {
            self.doom(id, e.to_string());
            return;
        }
        for _ in 0..TURN {
            let Some(child) = self.children.get(&id) else { return };
            match child.conn.recv(&mut self.buffer) {
                Ok(None) => return,
                Ok(Some((len, fds))) => {
                    if matches!(child.state, State::Refused(_)) {
                        continue;
                    }
                    let bytes = self.buffer.get(..len).unwrap_or_default();
                    let done = codec::decode::<ToSupervisor>(bytes)
                        .map_err(|e| e.to_string())
                        .and_then(|packet| self.child_packet(id, packet, fds));
                    if let Err(wrong) = done {
                        self.bad_child(id, &wrong);
                        return;
                    }
                }
                Err(PacketError::Closed) => {
                    self.drop_child(id, None);
                    return;
                }
                Err(e) => {
                    self.bad_child(id, &e.to_string());
                    return;
                }
            }
        }
    }

    fn bad_child(&mut self, id: u64, wrong: &str) {
        let Some(child) = self.children.get(&id) else { return };
        let (pid, wrong) = (child.pid, escape(wrong.as_bytes(), 500));
        if let Some(muted) = self.packet_quiet.allow(&format!("{pid} {wrong}"), Instant::now()) {
            self.log.error(
                codes::BAD_PACKET,
                format_args!("process {pid} sent a packet that is refused: {wrong}; its connection is closed{}", more(muted)),
            );
        }
        self.drop_child(id, None);
    }

    fn child_packet(
        &mut self,
        id: u64,
        packet: ToSupervisor,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Wrong> {
        let state = self.children.get(&id).map(|c| c.state).ok_or("gone")?;
        match (state, packet) {
            (State::New(_), ToSupervisor::Hello { version, instance, generation }) => {
                no_descriptors(&fds)?;
                self.hello(id, version, instance, generation);
                Ok(())
            }
            (State::New(_), _) => Err("a hello was expected first".into()),
            (State::Served { .. }, ToSupervisor::Hello { .. }) => Err("a second hello".into()),
            (State::Served { .. }, ToSupervisor::Startup { pool, data }) => {
                no_descriptors(&fds)?;
                check_key(&pool)?;
                if data.len() > MAX_STARTUP {
                    return Err(format!("start-up data of {} bytes", data.len()));
                }
                let child = self.children.get_mut(&id).ok_or("gone")?;
                if child.startups.len() >= STARTUPS {
                    return Err(format!("start-up data for more than {STARTUPS} pools"));
                }
                child.startups.insert(pool, data);
                Ok(())
            }
            (State::Served { instance, generation }, ToSupervisor::Attach { pool, region }) => {
                let [memory, socket] = <[OwnedFd; 2]>::try_from(fds)
                    .map_err(|fds| format!("Attach with {} descriptors, not 2", fds.len()))?;
                let name = PoolName { instance, generation, key: pool };
                self.attach(id, name, region, memory, socket)
            }
            (State::Served { .. }, ToSupervisor::Detach { region }) => {
                no_descriptors(&fds)?;
                self.detach(id, region);
                Ok(())
            }
            (State::Served { .. }, ToSupervisor::Misbehaved { region, slot, epoch, reason }) => {
                no_descriptors(&fds)?;
                self.misbehaved(id, region, slot, epoch, &reason);
                Ok(())
            }
            (State::Served { .. }, ToSupervisor::Wanted { region }) => {
                no_descriptors(&fds)?;
                let pool = self.children.get(&id).and_then(|c| c.regions.get(&region));
                if let Some((pool, _)) = pool.copied() {
                    self.call(pool, Instant::now());
                }
                Ok(())
            }
            (State::Refused(_), _) => Ok(()),
        }
    }

    fn hello(&mut self, id: u64, version: u32, instance: u64, generation: u32) {
        // What the parent sent before this child was born is in the channel already.
        self.channel_readable();
        if !self.children.contains_key(&id) {
            return;
        }
        let pid = self.children.get(&id).map_or(0, |c| c.pid);
        let refusal = if version == PROTOCOL_VERSION {
            self.refuse.clone().or_else(|| match self.instance {
                Some(known) if known != instance => {
                    Some("this supervisor belongs to another httpd".into())
                }
                None if self.managed => Some("no configuration has come yet".into()),
                _ => None,
            })
        } else {
            Some(format!(
                "httpd's module speaks protocol {version}, vivariumd speaks {PROTOCOL_VERSION}: restart httpd (not \
                 gracefully) and vivariumd so that both are of one version"
            ))
        };
        if let Some(reason) = refusal {
            if let Some(muted) = self.refuse_quiet.allow(&reason, Instant::now()) {
                let code = if version == PROTOCOL_VERSION && self.refuse.is_none() {
                    codes::PEER_REFUSED
                } else {
                    codes::VERSION_MISMATCH
                };
                self.log.error(
                    code,
                    format_args!("httpd child {pid} is refused: {reason}{}", more(muted)),
                );
            }
            self.refuse_child(id, reason);
            return;
        }
        if let Some(child) = self.children.get_mut(&id) {
            child.state = State::Served { instance, generation };
        }
        self.generations.hello(instance, generation);
        self.tell_child(id, &ToChild::Welcome { version: PROTOCOL_VERSION }, &[]);
        // It may be the first of a new generation whose predecessor is unused.
        self.retire_old();
    }

    fn attach(
        &mut self,
        id: u64,
        name: PoolName,
        number: u32,
        memory: OwnedFd,
        socket: OwnedFd,
    ) -> Result<(), Wrong> {
        check_key(&name.key)?;
        Mapping::sealed_size(memory.as_fd()).map_err(|e| format!("the region: {e}"))?;
        check_descriptor_socket(&socket)?;
        let child = self.children.get(&id).ok_or("gone")?;
        if child.regions.contains_key(&number) {
            return Err(format!("region {number} is attached already"));
        }
        if child.regions.len() >= REGIONS {
            return Err(format!("more than {REGIONS} regions"));
        }
        let now = Instant::now();
        let mut name = name;
        if is_default(&name.key.tenant) {
            DEFAULT_TENANT.clone_into(&mut name.key.tenant);
        }
        let startup = self.children.get_mut(&id).and_then(|c| c.startups.remove(&name.key));
        let is_new = !self.index.contains_key(&name);
        let tenant = name.key.tenant.clone();
        let Some(pool_id) = self.find_or_make_pool(name, now) else {
            let code = codes::CANNOT_START_WORKER.to_string();
            let reason = "the supervisor has no room for another pool".to_owned();
            let policy = closed_policy(&tenant);
            self.tell_child(id, &ToChild::Policy { region: number, policy }, &[]);
            let down = ToChild::PoolDown { region: number, code, reason, retry_ms: 10_000 };
            self.tell_child(id, &down, &[]);
            return Ok(());
        };
        let our_number = self.new_id();
        let (memory, socket) = (Rc::new(memory), Rc::new(socket));
        if let Some(child) = self.children.get_mut(&id) {
            child.regions.insert(number, (pool_id, our_number));
        }
        let Some(pool) = self.pools.get_mut(&pool_id) else { return Ok(()) };
        if is_new {
            pool.startup = startup.map(Rc::new);
        }
        let region =
            Region { child: id, number, memory: Rc::clone(&memory), socket: Rc::clone(&socket) };
        pool.regions.insert(our_number, region);
        pool.last_call = now;
        let page = Rc::clone(&pool.page_fd);
        let policy = pool.policy.clone();
        let ready: Vec<_> = pool.ready().collect();
        let down = pool.down.clone().map(|error| ToChild::PoolDown {
            region: number,
            code: error.code.to_string(),
            reason: error.reason,
            retry_ms: pool.retry_ms(now),
        });
        let policy = policy.map_or_else(|| closed_policy(&tenant), |p| TenantPolicy::clone(&p));
        self.tell_child(id, &ToChild::Policy { region: number, policy }, &[]);
        self.tell_child(id, &ToChild::Attached { region: number }, &[&page]);
        for (_, _, worker) in &ready {
            self.tell_worker(
                *worker,
                &ToWorker::Region { region: our_number },
                &[&memory, &socket],
            );
        }
        for (_, _, worker) in ready {
            self.announce_worker(worker, id, number);
        }
        if let Some(down) = down {
            self.tell_child(id, &down, &[]);
        }
        // Its last worker may be leaving.
        if self.pools.get(&pool_id).is_some_and(|p| p.count().ready == 0) {
            self.call(pool_id, now);
        }
        Ok(())
    }

    /// The pool of that name, made if need be; `None` if there are too many.
    fn find_or_make_pool(&mut self, name: PoolName, now: Instant) -> Option<u64> {
        if let Some(id) = self.index.get(&name) {
            return Some(*id);
        }
        let most = self.settings.as_ref().map_or(256, |s| *s.limits.pools.get());
        let tenant = self.tenant(&name.key.tenant).ok();
        let scale = tenant.as_ref().map_or(NO_TENANT, |t| t.scale());
        let launch = Rc::clone(self.launch.as_ref()?);
        let own = self
            .pools
            .values()
            .filter(|p| {
                (p.name.instance, p.name.generation) == (name.instance, name.generation)
                    && p.name.key.tenant == name.key.tenant
            })
            .count();
        let made = if self.pools.len() >= most {
            Err(format!("there are {most} pools already; raise `pools` in [limits]"))
        } else if tenant.as_ref().is_some_and(|t| own >= t.most_interpreters()) {
            Err(format!("its tenant has {own} already; raise `max_interpreters` in its file"))
        } else {
            PoolPage::create().map_err(|e| e.to_string())
        };
        match made {
            Ok((page, fd)) => {
                let id = self.new_id();
                let mut pool = Pool::new(name.clone(), launch, page, fd, scale, now);
                pool.policy = tenant.map(|t| Rc::new(t.policy()));
                self.pools.insert(id, pool);
                self.index.insert(name, id);
                Some(id)
            }
            Err(e) => {
                if let Some(muted) = self.refuse_quiet.allow(&e, now) {
                    let label = crate::pool::label(&name.key);
                    self.log.error(
                        codes::SUPERVISOR_LIMIT,
                        format_args!("pool {label} cannot be made: {e}{}", more(muted)),
                    );
                }
                None
            }
        }
    }

    fn detach(&mut self, id: u64, number: u32) {
        let taken = self.children.get_mut(&id).and_then(|c| c.regions.remove(&number));
        if let Some((pool, region)) = taken {
            self.region_gone(pool, region);
            self.drop_unknown(pool, Instant::now());
        }
    }

    fn region_gone(&mut self, pool_id: u64, region: u64) {
        let Some(pool) = self.pools.get_mut(&pool_id) else { return };
        if pool.regions.remove(&region).is_none() {
            return;
        }
        let workers: Vec<u64> = pool.workers().collect();
        for worker in workers {
            // One that is still starting has not been told of any region.
            if self.workers.get(&worker).is_some_and(|w| w.ready_at.is_some()) {
                self.tell_worker(worker, &ToWorker::RegionGone { region }, &[]);
            }
        }
    }

    fn misbehaved(&mut self, id: u64, number: u32, slot: u8, epoch: u16, reason: &str) {
        let Some(child) = self.children.get(&id) else { return };
        let pid = child.pid;
        let Some(pool) = child.regions.get(&number).and_then(|(pool, _)| self.pools.get(pool))
        else {
            return;
        };
        // It may have died meanwhile, and have been replaced.
        let worker = match pool.slots.get(usize::from(slot)) {
            Some(s) if s.epoch == epoch => match s.state {
                SlotState::Ready(worker) | SlotState::Leaving(worker) => worker,
                _ => return,
            },
            _ => return,
        };
        let why = format!("httpd child {pid} says: {}", escape(reason.as_bytes(), 500));
        self.kill_worker(worker, KillReason::Misbehaved, &why);
    }

    /// Ends a connection: the regions of that child are gone.
    pub(crate) fn drop_child(&mut self, id: u64, why: Option<&str>) {
        let Some(child) = self.children.remove(&id) else { return };
        if let Some(why) = why {
            self.log.warn(
                codes::BAD_PACKET,
                format_args!("the connection of process {} is closed: {why}", child.pid),
            );
        }
        child.conn.close(&self.poller);
        for (pool, region) in child.regions.into_values() {
            self.region_gone(pool, region);
        }
        if let State::Served { instance, generation } = child.state {
            self.generations.bye(instance, generation, Instant::now());
            self.retire_old();
        }
    }
}

/// How a line says that others were left out before it.
pub(crate) fn more(muted: u32) -> String {
    if muted == 0 { String::new() } else { format!(" ({muted} more such lines were left out)") }
}

fn no_descriptors(fds: &[OwnedFd]) -> Result<(), Wrong> {
    if fds.is_empty() {
        Ok(())
    } else {
        Err(format!("{} descriptors where none belong", fds.len()))
    }
}

fn check_descriptor_socket(socket: &OwnedFd) -> Result<(), Wrong> {
    use rustix::net::sockopt::{socket_domain, socket_type};
    match (socket_domain(socket), socket_type(socket)) {
        (Ok(AddressFamily::UNIX), Ok(SocketType::SEQPACKET)) => Ok(()),
        _ => Err("the second descriptor of Attach is no AF_UNIX SOCK_SEQPACKET socket".into()),
    }
}
