//! What is left to do when a request tree is over: clean-ups that Python registered, and telling the worker to forget.
//!
//! Nothing of this delays the answer or the connection's next request: a thread of its own does it. When that thread
//! has too much to do, the request's thread does it itself.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use vivarium_protocol::message::{Phase, write_enter_head};
use vivarium_protocol::region::Owner;
use vivarium_protocol::wire::Writer;

use super::Fault;
use super::exchange::{Conversation, Level};
use crate::apache::edge::guarded;
use crate::apache::log;
use crate::apache::server;
use crate::link::pool::Pool;
use crate::process;

/// How many ended trees may wait.
const QUEUE: usize = 4096;

/// One tree in one pool.
pub(crate) struct Job {
    pub(crate) pool: Arc<Pool>,
    pub(crate) owner: Owner,
    pub(crate) tree: u64,
    pub(crate) phase: Phase,
    pub(crate) client: Vec<u8>,
    pub(crate) server: u32,
}

static SENDER: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();

/// Does a job soon.
pub(crate) fn queue(job: Job) {
    if job.pool.is_alive(job.owner) == Some(false) {
        return;
    }
    let sender = SENDER.get_or_init(|| {
        let (sender, receiver) = sync_channel(QUEUE);
        let started = process::without_signals(|| {
            std::thread::Builder::new()
                .name("vivarium-after".into())
                .stack_size(256 << 10)
                .spawn(move || run(&receiver))
        });
        started.is_ok().then_some(sender)
    });
    let left = match sender {
        Some(sender) => match sender.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job),
        },
        None => Some(job),
    };
    if let Some(job) = left {
        carry_out(&job);
    }
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        guarded("a request's clean-up", (), || carry_out(&job));
    }
}

fn carry_out(job: &Job) {
    let mut payload = Vec::with_capacity(32);
    let mut w = Writer::new(&mut payload);
    write_enter_head(&mut w, job.phase, 0, job.tree, &[], None, None);
    w.bytes(&[]);
    w.bytes(&[]);
    let level = Level { entry: None, filter: None };
    let done = Conversation::begin(Arc::clone(&job.pool), Some(job.owner))
        .and_then(|c| c.enter(None, &level, &payload));
    // A worker that is gone has forgotten everything anyway.
    if let (Err(Fault::Broken(reason)), true) = (done, job.phase == Phase::Cleanup) {
        let s = server::main().and_then(|m| m.chain().find(|s| s.number() == job.server));
        let client = String::from_utf8_lossy(&job.client).into_owned();
        let code = vivarium_protocol::codes::BAD_FRAME;
        log::server(s, log::Level::Err, &format!("{code}: [client {client}] clean-ups: {reason}"));
    }
}
