//! Messages on the supervisor's sockets: one `SOCK_SEQPACKET` packet each, through [`crate::codec`], descriptors beside.
//!
//! | socket | who | first packet |
//! |---|---|---|
//! | control | httpd child → supervisor, by connecting to its listening socket | [`ToSupervisor::Hello`], answered by [`ToChild::Welcome`] or [`ToChild::Refuse`] |
//! | worker | the socket pair that a worker is born with | [`FromWorker::Ready`] or [`FromWorker::Failed`] |
//! | channel | the socket pair that a managed supervisor is born with | [`FromParent::Config`] |
//!
//! A packet that cannot be decoded, or that is not expected in the connection's state, ends that connection and is
//! logged; nothing else suffers.

use serde::{Deserialize, Serialize};

use crate::policy::TenantPolicy;

/// The largest packet, in bytes.
pub const MAX_PACKET: usize = 64 << 10;
/// The most descriptors beside one packet.
pub const MAX_FDS: usize = 4;

/// Names a pool within one httpd generation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolKey {
    /// The tenant: `default` or nothing is the built-in one. Names: [`crate::policy::is_valid_name`].
    pub tenant: String,
    /// The interpreter's name: at most 4096 bytes, no NUL.
    pub interpreter: String,
}

/// httpd child → supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// First packet.
    Hello {
        /// [`crate::PROTOCOL_VERSION`].
        version: u32,
        /// Which httpd: chosen at random by its parent at its start.
        instance: u64,
        /// Its configuration generation: 1, 2, ... with every graceful restart.
        generation: u32,
    },
    /// What the workers of a pool need at their start ([`crate::message::Startup`], encoded); kept for the `Attach` that
    /// follows, and of effect if that makes the pool.
    Startup {
        /// Which pool.
        pool: PoolKey,
        /// At most [`MAX_STARTUP`] bytes.
        #[serde(with = "crate::codec::bytes")]
        data: Vec<u8>,
    },
    /// Use a pool. Descriptors: the region, the workers' end of the descriptor socket.
    Attach {
        /// Which pool.
        pool: PoolKey,
        /// The child's number for this region, unique among its connections' regions.
        region: u32,
    },
    /// The region is no longer used by the child.
    Detach {
        /// Which.
        region: u32,
    },
    /// A worker broke the protocol: kill it.
    Misbehaved {
        /// The region on which it did.
        region: u32,
        /// The worker's slot.
        slot: u8,
        /// The slot's epoch.
        epoch: u16,
        /// What it did, for the log.
        reason: String,
    },
    /// A lane has been on offer for a while and nobody takes it: the pool may need another worker. Said now and then
    /// while that lasts.
    Wanted {
        /// The region that the lane is in.
        region: u32,
    },
}

/// Supervisor → httpd child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// The hello was understood.
    Welcome {
        /// The supervisor's [`crate::PROTOCOL_VERSION`].
        version: u32,
    },
    /// It was not; the connection is closed.
    Refuse {
        /// The supervisor's [`crate::PROTOCOL_VERSION`].
        version: u32,
        /// Why.
        reason: String,
    },
    /// The region is with the pool's workers, or will be as soon as they are up. Descriptor: the pool page.
    Attached {
        /// Which region.
        region: u32,
    },
    /// The pool cannot be used: unclaimed requests get 503. Sent as the answer to `Attach`, or later when a pool's
    /// workers cannot be started. The region stays attached; a later `WorkerUp` makes the pool usable again.
    PoolDown {
        /// Which region.
        region: u32,
        /// The log code under which the supervisor logged the cause, `VIV....`.
        code: String,
        /// One line for the log.
        reason: String,
        /// When it will be tried again, in milliseconds from now.
        retry_ms: u32,
    },
    /// A worker of the pool is up. Descriptor: its pidfd.
    WorkerUp {
        /// Which region.
        region: u32,
        /// The worker's slot.
        slot: u8,
        /// The slot's epoch.
        epoch: u16,
        /// The process, as the supervisor sees it.
        pid: i32,
    },
    /// A worker of the pool is gone (its pidfd says the same).
    WorkerDown {
        /// Which region.
        region: u32,
        /// The worker's slot.
        slot: u8,
        /// The slot's epoch.
        epoch: u16,
        /// How it ended: `killed by SIGKILL`, `exit status 1`.
        how: String,
    },
    /// What the region's tenant may do. Sent before `Attached` (also before a `PoolDown` that answers `Attach`), and
    /// again when a reload has changed it: from then on the new one holds, also for requests that run.
    Policy {
        /// Which region.
        region: u32,
        /// The tenant's policy.
        policy: TenantPolicy,
    },
    /// The pool had nothing to do and is gone, its workers with it. The child forgets the region and says `Detach`; what
    /// it has offered there meanwhile, nobody has taken: it goes to a new pool by a new `Attach`.
    Asleep {
        /// Which region.
        region: u32,
    },
}

/// Supervisor → worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first packet, if [`ENV_STARTUP`] is set: do this before `Ready`.
    Startup {
        /// An encoded [`crate::message::Startup`].
        #[serde(with = "crate::codec::bytes")]
        data: Vec<u8>,
    },
    /// Serve this region too. Descriptors: the region, the descriptor socket.
    Region {
        /// The supervisor's number for it, never used again.
        region: u64,
    },
    /// Its httpd child is gone: end what runs on it, unmap it.
    RegionGone {
        /// Which.
        region: u64,
    },
    /// Finish what runs, run clean-ups, exit. The supervisor kills when the time is over.
    Stop {
        /// Milliseconds.
        grace_ms: u32,
    },
    /// Take nothing new; finish what runs; go on with the requests of which objects are kept here, until there are none;
    /// then as with `Stop`.
    Drain {
        /// Milliseconds until it becomes a `Stop` whatever runs; none: as long as it takes.
        grace_ms: Option<u32>,
    },
}

/// Worker → supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Python is up and threads are about to look for work.
    Ready {
        /// [`crate::PROTOCOL_VERSION`].
        version: u32,
        /// `sys.version`'s first word, for the log.
        python: String,
    },
    /// It cannot come up; it exits after this.
    Failed {
        /// One line for the log.
        reason: String,
    },
}

/// httpd parent → managed supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromParent {
    /// The configuration of a new generation, whole. Descriptor: where to log (httpd's error log) from now on.
    Config(Config),
}

/// What a supervisor has to know of httpd's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u32,
    /// Which httpd.
    pub instance: u64,
    /// Its generation; children of older ones may still be running.
    pub generation: u32,
    /// The uid that httpd's children run as: who may connect, beside our own uid.
    pub child_uid: u32,
    /// Their gid.
    pub child_gid: u32,
    /// Where the Python packages `mod_python` and `vivarium` are.
    pub package_dir: String,
    /// The worker extension's file.
    pub extension: String,
    /// `PythonOptimize On`: workers are started with `-OO`.
    pub optimize: bool,
    /// `ServerRoot`, for log lines.
    pub server_root: String,
    /// `VivariumTenantDir`: where the tenants' files are; empty: as vivariumd's own configuration says.
    pub tenants_dir: String,
}

/// Environment variable with the worker's slot, decimal.
pub const ENV_SLOT: &str = "VIVARIUM_SLOT";
/// Environment variable with the slot's epoch, decimal.
pub const ENV_EPOCH: &str = "VIVARIUM_EPOCH";
/// Environment variable with the path of the worker extension.
pub const ENV_EXTENSION: &str = "VIVARIUM_EXTENSION";
/// Environment variable with the interpreter's name.
pub const ENV_INTERPRETER: &str = "VIVARIUM_INTERPRETER";
/// Environment variable with the tenant's name.
pub const ENV_TENANT: &str = "VIVARIUM_TENANT";
/// Environment variable with the number of request threads, decimal.
pub const ENV_THREADS: &str = "VIVARIUM_THREADS";
/// Environment variable that says that a [`ToWorker::Startup`] comes first.
pub const ENV_STARTUP: &str = "VIVARIUM_STARTUP";
/// The most bytes of a pool's start-up data.
pub const MAX_STARTUP: usize = 48 << 10;
/// The descriptor number of a worker's control socket.
pub const WORKER_CONTROL_FD: i32 = 3;
/// The descriptor number of a worker's pool page.
pub const WORKER_PAGE_FD: i32 = 4;
/// The descriptor number of a managed supervisor's channel to httpd's parent.
pub const SUPERVISOR_CHANNEL_FD: i32 = 4;
/// The descriptor number of a supervisor's listening socket (systemd's `SD_LISTEN_FDS_START`).
pub const SUPERVISOR_LISTEN_FD: i32 = 3;
