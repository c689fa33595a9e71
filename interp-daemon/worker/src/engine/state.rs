//! What the worker knows of one request: httpd's snapshot, what was assigned since, and what is out of date.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use vivarium_protocol::fields::{FIELDS, Field, Value, When};
use vivarium_protocol::frame::NO_RID;
use vivarium_protocol::message::{Change, SNAPSHOT_TABLES, TableId};
use vivarium_protocol::wire::{Reader, WireError, Writer};

use super::buffers::Buffer;
use super::lock;
use super::tree::Tree;

const _: () = assert!(FIELDS.len() <= 64, "stale fields are kept in one u64");

/// A pending change list is sent on its own when it is longer than this.
pub(crate) const MAX_PENDING: usize = 1 << 20;

const fn mask(which: When) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < FIELDS.len() {
        if FIELDS[i].when as u8 == which as u8 {
            bits |= 1 << i;
        }
        i += 1;
    }
    bits
}

/// Fields that are out of date once output was sent.
pub(crate) const LIVE: u64 = mask(When::Live) | ASKED;
/// Fields that no snapshot has.
pub(crate) const ASKED: u64 = mask(When::Asked);
/// Tables that output changes.
pub(crate) const OUTPUT_TABLES: u16 =
    1 << TableId::HeadersOut as u16 | 1 << TableId::ErrHeadersOut as u16;
/// All tables of a snapshot.
pub(crate) const ALL_TABLES: u16 = (1 << SNAPSHOT_TABLES.len()) - 1;

/// A field's value that the worker holds apart from a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Owned {
    /// Not there.
    None,
    /// Text.
    Str(Box<[u8]>),
    /// A number, or microseconds.
    Int(i64),
    /// Values in order.
    Tuple(Vec<Owned>),
}

impl Owned {
    /// Copies a decoded value.
    pub(crate) fn of(value: &Value<'_>) -> Self {
        match value {
            Value::None => Self::None,
            Value::Str(s) => Self::Str((*s).into()),
            Value::Int(n) => Self::Int(*n),
            Value::Tuple(items) => Self::Tuple(items.iter().map(Self::of).collect()),
        }
    }

    /// The value as it goes over the wire.
    pub(crate) fn borrow(&self) -> Value<'_> {
        match self {
            Self::None => Value::None,
            Self::Str(s) => Value::Str(s),
            Self::Int(n) => Value::Int(*n),
            Self::Tuple(items) => Value::Tuple(items.iter().map(Self::borrow).collect()),
        }
    }
}

/// Where the parts of a snapshot lie in its payload.
#[derive(Debug)]
struct Index {
    prev: u32,
    next: u32,
    main: u32,
    server: u32,
    fields: [u32; FIELDS.len()],
    tables: [(u32, u32); SNAPSHOT_TABLES.len()],
}

/// A snapshot inside a payload; taken apart when something of it is first looked at.
#[derive(Debug, Clone)]
pub(crate) struct Snap {
    payload: Arc<Buffer>,
    start: usize,
    len: usize,
}

impl Snap {
    /// The snapshot that `part`, a slice of `payload`, holds.
    pub(crate) fn new(payload: &Arc<Buffer>, part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - payload.as_ptr() as usize;
        Self { payload: Arc::clone(payload), start, len: part.len() }
    }

    /// The encoded bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.payload[self.start..self.start + self.len]
    }

    fn index(&self) -> Result<Box<Index>, WireError> {
        let mut r = Reader::new(self.bytes());
        let (prev, next) = (r.u32("prev")?, r.u32("next")?);
        let (main, server) = (r.u32("main")?, r.u32("server")?);
        let mut index = Box::new(Index {
            prev,
            next,
            main,
            server,
            fields: [0; FIELDS.len()],
            tables: [(0, 0); SNAPSHOT_TABLES.len()],
        });
        for (place, row) in index.fields.iter_mut().zip(FIELDS) {
            if !matches!(row.when, When::Asked) {
                *place = r.position() as u32;
                Value::skip(&mut r)?;
            }
        }
        for place in &mut index.tables {
            let bytes = r.bytes("table")?;
            *place = ((r.position() - bytes.len()) as u32, bytes.len() as u32);
        }
        r.finish()?;
        Ok(index)
    }
}

/// The requests that a request is related to, and its virtual host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relations {
    /// The request that was redirected to this one.
    pub(crate) prev: Option<u32>,
    /// The request that this one was redirected to.
    pub(crate) next: Option<u32>,
    /// The main request.
    pub(crate) main: Option<u32>,
    /// The virtual host's number.
    pub(crate) server: u32,
}

/// The request's state.
#[derive(Debug, Default)]
pub(crate) struct State {
    snap: Option<Snap>,
    index: Option<Box<Index>>,
    /// Values that were assigned or asked for since the snapshot.
    newer: Vec<(Field, Owned)>,
    /// A bit for each field whose value has to be asked for.
    pub(crate) stale: u64,
    /// Whether the related requests have to be asked for.
    pub(crate) stale_relations: bool,
    /// A bit for each table of the snapshot whose contents have to be asked for.
    pub(crate) stale_tables: u16,
    /// Whether the snapshot's `subprocess_env` has the CGI variables, and nothing has happened to it since.
    pub(crate) has_cgi_vars: bool,
    /// Counts the snapshots, so that tables made of an older one notice.
    pub(crate) version: u32,
    /// Encoded changes that httpd has not been told of.
    pub(crate) pending: Vec<u8>,
    /// Bytes of the request body that `readline` has read beyond its line.
    pub(crate) input: Vec<u8>,
    /// How many of those have been handed out.
    pub(crate) input_at: usize,
    /// Body bytes that httpd has handed out, by our count.
    pub(crate) body_read: u64,
    /// Whether Python has assigned `content_type`.
    pub(crate) content_type_set: bool,
    /// Bytes written without a flush after them.
    pub(crate) bytes_queued: i64,
    /// Whether a filter was added to the request, so that writes have to be synchronous.
    pub(crate) filtered: bool,
    /// The phase that runs, as a directive name.
    pub(crate) phase: Option<&'static str>,
    /// The extension that the handler list was chosen by.
    pub(crate) extension: Option<Box<[u8]>>,
}

impl State {
    fn index(&mut self) -> Result<Option<(&Snap, &Index)>, WireError> {
        let Some(snap) = &self.snap else { return Ok(None) };
        if self.index.is_none() {
            self.index = Some(snap.index()?);
        }
        Ok(self.index.as_deref().map(|index| (snap, index)))
    }

    /// Whether a field's value has to be asked for.
    pub(crate) fn is_stale(&self, field: Field) -> bool {
        self.stale >> field as u8 & 1 != 0
    }

    /// Hands the field's value, as far as it is known here, to `with`.
    pub(crate) fn field<T>(
        &mut self,
        field: Field,
        with: impl FnOnce(&Value<'_>) -> T,
    ) -> Result<T, WireError> {
        if let Some((_, value)) = self.newer.iter().find(|(f, _)| *f == field) {
            return Ok(with(&value.borrow()));
        }
        let Some((snap, index)) = self.index()? else { return Ok(with(&Value::None)) };
        if matches!(field.row().when, When::Asked) {
            return Ok(with(&Value::None));
        }
        let part = snap.bytes().get(index.fields[field as usize] as usize..).unwrap_or_default();
        Ok(with(&Value::read(&mut Reader::new(part))?))
    }

    /// Keeps a value that httpd has just told, or that Python has assigned.
    pub(crate) fn keep(&mut self, field: Field, value: Owned) {
        self.stale &= !(1 << field as u8);
        match self.newer.iter_mut().find(|(f, _)| *f == field) {
            Some(place) => place.1 = value,
            None => self.newer.push((field, value)),
        }
    }

    /// The encoded table of the snapshot: its payload and its place there.
    pub(crate) fn table(
        &mut self,
        table: TableId,
    ) -> Result<Option<(Arc<Buffer>, usize, usize)>, WireError> {
        let Some((snap, index)) = self.index()? else { return Ok(None) };
        let Some(&(at, len)) = index.tables.get(table as usize) else { return Ok(None) };
        Ok(Some((Arc::clone(&snap.payload), snap.start + at as usize, len as usize)))
    }

    /// The related requests.
    pub(crate) fn relations(&mut self) -> Result<Option<Relations>, WireError> {
        let rid = |n: u32| (n != NO_RID).then_some(n);
        Ok(self.index()?.map(|(_, i)| Relations {
            prev: rid(i.prev),
            next: rid(i.next),
            main: rid(i.main),
            server: i.server,
        }))
    }

    /// Takes over a new snapshot: everything known before gives way.
    pub(crate) fn refresh(&mut self, snap: Snap) {
        self.snap = Some(snap);
        self.index = None;
        self.newer.clear();
        self.stale = ASKED;
        self.stale_tables = 0;
        self.stale_relations = false;
        self.version = self.version.wrapping_add(1);
    }

    /// Whether there has been a snapshot.
    pub(crate) fn has_snapshot(&self) -> bool {
        self.snap.is_some()
    }

    /// The readline buffer's bytes that have not been handed out.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.input[self.input_at..]
    }

    /// Marks bytes of the readline buffer as handed out.
    pub(crate) fn consume(&mut self, n: usize) {
        self.input_at += n;
        if self.input_at >= self.input.len() {
            self.input.clear();
            self.input_at = 0;
        }
    }
}

/// One request of a tree. Shared by its Python object and its tables.
#[derive(Debug)]
pub(crate) struct Core {
    rid: u32,
    tree: Arc<Tree>,
    state: Mutex<State>,
    /// Bits that tell the tree what to look at: 1 means that changes are pending.
    dirty: AtomicU8,
}

impl Core {
    /// A request of which nothing is known yet.
    pub(crate) fn new(rid: u32, tree: Arc<Tree>) -> Self {
        let state = State { stale: ASKED, ..State::default() };
        Self { rid, tree, state: Mutex::new(state), dirty: AtomicU8::new(0) }
    }

    /// Its number in its tree; [`NO_RID`] for what belongs to the connection.
    pub(crate) fn rid(&self) -> u32 {
        self.rid
    }

    /// Its tree.
    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Its state. Never keep the guard while Python runs or while waiting.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Appends a change to those that httpd will be told of; nothing if the request is over.
    pub(crate) fn change(&self, change: &Change<'_>) {
        if self.tree.is_over() {
            return;
        }
        let mut state = self.state();
        change.write(&mut Writer::new(&mut state.pending));
        drop(state);
        self.dirty.store(1, Ordering::Release);
        self.tree.mark_dirty();
    }

    /// Takes the pending changes, leaving an empty list; none if there are no changes.
    pub(crate) fn take_pending(&self) -> Option<Vec<u8>> {
        if self.dirty.swap(0, Ordering::AcqRel) == 0 {
            return None;
        }
        Some(std::mem::take(&mut self.state().pending)).filter(|p| !p.is_empty())
    }

    /// Gives the list's memory back after sending.
    pub(crate) fn return_pending(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut state = self.state();
        if state.pending.is_empty() && bytes.capacity() <= MAX_PENDING {
            state.pending = bytes;
        }
    }

    /// Whether the CGI variables are known already: true at most once, and not after something was assigned.
    pub(crate) fn take_cgi_vars(&self) -> bool {
        let mut state = self.state();
        let stale = state.stale_tables >> TableId::SubprocessEnv as u16 & 1 != 0;
        std::mem::take(&mut state.has_cgi_vars) && !stale && state.pending.is_empty()
    }

    /// Marks fields and tables as out of date.
    pub(crate) fn spoil(&self, fields: u64, tables: u16) {
        let mut state = self.state();
        state.stale |= fields;
        state.stale_tables |= tables;
        state.stale_relations |= tables == ALL_TABLES;
    }
}
