//! A lane whose worker is the fuzzer: it puts bytes into the ring, moves indices, overwrites words, while httpd's end
//! receives and answers. Whatever comes out is a frame within its limits or a typed error.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vivarium_protocol::codec;
use vivarium_protocol::frame::{HEADER_LEN, Kind};
use vivarium_protocol::futex::Patience;
use vivarium_protocol::lane::{Channel, Guard, LaneError};
use vivarium_protocol::message::{Call, Change, Leave};
use vivarium_protocol::region::{Claim, Geometry, Owner, Region};
use vivarium_protocol::ring::{Producer, RingMemory};
use vivarium_protocol::sync::Ordering;
use vivarium_protocol::wire::Reader;

/// Never waits: what is not there now does not come.
struct Now;

impl Guard for Now {
    type Stop = ();
    fn check(&mut self) -> Result<(), ()> {
        Err(())
    }
}

fn region() -> Arc<Region> {
    static REGION: OnceLock<Arc<Region>> = OnceLock::new();
    let make = || {
        let geometry = Geometry { lanes: 2, to_guest: 4096, to_host: 4096 };
        Arc::new(Region::create(geometry).expect("a region").0)
    };
    Arc::clone(REGION.get_or_init(make))
}

/// httpd: takes what is there. False if the conversation is over.
fn serve(host: &mut Channel, payload: &mut Vec<u8>) -> bool {
    loop {
        let header = match host.recv(&mut Now) {
            Ok(header) => header,
            Err(LaneError::Stopped(())) => return true,
            Err(_) => return false,
        };
        assert!(header.len as usize <= header.kind.max_len() && !header.kind.from_host());
        if host.read_payload(payload, &mut Now).is_err() {
            return false;
        }
        assert_eq!(payload.len(), header.len as usize);
        match header.kind {
            Kind::Call => {
                let Ok(call) = codec::decode::<Call<'_>>(payload) else { return false };
                let reply = [b'r'; 1500];
                let n = if matches!(call, Call::Read(_)) { 1500 } else { 3 };
                if !matches!(host.try_send(Kind::Reply, 0, 1, 0, &[&reply[..n]]), Ok(true)) {
                    return false;
                }
            }
            Kind::Changes => {
                let mut r = Reader::new(payload);
                loop {
                    match Change::read(&mut r) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return false,
                    }
                }
            }
            Kind::Leave => {
                let _ = codec::decode::<Leave>(payload);
                return false;
            }
            _ => {}
        }
    }
}

fuzz_target!(|script: &[u8]| {
    let region = region();
    let mut host = Channel::host(Arc::clone(&region), 0, 1);
    host.set_patience(Patience { poll: Duration::ZERO, slice: Duration::ZERO });
    let mut tx = Producer::new(region.to_host(0), 0);
    let (mut at, mut payload) = (0, Vec::new());
    let mut next = |n: usize| {
        let part = &script[at.min(script.len())..(at + n).min(script.len())];
        at += n;
        (!part.is_empty()).then_some(part)
    };
    while let Some(&[op]) = next(1) {
        let word = |part: Option<&[u8]>| {
            let mut four = [0; 4];
            part.unwrap_or_default().iter().zip(&mut four).for_each(|(from, to)| *to = *from);
            u32::from_le_bytes(four)
        };
        match op {
            // A true header for the next bytes, so that the fuzzer gets past it.
            0..=99 => {
                let len = usize::from(op);
                let kind = [16, 17, 18, 19][len % 4];
                let mut header = [0; HEADER_LEN];
                (header[0], header[4], header[6], header[8]) = (op, kind, 1, 1);
                let _ = tx.stage(&header).and_then(|_| tx.stage(next(len).unwrap_or_default()));
                tx.publish();
            }
            100..=199 => {
                let _ = tx.stage(next(usize::from(op - 99)).unwrap_or_default());
                tx.publish();
            }
            200 => region.to_host(0).tail().store(word(next(4)), Ordering::Relaxed),
            201 => region.to_guest(0).head().store(word(next(4)), Ordering::Relaxed),
            202 => region.to_host(0).head().store(word(next(4)), Ordering::Relaxed),
            203 => region.host_word(0).store(word(next(4)), Ordering::Relaxed),
            204 => {
                region.offer(1, None);
                region.set_ready(word(next(1)) % 2, None);
                let taken = region.take(Owner { slot: 1, epoch: 1 });
                assert!(taken.is_none_or(|lane| matches!(region.claim(lane), Claim::Claimed(_))));
                region.set_idle(1);
            }
            _ => {
                if !serve(&mut host, &mut payload) {
                    return;
                }
            }
        }
    }
    serve(&mut host, &mut payload);
});
