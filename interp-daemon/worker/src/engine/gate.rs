//! One thread at a time speaks on a lane; a thread that is already speaking may go on.
//!
//! While a thread waits for httpd's answer, httpd may enter Python again on that same thread, and what runs there makes
//! calls of its own: so the gate is reentrant. Another thread (one that a handler has started, with the request in
//! hand) waits until the first has its answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use pyo3::Python;

use super::lock;

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THIS: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
}

/// The gate of one conversation.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The thread inside, or 0.
    owner: u64,
    /// Threads that wait: nobody pays for a wake-up that nobody waits for.
    waiting: u32,
}

/// Being inside a gate; the outermost one of a thread opens it again when it is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'g> {
    gate: &'g Gate,
    outermost: bool,
}

impl Gate {
    /// Goes in, waiting (detached) while another thread is inside.
    pub(crate) fn enter<'g>(&'g self, py: Python<'_>) -> Inside<'g> {
        let me = THIS.with(|id| *id);
        {
            let mut state = lock(&self.state);
            if state.owner == me {
                return Inside { gate: self, outermost: false };
            }
            if state.owner == 0 {
                state.owner = me;
                return Inside { gate: self, outermost: true };
            }
            state.waiting += 1;
        }
        py.detach(|| {
            let mut state = lock(&self.state);
            while state.owner != 0 {
                state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.waiting -= 1;
            state.owner = me;
        });
        Inside { gate: self, outermost: true }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.outermost {
            let mut state = lock(&self.gate.state);
            state.owner = 0;
            if state.waiting > 0 {
                self.gate.free.notify_one();
            }
        }
    }
}
