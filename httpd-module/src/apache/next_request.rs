//! After an answer: a look whether the client's next request is there already.
//!
//! httpd looks for it once, right after an answer was written (`ap_check_pipeline`), and then gives the connection to its
//! listener: two `epoll_ctl`, a queue and two wake-ups, until some thread reads the request. A client on the same machine,
//! such as a proxy in front, asks again within some 20 µs. So where it was of use lately, the thread that has written the
//! answer looks a little longer, and yields in between.
//!
//! Only while other threads of this child are idle: then nobody waits for the one that looks.

use core::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vivarium_protocol::polling;

use super::connection::Connection;
use super::edge::guarded;
use super::request::Request;
use crate::sys;

/// How long a thread looks; it may come back later from its last yield.
const PATIENCE: Duration = Duration::from_micros(60);
/// Every look was of use lately.
const SURE: u32 = 1024;
/// Below this, a look is not worth its time.
const HOPE: u32 = SURE / 3;
/// Without hope, one of so many requests is looked after all the same.
const TRIAL: u32 = 64;

/// How many of the last looks were of use, out of [`SURE`].
static LUCK: AtomicU32 = AtomicU32::new(SURE / 2);
/// Requests that have begun in this child.
static BEGUN: AtomicU32 = AtomicU32::new(0);
/// How many had begun when too few threads were last found idle.
static BUSY_SINCE: AtomicU32 = AtomicU32::new(BUSY.wrapping_neg());
/// For so many requests from then on they are taken to be busy still: each is a cache line that another thread writes.
const BUSY: u32 = 64;

/// Has the next request of the client looked for when this one's memory is given back, after its answer was written; false
/// if that makes no sense now. What is left to httpd in small answers it writes when it has looked already: if this is
/// true, they should be written as soon as they are whole.
pub(crate) fn look_after(r: Request<'_>) -> bool {
    let turn = BEGUN.fetch_add(1, Ordering::Relaxed);
    let hopeless = LUCK.load(Ordering::Relaxed) < HOPE && !turn.is_multiple_of(TRIAL);
    if hopeless || turn.wrapping_sub(BUSY_SINCE.load(Ordering::Relaxed)) < BUSY {
        return false;
    }
    let c = r.connection();
    if c.is_secondary() || r.main().is_some() || threads().is_none() {
        return false;
    }
    r.pool().on_destroy(c.as_ptr().cast(), look);
    true
}

unsafe extern "C" fn look(c: *mut c_void) -> sys::apr_status_t {
    guarded("a look for the next request", 0, || {
        // SAFETY: a connection outlives its requests.
        let c = unsafe { Connection::from_raw(c.cast()) };
        if let Some(c) = c.filter(|c| c.is_kept() && !c.aborted()) {
            look_for_next(c);
        }
        0
    })
}

fn look_for_next(c: Connection<'_>) {
    let begun = || BEGUN.load(Ordering::Relaxed);
    let (Some(socket), Some(threads)) = (c.socket(), threads()) else { return };
    if !threads.are_some_idle(c, begun()) {
        BUSY_SINCE.store(begun(), Ordering::Relaxed);
        return;
    }
    let looked = polling::look(PATIENCE, || is_readable(socket), begun);
    let Some(there) = looked else { return };
    // Threads may overwrite each other's; each value is as good as the next.
    let luck = LUCK.load(Ordering::Relaxed);
    LUCK.store(if there { luck + (SURE - luck) / 16 } else { luck - luck / 16 }, Ordering::Relaxed);
}

fn is_readable(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
}

/// How an MPM with a listener counts the threads of its children.
#[derive(Debug, Clone, Copy)]
struct Threads {
    /// Places of a child in the scoreboard.
    limit: c_int,
    /// Threads of a child.
    used: c_int,
}

/// None where connections stay with their threads anyway (worker, prefork).
fn threads() -> Option<Threads> {
    static KNOWN: OnceLock<Option<Threads>> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let ask = |code| {
            let mut number = 0;
            // SAFETY: a query into a local integer.
            let status = unsafe { sys::ap_mpm_query(code, &raw mut number) };
            (status == sys::APR_SUCCESS && number > 0).then_some(number)
        };
        ask(sys::AP_MPMQ_IS_ASYNC)?;
        let limit = ask(sys::AP_MPMQ_HARD_LIMIT_THREADS)?;
        let used = ask(sys::AP_MPMQ_MAX_THREADS)?.min(limit);
        Some(Threads { limit, used })
    })
}

impl Threads {
    /// Whether some threads of the child that serves `c` wait for a connection; with many threads more than one, as httpd
    /// closes connections that are kept when the last one is taken. Looks from somewhere on, given by `turn`.
    fn are_some_idle(self, c: Connection<'_>, turn: u32) -> bool {
        // `ID_FROM_CHILD_THREAD`
        let Ok(child) = c_int::try_from(c.id() / i64::from(self.limit)) else { return false };
        let start = (turn & 0xffff) as c_int;
        let mut missing = 1 + self.used / 32;
        for n in 0..self.used {
            let thread = (start + n) % self.used;
            // SAFETY: the scoreboard lives as long as this process; what is not in it is null.
            let is_idle = unsafe {
                let place = sys::ap_get_scoreboard_worker_from_indexes(child, thread);
                // Other threads write it: one byte, read whole.
                !place.is_null()
                    && core::ptr::read_volatile(&raw const (*place).status)
                        == sys::SERVER_READY as u8
            };
            missing -= c_int::from(is_idle);
            if missing == 0 {
                return true;
            }
        }
        false
    }
}
