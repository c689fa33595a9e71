//! Connection handlers: Python instead of HTTP on a connection.

use vivarium_protocol::control::PoolKey;
use vivarium_protocol::frame::Header;
use vivarium_protocol::message::{
    Call, ENTER_CONNECTION, ENTER_DEBUG, ENTER_LAST, ErrorKind, LogScope, Phase, Reply,
    write_enter_head,
};
use vivarium_protocol::policy::{Grants, is_default};
use vivarium_protocol::wire::Writer;

use super::exchange::Conversation;
use super::{Fault, calls, run, snapshot, tree};
use crate::apache::brigade::{Brigade, Next};
use crate::apache::connection::Connection;
use crate::apache::filter::{self, Demand};
use crate::apache::server::Server;
use crate::apache::{log, server};
use crate::config::dir::{DirConf, Handler};
use crate::grants::view::View;
use crate::grants::{self, Refusal};
use crate::sys;
use crate::tenants::{self, bulkhead, throttle};

/// How much is asked of httpd's filters at a time, in bytes.
const PIECE: u64 = 64 << 10;
/// What mod_python raises when there is nothing more to read, be it the end or a failure.
const FAILED: &[u8] = b"Connection read error";

/// The hook: the first connection handler of the address's virtual host serves the connection.
pub(crate) fn process(c: Connection<'_>) -> i32 {
    // A stream of an HTTP/2 connection is not a connection of its own.
    if c.is_secondary() {
        return sys::DECLINED;
    }
    let server = c.base_server();
    let conf = server.and_then(server::Server::default_dir_conf);
    let (Some(server), Some(conf)) = (server, conf) else { return sys::DECLINED };
    let Some(list) = conf.handlers(Phase::Connection, None) else { return sys::DECLINED };
    let Some(handler) = list.handlers.first() else { return sys::DECLINED };
    let key = key(conf, server);
    match serve(c, conf, server, &key, handler) {
        Ok(result) => result,
        Err(fault) => {
            let (code, reason) = fault.code_and_reason();
            let mut text = format!("{code}: {}: {reason}", Phase::Connection.directive());
            if !is_default(&key.tenant) {
                let Some(left_out) = throttle::allow(&key.tenant, "connection", 1) else {
                    return sys::OK;
                };
                text.push_str(&throttle::more(left_out));
            }
            log::connection(c, log::Level::Err as i32, text.as_bytes());
            // The client sees the connection close; nobody else's protocol takes over.
            sys::OK
        }
    }
}

fn key(conf: &DirConf, server: server::Server<'_>) -> PoolKey {
    let tenant = tenants::of_server(Some(conf));
    run::key_of(&tenant, conf.interpreter().unwrap_or_else(|| server.hostname()))
}

fn serve(
    c: Connection<'_>,
    conf: &DirConf,
    server: Server<'_>,
    key: &PoolKey,
    handler: &Handler,
) -> Result<i32, Fault> {
    let place = bulkhead::enter_for(key)?;
    let pool = run::find_pool(key)?;
    let policy = pool.tenant().confined();
    if policy.as_ref().is_some_and(|p| !p.allows(Grants::CONNECTIONS)) {
        let no = Refusal::grant(Phase::Connection.directive(), Grants::CONNECTIONS);
        grants::complain_outside(&key.tenant, &no);
        return Ok(sys::OK);
    }
    let view = policy.as_deref().map(|policy| View { tenant: &key.tenant, policy });
    let mut flags = ENTER_CONNECTION | ENTER_LAST;
    if conf.debug() {
        flags |= ENTER_DEBUG;
    }
    let mut payload = Vec::with_capacity(512);
    let mut w = Writer::new(&mut payload);
    let handlers = [handler.to_ref()];
    write_enter_head(&mut w, Phase::Connection, flags, tree::next_tree(), &handlers, None, None);
    w.bytes(&[]);
    w.bytes(&snapshot::connection(c, view.as_ref(), Some(server)));
    let (mut pool, mut attempt) = (pool, 1);
    let leave = loop {
        let conversation = Conversation::begin_waiting(pool, None, place.since)?;
        match conversation.enter_connection(c, &payload) {
            Err(fault) if attempt < run::ATTEMPTS && conversation.may_go_elsewhere(&fault) => {
                attempt += 1;
                pool = run::find_pool(key)?;
            }
            done => break done?,
        }
    };
    Ok(if leave.result == sys::DECLINED { sys::DECLINED } else { sys::OK })
}

/// Answers a call of a connection handler.
pub(crate) fn answer(
    conversation: &Conversation,
    c: Connection<'_>,
    header: Header,
    call: &Call<'_>,
) -> Result<(), Fault> {
    let error = |text| Reply::Error { kind: ErrorKind::Io, text };
    let tenant = conversation.pool().tenant();
    let policy = tenant.confined();
    let view = policy.as_deref().map(|policy| View { tenant: tenant.name(), policy });
    if let Some(view) = &view {
        let own = c.base_server();
        match call {
            Call::Log { scope, level, text } => {
                let level = i32::from((*level).min(7));
                grants::calls::log_outside(tenant, view.policy, *scope, level, text, own, b"");
                return conversation.reply(header, &Reply::Ok);
            }
            Call::Connection => {
                let info = view.connection(c.info(), own);
                return conversation.reply(header, &Reply::Connection(info));
            }
            Call::Server(_) | Call::Op { .. } => {
                return calls::answer_confined(conversation, header, call, view, own, None);
            }
            _ => {}
        }
    }
    let reply = match call {
        Call::ConnectionRead(want) => return read(conversation, c, header, *want),
        Call::ConnectionReadLine(most) => return read_line(conversation, c, header, *most),
        Call::ConnectionWrite(data) if write(c, data) => Reply::Ok,
        Call::ConnectionWrite(_) => error(super::body::CLIENT_GONE),
        Call::Log { scope: LogScope::Server(number), level, text } => {
            let s = server::main().and_then(|m| m.chain().find(|s| s.number() == *number));
            log::server_bytes(s, i32::from((*level).min(7)), text);
            Reply::Ok
        }
        Call::Log { level, text, .. } => {
            log::connection(c, i32::from((*level).min(7)), text);
            Reply::Ok
        }
        Call::Connection => Reply::Connection(c.info()),
        Call::Server(_) | Call::Op { .. } => {
            return calls::answer_global(conversation, header, call);
        }
        _ => Reply::Error { kind: ErrorKind::State, text: b"not possible in a connection handler" },
    };
    conversation.reply(header, &reply)
}

fn write(c: Connection<'_>, data: &[u8]) -> bool {
    let Some(bb) = c.pool().and_then(|p| Brigade::new(p, c)) else { return false };
    bb.write(data);
    bb.push_flush();
    let sent = filter::pass(c.output_filters(), bb) == sys::APR_SUCCESS && !c.aborted();
    bb.destroy();
    sent
}

fn read(
    conversation: &Conversation,
    c: Connection<'_>,
    header: Header,
    want: Option<u64>,
) -> Result<(), Fault> {
    let most = want.unwrap_or(u64::MAX);
    let (mut total, mut ended) = (0, false);
    while total < most && !ended {
        let bytes = (most - total).min(PIECE) as i64;
        let demand = Demand { mode: sys::AP_MODE_READBYTES, block: sys::APR_BLOCK_READ, bytes };
        match fetch(conversation, c, header, demand)? {
            // Protocols are talks: with a number given, what is there is the answer.
            Got::Data(n) => (total, ended) = (total + n, want.is_some()),
            Got::End(n) => (total, ended) = (total + n, true),
            Got::Failed => {
                return conversation
                    .reply(header, &Reply::Error { kind: ErrorKind::Io, text: FAILED });
            }
        }
    }
    conversation.reply(header, &ended_or(total))
}

/// The end of the connection is an error to who asks for more, as mod_python has it: its documented loops end by it.
fn ended_or(total: u64) -> Reply<'static> {
    match total {
        0 => Reply::Error { kind: ErrorKind::Io, text: FAILED },
        n => Reply::Int(n as i64),
    }
}

fn read_line(
    conversation: &Conversation,
    c: Connection<'_>,
    header: Header,
    most: Option<u64>,
) -> Result<(), Fault> {
    // httpd's line mode takes its own limit; a shorter one of the caller is kept by the worker's buffer.
    let bytes = most.unwrap_or(0).min(i64::MAX as u64) as i64;
    let demand = Demand { mode: sys::AP_MODE_GETLINE, block: sys::APR_BLOCK_READ, bytes };
    let reply = match fetch(conversation, c, header, demand)? {
        Got::Data(n) | Got::End(n) => ended_or(n),
        Got::Failed => Reply::Error { kind: ErrorKind::Io, text: FAILED },
    };
    conversation.reply(header, &reply)
}

enum Got {
    Data(u64),
    End(u64),
    Failed,
}

/// Fetches once and sends what came.
fn fetch(
    conversation: &Conversation,
    c: Connection<'_>,
    header: Header,
    demand: Demand,
) -> Result<Got, Fault> {
    let Some(bb) = c.pool().and_then(|p| Brigade::new(p, c)) else { return Ok(Got::Failed) };
    let status = filter::fetch(c.input_filters(), bb, demand);
    let mut total = 0;
    // The end of the connection may come together with its last bytes.
    let mut got = match status {
        sys::APR_SUCCESS | sys::APR_EOF => None,
        _ => Some(Got::Failed),
    };
    while got.is_none() {
        match bb.peek() {
            Next::Empty => got = Some(if total == 0 { Got::End(0) } else { Got::Data(total) }),
            Next::Eos => got = Some(Got::End(total)),
            Next::Data(data) => {
                total += data.len() as u64;
                for part in data.chunks(vivarium_protocol::frame::MAX_BODY) {
                    conversation.send_data(header, part)?;
                }
            }
            Next::Failed(_) => got = Some(Got::Failed),
            Next::Flush | Next::Meta => {}
        }
        bb.drop_first();
    }
    bb.destroy();
    Ok(got.unwrap_or(Got::Failed))
}
