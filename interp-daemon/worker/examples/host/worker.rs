//! The supervisor's part: starts a worker, tells it of regions, ends it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value as Json, json};
use vivarium_protocol::codec;
use vivarium_protocol::control::{self, FromWorker, ToWorker};
use vivarium_protocol::futex;
use vivarium_protocol::message::Startup;
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::region::{Geometry, Owner, Region};
use vivarium_protocol::seqpacket;

use crate::Failure;
use crate::model::World;
use crate::serve::Offer;

/// The worker's slot and epoch: any will do.
const ME: Owner = Owner { slot: 2, epoch: 7 };

struct Place {
    number: u64,
    region: Arc<Region>,
    /// Our end of the descriptor socket.
    socket: Arc<OwnedFd>,
}

pub(crate) struct Worker {
    child: Child,
    control: Option<OwnedFd>,
    page: Arc<PoolPage>,
    places: Vec<Place>,
    geometry: Geometry,
    conversation: u32,
}

impl Worker {
    pub(crate) fn start(command: &Json) -> Result<(Self, Json), Failure> {
        let (control, theirs) = seqpacket::pair()?;
        let (page, page_fd) = PoolPage::create()?;
        let number = |name: &str, default: u64| command[name].as_u64().unwrap_or(default);
        let geometry = Geometry {
            lanes: number("lanes", 8) as u32,
            to_guest: number("ring", 128 << 10) as u32,
            to_host: number("ring", 128 << 10) as u32,
        };
        let mut started = Command::new(command["python"].as_str().unwrap_or("/usr/bin/python3"));
        started.args(["-m", "vivarium.worker"]).env_clear();
        for (name, value) in command["env"].as_object().into_iter().flatten() {
            started.env(name, value.as_str().unwrap_or_default());
        }
        started
            .env(control::ENV_SLOT, ME.slot.to_string())
            .env(control::ENV_EPOCH, ME.epoch.to_string())
            .env(control::ENV_INTERPRETER, "main_interpreter")
            .env(control::ENV_TENANT, "default")
            .env(control::ENV_THREADS, number("threads", 2).to_string());
        if command["imports"].is_array() {
            started.env(control::ENV_STARTUP, "1");
        }
        if command["deaf"] == true {
            started.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let leader = command["leader"] == true;
        let (a, b) = (theirs.as_raw_fd(), page_fd.as_raw_fd());
        // SAFETY: between fork and exec only async-signal-safe functions are called; both descriptors are open, and copies below 5 are made first so that neither target is overwritten before it is read.
        unsafe {
            started.pre_exec(move || {
                let a = libc::fcntl(a, libc::F_DUPFD, 10);
                let b = libc::fcntl(b, libc::F_DUPFD, 10);
                if a < 0 || b < 0 || libc::dup2(a, 3) < 0 || libc::dup2(b, 4) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                libc::close(a);
                libc::close(b);
                if leader && libc::setsid() < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let mut child = started.spawn()?;
        // With `deaf`, what the worker writes goes nowhere from now on.
        drop((child.stdout.take(), child.stderr.take()));
        drop(theirs);
        let mut worker = Self {
            child,
            control: Some(control),
            page: Arc::new(page),
            places: Vec::new(),
            geometry,
            conversation: 0,
        };
        if let Some(imports) = command["imports"].as_array() {
            let imports = imports.iter().map(crate::model::bytes).collect();
            let startup = Startup { imports, main_server: crate::model::server(0) };
            worker.tell(&ToWorker::Startup { data: codec::encode(&startup)? }, &[])?;
        }
        let control = worker.control.as_ref().ok_or("no control socket")?;
        let pid = worker.child.id();
        let answer = match seqpacket::recv::<FromWorker>(control, false) {
            Ok((FromWorker::Ready { version, python }, _)) => {
                json!({ "ready": version, "python": python, "pid": pid })
            }
            Ok((FromWorker::Failed { reason }, _)) => json!({ "failed": reason, "pid": pid }),
            Err(error) => json!({ "error": error.to_string(), "pid": pid }),
        };
        if answer["ready"].is_u64() {
            worker.add_region(command)?;
        }
        Ok((worker, answer))
    }

    fn tell(&self, message: &ToWorker, fds: &[&OwnedFd]) -> Result<(), Failure> {
        let control = self.control.as_ref().ok_or("hung up")?;
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        Ok(seqpacket::send(control, message, &fds, false)?)
    }

    pub(crate) fn add_region(&mut self, _command: &Json) -> Result<Json, Failure> {
        let (region, memory) = Region::create(self.geometry)?;
        let (ours, theirs) = seqpacket::pair()?;
        let number = self.places.last().map_or(1, |p| p.number + 1);
        self.tell(&ToWorker::Region { region: number }, &[&memory, &theirs])?;
        self.places.push(Place { number, region: Arc::new(region), socket: Arc::new(ours) });
        Ok(json!({ "region": number }))
    }

    pub(crate) fn drop_region(&mut self, number: u64) -> Result<Json, Failure> {
        self.tell(&ToWorker::RegionGone { region: number }, &[])?;
        self.places.retain(|p| p.number != number);
        Ok(json!({}))
    }

    pub(crate) fn stop(&mut self, grace_ms: u32) -> Result<Json, Failure> {
        self.tell(&ToWorker::Stop { grace_ms }, &[])?;
        Ok(json!({}))
    }

    pub(crate) fn hang_up(&mut self) {
        self.control = None;
    }

    pub(crate) fn wait(&mut self) -> Result<Json, Failure> {
        let status = self.child.wait()?;
        Ok(json!({ "status": status.code(), "signal": status.signal() }))
    }

    pub(crate) fn kill(&mut self) -> Result<Json, Failure> {
        self.child.kill()?;
        self.wait()
    }

    pub(crate) fn offer(&mut self, world: &Arc<World>, command: &Json) -> Result<Offer, Failure> {
        let number = command["region"].as_u64();
        let place = self.places.iter().rev().find(|p| number.is_none_or(|n| n == p.number));
        let place = place.ok_or("no such region")?;
        self.conversation += 1;
        let lane = command["lane"].as_u64().unwrap_or_default() as u32;
        let (region, socket) = (Arc::clone(&place.region), Arc::clone(&place.socket));
        Offer::new(
            region,
            socket,
            Arc::clone(&self.page),
            Arc::clone(world),
            lane,
            self.conversation,
            ME,
            command.clone(),
        )
    }

    /// Serves the same request many times; answers with how long one took, in microseconds.
    pub(crate) fn bench(&mut self, world: &Arc<World>, command: &Json) -> Result<Json, Failure> {
        let count = command["count"].as_u64().unwrap_or(1000);
        let mut times = Vec::new();
        for _ in 0..count {
            let offer = self.offer(world, command)?;
            let start = Instant::now();
            let report = offer.serve();
            times.push(start.elapsed().as_nanos() as u64);
            if !report["error"].is_null() {
                return Ok(report);
            }
        }
        times.sort_unstable();
        #[allow(clippy::cast_precision_loss)]
        let at = |q: usize| times.get(times.len() * q / 100).map_or(0.0, |n| *n as f64 / 1000.0);
        Ok(json!({ "min": at(0), "median": at(50), "p99": at(99) }))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Nobody may go on sleeping in a region that is about to be unmapped.
        for place in &self.places {
            for lane in 0..place.region.geometry().lanes {
                futex::wake_always(place.region.host_word(lane));
            }
        }
    }
}
