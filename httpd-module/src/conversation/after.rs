//! What is left to do when a request tree is over: log handlers, clean-ups, and telling the workers to forget.
//!
//! Nothing of this delays the answer or the connection's next request: threads of its own do it, in order for each
//! tree. When they have too much to do, the request's thread does it itself.
//!
//! By then the request is gone from httpd. What a log handler may look at is taken down before ([`take_down`]).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use vivarium_protocol::control::PoolKey;
use vivarium_protocol::fields::{FIELDS, When};
use vivarium_protocol::frame::{Header, NO_RID};
use vivarium_protocol::message::{
    Call, ENTER_MORE, ErrorKind, HandlerRef, Leave, LogScope, Op, Phase, Reply, SNAPSHOT_TABLES,
    Snapshot, write_enter_head,
};
use vivarium_protocol::region::Owner;
use vivarium_protocol::wire::Writer;

use super::exchange::{Conversation, Level};
use super::run::{self, What};
use super::tree::{Entry, Tree};
use super::{Fault, calls, snapshot};
use crate::apache::request::Request;
use crate::apache::{ending, log, server};
use crate::config::dir::{Handler, HandlerList, for_file};
use crate::grants;
use crate::grants::view::View;
use crate::link::pool::Pool;
use crate::tenants;

/// The number of a tree's root.
const ROOT: u32 = 0;

/// A tree that is over.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) tree: u64,
    /// Whose it is, once it has been divided.
    pub(crate) tenant: Box<str>,
    /// Where its objects are: pool, worker, whether clean-ups are registered.
    pub(crate) homes: Vec<(Arc<Pool>, Owner, bool)>,
    pub(crate) log: Option<LogPart>,
    pub(crate) cleanup: Vec<CleanupPart>,
    pub(crate) client: Vec<u8>,
    pub(crate) server: u32,
}

impl Job {
    /// Its parts, one for each tenant.
    pub(super) fn by_tenant(self) -> Vec<Self> {
        let Self { tree, homes, log, cleanup, client, server, .. } = self;
        let mut parts: Vec<Self> = Vec::with_capacity(1);
        let at = |tenant: &str, parts: &mut Vec<Self>| {
            parts.iter().position(|p| *p.tenant == *tenant).unwrap_or_else(|| {
                parts.push(Self {
                    tree,
                    tenant: tenant.into(),
                    homes: Vec::new(),
                    log: None,
                    cleanup: Vec::new(),
                    client: client.clone(),
                    server,
                });
                parts.len() - 1
            })
        };
        if let Some(log) = log {
            let i = at(&log.key.tenant, &mut parts);
            parts[i].log = Some(log);
        }
        for home in homes {
            let i = at(home.0.tenant().name(), &mut parts);
            parts[i].homes.push(home);
        }
        for part in cleanup {
            let i = at(&part.key.tenant, &mut parts);
            parts[i].cleanup.push(part);
        }
        parts
    }
}

/// Clean-up handlers of a request, and the pool that they run in.
#[derive(Debug)]
pub(crate) struct CleanupPart {
    pub(crate) rid: u32,
    pub(crate) key: PoolKey,
    pub(crate) handlers: Arc<Vec<Handler>>,
}

/// A log phase that is to be run, with all that it may look at.
#[derive(Debug)]
pub(crate) struct LogPart {
    key: PoolKey,
    rid: u32,
    payload: Vec<u8>,
    frozen: Frozen,
}

/// A request's values when it ended.
#[derive(Default, Debug)]
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
    let tenant = tenants::get(&key.tenant);
    run::encode(&mut payload, r, tree, &what, (alone, tree.ends_with_log(r)), &tenant);
    let policy = tenant.confined();
    let view = policy.as_deref().map(|policy| View { tenant: tenant.name(), policy });
    let mut frozen = Frozen::default();
    let mut next = Some(r);
    while let Some(r) = next {
        let shown = view.as_ref().is_none_or(|v| v.owns(r));
        if let Some(rid) = tree.number(Some(r)).filter(|_| shown) {
            let mut bytes = Vec::with_capacity(1024);
            snapshot::write(&mut Writer::new(&mut bytes), tree, r, view.as_ref());
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

/// What serves a conversation after the end of its request.
pub(crate) struct Afterwards<'j> {
    frozen: Option<&'j Frozen>,
    client: &'j [u8],
    server: u32,
}

pub(super) fn carry_out(mut job: Job) {
    if let Some(part) = job.log.take()
        && let Err(fault) = log_phase(&mut job, &part)
    {
        complain(&job, Phase::Log, &fault);
    }
    for (pool, owner, cleanups) in &job.homes {
        end_at(&job, pool, *owner, *cleanups);
    }
}

/// Ends the tree in one worker: the clean-ups of sub-requests and redirected ones, then the root's and all others.
fn end_at(job: &Job, pool: &Arc<Pool>, owner: Owner, mut cleanups: bool) {
    let parts: Vec<&CleanupPart> = job.cleanup.iter().filter(|p| p.key == *pool.key()).collect();
    for part in parts.iter().filter(|p| p.rid != ROOT) {
        match cleanup(job, pool, owner, Phase::Cleanup, Some(part), ENTER_MORE) {
            Ok(leave) => cleanups |= leave.cleanups,
            Err(fault) => complain(job, Phase::Cleanup, &fault),
        }
    }
    let own = parts.into_iter().find(|p| p.rid == ROOT);
    let phase = if cleanups || own.is_some() { Phase::Cleanup } else { Phase::Forget };
    if let (Err(fault), Phase::Cleanup) = (cleanup(job, pool, owner, phase, own, 0), phase) {
        complain(job, phase, &fault);
    }
}

/// One such `Enter`. A worker that is dead has forgotten everything by itself.
fn cleanup(
    job: &Job,
    pool: &Arc<Pool>,
    owner: Owner,
    phase: Phase,
    part: Option<&CleanupPart>,
    flags: u8,
) -> Result<Leave, Fault> {
    if pool.is_alive(owner) == Some(false) {
        return Ok(Leave { result: 0, keep: false, cleanups: false });
    }
    let handlers: Vec<HandlerRef<'_>> =
        part.iter().flat_map(|p| p.handlers.iter()).map(Handler::to_ref).collect();
    let mut payload = Vec::with_capacity(64);
    let mut w = Writer::new(&mut payload);
    write_enter_head(&mut w, phase, flags, job.tree, &handlers, None, None);
    w.bytes(&[]);
    w.bytes(&[]);
    let rid = if phase == Phase::Cleanup { part.map_or(ROOT, |p| p.rid) } else { NO_RID };
    let level = Level::afterwards(rid);
    let after = Afterwards { frozen: None, client: &job.client, server: job.server };
    let conversation = Conversation::begin(Arc::clone(pool), Some(owner))?;
    conversation.enter_afterwards(&after, &level, &payload)
}

fn log_phase(job: &mut Job, part: &LogPart) -> Result<(), Fault> {
    let home = job.homes.iter().find(|(p, ..)| *p.key() == part.key);
    let home = home.map(|(pool, owner, _)| (Arc::clone(pool), Some(*owner)));
    let level = Level::afterwards(part.rid);
    let after = Afterwards { frozen: Some(&part.frozen), client: &job.client, server: job.server };
    let mut attempt = 1;
    let (pool, to, conversation, leave) = loop {
        let (pool, to) = match &home {
            Some(home) => home.clone(),
            None => (run::find_pool(&part.key)?, None),
        };
        let conversation = Conversation::begin(Arc::clone(&pool), to)?;
        match conversation.enter_afterwards(&after, &level, &part.payload) {
            Ok(leave) => break (pool, to, conversation, leave),
            Err(fault)
                if to.is_none()
                    && attempt < run::ATTEMPTS
                    && conversation.may_go_elsewhere(&fault) =>
            {
                attempt += 1;
            }
            Err(fault) => return Err(fault),
        }
    };
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
        let Some(_inside) = ending::inside() else { return };
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
        let Some(_inside) = ending::inside() else { return c.reply(header, &gone) };
        let snapshot = self.frozen.and_then(|f| f.snapshots.get(&header.rid));
        let tenant = c.pool().tenant();
        if let Some(policy) = tenant.confined() {
            let own = server::main().and_then(|m| m.chain().find(|s| s.number() == self.server));
            match call {
                Call::Log { scope, level, text } => {
                    let head = [b"[client ", self.client, b"] "].concat();
                    let level = i32::from((*level).min(7));
                    grants::calls::log_outside(tenant, &policy, *scope, level, text, own, &head);
                    return c.reply(header, &Reply::Ok);
                }
                Call::Server(_)
                | Call::Op {
                    op: Op::ServerRoot | Op::MpmQuery | Op::ExistsConfigDefine | Op::ConfigTree,
                    ..
                } => {
                    let view = View { tenant: tenant.name(), policy: &policy };
                    return calls::answer_confined(c, header, call, &view, own, None);
                }
                _ => {}
            }
        }
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
