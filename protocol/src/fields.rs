//! The request's field list, written once: both sides derive from it.
//!
//! A row names a scalar attribute of mod_python's request object ("`req`"), its type, whether Python may assign it, and
//! when httpd sends it. httpd has one accessor for each row (a match over [`Field`] that the compiler keeps whole); the
//! worker makes one descriptor of each row.
//!
//! Strings are bytes on the wire; what Python sees of them is the worker's business.

use crate::wire::{Reader, WireError, Writer};

/// When the worker gets a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every snapshot; changes only by assignment, or with a new snapshot.
    Snapshot,
    /// In every snapshot, and stale as soon as output was sent or httpd did something for the request: then asked again.
    Live,
    /// Never in a snapshot: asked when it is read.
    Asked,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Str,
    /// Text or `None`.
    OptStr,
    /// A whole number.
    Int,
    /// A number of seconds, with fraction.
    Seconds,
    /// Text values, numbers and `None` in a fixed order: a tuple in Python. `None` if there is no list.
    Tuple,
}

macro_rules! request_fields {
    ($($(#[$doc:meta])* $variant:ident $name:literal $type:ident $access:ident $when:ident;)*) => {
        /// A scalar attribute of the request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Field { $($(#[$doc])* $variant,)* }

        /// All rows, in wire order.
        pub const FIELDS: &[Row] = &[$(Row {
            field: Field::$variant,
            name: $name,
            kind: Type::$type,
            writable: request_fields!(@access $access),
            when: When::$when,
        },)*];
    };
    (@access ro) => { false };
    (@access rw) => { true };
}

/// What is known of one field.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which.
    pub field: Field,
    /// Its name in Python.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Whether Python may assign it.
    pub writable: bool,
    /// When the worker gets it.
    pub when: When,
}

request_fields! {
    /// First line of the request (`r->the_request`).
    TheRequest "the_request" OptStr ro Snapshot;
    /// 1 for `HTTP/0.9` requests.
    Assbackwards "assbackwards" Int rw Snapshot;
    /// 1 for HEAD.
    HeaderOnly "header_only" Int ro Snapshot;
    /// As the client said it: `HTTP/1.1`.
    Protocol "protocol" OptStr ro Snapshot;
    /// 1001 for `HTTP/1.1`.
    ProtoNum "proto_num" Int ro Snapshot;
    /// From the URI or `Host`.
    Hostname "hostname" OptStr ro Snapshot;
    /// When the request began.
    RequestTime "request_time" Seconds ro Snapshot;
    /// The status line, if one was set.
    StatusLine "status_line" OptStr rw Live;
    /// The status.
    Status "status" Int rw Live;
    /// `GET`, ...
    Method "method" OptStr ro Snapshot;
    /// `M_GET`, ...
    MethodNumber "method_number" Int ro Snapshot;
    /// Bit mask of allowed methods.
    Allowed "allowed" Int ro Live;
    /// Allowed extension methods.
    AllowedXmethods "allowed_xmethods" Tuple ro Asked;
    /// Allowed methods.
    AllowedMethods "allowed_methods" Tuple ro Asked;
    /// 1 once the body is being sent.
    SentBodyct "sent_bodyct" Int ro Live;
    /// Body bytes sent.
    BytesSent "bytes_sent" Int ro Live;
    /// Modification time of the answer.
    Mtime "mtime" Seconds ro Live;
    /// 1 if the answer is sent chunked.
    Chunked "chunked" Int rw Live;
    /// The `Range` header.
    Range "range" OptStr ro Asked;
    /// Content length of the answer.
    Clength "clength" Int ro Live;
    /// Body bytes of the request still to be read.
    Remaining "remaining" Int ro Live;
    /// Body bytes of the request read.
    ReadLength "read_length" Int ro Live;
    /// `REQUEST_NO_BODY`, ...
    ReadBody "read_body" Int ro Live;
    /// 1 if the request body comes chunked.
    ReadChunked "read_chunked" Int ro Live;
    /// 1 if the client waits for `100 Continue`.
    Expecting100 "expecting_100" Int ro Live;
    /// Content type of the answer.
    ContentType "content_type" OptStr rw Live;
    /// The handler's name.
    Handler "handler" OptStr rw Snapshot;
    /// Content encoding of the answer.
    ContentEncoding "content_encoding" OptStr ro Live;
    /// Content languages of the answer.
    ContentLanguages "content_languages" Tuple ro Asked;
    /// Variant list validator.
    VlistValidator "vlist_validator" OptStr ro Asked;
    /// The authenticated user.
    User "user" OptStr rw Snapshot;
    /// How the user was authenticated.
    ApAuthType "ap_auth_type" OptStr rw Snapshot;
    /// 1: the answer must not be cached.
    NoCache "no_cache" Int rw Snapshot;
    /// 1: there is no local copy.
    NoLocalCopy "no_local_copy" Int rw Snapshot;
    /// The URI as the client sent it.
    UnparsedUri "unparsed_uri" OptStr ro Snapshot;
    /// The path part of the URI, decoded.
    Uri "uri" OptStr rw Snapshot;
    /// The file that the URI maps to.
    Filename "filename" OptStr rw Snapshot;
    /// The same, with its true case and links.
    CanonicalFilename "canonical_filename" OptStr rw Snapshot;
    /// What follows the file in the URI.
    PathInfo "path_info" OptStr rw Snapshot;
    /// What follows `?`.
    Args "args" OptStr rw Snapshot;
    /// Scheme, host information, user, password, host name, port, path, query, fragment.
    ParsedUri "parsed_uri" Tuple ro Asked;
    /// `AP_REQ_ACCEPT_PATH_INFO`, ...
    UsedPathInfo "used_path_info" Int rw Snapshot;
    /// 1 once the end of the request's body was seen... or of the answer was sent.
    EosSent "eos_sent" Int ro Live;
    /// `PROXYREQ_NONE`, ...
    Proxyreq "proxyreq" Int rw Snapshot;
    /// The client, as mod_remoteip sees it: address and port.
    UseragentAddr "useragent_addr" Tuple ro Asked;
    /// The same, address only.
    UseragentIp "useragent_ip" OptStr ro Snapshot;
    /// What httpd knows of the file: [`FINFO_ITEMS`] values.
    Finfo "finfo" Tuple rw Asked;
}

/// How many values [`Field::Finfo`] has, each `None` if it is not known: protection (as APR counts the bits), inode,
/// device, number of links, user, group, size in bytes, times of the last access, modification and status change (in
/// microseconds), path, name, type (`APR_REG`, ...), and the `APR_FINFO_*` bits of what httpd knows. All are numbers but
/// for [`FINFO_TEXTS`].
pub const FINFO_ITEMS: usize = 14;
/// Which of them are texts.
pub const FINFO_TEXTS: core::ops::Range<usize> = 10..12;

impl Field {
    /// The field of a wire number.
    pub fn from_u8(n: u8) -> Option<Self> {
        FIELDS.get(n as usize).map(|row| row.field)
    }
    /// Its row.
    pub fn row(self) -> &'static Row {
        &FIELDS[self as usize]
    }
}

/// A field's value, borrowed from a decoded frame or from httpd.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Not there.
    None,
    /// Text.
    Str(&'a [u8]),
    /// A whole number, or seconds in microseconds ([`Type::Seconds`]).
    Int(i64),
    /// Text values, numbers and `None`.
    Tuple(Vec<Value<'a>>),
}

/// The most items of a [`Value::Tuple`], and how deep they may nest (not at all).
const MAX_ITEMS: u32 = 1024;

impl<'a> Value<'a> {
    /// Appends the value.
    pub fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::None => w.u8(0),
            Self::Str(s) => w.tagged_bytes(1, s),
            Self::Int(n) => w.tagged_i64(2, *n),
            Self::Tuple(items) => {
                w.u8(3);
                let at = w.len();
                w.u32(0);
                let mut count = 0;
                for item in items.iter().take(MAX_ITEMS as usize) {
                    // Tuples do not nest: an inner one is written as "none".
                    if matches!(item, Self::Tuple(_)) {
                        w.u8(0);
                    } else {
                        item.write(w);
                    }
                    count += 1;
                }
                w.patch_u32(at, count);
            }
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn read(r: &mut Reader<'a>) -> Result<Self, WireError> {
        Self::read_at(r, true)
    }

    /// Walks over a value as [`Value::read`] would read it, with the same checks.
    ///
    /// # Errors
    /// As [`Value::read`].
    #[inline]
    pub fn skip(r: &mut Reader<'a>) -> Result<(), WireError> {
        let before = *r;
        match r.u8("value")? {
            0 => {}
            1 => {
                r.bytes("text value")?;
            }
            2 => {
                r.i64("number value")?;
            }
            _ => {
                *r = before;
                Self::read(r)?;
            }
        }
        Ok(())
    }

    fn read_at(r: &mut Reader<'a>, outer: bool) -> Result<Self, WireError> {
        let at = r.position();
        Ok(match r.u8("value")? {
            0 => Self::None,
            1 => Self::Str(r.bytes("text value")?),
            2 => Self::Int(r.i64("number value")?),
            3 if outer => {
                let count = r.u32("tuple size")?;
                if count > MAX_ITEMS {
                    return Err(WireError { at, what: "tuple size" });
                }
                let items =
                    (0..count).map(|_| Self::read_at(r, false)).collect::<Result<_, _>>()?;
                Self::Tuple(items)
            }
            _ => return Err(WireError { at, what: "value type" }),
        })
    }
}
