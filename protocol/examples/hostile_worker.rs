//! A worker process that breaks every rule, to be started by `vivariumd` in the place of Python:
//!
//! ```toml
//! [default]
//! python = "/path/to/target/release/examples/hostile_worker"
//! [default.env]
//! VIVARIUM_HOSTILE_MODE = "scribble"
//! VIVARIUM_HOSTILE_SEED = "42"
//! ```
//!
//! It reports itself ready on descriptor 3, takes regions from there and the pool page from descriptor 4, and plays
//! hostile conversations ([`vivarium_protocol::mock`]) on as many threads as `VIVARIUM_THREADS` says. Its arguments
//! (`-m vivarium.worker`) mean nothing to it.
//!
//! * `VIVARIUM_HOSTILE_MODE`: `mixed` (the default), `honest`, `chatter`, `random`, `lies`, `scribble`, `flood`, `silent`,
//!   `die`, `foreign.table` and others that name a request of another tenant's.
//! * `VIVARIUM_HOSTILE_SEED`: a number (default 1). Slot, epoch, thread and region are mixed in, so that a restarted worker
//!   does something else, and the same one the same again.
//! * `VIVARIUM_HOSTILE_PATIENCE_MS`: how long one conversation lasts at most (default 2000; `silent` knows no end). A
//!   conversation that did not end by itself is then spoiled: httpd sees an impossible index.
//!
//! It ends when its control socket does (the supervisor is gone), in modes `honest` and `foreign` also when it is told to stop, in mode
//! `die` in the middle of its first conversation. Else it waits to be killed.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vivarium_protocol::control::{
    ENV_EPOCH, ENV_SLOT, ENV_THREADS, FromWorker, ToWorker, WORKER_CONTROL_FD, WORKER_PAGE_FD,
};
use vivarium_protocol::mock::{End, Hostile, Mode, Rng};
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::region::{MAX_WORKERS, Owner, Region};
use vivarium_protocol::{PROTOCOL_VERSION, seqpacket};

/// A region of some httpd child.
struct Place {
    number: u64,
    region: Arc<Region>,
    descriptors: Option<OwnedFd>,
    gone: AtomicBool,
}

/// What all threads share.
struct Worker {
    me: Owner,
    mode: Mode,
    seed: u64,
    patience: Duration,
    page: PoolPage,
    places: Mutex<Vec<Arc<Place>>>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// A descriptor that this process was started with.
fn inherited(fd: i32) -> OwnedFd {
    // SAFETY: called once for each number, before anything else has opened a descriptor; a number that is not open is
    // closed by nobody else and gives errors.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn main() -> ExitCode {
    let (control, page) = (inherited(WORKER_CONTROL_FD), inherited(WORKER_PAGE_FD));
    match run(&control, &page) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hostile worker: {error}");
            let failed = FromWorker::Failed { reason: error.to_string() };
            let _ = seqpacket::send(&control, &failed, &[], false);
            ExitCode::FAILURE
        }
    }
}

fn run(control: &OwnedFd, page: &OwnedFd) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mode = std::env::var("VIVARIUM_HOSTILE_MODE").unwrap_or_else(|_| "mixed".to_owned());
    let mode = Mode::named(&mode).ok_or_else(|| format!("there is no mode {mode}"))?;
    let slot = number(ENV_SLOT, 0) as u8 % MAX_WORKERS as u8;
    let epoch = number(ENV_EPOCH, 0) as u16;
    let seed = number("VIVARIUM_HOSTILE_SEED", 1);
    let worker = Arc::new(Worker {
        me: Owner { slot, epoch },
        mode,
        seed: seed << 32 | u64::from(epoch) << 16 | u64::from(slot) << 8,
        patience: Duration::from_millis(number("VIVARIUM_HOSTILE_PATIENCE_MS", 2000)),
        page: PoolPage::open(page.as_fd())?,
        places: Mutex::default(),
    });
    eprintln!("hostile worker: mode {mode:?}, seed {seed}, slot {slot}, epoch {epoch}");
    let ready = FromWorker::Ready { version: PROTOCOL_VERSION, python: "hostile".to_owned() };
    seqpacket::send(control, &ready, &[], false)?;
    for thread in 0..number(ENV_THREADS, 1).clamp(1, 64) {
        let worker = Arc::clone(&worker);
        std::thread::spawn(move || worker.serve(thread));
    }
    loop {
        let (message, fds) = match seqpacket::recv::<ToWorker>(control, false) {
            Ok(got) => got,
            Err(seqpacket::PacketError::Closed) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        };
        match message {
            ToWorker::Region { region: number } => {
                let mut fds = fds.into_iter();
                let fd = fds.next().ok_or("a region without a descriptor")?;
                let region = Arc::new(Region::open(fd.as_fd())?);
                let (descriptors, gone) = (fds.next(), AtomicBool::new(false));
                let place = Arc::new(Place { number, region, descriptors, gone });
                worker.places().push(place);
                worker.page.ring_all();
            }
            ToWorker::RegionGone { region } => worker.places().retain(|place| {
                let gone = place.number == region;
                place.gone.fetch_or(gone, Ordering::AcqRel);
                !gone
            }),
            ToWorker::Stop { .. } if matches!(mode, Mode::Honest | Mode::Foreign(_)) => {
                return Ok(ExitCode::SUCCESS);
            }
            // Whatever else it is told means nothing to it.
            _ => {}
        }
    }
}

impl Worker {
    fn places(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread's life.
    fn serve(&self, thread: u64) {
        let mut players: HashMap<u64, Hostile> = HashMap::new();
        let mut rng = Rng::new(self.seed | thread);
        loop {
            let places: Vec<_> = self.places().clone();
            players.retain(|number, _| places.iter().any(|p| p.number == *number));
            let mut idle = true;
            for place in &places {
                let player = players.entry(place.number).or_insert_with(|| {
                    let seed = (self.seed | thread).wrapping_add(place.number << 48);
                    Hostile::new(Arc::clone(&place.region), self.me, seed, self.mode)
                });
                while let Some(lane) = place.region.take(self.me) {
                    idle = false;
                    self.play(place, player, lane, &mut rng);
                }
            }
            if idle {
                let ready = || places.iter().any(|p| p.region.any_ready(self.me.slot));
                self.page.sleep(self.me.slot, false, Duration::from_millis(100), ready);
            }
        }
    }

    fn play(&self, place: &Place, player: &mut Hostile, lane: u32, rng: &mut Rng) {
        if !matches!(self.mode, Mode::Honest | Mode::Silent | Mode::Foreign(_)) && rng.one_in(4) {
            throw_descriptors(place, rng);
        }
        let start = Instant::now();
        let end = player.converse(lane, &|| {
            let patient = self.mode == Mode::Silent || start.elapsed() < self.patience;
            patient && !place.gone.load(Ordering::Acquire)
        });
        match end {
            End::Die => std::process::exit(1),
            End::Left => {}
            End::Vanished | End::Stopped => player.spoil(lane),
        }
    }
}

/// Sends something to httpd's descriptor socket: junk, or a true-looking announcement of what is no regular file.
fn throw_descriptors(place: &Place, rng: &mut Rng) {
    let Some(socket) = &place.descriptors else { return };
    let path = rng.pick(&["/dev/zero", "/proc/self/mem", "/", "/dev/null", "/proc/self/exe"]);
    let Ok(file) = std::fs::File::open(path) else { return };
    let fds: Vec<BorrowedFd<'_>> = vec![file.as_fd(); rng.below(5)];
    let mut bytes = vec![0; if rng.one_in(2) { 12 } else { 1 + rng.below(40) }];
    rng.fill(&mut bytes);
    if rng.one_in(2) && bytes.len() == 12 {
        // A lane and a conversation that may exist.
        bytes[..8].copy_from_slice(&[rng.below(4) as u8, 0, 0, 0, rng.below(9) as u8, 0, 0, 0]);
    }
    let _ = seqpacket::send_bytes(socket, &bytes, &fds, true);
}
