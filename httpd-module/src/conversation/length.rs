//! An answer that a confined tenant had a part in has the length that its head says.
//!
//! [`Promise`](super::promise) keeps the tenant's own writes to it. But an error page, a redirect, another filter or a head
//! that goes out late can add to what was promised, or take from it; and whatever comes after the promised end looks like
//! the next answer to whoever shares the connection. So it is counted once more where all of it goes by: behind httpd's own
//! header filter, in front of the network.

use std::cell::Cell;

use super::tree::Tree;
use crate::apache::brigade::{Brigade, Next, Size};
use crate::apache::connection::CLOSE;
use crate::apache::filter::{self, Filter};
use crate::apache::request::Request;
use crate::sys;

/// The filter's name.
pub(crate) const NAME: &[u8] = b"vivarium.length";
const LENGTH: &[u8] = b"Content-Length";

#[derive(Clone, Copy)]
enum State {
    /// The head has not gone by.
    Head,
    /// This many bytes are still to come.
    Left(u64),
    /// The end of the answer is told otherwise.
    Free,
    /// Nothing more may come.
    Over,
}

/// Has the answer counted that a request of a confined tenant belongs to.
pub(crate) fn watch(r: Request<'_>, tree: &Tree) {
    let mut main = r;
    while let Some(next) = main.main() {
        main = next;
    }
    // The streams of HTTP/2 have frames that nobody can write over.
    if tree.is_watched() || main.connection().is_secondary() {
        return;
    }
    let state: &Cell<State> = main.pool().own(Cell::new(State::Head));
    filter::add(main, NAME, false, core::ptr::from_ref(state).cast_mut().cast());
}

/// The filter.
#[allow(unsafe_code)]
pub(crate) fn run(f: Filter, bb: Brigade) -> i32 {
    // SAFETY: only `watch` puts this filter on a request, with a state that lives in the request's pool.
    let state = unsafe { f.context().cast::<Cell<State>>().as_ref() };
    let (Some(r), Some(state)) = (f.request(), state) else { return filter::pass(f.next(), bb) };
    if matches!(state.get(), State::Head) {
        let Some(head) = head(bb) else { return filter::pass(f.next(), bb) };
        match head {
            // httpd passes a head on by itself; what comes after the last one is the body.
            Start::Interim => return filter::pass(f.next(), bb),
            Start::Final if lengths(r).count() < 2 => {
                let said =
                    lengths(r).next().and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
                state.set(said.filter(|_| !r.is_chunked()).map_or(State::Free, State::Left));
                return filter::pass(f.next(), bb);
            }
            // Two lengths are two answers: none is sent.
            Start::Final => state.set(State::Over),
            Start::None => state.set(State::Free),
        }
    }
    if matches!(state.get(), State::Free) {
        return filter::pass(f.next(), bb);
    }
    let Some(kept) = Brigade::new(r.pool(), r.connection()) else { return sys::APR_EGENERAL };
    sort(state, r, bb, kept);
    let status = filter::pass(f.next(), kept);
    kept.destroy();
    status
}

/// How a brigade begins.
enum Start {
    /// With the head of an interim answer (100).
    Interim,
    /// With the head of the answer.
    Final,
    /// With something else: the answer has no head.
    None,
}

/// Looks at the beginning; `None` if it has no data yet.
fn head(bb: Brigade) -> Option<Start> {
    if matches!(bb.size_of_first(), Size::Empty | Size::Eos | Size::Meta) {
        return None;
    }
    let Next::Data(data) = bb.peek() else { return None };
    Some(match data {
        [b'H', b'T', b'T', b'P', b'/', _, b'.', _, b' ', b'1', ..] => Start::Interim,
        [b'H', b'T', b'T', b'P', b'/', ..] => Start::Final,
        _ => Start::None,
    })
}

fn lengths(r: Request<'_>) -> impl Iterator<Item = &[u8]> {
    let table = r.table(vivarium_protocol::message::TableId::HeadersOut);
    table
        .into_iter()
        .flat_map(crate::apache::table::Table::pairs)
        .filter(|(name, _)| name.eq_ignore_ascii_case(LENGTH))
        .map(|(_, value)| value)
}

/// Moves what may go on to `kept`. An answer that has not the right length is the connection's last.
fn sort(state: &Cell<State>, r: Request<'_>, bb: Brigade, kept: Brigade) {
    let mut left = match state.get() {
        State::Left(left) => left,
        _ => 0,
    };
    let mut wrong = matches!(state.get(), State::Over);
    loop {
        match bb.size_of_first() {
            Size::Empty => break,
            Size::Eos => {
                wrong |= left > 0;
                bb.move_first(kept);
            }
            Size::Meta => bb.move_first(kept),
            // Reading it makes its size known.
            Size::Unknown => {
                if let Next::Failed(_) = bb.peek() {
                    wrong = true;
                    bb.drop_first();
                }
            }
            Size::Data(0) => bb.drop_first(),
            Size::Data(n) if n <= left => {
                left -= n;
                bb.move_first(kept);
            }
            Size::Data(_) => {
                wrong = true;
                if left > 0 && bb.split_first(left as usize) {
                    left = 0;
                    bb.move_first(kept);
                }
                bb.drop_first();
            }
        }
    }
    if let State::Left(_) = state.get() {
        state.set(State::Left(left));
    }
    if wrong {
        r.connection().set_keepalive(CLOSE);
    }
}
