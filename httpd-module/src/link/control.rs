//! The control thread: the supervisor's messages and the workers' pidfds.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::event::{PollFd, PollFlags, poll};
use vivarium_protocol::control::ToChild;
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::region::Owner;
use vivarium_protocol::{codes, seqpacket};

use super::pool::Pool;
use super::{Link, lock};
use crate::apache::edge::guarded;
use crate::apache::log::{self, Level};

/// A worker whose end is watched.
struct Watched {
    pidfd: OwnedFd,
    pool: Weak<Pool>,
    owner: Owner,
}

/// The thread's life: as long as the process.
pub(super) fn run(link: &'static Link) {
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        guarded("the control thread's round", (), || round(link, &mut watched));
    }
}

fn round(link: &'static Link, watched: &mut Vec<Watched>) {
    watched.retain(|w| w.pool.strong_count() > 0);
    let connection = lock(&link.inner).connection.clone();
    let mut fds = vec![PollFd::new(&link.poke, PollFlags::IN)];
    if let Some(c) = &connection {
        fds.push(PollFd::from_borrowed_fd(c.as_fd(), PollFlags::IN));
    }
    let first_pid = fds.len();
    fds.extend(watched.iter().map(|w| PollFd::new(&w.pidfd, PollFlags::IN)));
    if poll(&mut fds, None).is_err() {
        return;
    }
    let ready: Vec<bool> = fds.iter().map(|f| !f.revents().is_empty()).collect();
    if ready[0] {
        let mut count = [0; 8];
        let _ = rustix::io::read(&link.poke, &mut count);
    }
    let mut i = first_pid;
    watched.retain(|w| {
        let dead = ready.get(i).copied().unwrap_or(false);
        i += 1;
        if dead && let Some(pool) = w.pool.upgrade() {
            pool.worker_died(w.owner);
        }
        !dead
    });
    if let Some(connection) = connection.filter(|_| ready.get(1) == Some(&true)) {
        messages(link, &connection, watched);
    }
}

fn messages(link: &'static Link, connection: &Arc<OwnedFd>, watched: &mut Vec<Watched>) {
    loop {
        match seqpacket::recv::<ToChild>(&**connection, true) {
            Ok((message, fds)) => message_in(link, message, fds, watched),
            Err(e) if e.would_block() => return,
            Err(e) => {
                if !matches!(e, seqpacket::PacketError::Closed) {
                    let text = format!("{}: from the supervisor: {e}", codes::BAD_PACKET);
                    log::server(None, Level::Err, &text);
                }
                link.disconnected();
                return;
            }
        }
    }
}

fn message_in(link: &Link, message: ToChild, fds: Vec<OwnedFd>, watched: &mut Vec<Watched>) {
    let pool_of = |region: u32| lock(&link.inner).regions.get(&region).cloned();
    let mut fds = fds.into_iter();
    match message {
        ToChild::Attached { region } => {
            let Some(pool) = pool_of(region) else { return };
            match fds.next().map(|fd| PoolPage::open(fd.as_fd())) {
                Some(Ok(page)) => pool.attached(page),
                Some(Err(e)) => pool.down(format!("{}: {e}", codes::BAD_PACKET), 1000),
                None => pool.down(format!("{}: no pool page came", codes::BAD_PACKET), 1000),
            }
        }
        ToChild::PoolDown { region, code, reason, retry_ms } => {
            let Some(pool) = pool_of(region) else { return };
            let is_unknown = code == codes::NO_TENANT.0;
            let reason = format!("{code}: {reason}");
            if is_unknown {
                pool.refuse(reason, retry_ms);
                link.give_up(&pool);
            } else {
                pool.down(reason, retry_ms);
            }
        }
        ToChild::WorkerUp { region, slot, epoch, .. } => {
            let Some(pool) = pool_of(region) else { return };
            let owner = Owner { slot, epoch };
            pool.worker_up(owner);
            if let Some(pidfd) = fds.next() {
                watched.push(Watched { pidfd, pool: Arc::downgrade(&pool), owner });
            }
        }
        ToChild::WorkerDown { region, slot, epoch, how } => {
            if let Some(pool) = pool_of(region) {
                pool.worker_ended(Owner { slot, epoch }, &how);
            }
        }
        ToChild::Policy { region, policy } => {
            if let Some(pool) = pool_of(region) {
                pool.tenant().set_policy(policy);
            }
        }
        ToChild::Asleep { region } => link.asleep(region),
        ToChild::Welcome { .. } | ToChild::Refuse { .. } => {}
    }
}
