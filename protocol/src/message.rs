//! What frames carry.
//!
//! `Enter` and snapshots are on the hot path and hand-coded ([`crate::wire`]); calls, replies and `Leave` are serde
//! types through [`crate::codec`]; lists of changes are hand-coded.

mod call;
mod change;

use serde::{Deserialize, Serialize};

pub use self::call::{
    Call, ConfigNode, ConnectionInfo, ErrorKind, Leave, LogScope, MAX_NESTING, Op, Reply,
    ServerInfo, Startup,
};
pub use self::change::Change;
use crate::fields::{FIELDS, Field, Value, When};
use crate::frame::NO_RID;
use crate::wire::{Reader, WireError, Writer};

/// A point in a request's life at which Python can run. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Phase {
    PostReadRequest = 1,
    Trans = 2,
    Init = 3,
    HeaderParser = 4,
    Access = 5,
    Authen = 6,
    Authz = 7,
    Type = 8,
    Fixup = 9,
    Content = 10,
    Log = 11,
    /// After the request: clean-ups that it registered, then `PythonCleanupHandler`. Also the last word on its tree, but
    /// with [`ENTER_MORE`].
    Cleanup = 12,
    Connection = 13,
    InputFilter = 14,
    OutputFilter = 15,
    /// The tree is over and nothing is to run: forget it.
    Forget = 16,
    /// `<!--#python eval="..." -->` and `exec`. Arguments: the attribute's name, its text.
    Ssi = 17,
    /// Provider of `mod_auth_basic`. Arguments: user, password. Result: 0 wrong, 1 right, 2 no such user.
    CheckPassword = 18,
    /// Provider of `mod_auth_digest`. Arguments: user, realm. Result: 1 with the hash as the answer, 2 no such user.
    RealmHash = 19,
    /// `Require python-group`. Arguments: the groups, separated by spaces. Result: 0 no, 1 yes.
    Groups = 20,
}

impl Phase {
    /// The directive that names this phase's handlers, which is also how mod_python's log lines call it.
    pub fn directive(self) -> &'static str {
        match self {
            Self::PostReadRequest => "PythonPostReadRequestHandler",
            Self::Trans => "PythonTransHandler",
            Self::Init => "PythonInitHandler",
            Self::HeaderParser => "PythonHeaderParserHandler",
            Self::Access => "PythonAccessHandler",
            Self::Authen => "PythonAuthenHandler",
            Self::Authz => "PythonAuthzHandler",
            Self::Type => "PythonTypeHandler",
            Self::Fixup => "PythonFixupHandler",
            Self::Content => "PythonHandler",
            Self::Log => "PythonLogHandler",
            Self::Cleanup | Self::Forget => "PythonCleanupHandler",
            Self::Connection => "PythonConnectionHandler",
            Self::InputFilter => "PythonInputFilter",
            Self::OutputFilter => "PythonOutputFilter",
            Self::Ssi => "SSI",
            Self::CheckPassword | Self::RealmHash => "PythonAuthnProvider",
            Self::Groups => "PythonAuthzProvider",
        }
    }

    /// The phase of a wire number.
    pub fn from_u8(n: u8) -> Option<Self> {
        use Phase::{
            Access, Authen, Authz, CheckPassword, Cleanup, Connection, Content, Fixup, Forget,
            Groups, HeaderParser, Init, InputFilter, Log, OutputFilter, PostReadRequest, RealmHash,
            Ssi, Trans, Type,
        };
        [
            PostReadRequest,
            Trans,
            Init,
            HeaderParser,
            Access,
            Authen,
            Authz,
            Type,
            Fixup,
            Content,
            Log,
            Cleanup,
            Connection,
            InputFilter,
            OutputFilter,
            Forget,
            Ssi,
            CheckPassword,
            RealmHash,
            Groups,
        ]
        .into_iter()
        .find(|p| *p as u8 == n)
    }
}

/// One handler of a list, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandlerRef<'a> {
    /// `module` or `module::object`.
    pub name: &'a [u8],
    /// The section's directory, with a trailing `/`; none at server level and under `<Location>`.
    pub directory: Option<&'a [u8]>,
    /// Missing functions are skipped (`PythonHandlerModule`).
    pub silent: bool,
    /// The section is a `<Location>`.
    pub is_location: bool,
}

/// `Enter`: nothing else of this tree will need Python after this phase, as far as the configuration says. The worker
/// may forget the tree at `Leave` unless handlers registered something.
pub const ENTER_LAST: u8 = 1;
/// `Enter`: writes to the request must be synchronous ([`crate::frame::BODY_SYNC`]): Python is in its filter chain.
pub const ENTER_SYNC_WRITES: u8 = 2;
/// `Enter`: `PythonDebug` is on for this request.
pub const ENTER_DEBUG: u8 = 4;
/// `Enter`: the frame carries a snapshot of the connection (the worker has not seen it in this tree).
pub const ENTER_CONNECTION: u8 = 8;

/// `Enter` of [`Phase::Cleanup`]: only for the request that it names; the tree's last word is still to come.
pub const ENTER_MORE: u8 = 16;
/// `Enter`: the tenant is confined: what is assigned to guarded fields and tables ([`crate::policy::is_guarded`],
/// [`crate::policy::is_guarded_table`]) is sent at once and followed by a question, whose answer says whether it was refused.
pub const ENTER_CONFINED: u8 = 32;
/// `Enter`: the CGI variables are in the snapshot's `subprocess_env` already, as [`Call::AddCgiVars`] would put them there.
pub const ENTER_CGI_VARS: u8 = 64;

/// The filter that an `Enter` of a filter phase runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterRef<'a> {
    /// Distinguishes the filter's instances in the tree: the same one is entered for every brigade.
    pub id: u32,
    /// Its registered name.
    pub name: &'a [u8],
    /// Input or output.
    pub is_input: bool,
    /// What it writes must be synchronous ([`crate::frame::BODY_SYNC`]) often enough: at least every [`FILTER_SYNC`] bytes.
    /// Python comes after it in the chain.
    pub is_sync: bool,
    /// The first bytes that it is to read, at most [`FILTER_AHEAD`]; empty for input filters.
    pub ahead: &'a [u8],
    /// What comes after those.
    pub then: Then,
}

/// What a filter finds when it has read what was sent ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Then {
    /// That has to be asked for.
    Ask = 0,
    /// Nothing more in this brigade.
    Nothing = 1,
    /// The end of the stream.
    End = 2,
}

/// The most bytes that are sent ahead to a filter.
pub const FILTER_AHEAD: usize = 32 << 10;
/// The most bytes that a filter with Python after it may write between two synchronous writes.
pub const FILTER_SYNC: usize = 64 << 10;

/// What a worker needs to run a phase. Everything borrows from the frame's payload.
#[derive(Debug, Clone)]
pub struct Enter<'a> {
    /// Which phase.
    pub phase: Phase,
    /// `ENTER_*`.
    pub flags: u8,
    /// The request tree: unique in the life of the httpd child.
    pub tree: u64,
    /// The handlers to run, in order.
    pub handlers: Vec<HandlerRef<'a>>,
    /// For filter phases.
    pub filter: Option<FilterRef<'a>>,
    /// The matched extension of `| .ext` lists.
    pub extension: Option<&'a [u8]>,
    /// The snapshot of the request that is entered (the frame header's `rid`); empty for [`Phase::Cleanup`] and
    /// [`Phase::Forget`]. Decode with [`Snapshot::read`].
    pub snapshot: &'a [u8],
    /// The connection's snapshot if [`ENTER_CONNECTION`]: see [`ConnectionInfo`].
    pub connection: &'a [u8],
}

/// The most handlers in one list.
const MAX_HANDLERS: u16 = 1024;

/// Writes an `Enter` up to its snapshot; then write the two sections (snapshot, connection), each by
/// [`Writer::begin_section`] and [`Writer::end_section`].
pub fn write_enter_head(
    w: &mut Writer<'_>,
    phase: Phase,
    flags: u8,
    tree: u64,
    handlers: &[HandlerRef<'_>],
    filter: Option<FilterRef<'_>>,
    extension: Option<&[u8]>,
) {
    w.u8(phase as u8);
    w.u8(flags);
    w.u64(tree);
    let count = handlers.len().min(MAX_HANDLERS as usize);
    w.u16(count as u16);
    for h in &handlers[..count] {
        w.bytes(h.name);
        w.opt_bytes(h.directory);
        w.u8(u8::from(h.silent) | u8::from(h.is_location) << 1);
    }
    match filter {
        None => w.u8(0),
        Some(f) => {
            w.u8(if f.is_input { 2 } else { 1 });
            w.u32(f.id);
            w.bytes(f.name);
            w.u8(u8::from(f.is_sync) | (f.then as u8) << 1);
            w.bytes(f.ahead);
        }
    }
    w.opt_bytes(extension);
}

impl<'a> Enter<'a> {
    /// Decodes an `Enter`'s payload.
    ///
    /// # Errors
    /// [`WireError`], trailing bytes included.
    pub fn read(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(payload);
        let phase = Phase::from_u8(r.u8("phase")?).ok_or(WireError { at: 0, what: "phase" })?;
        let flags = r.u8("enter flags")?;
        let tree = r.u64("tree")?;
        let at = r.position();
        let count = r.u16("handler count")?;
        if count > MAX_HANDLERS {
            return Err(WireError { at, what: "handler count" });
        }
        let mut handlers = Vec::with_capacity(count.min(8) as usize);
        for _ in 0..count {
            let name = r.bytes("handler")?;
            let directory = r.opt_bytes("handler directory")?;
            let bits = r.u8("handler flags")?;
            let (silent, is_location) = (bits & 1 != 0, bits & 2 != 0);
            handlers.push(HandlerRef { name, directory, silent, is_location });
        }
        let at = r.position();
        let filter = match r.u8("filter")? {
            0 => None,
            k @ (1 | 2) => {
                let (id, name) = (r.u32("filter id")?, r.bytes("filter name")?);
                let at = r.position();
                let bits = r.u8("filter flags")?;
                let then = match bits >> 1 {
                    0 => Then::Ask,
                    1 => Then::Nothing,
                    2 => Then::End,
                    _ => return Err(WireError { at, what: "filter flags" }),
                };
                let ahead = r.bytes("filter data")?;
                Some(FilterRef { id, name, is_input: k == 2, is_sync: bits & 1 != 0, ahead, then })
            }
            _ => return Err(WireError { at, what: "filter" }),
        };
        let extension = r.opt_bytes("extension")?;
        let snapshot = r.bytes("snapshot")?;
        let connection = r.bytes("connection")?;
        r.finish()?;
        Ok(Self { phase, flags, tree, handlers, filter, extension, snapshot, connection })
    }
}

/// A request's tables. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum TableId {
    /// `req.headers_in`
    HeadersIn = 0,
    /// `req.headers_out`
    HeadersOut = 1,
    /// `req.err_headers_out`
    ErrHeadersOut = 2,
    /// `req.subprocess_env`
    SubprocessEnv = 3,
    /// `req.notes`
    Notes = 4,
    /// `req.get_config()`
    Config = 5,
    /// `req.get_options()`
    Options = 6,
    /// `req.connection.notes`
    ConnectionNotes = 7,
    /// `req.server.get_config()`
    ServerConfig = 8,
    /// `req.server.get_options()`
    ServerOptions = 9,
}

/// The tables of a snapshot, in wire order.
pub const SNAPSHOT_TABLES: [TableId; 7] = [
    TableId::HeadersIn,
    TableId::HeadersOut,
    TableId::ErrHeadersOut,
    TableId::SubprocessEnv,
    TableId::Notes,
    TableId::Config,
    TableId::Options,
];

impl TableId {
    /// The table of a wire number.
    pub fn from_u8(n: u8) -> Option<Self> {
        SNAPSHOT_TABLES
            .into_iter()
            .chain([Self::ConnectionNotes, Self::ServerConfig, Self::ServerOptions])
            .find(|t| *t as u8 == n)
    }
}

/// A request as httpd has it at one moment.
///
/// Encoded: `prev`, `next`, `main` as `u32` rids ([`NO_RID`] for none), server number `u32`, then one [`Value`] for each
/// row of [`FIELDS`] that is not [`When::Asked`], then one length-prefixed table for each of [`SNAPSHOT_TABLES`].
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    /// The request that was redirected to this one.
    pub prev: u32,
    /// The request that this one was redirected to.
    pub next: u32,
    /// The main request of a sub-request.
    pub main: u32,
    /// The virtual host: ask for it by [`Call::Server`].
    pub server: u32,
    /// Field values, in the order of [`FIELDS`]; [`Value::None`] in the place of asked ones.
    pub fields: Vec<Value<'a>>,
    /// Encoded tables ([`crate::table`]), in the order of [`SNAPSHOT_TABLES`]: decode them when they are looked at.
    pub tables: [&'a [u8]; SNAPSHOT_TABLES.len()],
}

/// Writes the relations at the head of a snapshot; then call [`write_snapshot_fields`], then write the tables, each as
/// a section.
pub fn write_snapshot_head(
    w: &mut Writer<'_>,
    prev: Option<u32>,
    next: Option<u32>,
    main: Option<u32>,
    server: u32,
) {
    for rid in [prev, next, main] {
        w.u32(rid.unwrap_or(NO_RID));
    }
    w.u32(server);
}

/// Writes the field values of a snapshot.
pub fn write_snapshot_fields<'v>(w: &mut Writer<'_>, mut value: impl FnMut(Field) -> Value<'v>) {
    for row in FIELDS.iter().filter(|row| row.when != When::Asked) {
        value(row.field).write_once(w);
    }
}

impl<'a> Snapshot<'a> {
    /// Decodes a snapshot.
    ///
    /// # Errors
    /// [`WireError`], trailing bytes included.
    pub fn read(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(payload);
        let prev = r.u32("prev")?;
        let next = r.u32("next")?;
        let main = r.u32("main")?;
        let server = r.u32("server")?;
        let mut fields = Vec::with_capacity(FIELDS.len());
        for row in FIELDS {
            fields.push(match row.when {
                When::Asked => Value::None,
                _ => Value::read(&mut r)?,
            });
        }
        let mut tables = [&[][..]; SNAPSHOT_TABLES.len()];
        for table in &mut tables {
            *table = r.bytes("table")?;
        }
        r.finish()?;
        Ok(Self { prev, next, main, server, fields, tables })
    }
}
