//! The worker's process: what it was born with, its control socket, and its end.
//!
//! A native thread serves the control socket: it never touches Python, so regions come and go, and the deadline after
//! a stop holds, whatever Python code does. The main thread waits for what needs Python: clean-ups of trees whose
//! httpd has died, and the end.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::Python;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vivarium_protocol::codec;
use vivarium_protocol::control::{FromWorker, ToWorker, WORKER_CONTROL_FD, WORKER_PAGE_FD};
use vivarium_protocol::message::Startup;
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::region::{MAX_WORKERS, Owner, Region};
use vivarium_protocol::seqpacket::{self, PacketError};
use vivarium_protocol::{PROTOCOL_VERSION, codes};

use super::drain::{self, Drain};
use super::lock;
use super::regions::{Entry, Regions};
use super::tree::Tree;
use crate::ffi;

/// How long running requests have when the supervisor is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// What the worker's threads share.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Slot and epoch.
    pub(crate) me: Owner,
    /// The pool's page.
    pub(crate) page: PoolPage,
    /// The regions.
    pub(crate) regions: Regions,
    /// The interpreter's name.
    pub(crate) interpreter: String,
    control: OwnedFd,
    stopping: AtomicBool,
    /// What it was told: see [`super::drain`].
    pub(crate) drain: Drain,
    /// The supervisor is gone.
    orphaned: AtomicBool,
    news: Mutex<News>,
    bell: Condvar,
}

/// What the main thread waits for.
#[derive(Debug, Default)]
struct News {
    orphans: Vec<Arc<Tree>>,
    deadline: Option<Instant>,
}

static WORKER: OnceLock<Worker> = OnceLock::new();
static FORKED: AtomicBool = AtomicBool::new(false);

/// Notes that this process is a child that Python code has forked: lanes belong to the parent.
pub(crate) fn set_forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Whether this process is such a child.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Why the worker cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Started by hand.
    #[error(
        "descriptor {0} is not there ({1}): vivarium.worker is started by vivariumd, not by hand"
    )]
    Descriptor(i32, rustix::io::Errno),
    /// The environment is not as it should be.
    #[error("environment variable {0} has no valid value")]
    Environment(&'static str),
    /// The page cannot be mapped.
    #[error("the pool page cannot be used: {0}")]
    Page(#[from] vivarium_protocol::region::RegionError),
    /// The process cannot be closed to others.
    #[error("the process cannot be made undumpable: {0}")]
    Dumpable(rustix::io::Errno),
    /// Twice in one process.
    #[error("the worker was set up before")]
    Twice,
    /// The control socket does not work.
    #[error("control socket: {0}")]
    Socket(#[from] PacketError),
    /// The start-up data did not come first.
    #[error("the supervisor's first packet is not the start-up data that it announced")]
    Order,
    /// No thread.
    #[error("cannot start the control thread: {0}")]
    Thread(std::io::Error),
}

/// The worker, after [`set_up`]. Before that (when the types are used without a supervisor) one that has no regions
/// cannot be made, so callers on that path check [`is_set_up`].
///
/// # Panics
/// Before [`set_up`]: conversations exist only after it.
pub(crate) fn worker() -> &'static Worker {
    WORKER.get().unwrap_or_else(|| unreachable!("a conversation without a worker"))
}

/// Takes over what the process was born with.
pub(crate) fn set_up(slot: &str, epoch: &str, interpreter: &str) -> Result<(), StartError> {
    use vivarium_protocol::control::{ENV_EPOCH, ENV_SLOT, ENV_TENANT};
    let slot = slot.parse::<u8>().ok().filter(|s| u32::from(*s) < MAX_WORKERS);
    let slot = slot.ok_or(StartError::Environment(ENV_SLOT))?;
    let epoch = epoch.parse::<u16>().map_err(|_| StartError::Environment(ENV_EPOCH))?;
    if WORKER.get().is_some() {
        return Err(StartError::Twice);
    }
    if std::env::var(ENV_TENANT).is_ok_and(|tenant| !vivarium_protocol::policy::is_default(&tenant))
    {
        // What else the tenant runs as the same user must not look into this process, nor at its core. `exec` has
        // undone what the sandbox set; see prctl(2), PR_SET_DUMPABLE.
        let behaviour = rustix::process::DumpableBehavior::NotDumpable;
        rustix::process::set_dumpable_behavior(behaviour).map_err(StartError::Dumpable)?;
    }
    let inherited = |n| ffi::inherited_fd(n).map_err(|errno| StartError::Descriptor(n, errno));
    let control = inherited(WORKER_CONTROL_FD)?;
    let page = inherited(WORKER_PAGE_FD)?;
    let page = PoolPage::open(page.as_fd())?;
    let worker = Worker {
        me: Owner { slot, epoch },
        page,
        regions: Regions::default(),
        interpreter: interpreter.to_owned(),
        control,
        stopping: AtomicBool::new(false),
        drain: Drain::default(),
        orphaned: AtomicBool::new(false),
        news: Mutex::default(),
        bell: Condvar::new(),
    };
    WORKER.set(worker).map_err(|_| StartError::Twice)
}

/// Waits for what the supervisor says first: what to do before the worker is ready.
pub(crate) fn startup() -> Result<Startup, StartError> {
    match seqpacket::recv::<ToWorker>(&worker().control, false)? {
        (ToWorker::Startup { data }, _) => Ok(codec::decode(&data).map_err(PacketError::from)?),
        _ => Err(StartError::Order),
    }
}

/// Ends what handlers have left running, and this process with it, if the supervisor is gone and cannot do it: a worker
/// leads a process group of its own.
pub(crate) fn end_orphaned_group() {
    use rustix::process::{Signal, getpgrp, getpid, kill_process_group};
    let orphaned = WORKER.get().is_some_and(|w| w.orphaned.load(Ordering::Acquire));
    if orphaned && !is_forked() && getpgrp() == getpid() {
        // It cannot fail: we are a member ourselves.
        let _ = kill_process_group(getpid(), Signal::KILL);
    }
}

/// Tells the supervisor that the worker is up, and starts serving the control socket.
pub(crate) fn ready(python: String) -> Result<(), StartError> {
    let ready = FromWorker::Ready { version: PROTOCOL_VERSION, python };
    seqpacket::send(&worker().control, &ready, &[], false)?;
    std::thread::Builder::new()
        .name("vivarium-control".into())
        .spawn(|| worker().serve_control())
        .map_err(StartError::Thread)?;
    Ok(())
}

/// Tells the supervisor that the worker cannot come up.
pub(crate) fn failed(reason: &str) -> Result<(), StartError> {
    let reason = reason.lines().next().unwrap_or_default().chars().take(2000).collect();
    if let Some(worker) = WORKER.get() {
        return Ok(seqpacket::send(&worker.control, &FromWorker::Failed { reason }, &[], false)?);
    }
    let control = ffi::inherited_fd(WORKER_CONTROL_FD)
        .map_err(|errno| StartError::Descriptor(WORKER_CONTROL_FD, errno))?;
    Ok(seqpacket::send(&control, &FromWorker::Failed { reason }, &[], false)?)
}

/// Writes a line to standard error, where the supervisor reads it.
pub(crate) fn complain(line: &str) {
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.trim_end_matches('\n').as_bytes());
    bytes.push(b'\n');
    // Nobody is left to be told if this fails.
    let _ = std::io::stderr().write_all(&bytes);
}

/// [`complain`] of a thread that runs Python: the others go on while the pipe is full.
pub(crate) fn say(py: Python<'_>, line: &str) {
    py.detach(|| complain(line));
}

impl Worker {
    /// Whether the worker is to end: no new lanes are claimed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self, grace: Duration) {
        {
            let mut news = lock(&self.news);
            let deadline = Instant::now() + grace;
            news.deadline = Some(news.deadline.map_or(deadline, |d| d.min(deadline)));
        }
        self.stopping.store(true, Ordering::Release);
        self.page.ring_all();
        self.bell.notify_all();
    }

    /// Main thread, detached: waits until there is something to do for Python: trees to abandon, or `None` for the end.
    pub(crate) fn wait_for_news(&self) -> Option<Vec<Arc<Tree>>> {
        let mut news = lock(&self.news);
        loop {
            if !news.orphans.is_empty() {
                return Some(std::mem::take(&mut news.orphans));
            }
            if news.deadline.is_some() {
                return None;
            }
            news = self.bell.wait(news).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How long the worker has left after a stop.
    pub(crate) fn time_left(&self) -> Duration {
        let deadline = lock(&self.news).deadline;
        deadline.map_or(ORPHAN_GRACE, |d| d.saturating_duration_since(Instant::now()))
    }

    fn serve_control(&self) {
        let mut listening = true;
        loop {
            if self.drain.is_on() {
                self.drain_on();
            }
            let deadline = lock(&self.news).deadline;
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|l| l.is_zero()) {
                complain("the worker did not finish its requests in time and ends without them");
                end_orphaned_group();
                ffi::exit_now(1);
            }
            if !listening {
                std::thread::sleep(left.unwrap_or(ORPHAN_GRACE));
                continue;
            }
            let left = if self.drain.is_on() && !self.is_stopping() {
                Some(left.map_or(drain::LOOK, |l| l.min(drain::LOOK)))
            } else {
                left
            };
            let timeout = left.map(|l| Timespec {
                tv_sec: i64::try_from(l.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(l.subsec_nanos()),
            });
            let mut polled = [PollFd::new(&self.control, PollFlags::IN)];
            match poll(&mut polled, timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => complain(&format!("poll: {errno}")),
            }
            match seqpacket::recv::<ToWorker>(&self.control, true) {
                Ok((message, fds)) => self.handle(message, fds),
                Err(error) if error.would_block() => {}
                Err(PacketError::Codec(error)) => {
                    complain(&format!("{}: from the supervisor: {error}", codes::BAD_PACKET));
                }
                // The supervisor is gone. httpd's children find another one; what runs here may finish.
                Err(_) => {
                    listening = false;
                    self.orphaned.store(true, Ordering::Release);
                    self.stop(ORPHAN_GRACE);
                }
            }
        }
    }

    fn handle(&self, message: ToWorker, fds: Vec<OwnedFd>) {
        match message {
            // It comes first or not at all: see `startup`.
            ToWorker::Startup { .. } => {
                complain(&format!("{}: start-up data out of its turn", codes::BAD_PACKET));
            }
            ToWorker::Region { region: number } => {
                let mut fds = fds.into_iter();
                let Some(memory) = fds.next() else {
                    complain(&format!("{}: a region without its memory", codes::BAD_PACKET));
                    return;
                };
                match Region::open(memory.as_fd()) {
                    Ok(region) => {
                        self.regions.add(Arc::new(Entry::new(number, region, fds.next())));
                        self.page.ring_all();
                    }
                    Err(error) => complain(&format!(
                        "{}: a region cannot be used: {error}",
                        codes::BAD_PACKET
                    )),
                }
            }
            ToWorker::RegionGone { region: number } => {
                if let Some(entry) = self.regions.remove(number) {
                    self.end_region(&entry);
                }
            }
            ToWorker::Drain { grace_ms } => {
                self.drain.begin(grace_ms.map(|ms| Duration::from_millis(ms.into())));
                self.page.ring_all();
            }
            ToWorker::Stop { grace_ms } => self.stop(Duration::from_millis(grace_ms.into())),
        }
    }

    /// The last request may be over, or the time.
    fn drain_on(&self) {
        if self.is_stopping() {
            return;
        }
        if let Some(grace) = self.drain.over(|| self.regions.keeps_any()) {
            self.stop(grace);
        }
    }

    fn end_region(&self, entry: &Entry) {
        // A tree with a conversation under way is ended by the thread that runs it.
        let orphans: Vec<_> = entry.end().into_iter().filter(|t| t.is_over()).collect();
        if !orphans.is_empty() {
            lock(&self.news).orphans.extend(orphans);
            self.bell.notify_all();
        }
    }
}
