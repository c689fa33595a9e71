//! Who does what is left when a tree is over: threads of our own, those of the built-in tenant and one for each declared
//! one that has something to do. A tenant whose log handlers hang keeps its own thread waiting, nobody else's.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use vivarium_protocol::codes;
use vivarium_protocol::policy::is_default;

use super::after::{Job, carry_out};
use crate::apache::edge::guarded;
use crate::apache::ending::{self, Pending};
use crate::apache::log::{self, Level};
use crate::tenants::{self, bulkhead, throttle};

/// How many ended trees may wait for each thread.
const QUEUE: usize = 1024;
/// The same for one of a declared tenant.
const TENANT_QUEUE: usize = 256;
/// How many threads the built-in tenant has; a tree's parts are always done by one of them.
const THREADS: usize = 4;
/// A declared tenant's thread ends when it has had nothing to do for so long.
const IDLE: Duration = Duration::from_secs(10);

type Work = (Job, Pending);
/// A way to one of the threads.
pub(crate) type Queue = SyncSender<Work>;

static SENDERS: [OnceLock<Option<Queue>>; THREADS] = [const { OnceLock::new() }; THREADS];

/// Does a job soon, each tenant's part of it by itself.
pub(crate) fn queue(job: Job) {
    for part in job.by_tenant() {
        if is_default(&part.tenant) {
            of_default(part);
        } else {
            of_tenant(part);
        }
    }
}

fn of_default(job: Job) {
    let sender = SENDERS[job.tree as usize % THREADS].get_or_init(|| {
        let (sender, receiver) = sync_channel(QUEUE);
        let started = ending::spawn("vivarium-after", move || run_jobs(&receiver));
        started.is_ok().then_some(sender)
    });
    let left = match sender {
        Some(sender) => hand_over(sender, job),
        None => Some(job),
    };
    if let Some(job) = left {
        carry_out(job);
    }
}

/// Hands a job over; gives it back if the thread has too much to do.
fn hand_over(sender: &Queue, job: Job) -> Option<Job> {
    match sender.try_send((job, Pending::new())) {
        Ok(()) => None,
        Err(TrySendError::Full((job, _)) | TrySendError::Disconnected((job, _))) => Some(job),
    }
}

fn run_jobs(jobs: &Receiver<Work>) {
    while let Ok((job, _pending)) = jobs.recv() {
        guarded("the end of a request", (), || carry_out(job));
    }
}

fn of_tenant(job: Job) {
    let tenant = tenants::get(&job.tenant);
    let left = {
        let mut after = tenant.after();
        if after.is_none() {
            let (sender, receiver) = sync_channel(TENANT_QUEUE);
            let name = job.tenant.clone();
            if ending::spawn("vivarium-tenant", move || run_tenant(&name, &receiver)).is_ok() {
                *after = Some(sender);
            }
        }
        match &*after {
            Some(sender) => hand_over(sender, job),
            None => Some(job),
        }
    };
    // On the request's own thread then, as one of those that the tenant may hold.
    let Some(job) = left else { return };
    match bulkhead::enter(&tenant) {
        Ok(_place) => carry_out(job),
        Err(fault) => {
            if let Some(left_out) = throttle::allow(tenant.name(), "after", 1) {
                let (code, reason) = fault.code_and_reason();
                let text = format!(
                    "{code}: log handlers or clean-ups of tenant {} are left out: {reason}{} ({})",
                    tenant.name(),
                    throttle::more(left_out),
                    codes::BULKHEAD
                );
                log::server(None, Level::Err, &text);
            }
        }
    }
}

fn run_tenant(name: &str, jobs: &Receiver<Work>) {
    loop {
        let next = match jobs.recv_timeout(IDLE) {
            Ok(work) => Some(work),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // Who hands over holds the lock: what has not come by now goes to the next thread.
                let tenant = tenants::get(name);
                let mut after = tenant.after();
                let Ok(work) = jobs.try_recv() else {
                    *after = None;
                    return;
                };
                Some(work)
            }
        };
        if let Some((job, _pending)) = next {
            guarded("the end of a request", (), || carry_out(job));
        }
    }
}
