//! What a worker may ask of httpd while it is served.

use std::rc::Rc;

use vivarium_protocol::codes;
use vivarium_protocol::fields::{Field, Value};
use vivarium_protocol::frame::Header;
use vivarium_protocol::message::{Call, Change, ErrorKind, LogScope, Op, Phase, Reply, TableId};
use vivarium_protocol::policy::Grants;
use vivarium_protocol::table::write_table;
use vivarium_protocol::wire::{Reader, WireError, Writer};

use super::exchange::{Conversation, Level};
use super::tree::{Entry, OwnFilter, Tree};
use super::{Fault, body, filters, snapshot};
use crate::apache::log;
use crate::apache::ops;
use crate::apache::request::Request;
use crate::apache::server::{self, Server};
use crate::config::dir::{FilterDef, Handler};
use crate::grants::view::View;
use crate::grants::{self, Refusal, changes};

/// The reply about a request that is gone.
pub(crate) fn over() -> Reply<'static> {
    Reply::Error { kind: ErrorKind::State, text: b"the request is over" }
}

fn refused(kind: ErrorKind, text: &'static [u8]) -> Reply<'static> {
    Reply::Error { kind, text }
}

/// Applies a list of changes to a request; what a confined tenant may not change is left as it is.
///
/// # Errors
/// A malformed change; those before it have been applied.
pub(crate) fn apply_changes(
    c: &Conversation,
    level: &Level,
    entry: &Entry,
    payload: &[u8],
) -> Result<(), WireError> {
    let mut reader = Reader::new(payload);
    let tenant = c.pool().tenant();
    let policy = tenant.confined();
    let request = entry.request();
    while let Some(change) = Change::read(&mut reader)? {
        // A request that is gone meanwhile (a sub-request, say) has nothing left to change.
        let Some(r) = request else { continue };
        if let Some(name) = unsendable(&change) {
            refuse_header(entry, r, name);
            continue;
        }
        if let Some(policy) = &policy {
            let phase = level.phase.get();
            let checked = changes::check(tenant.name(), policy, entry, r, phase, &change);
            if let Err(refusal) = checked {
                grants::complain(entry, tenant.name(), &refusal);
                entry.guard.refuse(refusal);
                continue;
            }
        }
        if matches!(change, Change::Field(Field::Filename | Field::Finfo, _)) {
            entry.file_told.set(true);
        }
        apply(r, &change).map_err(|what| WireError { at: reader.position(), what })?;
    }
    Ok(())
}

/// The name of the header that a change would set, if that header cannot be sent. httpd finds it too, but only in the
/// middle of its filters, where what it makes of the answer depends on what has passed already.
fn unsendable<'a>(change: &Change<'a>) -> Option<&'a [u8]> {
    let is_name =
        |s: &[u8]| !s.is_empty() && s.iter().all(|b| *b > b' ' && *b != b':' && *b != 127);
    let is_value = |s: &[u8]| s.iter().all(|b| (*b >= b' ' && *b != 127) || *b == b'\t');
    match change {
        Change::Set(TableId::HeadersOut | TableId::ErrHeadersOut, name, value)
        | Change::Add(TableId::HeadersOut | TableId::ErrHeadersOut, name, value) => {
            (!is_name(name) || !is_value(value)).then_some(*name)
        }
        Change::Field(Field::ContentType, Value::Str(s)) if !is_value(s) => Some(b"Content-Type"),
        Change::Field(Field::StatusLine, Value::Str(s)) if !is_value(s) => Some(b"(status line)"),
        _ => None,
    }
}

fn refuse_header(entry: &Entry, r: Request<'_>, name: &[u8]) {
    // One line for each phase: a hostile worker has many headers to offer.
    if entry.output.begun() || entry.bad_header.replace(true) {
        return;
    }
    let name = name.escape_ascii();
    let text =
        format!("{}: the header {name} has a character that no header may have", codes::BAD_HEADER);
    log::request(r, log::Level::Err as i32, text.as_bytes());
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
            let Some(table) = r.table(*t) else { return Ok(()) };
            // The request's tables go with it, the connection's do not.
            let pool = match t {
                TableId::ConnectionNotes => r.connection().pool_for_note(k, v),
                _ => Some(r.pool()),
            };
            match (pool, change) {
                (None, _) => {}
                (Some(pool), Change::Set(..)) => table.set(pool, k, v),
                (Some(pool), _) => table.add(pool, k, v),
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
    let tenant = c.pool().tenant();
    let policy = tenant.confined();
    let view = policy.as_deref().map(|policy| View { tenant: tenant.name(), policy });
    // What belongs to no request, or to one that is over; but no other tenant's.
    if matches!(call, Call::Log { .. } | Call::Server(_) | Call::Op { .. })
        && policy.is_some()
        && tree.entry(header.rid).is_some()
    {
        c.entry(tree, header.rid)?;
    }
    match &call {
        Call::Log { scope, level: number, text } => {
            let number = i32::from((*number).min(7));
            match &policy {
                None => write_log(tree, header.rid, *scope, number, text),
                Some(policy) => {
                    grants::calls::log(tree, tenant, policy, header.rid, *scope, number, text);
                }
            }
            return c.reply(header, &Reply::Ok);
        }
        Call::Server(_)
        | Call::Op {
            op: Op::ServerRoot | Op::MpmQuery | Op::ExistsConfigDefine | Op::ConfigTree,
            ..
        } => {
            return match &view {
                None => answer_global(c, header, &call),
                Some(view) => {
                    let request = tree.entry(header.rid).and_then(|e| e.request());
                    let own = request.map(Request::server).or_else(|| tree.server());
                    answer_confined(c, header, &call, view, own, level.entry.as_deref())
                }
            };
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
    if let Some(policy) = &policy {
        // What was refused before, Python is told now.
        let refusal = match entry.guard.take_untold() {
            Some(refusal) => Some(refusal),
            None => grants::calls::check(policy, &entry, r, &call).err().inspect(|refusal| {
                grants::complain(&entry, tenant.name(), refusal);
            }),
        };
        if let Some(refusal) = refusal {
            return c.reply(header, &grants::calls::reply(&refusal.text()));
        }
    }
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
            body::pass(c, &entry, entry.output.wants_flush());
            if view.as_ref().is_some_and(|v| !v.policy.allows(Grants::FOREIGN_URIS)) {
                if !tree.within(tenant.name(), || r.internal_redirect(uri)) {
                    let no = Refusal::grant("a redirect to that place", Grants::FOREIGN_URIS);
                    return c.reply(header, &grants::calls::reply(&no.text()));
                }
            } else {
                r.internal_redirect(uri);
            }
            c.reply(header, &Reply::Ok)
        }
        Call::AddFilter { name, is_input } => {
            if name.contains(&0) {
                return c.reply(header, &refused(ErrorKind::Value, b"a NUL in a filter's name"));
            }
            filters::add(r, tree, (&entry, tenant.name()), name, is_input);
            c.reply(header, &Reply::Ok)
        }
        Call::RegisterFilter { name, is_input, handler, directory } => {
            let reply =
                register_filter((&entry, tenant.name()), name, is_input, handler, directory);
            c.reply(header, &reply)
        }
        Call::Field(number) => {
            body::settle(c, &entry);
            let Some(field) = Field::from_u8(number) else {
                return Err(c.broken(format!("no field {number}")));
            };
            let mut bytes = Vec::with_capacity(32);
            r.field(field).write(&mut Writer::new(&mut bytes));
            c.reply(header, &Reply::Value(&bytes))
        }
        Call::Table(id) => {
            body::settle(c, &entry);
            c.reply(header, &Reply::Bytes(&table_bytes(r, id, view.as_ref())))
        }
        Call::Snapshot => {
            let mut bytes = Vec::with_capacity(1024);
            snapshot::write(&mut Writer::new(&mut bytes), tree, r, view.as_ref());
            c.reply(header, &Reply::Bytes(&bytes))
        }
        Call::Connection => {
            let info = r.connection().info();
            let info = match &view {
                Some(view) => view.connection(info, Some(r.server())),
                None => info,
            };
            c.reply(header, &Reply::Connection(info))
        }
        Call::AddCgiVars => {
            ops::add_cgi_vars(r);
            let bytes = table_bytes(r, TableId::SubprocessEnv, view.as_ref());
            c.reply(header, &Reply::Bytes(&bytes))
        }
        Call::Op { op: Op::AddedHandler, number, .. } => {
            let phase = u8::try_from(number).ok().and_then(Phase::from_u8);
            let Some(phase) = phase else {
                return Err(c.broken(format!("no phase {number}")));
            };
            entry.want(phase, c.pool().key());
            c.reply(header, &Reply::Ok)
        }
        Call::Op { op, number, text } => {
            if text.contains(&0) {
                return c.reply(header, &refused(ErrorKind::Value, b"a NUL in an argument"));
            }
            body::settle(c, &entry);
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

/// The same for a confined tenant; `own` is the virtual host that it is asked from.
pub(crate) fn answer_confined(
    c: &Conversation,
    header: Header,
    call: &Call<'_>,
    view: &View<'_>,
    own: Option<Server<'_>>,
    entry: Option<&Entry>,
) -> Result<(), Fault> {
    let refused = match grants::calls::check_global(view.policy, call) {
        Err(refusal) => refusal,
        Ok(()) => match (grants::calls::global(view, own, call), call) {
            (Some(Ok(reply)), _) => return c.reply(header, &reply),
            (Some(Err(refusal)), _) => refusal,
            (None, Call::Op { op: Op::ConfigTree, .. }) => {
                return c.reply(header, &grants::calls::config_tree(view, own).as_reply());
            }
            (None, _) => return answer_global(c, header, call),
        },
    };
    match entry {
        Some(entry) => grants::complain(entry, view.tenant, &refused),
        None => grants::complain_outside(view.tenant, &refused),
    }
    c.reply(header, &grants::calls::reply(&refused.text()))
}

fn table_bytes(r: Request<'_>, id: TableId, view: Option<&View<'_>>) -> Vec<u8> {
    let conf = r.dir_conf();
    match (id, conf) {
        (TableId::Config, Some(conf)) => return conf.encoded_config(),
        (TableId::Options, Some(conf)) => return conf.encoded_options(),
        _ => {}
    }
    // The administrator's settings for all of a virtual host are those of whom it belongs to.
    let server_conf = match view {
        Some(v) if !v.owns_server(r.server()) => None,
        _ => r.server().default_dir_conf(),
    };
    match (id, server_conf) {
        (TableId::ServerConfig, Some(conf)) => return conf.encoded_config(),
        (TableId::ServerOptions, Some(conf)) => return conf.encoded_options(),
        _ => {}
    }
    let mut bytes = Vec::with_capacity(256);
    let mut w = Writer::new(&mut bytes);
    match (r.table(id), view) {
        (Some(table), None) => write_table(&mut w, table.pairs()),
        (Some(table), Some(view)) => {
            write_table(&mut w, table.pairs().filter(|(name, _)| view.shows(r, id, name)));
        }
        (None, _) => w.u32(0),
    }
    bytes
}

fn register_filter(
    (entry, tenant): (&Entry, &str),
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
    own.retain(|f| *f.tenant != *tenant || !f.is(&name, is_input));
    let definition = FilterDef { name: name.into(), is_input, handler };
    own.push(OwnFilter { tenant: tenant.into(), definition });
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
    pub(crate) fn as_reply(&self) -> Reply<'_> {
        match self {
            Self::Ok => Reply::Ok,
            Self::Int(n) => Reply::Int(*n),
            Self::Text(t) => Reply::Text(t.as_deref()),
            Self::Bytes(b) => Reply::Bytes(b),
            Self::Error(kind, text) => Reply::Error { kind: *kind, text },
        }
    }
}
