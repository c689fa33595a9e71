//! The worker's end of a lane without this crate's manners: it goes on whatever the indices say.

use std::sync::Arc;
use std::time::Duration;

use super::Go;
use crate::frame::{HEADER_LEN, Header, Kind};
use crate::futex::{self, Patience, SleepFor};
use crate::region::Region;
use crate::ring::{Consumer, Producer};
use crate::shm::ShmRing;

/// One end of one lane for one conversation.
#[derive(Debug)]
pub(super) struct Raw {
    region: Arc<Region>,
    lane: u32,
    tx: Producer<ShmRing>,
    rx: Consumer<ShmRing>,
    pub(super) conversation: u32,
}

impl Raw {
    pub(super) fn new(region: &Arc<Region>, lane: u32) -> Self {
        Self {
            tx: Producer::new(region.to_host(lane), 0),
            rx: Consumer::new(region.to_guest(lane), 0),
            region: Arc::clone(region),
            lane,
            conversation: 0,
        }
    }

    pub(super) fn lane(&self) -> u32 {
        self.lane
    }

    /// A true header.
    pub(super) fn header(&self, kind: Kind, rid: u32, len: usize) -> Header {
        let conversation = self.conversation;
        Header { len: len as u32, kind, flags: 0, depth: 1, conversation, rid }
    }

    /// Waits a moment.
    pub(super) fn nap(&self) {
        let patience = Patience { poll: Duration::ZERO, slice: Duration::from_micros(500) };
        let never = || Ok::<_, std::convert::Infallible>(false);
        let _ = futex::wait(self.region.guest_word(self.lane), SleepFor::Data, patience, never);
    }

    /// Wakes httpd's thread, whether it sleeps or not.
    pub(super) fn wake(&self) {
        futex::wake_always(self.region.host_word(self.lane));
    }

    /// Puts bytes into the ring, all of them; false if stopped, or if the ring's indices are past believing.
    pub(super) fn send(&mut self, mut bytes: &[u8], go_on: Go<'_>) -> bool {
        while !bytes.is_empty() {
            let Ok(n) = self.tx.stage(bytes) else { return false };
            bytes = &bytes[n..];
            if n == 0 {
                self.publish();
                if !go_on() {
                    return false;
                }
                std::thread::yield_now();
            }
        }
        true
    }

    /// Shows what was sent.
    pub(super) fn publish(&mut self) -> bool {
        self.tx.publish();
        futex::wake(self.region.host_word(self.lane), SleepFor::Data);
        true
    }

    fn pull(&mut self, mut to: &mut [u8], go_on: Go<'_>) -> bool {
        while !to.is_empty() {
            let Ok(n) = self.rx.pull(to) else { return false };
            to = &mut to[n..];
            self.rx.release();
            futex::wake(self.region.host_word(self.lane), SleepFor::Room);
            if n == 0 {
                if !go_on() {
                    return false;
                }
                let word = self.region.guest_word(self.lane);
                let patience = Patience { slice: Duration::from_millis(1), ..Patience::default() };
                let rx = &mut self.rx;
                let _ =
                    futex::wait(word, SleepFor::Data, patience, || rx.available(1).map(|n| n > 0));
            }
        }
        true
    }

    /// Receives one frame and forgets its payload; `None` if stopped or if nothing sensible is in the ring.
    pub(super) fn recv(&mut self, go_on: Go<'_>) -> Option<Header> {
        let mut bytes = [0; HEADER_LEN];
        if !self.pull(&mut bytes, go_on) {
            return None;
        }
        let theirs = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let header = Header::decode(&bytes, true, theirs).ok()?;
        let mut left = header.len as usize;
        let mut waste = [0; 4096];
        while left > 0 {
            let n = left.min(waste.len());
            if !self.pull(&mut waste[..n], go_on) {
                return None;
            }
            left -= n;
        }
        Some(header)
    }

    /// Receives frames up to a `Reply`, or an `Enter` in its place.
    pub(super) fn recv_reply(&mut self, go_on: Go<'_>) -> bool {
        while let Some(header) = self.recv(go_on) {
            if header.kind != Kind::Data {
                return true;
            }
        }
        false
    }
}
