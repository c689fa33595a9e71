//! What is left to do when a request tree is over: log handlers, clean-ups, and telling the workers to forget.
//!
//! Nothing of this delays the answer or the connection's next request: threads of its own do it, in order for each
//! tree. When they have too much to do, the request's thread does it itself.
//!
//! By then the request is gone from httpd. What a log handler may look at is taken down before ([`take_down`]).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use vivarium_protocol::control::PoolKey;
use vivarium_protocol::fields::{FIELDS, When};
use vivarium_protocol::frame::{Header, NO_RID};
use vivarium_protocol::message::{
    Call, ErrorKind, HandlerRef, LogScope, Op, Phase, Reply, SNAPSHOT_TABLES, Snapshot,
    write_enter_head,
};
use vivarium_protocol::region::Owner;
use vivarium_protocol::wire::Writer;

use super::exchange::{Conversation, Level};
use super::run::{self, What};
use super::tree::{Entry, Tree};
use super::{Fault, calls, snapshot};
use crate::apache::edge::guarded;
use crate::apache::request::Request;
use crate::apache::{log, server};
use crate::config::dir::{Handler, HandlerList, for_file};
use crate::link::pool::Pool;
use crate::process;

/// How many ended trees may wait for each thread.
const QUEUE: usize = 1024;
/// How many threads; a tree's parts are always done by one of them.
const THREADS: usize = 4;

/// A tree that is over.
pub(crate) struct Job {
    pub(crate) tree: u64,
    /// Where its objects are: pool, worker, whether clean-ups are registered.
    pub(crate) homes: Vec<(Arc<Pool>, Owner, bool)>,
    pub(crate) log: Option<LogPart>,
    pub(crate) cleanup: Option<(PoolKey, Arc<Vec<Handler>>)>,
    pub(crate) client: Vec<u8>,
    pub(crate) server: u32,
}

/// A log phase that is to be run, with all that it may look at.
pub(crate) struct LogPart {
    key: PoolKey,
    rid: u32,
    payload: Vec<u8>,
    frozen: Frozen,
}

/// A request's values when it ended.
#[derive(Default)]
struct Frozen {
    /// Encoded snapshots by request number.
    snapshots: HashMap<u32, Vec<u8>>,
    /// Encoded values of fields that are not in snapshots, by request and field number.
    asked: HashMap<(u32, u8), Vec<u8>>,
}

/// Takes down what the log handlers of a request will see.
pub(crate) fn take_down(
    tree: &Rc<Tree>,
    entry: &Entry,
    r: Request<'_>,
    list: Option<&HandlerList>,
) {
    let definitions = for_file(list.map_or(&[][..], |l| &l.handlers), r.filename());
    let handlers: Vec<HandlerRef<'_>> = definitions.iter().map(|h| h.to_ref()).collect();
    let extension = list.and_then(|l| l.extension.as_deref());
    let key = run::pool_key(r, &definitions);
    let what = What { phase: Phase::Log, handlers: &handlers, filter: None, extension };
    let mut payload = Vec::with_capacity(1536);
    let alone = tree.home(&key).is_none();
    let last = !r.dir_conf().is_some_and(|c| c.has_phase(Phase::Cleanup));
    run::encode(&mut payload, r, tree, &what, alone, last);
    let mut frozen = Frozen::default();
    let mut next = Some(r);
    while let Some(r) = next {
        if let Some(rid) = tree.number(Some(r)) {
            let mut bytes = Vec::with_capacity(1024);
            snapshot::write(&mut Writer::new(&mut bytes), tree, r);
            frozen.snapshots.insert(rid, bytes);
            for row in FIELDS.iter().filter(|row| row.when == When::Asked) {
                let mut bytes = Vec::new();
                r.field(row.field).write(&mut Writer::new(&mut bytes));
                frozen.asked.insert((rid, row.field as u8), bytes);
            }
        }
        next = r.next();
    }
    tree.set_log(LogPart { key, rid: entry.rid, payload, frozen });
}

static SENDERS: [OnceLock<Option<SyncSender<Job>>>; THREADS] = [const { OnceLock::new() }; THREADS];

/// Does a job soon.
pub(crate) fn queue(job: Job) {
    let sender = SENDERS[job.tree as usize % THREADS].get_or_init(|| {
        let (sender, receiver) = sync_channel(QUEUE);
        let started = process::without_signals(|| {
            std::thread::Builder::new()
                .name("vivarium-after".into())
                .stack_size(256 << 10)
                .spawn(move || run_jobs(&receiver))
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
        carry_out(job);
    }
}

fn run_jobs(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        guarded("the end of a request", (), || carry_out(job));
    }
}

/// What serves a conversation after the end of its request.
pub(crate) struct Afterwards<'j> {
    frozen: Option<&'j Frozen>,
    client: &'j [u8],
    server: u32,
}

fn carry_out(mut job: Job) {
    if let Some(part) = job.log.take()
        && let Err(fault) = log_phase(&mut job, &part)
    {
        complain(&job, Phase::Log, &fault);
    }
    for (pool, owner, cleanups) in &job.homes {
        if pool.is_alive(*owner) == Some(false) {
            // It has forgotten everything by itself.
            continue;
        }
        let handlers = match &job.cleanup {
            Some((key, handlers)) if key == pool.key() => Some(handlers),
            _ => None,
        };
        let phase = if *cleanups || handlers.is_some() { Phase::Cleanup } else { Phase::Forget };
        let handlers: Vec<HandlerRef<'_>> =
            handlers.iter().flat_map(|l| l.iter()).map(Handler::to_ref).collect();
        let mut payload = Vec::with_capacity(64);
        let mut w = Writer::new(&mut payload);
        write_enter_head(&mut w, phase, 0, job.tree, &handlers, None, None);
        w.bytes(&[]);
        w.bytes(&[]);
        let rid = if phase == Phase::Cleanup { 0 } else { NO_RID };
        let level = Level::afterwards(rid);
        let after = Afterwards { frozen: None, client: &job.client, server: job.server };
        let done = Conversation::begin(Arc::clone(pool), Some(*owner))
            .and_then(|c| c.enter_afterwards(&after, &level, &payload));
        if let (Err(fault), Phase::Cleanup) = (done, phase) {
            complain(&job, phase, &fault);
        }
    }
}

fn log_phase(job: &mut Job, part: &LogPart) -> Result<(), Fault> {
    let home = job.homes.iter().find(|(p, ..)| *p.key() == part.key);
    let (pool, to) = match home {
        Some((pool, owner, _)) => (Arc::clone(pool), Some(*owner)),
        None => (run::find_pool(&part.key)?, None),
    };
    let level = Level::afterwards(part.rid);
    let after = Afterwards { frozen: Some(&part.frozen), client: &job.client, server: job.server };
    let conversation = Conversation::begin(Arc::clone(&pool), to)?;
    let leave = conversation.enter_afterwards(&after, &level, &part.payload)?;
    if let (false, Some(owner)) = (leave.keep, to) {
        // It has forgotten the tree already.
        job.homes.retain(|(p, o, _)| !(Arc::ptr_eq(p, &pool) && *o == owner));
    }
    if let (true, Some(owner)) = (leave.keep, conversation.owner()) {
        match job.homes.iter_mut().find(|(p, o, _)| Arc::ptr_eq(p, &pool) && *o == owner) {
            Some((_, _, cleanups)) => *cleanups |= leave.cleanups,
            None => job.homes.push((pool, owner, leave.cleanups)),
        }
    }
    Ok(())
}

fn complain(job: &Job, phase: Phase, fault: &Fault) {
    let (code, reason) = fault.code_and_reason();
    let text = format!("{code}: {}: {reason}", phase.directive());
    Afterwards { frozen: None, client: &job.client, server: job.server }.log(3, text.as_bytes());
}

impl Afterwards<'_> {
    /// A log line with the client that the request came from.
    fn log(&self, level: i32, text: &[u8]) {
        let s = server::main().and_then(|m| m.chain().find(|s| s.number() == self.server));
        for line in text.split(|b| *b == b'\n') {
            let mut whole = Vec::with_capacity(line.len() + 40);
            whole.extend_from_slice(b"[client ");
            whole.extend_from_slice(self.client);
            whole.extend_from_slice(b"] ");
            whole.extend_from_slice(line);
            log::server_bytes(s, level, &whole);
        }
    }

    /// Answers a call from what was taken down.
    pub(crate) fn answer(
        &self,
        c: &Conversation,
        header: Header,
        call: &Call<'_>,
    ) -> Result<(), Fault> {
        let gone = Reply::Error { kind: ErrorKind::State, text: b"the request is over" };
        let snapshot = self.frozen.and_then(|f| f.snapshots.get(&header.rid));
        let reply = match call {
            Call::Log { scope: LogScope::Server(number), level, text } => {
                let s = server::main().and_then(|m| m.chain().find(|s| s.number() == *number));
                log::server_bytes(s, i32::from((*level).min(7)), text);
                Reply::Ok
            }
            Call::Log { level, text, .. } => {
                self.log(i32::from((*level).min(7)), text);
                Reply::Ok
            }
            Call::Server(_)
            | Call::Op {
                op: Op::ServerRoot | Op::MpmQuery | Op::ExistsConfigDefine | Op::ConfigTree,
                ..
            } => {
                return calls::answer_global(c, header, call);
            }
            Call::Snapshot => snapshot.map_or(gone, |s| Reply::Bytes(s)),
            Call::Field(n) => {
                let asked = self.frozen.and_then(|f| f.asked.get(&(header.rid, *n)));
                let mut bytes = Vec::new();
                match (asked, snapshot.and_then(|s| Snapshot::read(s).ok())) {
                    (Some(value), _) => return c.reply(header, &Reply::Value(value)),
                    (None, Some(s)) => match s.fields.get(*n as usize) {
                        Some(value) => value.write(&mut Writer::new(&mut bytes)),
                        None => return c.reply(header, &gone),
                    },
                    (None, None) => return c.reply(header, &gone),
                }
                return c.reply(header, &Reply::Value(&bytes));
            }
            Call::Table(id) => {
                let table = snapshot.and_then(|s| Snapshot::read(s).ok()).and_then(|s| {
                    let at = SNAPSHOT_TABLES.iter().position(|t| t == id)?;
                    Some(s.tables[at])
                });
                table.map_or(gone, Reply::Bytes)
            }
            _ => gone,
        };
        c.reply(header, &reply)
    }
}
