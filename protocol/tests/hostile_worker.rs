//! The hostile worker process against a host that plays both httpd and the supervisor, across a real process border.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vivarium_protocol::control::{FromWorker, ToWorker};
use vivarium_protocol::frame::Kind;
use vivarium_protocol::futex::Patience;
use vivarium_protocol::lane::{Channel, Guard, LaneError};
use vivarium_protocol::message::{Call, Leave, Reply};
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::region::{Claim, Geometry, Owner, Region};
use vivarium_protocol::{PROTOCOL_VERSION, codec, seqpacket};

const ME: Owner = Owner { slot: 2, epoch: 5 };

struct Pool {
    child: Child,
    control: OwnedFd,
    page: PoolPage,
    region: Arc<Region>,
    conversation: u32,
}

const HANGS: &str = "it hangs";

/// Looks at the claim word as httpd does: it may have been scribbled over, and so may the ready bit of an offer.
struct Look<'a> {
    region: &'a Region,
    page: &'a PoolPage,
    lane: u32,
    /// When the lane was first seen given back. Its `Leave` follows at once, unless a lie about a length has made it
    /// part of another frame's payload.
    released: Option<Instant>,
    /// The watchdog: far beyond the worker's patience.
    until: Instant,
}

impl Guard for Look<'_> {
    type Stop = &'static str;
    fn check(&mut self) -> Result<(), &'static str> {
        match self.region.claim(self.lane) {
            Claim::Idle | Claim::Garbage(_) => return Err("the claim word is garbage"),
            Claim::Offered(to) => {
                self.region.set_ready(self.lane, to.map(|o| o.slot));
                self.page.ring(to.map(|o| o.slot));
            }
            Claim::Released(_) => {
                let since = *self.released.get_or_insert_with(Instant::now);
                if since.elapsed() >= Duration::from_secs(1) {
                    return Err("it gave the lane back without a Leave");
                }
            }
            Claim::Claimed(_) => {}
        }
        if Instant::now() < self.until { Ok(()) } else { Err(HANGS) }
    }
}

impl Pool {
    fn start(mode: &str, seed: u32) -> Self {
        // Those that mean to end well get all the time they need.
        let patience = if ["honest", "chatter"].contains(&mode) { "100000" } else { "300" };
        // `cargo test` builds the examples beside the tests; `cargo test --test hostile_worker` alone does not:
        // `cargo build -p vivarium-protocol --features mock --example hostile_worker` first.
        let program = std::env::current_exe().unwrap();
        let program = program.parent().unwrap().with_file_name("examples").join("hostile_worker");
        assert!(program.exists(), "{} is missing", program.display());
        let (control, theirs) = seqpacket::pair().unwrap();
        let (page, page_fd) = PoolPage::create().unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" -m vivarium.worker 3<&0 4<&1 </dev/null >&2"])
            .arg(program)
            .env("VIVARIUM_HOSTILE_MODE", mode)
            .env("VIVARIUM_HOSTILE_SEED", seed.to_string())
            .env("VIVARIUM_HOSTILE_PATIENCE_MS", patience)
            .env("VIVARIUM_SLOT", ME.slot.to_string())
            .env("VIVARIUM_EPOCH", ME.epoch.to_string())
            .env("VIVARIUM_THREADS", "2")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(page_fd))
            .spawn()
            .unwrap();
        let (ready, _) = seqpacket::recv::<FromWorker>(&control, false).unwrap();
        assert!(matches!(ready, FromWorker::Ready { version: PROTOCOL_VERSION, .. }), "{ready:?}");
        let geometry = Geometry { lanes: 3, to_guest: 4096, to_host: 4096 };
        let (region, region_fd) = Region::create(geometry).unwrap();
        let (_descriptors, other) = seqpacket::pair().unwrap();
        let fds = [region_fd.as_fd(), other.as_fd()];
        seqpacket::send(&control, &ToWorker::Region { region: 1 }, &fds, false).unwrap();
        Self { child, control, page, region: Arc::new(region), conversation: 0 }
    }

    /// One request; how it ended.
    fn request(&mut self) -> Result<i32, String> {
        self.conversation += 1;
        let lane = self.conversation % 3;
        let mut channel = Channel::host(Arc::clone(&self.region), lane, self.conversation);
        channel.set_patience(Patience { slice: Duration::from_millis(50), ..Patience::default() });
        let until = Instant::now() + Duration::from_secs(120);
        let guard =
            &mut Look { region: &self.region, page: &self.page, lane, released: None, until };
        let result = self.serve(&mut channel, guard);
        let claim = self.region.claim(lane);
        assert!(result != Err(HANGS.to_owned()), "request {}: {claim:?}", self.conversation);
        self.region.set_idle(lane);
        result
    }

    fn serve(&self, channel: &mut Channel, guard: &mut Look<'_>) -> Result<i32, String> {
        let told = |e: LaneError<&'static str>| match e {
            LaneError::Stopped(why) => why.to_owned(),
            other => format!("{other:?}"),
        };
        let sent = channel.try_send(Kind::Enter, 0, 1, 0, &[b"enter"]);
        assert!(sent.map_err(|e| e.to_string())?);
        self.region.offer(channel.lane(), Some(ME));
        self.page.ring(Some(ME.slot));
        let mut payload = Vec::new();
        loop {
            let header = channel.recv(guard).map_err(told)?;
            channel.read_payload(&mut payload, guard).map_err(told)?;
            let call = match header.kind {
                Kind::Leave => {
                    let leave: Leave = codec::decode(&payload).map_err(|e| e.to_string())?;
                    return Ok(leave.result);
                }
                Kind::Call => {
                    codec::decode::<Call<'_>>(&payload).map_err(|e| e.to_string())?;
                    true
                }
                _ => header.flags & vivarium_protocol::frame::BODY_SYNC != 0,
            };
            if call {
                let reply = codec::encode(&Reply::Ok).unwrap();
                channel.send(Kind::Reply, 0, 1, 0, &[&reply], guard).map_err(told)?;
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_honest_one_serves_and_stops() {
    let mut pool = Pool::start("honest", 1);
    for _ in 0..50 {
        assert_eq!(pool.request(), Ok(0));
        assert_eq!(pool.region.claim(pool.conversation % 3), Claim::Idle);
    }
    seqpacket::send(&pool.control, &ToWorker::Stop { grace_ms: 1000 }, &[], false).unwrap();
    assert!(pool.child.wait().unwrap().success());
}

#[test]
fn hostile_ones_end_every_request_and_live_on() {
    for (mode, seed, requests) in
        [("mixed", 7, 60), ("lies", 3, 40), ("random", 4, 40), ("flood", 1, 2), ("chatter", 1, 5)]
    {
        let mut pool = Pool::start(mode, seed);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..requests {
            // A spoiled lane is made anew by the next conversation; no scribble may keep that from working.
            match pool.request() {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
        assert_eq!(bad == 0, mode == "chatter", "{mode}: {good} good, {bad} bad");
        seqpacket::send(&pool.control, &ToWorker::Stop { grace_ms: 1 }, &[], false).unwrap();
        seqpacket::send(&pool.control, &ToWorker::RegionGone { region: 1 }, &[], false).unwrap();
        assert!(pool.child.try_wait().unwrap().is_none(), "{mode}: it ended by itself");
        // The supervisor's death is the end.
        let (control, _) = seqpacket::pair().unwrap();
        pool.control = control;
        assert!(pool.child.wait().unwrap().success());
    }
}

#[test]
fn one_dies_in_its_first_request() {
    let mut pool = Pool::start("die", 1);
    let mut channel = Channel::host(Arc::clone(&pool.region), 1, 9);
    assert!(channel.try_send(Kind::Enter, 0, 1, 0, &[]).unwrap());
    pool.region.offer(1, None);
    pool.page.ring(None);
    assert_eq!(pool.child.wait().unwrap().code(), Some(1));
}
