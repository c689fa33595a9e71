//! What a worker may ask of httpd while it is served.

use std::rc::Rc;

use vivarium_protocol::fields::Field;
use vivarium_protocol::frame::Header;
use vivarium_protocol::message::{Call, Change, ErrorKind, LogScope, Op, Phase, Reply, TableId};
use vivarium_protocol::table::write_table;
use vivarium_protocol::wire::{Reader, WireError, Writer};

use super::exchange::{Conversation, Level};
use super::tree::{Entry, Tree};
use super::{Fault, body, filters, snapshot};
use crate::apache::log;
use crate::apache::ops;
use crate::apache::request::Request;
use crate::apache::server;
use crate::config::dir::{FilterDef, Handler};

/// The reply about a request that is gone.
pub(crate) fn over() -> Reply<'static> {
    Reply::Error { kind: ErrorKind::State, text: b"the request is over" }
}

fn refused(kind: ErrorKind, text: &'static [u8]) -> Reply<'static> {
    Reply::Error { kind, text }
}

/// Applies a list of changes to a request.
///
/// # Errors
/// A malformed change; those before it have been applied.
pub(crate) fn apply_changes(entry: &Entry, payload: &[u8]) -> Result<(), WireError> {
    let mut reader = Reader::new(payload);
    let request = entry.request();
    while let Some(change) = Change::read(&mut reader)? {
        // A request that is gone meanwhile (a sub-request, say) has nothing left to change.
        let Some(r) = request else { continue };
        apply(r, &change).map_err(|what| WireError { at: reader.position(), what })?;
    }
    Ok(())
}

fn apply(r: Request<'_>, change: &Change<'_>) -> Result<(), &'static str> {
    let clean = |s: &[u8]| if s.contains(&0) { Err("a NUL in a table") } else { Ok(()) };
    match change {
        Change::Field(field, value) => r.set_field(*field, value),
        Change::Keepalive(n) => r.connection().set_keepalive(*n),
        Change::Set(t, k, v) | Change::Add(t, k, v) => {
            clean(k)?;
            clean(v)?;
            // Configuration tables are copies in the worker; a change to them stays there.
            if let Some(table) = r.table(*t) {
                if matches!(change, Change::Set(..)) {
                    table.set(r.pool(), k, v);
                } else {
                    table.add(r.pool(), k, v);
                }
            }
        }
        Change::Unset(t, k) => {
            clean(k)?;
            if let Some(table) = r.table(*t) {
                table.unset(r.pool(), k);
            }
        }
        Change::Clear(t) => {
            if let Some(table) = r.table(*t) {
                table.clear();
            }
        }
    }
    Ok(())
}

/// Carries out a call and replies.
pub(crate) fn answer(
    c: &Conversation,
    tree: &Rc<Tree>,
    level: &Level,
    header: Header,
    call: Call<'_>,
) -> Result<(), Fault> {
    // What belongs to no request, or to one that is over.
    match &call {
        Call::Log { scope, level: number, text } => {
            write_log(tree, header.rid, *scope, i32::from((*number).min(7)), text);
            return c.reply(header, &Reply::Ok);
        }
        Call::Server(_)
        | Call::Op {
            op: Op::ServerRoot | Op::MpmQuery | Op::ExistsConfigDefine | Op::ConfigTree,
            ..
        } => {
            return answer_global(c, header, &call);
        }
        _ => {}
    }
    if let Some(run) = &level.filter {
        match call {
            Call::FilterRead(want) => return filters::read(c, run, header, want),
            Call::FilterFlush => return filters::flush(c, run, header),
            Call::FilterClose => return filters::close(c, run, header),
            Call::FilterPassOn => return filters::pass_on(c, run, header),
            Call::FilterDisable => return filters::disable(c, run, header),
            _ => {}
        }
    }
    let entry = c.entry(tree, header.rid)?;
    let Some(r) = entry.request() else { return c.reply(header, &over()) };
    match call {
        Call::Read(want) => body::read(c, &entry, header, want, false),
        Call::ReadSome(most) => body::read(c, &entry, header, Some(u64::from(most)), true),
        Call::SendFile { serial, offset, len } => {
            body::send_file(c, &entry, header, serial, offset, len)
        }
        Call::Flush => {
            body::pass(c, &entry, true);
            let reply = if entry.output.failed() {
                Reply::Error { kind: ErrorKind::Io, text: body::CLIENT_GONE }
            } else {
                Reply::Ok
            };
            c.reply(header, &reply)
        }
        Call::InternalRedirect(uri) => {
            if uri.contains(&0) {
                return c.reply(header, &refused(ErrorKind::Value, b"a NUL in the URI"));
            }
            body::pass(c, &entry, false);
            r.internal_redirect(uri);
            c.reply(header, &Reply::Ok)
        }
        Call::AddFilter { name, is_input } => {
            if name.contains(&0) {
                return c.reply(header, &refused(ErrorKind::Value, b"a NUL in a filter's name"));
            }
            filters::add(r, tree, &entry, name, is_input);
            c.reply(header, &Reply::Ok)
        }
        Call::RegisterFilter { name, is_input, handler, directory } => {
            let reply = register_filter(&entry, name, is_input, handler, directory);
            c.reply(header, &reply)
        }
        Call::Field(number) => {
            body::pass(c, &entry, false);
            let Some(field) = Field::from_u8(number) else {
                return Err(c.broken(format!("no field {number}")));
            };
            let mut bytes = Vec::with_capacity(32);
            r.field(field).write(&mut Writer::new(&mut bytes));
            c.reply(header, &Reply::Value(&bytes))
        }
        Call::Table(id) => {
            body::pass(c, &entry, false);
            c.reply(header, &Reply::Bytes(&table_bytes(r, id)))
        }
        Call::Snapshot => {
            let mut bytes = Vec::with_capacity(1024);
            snapshot::write(&mut Writer::new(&mut bytes), tree, r);
            c.reply(header, &Reply::Bytes(&bytes))
        }
        Call::Connection => c.reply(header, &Reply::Connection(r.connection().info())),
        Call::AddCgiVars => {
            ops::add_cgi_vars(r);
            c.reply(header, &Reply::Ok)
        }
        Call::Op { op: Op::AddedHandler, number, .. } => {
            let phase = u8::try_from(number).ok().and_then(Phase::from_u8);
            let Some(phase) = phase else {
                return Err(c.broken(format!("no phase {number}")));
            };
            entry.want(phase);
            c.reply(header, &Reply::Ok)
        }
        Call::Op { op, number, text } => {
            if text.contains(&0) {
                return c.reply(header, &refused(ErrorKind::Value, b"a NUL in an argument"));
            }
            body::pass(c, &entry, false);
            let answer = ops::of_request(r, op, number, text);
            c.reply(header, &answer.as_reply())
        }
        Call::FilterRead(_)
        | Call::FilterFlush
        | Call::FilterClose
        | Call::FilterPassOn
        | Call::FilterDisable => c.reply(header, &refused(ErrorKind::State, b"only in a filter")),
        Call::Argument(n) => {
            let argument = level.arguments.get(n as usize);
            c.reply(header, &Reply::Text(argument.map(|a| &**a)))
        }
        Call::Answer(text) => {
            if text.len() > 4096 || text.contains(&0) {
                return Err(c.broken("an answer that is too long or has a NUL".into()));
            }
            *level.answer.borrow_mut() = Some(text.to_vec());
            c.reply(header, &Reply::Ok)
        }
        Call::ConnectionRead(_) | Call::ConnectionReadLine(_) | Call::ConnectionWrite(_) => {
            c.reply(header, &refused(ErrorKind::State, b"only in a connection handler"))
        }
        Call::Log { .. } | Call::Server(_) => Ok(()),
    }
}

/// Answers a call that concerns httpd as a whole.
pub(crate) fn answer_global(
    c: &Conversation,
    header: Header,
    call: &Call<'_>,
) -> Result<(), Fault> {
    match call {
        Call::Server(number) => {
            let info = server::main().and_then(|m| m.chain().find(|s| s.number() == *number));
            c.reply(header, &info.map_or(Reply::None, |s| Reply::Server(s.info())))
        }
        Call::Op { op, number, text } => {
            c.reply(header, &ops::global(*op, *number, text).as_reply())
        }
        _ => c.reply(header, &over()),
    }
}

fn table_bytes(r: Request<'_>, id: TableId) -> Vec<u8> {
    let conf = r.dir_conf();
    match (id, conf) {
        (TableId::Config, Some(conf)) => return conf.encoded_config(),
        (TableId::Options, Some(conf)) => return conf.encoded_options(),
        _ => {}
    }
    let server_conf = r.server().default_dir_conf();
    match (id, server_conf) {
        (TableId::ServerConfig, Some(conf)) => return conf.encoded_config(),
        (TableId::ServerOptions, Some(conf)) => return conf.encoded_options(),
        _ => {}
    }
    let mut bytes = Vec::with_capacity(256);
    let mut w = Writer::new(&mut bytes);
    match r.table(id) {
        Some(table) => write_table(&mut w, table.pairs()),
        None => w.u32(0),
    }
    bytes
}

fn register_filter(
    entry: &Entry,
    name: &[u8],
    is_input: bool,
    handler: &[u8],
    directory: Option<&[u8]>,
) -> Reply<'static> {
    let name = name.to_ascii_lowercase();
    if name.is_empty() || name.contains(&0) || handler.is_empty() || name.len() > 256 {
        return refused(ErrorKind::Value, b"a filter needs a name and a handler");
    }
    let handler = Handler {
        name: handler.into(),
        directory: directory.map(Into::into),
        pattern: None,
        is_location: false,
        silent: false,
    };
    let mut own = entry.own_filters.borrow_mut();
    own.retain(|f| *f.name != *name || f.is_input != is_input);
    own.push(FilterDef { name: name.into(), is_input, handler });
    Reply::Ok
}

fn write_log(tree: &Tree, rid: u32, scope: LogScope, level: i32, text: &[u8]) {
    let request = tree.entry(rid).and_then(|e| e.request());
    match (scope, request) {
        (LogScope::Request, Some(r)) => log::request(r, level, text),
        (LogScope::Connection, Some(r)) => log::connection(r.connection(), level, text),
        (LogScope::Server(number), _) => {
            let s = server::main().and_then(|m| m.chain().find(|s| s.number() == number));
            log::server_bytes(s, level, text);
        }
        (LogScope::Request | LogScope::Connection, None) => log::server_bytes(None, level, text),
    }
}

/// An answer that owns its text.
pub(crate) enum Answer {
    Ok,
    Int(i64),
    Text(Option<Vec<u8>>),
    Bytes(Vec<u8>),
    Error(ErrorKind, &'static [u8]),
}

impl Answer {
    fn as_reply(&self) -> Reply<'_> {
        match self {
            Self::Ok => Reply::Ok,
            Self::Int(n) => Reply::Int(*n),
            Self::Text(t) => Reply::Text(t.as_deref()),
            Self::Bytes(b) => Reply::Bytes(b),
            Self::Error(kind, text) => Reply::Error { kind: *kind, text },
        }
    }
}
