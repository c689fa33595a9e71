//! What several unit tests need: a watchdog for what could hang, guards, and a look at whether a thread sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::lane::Guard;

/// Ends the whole test process, with a word on which test hung, unless dropped in time. The time is no measure of
/// speed: it is far beyond what the slowest machine needs.
pub(crate) struct Watchdog(#[allow(dead_code, reason = "dropping it is the signal")] Sender<()>);

impl Watchdog {
    pub(crate) fn new(what: &'static str) -> Self {
        let (alive, watch) = channel::<()>();
        std::thread::spawn(move || {
            if watch.recv_timeout(Duration::from_secs(300)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {what} hangs");
                std::process::abort();
            }
        });
        Self(alive)
    }
}

/// Never stops.
#[derive(Debug)]
pub(crate) struct Never;

impl Guard for Never {
    type Stop = std::convert::Infallible;
    fn check(&mut self) -> Result<(), Self::Stop> {
        Ok(())
    }
}

/// Stops when the flag is set.
#[derive(Debug)]
pub(crate) struct Flag<'a>(pub(crate) &'a AtomicBool);

impl Guard for Flag<'_> {
    type Stop = ();
    fn check(&mut self) -> Result<(), ()> {
        if self.0.load(Ordering::Acquire) { Err(()) } else { Ok(()) }
    }
}

/// Waits until thread `tid` of this process sleeps in a system call.
pub(crate) fn wait_until_asleep(tid: i32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
        // The state follows the name, which is in brackets.
        if stat.rsplit(") ").next().unwrap().starts_with('S') {
            return;
        }
        std::thread::yield_now();
    }
}

/// This thread's number, for [`wait_until_asleep`].
pub(crate) fn my_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}
