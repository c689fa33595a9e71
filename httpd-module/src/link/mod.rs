//! A child's link to the supervisor: one connection, one control thread, and the pools that this child uses.
//!
//! Request threads find their pool in a map behind a read lock. The first one that needs a pool makes its region,
//! attaches it, and waits for the answer. The control thread reads the supervisor's messages and watches the workers'
//! pidfds, so that a worker's death is known at once, with or without a supervisor.

mod control;
pub(crate) mod pool;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, poll};
use vivarium_protocol::control::{PoolKey, ToChild, ToSupervisor};
use vivarium_protocol::region::{Geometry, Owner};
use vivarium_protocol::{PROTOCOL_VERSION, codes, seqpacket};

use self::pool::Pool;
use crate::apache::ending;
use crate::apache::log::{self, Level};

/// How long the supervisor may take to answer before a request gets 503. It may be just starting again.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no pool for a request.
#[derive(Debug, Clone)]
pub(crate) struct NoPool {
    /// One line for the log.
    pub(crate) reason: String,
    /// Seconds after which trying again makes sense.
    pub(crate) retry_after: u32,
}

/// The link of this process.
pub(crate) struct Link {
    pools: RwLock<HashMap<PoolKey, Arc<Pool>>>,
    inner: Mutex<Inner>,
    /// Pokes the control thread.
    poke: OwnedFd,
}

#[derive(Default)]
struct Inner {
    connection: Option<Arc<OwnedFd>>,
    /// Pools whose answer is awaited or that are in use, by region number.
    regions: HashMap<u32, Arc<Pool>>,
    next_region: u32,
    has_thread: bool,
    /// When connecting failed last, and how: who waited for that attempt shares its result.
    failed: Option<(Instant, NoPool)>,
    /// Pools of tenants that the supervisor does not know, and until when it is not asked again.
    unknown: HashMap<PoolKey, (NoPool, Instant)>,
}

/// How many such pools are kept in mind: their names can come from clients (`VivariumTenant ~*`).
const UNKNOWN: usize = 1024;

static LINK: OnceLock<Option<Link>> = OnceLock::new();

/// The child's link; none if the process could not even get a descriptor.
pub(crate) fn get() -> Option<&'static Link> {
    LINK.get_or_init(|| {
        let poke =
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        Some(Link { pools: RwLock::default(), inner: Mutex::default(), poke })
    })
    .as_ref()
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a lock was held left plain data, each field valid by itself.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// The pool of a key, attached.
    ///
    /// # Errors
    /// [`NoPool`]: the supervisor cannot be reached, or says that the pool's workers cannot be started.
    pub(crate) fn pool(&'static self, key: &PoolKey) -> Result<Arc<Pool>, NoPool> {
        let known = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let pool = match known {
            Some(pool) => pool,
            None => self.attach(key)?,
        };
        pool.usable()?;
        Ok(pool)
    }

    /// Tells the supervisor that a worker broke the protocol.
    pub(crate) fn misbehaved(&self, pool: &Pool, owner: Owner, reason: &str) {
        let connection = lock(&self.inner).connection.clone();
        if let Some(connection) = connection {
            let message = ToSupervisor::Misbehaved {
                region: pool.id(),
                slot: owner.slot,
                epoch: owner.epoch,
                reason: reason.chars().take(500).collect(),
            };
            let _ = seqpacket::send(&*connection, &message, &[], true);
        }
    }

    /// Tells the supervisor that lanes of a pool wait.
    fn wanted(&self, pool: &Pool) {
        let connection = lock(&self.inner).connection.clone();
        if let Some(connection) = connection {
            let message = ToSupervisor::Wanted { region: pool.id() };
            // One that does not read has enough to do.
            let _ = seqpacket::send(&*connection, &message, &[], true);
        }
    }

    /// A pool is gone because nobody has used it. Who was about to finds it retired, takes his lane back and comes again.
    fn asleep(&self, region: u32) {
        let mut inner = lock(&self.inner);
        let Some(pool) = inner.regions.remove(&region) else { return };
        pool.retire();
        if let Some(connection) = &inner.connection {
            let _ = seqpacket::send(&**connection, &ToSupervisor::Detach { region }, &[], true);
        }
        drop(inner);
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        if pools.get(pool.key()).is_some_and(|p| Arc::ptr_eq(p, &pool)) {
            pools.remove(pool.key());
        }
    }

    fn attach(&'static self, key: &PoolKey) -> Result<Arc<Pool>, NoPool> {
        let began = Instant::now();
        let pool = {
            let mut inner = lock(&self.inner);
            if let Some((_, failure)) = inner.failed.as_ref().filter(|(when, _)| *when > began) {
                return Err(failure.clone());
            }
            if let Some((no, until)) = inner.unknown.get(key) {
                if *until > began {
                    return Err(no.clone());
                }
                inner.unknown.remove(key);
            }
            // Somebody else may have attached it, or be about to.
            if let Some(pool) = inner.regions.values().find(|p| p.key() == key && !p.retired()) {
                Arc::clone(pool)
            } else {
                self.start_attach(&mut inner, key)?
            }
        };
        pool.wait_attached(ANSWER_LIMIT)?;
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        if !pool.retired() && pool.refusal().is_none() {
            pools.insert(key.clone(), Arc::clone(&pool));
        }
        Ok(pool)
    }

    /// Forgets a pool whose tenant there is not: neither its region nor the supervisor's side of it is of use.
    fn give_up(&self, pool: &Pool) {
        let Some((no, until)) = pool.refusal() else { return };
        self.pools.write().unwrap_or_else(PoisonError::into_inner).remove(pool.key());
        let mut inner = lock(&self.inner);
        if inner.regions.remove(&pool.id()).is_none() {
            return;
        }
        let now = Instant::now();
        if inner.unknown.len() >= UNKNOWN {
            inner.unknown.retain(|_, (_, until)| *until > now);
        }
        if inner.unknown.len() < UNKNOWN {
            inner.unknown.insert(pool.key().clone(), (no, until));
        }
        if let Some(connection) = &inner.connection {
            let message = ToSupervisor::Detach { region: pool.id() };
            let _ = seqpacket::send(&**connection, &message, &[], true);
        }
    }

    fn start_attach(&'static self, inner: &mut Inner, key: &PoolKey) -> Result<Arc<Pool>, NoPool> {
        let failed = |what: &str, e: &dyn std::fmt::Display| NoPool {
            reason: format!("{what}: {e}"),
            retry_after: 1,
        };
        let connection = match &inner.connection {
            Some(c) => Arc::clone(c),
            None => self.connect(inner).inspect_err(|failure| {
                inner.failed = Some((Instant::now(), failure.clone()));
            })?,
        };
        let threads = crate::hooks::max_threads();
        let geometry = Geometry { lanes: (threads * 2 + 8).clamp(16, 512), ..Geometry::default() };
        inner.next_region += 1;
        let id = inner.next_region;
        let (pool, region_fd, descriptor_end) = Pool::create(key.clone(), id, geometry)
            .map_err(|e| failed("cannot make a region", &e))?;
        let pool = Arc::new(pool);
        if let Some(data) = crate::startup::data(key) {
            let first = ToSupervisor::Startup { pool: key.clone(), data };
            seqpacket::send(&*connection, &first, &[], false)
                .map_err(|e| failed("cannot reach the supervisor", &e))?;
        }
        let message = ToSupervisor::Attach { pool: key.clone(), region: id };
        let fds = [region_fd.as_fd(), descriptor_end.as_fd()];
        inner.regions.insert(id, Arc::clone(&pool));
        if let Err(e) = seqpacket::send(&*connection, &message, &fds, false) {
            inner.regions.remove(&id);
            return Err(failed("cannot reach the supervisor", &e));
        }
        Ok(pool)
    }

    /// Connects and shakes hands. The lock is held: who needs a pool needs the connection.
    fn connect(&'static self, inner: &mut Inner) -> Result<Arc<OwnedFd>, NoPool> {
        let no = |reason: String| NoPool {
            reason: format!("{}: cannot reach the supervisor: {reason}", codes::SOCKET),
            retry_after: 1,
        };
        let (socket, instance, generation) = crate::daemon::connect(ANSWER_LIMIT).map_err(no)?;
        let hello = ToSupervisor::Hello { version: PROTOCOL_VERSION, instance, generation };
        seqpacket::send(&socket, &hello, &[], false).map_err(|e| no(e.to_string()))?;
        if !readable_within(&socket, ANSWER_LIMIT) {
            return Err(no("it does not answer".into()));
        }
        match seqpacket::recv::<ToChild>(&socket, true) {
            Ok((ToChild::Welcome { version }, _)) if version == PROTOCOL_VERSION => {}
            Ok((ToChild::Welcome { version }, _)) => {
                return Err(version_mismatch(version, "its welcome names another version"));
            }
            Ok((ToChild::Refuse { version, reason }, _)) => {
                if version == PROTOCOL_VERSION {
                    return Err(no(format!("it refused us: {reason}")));
                }
                return Err(version_mismatch(version, &reason));
            }
            Ok(_) => return Err(no("its first message is no welcome".into())),
            Err(e) => return Err(no(e.to_string())),
        }
        let socket = Arc::new(socket);
        inner.connection = Some(Arc::clone(&socket));
        if inner.has_thread {
            let _ = rustix::io::write(&self.poke, &1_u64.to_ne_bytes());
        } else {
            if let Err(e) = ending::spawn("vivarium-control", move || control::run(self)) {
                inner.connection = None;
                return Err(no(format!("cannot start the control thread: {e}")));
            }
            inner.has_thread = true;
        }
        Ok(socket)
    }

    /// The connection is gone: pools are retired, so that unclaimed requests go to a new one.
    fn disconnected(&self) {
        let (gone, regions) = {
            let mut inner = lock(&self.inner);
            (inner.connection.take(), std::mem::take(&mut inner.regions))
        };
        self.pools.write().unwrap_or_else(PoisonError::into_inner).clear();
        for pool in regions.values() {
            pool.retire();
        }
        if gone.is_some() && !regions.is_empty() {
            log::server(
                None,
                Level::Info,
                &format!("{}: the supervisor has closed the connection", codes::SOCKET),
            );
        }
    }
}

/// Waits until there is something to read, at most `limit`. A signal does not end the wait: under prefork it is the main
/// thread that waits here, and httpd's own signals (a graceful restart, say) go to it.
fn readable_within(socket: &OwnedFd, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn version_mismatch(theirs: u32, reason: &str) -> NoPool {
    NoPool {
        reason: format!(
            "{}: httpd's module speaks protocol {PROTOCOL_VERSION}, the supervisor {theirs} ({reason}): \
             install both from one version, then restart httpd and vivariumd",
            codes::VERSION_MISMATCH
        ),
        retry_after: 10,
    }
}
