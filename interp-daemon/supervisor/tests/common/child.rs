//! An httpd child's end of the control socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use vivarium_protocol::control::{PoolKey, ToChild, ToSupervisor};
use vivarium_protocol::page::PoolPage;
use vivarium_protocol::policy::TenantPolicy;
use vivarium_protocol::region::{Geometry, Region};
use vivarium_protocol::seqpacket::{self, PacketError};

use super::{WATCHDOG, readable};

/// A worker, as a child learns of it.
#[derive(Debug)]
pub struct Up {
    pub region: u32,
    pub slot: u8,
    pub epoch: u16,
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// An httpd child's connection.
pub struct HttpdChild {
    pub socket: OwnedFd,
    pub(super) files: Vec<(Region, OwnedFd)>,
    /// Policies that came and were not asked for yet: tests that are not about them never see them.
    pub(super) policies: RefCell<VecDeque<(u32, TenantPolicy)>>,
}

pub fn key(interpreter: &str) -> PoolKey {
    PoolKey { tenant: "default".into(), interpreter: interpreter.into() }
}

pub fn small_region() -> (Region, OwnedFd) {
    Region::create(Geometry { lanes: 2, to_guest: 4096, to_host: 4096 }).unwrap()
}

impl HttpdChild {
    pub fn send(&self, packet: &ToSupervisor) {
        seqpacket::send(&self.socket, packet, &[], false).unwrap();
    }

    pub fn try_recv(&self) -> Result<(ToChild, Vec<OwnedFd>), PacketError> {
        loop {
            match self.receive()? {
                (ToChild::Policy { region, policy }, fds) if fds.is_empty() => {
                    self.policies.borrow_mut().push_back((region, policy));
                }
                other => return Ok(other),
            }
        }
    }

    fn receive(&self) -> Result<(ToChild, Vec<OwnedFd>), PacketError> {
        assert!(readable(&self.socket, Instant::now() + WATCHDOG), "no packet came");
        seqpacket::recv(&self.socket, false)
    }

    /// The next policy: (region, policy).
    pub fn expect_policy(&self) -> (u32, TenantPolicy) {
        if let Some(policy) = self.policies.borrow_mut().pop_front() {
            return policy;
        }
        match self.receive().unwrap() {
            (ToChild::Policy { region, policy }, fds) if fds.is_empty() => (region, policy),
            other => panic!("no policy: {other:?}"),
        }
    }

    pub fn recv(&self) -> (ToChild, Vec<OwnedFd>) {
        self.try_recv().unwrap()
    }

    /// The supervisor closes this connection, and says nothing more.
    pub fn expect_closed(&self) {
        match self.try_recv() {
            Err(PacketError::Closed | PacketError::Os(rustix::io::Errno::CONNRESET)) => {}
            other => panic!("the connection is still there: {other:?}"),
        }
    }

    /// Asks for a pool; returns its page.
    pub fn attach(&mut self, interpreter: &str, region: u32) -> PoolPage {
        self.attach_as(&key(interpreter), region)
    }

    /// Asks for any tenant's pool; returns its page.
    pub fn attach_as(&mut self, pool: &PoolKey, region: u32) -> PoolPage {
        self.send_attach(pool, region);
        match self.recv() {
            (ToChild::Attached { region: number }, fds) if number == region && fds.len() == 1 => {
                PoolPage::open(fds[0].as_fd()).unwrap()
            }
            other => panic!("not attached: {other:?}"),
        }
    }

    pub fn send_attach(&mut self, pool: &PoolKey, region: u32) {
        let (memory, memory_fd) = small_region();
        let (ours, theirs) = seqpacket::pair().unwrap();
        let packet = ToSupervisor::Attach { pool: pool.clone(), region };
        let fds = [memory_fd.as_fd(), theirs.as_fd()];
        seqpacket::send(&self.socket, &packet, &fds, false).unwrap();
        self.files.push((memory, ours));
    }

    pub fn expect_up(&self) -> Up {
        match self.recv() {
            (ToChild::WorkerUp { region, slot, epoch, pid }, mut fds) if fds.len() == 1 => {
                Up { region, slot, epoch, pid, pidfd: fds.pop().unwrap() }
            }
            other => panic!("no worker up: {other:?}"),
        }
    }

    /// (region, slot, epoch, how).
    pub fn expect_down(&self) -> (u32, u8, u16, String) {
        match self.recv() {
            (ToChild::WorkerDown { region, slot, epoch, how }, fds) if fds.is_empty() => {
                (region, slot, epoch, how)
            }
            other => panic!("no worker down: {other:?}"),
        }
    }

    /// (region, code, reason, `retry_ms`).
    pub fn expect_pool_down(&self) -> (u32, String, String, u32) {
        match self.recv() {
            (ToChild::PoolDown { region, code, reason, retry_ms }, fds) if fds.is_empty() => {
                (region, code, reason, retry_ms)
            }
            other => panic!("no pool down: {other:?}"),
        }
    }

    pub fn expect_refused(&self) -> String {
        match self.recv() {
            (ToChild::Refuse { version, reason }, fds) if fds.is_empty() => {
                assert_eq!(version, vivarium_protocol::PROTOCOL_VERSION);
                reason
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}
