//! Running one phase: in which pool, in which conversation.

use std::cell::Cell;
use std::rc::Rc;

use vivarium_protocol::codes;
use vivarium_protocol::control::PoolKey;
use vivarium_protocol::message::{
    ENTER_CGI_VARS, ENTER_CONFINED, ENTER_CONNECTION, ENTER_DEBUG, ENTER_LAST, ENTER_SYNC_WRITES,
    FilterRef, HandlerRef, Leave, Phase, Then, write_enter_head,
};
use vivarium_protocol::policy::is_default;
use vivarium_protocol::wire::Writer;

use super::exchange::{Conversation, Level};
use super::tree::Tree;
use super::{Fault, length, snapshot};
use crate::apache::ops;
use crate::apache::request::Request;
use crate::config::dir::{DirConf, Handler};
use crate::grants::view::View;
use crate::link;
use crate::tenants::{self, Tenant};

/// The interpreter's name where there is no other.
const MAIN_INTERPRETER: &str = "main_interpreter";
/// How often a request that nobody has taken may be offered to another pool.
pub(crate) const ATTEMPTS: u32 = 4;
/// The handler that asks for the CGI variables first of all: it gets them unasked.
const WSGI_HANDLER: &[u8] = b"mod_python.wsgi";

thread_local! {
    /// Room for an `Enter`, used again: an allocation of that size makes the C library tidy up its heap.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
/// Rooms that have grown larger are not kept.
const MOST_ROOM: usize = 64 << 10;

/// Room for an `Enter`.
struct Room(Vec<u8>);

impl Room {
    fn take() -> Self {
        let mut room = ROOM.take();
        room.clear();
        room.reserve(2048);
        Self(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.0.capacity() <= MOST_ROOM {
            // At a thread's end there may be nowhere to keep it.
            let _ = ROOM.try_with(|place| place.set(std::mem::take(&mut self.0)));
        }
    }
}

/// What is to be run.
pub(crate) struct What<'a> {
    pub(crate) phase: Phase,
    pub(crate) handlers: &'a [HandlerRef<'a>],
    pub(crate) filter: Option<FilterRef<'a>>,
    pub(crate) extension: Option<&'a [u8]>,
}

/// The pool that a request's Python runs in: `PythonInterpreter`, else the file's directory
/// (`PythonInterpPerDirectory`), else the directive's (`PythonInterpPerDirective`), else the virtual host's name.
pub(crate) fn pool_key(r: Request<'_>, definitions: &[Handler]) -> PoolKey {
    let conf = r.dir_conf();
    let file_directory = || {
        let file = r.filename()?;
        file.iter().rposition(|b| *b == b'/').map(|slash| &file[..=slash])
    };
    let name: &[u8] = match conf {
        Some(c) if c.interpreter().is_some() => c.interpreter().unwrap_or_default(),
        Some(c) if c.per_directory() => file_directory().unwrap_or_default(),
        Some(c) if c.per_directive() => {
            definitions.first().and_then(|h| h.directory.as_deref()).unwrap_or_default()
        }
        _ => r.server().hostname(),
    };
    key_of(&tenants::of(r), name)
}

/// The pool of an interpreter's name.
pub(crate) fn key_of(tenant: &str, name: &[u8]) -> PoolKey {
    let interpreter = if name.is_empty() {
        MAIN_INTERPRETER.into()
    } else {
        String::from_utf8_lossy(name).into_owned()
    };
    PoolKey { tenant: tenant.into(), interpreter }
}

/// Runs a phase, nested in the conversation that runs already in its pool, or on a lane of its own.
pub(crate) fn run(
    r: Request<'_>,
    key: &PoolKey,
    tree: &Rc<Tree>,
    level: &Level,
    what: &What<'_>,
) -> Result<Leave, Fault> {
    level.phase.set(Some(what.phase));
    let Some(conversation) = tree.running(key) else {
        return on_own_lane(r, key, tree, level, what);
    };
    let mut room = Room::take();
    let payload = &mut room.0;
    encode(payload, r, tree, what, (false, false), conversation.pool().tenant());
    conversation.enter(tree, level, payload)
}

fn on_own_lane(
    r: Request<'_>,
    key: &PoolKey,
    tree: &Rc<Tree>,
    level: &Level,
    what: &What<'_>,
) -> Result<Leave, Fault> {
    let mut attempt = 1;
    let place = tree.place(key)?;
    let mut room = Room::take();
    let payload = &mut room.0;
    loop {
        let (pool, to) = match tree.home(key) {
            Some((pool, owner)) => {
                if pool.is_alive(owner) == Some(false) {
                    return Err(Fault::Died("the worker that held the request has died".into()));
                }
                (pool, Some(owner))
            }
            None => (find_pool(key)?, None),
        };
        if pool.tenant().confined().is_some() {
            length::watch(r, tree);
        }
        payload.clear();
        let alone = to.is_none();
        let last = alone && is_last(r, what);
        encode(payload, r, tree, what, (alone, last), pool.tenant());
        let conversation = Conversation::begin_waiting(pool, to, place.since)?;
        tree.begin(&conversation);
        let done = conversation.enter(tree, level, payload);
        tree.end(&conversation);
        match done {
            Err(fault)
                if to.is_none() && attempt < ATTEMPTS && conversation.may_go_elsewhere(&fault) =>
            {
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

/// The pool of a key, attached.
pub(crate) fn find_pool(key: &PoolKey) -> Result<std::sync::Arc<link::pool::Pool>, Fault> {
    if !is_default(&key.tenant) && key.tenant == tenants::NOBODY {
        return Err(Fault::Unavailable {
            reason: format!("{}: no user can be told from the request's file", codes::NO_TENANT),
            retry_after: 1,
        });
    }
    let link = link::get().ok_or_else(|| Fault::Unavailable {
        reason: "no descriptors are left".into(),
        retry_after: 1,
    })?;
    link.pool(key).map_err(|n| Fault::Unavailable { reason: n.reason, retry_after: n.retry_after })
}

/// Whether no other Python is configured for the request after this phase: unless its handlers leave something behind,
/// the worker need not remember the request, nor be told of its end.
fn is_last(r: Request<'_>, what: &What<'_>) -> bool {
    /// What runs when the request's section is known for good, in order.
    const LATE: [Phase; 7] = [
        Phase::HeaderParser,
        Phase::Access,
        Phase::Authen,
        Phase::Authz,
        Phase::Type,
        Phase::Fixup,
        Phase::Content,
    ];
    let (filters_to_come, at) = match what.filter {
        // It gets the end of the stream, and nobody comes after it.
        Some(FilterRef { is_input: false, is_sync: false, then: Then::End, .. }) => {
            (false, LATE.len())
        }
        Some(_) => return false,
        None => {
            let Some(at) = LATE.iter().position(|p| *p == what.phase) else { return false };
            (crate::hooks::has_output_filter(r), at + 1)
        }
    };
    let configured = |p: &Phase| r.dir_conf().is_some_and(|c| c.has_phase(*p));
    !(filters_to_come
        || crate::hooks::has_input_filter(r)
        || r.main().is_some()
        || r.prev().is_some()
        || LATE[at..].iter().chain(&[Phase::Log, Phase::Cleanup]).any(configured))
}

/// Encodes an `Enter` for a tenant's worker. `alone`: it knows nothing of the tree yet. `last`: nothing else is to come.
pub(crate) fn encode(
    payload: &mut Vec<u8>,
    r: Request<'_>,
    tree: &Rc<Tree>,
    what: &What<'_>,
    (alone, last): (bool, bool),
    tenant: &Tenant,
) {
    let policy = tenant.confined();
    let view = policy.as_deref().map(|policy| View { tenant: tenant.name(), policy });
    let python_output = crate::hooks::has_output_filter(r);
    let conf = r.dir_conf();
    let mut flags = 0;
    if python_output {
        flags |= ENTER_SYNC_WRITES;
    }
    if conf.is_some_and(DirConf::debug) {
        flags |= ENTER_DEBUG;
    }
    if view.is_some() {
        flags |= ENTER_CONFINED;
    }
    if alone {
        flags |= ENTER_CONNECTION;
    }
    if last {
        flags |= ENTER_LAST;
    }
    if what.phase == Phase::Content
        && let [HandlerRef { name: WSGI_HANDLER, .. }] = what.handlers
    {
        ops::add_cgi_vars(r);
        flags |= ENTER_CGI_VARS;
    }
    let mut w = Writer::new(payload);
    write_enter_head(
        &mut w,
        what.phase,
        flags,
        tree.id,
        what.handlers,
        what.filter,
        what.extension,
    );
    let start = w.begin_section();
    snapshot::write(&mut w, tree, r, view.as_ref());
    w.end_section(start);
    if alone {
        w.bytes(&snapshot::connection(r.connection(), view.as_ref(), Some(r.server())));
    } else {
        w.bytes(&[]);
    }
}
