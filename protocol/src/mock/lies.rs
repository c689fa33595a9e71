//! What a worker says: properly, and with a lie in it.

use super::Rng;
use crate::codec;
use crate::fields::{FIELDS, Field, Value};
use crate::frame::Kind;
use crate::message::{Call, Change, Leave, LogScope, Op, TableId};
use crate::wire::Writer;

const OPS: [Op; 18] = [
    Op::AuthName,
    Op::AuthType,
    Op::ConstructUrl,
    Op::DiscardRequestBody,
    Op::DocumentRoot,
    Op::BasicAuthPassword,
    Op::RemoteHost,
    Op::IsHttps,
    Op::SslVar,
    Op::MeetsConditions,
    Op::SetContentLength,
    Op::SetEtag,
    Op::SetLastModified,
    Op::UpdateMtime,
    Op::AllowMethods,
    Op::ServerRoot,
    Op::MpmQuery,
    Op::ExistsConfigDefine,
];

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => Vec::new(),
        1 => b"Set-Cookie".to_vec(),
        2 => vec![b'x'; rng.below(9000)],
        _ => rng.bytes(40).into_iter().map(|b| b.max(1)).collect(),
    }
}

fn table(rng: &mut Rng) -> TableId {
    TableId::from_u8(rng.below(10) as u8).unwrap_or(TableId::Notes)
}

/// A well-formed call with values as an attacker likes them, encoded.
pub fn honest_call(rng: &mut Rng) -> Vec<u8> {
    let (one, two) = (text(rng), text(rng));
    let wide = u64::from(rng.odd_u32()) << (8 * rng.below(5));
    let maybe = if rng.one_in(3) { None } else { Some(wide) };
    let is_input = rng.one_in(2);
    let call = match rng.below(25) {
        0 => Call::Read(maybe),
        1 => Call::ReadSome(rng.odd_u32()),
        2 => Call::FilterRead(maybe),
        3 => Call::FilterFlush,
        4 => Call::FilterClose,
        5 => Call::FilterPassOn,
        6 => Call::FilterDisable,
        7 => Call::Log {
            scope: rng.pick(&[
                LogScope::Request,
                LogScope::Connection,
                LogScope::Server(wide as u32),
            ]),
            level: rng.next_u32() as u8,
            text: &one,
        },
        8 => Call::Flush,
        9 => Call::SendFile { serial: rng.odd_u32(), offset: wide, len: maybe },
        10 => Call::InternalRedirect(&one),
        11 => Call::AddFilter { name: &one, is_input },
        12 => Call::RegisterFilter {
            name: &one,
            is_input,
            handler: &two,
            directory: is_input.then_some(&one),
        },
        13 => Call::Field(rng.next_u32() as u8),
        14 => Call::Table(table(rng)),
        15 => Call::Snapshot,
        16 => Call::Connection,
        17 => Call::Server(rng.odd_u32()),
        18 => Call::AddCgiVars,
        19 => Call::ConnectionRead(maybe),
        20 => Call::ConnectionReadLine(maybe),
        21 => Call::ConnectionWrite(&one),
        22 => Call::Argument(rng.next_u32() as u8),
        23 => Call::Answer(&one),
        _ => Call::Op { op: rng.pick(&OPS), number: wide as i64, text: &one },
    };
    codec::encode(&call).unwrap_or_default()
}

/// A well-formed list of changes.
pub(super) fn changes(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(12) {
        let (key, value) = (text(rng), text(rng));
        let change = match rng.below(6) {
            0 => {
                let field = rng.pick(&[Field::ContentType, Field::User, Field::Filename]);
                Change::Field(field, Value::Str(&value))
            }
            1 => Change::Field(Field::Status, Value::Int(rng.next_u64() as i64)),
            2 => Change::Unset(table(rng), &key),
            3 => Change::Add(table(rng), &key, &value),
            4 => Change::Keepalive(rng.below(3) as i32),
            _ => Change::Set(table(rng), &key, &value),
        };
        change.write(&mut Writer::new(&mut out));
    }
    out
}

/// A payload with its kind: well-formed, then cut, lengthened, or with a byte or a length changed.
pub fn lying_payload(rng: &mut Rng) -> (Kind, Vec<u8>) {
    let (kind, mut payload) = match rng.below(8) {
        0..3 => (Kind::Call, honest_call(rng)),
        3..6 => (Kind::Changes, changes(rng)),
        6 => {
            let leave = Leave { result: rng.odd_u32() as i32, keep: true, cleanups: true };
            (Kind::Leave, codec::encode(&leave).unwrap_or_default())
        }
        _ => {
            // An assignment that is not allowed: a read-only field, a wrong type, a text with a zero in it.
            let row = rng.pick(FIELDS);
            let value = rng.pick(&[&b"a\0b"[..], b""]);
            let value = if rng.one_in(2) { Value::Str(value) } else { Value::Int(-1) };
            let mut out = Vec::new();
            Change::Field(row.field, value).write(&mut Writer::new(&mut out));
            (Kind::Changes, out)
        }
    };
    match rng.below(6) {
        0 => payload.truncate(rng.below(payload.len())),
        1 => payload.extend(rng.bytes(20)),
        2 if !payload.is_empty() => {
            let at = rng.below(payload.len());
            payload[at] ^= 1 << rng.below(8);
        }
        3 if payload.len() >= 4 => {
            let at = rng.below(payload.len() - 3);
            payload[at..at + 4].copy_from_slice(&rng.odd_u32().to_le_bytes());
        }
        4 => {
            let count = rng.below(payload.len().min(64) + 1);
            let mut junk = vec![0; count];
            rng.fill(&mut junk);
            payload[..count].copy_from_slice(&junk);
        }
        _ => {}
    }
    (kind, payload)
}
