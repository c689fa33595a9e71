//! What frames carry.
//!
//! `Enter` and snapshots are on the hot path and hand-coded ([`crate::wire`]); calls, replies and `Leave` are serde
//! types through [`crate::codec`]; lists of changes are hand-coded.

use serde::{Deserialize, Serialize};

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
    /// After the request: clean-ups that it registered, then `PythonCleanupHandler`. Also the last word on its tree.
    Cleanup = 12,
    Connection = 13,
    InputFilter = 14,
    OutputFilter = 15,
    /// The tree is over and nothing is to run: forget it.
    Forget = 16,
    Ssi = 17,
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
        }
    }

    /// The phase of a wire number.
    pub fn from_u8(n: u8) -> Option<Self> {
        use Phase::{
            Access, Authen, Authz, Cleanup, Connection, Content, Fixup, Forget, HeaderParser, Init,
            InputFilter, Log, OutputFilter, PostReadRequest, Ssi, Trans, Type,
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

/// The filter that an `Enter` of a filter phase runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterRef<'a> {
    /// Distinguishes the filter's instances in the tree: the same one is entered for every brigade.
    pub id: u32,
    /// Its registered name.
    pub name: &'a [u8],
    /// Input or output.
    pub is_input: bool,
}

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
            k @ (1 | 2) => Some(FilterRef {
                id: r.u32("filter id")?,
                name: r.bytes("filter name")?,
                is_input: k == 2,
            }),
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
        value(row.field).write(w);
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

/// What Python may know of a connection. In an `Enter` and in [`Reply::Connection`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// `conn.local_addr`: address and port.
    pub local: (Vec<u8>, u16),
    /// `conn.client_addr`: address and port.
    pub client: (Vec<u8>, u16),
    /// `conn.remote_host`, if it was looked up.
    pub remote_host: Option<Vec<u8>>,
    /// `conn.remote_logname`.
    pub remote_logname: Option<Vec<u8>>,
    /// `conn.local_host`.
    pub local_host: Option<Vec<u8>>,
    /// `conn.aborted`.
    pub aborted: bool,
    /// `conn.keepalive`: `AP_CONN_UNKNOWN` 0, `CLOSE` 1, `KEEPALIVE` 2.
    pub keepalive: i32,
    /// `conn.double_reverse`.
    pub double_reverse: i32,
    /// `conn.keepalives`.
    pub keepalives: i32,
    /// `conn.id`.
    pub id: i64,
    /// Number of the virtual host of the address (`conn.base_server`).
    pub base_server: u32,
    /// `conn.notes`, encoded ([`crate::table`]).
    pub notes: Vec<u8>,
}

/// What Python may know of a virtual host. Constant for the life of the httpd child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ServerInfo {
    /// Number of the next virtual host in httpd's list.
    pub next: Option<u32>,
    pub defn_name: Option<Vec<u8>>,
    pub defn_line_number: u32,
    pub server_admin: Option<Vec<u8>>,
    pub server_hostname: Option<Vec<u8>>,
    pub port: u16,
    pub error_fname: Option<Vec<u8>>,
    pub loglevel: i32,
    pub is_virtual: bool,
    /// Seconds.
    pub timeout: f64,
    /// Seconds.
    pub keep_alive_timeout: f64,
    pub keep_alive_max: i32,
    pub keep_alive: i32,
    pub path: Option<Vec<u8>>,
    pub names: Vec<Vec<u8>>,
    pub wild_names: Vec<Vec<u8>>,
    pub limit_req_line: i32,
    pub limit_req_fieldsize: i32,
    pub limit_req_fields: i32,
    /// The scheme of `ServerName`, if given.
    pub server_scheme: Option<Vec<u8>>,
    /// `server.get_config()`, encoded.
    pub config: Vec<u8>,
    /// `server.get_options()`, encoded.
    pub options: Vec<u8>,
    /// How many seconds httpd has been counting generations, and which it is.
    pub my_generation: i32,
    /// Microseconds since 1970.
    pub restart_time: i64,
}

/// Where a log line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogScope {
    /// With the request's client and the virtual host's log (`ap_log_rerror`).
    Request,
    /// With the connection's client (`ap_log_cerror`).
    Connection,
    /// The virtual host of this number (`ap_log_error`).
    Server(u32),
}

/// A request of the worker that httpd carries out and answers with one [`Reply`]. The frame header's `rid` says for
/// which request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call<'a> {
    /// Read up to this many bytes of the request body (`None`: all of it), blocking as httpd does. Answer: `Data` frames,
    /// then [`Reply::Int`] with their total; less than asked only at the end of the body.
    Read(Option<u64>),
    /// Read what comes next of the request body, at most this many bytes, at least one unless at the end. Answer as `Read`.
    ReadSome(u32),
    /// In a filter phase: the next bytes of the brigade. Answer: `Data` frames, then [`Reply::Int`], or [`Reply::None`]
    /// at the end of the stream. `None`: all that is there.
    FilterRead(Option<u64>),
    /// In a filter phase: flush what was written so far.
    FilterFlush,
    /// In a filter phase: end the stream.
    FilterClose,
    /// In a filter phase: hand the rest of the brigade on as it is.
    FilterPassOn,
    /// In a filter phase: take the filter out of the chain after this.
    FilterDisable,
    /// Write the line to the error log; it is there when the reply comes. Level: syslog 0 to 7.
    Log {
        /// Where.
        scope: LogScope,
        /// syslog number.
        level: u8,
        /// One line, or several; httpd escapes what is not printable.
        text: &'a [u8],
    },
    /// Send what has been written so far to the client now.
    Flush,
    /// Send a file whose descriptor was sent on the region's descriptor socket with this serial number. Answer:
    /// [`Reply::Int`] with the bytes sent.
    SendFile {
        /// The serial number.
        serial: u32,
        /// First byte.
        offset: u64,
        /// Number of bytes; `None`: up to the end.
        len: Option<u64>,
    },
    /// `ap_internal_redirect`. Python may be entered meanwhile.
    InternalRedirect(&'a [u8]),
    /// Put a registered filter on the request.
    AddFilter {
        /// Its name.
        name: &'a [u8],
        /// Input or output.
        is_input: bool,
    },
    /// Register a Python filter for this request under `name`.
    RegisterFilter {
        /// Its name.
        name: &'a [u8],
        /// Input or output.
        is_input: bool,
        /// `module[::object]`.
        handler: &'a [u8],
        /// Directory for the search path.
        directory: Option<&'a [u8]>,
    },
    /// A field's value now. Answer: [`Reply::Value`].
    Field(u8),
    /// A table's contents now. Answer: [`Reply::Bytes`] (encoded table).
    Table(TableId),
    /// The request's whole snapshot. Answer: [`Reply::Bytes`].
    Snapshot,
    /// The connection. Answer: [`Reply::Connection`].
    Connection,
    /// A virtual host. Answer: [`Reply::Server`].
    Server(u32),
    /// `ap_add_common_vars` and `ap_add_cgi_vars`. Answer: `Ok`; the tables are stale then.
    AddCgiVars,
    /// A plain operation of [`Op`] without arguments beyond a number and a text.
    Op {
        /// Which.
        op: Op,
        /// Its number, or 0.
        number: i64,
        /// Its text, or empty.
        text: &'a [u8],
    },
}

/// Operations with at most a number and a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// `ap_auth_name`: [`Reply::Text`].
    AuthName,
    /// `ap_auth_type`: [`Reply::Text`].
    AuthType,
    /// `ap_construct_url(text)`: [`Reply::Text`].
    ConstructUrl,
    /// `ap_discard_request_body`: [`Reply::Int`].
    DiscardRequestBody,
    /// `ap_document_root`: [`Reply::Text`].
    DocumentRoot,
    /// `ap_get_basic_auth_pw`: [`Reply::Text`]; sets the user.
    BasicAuthPassword,
    /// `ap_get_useragent_host(number = type)`: [`Reply::Text`].
    RemoteHost,
    /// `ssl_is_https`: [`Reply::Int`].
    IsHttps,
    /// `ssl_var_lookup(text)`: [`Reply::Text`].
    SslVar,
    /// `ap_meets_conditions`: [`Reply::Int`].
    MeetsConditions,
    /// `ap_set_content_length(number)`: `Ok`.
    SetContentLength,
    /// `ap_set_etag`: `Ok`.
    SetEtag,
    /// `ap_set_last_modified`: `Ok`.
    SetLastModified,
    /// `ap_update_mtime(number = microseconds)`: `Ok`.
    UpdateMtime,
    /// `ap_allow_methods`: text is a space-separated list; number 1 resets first: `Ok`.
    AllowMethods,
    /// `ap_server_root`: [`Reply::Text`].
    ServerRoot,
    /// `ap_mpm_query(number)`: [`Reply::Int`].
    MpmQuery,
    /// `ap_exists_config_define(text)`: [`Reply::Int`].
    ExistsConfigDefine,
}

/// The answer to a [`Call`], or to a `Body` frame with the sync flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply<'a> {
    /// Done.
    Ok,
    /// There is nothing.
    None,
    /// A number.
    Int(i64),
    /// Text or nothing.
    Text(Option<&'a [u8]>),
    /// Encoded data.
    Bytes(&'a [u8]),
    /// An encoded [`Value`].
    Value(&'a [u8]),
    /// A connection.
    Connection(ConnectionInfo),
    /// A virtual host.
    Server(ServerInfo),
    /// It could not be done.
    Error {
        /// Which Python exception this becomes.
        kind: ErrorKind,
        /// Its message.
        text: &'a [u8],
    },
}

/// Which Python exception an error reply becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// `OSError` (mod_python's `IOError`): the client is gone, a read timed out.
    Io,
    /// `ValueError`.
    Value,
    /// `PermissionError`: a grant is missing.
    Permission,
    /// `apache.SERVER_RETURN` with the number at the head of the text.
    ServerReturn,
    /// `RuntimeError`: not possible in this phase.
    State,
}

/// The end of an `Enter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// What the phase returns to httpd (`OK` 0, `DECLINED` -1, `DONE` -2, or an HTTP status).
    pub result: i32,
    /// The worker keeps the tree's objects: send [`Phase::Cleanup`] or [`Phase::Forget`] when the tree is over.
    pub keep: bool,
    /// Clean-ups are registered: [`Phase::Cleanup`] has something to run even without handlers.
    pub cleanups: bool,
}

/// One change to the request that a `Changes` frame names; the frame's payload is a list of these back to back.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<'a> {
    /// Assign a field.
    Field(Field, Value<'a>),
    /// Replace all values of a key by one.
    Set(TableId, &'a [u8], &'a [u8]),
    /// Append a pair.
    Add(TableId, &'a [u8], &'a [u8]),
    /// Remove all values of a key.
    Unset(TableId, &'a [u8]),
    /// Remove everything.
    Clear(TableId),
    /// `conn.keepalive = n`.
    Keepalive(i32),
}

impl<'a> Change<'a> {
    /// Appends the change.
    pub fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Field(field, value) => {
                w.u8(0);
                w.u8(*field as u8);
                value.write(w);
            }
            Self::Set(t, k, v) => {
                w.u8(1);
                w.u8(*t as u8);
                w.bytes(k);
                w.bytes(v);
            }
            Self::Add(t, k, v) => {
                w.u8(2);
                w.u8(*t as u8);
                w.bytes(k);
                w.bytes(v);
            }
            Self::Unset(t, k) => {
                w.u8(3);
                w.u8(*t as u8);
                w.bytes(k);
            }
            Self::Clear(t) => {
                w.u8(4);
                w.u8(*t as u8);
            }
            Self::Keepalive(n) => {
                w.u8(5);
                w.i64(i64::from(*n));
            }
        }
    }

    /// Reads the next change; `None` at the end of the list.
    ///
    /// # Errors
    /// [`WireError`]: an unknown kind, field or table, a value of another type than the field's, a read-only field.
    pub fn read(r: &mut Reader<'a>) -> Result<Option<Self>, WireError> {
        if r.remaining() == 0 {
            return Ok(None);
        }
        let at = r.position();
        let bad = |what| WireError { at, what };
        let kind = r.u8("change")?;
        let table = |r: &mut Reader<'a>| {
            TableId::from_u8(r.u8("table number")?).ok_or(bad("table number"))
        };
        Ok(Some(match kind {
            0 => {
                let field = Field::from_u8(r.u8("field number")?).ok_or(bad("field number"))?;
                let value = Value::read(r)?;
                let row = field.row();
                let fits = match (&value, row.kind) {
                    (Value::Str(s), crate::fields::Type::Str | crate::fields::Type::OptStr) => {
                        !s.contains(&0)
                    }
                    (Value::None, crate::fields::Type::OptStr)
                    | (Value::Int(_), crate::fields::Type::Int | crate::fields::Type::Seconds) => true,
                    _ => false,
                };
                if !row.writable || !fits {
                    return Err(bad("field value"));
                }
                Self::Field(field, value)
            }
            1 => Self::Set(table(r)?, r.bytes("key")?, r.bytes("value")?),
            2 => Self::Add(table(r)?, r.bytes("key")?, r.bytes("value")?),
            3 => Self::Unset(table(r)?, r.bytes("key")?),
            4 => Self::Clear(table(r)?),
            5 => Self::Keepalive(
                i32::try_from(r.i64("keepalive")?).ok().filter(|n| (0..=2).contains(n)).ok_or(
                    bad("keepalive"),
                )?,
            ),
            _ => return Err(bad("change")),
        }))
    }
}
