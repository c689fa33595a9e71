//! A request thread: look for an offered lane, run its conversation, look again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use vivarium_protocol::codes;

use super::control::{Worker, worker};
use super::conversation::{Conversation, Trouble};
use super::phases;
use super::regions::Entry;

/// A thread that has just finished a request polls for the next one this long before it sleeps.
const POLL: Duration = Duration::from_micros(20);
/// The longest single sleep.
const NAP: Duration = Duration::from_secs(10);

static START: AtomicUsize = AtomicUsize::new(0);

/// Serves lanes until the worker is told to stop. Attached all the time, but for waiting.
pub(crate) fn serve(py: Python<'_>) {
    let worker = worker();
    let mut turn = START.fetch_add(1, Ordering::Relaxed);
    let mut busy = false;
    while !worker.is_stopping() {
        turn = turn.wrapping_add(1);
        let claimed = worker.regions.take(worker.me, turn);
        let Some((entry, lane)) = claimed.or_else(|| py.detach(|| wait(worker, turn, busy))) else {
            return;
        };
        converse(py, entry, lane);
        busy = true;
    }
}

/// Waits for a lane, polling first if the thread was `busy`; none when the worker is to stop.
fn wait(worker: &Worker, turn: usize, busy: bool) -> Option<(Arc<Entry>, u32)> {
    if busy {
        let start = Instant::now();
        while start.elapsed() < POLL {
            std::thread::yield_now();
            if worker.regions.any_ready(worker.me.slot)
                && let Some(found) = worker.regions.take(worker.me, turn)
            {
                return Some(found);
            }
        }
    }
    let slot = worker.me.slot;
    while !worker.is_stopping() {
        worker.page.sleep(slot, NAP, || worker.is_stopping() || worker.regions.any_ready(slot));
        if worker.is_stopping() {
            break;
        }
        if let Some(found) = worker.regions.take(worker.me, turn) {
            // A wake is for one thread: if there is more to do than this, wake the next one.
            if worker.regions.any_ready(slot) {
                ring(worker);
            }
            return Some(found);
        }
    }
    // What we were woken for is somebody else's now.
    ring(worker);
    None
}

/// Wakes another idle thread: one of this worker, which may take any lane that we may take, else any.
fn ring(worker: &Worker) {
    if !worker.page.ring(Some(worker.me.slot)) {
        worker.page.ring(None);
    }
}

fn converse(py: Python<'_>, entry: Arc<Entry>, lane: u32) {
    let conversation = Arc::new(Conversation::new(entry, lane));
    let run = || {
        let (header, payload) = conversation.first(py)?;
        phases::enter(py, &conversation, header, payload)
    };
    // Handlers' errors have been dealt with further in: what comes here is httpd's, or a mistake of ours.
    let ended = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| conversation.give_up(format!("{}: internal error", codes::PANIC)));
    match ended {
        // `Broken` was complained of where it was found.
        Ok(()) | Err(Trouble::Over | Trouble::Gone | Trouble::Broken(_)) => {}
        Err(trouble) => super::control::complain(&format!("a conversation has failed: {trouble}")),
    }
}
