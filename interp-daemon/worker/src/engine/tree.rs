//! A request tree: a request with everything it was redirected to and its sub-requests, and the Python objects of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use vivarium_protocol::frame::NO_RID;

use super::conversation::Conversation;
use super::lock;
use super::phases;
use super::state::{ALL_TABLES, Core, LIVE, Snap};
use crate::types::conn::MpConn;
use crate::types::filter::MpFilter;
use crate::types::request::MpRequest;

/// A registered clean-up.
#[derive(Debug)]
pub(crate) struct Cleanup {
    /// The request that it was registered on.
    pub(crate) request: Option<Py<MpRequest>>,
    /// What to call.
    pub(crate) callable: Py<PyAny>,
    /// What to call it with.
    pub(crate) data: Py<PyAny>,
}

#[derive(Debug)]
struct Member {
    core: Arc<Core>,
    object: Py<MpRequest>,
}

#[derive(Debug, Default)]
struct Inner {
    conversation: Option<Arc<Conversation>>,
    requests: Vec<Member>,
    connection: Option<(Arc<Core>, Py<MpConn>)>,
    /// The connection's latest snapshot, undecoded.
    connection_snap: Option<Snap>,
    filters: Vec<(u32, Py<MpFilter>)>,
    cleanups: Vec<Cleanup>,
    /// Something of this worker stays behind in httpd that may need the tree's objects again.
    registered: bool,
}

/// A request tree.
#[derive(Debug)]
pub(crate) struct Tree {
    id: u64,
    inner: Mutex<Inner>,
    dirty: AtomicBool,
    /// No conversation is under way: calls fail, attributes are local.
    over: AtomicBool,
    /// See [`vivarium_protocol::message::ENTER_CONFINED`].
    confined: AtomicBool,
}

impl Tree {
    /// A tree without objects.
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            inner: Mutex::default(),
            dirty: AtomicBool::new(false),
            over: AtomicBool::new(true),
            confined: AtomicBool::new(false),
        }
    }

    /// Its number, unique in the life of its httpd child.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether httpd may refuse what is assigned to guarded fields and tables.
    pub(crate) fn is_confined(&self) -> bool {
        self.confined.load(Ordering::Relaxed)
    }

    /// Notes what the last `Enter` said of that.
    pub(crate) fn set_confined(&self, confined: bool) {
        self.confined.store(confined, Ordering::Relaxed);
    }

    /// Whether no conversation about it is under way.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// The conversation under way.
    ///
    /// # Errors
    /// `RuntimeError` if there is none: the request is over.
    pub(crate) fn conversation(&self) -> PyResult<Arc<Conversation>> {
        let found = lock(&self.inner).conversation.clone();
        found.ok_or_else(|| PyRuntimeError::new_err("the request is over"))
    }

    /// The conversation under way, if attributes may be asked over it.
    pub(crate) fn asking(&self) -> Option<Arc<Conversation>> {
        lock(&self.inner).conversation.clone().filter(|c| !c.only_logs())
    }

    /// Sets the conversation; returns the one before.
    pub(crate) fn set_conversation(
        &self,
        conversation: Option<Arc<Conversation>>,
    ) -> Option<Arc<Conversation>> {
        let mut inner = lock(&self.inner);
        self.over.store(conversation.is_none(), Ordering::Release);
        std::mem::replace(&mut inner.conversation, conversation)
    }

    /// Notes that a request of the tree has pending changes.
    pub(crate) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// The requests that may have pending changes; none most of the time.
    pub(crate) fn take_dirty(&self) -> Vec<Arc<Core>> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let inner = lock(&self.inner);
        let of_connection = inner.connection.iter().map(|(core, _)| Arc::clone(core));
        inner.requests.iter().map(|m| Arc::clone(&m.core)).chain(of_connection).collect()
    }

    /// The object of a request, if there is one.
    pub(crate) fn request(&self, py: Python<'_>, rid: u32) -> Option<(Arc<Core>, Py<MpRequest>)> {
        let inner = lock(&self.inner);
        let found = inner.requests.iter().find(|m| m.core.rid() == rid)?;
        Some((Arc::clone(&found.core), found.object.clone_ref(py)))
    }

    /// The object of a request, made now if there is none.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn request_or_new(
        self: &Arc<Self>,
        py: Python<'_>,
        rid: u32,
    ) -> PyResult<(Arc<Core>, Py<MpRequest>)> {
        if let Some(found) = self.request(py, rid) {
            return Ok(found);
        }
        let core = Arc::new(Core::new(rid, Arc::clone(self)));
        let object = Py::new(py, MpRequest::new(Arc::clone(&core)))?;
        let mut inner = lock(&self.inner);
        // Another thread may have made one meanwhile: there is never more than one.
        if let Some(found) = inner.requests.iter().find(|m| m.core.rid() == rid) {
            let found = (Arc::clone(&found.core), found.object.clone_ref(py));
            drop(inner);
            return Ok(found);
        }
        inner.requests.push(Member { core: Arc::clone(&core), object: object.clone_ref(py) });
        Ok((core, object))
    }

    /// Keeps a snapshot of the connection until its object looks at it.
    pub(crate) fn tell_connection(&self, snap: Snap) {
        lock(&self.inner).connection_snap = Some(snap);
    }

    /// Takes the connection's latest snapshot.
    pub(crate) fn take_connection_snap(&self) -> Option<Snap> {
        lock(&self.inner).connection_snap.take()
    }

    /// The connection's object, if there is one.
    pub(crate) fn connection(&self, py: Python<'_>) -> Option<Py<MpConn>> {
        lock(&self.inner).connection.as_ref().map(|(_, object)| object.clone_ref(py))
    }

    /// Keeps the connection's object; returns the one that is kept (another thread may have been first).
    pub(crate) fn keep_connection(
        &self,
        py: Python<'_>,
        core: Arc<Core>,
        object: Py<MpConn>,
    ) -> Py<MpConn> {
        let mut inner = lock(&self.inner);
        inner.connection.get_or_insert((core, object)).1.clone_ref(py)
    }

    /// The object of a filter, if there is one.
    pub(crate) fn filter(&self, py: Python<'_>, id: u32) -> Option<Py<MpFilter>> {
        let inner = lock(&self.inner);
        inner.filters.iter().find(|(i, _)| *i == id).map(|(_, object)| object.clone_ref(py))
    }

    /// Keeps a filter's object.
    pub(crate) fn keep_filter(&self, id: u32, object: Py<MpFilter>) {
        lock(&self.inner).filters.push((id, object));
    }

    /// Registers a clean-up.
    ///
    /// # Errors
    /// `RuntimeError` if the request is over: nobody would run it.
    pub(crate) fn add_cleanup(&self, cleanup: Cleanup) -> PyResult<()> {
        let mut inner = lock(&self.inner);
        if inner.conversation.is_none() {
            drop(inner);
            return Err(PyRuntimeError::new_err("the request is over"));
        }
        inner.cleanups.push(cleanup);
        Ok(())
    }

    /// Takes the next clean-up to run: the one that was registered last, on the request `of` if that is given.
    fn next_cleanup(&self, of: Option<u32>) -> Option<Cleanup> {
        let mut inner = lock(&self.inner);
        let wanted = |c: &Cleanup| {
            let rid = c.request.as_ref().map(|request| request.get().core().rid());
            of.is_none() || rid == of
        };
        let at = inner.cleanups.iter().rposition(wanted)?;
        Some(inner.cleanups.remove(at))
    }

    /// Runs the registered clean-ups, those too that they register: all, or those of the request `of`.
    pub(crate) fn run_cleanups(&self, py: Python<'_>, of: Option<u32>) {
        while let Some(cleanup) = self.next_cleanup(of) {
            phases::run_cleanup(py, &cleanup);
        }
    }

    /// Notes that the tree's objects will be needed again.
    pub(crate) fn register(&self) {
        lock(&self.inner).registered = true;
    }

    /// Whether clean-ups are registered, and whether anything at all is.
    pub(crate) fn registered(&self) -> (bool, bool) {
        let inner = lock(&self.inner);
        let cleanups = !inner.cleanups.is_empty();
        (cleanups, cleanups || inner.registered)
    }

    /// Whether Python has given attributes of its own to a request of the tree.
    pub(crate) fn has_attributes(&self, py: Python<'_>) -> bool {
        // Looking can set off the garbage collector, and with it any code: not while the tree is locked.
        let objects: Vec<_> =
            lock(&self.inner).requests.iter().map(|m| m.object.clone_ref(py)).collect();
        let has = |object: &Py<MpRequest>| {
            let found = object.bind(py).getattr(intern!(py, "__dict__"));
            found.is_ok_and(|dict| dict.len().is_ok_and(|n| n > 0))
        };
        objects.iter().any(has)
    }

    /// httpd did something for the tree that may have changed everything.
    pub(crate) fn spoil_all(&self) {
        for member in &lock(&self.inner).requests {
            member.core.spoil(LIVE, ALL_TABLES);
        }
    }

    /// Drops the tree's objects. Their users keep them, with what they know.
    pub(crate) fn close(&self) {
        let inner = std::mem::take(&mut *lock(&self.inner));
        self.over.store(true, Ordering::Release);
        // Dropped after the lock is free: objects may run Python code as they go.
        drop(inner);
    }

    /// Ends a tree whose httpd is gone: clean-ups run, so that what they release is released.
    pub(crate) fn abandon(&self, py: Python<'_>) {
        self.run_cleanups(py, None);
        self.close();
    }
}

/// The rid to put on a frame about `core` while `entered` is the request that the current depth runs.
pub(crate) fn frame_rid(core: &Core, entered: u32) -> u32 {
    if core.rid() == NO_RID { entered } else { core.rid() }
}
