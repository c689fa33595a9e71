//! One request tree: what the client asked for, its internal redirects and its sub-requests.
//!
//! A tree belongs to its root request and ends with it. It is used by one thread at a time (the one that runs the
//! request), though not always the same one. Requests get a number (`rid`) when Python first meets them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vivarium_protocol::control::PoolKey;
use vivarium_protocol::message::Phase;
use vivarium_protocol::policy::is_default;
use vivarium_protocol::region::Owner;

use super::after::{CleanupPart, Job, LogPart};
use super::body::Output;
use super::exchange::Conversation;
use super::{Fault, queues};
use crate::apache::next_request;
use crate::apache::request::Request;
use crate::apache::server::{self, Server};
use crate::config::dir::{FilterDef, Handler};
use crate::grants;
use crate::link::pool::Pool;
use crate::tenants::bulkhead::{self, Place};

static TREES: AtomicU64 = AtomicU64::new(1);

/// A number for a new tree, or for a connection that Python handles.
pub(crate) fn next_tree() -> u64 {
    TREES.fetch_add(1, Ordering::Relaxed)
}

/// A request of a tree, and what we keep for it.
pub(crate) struct Entry {
    request: Cell<Option<Request<'static>>>,
    pub(crate) rid: u32,
    pub(crate) output: Output,
    /// Result of `ap_setup_client_block`, once it was called.
    pub(crate) body_setup: Cell<Option<i32>>,
    /// Some of the request's body was asked for.
    pub(crate) body_begun: Cell<bool>,
    /// The end of the request's body was seen.
    pub(crate) body_ended: Cell<bool>,
    /// Python has named the request's file, or said what is known of it.
    pub(crate) file_told: Cell<bool>,
    /// Python has set a header that cannot be sent: the phase fails.
    pub(crate) bad_header: Cell<bool>,
    /// Python was entered for the request, or has asked about it.
    pub(crate) met: Cell<bool>,
    /// Its `PythonCleanupHandler`, as far as known, and the pool that it runs in.
    cleanup: RefCell<Option<CleanupPart>>,
    /// Phases that handlers have added handlers for, a bit each by number, and by the pool that has the handlers.
    added: Cell<u32>,
    added_in: RefCell<Vec<(PoolKey, u32)>>,
    /// Filters that handlers registered for this request.
    pub(crate) own_filters: RefCell<Vec<OwnFilter>>,
    /// The client's next request is looked for after it.
    pub(crate) next_is_looked_for: bool,
    /// What is kept for its tenant's sake.
    pub(crate) guard: grants::Record,
}

/// A filter that a handler registered, and whose handler it was: by the time that it runs, the request may be in another
/// tenant's section.
#[derive(Clone)]
pub(crate) struct OwnFilter {
    pub(crate) tenant: Box<str>,
    pub(crate) definition: FilterDef,
}

impl OwnFilter {
    /// Whether it has this name, in lower case.
    pub(crate) fn is(&self, name: &[u8], is_input: bool) -> bool {
        self.definition.is_input == is_input && *self.definition.name == *name
    }
}

impl Entry {
    /// The filter of a name, in lower case, that a tenant has registered for this request.
    pub(crate) fn own_filter(
        &self,
        tenant: &str,
        name: &[u8],
        is_input: bool,
    ) -> Option<OwnFilter> {
        let own = self.own_filters.borrow();
        own.iter().find(|f| *f.tenant == *tenant && f.is(name, is_input)).cloned()
    }

    /// Notes that Python has added handlers for a phase, in the pool of this key.
    pub(crate) fn want(&self, phase: Phase, key: &PoolKey) {
        let bit = 1 << phase as u32;
        self.added.set(self.added.get() | bit);
        let mut all = self.added_in.borrow_mut();
        match all.iter_mut().find(|(k, _)| k == key) {
            Some((_, phases)) => *phases |= bit,
            None => all.push((key.clone(), bit)),
        }
    }

    /// The pools that have handlers for a phase, in the order in which they had their first.
    pub(crate) fn wanted_in(&self, phase: Phase) -> Vec<PoolKey> {
        let all = self.added_in.borrow();
        let wanted = all.iter().filter(|(_, phases)| phases & 1 << phase as u32 != 0);
        wanted.map(|(key, _)| key.clone()).collect()
    }

    /// Whether it has.
    pub(crate) fn wants(&self, phase: Phase) -> bool {
        self.added.get() & 1 << phase as u32 != 0
    }

    /// The handlers that run for the request after everything else.
    pub(crate) fn set_cleanup_handlers(&self, key: PoolKey, handlers: Arc<Vec<Handler>>) {
        *self.cleanup.borrow_mut() = Some(CleanupPart { rid: self.rid, key, handlers });
    }

    /// The request, while it lives.
    pub(crate) fn request(&self) -> Option<Request<'static>> {
        self.request.get()
    }
}

/// The worker that holds a tree's objects in one pool.
struct Home {
    pool: Arc<Pool>,
    owner: Owner,
    cleanups: bool,
}

/// A tree.
pub(crate) struct Tree {
    pub(crate) id: u64,
    entries: RefCell<Vec<Rc<Entry>>>,
    running: RefCell<Vec<Rc<Conversation>>>,
    homes: RefCell<Vec<Home>>,
    filters: Cell<u32>,
    /// What was taken down for the log handlers.
    log: RefCell<Option<LogPart>>,
    /// For log lines after the end: client address and virtual host.
    client: Vec<u8>,
    server: u32,
    /// Confined tenants whose redirects are being carried out, innermost last.
    bound: RefCell<Vec<Box<str>>>,
    strayed: Cell<bool>,
    /// The places that it has of confined tenants: one, unless one's Python runs inside another's.
    places: RefCell<Vec<Place>>,
    /// The answer's length is counted.
    watched: Cell<bool>,
    /// No phase of Python's is left before the answer's end.
    answered: Cell<bool>,
    /// The client's next request is looked for after the answer.
    next_is_looked_for: bool,
}

/// What hangs on a request's configuration vector.
struct Slot {
    tree: Rc<Tree>,
    entry: Rc<Entry>,
}

/// A request's slot, held by the request's pool.
struct SlotOwner(Slot);

impl Drop for SlotOwner {
    fn drop(&mut self) {
        // The request goes: a worker that still names it gets an error.
        self.0.entry.request.set(None);
        self.0.entry.output.forget();
    }
}

impl Tree {
    /// Whether nothing can come after the log handlers of `r`: it is all there is of the tree, and has no clean-up
    /// handlers.
    pub(crate) fn ends_with_log(&self, r: Request<'_>) -> bool {
        let cleans_up = r.dir_conf().is_some_and(|c| c.has_phase(Phase::Cleanup))
            || Self::known(r).is_some_and(|(_, entry)| entry.wants(Phase::Cleanup));
        self.entries.borrow().len() == 1 && !cleans_up
    }

    /// The tree of a request and the request's entry; made if Python meets it for the first time.
    pub(crate) fn of(r: Request<'_>) -> (Rc<Self>, Rc<Entry>) {
        if let Some(slot) = slot(r) {
            return (Rc::clone(&slot.tree), Rc::clone(&slot.entry));
        }
        let root = r.root();
        let tree = if let Some(slot) = slot(root) {
            Rc::clone(&slot.tree)
        } else {
            let tree = Rc::new(Self::new(root));
            if root != r {
                tree.add(root);
            }
            tree
        };
        let entry = tree.add(r);
        (tree, entry)
    }

    /// The tree of a request that Python has met.
    pub(crate) fn known(r: Request<'_>) -> Option<(Rc<Self>, Rc<Entry>)> {
        slot(r).map(|slot| (Rc::clone(&slot.tree), Rc::clone(&slot.entry)))
    }

    fn new(root: Request<'_>) -> Self {
        let client = match root.field(vivarium_protocol::fields::Field::UseragentIp) {
            vivarium_protocol::fields::Value::Str(ip) => ip.to_vec(),
            _ => Vec::new(),
        };
        Self {
            id: next_tree(),
            entries: RefCell::default(),
            running: RefCell::default(),
            homes: RefCell::default(),
            filters: Cell::new(0),
            log: RefCell::default(),
            client,
            server: root.server().number(),
            bound: RefCell::default(),
            strayed: Cell::new(false),
            places: RefCell::default(),
            watched: Cell::new(false),
            answered: Cell::new(false),
            next_is_looked_for: next_request::look_after(root),
        }
    }

    /// Numbers a request.
    fn add(self: &Rc<Self>, r: Request<'_>) -> Rc<Entry> {
        let mut entries = self.entries.borrow_mut();
        let entry = Rc::new(Entry {
            request: Cell::new(Some(r.for_ever())),
            rid: entries.len() as u32,
            output: Output::default(),
            body_setup: Cell::new(None),
            body_begun: Cell::new(false),
            body_ended: Cell::new(false),
            file_told: Cell::new(false),
            bad_header: Cell::new(false),
            met: Cell::new(false),
            cleanup: RefCell::default(),
            added: Cell::new(0),
            added_in: RefCell::default(),
            own_filters: RefCell::default(),
            next_is_looked_for: self.next_is_looked_for && r.main().is_none(),
            guard: grants::Record::default(),
        });
        entries.push(Rc::clone(&entry));
        let slot =
            r.pool().own(SlotOwner(Slot { tree: Rc::clone(self), entry: Rc::clone(&entry) }));
        r.set_own_data((&raw const slot.0).cast_mut().cast());
        entry
    }

    /// The entry of a number from a worker.
    pub(crate) fn entry(&self, rid: u32) -> Option<Rc<Entry>> {
        self.entries.borrow().get(rid as usize).cloned()
    }

    /// The number of a request, if it has one; a relation that Python has not met yet gets one.
    pub(crate) fn number(self: &Rc<Self>, r: Option<Request<'_>>) -> Option<u32> {
        let r = r?;
        Some(slot(r).map_or_else(|| self.add(r).rid, |s| s.entry.rid))
    }

    /// The conversation that runs now in a pool, innermost first.
    pub(crate) fn running(&self, key: &PoolKey) -> Option<Rc<Conversation>> {
        self.running.borrow().iter().rev().find(|c| c.pool().key() == key).cloned()
    }

    /// The confined tenant whose redirect is being carried out: requests of the tree may not leave its area.
    pub(crate) fn bound_to(&self) -> Option<Box<str>> {
        self.bound.borrow().last().cloned()
    }

    /// Carries out a redirect of a confined tenant.
    /// Whether it stayed where it may go.
    pub(crate) fn within(&self, tenant: &str, redirect: impl FnOnce()) -> bool {
        self.bound.borrow_mut().push(tenant.into());
        redirect();
        self.bound.borrow_mut().pop();
        !self.strayed.take()
    }

    /// A request that was redirected by a confined tenant is where it may not go.
    pub(crate) fn stray(&self) {
        self.strayed.set(true);
    }

    /// The virtual host that the tree's root came to.
    pub(crate) fn server(&self) -> Option<Server<'static>> {
        server::main().and_then(|m| m.chain().find(|s| s.number() == self.server))
    }

    /// Whether a conversation with a tenant runs now: then this thread has a place of it.
    pub(crate) fn runs_tenant(&self, tenant: &str) -> bool {
        self.running.borrow().iter().any(|c| c.pool().key().tenant == tenant)
    }

    /// A place for a phase. A tree keeps the place that its first phase has got, so that no later one is refused for want of
    /// it; after [`answered`](Self::answered) a place is for one phase.
    pub(crate) fn place(&self, key: &PoolKey) -> Result<Place, Fault> {
        let has = |p: &Place| p.tenant() == Some(&*key.tenant);
        if self.runs_tenant(&key.tenant) || self.places.borrow().iter().any(has) {
            return Ok(Place::within());
        }
        if !is_default(&key.tenant) {
            // Nobody waits for one tenant with another's place in hand, unless that one's Python is at work.
            self.places.borrow_mut().retain(|p| p.tenant().is_some_and(|t| self.runs_tenant(t)));
        }
        let place = bulkhead::enter_for(key)?;
        if place.tenant().is_none() || self.answered.get() {
            return Ok(place);
        }
        let since = place.since;
        self.places.borrow_mut().push(place);
        Ok(Place::within_since(since))
    }

    /// Whether the answer's length is counted already; it is from now on.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.replace(true)
    }

    /// The answer is made, or somebody else makes it: gives the places back, unless Python is at work.
    pub(crate) fn answered(&self) {
        if self.running.borrow().is_empty() {
            self.answered.set(true);
            self.places.borrow_mut().clear();
        }
    }

    pub(crate) fn begin(&self, c: &Rc<Conversation>) {
        self.running.borrow_mut().push(Rc::clone(c));
    }

    pub(crate) fn end(&self, c: &Rc<Conversation>) {
        self.running.borrow_mut().retain(|other| !Rc::ptr_eq(other, c));
    }

    /// Where the tree's objects are in a pool of this name.
    pub(crate) fn home(&self, key: &PoolKey) -> Option<(Arc<Pool>, Owner)> {
        let homes = self.homes.borrow();
        homes.iter().find(|h| h.pool.key() == key).map(|h| (Arc::clone(&h.pool), h.owner))
    }

    /// A worker keeps the tree's objects.
    pub(crate) fn keep(&self, pool: &Arc<Pool>, owner: Owner, cleanups: bool) {
        let mut homes = self.homes.borrow_mut();
        match homes.iter_mut().find(|h| Arc::ptr_eq(&h.pool, pool) && h.owner == owner) {
            Some(home) => home.cleanups |= cleanups,
            None => homes.push(Home { pool: Arc::clone(pool), owner, cleanups }),
        }
    }

    /// What the log handlers will see.
    pub(crate) fn set_log(&self, log: LogPart) {
        *self.log.borrow_mut() = Some(log);
    }

    /// A number for a new filter instance.
    pub(crate) fn next_filter(&self) -> u32 {
        let n = self.filters.get();
        self.filters.set(n + 1);
        n
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left to do may need one.
        self.places.get_mut().clear();
        let homes = std::mem::take(self.homes.get_mut());
        let log = self.log.get_mut().take();
        let entries = std::mem::take(self.entries.get_mut());
        if homes.is_empty() && log.is_none() {
            return;
        }
        queues::queue(Job {
            tree: self.id,
            tenant: "".into(),
            homes: homes.into_iter().map(|h| (h.pool, h.owner, h.cleanups)).collect(),
            log,
            // Those of requests that Python has met. Sub-requests came later and go first.
            cleanup: entries
                .iter()
                .rev()
                .filter(|e| e.met.get())
                .filter_map(|e| e.cleanup.borrow_mut().take())
                .collect(),
            client: std::mem::take(&mut self.client),
            server: self.server,
        });
    }
}

#[allow(unsafe_code)]
fn slot(r: Request<'_>) -> Option<&Slot> {
    // SAFETY: only `Tree::add` sets our data of a request, to a slot that the request's pool owns.
    unsafe { r.own_data().cast::<Slot>().as_ref() }
}
