//! Running what httpd enters: finding or making the objects, calling the dispatcher, leaving.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::PyList;
use vivarium_protocol::frame::{Header, NO_RID};
use vivarium_protocol::message::{
    ENTER_CGI_VARS, ENTER_CONFINED, ENTER_DEBUG, ENTER_LAST, ENTER_MORE, ENTER_SYNC_WRITES, Enter,
    Leave, LogScope, Phase,
};

use super::buffers::Buffer;
use super::calls;
use super::conversation::{Conversation, Level, Trouble};
use super::dispatcher::{dispatcher, handler_list, number};
use super::lock;
use super::special;
use super::state::{Core, Snap};
use super::tree::{Cleanup, Tree};
use crate::types::conn::MpConn;
use crate::types::filter::MpFilter;
use crate::types::hlist::MpHlist;
use crate::types::request::MpRequest;
use crate::types::streams;

/// syslog's `err`.
pub(crate) const ERR: u8 = 3;
/// What a phase that could not be run returns.
const SERVER_ERROR: i32 = 500;
/// Results from here on are errors: httpd may redirect to an `ErrorDocument`, whose handlers look at the request.
const FIRST_ERROR: i32 = 400;
/// What is to be called when the worker ends.
static AT_END: Mutex<Vec<Cleanup>> = Mutex::new(Vec::new());

/// Registers what is to be called when the worker ends.
pub(crate) fn at_end(py: Python<'_>, callable: Py<PyAny>, data: Option<Py<PyAny>>) {
    let data = data.unwrap_or_else(|| py.None());
    lock(&AT_END).push(Cleanup { request: None, callable, data });
}

/// Runs what was registered for the worker's end, the last one first.
pub(crate) fn run_at_end(py: Python<'_>) {
    loop {
        let next = lock(&AT_END).pop();
        let Some(cleanup) = next else { return };
        run_cleanup(py, &cleanup);
    }
}

/// What a thread runs at the moment.
#[derive(Debug)]
struct Current {
    conversation: Arc<Conversation>,
    tree: Arc<Tree>,
    rid: u32,
    request: Option<Py<MpRequest>>,
}

thread_local! {
    static CURRENT: RefCell<Vec<Current>> = const { RefCell::new(Vec::new()) };
}

/// The conversation that this thread runs a phase of, and the request that was entered.
pub(crate) fn current() -> Option<(Arc<Conversation>, u32)> {
    CURRENT.with(|c| c.borrow().last().map(|c| (Arc::clone(&c.conversation), c.rid)))
}

/// Somebody to ask over the conversation that this thread runs.
pub(crate) fn current_core() -> Option<Arc<Core>> {
    let place = CURRENT.with(|c| c.borrow().last().map(|c| (c.rid, Arc::clone(&c.tree))));
    place.map(|(rid, tree)| Arc::new(Core::new(rid, tree)))
}

/// The request that this thread runs a phase of.
pub(crate) fn current_request(py: Python<'_>) -> Option<Py<MpRequest>> {
    CURRENT.with(|c| c.borrow().last().and_then(|c| c.request.as_ref().map(|r| r.clone_ref(py))))
}

fn complain(py: Python<'_>, line: &str) {
    let logged = current().is_some_and(|(conversation, rid)| {
        calls::log(py, &conversation, Some(rid), LogScope::Request, ERR, line.as_bytes()).is_ok()
    });
    if !logged {
        super::control::say(py, line);
    }
}

/// Writes an exception that nobody has handled to the log, line by line.
fn complain_of(py: Python<'_>, what: &str, error: &PyErr) {
    let lines = (|| -> PyResult<Vec<String>> {
        let format = py.import("traceback")?.getattr("format_exception")?;
        let value = error.value(py);
        format.call1((value.get_type(), value, error.traceback(py)))?.extract()
    })();
    let text = lines.map_or_else(|_| error.to_string(), |l| l.concat());
    for line in text.lines() {
        complain(py, &format!("{what}: {line}"));
    }
}

/// Runs one registered clean-up.
pub(crate) fn run_cleanup(py: Python<'_>, cleanup: &Cleanup) {
    let request = cleanup.request.as_ref().map(|r| r.clone_ref(py));
    let run = || -> PyResult<()> {
        let callable = cleanup.callable.clone_ref(py);
        let data = cleanup.data.clone_ref(py);
        dispatcher(py)?.cleanup.call1(py, (request, callable, data)).map(|_| ())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => complain_of(py, "python_cleanup", &error),
        Err(_) => complain(py, "python_cleanup: internal error in a clean-up"),
    }
}

/// Runs one `Enter` and answers it with its `Leave`.
pub(crate) fn enter(
    py: Python<'_>,
    conversation: &Arc<Conversation>,
    header: Header,
    payload: Buffer,
) -> Result<(), Trouble> {
    let payload = Arc::new(payload);
    let entry = conversation.entry();
    let enter = match Enter::read(&payload) {
        Ok(enter) => enter,
        Err(error) => return conversation.give_up(error.to_string()),
    };
    let outermost = header.depth == 1;
    let known = conversation.level_tree(enter.tree).or_else(|| entry.tree(enter.tree));
    if let Some(tree) = &known {
        // httpd has gone on since: of the requests that this does not bring a snapshot of, nothing is sure.
        tree.spoil_all();
    }
    let tree = known.unwrap_or_else(|| Arc::new(Tree::new(enter.tree)));
    tree.set_confined(enter.flags & ENTER_CONFINED != 0);
    let sync = enter.flags & ENTER_SYNC_WRITES != 0;
    let filter = enter.filter.map(|f| f.id);
    conversation.push(Level { rid: header.rid, sync, filter, tree: Arc::clone(&tree) })?;
    let ended = matches!(enter.phase, Phase::Cleanup | Phase::Forget);
    let last_word = ended && enter.flags & ENTER_MORE == 0;
    if ended {
        conversation.set_only_logs();
    }
    let before = tree.set_conversation(Some(Arc::clone(conversation)));
    let running = CURRENT.with(|c| c.borrow().len());
    let run = || run(py, conversation, &tree, &header, &enter, &payload);
    let result = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            complain_of(py, enter.phase.directive(), &error);
            SERVER_ERROR
        }
        Err(_) => {
            complain(py, &format!("{}: internal error", enter.phase.directive()));
            SERVER_ERROR
        }
    };
    if super::control::is_forked() {
        super::control::complain("a forked process has returned from its parent's handler");
        crate::ffi::exit_now(1);
    }
    streams::flush_thread(py);
    let ended = CURRENT.with(|c| c.borrow_mut().split_off(running));
    drop(ended);
    let (cleanups, registered) = tree.registered();
    // What is to be kept is said once, by the outermost `Leave`. A handler of an `ErrorDocument` sees the request as
    // `req.prev`, with its attributes.
    let needed = || {
        let looked_at = result >= FIRST_ERROR || tree.has_attributes(py);
        registered || (looked_at && enter.phase != Phase::Log)
    };
    let keep = outermost && !last_word && (enter.flags & ENTER_LAST == 0 || needed());
    let leave = Leave { result, keep, cleanups: outermost && cleanups };
    let inside = conversation.enter(py);
    let left = conversation.flush_changes(py, &tree).and_then(|()| {
        if outermost {
            tree.set_conversation(None);
            if !keep {
                entry.forget(tree.id());
            } else if !entry.keep(&tree) {
                return Err(Trouble::Gone);
            }
        }
        conversation.leave(py, &leave)
    });
    drop(inside);
    tree.set_conversation(before);
    if !outermost {
        tree.spoil_all();
    } else if left.is_err() {
        entry.forget(tree.id());
        tree.abandon(py);
    } else if !keep {
        tree.close();
    }
    left
}

fn run(
    py: Python<'_>,
    conversation: &Arc<Conversation>,
    tree: &Arc<Tree>,
    header: &Header,
    enter: &Enter<'_>,
    payload: &Arc<Buffer>,
) -> PyResult<i32> {
    if !enter.connection.is_empty() {
        tree.tell_connection(Snap::new(payload, enter.connection));
    }
    let rid = header.rid;
    let begin = |request: Option<Py<MpRequest>>| {
        let (conversation, tree) = (Arc::clone(conversation), Arc::clone(tree));
        CURRENT.with(|c| c.borrow_mut().push(Current { conversation, tree, rid, request }));
    };
    let debug = enter.flags & ENTER_DEBUG != 0;
    let handlers = handler_list(py, &enter.handlers)?;
    let result = match enter.phase {
        Phase::Forget => {
            begin(None);
            0
        }
        Phase::Connection => {
            begin(None);
            let connection = MpConn::of(py, tree)?;
            let walk = Py::new(py, MpHlist::new(handlers.clone().unbind()))?;
            connection.get().set_hlist(Some(walk));
            let args = (connection.clone_ref(py), handlers, debug);
            let result = dispatcher(py)?.connection.call1(py, args);
            connection.get().set_hlist(None);
            number(result?.bind(py))?
        }
        Phase::Cleanup => {
            let wanted = !enter.handlers.is_empty() && rid != NO_RID;
            let known = match tree.request(py, rid) {
                // Python has only run for other requests of the tree so far.
                None if wanted => Some(tree.request_or_new(py, rid)?),
                known => known,
            };
            begin(known.as_ref().map(|(_, object)| object.clone_ref(py)));
            // Of one request, or of all that are left.
            let of = (enter.flags & ENTER_MORE != 0).then_some(rid);
            tree.run_cleanups(py, of);
            if let Some((core, object)) = known.filter(|_| wanted) {
                core.state().phase = Some(enter.phase.directive());
                call_handlers(py, &object, enter.phase, handlers, debug)?;
                // Those that the handlers have registered.
                tree.run_cleanups(py, of);
            }
            0
        }
        Phase::InputFilter | Phase::OutputFilter => {
            let (core, object) = entered(py, tree, rid, enter, payload)?;
            begin(Some(object.clone_ref(py)));
            let filter = filter_of(py, tree, core, &object, enter)?;
            dispatcher(py)?.filter.call1(py, (&filter, handlers, debug))?;
            filter.get().end(py)?;
            0
        }
        Phase::Ssi => {
            let (core, object) = entered(py, tree, rid, enter, payload)?;
            begin(Some(object.clone_ref(py)));
            special::ssi(py, core, &object, enter)?
        }
        phase @ (Phase::CheckPassword | Phase::RealmHash | Phase::Groups) => {
            let (core, object) = entered(py, tree, rid, enter, payload)?;
            core.state().phase = Some(phase.directive());
            begin(Some(object.clone_ref(py)));
            let before = object.get().begin_handlers(&handlers);
            let result = special::provider(py, &core, &object, phase, handlers);
            object.get().end_handlers(before);
            result?
        }
        phase => {
            if rid == NO_RID {
                return Err(Trouble::Broken("a request phase without a request".into()).into());
            }
            let (core, object) = entered(py, tree, rid, enter, payload)?;
            {
                let mut state = core.state();
                state.phase = Some(phase.directive());
                state.extension = enter.extension.map(Into::into);
            }
            begin(Some(object.clone_ref(py)));
            call_handlers(py, &object, phase, handlers, debug)?
        }
    };
    Ok(result)
}

/// The request that is entered, with the state that the `Enter` brings.
fn entered(
    py: Python<'_>,
    tree: &Arc<Tree>,
    rid: u32,
    enter: &Enter<'_>,
    payload: &Arc<Buffer>,
) -> PyResult<(Arc<Core>, Py<MpRequest>)> {
    let (core, object) = tree.request_or_new(py, rid)?;
    if !enter.snapshot.is_empty() {
        let mut state = core.state();
        state.refresh(Snap::new(payload, enter.snapshot));
        state.has_cgi_vars = enter.flags & ENTER_CGI_VARS != 0;
    }
    Ok((core, object))
}

/// The filter that is entered: the same object every time.
fn filter_of(
    py: Python<'_>,
    tree: &Arc<Tree>,
    core: Arc<Core>,
    object: &Py<MpRequest>,
    enter: &Enter<'_>,
) -> PyResult<Py<MpFilter>> {
    let described =
        enter.filter.ok_or_else(|| Trouble::Broken("a filter phase without a filter".into()))?;
    if let Some(known) = tree.filter(py, described.id) {
        known.get().begin(described);
        return Ok(known);
    }
    let handler = enter.handlers.first().copied();
    let made = Py::new(py, MpFilter::new(core, object, described, handler, py))?;
    made.get().begin(described);
    tree.keep_filter(described.id, made.clone_ref(py));
    Ok(made)
}

fn call_handlers(
    py: Python<'_>,
    object: &Py<MpRequest>,
    phase: Phase,
    handlers: Bound<'_, PyList>,
    debug: bool,
) -> PyResult<i32> {
    if let Some(added) = object.get().added(py, phase.directive()) {
        for handler in added.bind(py) {
            handlers.append(handler)?;
        }
    }
    let before = object.get().begin_handlers(&handlers);
    let args = (object, phase.directive(), handlers, debug);
    let result = dispatcher(py)?.handler.call1(py, args);
    object.get().end_handlers(before);
    number(result?.bind(py))
}
