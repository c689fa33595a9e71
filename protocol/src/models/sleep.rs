use super::{Arc, Futex, check, thread};
use crate::futex::{SleepFor, announce_event, announce_sleep, needs_wake};
use crate::sync::{AtomicU32, Ordering};

/// A sleeper on its word, and what it waits for.
#[derive(Debug)]
struct Pair {
    futex: Futex,
    word: AtomicU32,
    data: AtomicU32,
    stop: AtomicU32,
}

impl Pair {
    fn new() -> Arc<Self> {
        let zero = || AtomicU32::new(0);
        Arc::new(Self { futex: Futex::new(), word: zero(), data: zero(), stop: zero() })
    }

    /// The steps of `futex::wait_watching` without its polling, until there are `want` data or a stop.
    fn wait(&self, want: u32) {
        loop {
            announce_sleep(&self.word, SleepFor::Data);
            let ready = self.data.load(Ordering::Acquire) >= want;
            if ready || self.stop.load(Ordering::Acquire) == 1 {
                self.word.store(0, Ordering::Relaxed);
                return;
            }
            self.futex.sleep(&self.word, SleepFor::Data as u32);
            self.word.store(0, Ordering::Relaxed);
        }
    }

    /// Publishes, then does as `futex::wake`.
    fn publish(&self) {
        self.data.fetch_add(1, Ordering::Release);
        if needs_wake(&self.word, SleepFor::Data) {
            self.word.store(0, Ordering::Relaxed);
            self.futex.wake_one();
        }
    }

    /// Sets the flag, then does as `futex::wake_always`.
    fn stop(&self) {
        self.stop.store(1, Ordering::Release);
        announce_event(&self.word);
        self.futex.wake_one();
    }
}

/// Catches: no fence in `announce_sleep`; no fence in `needs_wake`; `AcqRel` for the `SeqCst` of the latter.
#[test]
fn no_wake_is_lost() {
    check(3, || {
        let pair = Pair::new();
        let peer = Arc::clone(&pair);
        let waker = thread::spawn(move || {
            peer.publish();
            peer.publish();
        });
        pair.wait(1);
        pair.wait(2);
        waker.join().unwrap();
    });
}

/// A waker that is late with its store and its system call meets the sleeper's next sleep.
///
/// Catches: no fence in `needs_wake`; a waker that changes the word and does not wake.
#[test]
fn two_wakers_do_not_take_each_others_wake() {
    check(2, || {
        let pair = Pair::new();
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let peer = Arc::clone(&pair);
                thread::spawn(move || peer.publish())
            })
            .collect();
        pair.wait(2);
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

/// Catches: no fence in `announce_event`; no store in `announce_event`; the flag looked at before `announce_sleep` only.
#[test]
fn no_stop_is_slept_through() {
    check(3, || {
        let pair = Pair::new();
        let control = Arc::clone(&pair);
        let stopper = thread::spawn(move || control.stop());
        pair.wait(1);
        stopper.join().unwrap();
    });
}
