//! What the stand-in knows of requests: enough of httpd's records to answer a worker.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};
use vivarium_protocol::fields::{FIELDS, Field, Value};
use vivarium_protocol::message::{
    Change, ConfigNode, ConnectionInfo, SNAPSHOT_TABLES, ServerInfo, TableId,
    write_snapshot_fields, write_snapshot_head,
};
use vivarium_protocol::table::{same_key, write_table};
use vivarium_protocol::wire::Writer;

use crate::Failure;

/// A field's value, owned.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    None,
    Str(Vec<u8>),
    Int(i64),
    Tuple(Vec<Held>),
}

impl Held {
    pub(crate) fn borrow(&self) -> Value<'_> {
        match self {
            Self::None => Value::None,
            Self::Str(s) => Value::Str(s),
            Self::Int(n) => Value::Int(*n),
            Self::Tuple(items) => Value::Tuple(items.iter().map(Self::borrow).collect()),
        }
    }

    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::None => Self::None,
            Value::Str(s) => Self::Str(s.to_vec()),
            Value::Int(n) => Self::Int(*n),
            Value::Tuple(items) => Self::Tuple(items.iter().map(Self::of).collect()),
        }
    }

    fn of_json(json: &Json) -> Self {
        match json {
            Json::String(_) => Self::Str(bytes(json)),
            Json::Number(n) => Self::Int(n.as_i64().unwrap_or_default()),
            Json::Array(items) => Self::Tuple(items.iter().map(Self::of_json).collect()),
            _ => Self::None,
        }
    }

    fn to_json(&self) -> Json {
        match self {
            Self::None => Json::Null,
            Self::Str(s) => text(s),
            Self::Int(n) => json!(n),
            Self::Tuple(items) => items.iter().map(Self::to_json).collect(),
        }
    }
}

/// The bytes of a JSON string.
pub(crate) fn bytes(json: &Json) -> Vec<u8> {
    json.as_str().unwrap_or_default().chars().map(|c| c as u8).collect()
}

/// Bytes as a JSON string.
pub(crate) fn text(bytes: &[u8]) -> Json {
    Json::String(bytes.iter().map(|&b| char::from(b)).collect())
}

/// A Python filter in a request's output chain.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) id: u32,
    pub(crate) handler: Vec<u8>,
    pub(crate) disabled: bool,
}

/// A table's pairs.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// One request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) fields: HashMap<u8, Held>,
    pub(crate) tables: HashMap<u8, Pairs>,
    pub(crate) prev: Option<u32>,
    pub(crate) next: Option<u32>,
    pub(crate) main: Option<u32>,
    pub(crate) body: Vec<u8>,
    pub(crate) body_at: usize,
    pub(crate) out: Vec<u8>,
    /// `(length of out, was it a flush)` after every body frame.
    pub(crate) filters: Vec<Filter>,
    pub(crate) registered: HashMap<Vec<u8>, Vec<u8>>,
}

impl Request {
    pub(crate) fn of_json(json: &Json) -> Result<Self, Failure> {
        let mut made = Self { body: bytes(&json["body"]), ..Self::default() };
        for (name, value) in json["fields"].as_object().into_iter().flatten() {
            let row = FIELDS.iter().find(|r| r.name == name).ok_or(format!("no field {name}"))?;
            made.fields.insert(row.field as u8, Held::of_json(value));
        }
        for (number, name) in TABLES.iter().enumerate() {
            let pairs = json["tables"][name].as_array().into_iter().flatten();
            let pairs = pairs.map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect();
            made.tables.insert(number as u8, pairs);
        }
        for filter in json["filters"].as_array().into_iter().flatten() {
            made.filters.push(Filter {
                id: filter["id"].as_u64().unwrap_or_default() as u32,
                handler: bytes(&filter["handler"]),
                disabled: false,
            });
        }
        made.prev = json["prev"].as_u64().map(|rid| rid as u32);
        made.fields.entry(Field::Remaining as u8).or_insert(Held::Int(made.body.len() as i64));
        Ok(made)
    }

    pub(crate) fn field(&self, field: Field) -> Held {
        self.fields.get(&(field as u8)).cloned().unwrap_or(Held::None)
    }

    pub(crate) fn write_snapshot(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        write_snapshot_head(&mut w, self.prev, self.next, self.main, 0);
        let none = Held::None;
        let value = |field: Field| self.fields.get(&(field as u8)).unwrap_or(&none).borrow();
        write_snapshot_fields(&mut w, value);
        for table in SNAPSHOT_TABLES {
            let section = w.begin_section();
            self.write_table(table, &mut w);
            w.end_section(section);
        }
    }

    pub(crate) fn write_table(&self, table: TableId, w: &mut Writer<'_>) {
        let pairs = self.tables.get(&(table as u8)).map(Vec::as_slice).unwrap_or_default();
        write_table(w, pairs.iter().map(|(k, v)| (k.as_slice(), v.as_slice())));
    }

    pub(crate) fn change(&mut self, change: &Change<'_>) {
        let tables = &mut self.tables;
        match change {
            Change::Field(field, value) => {
                self.fields.insert(*field as u8, Held::of(value));
            }
            Change::Set(t, k, v) => {
                let pairs = tables.entry(*t as u8).or_default();
                pairs.retain(|(key, _)| !same_key(key, k));
                pairs.push((k.to_vec(), v.to_vec()));
            }
            Change::Add(t, k, v) => {
                tables.entry(*t as u8).or_default().push((k.to_vec(), v.to_vec()));
            }
            Change::Unset(t, k) => {
                tables.entry(*t as u8).or_default().retain(|(key, _)| !same_key(key, k));
            }
            Change::Clear(t) => tables.entry(*t as u8).or_default().clear(),
            Change::Keepalive(_) => {}
        }
    }

    fn report(&self) -> Json {
        let fields = self.fields.iter().filter_map(|(number, value)| {
            Some((Field::from_u8(*number)?.row().name.to_owned(), value.to_json()))
        });
        let tables = TABLES.iter().enumerate().map(|(number, name)| {
            let pairs = self.tables.get(&(number as u8)).into_iter().flatten();
            let pairs: Vec<Json> = pairs.map(|(k, v)| json!([text(k), text(v)])).collect();
            ((*name).to_owned(), Json::Array(pairs))
        });
        json!({
            "fields": fields.collect::<serde_json::Map<_, _>>(),
            "tables": tables.collect::<serde_json::Map<_, _>>(),
            "out": text(&self.out),
            "read": self.body_at,
            "prev": self.prev,
            "next": self.next,
        })
    }
}

const TABLES: [&str; 7] = [
    "headers_in",
    "headers_out",
    "err_headers_out",
    "subprocess_env",
    "notes",
    "config",
    "options",
];

/// All trees, and what the tests wait for.
#[derive(Default)]
pub(crate) struct World {
    trees: Mutex<HashMap<u64, Vec<Request>>>,
    /// Calls that were left without an answer or that a test has marked, for tests that wait for one.
    stalled: Mutex<u32>,
    bell: Condvar,
}

impl World {
    pub(crate) fn trees(&self) -> MutexGuard<'_, HashMap<u64, Vec<Request>>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request of a tree to `with`; an empty one if there is none of that number.
    pub(crate) fn with<T>(&self, tree: u64, rid: u32, with: impl FnOnce(&mut Request) -> T) -> T {
        let mut trees = self.trees();
        let requests = trees.entry(tree).or_default();
        while requests.len() <= rid as usize {
            requests.push(Request::default());
        }
        with(&mut requests[rid as usize])
    }

    /// Appends a request to a tree; returns its number.
    pub(crate) fn add(&self, tree: u64, request: Request) -> u32 {
        let mut trees = self.trees();
        let requests = trees.entry(tree).or_default();
        requests.push(request);
        requests.len() as u32 - 1
    }

    pub(crate) fn stall(&self) {
        *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.bell.notify_all();
    }

    pub(crate) fn report(&self, command: &Json) -> Json {
        if command["stalled"].is_u64() {
            let want = command["stalled"].as_u64().unwrap_or_default() as u32;
            let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
            while *stalled < want {
                stalled = self.bell.wait(stalled).unwrap_or_else(PoisonError::into_inner);
            }
            return json!({});
        }
        let tree = command["tree"].as_u64().unwrap_or_default();
        let rid = command["rid"].as_u64().unwrap_or_default() as u32;
        self.with(tree, rid, |r| r.report())
    }
}

/// A connection like any other.
pub(crate) fn connection() -> ConnectionInfo {
    let mut notes = Vec::new();
    write_table(&mut Writer::new(&mut notes), [(&b"n"[..], &b"1"[..])].into_iter());
    ConnectionInfo {
        local: (b"127.0.0.1".to_vec(), 80),
        client: (b"127.0.0.2".to_vec(), 4711),
        remote_host: None,
        remote_logname: None,
        local_host: None,
        aborted: false,
        keepalive: 0,
        double_reverse: 0,
        keepalives: 3,
        id: 99,
        base_server: 0,
        notes,
    }
}

/// A configuration like any other.
pub(crate) fn config() -> Vec<ConfigNode> {
    let node = |directive: &str, args: &str, children| ConfigNode {
        directive: directive.into(),
        args: args.into(),
        children,
    };
    vec![
        node("Listen", "80", Vec::new()),
        node("<Directory", "/srv>", vec![node("Require", "all granted", Vec::new())]),
        node("<Location", "/empty>", Vec::new()),
    ]
}

/// A virtual host like any other.
pub(crate) fn server(number: u32) -> ServerInfo {
    let mut options = Vec::new();
    write_table(
        &mut Writer::new(&mut options),
        [(&b"colour"[..], &b"green"[..]), (&b"none"[..], &b""[..])].into_iter(),
    );
    let mut config = Vec::new();
    write_table(&mut Writer::new(&mut config), [(&b"PythonDebug"[..], &b"1"[..])].into_iter());
    ServerInfo {
        next: (number == 0).then_some(1),
        defn_name: Some(b"/etc/httpd.conf".to_vec()),
        defn_line_number: 7,
        server_admin: Some(b"you@example.com".to_vec()),
        server_hostname: Some(format!("host{number}").into_bytes()),
        port: 0,
        error_fname: Some(b"/var/log/error".to_vec()),
        loglevel: 6,
        is_virtual: number > 0,
        timeout: 60.0,
        keep_alive_timeout: 5.0,
        keep_alive_max: 100,
        keep_alive: 1,
        path: None,
        names: vec![b"a.example".to_vec()],
        wild_names: Vec::new(),
        limit_req_line: 8190,
        limit_req_fieldsize: 8190,
        limit_req_fields: 100,
        server_scheme: None,
        config,
        options,
        my_generation: 0,
        restart_time: 1_500_000,
    }
}
