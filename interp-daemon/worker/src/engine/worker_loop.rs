//! A request thread: look for an offered lane, run its conversation, look again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use vivarium_protocol::codes;
use vivarium_protocol::polling::Habit;

use super::control::{Worker, worker};
use super::conversation::{Conversation, Trouble};
use super::drain::{self, Busy};
use super::phases;
use super::regions::Entry;
use super::seats::{self, Seat};

/// The longest single sleep.
const NAP: Duration = Duration::from_secs(10);
/// Idle threads poll at most this long, and only where requests come that fast.
const POLL: Duration = Duration::from_micros(300);
/// So many lanes on offer are more than one thread should see to.
const BACKLOG: u32 = 4;

static START: AtomicUsize = AtomicUsize::new(0);
/// How long it usually takes until there is another request.
///
/// The threads of an idle worker look a little longer than others who wait: one client that asks again at once, after a sleep
/// and a wake-up of its own on either side, does so after some 130 µs, and there is nobody else then who needs the core.
static IDLE: Habit = Habit::hoping(Duration::from_micros(180));

/// Serves lanes until the worker is told to stop. Attached all the time, but for waiting.
pub(crate) fn serve(py: Python<'_>) {
    let worker = worker();
    let slot = worker.me.slot;
    let seat = Seat::take(slot);
    let mut turn = START.fetch_add(1, Ordering::Relaxed);
    let mut last = Last::Slept;
    while !worker.is_stopping() {
        turn = turn.wrapping_add(1);
        let claimed = if last == Last::HandsOver || worker.drain.is_on() {
            None
        } else {
            seat.promise(&worker.page);
            take(worker, turn)
        };
        let claimed = claimed.or_else(|| py.detach(|| wait(worker, &seat, turn, last)));
        let Some(Claimed { entry, lane, busy }) = claimed else { break };
        worker.page.count_taken(slot);
        seat.begin(&worker.page);
        converse(py, entry, lane);
        seat.end();
        drop(busy);
        // Another thread of this worker looks too: one is enough, and the interpreter runs one at a time anyway.
        last = if seats::short() && worker.page.looking_in(slot) > 1 {
            Last::HandsOver
        } else {
            Last::Served
        };
    }
    seat.withdraw(&worker.page);
}

/// What a thread did before it looks for something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// It slept.
    Slept,
    /// It has served a request.
    Served,
    /// It has, and leaves the next ones to a thread that looks already.
    HandsOver,
}

/// A lane that this thread has.
struct Claimed {
    entry: Arc<Entry>,
    lane: u32,
    /// The worker does not end while it is drained.
    busy: Busy<'static>,
}

/// Claims a lane that this worker may have now.
fn take(worker: &'static Worker, turn: usize) -> Option<Claimed> {
    let busy = worker.drain.busy();
    let (entry, lane) = if worker.drain.is_on() {
        worker.regions.take_own(worker.me)?
    } else {
        worker.regions.take(worker.me, turn)?
    };
    Some(Claimed { entry, lane, busy })
}

/// Waits for the next phase of a request that is kept here; none when the worker is to stop.
fn wait_drained(worker: &'static Worker, seat: &Seat, turn: usize) -> Option<Claimed> {
    seat.withdraw(&worker.page);
    // What this thread was woken for, or would have looked for, is somebody else's.
    if worker.regions.any_ready(worker.me.slot) {
        worker.page.ring_anyhow(None);
    }
    while !worker.is_stopping() {
        seats::withdraw_stuck(&worker.page);
        let claimed = take(worker, turn);
        if claimed.is_some() {
            return claimed;
        }
        std::thread::sleep(drain::LOOK);
    }
    None
}

/// Waits for a lane, polling first if that is promising; none when the worker is to stop.
fn wait(worker: &'static Worker, seat: &Seat, turn: usize, last: Last) -> Option<Claimed> {
    let slot = worker.me.slot;
    let mut waiting = (last == Last::Served).then(|| IDLE.begin(POLL, 0));
    if let Some(waiting) = &mut waiting {
        while waiting.yield_once(|| 0) {
            if worker.regions.any_ready(slot)
                && let Some(found) = take(worker, turn)
            {
                return Some(found);
            }
        }
        waiting.stop_polling();
    }
    let mut hands_over = last == Last::HandsOver;
    while !worker.is_stopping() {
        if worker.drain.is_on() {
            return wait_drained(worker, seat, turn);
        }
        seat.withdraw(&worker.page);
        worker.page.sleep(slot, !hands_over, NAP, || {
            worker.is_stopping()
                || worker.drain.is_on()
                || (!hands_over && worker.regions.any_ready(slot))
        });
        hands_over = false;
        if worker.is_stopping() {
            break;
        }
        if worker.drain.is_on() {
            continue;
        }
        seat.promise(&worker.page);
        seats::withdraw_stuck(&worker.page);
        if let Some(found) = take(worker, turn) {
            wake_more(worker);
            return Some(found);
        }
    }
    // What we were woken for is somebody else's now.
    if !worker.page.ring_anyhow(Some(slot)) {
        worker.page.ring_anyhow(None);
    }
    None
}

/// A wake is for one thread: if there is more to do than this one will see to at once, another one is woken.
fn wake_more(worker: &Worker) {
    let slot = worker.me.slot;
    if !worker.regions.any_ready(slot) {
        return;
    }
    if seats::short() {
        if worker.regions.count_ready(slot) >= BACKLOG {
            worker.page.ring_idle_worker();
        }
    } else if !worker.page.ring_anyhow(Some(slot)) {
        worker.page.ring_anyhow(None);
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
