//! Assignments to a request's fields and tables.

use vivarium_protocol::fields::{Field, Value};
use vivarium_protocol::message::{Change, Phase, TableId};
use vivarium_protocol::policy::{Grants, TenantPolicy};

use super::names::{self, Needs};
use super::{Refusal, files, roots, view};
use crate::apache::request::Request;
use crate::conversation::tree::Entry;

/// What a table's entry costs httpd beside its bytes.
const ENTRY: usize = 64;

/// Checks one change of a confined tenant, and counts it.
pub(crate) fn check(
    tenant: &str,
    policy: &TenantPolicy,
    entry: &Entry,
    r: Request<'_>,
    phase: Option<Phase>,
    change: &Change<'_>,
) -> Result<(), Refusal> {
    match change {
        Change::Field(field, value) => {
            let needs = self::field(policy, r, phase, *field, value);
            let what = || format!("req.{}{}", field.row().name, shown(value));
            Refusal::of(policy, what, needs)?;
            entry.guard.hold(policy, size(value), &format!("req.{}", field.row().name))
        }
        // 1: close the connection after the answer.
        Change::Keepalive(1) => Ok(()),
        Change::Keepalive(_) => {
            let needs = Some(Needs::Grant(Grants::SERVER_STATE));
            Refusal::of(policy, || "req.connection.keepalive".into(), needs)
        }
        Change::Set(table, name, value) | Change::Add(table, name, value) => {
            let what = || format!("req.{}[{}]", table_name(*table), text(name));
            Refusal::of(policy, what, entry_of(*table, name, value))?;
            Refusal::of(policy, what, second_length(r, *table, name, change))?;
            if policy.max_table_entries > 0
                && let Some(t) = r.table(*table)
                && t.len() >= policy.max_table_entries as usize
                && (matches!(change, Change::Add(..)) || !t.has(name))
            {
                return Err(Refusal::limit(table_name(*table), "max_table_entries"));
            }
            entry.guard.hold(policy, name.len() + value.len() + ENTRY, table_name(*table))?;
            if view::belongs(*table) {
                entry.guard.own(*table, name, tenant);
            }
            Ok(())
        }
        Change::Unset(table, name) => {
            let what = || format!("del req.{}[{}]", table_name(*table), text(name));
            let needs = match table {
                // What is not sent cannot harm.
                TableId::HeadersOut | TableId::ErrHeadersOut => None,
                _ => entry_of(*table, name, b""),
            };
            Refusal::of(policy, what, needs)
        }
        Change::Clear(table) => {
            let needs = match table {
                TableId::HeadersIn | TableId::ConnectionNotes => {
                    Some(Needs::Grant(Grants::CONNECTIONS))
                }
                TableId::SubprocessEnv => Some(Needs::Grant(Grants::ENVIRONMENT)),
                TableId::Notes => Some(Needs::Grant(Grants::SERVER_STATE)),
                _ => None,
            };
            Refusal::of(policy, || format!("req.{}.clear()", table_name(*table)), needs)
        }
    }
}

/// An answer has one length: who reads the first of two and who reads the last see different answers.
fn second_length(
    r: Request<'_>,
    table: TableId,
    name: &[u8],
    change: &Change<'_>,
) -> Option<Needs> {
    if !name.eq_ignore_ascii_case(b"Content-Length") {
        return None;
    }
    let is_second = match table {
        TableId::ErrHeadersOut => true,
        TableId::HeadersOut => {
            matches!(change, Change::Add(..)) && r.table(table).is_some_and(|t| t.has(name))
        }
        _ => false,
    };
    is_second.then_some(Needs::Better("Content-Length stands in headers_out, once"))
}

fn entry_of(table: TableId, name: &[u8], value: &[u8]) -> Option<Needs> {
    match table {
        TableId::HeadersIn => names::header_in(name),
        TableId::HeadersOut | TableId::ErrHeadersOut => names::header_out(name, value),
        TableId::SubprocessEnv => names::environment(name),
        TableId::Notes => names::note(name),
        TableId::ConnectionNotes => Some(Needs::Grant(Grants::CONNECTIONS)),
        // Copies in the worker.
        TableId::Config | TableId::Options | TableId::ServerConfig | TableId::ServerOptions => None,
    }
}

fn field(
    policy: &TenantPolicy,
    r: Request<'_>,
    phase: Option<Phase>,
    field: Field,
    value: &Value<'_>,
) -> Option<Needs> {
    match (field, value) {
        (Field::Handler, Value::Str(name)) => names::handler(name),
        (Field::ContentType, Value::Str(kind)) => names::content_type(kind),
        (Field::Filename | Field::CanonicalFilename, Value::Str(path)) => file(policy, r, path),
        (Field::Uri, Value::Str(uri)) => names::uri(uri),
        (Field::PathInfo | Field::Args, Value::Str(text)) => text
            .iter()
            .any(|b| *b < b' ' || *b == 127)
            .then_some(Needs::Better("no control characters, please")),
        (Field::User | Field::ApAuthType, _) => match phase {
            Some(Phase::Authen | Phase::CheckPassword | Phase::RealmHash) => None,
            _ => Some(Needs::Grant(Grants::IDENTITY)),
        },
        (Field::Proxyreq | Field::Assbackwards | Field::Chunked, Value::Int(0)) => None,
        (Field::Proxyreq, _) => Some(Needs::Grant(Grants::PROXY)),
        // An answer without a head, or with other chunks than httpd's, is written by the tenant byte for byte: whoever
        // shares the connection (a proxy in front) could be given answers to other requests.
        (Field::Assbackwards | Field::Chunked, _) => Some(Needs::Grant(Grants::CONNECTIONS)),
        (Field::Status, Value::Int(n)) if !names::is_final_status(*n) => {
            Some(Needs::Better("200 to 599 are statuses of an answer"))
        }
        _ => None,
    }
}

fn file(policy: &TenantPolicy, r: Request<'_>, path: &[u8]) -> Option<Needs> {
    if path.get(..6).is_some_and(|head| head.eq_ignore_ascii_case(b"proxy:")) {
        return Some(Needs::Grant(Grants::PROXY));
    }
    if policy.allows(Grants::FOREIGN_FILES) || files::is_inside(&roots(policy, r), path) {
        return None;
    }
    Some(Needs::Grant(Grants::FOREIGN_FILES))
}

fn size(value: &Value<'_>) -> usize {
    match value {
        Value::Str(s) => s.len() + 1,
        Value::Tuple(items) => items.iter().map(size).sum(),
        Value::None | Value::Int(_) => 0,
    }
}

/// The beginning of a text, safe to log.
pub(super) fn text(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(100)];
    format!("\"{}\"", head.escape_ascii())
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Str(s) => format!(" = {}", text(s)),
        Value::Int(n) => format!(" = {n}"),
        Value::None | Value::Tuple(_) => String::new(),
    }
}

/// A table as Python calls it.
pub(super) fn table_name(table: TableId) -> &'static str {
    match table {
        TableId::HeadersIn => "headers_in",
        TableId::HeadersOut => "headers_out",
        TableId::ErrHeadersOut => "err_headers_out",
        TableId::SubprocessEnv => "subprocess_env",
        TableId::Notes => "notes",
        TableId::ConnectionNotes => "connection.notes",
        TableId::Config => "get_config()",
        TableId::Options => "get_options()",
        TableId::ServerConfig => "server.get_config()",
        TableId::ServerOptions => "server.get_options()",
    }
}
