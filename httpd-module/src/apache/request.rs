//! Requests: handles, relations, and the accessors behind the shared field list.

use core::ffi::{c_char, c_int};
use core::marker::PhantomData;
use core::ptr::NonNull;

use vivarium_protocol::fields::{Field, Value};
use vivarium_protocol::message::TableId;

use super::connection::Connection;
use super::pool::Pool;
use super::server::Server;
use super::table::Table;
use crate::config::dir::DirConf;
use crate::sys;

/// A `request_rec` that outlives `'r`. Belongs to the thread of the callback that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request<'r>(NonNull<sys::request_rec>, PhantomData<&'r *mut ()>);

impl<'r> Request<'r> {
    /// # Safety
    /// `r` is null or live for `'r`, and used by this thread alone meanwhile.
    pub(crate) unsafe fn from_raw(r: *mut sys::request_rec) -> Option<Self> {
        NonNull::new(r).map(|r| Self(r, PhantomData))
    }

    /// The same handle without its lifetime, for [`crate::conversation::tree`], which forgets it when the request's pool
    /// is destroyed.
    pub(crate) fn for_ever(self) -> Request<'static> {
        Request(self.0, PhantomData)
    }

    pub(crate) fn as_ptr(self) -> *mut sys::request_rec {
        self.0.as_ptr()
    }

    fn raw(self) -> *mut sys::request_rec {
        self.0.as_ptr()
    }

    pub(crate) fn pool(self) -> Pool<'r> {
        // SAFETY: a live request has a pool that lives as long; a request without one does not exist.
        match unsafe { Pool::from_raw((*self.raw()).pool) } {
            Some(p) => p,
            None => std::process::abort(),
        }
    }

    pub(crate) fn connection(self) -> Connection<'r> {
        // SAFETY: every request has a connection that outlives it.
        match unsafe { Connection::from_raw((*self.raw()).connection) } {
            Some(c) => c,
            None => std::process::abort(),
        }
    }

    pub(crate) fn server(self) -> Server<'r> {
        // SAFETY: every request has a server that outlives it.
        match unsafe { Server::from_raw((*self.raw()).server) } {
            Some(s) => s,
            None => std::process::abort(),
        }
    }

    /// The request that was redirected to this one.
    pub(crate) fn prev(self) -> Option<Self> {
        // SAFETY: live request; earlier requests of a redirect live in the same pool.
        unsafe { Self::from_raw((*self.raw()).prev) }
    }

    /// The request that this one was redirected to.
    pub(crate) fn next(self) -> Option<Self> {
        // SAFETY: as in `prev`.
        unsafe { Self::from_raw((*self.raw()).next) }
    }

    /// The request that this is a sub-request of.
    pub(crate) fn main(self) -> Option<Self> {
        // SAFETY: a main request outlives its sub-requests.
        unsafe { Self::from_raw((*self.raw()).main) }
    }

    /// Whether the end of its answer has been passed to its filters.
    pub(crate) fn has_ended(self) -> bool {
        // SAFETY: live request.
        unsafe { (*self.raw()).eos_sent != 0 }
    }

    /// Whether its answer is sent in chunks.
    pub(crate) fn is_chunked(self) -> bool {
        // SAFETY: live request.
        unsafe { (*self.raw()).chunked != 0 }
    }

    /// The first request of the tree: what the client asked for.
    pub(crate) fn root(self) -> Self {
        let mut r = self;
        while let Some(up) = r.main().or_else(|| r.prev()) {
            r = up;
        }
        r
    }

    /// `r->handler`.
    pub(crate) fn handler(self) -> Option<&'r [u8]> {
        // SAFETY: a string of the request's or the configuration's pool.
        unsafe { super::bytes((*self.raw()).handler) }
    }

    /// Whether somebody has been authenticated.
    pub(crate) fn has_user(self) -> bool {
        // SAFETY: live request.
        unsafe { !(*self.raw()).user.is_null() }
    }

    /// `r->filename`.
    pub(crate) fn filename(self) -> Option<&'r [u8]> {
        // SAFETY: as in `handler`.
        unsafe { super::bytes((*self.raw()).filename) }
    }

    /// Our per-directory configuration for it.
    pub(crate) fn dir_conf(self) -> Option<&'r DirConf> {
        // SAFETY: the vector lives as long as the request (`apr_pool` of request or configuration); our slot holds
        // what `create_dir_config` or `merge_dir_config` returned.
        unsafe {
            sys::ap_get_module_config((*self.raw()).per_dir_config, crate::module::ptr())
                .cast::<DirConf>()
                .as_ref()
        }
    }

    /// What we keep with the request: see [`crate::conversation::tree`].
    pub(crate) fn own_data(self) -> *mut core::ffi::c_void {
        // SAFETY: live request with a request_config vector.
        unsafe { sys::ap_get_module_config((*self.raw()).request_config, crate::module::ptr()) }
    }

    pub(crate) fn set_own_data(self, data: *mut core::ffi::c_void) {
        // SAFETY: as above.
        unsafe {
            sys::ap_set_module_config((*self.raw()).request_config, crate::module::ptr(), data);
        }
    }

    /// Whether anything of the answer has gone to the client's filters.
    pub(crate) fn output_begun(self) -> bool {
        // SAFETY: live request.
        unsafe { (*self.raw()).sent_bodyct != 0 || (*self.raw()).eos_sent != 0 }
    }

    /// Tells caches to keep away from a broken answer. The connection is left to httpd's filters, which close it when they
    /// see the error bucket: were it marked for closing before the headers are sent, the answer would lose its chunks and
    /// with them the only sign that it is not whole.
    pub(crate) fn mark_broken(self) {
        // SAFETY: live request, owned by this thread.
        unsafe {
            (*self.raw()).no_cache = 1;
            if let Some(main) = self.main() {
                (*main.raw()).no_cache = 1;
            }
        }
    }

    /// The request's input and output filter chains.
    pub(crate) fn output_filters(self) -> *mut sys::ap_filter_t {
        // SAFETY: live request.
        unsafe { (*self.raw()).output_filters }
    }

    pub(crate) fn input_filters(self) -> *mut sys::ap_filter_t {
        // SAFETY: live request.
        unsafe { (*self.raw()).input_filters }
    }

    /// Counts body bytes read, as `ap_get_client_block` does.
    pub(crate) fn count_read(self, n: usize) {
        // SAFETY: live request, owned by this thread.
        unsafe {
            (*self.raw()).read_length += n as i64;
            if (*self.raw()).remaining >= n as i64 {
                (*self.raw()).remaining -= n as i64;
            }
        }
    }

    /// Prepares reading the body as `ap_setup_client_block(REQUEST_CHUNKED_DECHUNK)` does; its status.
    pub(crate) fn setup_client_block(self) -> c_int {
        // SAFETY: live request.
        unsafe { sys::ap_setup_client_block(self.raw(), sys::REQUEST_CHUNKED_DECHUNK) }
    }

    /// Whether the request has a body, as far as its headers say.
    pub(crate) fn has_body(self) -> bool {
        // SAFETY: live request.
        unsafe { (*self.raw()).read_chunked != 0 || (*self.raw()).remaining > 0 }
    }

    /// A table of the request.
    pub(crate) fn table(self, id: TableId) -> Option<Table<'r>> {
        // SAFETY: live request; its tables live in its pool.
        unsafe {
            let raw = self.raw();
            Table::from_raw(match id {
                TableId::HeadersIn => (*raw).headers_in,
                TableId::HeadersOut => (*raw).headers_out,
                TableId::ErrHeadersOut => (*raw).err_headers_out,
                TableId::SubprocessEnv => (*raw).subprocess_env,
                TableId::Notes => (*raw).notes,
                TableId::ConnectionNotes => return self.connection().notes(),
                TableId::Config
                | TableId::Options
                | TableId::ServerConfig
                | TableId::ServerOptions => return None,
            })
        }
    }

    /// `ap_internal_redirect`.
    pub(crate) fn internal_redirect(self, uri: &[u8]) {
        let uri = self.pool().dup(uri);
        // SAFETY: live request, NUL-terminated URI in its pool.
        unsafe { sys::ap_internal_redirect(uri, self.raw()) }
    }

    /// The value of a field of the shared list.
    pub(crate) fn field(self, field: Field) -> Value<'r> {
        let opt = |p: *const c_char| {
            // SAFETY: strings of the request live as long as it does, and are replaced, not changed.
            unsafe { super::bytes(p) }.map_or(Value::None, Value::Str)
        };
        let int = |n: c_int| Value::Int(i64::from(n));
        // SAFETY: live request; every access below is a plain read of one of its members.
        unsafe {
            let r = &*self.raw().cast_const();
            match field {
                Field::TheRequest => opt(r.the_request),
                Field::Assbackwards => int(r.assbackwards),
                Field::HeaderOnly => int(r.header_only),
                Field::Protocol => opt(r.protocol),
                Field::ProtoNum => int(r.proto_num),
                Field::Hostname => opt(r.hostname),
                Field::RequestTime => Value::Int(r.request_time),
                Field::StatusLine => opt(r.status_line),
                Field::Status => int(r.status),
                Field::Method => opt(r.method),
                Field::MethodNumber => int(r.method_number),
                Field::Allowed => Value::Int(r.allowed),
                Field::AllowedXmethods => strings(r.allowed_xmethods),
                Field::AllowedMethods => match r.allowed_methods.as_ref() {
                    Some(list) => strings(list.method_list),
                    None => Value::None,
                },
                Field::SentBodyct => Value::Int(r.sent_bodyct),
                Field::BytesSent => Value::Int(r.bytes_sent),
                Field::Mtime => Value::Int(r.mtime),
                Field::Chunked => int(r.chunked),
                Field::Range => opt(r.range),
                Field::Clength => Value::Int(r.clength),
                Field::Remaining => Value::Int(r.remaining),
                Field::ReadLength => Value::Int(r.read_length),
                Field::ReadBody => int(r.read_body),
                Field::ReadChunked => int(r.read_chunked),
                Field::Expecting100 => Value::Int(i64::from(r.expecting_100)),
                Field::ContentType => opt(r.content_type),
                Field::Handler => opt(r.handler),
                Field::ContentEncoding => opt(r.content_encoding),
                Field::ContentLanguages => strings(r.content_languages),
                Field::VlistValidator => opt(r.vlist_validator),
                Field::User => opt(r.user),
                Field::ApAuthType => opt(r.ap_auth_type),
                Field::NoCache => int(r.no_cache),
                Field::NoLocalCopy => int(r.no_local_copy),
                Field::UnparsedUri => opt(r.unparsed_uri),
                Field::Uri => opt(r.uri),
                Field::Filename => opt(r.filename),
                Field::CanonicalFilename => opt(r.canonical_filename),
                Field::PathInfo => opt(r.path_info),
                Field::Args => opt(r.args),
                Field::ParsedUri => {
                    let u = &r.parsed_uri;
                    let port = if u.port_str.is_null() {
                        Value::None
                    } else {
                        Value::Int(i64::from(u.port))
                    };
                    Value::Tuple(vec![
                        opt(u.scheme),
                        opt(u.hostinfo),
                        opt(u.user),
                        opt(u.password),
                        opt(u.hostname),
                        port,
                        opt(u.path),
                        opt(u.query),
                        opt(u.fragment),
                    ])
                }
                Field::UsedPathInfo => int(r.used_path_info),
                Field::EosSent => int(r.eos_sent),
                Field::Proxyreq => int(r.proxyreq),
                Field::UseragentAddr => {
                    let port = r.useragent_addr.as_ref().map_or(0, |a| a.port);
                    Value::Tuple(vec![opt(r.useragent_ip), Value::Int(i64::from(port))])
                }
                Field::UseragentIp => opt(r.useragent_ip),
                Field::Finfo => super::finfo::read(self),
            }
        }
    }

    /// Makes what httpd believes of the size of the request's file no larger than the file is.
    pub(crate) fn limit_file_size(self) {
        super::finfo::limit(self);
    }

    /// Assigns a field. Type and writability have been checked when the change was decoded.
    pub(crate) fn set_field(self, field: Field, value: &Value<'_>) {
        let text = || match value {
            Value::Str(s) => self.pool().dup(s),
            _ => core::ptr::null_mut(),
        };
        let number = || match value {
            Value::Int(n) => c_int::try_from(*n).unwrap_or(c_int::MAX),
            _ => 0,
        };
        if let (Field::Finfo, Value::Tuple(values)) = (field, value) {
            super::finfo::write(self, values);
            return;
        }
        // SAFETY: live request, owned by this thread; strings are NUL-terminated copies in its pool.
        unsafe {
            let r = self.raw();
            match field {
                Field::ContentType => sys::ap_set_content_type(r, text()),
                Field::StatusLine => (*r).status_line = text(),
                Field::Status => (*r).status = number(),
                Field::Handler => (*r).handler = text(),
                Field::User => (*r).user = text(),
                Field::ApAuthType => (*r).ap_auth_type = text(),
                Field::Uri => (*r).uri = text(),
                Field::Filename => (*r).filename = text(),
                Field::CanonicalFilename => (*r).canonical_filename = text(),
                Field::PathInfo => (*r).path_info = text(),
                Field::Args => (*r).args = text(),
                Field::Assbackwards => (*r).assbackwards = number(),
                Field::Chunked => (*r).chunked = number(),
                Field::NoCache => (*r).no_cache = number(),
                Field::NoLocalCopy => (*r).no_local_copy = number(),
                Field::UsedPathInfo => (*r).used_path_info = number(),
                Field::Proxyreq => (*r).proxyreq = number(),
                // Read-only rows: a change to them does not pass the decoder.
                _ => {}
            }
        }
    }
}

/// An array of strings as a tuple.
///
/// # Safety
/// `array` is null or a live array of string pointers.
unsafe fn strings<'r>(array: *mut sys::apr_array_header_t) -> Value<'r> {
    // SAFETY: by the caller's promise.
    let Some(array) = (unsafe { array.as_ref() }) else { return Value::None };
    let count = usize::try_from(array.nelts).unwrap_or(0);
    let items = (0..count).map(|i| {
        // SAFETY: `i` is below the count; the strings live as long as the request.
        unsafe { super::bytes(super::element::<*const c_char>(array, i)) }
            .map_or(Value::None, Value::Str)
    });
    Value::Tuple(items.collect())
}
