//! The ends of workers: killing, reaping, telling, replacing.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus};
use vivarium_protocol::codes;
use vivarium_protocol::control::ToChild;

use crate::children::more;
use crate::log::escape;
use crate::pool::SlotState;
use crate::sandbox::Complaint;
use crate::server::Server;
use crate::spawn::{self, Report, StartError};
use crate::workers::{KillReason, Worker, output_line, raw};

impl Server {
    /// Kills a worker; the rest follows when it is dead.
    pub(crate) fn kill_worker(&mut self, id: u64, reason: KillReason, why: &str) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.kill_at = None;
        if worker.killed {
            return;
        }
        worker.killed = true;
        let label = self.pools.get(&worker.pool).map_or("?", |p| p.label.as_str());
        let (slot, pid) = (worker.slot, raw(worker.pid));
        let failure = |reason: String| StartError::new(codes::CANNOT_START_WORKER, reason);
        match reason {
            KillReason::Misbehaved | KillReason::Deaf => {
                self.log.error(
                    codes::WORKER_MISBEHAVED,
                    format_args!("pool {label}: worker {slot} (pid {pid}) is killed: {why}"),
                );
                worker.failure.get_or_insert_with(|| failure(why.to_owned()));
            }
            KillReason::Stop => self.log.warn(
                codes::WORKER_KILLED,
                format_args!("pool {label}: worker {slot} (pid {pid}) did not stop in time and is killed"),
            ),
            KillReason::Start => {
                worker.failure.get_or_insert_with(|| {
                    let most = worker.tenant.start_time().as_secs();
                    failure(format!("it was not ready within {most} s of its start, and was killed"))
                });
            }
            KillReason::Linger if worker.failure.is_none() => self.log.warn(
                codes::WORKER_KILLED,
                format_args!(
                    "pool {label}: worker {slot} (pid {pid}) closed its control socket and did not end: it is killed"
                ),
            ),
            KillReason::Linger => {}
        }
        let _ = rustix::process::pidfd_send_signal(&worker.pidfd, Signal::KILL);
    }

    /// A worker has ended: its pidfd says so.
    pub(crate) fn worker_gone(&mut self, id: u64) {
        let Some(mut worker) = self.workers.remove(&id) else { return };
        // What it has started in its process group goes with it. Before reaping: until then the number is its own.
        let _ = rustix::process::kill_process_group(worker.pid, Signal::KILL);
        let how = reap(&worker.pidfd);
        self.poller.remove(&worker.pidfd);
        self.last_words(&mut worker);
        if let Some(conn) = worker.conn.take() {
            conn.close(&self.poller);
        }
        let (pool, is_declared) = (worker.pool, worker.tenant.declared.is_some());
        self.replace(worker, &how);
        if is_declared {
            let now = Instant::now();
            self.drop_unknown(pool, now);
            self.tidy_tenants(now);
        }
    }

    /// Logs what is left in the output pipe.
    fn last_words(&self, worker: &mut Worker) {
        let mut say = output_line(&self.log, &self.pools, worker.pool, worker.pid);
        if let Some(output) = worker.output.take() {
            let mut buffer = [0; 16 << 10];
            // A pipe holds 64 KiB; a process that is not of the group could go on writing for ever.
            for _ in 0..8 {
                match rustix::io::read(&output, &mut buffer) {
                    Ok(got) if got > 0 => {
                        worker.lines.feed(
                            buffer.get(..got).unwrap_or_default(),
                            Instant::now(),
                            &mut say,
                        );
                    }
                    _ => break,
                }
            }
            self.poller.remove(&output);
        }
        worker.lines.finish(say);
    }

    fn replace(&mut self, worker: Worker, how: &str) {
        let now = Instant::now();
        let pool_id = worker.pool;
        let Some(pool) = self.pools.get_mut(&pool_id) else { return };
        pool.page.forget(worker.slot);
        if worker.ready_at.is_some() {
            self.tell_down(&worker, how);
        }
        let Some(pool) = self.pools.get_mut(&pool_id) else { return };
        // The lanes that it had not claimed are offered again: everybody look.
        pool.page.ring_all();
        let Some(entry) = pool.slots.get_mut(usize::from(worker.slot)) else { return };
        let (slot, pid) = (worker.slot, raw(worker.pid));
        if worker.resting && !worker.recycled && !pool.retiring {
            self.rested(&worker, how, now);
            return;
        }
        if worker.recycled && !pool.retiring {
            // Asked to go so that another can come: what its tenant is now, or nobody if there are fewer.
            let wanted = slot < pool.scale.max;
            entry.state = if wanted { SlotState::Due(now) } else { SlotState::Idle };
            self.log.debug(
                codes::TENANTS,
                format_args!("pool {}: worker {slot} (pid {pid}) has made room: {how}", pool.label),
            );
            return;
        }
        if pool.retiring {
            entry.state = SlotState::Idle;
            self.log.debug(
                codes::STOPPING,
                format_args!("pool {}: worker {slot} (pid {pid}) has stopped: {how}", pool.label),
            );
            self.bury(pool_id);
            return;
        }
        let Some(since) = worker.ready_at else {
            let error = self.why_not_ready(&worker, how);
            self.start_failed(pool_id, slot, error);
            return;
        };
        let up = now.saturating_duration_since(since);
        let wait = entry.backoff.after_death(up);
        entry.state = SlotState::Due(now + wait);
        self.log.error(
            codes::WORKER_DIED,
            format_args!(
                "pool {}: worker {slot} (pid {pid}) has died after {}.{:03} s: {how}; a new one is started {}",
                pool.label,
                up.as_secs(),
                up.subsec_millis(),
                if wait.is_zero() { "at once".into() } else { format!("in {} ms", wait.as_millis()) }
            ),
        );
        pool.last_failure = Some(StartError::new(
            codes::BACKOFF,
            format!("its workers die too often; the last: {how}"),
        ));
        if wait >= Duration::from_secs(1)
            && let Some(muted) = pool.quiet.allow("too often", now)
        {
            self.log.warn(
                codes::BACKOFF,
                format_args!(
                    "pool {}: its workers die too often: the next start waits {} ms{}",
                    pool.label,
                    wait.as_millis(),
                    more(muted)
                ),
            );
        }
        self.tell_if_down(pool_id, now);
    }

    fn tell_down(&mut self, worker: &Worker, how: &str) {
        let Some(pool) = self.pools.get(&worker.pool) else { return };
        let to: Vec<(u64, u32)> = pool.regions.values().map(|r| (r.child, r.number)).collect();
        let (slot, epoch) = (worker.slot, worker.epoch);
        for (child, region) in to {
            let down = ToChild::WorkerDown { region, slot, epoch, how: how.to_owned() };
            self.tell_child(child, &down, &[]);
        }
    }

    /// The best that can be said of why a worker ended before it was ready.
    fn why_not_ready(&self, worker: &Worker, how: &str) -> StartError {
        let launch = self.pools.get(&worker.pool).map(|p| &p.launch);
        match (spawn::read_report(&worker.report), launch) {
            (Some(Report::Failure(failure)), Some(launch)) => {
                let tenant = &worker.tenant;
                let reason =
                    spawn::explain(failure, &tenant.base, launch, &worker.who, &tenant.source);
                return StartError::new(codes::CANNOT_START_WORKER, reason);
            }
            (Some(Report::Complaint(Complaint { step, why })), _) => {
                let reason = format!("{step}: {why}");
                let reason = escape(reason.as_bytes(), 1000);
                return StartError::new(codes::SANDBOX, reason);
            }
            _ => {}
        }
        if let Some(failure) = &worker.failure {
            return failure.clone();
        }
        let python = worker.tenant.base.python.get();
        let mut reason = format!("{python} -m vivarium.worker ended before it was ready: {how}");
        if let Some(last) = worker.lines.last() {
            let last: String = last.chars().take(500).collect();
            reason.push_str("; its last words: ");
            reason.push_str(&last);
        }
        StartError::new(codes::CANNOT_START_WORKER, reason)
    }
}

/// Takes the exit status of a process that has ended or is about to: `exit status 1`, `killed by SIGKILL`.
pub(crate) fn reap(pidfd: &impl AsFd) -> String {
    match rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    }) {
        Ok(Some(status)) => describe(&status),
        Ok(None) => "ended".into(),
        Err(e) => format!("ended; its status is lost: {e}"),
    }
}

fn describe(status: &WaitIdStatus) -> String {
    if let Some(code) = status.exit_status() {
        return format!("exit status {code}");
    }
    let Some(signal) = status.terminating_signal() else { return "ended".into() };
    let core = if status.dumped() { ", core dumped" } else { "" };
    match signal_name(signal) {
        Some(name) => format!("killed by {name}{core}"),
        None => format!("killed by signal {signal}{core}"),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::process::Command;

    // Waited for by `reap`.
    #[allow(clippy::zombie_processes)]
    fn end_of(script: &str) -> String {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        reap(&pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    #[test]
    fn ends_are_described() {
        assert_eq!(end_of("exit 3"), "exit status 3");
        assert_eq!(end_of("kill -KILL $$"), "killed by SIGKILL");
        assert_eq!(end_of("kill -TERM $$"), "killed by SIGTERM");
    }
}
