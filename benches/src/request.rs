//! A typical request, as httpd would describe it.

use vivarium_protocol::fields::{Type, Value};
use vivarium_protocol::message::{
    SNAPSHOT_TABLES, TableId, write_snapshot_fields, write_snapshot_head,
};
use vivarium_protocol::table::write_table;
use vivarium_protocol::wire::Writer;

/// What a browser sends, then what applications and proxies add.
const HEADERS: [(&str, &str); 10] = [
    ("Host", "www.example.org"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Referer", "https://www.example.org/a/page/before"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; lang=en"),
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("Upgrade-Insecure-Requests", "1"),
];

type Pair = (Vec<u8>, Vec<u8>);

/// The request.
pub(crate) struct Request {
    headers: Vec<Pair>,
    environment: Vec<Pair>,
}

impl Request {
    /// One with that many headers.
    pub(crate) fn new(headers: usize) -> Self {
        let more = |n: usize| {
            let value = format!("a value of some length, number {n}");
            (format!("X-Header-{n}").into_bytes(), value.into_bytes())
        };
        let pair = |(name, value): &(&str, &str)| (name.as_bytes().into(), value.as_bytes().into());
        Self {
            headers: HEADERS
                .iter()
                .map(pair)
                .chain((HEADERS.len()..).map(more))
                .take(headers)
                .collect(),
            environment: [("UNIQUE_ID", "Z0123456789abcdefghijklm"), ("BENCH", "1")]
                .iter()
                .map(pair)
                .collect(),
        }
    }

    fn pairs(pairs: &[Pair]) -> impl Iterator<Item = (&[u8], &[u8])> {
        pairs.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// Writes its snapshot.
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        write_snapshot_head(w, None, None, None, 0);
        write_snapshot_fields(w, |field| match field.row().kind {
            Type::Str | Type::OptStr => Value::Str(b"/a/path/of/usual/length"),
            Type::Int | Type::Seconds => Value::Int(200),
            Type::Tuple => Value::None,
        });
        for id in SNAPSHOT_TABLES {
            let start = w.begin_section();
            match id {
                TableId::HeadersIn => write_table(w, Self::pairs(&self.headers)),
                TableId::SubprocessEnv => write_table(w, Self::pairs(&self.environment)),
                _ => w.u32(0),
            }
            w.end_section(start);
        }
    }

    /// Its snapshot.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Writer::new(&mut out));
        out
    }

    /// Its headers as a table.
    pub(crate) fn encoded_headers(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_table(&mut Writer::new(&mut out), Self::pairs(&self.headers));
        out
    }
}
