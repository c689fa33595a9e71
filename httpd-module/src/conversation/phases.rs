//! Running a phase: which pool, which conversation, and what a failure becomes.

use std::rc::Rc;

use vivarium_protocol::codes;
use vivarium_protocol::control::PoolKey;
use vivarium_protocol::message::{
    ENTER_CONNECTION, ENTER_DEBUG, ENTER_LAST, ENTER_SYNC_WRITES, FilterRef, HandlerRef, Leave,
    Phase, write_enter_head,
};
use vivarium_protocol::wire::Writer;

use super::exchange::{Conversation, Level};
use super::tree::Tree;
use super::{Fault, body, snapshot};
use crate::apache::log;
use crate::apache::request::Request;
use crate::link;
use crate::sys;

/// The tenant of everything that no tenant has been declared for.
const DEFAULT_TENANT: &str = "default";
/// The interpreter's name where there is no other.
const MAIN_INTERPRETER: &str = "main_interpreter";
/// How often a request that nobody has taken may be offered to another pool.
const ATTEMPTS: u32 = 4;

/// The content handler's hook.
pub(crate) fn content(r: Request<'_>) -> i32 {
    if !matches!(r.handler(), Some(b"mod_python" | b"python-program")) {
        return sys::DECLINED;
    }
    let Some(conf) = r.dir_conf() else { return sys::DECLINED };
    let Some(list) = conf.handlers(Phase::Content, r.filename()) else { return sys::DECLINED };
    let handlers: Vec<HandlerRef<'_>> = list.handlers.iter().map(|h| h.to_ref()).collect();
    let (tree, entry) = Tree::of(r);
    let level = Level { entry: Some(Rc::clone(&entry)), filter: None };
    let extension = list.extension.as_deref();
    match run(r, &tree, &level, Phase::Content, &handlers, None, extension) {
        Ok(leave) => result(leave.result),
        Err(fault) => {
            log_fault(r, Phase::Content, &fault);
            if let Fault::Unavailable { retry_after, .. } = &fault {
                if let Some(t) = r.table(vivarium_protocol::message::TableId::ErrHeadersOut) {
                    t.set(r.pool(), b"Retry-After", retry_after.to_string().as_bytes());
                }
            }
            if entry.output.begun() || r.output_begun() {
                body::break_off(&entry);
                return sys::OK;
            }
            body::drop_gathered(&entry);
            fault.status()
        }
    }
}

/// What a worker says a phase's result is, limited to what httpd understands.
fn result(n: i32) -> i32 {
    match n {
        sys::OK | sys::DECLINED | sys::DONE | 100..=599 => n,
        _ => sys::HTTP_INTERNAL_SERVER_ERROR,
    }
}

/// One log line about a phase that failed.
pub(crate) fn log_fault(r: Request<'_>, phase: Phase, fault: &Fault) {
    let (code, reason) = match fault {
        Fault::Unavailable { reason, .. } => (codes::NO_WORKER, reason),
        Fault::Died(reason) => (codes::LOST_REQUEST, reason),
        Fault::Broken(reason) => (codes::BAD_FRAME, reason),
    };
    let text = format!("{code}: {}: {reason}", phase.directive());
    log::request(r, log::Level::Err as i32, text.as_bytes());
}

/// The pool that a request's Python runs in.
fn pool_key(r: Request<'_>) -> PoolKey {
    let named = r.dir_conf().and_then(|c| c.interpreter()).unwrap_or_else(|| r.server().hostname());
    let interpreter =
        if named.is_empty() { MAIN_INTERPRETER.into() } else { String::from_utf8_lossy(named).into_owned() };
    PoolKey { tenant: DEFAULT_TENANT.into(), interpreter }
}

/// Runs a phase, nested in the conversation that runs already in its pool, or on a lane of its own.
pub(crate) fn run(
    r: Request<'_>,
    tree: &Rc<Tree>,
    level: &Level,
    phase: Phase,
    handlers: &[HandlerRef<'_>],
    filter: Option<FilterRef<'_>>,
    extension: Option<&[u8]>,
) -> Result<Leave, Fault> {
    let key = pool_key(r);
    let running = tree.running(&key);
    let mut payload = Vec::with_capacity(1536);
    let alone = running.is_none() && tree.home(&key).is_none();
    encode(&mut payload, r, tree, phase, handlers, filter, extension, alone);
    match running {
        Some(conversation) => conversation.enter(Some(tree), level, &payload),
        None => on_own_lane(&key, tree, level, &payload),
    }
}

fn on_own_lane(
    key: &PoolKey,
    tree: &Rc<Tree>,
    level: &Level,
    payload: &[u8],
) -> Result<Leave, Fault> {
    let unavailable = |n: link::NoPool| Fault::Unavailable { reason: n.reason, retry_after: n.retry_after };
    let no_link = || Fault::Unavailable { reason: "no descriptors are left".into(), retry_after: 1 };
    let mut attempt = 1;
    loop {
        let (pool, to) = match tree.home(key) {
            Some((pool, owner)) => {
                if pool.is_alive(owner) == Some(false) {
                    return Err(Fault::Died("the worker that held the request has died".into()));
                }
                (pool, Some(owner))
            }
            None => (link::get().ok_or_else(no_link)?.pool(key).map_err(unavailable)?, None),
        };
        let conversation = Conversation::begin(pool, to)?;
        tree.begin(&conversation);
        let done = conversation.enter(Some(tree), level, payload);
        tree.end(&conversation);
        match done {
            Err(Fault::Unavailable { .. }) if to.is_none() && attempt < ATTEMPTS && conversation.pool().retired() => {
                attempt += 1;
            }
            Ok(leave) => {
                if let (true, Some(owner)) = (leave.keep, conversation.owner()) {
                    tree.keep(conversation.pool(), owner, leave.cleanups);
                }
                return Ok(leave);
            }
            Err(fault) => return Err(fault),
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn encode(
    payload: &mut Vec<u8>,
    r: Request<'_>,
    tree: &Rc<Tree>,
    phase: Phase,
    handlers: &[HandlerRef<'_>],
    filter: Option<FilterRef<'_>>,
    extension: Option<&[u8]>,
    alone: bool,
) {
    let python_output = crate::hooks::has_output_filter(r);
    let conf = r.dir_conf();
    let mut flags = 0;
    if python_output {
        flags |= ENTER_SYNC_WRITES;
    }
    if conf.is_some_and(crate::config::dir::DirConf::debug) {
        flags |= ENTER_DEBUG;
    }
    if alone {
        flags |= ENTER_CONNECTION;
        let more = python_output || phase != Phase::Content || r.main().is_some() || r.prev().is_some();
        if !more {
            flags |= ENTER_LAST;
        }
    }
    let mut w = Writer::new(payload);
    write_enter_head(&mut w, phase, flags, tree.id, handlers, filter, extension);
    let start = w.begin_section();
    snapshot::write(&mut w, tree, r);
    w.end_section(start);
    if alone {
        w.bytes(&snapshot::connection(r.connection()));
    } else {
        w.bytes(&[]);
    }
}
