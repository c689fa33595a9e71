//! Bodies of type `multipart/form-data`, piece by piece.
//!
//! The parsing is the crate `multer`'s, which pulls its input from an asynchronous stream. Here the stream is a queue
//! that [`Parser::feed`] fills: it is "pending" when the queue is empty, so that a poll without a runtime does as much
//! as can be done with what has come, and gives that back as events.
//!
//! # Bounds
//!
//! The parser never holds more than the piece it was fed and one header block (or what precedes the first boundary):
//! data that belongs to a part is handed on at once, and when more than `max_header` bytes have come in without any
//! event, the body is refused.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use multer::{Error, Field, Multipart};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// The longest boundary: RFC 2046 allows 70 bytes, and nobody needs more.
const MAX_BOUNDARY: usize = 200;

/// What has come and was not looked at yet.
#[derive(Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    ended: bool,
}

/// The parser's end of the queue.
struct Feed(Arc<Mutex<Queue>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for Feed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = locked(&self.0);
        match queue.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None if queue.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// What was found.
enum Event {
    /// A part begins: its headers in order.
    Part(Vec<(String, Vec<u8>)>),
    /// Some of its data.
    Data(Bytes),
    /// It has ended.
    End,
}

/// Why a body is refused.
enum Refusal {
    /// More bytes without an event than a header block may have.
    TooLarge,
    /// It is not what it says it is.
    Malformed(String),
}

struct State {
    body: Multipart<'static>,
    part: Option<Field<'static>>,
    done: bool,
    /// Bytes that have come since the last event.
    silent: usize,
}

impl State {
    /// Goes on as far as what has come allows.
    fn advance(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        let mut context = Context::from_waker(Waker::noop());
        while !self.done {
            if let Some(part) = &mut self.part {
                match Pin::new(part).poll_next(&mut context) {
                    Poll::Ready(Some(data)) => events.push(Event::Data(data?)),
                    Poll::Ready(None) => {
                        self.part = None;
                        events.push(Event::End);
                    }
                    Poll::Pending => return Ok(()),
                }
                continue;
            }
            match self.body.poll_next_field(&mut context) {
                Poll::Ready(Ok(Some(part))) => {
                    let headers = part.headers().iter();
                    let headers = headers.map(|(k, v)| (k.as_str().into(), v.as_bytes().into()));
                    events.push(Event::Part(headers.collect()));
                    self.part = Some(part);
                }
                Poll::Ready(Ok(None)) => self.done = true,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }
}

/// A body of type `multipart/form-data` that is being read.
///
/// `Multipart(boundary, max_header)`; then `feed(piece)` for each piece of the body, and `end()`. Both give a list of
/// events: `(name, value)` pairs in a list for a part's headers (names in lower case), `bytes` for some of its data,
/// `None` for its end. `OverflowError` if a header block is longer than `max_header` bytes, `ValueError` if the body is
/// malformed or ends too early.
#[pyclass(name = "Multipart", module = "_vivarium", frozen)]
pub(crate) struct Parser {
    queue: Arc<Mutex<Queue>>,
    state: Mutex<State>,
    max_header: usize,
}

impl Parser {
    fn run(&self, piece: Option<&[u8]>) -> Result<Vec<Event>, Refusal> {
        let mut state = locked(&self.state);
        {
            let mut queue = locked(&self.queue);
            match piece {
                Some(_) if state.done => return Ok(Vec::new()),
                Some(piece) => queue.pieces.push_back(Bytes::copy_from_slice(piece)),
                None => queue.ended = true,
            }
        }
        let mut events = Vec::new();
        let outcome = state.advance(&mut events);
        outcome.map_err(|error| Refusal::Malformed(error.to_string()))?;
        // A part's data is never held back, a bit that may be a boundary's beginning apart.
        if !events.is_empty() || state.part.is_some() {
            state.silent = 0;
        } else {
            state.silent += piece.map_or(0, <[u8]>::len);
        }
        if state.silent > self.max_header && !state.done {
            return Err(Refusal::TooLarge);
        }
        for event in &events {
            if let Event::Part(headers) = event {
                let size: usize = headers.iter().map(|(k, v)| k.len() + v.len() + 4).sum();
                if size > self.max_header {
                    return Err(Refusal::TooLarge);
                }
            }
        }
        if piece.is_none() && !state.done {
            return Err(Refusal::Malformed("it ends before its last boundary".into()));
        }
        Ok(events)
    }

    fn events<'py>(&self, py: Python<'py>, piece: Option<&[u8]>) -> PyResult<Bound<'py, PyList>> {
        let events = self.run(piece).map_err(|refusal| match refusal {
            Refusal::TooLarge => PyOverflowError::new_err(format!(
                "the header of a part is longer than {} bytes",
                self.max_header
            )),
            Refusal::Malformed(why) => PyValueError::new_err(why),
        })?;
        let list = PyList::empty(py);
        for event in events {
            match event {
                Event::Part(headers) => {
                    let pairs = headers.iter().map(|(k, v)| (k.as_str(), PyBytes::new(py, v)));
                    list.append(PyList::new(py, pairs.collect::<Vec<_>>())?)?;
                }
                Event::Data(data) => list.append(PyBytes::new(py, &data))?,
                Event::End => list.append(py.None())?,
            }
        }
        Ok(list)
    }
}

#[pymethods]
impl Parser {
    #[new]
    fn new(boundary: &str, max_header: usize) -> PyResult<Self> {
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
            return Err(PyValueError::new_err(format!(
                "the boundary must have 1 to {MAX_BOUNDARY} bytes"
            )));
        }
        let queue = Arc::<Mutex<Queue>>::default();
        let body = Multipart::new(Feed(Arc::clone(&queue)), boundary);
        let state = Mutex::new(State { body, part: None, done: false, silent: 0 });
        Ok(Self { queue, state, max_header })
    }

    /// feed(piece): the events that the next piece of the body brings about.
    fn feed<'py>(&self, py: Python<'py>, piece: &[u8]) -> PyResult<Bound<'py, PyList>> {
        self.events(py, Some(piece))
    }

    /// end(): the events that the end of the body brings about.
    fn end<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.events(py, None)
    }
}
