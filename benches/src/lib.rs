//! The pieces of a request's way that can be run alone, without httpd and without Python.
//!
//! [`all`] lists them. `cargo bench -p vivarium-benches` times them with criterion; the program `pieces` runs one of them a
//! given number of times, so that `scripts/test budget` can count its instructions.

mod request;
mod rounds;
#[path = "../../interp-daemon/worker/src/forms/urlencoded.rs"]
#[allow(dead_code, unreachable_pub)]
mod urlencoded;

use std::fmt;
use std::hint::black_box;

use vivarium_protocol::codec;
use vivarium_protocol::message::{Leave, Snapshot};
use vivarium_protocol::table::read_table;
use vivarium_protocol::wire::{Reader, Writer};

use request::Request;
use rounds::{LaneRound, RingRound};

/// A piece: a step that can be repeated, with whatever it needs made beforehand.
pub struct Piece {
    /// Its name in the budget file and in criterion's reports.
    pub name: &'static str,
    run: Box<dyn FnMut()>,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Piece {
    fn new(name: &'static str, run: impl FnMut() + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// Does it once.
    pub fn run(&mut self) {
        (self.run)();
    }
}

/// The body of a typical form: eight fields, some with escapes.
const FORM: &[u8] = b"name=J%C3%BCrgen+Example&street=12+Long+Lane&city=Aachen&zip=52062&mail=someone%40example.org&\
    remarks=a+text+of+some+length%2C+with+a+few+escapes%21&agree=on&token=0123456789abcdef0123456789abcdef";

/// Encodes a snapshot into a buffer that is kept.
fn snapshot_write(name: &'static str, headers: usize) -> Piece {
    let (request, mut out) = (Request::new(headers), Vec::new());
    Piece::new(name, move || {
        out.clear();
        request.write(&mut Writer::new(&mut out));
        black_box(&out);
    })
}

/// Decodes a snapshot, its tables left as they are: what the worker does before the handler looks at anything.
fn snapshot_read(name: &'static str, headers: usize) -> Piece {
    let encoded = Request::new(headers).encoded();
    Piece::new(name, move || {
        black_box(Snapshot::read(black_box(&encoded)).expect("our own snapshot"));
    })
}

/// Decodes a table of headers.
fn table_read(name: &'static str, headers: usize) -> Piece {
    let encoded = Request::new(headers).encoded_headers();
    Piece::new(name, move || {
        black_box(read_table(&mut Reader::new(black_box(&encoded))).expect("our own table"));
    })
}

/// All pieces.
pub fn all() -> Vec<Piece> {
    let mut ring = RingRound::new(256);
    let mut large = RingRound::new(64 << 10);
    let mut lane = LaneRound::new();
    let leave = Leave { result: 0, keep: false, cleanups: false };
    vec![
        Piece::new("ring_frame_256", move || ring.run()),
        Piece::new("ring_frame_64k", move || large.run()),
        Piece::new("lane_round", move || lane.run()),
        snapshot_write("snapshot_write_10", 10),
        snapshot_write("snapshot_write_20", 20),
        snapshot_read("snapshot_read_10", 10),
        snapshot_read("snapshot_read_20", 20),
        table_read("table_read_10", 10),
        table_read("table_read_20", 20),
        Piece::new("leave_codec", move || {
            let bytes = codec::encode(black_box(&leave)).expect("a small message");
            black_box(codec::decode::<Leave>(&bytes).expect("our own message"));
        }),
        Piece::new("form_urlencoded", move || {
            let fields = urlencoded::fields(black_box(FORM), true);
            black_box(fields.map(|(name, value)| name.len() + value.len()).sum::<usize>());
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_can_be_repeated() {
        for mut piece in all() {
            for _ in 0..300 {
                piece.run();
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|p| p.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_form_has_its_fields() {
        let fields: Vec<_> = urlencoded::fields(FORM, true).collect();
        assert_eq!(fields.len(), 8);
        assert_eq!(&*fields[0].1, "Jürgen Example".as_bytes());
    }
}
