//! loom models of everything that two processes do to the same words: the ring, the sleep/wake pair, the stop event,
//! the doorbell, offers and claims.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p vivarium-protocol --release --lib --target-dir target/loom`
//!
//! Each model runs the crate's own steps on loom's atomics in every order that the memory model allows (up to a bound of
//! preemptions). Each says which seeded changes it catches; all of them were tried. A lost wake-up shows as loom's
//! "deadlock" and ends the test process.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::sync::{AtomicU32, Ordering};

mod claims;
mod doorbell;
mod ring;
mod sleep;

/// The kernel's futex: compares and goes to sleep as one step, as far as a waker can tell.
#[derive(Debug)]
struct Futex {
    queue: Mutex<()>,
    rung: Condvar,
}

impl Futex {
    fn new() -> Self {
        Self { queue: Mutex::new(()), rung: Condvar::new() }
    }
    /// Sleeps if `word` is `value`. A wake that never comes is a deadlock, which loom reports.
    fn sleep(&self, word: &AtomicU32, value: u32) {
        let queue = self.queue.lock().unwrap();
        if word.load(Ordering::Relaxed) == value {
            drop(self.rung.wait(queue).unwrap());
        }
    }
    fn wake_one(&self) {
        drop(self.queue.lock().unwrap());
        self.rung.notify_one();
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
