//! Running what httpd enters: finding or making the objects, calling the dispatcher, leaving.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple};
use vivarium_protocol::frame::{Header, NO_RID};
use vivarium_protocol::message::{
    ENTER_DEBUG, ENTER_LAST, ENTER_SYNC_WRITES, Enter, HandlerRef, Leave, LogScope, Phase,
};

use super::buffers::Buffer;
use super::calls;
use super::conversation::{Conversation, Level, Trouble};
use super::lock;
use super::state::{Core, Snap};
use super::tree::{Cleanup, Tree};
use crate::types::conn::MpConn;
use crate::types::filter::MpFilter;
use crate::types::hlist::MpHlist;
use crate::types::request::MpRequest;
use crate::types::{streams, text};

/// syslog's `err`.
pub(crate) const ERR: u8 = 3;
/// What a phase that could not be run returns.
const SERVER_ERROR: i32 = 500;
/// The most handler lists that are kept ready.
const MAX_LISTS: usize = 1024;

/// The bound methods of the dispatcher.
#[derive(Debug)]
struct Dispatcher {
    handler: Py<PyAny>,
    filter: Py<PyAny>,
    connection: Py<PyAny>,
    cleanup: Py<PyAny>,
}

static DISPATCHER: PyOnceLock<Dispatcher> = PyOnceLock::new();

/// Sets the object whose methods run handlers.
///
/// # Errors
/// `AttributeError` if a method is missing, `RuntimeError` the second time.
pub(crate) fn set_dispatcher(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let method = |name: &str| object.getattr(name).map(Bound::unbind);
    let dispatcher = Dispatcher {
        handler: method("handler")?,
        filter: method("filter")?,
        connection: method("connection")?,
        cleanup: method("cleanup")?,
    };
    DISPATCHER
        .set(py, dispatcher)
        .map_err(|_| PyRuntimeError::new_err("the dispatcher has been set already"))
}

fn dispatcher(py: Python<'_>) -> PyResult<&Dispatcher> {
    DISPATCHER.get(py).ok_or_else(|| PyRuntimeError::new_err("no dispatcher has been set"))
}

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
        super::control::complain(line);
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
    let sync = enter.flags & ENTER_SYNC_WRITES != 0;
    let filter = enter.filter.map(|f| f.id);
    conversation.push(Level { rid: header.rid, sync, filter, tree: Arc::clone(&tree) })?;
    let last_word = matches!(enter.phase, Phase::Cleanup | Phase::Forget);
    if last_word {
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
    // What is to be kept is said once, by the outermost `Leave`.
    let keep = outermost && !last_word && (enter.flags & ENTER_LAST == 0 || registered);
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
            let known = tree.request(py, rid);
            begin(known.as_ref().map(|(_, object)| object.clone_ref(py)));
            tree.run_cleanups(py);
            if let Some((core, object)) = known.filter(|_| !enter.handlers.is_empty()) {
                core.state().phase = Some(enter.phase.directive());
                call_handlers(py, &object, enter.phase, handlers, debug)?;
                // Those that the handlers have registered.
                tree.run_cleanups(py);
            }
            0
        }
        Phase::InputFilter | Phase::OutputFilter => {
            let (core, object) = tree.request_or_new(py, rid)?;
            if !enter.snapshot.is_empty() {
                core.state().refresh(Snap::new(payload, enter.snapshot));
            }
            begin(Some(object.clone_ref(py)));
            let described = enter
                .filter
                .ok_or_else(|| Trouble::Broken("a filter phase without a filter".into()))?;
            let filter = if let Some(known) = tree.filter(py, described.id) {
                known
            } else {
                let handler = enter.handlers.first().copied();
                let made = Py::new(py, MpFilter::new(core, &object, described, handler, py))?;
                tree.keep_filter(described.id, made.clone_ref(py));
                made
            };
            dispatcher(py)?.filter.call1(py, (filter, handlers, debug))?;
            0
        }
        Phase::Ssi => {
            begin(None);
            return Err(PyRuntimeError::new_err("this worker does not run code of SSI pages"));
        }
        phase => {
            if rid == NO_RID {
                return Err(Trouble::Broken("a request phase without a request".into()).into());
            }
            let (core, object) = tree.request_or_new(py, rid)?;
            {
                let mut state = core.state();
                if !enter.snapshot.is_empty() {
                    state.refresh(Snap::new(payload, enter.snapshot));
                }
                state.phase = Some(phase.directive());
                state.extension = enter.extension.map(Into::into);
            }
            begin(Some(object.clone_ref(py)));
            call_handlers(py, &object, phase, handlers, debug)?
        }
    };
    Ok(result)
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

fn number(result: &Bound<'_, PyAny>) -> PyResult<i32> {
    result.extract::<i32>().map_err(|_| {
        PyTypeError::new_err(format!("the dispatcher has returned no result number: {result:?}"))
    })
}

/// Handler lists by their encoded form.
type Lists = HashMap<Box<[u8]>, Py<PyTuple>>;

static LISTS: Mutex<Option<Lists>> = Mutex::new(None);

/// `[(name, directory, silent, is_location), ...]`: a new list every time, with the same tuples for the same handlers.
fn handler_list<'py>(py: Python<'py>, handlers: &[HandlerRef<'_>]) -> PyResult<Bound<'py, PyList>> {
    let mut key = Buffer::take();
    for handler in handlers {
        key.push(
            u8::from(handler.silent)
                | u8::from(handler.is_location) << 1
                | u8::from(handler.directory.is_some()) << 2,
        );
        for part in [handler.directory.unwrap_or_default(), handler.name] {
            key.extend_from_slice(&(part.len() as u32).to_le_bytes());
            key.extend_from_slice(part);
        }
    }
    let known = lock(&LISTS)
        .as_ref()
        .and_then(|map| map.get(key.as_slice()).map(|list| list.clone_ref(py)));
    if let Some(list) = known {
        return Ok(list.bind(py).to_list());
    }
    let items = handlers.iter().map(|handler| {
        let name = text::to_py(py, handler.name);
        let directory = handler.directory.map(|d| text::to_py(py, d));
        (name, directory, handler.silent, handler.is_location).into_pyobject(py)
    });
    let list = PyTuple::new(py, items.collect::<PyResult<Vec<_>>>()?)?;
    let mut lists = lock(&LISTS);
    let map = lists.get_or_insert_with(HashMap::new);
    if map.len() < MAX_LISTS {
        map.insert(key.as_slice().into(), list.clone().unbind());
    }
    drop(lists);
    Ok(list.to_list())
}
