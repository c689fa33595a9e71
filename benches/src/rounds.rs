//! Both ends of a ring and of a lane in one thread: what the steps cost when nobody ever waits.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use vivarium_protocol::frame::Kind;
use vivarium_protocol::lane::{Channel, Guard};
use vivarium_protocol::region::{Claim, Geometry, Owner, Region};
use vivarium_protocol::ring::{Consumer, Producer};
use vivarium_protocol::shm::ShmRing;

const LANE: u32 = 3;
const ME: Owner = Owner { slot: 0, epoch: 1 };

fn region() -> Arc<Region> {
    let (region, _) = Region::create(Geometry::default()).expect("shared memory for a region");
    Arc::new(region)
}

/// Bytes that go through a ring and come out again.
pub(crate) struct RingRound {
    writer: Producer<ShmRing>,
    reader: Consumer<ShmRing>,
    sent: Vec<u8>,
    got: Vec<u8>,
}

impl RingRound {
    pub(crate) fn new(len: usize) -> Self {
        let region = region();
        region.reset(LANE);
        Self {
            writer: Producer::new(region.to_host(LANE), 0),
            reader: Consumer::new(region.to_host(LANE), 0),
            sent: vec![b'x'; len],
            got: vec![0; len],
        }
    }

    pub(crate) fn run(&mut self) {
        let staged = self.writer.stage(black_box(&self.sent)).expect("our own ring");
        self.writer.publish();
        let pulled = self.reader.pull(&mut self.got).expect("our own ring");
        self.reader.release();
        assert_eq!((staged, pulled), (self.sent.len(), self.sent.len()));
        black_box(&self.got);
    }
}

/// Nobody has to wait here, so nobody asks.
struct Never;

impl Guard for Never {
    type Stop = Infallible;
    fn check(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A whole conversation: offer, claim, `Enter`, `Leave`, lane idle again.
pub(crate) struct LaneRound {
    region: Arc<Region>,
    conversation: u32,
    enter: Vec<u8>,
    buffer: Vec<u8>,
}

impl LaneRound {
    pub(crate) fn new() -> Self {
        Self { region: region(), conversation: 0, enter: vec![b'e'; 900], buffer: Vec::new() }
    }

    pub(crate) fn run(&mut self) {
        // Zero is no conversation.
        self.conversation = self.conversation.wrapping_add(1).max(1);
        let mut host = Channel::host(Arc::clone(&self.region), LANE, self.conversation);
        let sent = host.try_send(Kind::Enter, 0, 1, 0, &[&self.enter]).expect("our own ring");
        self.region.offer(LANE, None);

        let lane = self.region.take(ME).expect("the lane was offered");
        let mut guest = Channel::guest(Arc::clone(&self.region), lane);
        let enter = guest.recv(&mut Never).expect("an Enter was sent");
        guest.read_payload(&mut self.buffer, &mut Never).expect("its payload");
        assert!(sent && enter.kind == Kind::Enter && self.buffer.len() == self.enter.len());
        guest.finish(0, b"left", ME, &mut Never).expect("room for a Leave");

        let leave = host.recv(&mut Never).expect("a Leave was sent");
        host.read_payload(&mut self.buffer, &mut Never).expect("its payload");
        assert!(leave.kind == Kind::Leave && self.region.claim(LANE) == Claim::Released(ME));
        self.region.set_idle(LANE);
    }
}
