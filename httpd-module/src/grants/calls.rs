//! Operations of a confined tenant's worker.

use vivarium_protocol::message::{Call, ErrorKind, LogScope, Op, Reply};
use vivarium_protocol::policy::{Grants, TenantPolicy, is_default};

use super::changes::text;
use super::names::{self, Needs};
use super::view::{self, View};
use super::{Refusal, complain_of};
use crate::apache::log;
use crate::apache::ops;
use crate::apache::request::Request;
use crate::apache::server::{self, Server};
use crate::config::dir::DirConf;
use crate::conversation::calls::Answer;
use crate::conversation::tree::{Entry, Tree};
use crate::tenants::{self, Tenant, throttle};

/// How many filters one request may be given.
const FILTERS: u32 = 32;
/// What a small operation costs httpd in memory until the request ends, beside its text.
const SMALL: usize = 64;
/// The most bytes of one log call, and how many lines all requests of a tenant may write in ten seconds.
const LOG_TEXT: usize = 64 << 10;
const LOG_LINES: u32 = 10_000;
/// httpd's longest piece of a line.
const LOG_PIECE: usize = 7000;
/// syslog's `err`: nothing that a tenant says is worse for the machine.
const ERR: i32 = 3;

/// Checks an operation on a request.
pub(crate) fn check(
    policy: &TenantPolicy,
    entry: &Entry,
    r: Request<'_>,
    call: &Call<'_>,
) -> Result<(), Refusal> {
    let is = |what: String, needs| Refusal::of(policy, || what, needs);
    match call {
        Call::InternalRedirect(uri) => {
            is(format!("req.internal_redirect({})", text(uri)), names::uri(uri))?;
            entry.guard.hold(policy, uri.len() + SMALL, "req.internal_redirect()")
        }
        Call::AddFilter { name, is_input } => {
            let way = if *is_input { "input" } else { "output" };
            let what = format!("req.add_{way}_filter({})", text(name));
            is(what.clone(), filter(entry, policy, r, name, *is_input))?;
            let n = entry.guard.filters.get() + 1;
            if n > FILTERS {
                return Err(Refusal::limit(what, "number of filters on a request"));
            }
            entry.guard.filters.set(n);
            entry.guard.hold(policy, name.len() + SMALL, &what)
        }
        Call::RegisterFilter { name, handler, directory, .. } => {
            let what = format!("req.register_filter({})", text(name));
            if entry.own_filters.borrow().len() >= FILTERS as usize {
                return Err(Refusal::limit(what, "number of filters on a request"));
            }
            let size = name.len() + handler.len() + directory.map_or(0, <[u8]>::len);
            entry.guard.hold(policy, size + SMALL, &what)
        }
        Call::SendFile { .. } => entry.guard.hold(policy, SMALL, "req.sendfile()"),
        Call::Op { op, number, text: argument } => {
            operation(policy, entry, r, *op, *number, argument)
        }
        _ => Ok(()),
    }
}

/// A filter: the tenant's own Python, or one that only packs or slows its own answer.
fn filter(
    entry: &Entry,
    policy: &TenantPolicy,
    r: Request<'_>,
    name: &[u8],
    is_input: bool,
) -> Option<Needs> {
    let own = entry.own_filter(&policy.tenant, &name.to_ascii_lowercase(), is_input).is_some();
    if own || r.dir_conf().is_some_and(|c: &DirConf| c.filter(name, is_input).is_some()) {
        return None;
    }
    if is_input { Some(Needs::Grant(Grants::FILTERS)) } else { names::output_filter(name) }
}

fn operation(
    policy: &TenantPolicy,
    entry: &Entry,
    r: Request<'_>,
    op: Op,
    number: i64,
    argument: &[u8],
) -> Result<(), Refusal> {
    let is = |what: String, needs| Refusal::of(policy, || what, needs);
    match op {
        Op::SslVar => {
            is(
                format!("req.ssl_var_lookup({})", text(argument)),
                view::variable(entry, policy, argument),
            )?;
        }
        Op::BasicAuthPassword if view::authenticates(r) => {
            is("req.get_basic_auth_pw()".into(), Some(Needs::Grant(Grants::AUTHORIZATION)))?;
        }
        Op::SetContentLength if number < 0 => {
            is("req.set_content_length()".into(), Some(Needs::Better("a length is not negative")))?;
        }
        _ => {}
    }
    // Many operations leave a string in the request's memory.
    entry.guard.hold(policy, argument.len() + SMALL, "the request's operations")
}

/// Checks an operation that concerns httpd as a whole.
pub(crate) fn check_global(policy: &TenantPolicy, call: &Call<'_>) -> Result<(), Refusal> {
    let Call::Op { op, number, .. } = call else { return Ok(()) };
    let (what, needs) = match op {
        Op::ServerRoot => ("apache.server_root()", Some(Needs::Grant(Grants::SERVER_CONFIG))),
        Op::MpmQuery => ("apache.mpm_query()", names::mpm_query(*number)),
        Op::ExistsConfigDefine => {
            ("apache.exists_config_define()", Some(Needs::Grant(Grants::SCOREBOARD)))
        }
        _ => return Ok(()),
    };
    Refusal::of(policy, || what.into(), needs)
}

/// The answer to a question about httpd as a whole that a confined tenant may ask, where it differs from the
/// administrator's; `own` is the virtual host that the request came to.
pub(crate) fn global<'a>(
    view: &View<'_>,
    own: Option<Server<'_>>,
    call: &Call<'_>,
) -> Option<Result<Reply<'a>, Refusal>> {
    match call {
        Call::Server(number) => {
            let asked = server::main().and_then(|m| m.chain().find(|s| s.number() == *number));
            let info = own.zip(asked).and_then(|(own, asked)| view.server(own, asked));
            let refused = || Refusal::grant("another virtual host", Grants::SERVER_CONFIG);
            Some(info.map(Reply::Server).ok_or_else(refused))
        }
        _ => None,
    }
}

/// The configuration of the virtual host that is the tenant's own; without one, nothing.
pub(crate) fn config_tree(view: &View<'_>, own: Option<Server<'_>>) -> Answer {
    if view.policy.allows(Grants::SERVER_CONFIG) {
        return ops::global(Op::ConfigTree, 0, b"");
    }
    match own.filter(|s| s.is_virtual() && view.owns_server(*s)) {
        Some(server) => ops::config_of(server),
        None => ops::no_config(),
    }
}

/// The answer to a refused operation.
pub(crate) fn reply(text: &str) -> Reply<'_> {
    Reply::Error { kind: ErrorKind::Permission, text: text.as_bytes() }
}

/// Writes a confined tenant's log lines: where it may, as many as it may, with its name in front.
pub(crate) fn log(
    tree: &Tree,
    tenant: &Tenant,
    policy: &TenantPolicy,
    rid: u32,
    scope: LogScope,
    level: i32,
    text: &[u8],
) {
    let free = policy.allows(Grants::SERVER_LOG);
    let level = if free { level } else { level.max(ERR) };
    let entry = tree.entry(rid).or_else(|| tree.entry(0));
    let request = entry.as_ref().and_then(|e| e.request());
    let server = match scope {
        LogScope::Server(number) if free => find(number),
        _ => None,
    };
    let own = request.map(Request::server).or_else(|| tree.server());
    let mut lines = entry.as_ref().map_or(0, |e| e.guard.log_lines.get());
    for line in pieces(text) {
        lines = lines.saturating_add(1);
        if policy.max_log_lines > 0 && lines > policy.max_log_lines {
            if lines == policy.max_log_lines + 1
                && let Some(r) = request
            {
                complain_of(
                    r,
                    tenant.name(),
                    &Refusal::limit("the request's log lines", "max_log_lines"),
                );
            }
            break;
        }
        write(tenant, request, server.or(own), server.is_some(), level, line);
    }
    if let Some(entry) = entry {
        entry.guard.log_lines.set(lines);
    }
}

/// The same when there is no request any more: with the client that it came from.
pub(crate) fn log_outside(
    tenant: &Tenant,
    policy: &TenantPolicy,
    scope: LogScope,
    level: i32,
    text: &[u8],
    own: Option<Server<'_>>,
    head: &[u8],
) {
    let free = policy.allows(Grants::SERVER_LOG);
    let level = if free { level } else { level.max(ERR) };
    let server = match scope {
        LogScope::Server(number) if free => find(number),
        _ => own,
    };
    let most = if policy.max_log_lines == 0 { usize::MAX } else { policy.max_log_lines as usize };
    for line in pieces(text).take(most) {
        let whole = [head, line].concat();
        write(tenant, None, server, true, level, &whole);
    }
}

fn find(number: u32) -> Option<Server<'static>> {
    server::main().and_then(|m| m.chain().find(|s| s.number() == number))
}

fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = &text[..text.len().min(LOG_TEXT)];
    text.split(|b| *b == b'\n')
        .flat_map(|line| line.chunks(LOG_PIECE).chain(line.is_empty().then_some(&[][..])))
}

fn write(
    tenant: &Tenant,
    r: Option<Request<'_>>,
    s: Option<Server<'_>>,
    server_log: bool,
    level: i32,
    line: &[u8],
) {
    let Some(left_out) = throttle::allow(tenant.name(), "log", LOG_LINES) else { return };
    let mut whole = format!("{}: ", tenant.name()).into_bytes();
    whole.extend_from_slice(line);
    whole.extend_from_slice(throttle::more(left_out).as_bytes());
    match r {
        Some(r) if !server_log => log::request(r, level, &whole),
        _ => log::server_bytes(s, level, &whole),
    }
}

/// Whether a request that a confined tenant has asked for, by a redirect, is where it may not go: the tenant that asked.
pub(crate) fn strayed(r: Request<'_>) -> bool {
    if r.prev().is_none() && r.main().is_none() {
        return false;
    }
    let Some((tree, _)) = Tree::known(r.root()) else { return false };
    let Some(bound) = tree.bound_to() else { return false };
    let here = tenants::of(r);
    if *here == *bound {
        return false;
    }
    let whose = if is_default(&here) { "nobody's" } else { "another tenant's" };
    let what = format!("a redirect to {}, which is {whose}", text(r.uri().unwrap_or(b"")));
    complain_of(r, &bound, &Refusal::grant(what, Grants::FOREIGN_URIS));
    tree.stray();
    true
}
