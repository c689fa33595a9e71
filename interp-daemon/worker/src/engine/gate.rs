//! One thread at a time speaks on a lane.
//!
//! A thread is inside from its question to httpd's answer, and may go in again while it is (so that a question that
//! takes several frames is not torn apart). While it waits, httpd may enter Python on that same thread: for that time
//! the thread steps out ([`Gate::step_out`]), so that whoever else has the request in hand (threads that a handler has
//! started) may speak while Python runs, one level deeper.

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
    /// How many times it went in.
    times: u32,
    /// Threads that wait: nobody pays for a wake-up that nobody waits for.
    waiting: u32,
}

/// Being inside a gate.
#[derive(Debug)]
pub(crate) struct Inside<'g>(&'g Gate);

/// Having stepped out of a gate.
#[derive(Debug)]
#[must_use]
pub(crate) struct SteppedOut(u32);

impl Gate {
    /// Goes in, waiting (detached) while another thread is inside.
    pub(crate) fn enter<'g>(&'g self, py: Python<'_>) -> Inside<'g> {
        self.go_in(py, 1);
        Inside(self)
    }

    /// Leaves the gate as many times as this thread went in.
    pub(crate) fn step_out(&self) -> SteppedOut {
        let times = lock(&self.state).times;
        self.go_out(times);
        SteppedOut(times)
    }

    /// Goes in again as many times.
    pub(crate) fn step_in(&self, py: Python<'_>, out: SteppedOut) {
        self.go_in(py, out.0);
    }

    fn go_in(&self, py: Python<'_>, times: u32) {
        let me = THIS.with(|id| *id);
        {
            let mut state = lock(&self.state);
            if state.owner == 0 || state.owner == me {
                state.owner = me;
                state.times += times;
                return;
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
            state.times = times;
        });
    }

    fn go_out(&self, times: u32) {
        let mut state = lock(&self.state);
        state.times -= times;
        if state.times == 0 {
            state.owner = 0;
            if state.waiting > 0 {
                self.free.notify_one();
            }
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.go_out(1);
    }
}
