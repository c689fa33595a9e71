//! The end of a child: threads of our own keep away from httpd's memory before httpd gives it back.
//!
//! httpd joins its request threads, then destroys its pools, then exits; it knows nothing of the threads that this
//! module starts. A thread of ours holds an [`Inside`] while it touches httpd; the child's last clean-up lets them finish
//! what is queued, closes the gate and waits until none is inside.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::io;
use std::time::{Duration, Instant};

use crate::process;

/// How long a child that ends waits for log handlers and clean-ups that are still to run. httpd's parent loses its
/// patience after some ten seconds.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// How long it then waits for a thread that is inside httpd: in the middle of writing one log line, say.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
const STACK: usize = 256 << 10;

static CLOSED: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static PENDING: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// A thread of ours is inside httpd. httpd's own threads are not counted: httpd waits for them itself.
pub(crate) struct Inside {
    counted: bool,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.counted {
            INSIDE.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Leave to touch httpd's memory; none once the child has ended for this thread.
pub(crate) fn inside() -> Option<Inside> {
    if !OURS.get() {
        return Some(Inside { counted: false });
    }
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let inside = Inside { counted: true };
    (!CLOSED.load(Ordering::SeqCst)).then_some(inside)
}

/// Work that a thread of ours has still to do.
#[derive(Debug)]
pub(crate) struct Pending;

impl Pending {
    pub(crate) fn new() -> Self {
        PENDING.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        PENDING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Starts a thread of ours; it never takes httpd's signals.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name(name.into()).stack_size(STACK);
    process::without_signals(|| {
        builder.spawn(|| {
            OURS.set(true);
            body();
        })
    })?;
    Ok(())
}

/// The child's last clean-up. Under prefork it may run in a signal handler: it takes no lock.
pub(crate) fn end() {
    wait_for(&PENDING, DRAIN_LIMIT);
    CLOSED.store(true, Ordering::SeqCst);
    wait_for(&INSIDE, LEAVE_LIMIT);
}

fn wait_for(count: &AtomicUsize, limit: Duration) {
    let began = Instant::now();
    while count.load(Ordering::SeqCst) != 0 && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(1));
    }
}
