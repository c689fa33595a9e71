//! Calls of the worker, httpd's replies, and the end of an `Enter`: serde types through [`crate::codec`].

use std::cell::Cell;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::TableId;

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
    /// `ap_add_common_vars` and the variables of a CGI script, without `PATH_TRANSLATED` (which would cost a sub-request)
    /// and with the path alone in `REQUEST_URI`, as mod_python has it. Answer: `Ok`; the tables are stale then.
    AddCgiVars,
    /// In a connection phase: read up to this many bytes (`None`: until the client closes). Answer as `Read`.
    ConnectionRead(Option<u64>),
    /// In a connection phase: read a line with its end, at most this many bytes. Answer as `Read`.
    ConnectionReadLine(Option<u64>),
    /// In a connection phase: send these bytes (at most 64 KiB) now.
    ConnectionWrite(#[serde(borrow)] &'a [u8]),
    /// An argument of the phase (SSI and providers), counted from 0. Answer: [`Reply::Text`].
    Argument(u8),
    /// The phase's answer beside its number (a realm hash). At most 4096 bytes, no NUL.
    Answer(#[serde(borrow)] &'a [u8]),
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
    /// The worker holds handlers that were added to the request for phase `number` ([`Phase`](super::Phase)): enter that phase even
    /// if none are configured for it: `Ok`.
    AddedHandler,
    /// The `Require` lines that apply, one line each: [`Reply::Text`], or nothing.
    Requires,
    /// The extensions that `AddHandler` maps to us, separated by spaces: [`Reply::Text`].
    AddHandlerExtensions,
    /// The parsed configuration: [`Reply::Bytes`] with an encoded list of [`ConfigNode`].
    ConfigTree,
    /// `ap_add_common_vars`: `Ok`; the tables are stale then.
    AddCommonVars,
}

/// A directive of the parsed configuration, for `apache.config_tree()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigNode {
    /// Its name; containers begin with `<`.
    #[serde(with = "crate::codec::bytes")]
    pub directive: Vec<u8>,
    /// The rest of its line.
    #[serde(with = "crate::codec::bytes")]
    pub args: Vec<u8>,
    /// What a container holds; at most [`MAX_NESTING`] levels deep.
    #[serde(deserialize_with = "nested")]
    pub children: Vec<ConfigNode>,
}

/// How deep a [`ConfigNode`] may nest.
pub const MAX_NESTING: u32 = 64;

/// Reads children, counting the levels: without a limit a few bytes a level would overflow the reader's stack. Makes
/// room for them one by one, not for as many as are promised.
fn nested<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ConfigNode>, D::Error> {
    struct Children;
    impl<'de> Visitor<'de> for Children {
        type Value = Vec<ConfigNode>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of directives")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<ConfigNode>, A::Error> {
            let mut children = Vec::new();
            while let Some(child) = seq.next_element()? {
                children.push(child);
            }
            Ok(children)
        }
    }
    thread_local! {
        static LEVELS: Cell<u32> = const { Cell::new(0) };
    }
    let level = LEVELS.get();
    if level >= MAX_NESTING {
        return Err(D::Error::custom("the configuration nests too deeply"));
    }
    LEVELS.set(level + 1);
    let children = deserializer.deserialize_seq(Children);
    LEVELS.set(level);
    children
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
    /// An encoded [`Value`](crate::fields::Value).
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
    /// The worker keeps the tree's objects: send [`Phase::Cleanup`](super::Phase::Cleanup) or [`Phase::Forget`](super::Phase::Forget) when the tree is over.
    pub keep: bool,
    /// Clean-ups are registered: [`Phase::Cleanup`](super::Phase::Cleanup) has something to run even without handlers.
    pub cleanups: bool,
}

/// What a worker does and knows before its first request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Startup {
    /// `PythonImport` of this interpreter: `module` or `module::function`, in the order in which they are to be done.
    pub imports: Vec<Vec<u8>>,
    /// The main server, for `apache.main_server`.
    pub main_server: ServerInfo,
}
