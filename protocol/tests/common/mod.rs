//! Values of every type that goes over the wire.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use vivarium_protocol::control::{
    Config, FromParent, FromWorker, PoolKey, ToChild, ToSupervisor, ToWorker,
};
use vivarium_protocol::fields::{FIELDS, FINFO_ITEMS, FINFO_TEXTS, Type, Value};
use vivarium_protocol::message::{
    Call, Change, ConfigNode, ConnectionInfo, ErrorKind, Leave, LogScope, Op, Reply, ServerInfo,
    Startup, TableId,
};
use vivarium_protocol::policy::TenantPolicy;

/// Noise that the borrowing messages take their bytes from: strategies want values that live for ever.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let step = |n: &u32| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), step).map(|n| (n >> 24) as u8).take(8192).collect()
});
/// The same without zeros.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| NOISE.iter().map(|b| (*b).max(1)).collect());

fn part(of: &'static [u8]) -> impl Strategy<Value = &'static [u8]> {
    (0..of.len() - 40, 0..40_usize).prop_map(move |(at, len)| &of[at..at + len])
}

pub(crate) fn bytes() -> impl Strategy<Value = &'static [u8]> {
    part(&NOISE)
}

fn text() -> impl Strategy<Value = &'static [u8]> {
    part(&TEXT)
}

fn owned() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

pub(crate) fn scalar() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![Just(Value::None), bytes().prop_map(Value::Str), any::<i64>().prop_map(Value::Int),]
}

pub(crate) fn value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![scalar(), vec(scalar(), 0..6).prop_map(Value::Tuple)]
}

pub(crate) fn table_id() -> impl Strategy<Value = TableId> {
    (0..10_u8).prop_map(|n| TableId::from_u8(n).unwrap())
}

/// Values that `finfo` may be given.
pub(crate) fn finfo(n: i64, s: Option<&'static [u8]>) -> Value<'static> {
    let item = |at| match s {
        None => Value::None,
        Some(s) if FINFO_TEXTS.contains(&at) => Value::Str(s),
        Some(_) => Value::Int(n),
    };
    Value::Tuple((0..FINFO_ITEMS).map(item).collect())
}

pub(crate) fn change() -> impl Strategy<Value = Change<'static>> {
    let writable: Vec<_> = FIELDS.iter().filter(|row| row.writable).collect();
    let field = (0..writable.len(), any::<i64>(), option::of(text())).prop_map(move |(i, n, s)| {
        let row = writable[i];
        let value = match (row.kind, s) {
            (Type::Int | Type::Seconds, _) => Value::Int(n),
            (Type::OptStr, None) => Value::None,
            (Type::Tuple, s) => finfo(n, s),
            (_, s) => Value::Str(s.unwrap_or(b"")),
        };
        Change::Field(row.field, value)
    });
    prop_oneof![
        field,
        (table_id(), text(), text()).prop_map(|(t, k, v)| Change::Set(t, k, v)),
        (table_id(), text(), text()).prop_map(|(t, k, v)| Change::Add(t, k, v)),
        (table_id(), text()).prop_map(|(t, k)| Change::Unset(t, k)),
        table_id().prop_map(Change::Clear),
        (0..=2).prop_map(Change::Keepalive),
    ]
}

const OPS: [Op; 5] =
    [Op::AuthName, Op::SslVar, Op::AllowMethods, Op::MpmQuery, Op::ExistsConfigDefine];

pub(crate) fn call() -> impl Strategy<Value = Call<'static>> {
    let scope = prop_oneof![
        Just(LogScope::Request),
        Just(LogScope::Connection),
        any::<u32>().prop_map(LogScope::Server),
    ];
    prop_oneof![
        option::of(any::<u64>()).prop_map(Call::Read),
        any::<u32>().prop_map(Call::ReadSome),
        option::of(any::<u64>()).prop_map(Call::FilterRead),
        (scope, any::<u8>(), bytes()).prop_map(|(scope, level, text)| Call::Log {
            scope,
            level,
            text
        }),
        (any::<u32>(), any::<u64>(), option::of(any::<u64>()))
            .prop_map(|(serial, offset, len)| Call::SendFile { serial, offset, len }),
        bytes().prop_map(Call::InternalRedirect),
        option::of(any::<u64>()).prop_map(Call::ConnectionRead),
        option::of(any::<u64>()).prop_map(Call::ConnectionReadLine),
        bytes().prop_map(Call::ConnectionWrite),
        any::<u8>().prop_map(Call::Argument),
        bytes().prop_map(Call::Answer),
        (bytes(), any::<bool>(), bytes(), option::of(bytes())).prop_map(
            |(name, is_input, handler, directory)| Call::RegisterFilter {
                name,
                is_input,
                handler,
                directory
            }
        ),
        any::<u8>().prop_map(Call::Field),
        table_id().prop_map(Call::Table),
        any::<u32>().prop_map(Call::Server),
        (0..5_usize, any::<i64>(), bytes()).prop_map(|(i, number, text)| Call::Op {
            op: OPS[i],
            number,
            text
        }),
        (0..9_u8, bytes(), any::<bool>()).prop_map(|(n, name, is_input)| match n {
            0 => Call::Flush,
            1 => Call::FilterFlush,
            2 => Call::FilterClose,
            3 => Call::FilterPassOn,
            4 => Call::FilterDisable,
            5 => Call::Snapshot,
            6 => Call::Connection,
            7 => Call::AddCgiVars,
            _ => Call::AddFilter { name, is_input },
        }),
    ]
}

pub(crate) fn connection() -> impl Strategy<Value = ConnectionInfo> {
    (
        (owned(), any::<u16>(), owned(), any::<u16>()),
        (option::of(owned()), option::of(owned()), option::of(owned())),
        (any::<bool>(), any::<i32>(), any::<i64>(), any::<u32>(), owned()),
    )
        .prop_map(|(a, b, c)| ConnectionInfo {
            local: (a.0, a.1),
            client: (a.2, a.3),
            remote_host: b.0,
            remote_logname: b.1,
            local_host: b.2,
            aborted: c.0,
            keepalive: c.1,
            double_reverse: c.1 / 2,
            keepalives: c.1 / 3,
            id: c.2,
            base_server: c.3,
            notes: c.4,
        })
}

pub(crate) fn server() -> impl Strategy<Value = ServerInfo> {
    (option::of(any::<u32>()), option::of(owned()), vec(owned(), 0..4), -1e9..1e9, any::<i64>())
        .prop_map(|(next, text, names, timeout, n)| ServerInfo {
            next,
            defn_name: text.clone(),
            defn_line_number: n as u32,
            server_admin: None,
            server_hostname: text.clone(),
            port: n as u16,
            error_fname: text.clone(),
            loglevel: n as i32,
            is_virtual: n % 2 == 0,
            timeout,
            keep_alive_timeout: timeout / 3.0,
            keep_alive_max: n as i32,
            keep_alive: n as i32 / 2,
            path: text.clone(),
            names: names.clone(),
            wild_names: names,
            limit_req_line: n as i32,
            limit_req_fieldsize: n as i32,
            limit_req_fields: n as i32,
            server_scheme: text.clone(),
            config: text.clone().unwrap_or_default(),
            options: text.unwrap_or_default(),
            my_generation: n as i32,
            restart_time: n,
        })
}

pub(crate) fn startup() -> impl Strategy<Value = Startup> {
    (vec(owned(), 0..4), server())
        .prop_map(|(imports, main_server)| Startup { imports, main_server })
}

pub(crate) fn config() -> impl Strategy<Value = Vec<ConfigNode>> {
    let node = |children| {
        (owned(), owned(), children).prop_map(|(directive, args, children)| ConfigNode {
            directive,
            args,
            children,
        })
    };
    let leaf = node(Just(Vec::new()).boxed());
    vec(leaf.prop_recursive(4, 12, 3, move |inner| node(vec(inner, 0..3).boxed())), 0..3)
}

pub(crate) fn reply() -> impl Strategy<Value = Reply<'static>> {
    let kind = prop_oneof![
        Just(ErrorKind::Io),
        Just(ErrorKind::Value),
        Just(ErrorKind::Permission),
        Just(ErrorKind::ServerReturn),
        Just(ErrorKind::State),
    ];
    prop_oneof![
        Just(Reply::Ok),
        Just(Reply::None),
        any::<i64>().prop_map(Reply::Int),
        option::of(bytes()).prop_map(Reply::Text),
        bytes().prop_map(Reply::Bytes),
        bytes().prop_map(Reply::Value),
        connection().prop_map(Reply::Connection),
        server().prop_map(Reply::Server),
        (kind, bytes()).prop_map(|(kind, text)| Reply::Error { kind, text }),
    ]
}

pub(crate) fn leave() -> impl Strategy<Value = Leave> {
    (any::<i32>(), any::<bool>(), any::<bool>()).prop_map(|(result, keep, cleanups)| Leave {
        result,
        keep,
        cleanups,
    })
}

pub(crate) fn to_supervisor() -> impl Strategy<Value = ToSupervisor> {
    prop_oneof![
        (any::<u32>(), any::<u64>(), any::<u32>()).prop_map(|(version, instance, generation)| {
            ToSupervisor::Hello { version, instance, generation }
        }),
        (".*", ".*", any::<u32>()).prop_map(|(tenant, interpreter, region)| {
            ToSupervisor::Attach { pool: PoolKey { tenant, interpreter }, region }
        }),
        any::<u32>().prop_map(|region| ToSupervisor::Detach { region }),
        (".*", owned()).prop_map(|(tenant, data)| {
            let pool = PoolKey { tenant, interpreter: String::new() };
            ToSupervisor::Startup { pool, data }
        }),
        (any::<u32>(), any::<u8>(), any::<u16>(), ".*").prop_map(
            |(region, slot, epoch, reason)| ToSupervisor::Misbehaved {
                region,
                slot,
                epoch,
                reason
            }
        ),
    ]
}

pub(crate) fn to_child() -> impl Strategy<Value = ToChild> {
    let slot = (any::<u32>(), any::<u8>(), any::<u16>());
    prop_oneof![
        any::<u32>().prop_map(|version| ToChild::Welcome { version }),
        (any::<u32>(), ".*").prop_map(|(version, reason)| ToChild::Refuse { version, reason }),
        any::<u32>().prop_map(|region| ToChild::Attached { region }),
        (any::<u32>(), ".*", ".*", any::<u32>()).prop_map(|(region, code, reason, retry_ms)| {
            ToChild::PoolDown { region, code, reason, retry_ms }
        }),
        (slot, any::<i32>(), option::of(".*")).prop_map(|((region, slot, epoch), pid, how)| {
            match how {
                None => ToChild::WorkerUp { region, slot, epoch, pid },
                Some(how) => ToChild::WorkerDown { region, slot, epoch, how },
            }
        }),
        (any::<u32>(), ".*", any::<u64>(), any::<bool>(), any::<[u32; 6]>(), paths()).prop_map(
            |(region, tenant, n, confined, caps, document_roots)| ToChild::Policy {
                region,
                policy: TenantPolicy {
                    revision: n,
                    confined,
                    uid: Some(caps[0]).filter(|uid| uid % 2 == 0),
                    max_threads_per_child: caps[1],
                    max_threads: caps[2],
                    queue: caps[3],
                    queue_deadline_ms: caps[4],
                    retry_after_s: caps[5],
                    document_roots,
                    ..TenantPolicy::unconfined(&tenant)
                },
            }
        ),
    ]
}

fn paths() -> impl Strategy<Value = Vec<String>> {
    vec(".*", 0..4)
}

pub(crate) fn to_worker() -> impl Strategy<Value = ToWorker> {
    prop_oneof![
        any::<u64>().prop_map(|region| ToWorker::Region { region }),
        owned().prop_map(|data| ToWorker::Startup { data }),
        any::<u64>().prop_map(|region| ToWorker::RegionGone { region }),
        any::<u32>().prop_map(|grace_ms| ToWorker::Stop { grace_ms }),
    ]
}

pub(crate) fn from_worker() -> impl Strategy<Value = FromWorker> {
    prop_oneof![
        (any::<u32>(), ".*").prop_map(|(version, python)| FromWorker::Ready { version, python }),
        ".*".prop_map(|reason| FromWorker::Failed { reason }),
    ]
}

pub(crate) fn from_parent() -> impl Strategy<Value = FromParent> {
    let texts = (".*", ".*", ".*", ".*");
    (any::<[u32; 4]>(), any::<u64>(), texts).prop_map(|(n, instance, (a, b, c, d))| {
        FromParent::Config(Config {
            version: n[0],
            instance,
            generation: n[1],
            child_uid: n[2],
            child_gid: n[3],
            package_dir: a,
            extension: b,
            optimize: n[3] % 2 == 1,
            server_root: c,
            tenants_dir: d,
        })
    })
}
