//! A stand-in for httpd and the supervisor, for the worker's tests: starts a worker, offers it requests that a test
//! describes, serves them as httpd does, and reports what came.
//!
//! Commands are JSON objects, one a line, on standard input; each is answered by one on standard output. Byte strings
//! are JSON strings with one character (U+0000 to U+00FF) for each byte.

mod model;
mod serve;
mod worker;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Value as Json, json};

use model::World;
use worker::Worker;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Host {
    worker: Option<Worker>,
    world: Arc<World>,
    running: HashMap<u64, JoinHandle<Json>>,
    next: u64,
}

impl Host {
    fn run(&mut self, command: &Json) -> Result<Json, Failure> {
        let name = command["cmd"].as_str().unwrap_or_default();
        if name == "start" {
            let (worker, answer) = Worker::start(command)?;
            self.worker = Some(worker);
            return Ok(answer);
        }
        let worker = self.worker.as_mut().ok_or("not started")?;
        match name {
            // Offers a request; `join` gives its report.
            "enter" => {
                let offer = worker.offer(&self.world, command)?;
                let id = self.next;
                self.next += 1;
                self.running.insert(id, std::thread::spawn(move || offer.serve()));
                Ok(json!({ "id": id }))
            }
            "join" => {
                let id = command["id"].as_u64().unwrap_or_default();
                let thread = self.running.remove(&id).ok_or("no such request")?;
                thread.join().map_err(|_| "the serving thread has panicked".into())
            }
            // The model of a request, as httpd has it now.
            "request" => Ok(self.world.report(command)),
            "region" => worker.add_region(command),
            "region_gone" => worker.drop_region(command["region"].as_u64().unwrap_or(1)),
            "stop" => worker.stop(command["grace_ms"].as_u64().unwrap_or(5000) as u32),
            "hang_up" => {
                worker.hang_up();
                Ok(json!({}))
            }
            "wait" => worker.wait(),
            "kill" => worker.kill(),
            "bench" => worker.bench(&self.world, command),
            _ => Err(format!("no such command: {name}").into()),
        }
    }
}

fn main() -> Result<(), Failure> {
    let mut host =
        Host { worker: None, world: Arc::new(World::default()), running: HashMap::new(), next: 1 };
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let command: Json = serde_json::from_str(&line?)?;
        let answer = match host.run(&command) {
            Ok(answer) => answer,
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    if let Some(worker) = &mut host.worker {
        let _ = worker.kill();
    }
    Ok(())
}
