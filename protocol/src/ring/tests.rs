use std::sync::Arc;

use super::*;
use crate::mock::Rng;
use crate::shm::{Mapping, ShmRing};

/// A ring of `capacity` bytes that begins at index `start`.
fn ring(capacity: u32, start: u32) -> (Producer<ShmRing>, Consumer<ShmRing>, ShmRing) {
    let (mapping, _fd) = Mapping::create(c"ring-test", 4096 + capacity as usize).unwrap();
    let memory = ShmRing::new(Arc::new(mapping), 0, 64, 4096, capacity);
    memory.head().store(start, Ordering::Relaxed);
    memory.tail().store(start, Ordering::Relaxed);
    (Producer::new(memory.clone(), start), Consumer::new(memory.clone(), start), memory)
}

#[test]
fn bytes_arrive_in_order_across_both_wraps() {
    // The ring's end comes every 64 bytes; the index's own end comes in the middle of the test.
    let (mut tx, mut rx, _) = ring(64, u32::MAX - 5000);
    let mut rng = Rng::new(7);
    let (mut sent, mut got) = (0_u64, 0_u64);
    while got < 20_000 {
        let want = rng.below(80);
        let bytes: Vec<u8> = (0..want as u64).map(|i| (sent + i) as u8).collect();
        sent += tx.stage(&bytes).unwrap() as u64;
        if rng.one_in(2) {
            tx.publish();
        }
        let mut to = vec![0; rng.below(80)];
        let n = rx.pull(&mut to).unwrap();
        for byte in &to[..n] {
            assert_eq!(*byte, got as u8, "byte {got}");
            got += 1;
        }
        if rng.one_in(2) {
            rx.release();
        }
    }
    assert!(got <= sent);
}

#[test]
fn a_full_ring_takes_no_more_and_an_empty_one_gives_none() {
    let (mut tx, mut rx, _) = ring(16, 0);
    assert_eq!(tx.stage(&[1; 20]).unwrap(), 16);
    assert_eq!(tx.stage(&[1; 1]).unwrap(), 0);
    assert_eq!(rx.pull(&mut [0; 20]).unwrap(), 0, "staged bytes are not visible");
    assert!(tx.publish());
    assert!(!tx.publish(), "nothing is left to publish");
    assert_eq!(rx.pull(&mut [0; 20]).unwrap(), 16);
    assert_eq!(tx.space(1).unwrap(), 0, "pulled bytes are not free yet");
    assert_eq!(rx.unreleased(), 16);
    assert!(rx.release());
    assert!(!rx.release());
    assert_eq!(tx.space(1).unwrap(), 16);
    assert_eq!(rx.pull(&mut [0; 20]).unwrap(), 0);
}

#[test]
fn empty_requests_are_harmless() {
    let (mut tx, mut rx, _) = ring(16, 9);
    assert_eq!(tx.stage(&[]).unwrap(), 0);
    assert_eq!(rx.pull(&mut []).unwrap(), 0);
    assert_eq!(tx.space(0).unwrap(), 16);
    assert_eq!(rx.available(0).unwrap(), 0);
}

/// The writer refuses every head but those between its last known one and its tail.
#[test]
fn writer_refuses_every_lie_about_the_head() {
    for start in [0, 1000, u32::MAX - 3] {
        for head in lies_around(start) {
            let (mut tx, mut rx, memory) = ring(16, start);
            // The reader has given 4 back and 6 are under way: heads from 4 to 10 are possible.
            assert_eq!(tx.stage(&[0; 10]).unwrap(), 10);
            tx.publish();
            assert_eq!(rx.pull(&mut [0; 4]).unwrap(), 4);
            rx.release();
            assert_eq!(tx.space(16).unwrap(), 10);
            assert_eq!(tx.stage(&[0; 2]).unwrap(), 2);
            memory.head().store(head, Ordering::Relaxed);
            let ahead = head.wrapping_sub(start);
            let answer = tx.space(16);
            if (4..=10).contains(&ahead) {
                assert_eq!(answer.unwrap(), 16 - 12 + ahead, "head {head} from {start}");
            } else {
                let ours = start.wrapping_add(10);
                assert_eq!(answer.unwrap_err(), BadIndex { ours, theirs: head, capacity: 16 });
                assert!(tx.stage(&[0; 16]).is_err(), "the lie is believed by stage()");
            }
        }
    }
}

/// The reader refuses every tail but those between its last known one and one capacity beyond what it gave back.
#[test]
fn reader_refuses_every_lie_about_the_tail() {
    for start in [0, 1000, u32::MAX - 3] {
        for tail in lies_around(start) {
            let (mut tx, mut rx, memory) = ring(16, start);
            // 10 were sent; of 7 pulled, 4 were given back: tails from 10 to 4 + 16 are possible.
            assert_eq!(tx.stage(&[0; 10]).unwrap(), 10);
            tx.publish();
            assert_eq!(rx.pull(&mut [0; 4]).unwrap(), 4);
            rx.release();
            assert_eq!(rx.pull(&mut [0; 3]).unwrap(), 3);
            memory.tail().store(tail, Ordering::Relaxed);
            let ahead = tail.wrapping_sub(start);
            let answer = rx.available(16);
            if (10..=20).contains(&ahead) {
                assert_eq!(answer.unwrap(), ahead - 7, "tail {tail} from {start}");
            } else {
                let ours = start.wrapping_add(7);
                assert_eq!(answer.unwrap_err(), BadIndex { ours, theirs: tail, capacity: 16 });
                assert!(rx.pull(&mut [0; 16]).is_err(), "the lie is believed by pull()");
            }
        }
    }
}

fn lies_around(start: u32) -> Vec<u32> {
    let mut lies: Vec<u32> = (0..64).map(|i| start.wrapping_add(i).wrapping_sub(20)).collect();
    lies.extend([1 << 31, u32::MAX, 0, 1 << 30].map(|i| start.wrapping_add(i)));
    let mut rng = Rng::new(u64::from(start));
    lies.extend((0..100).map(|_| rng.odd_u32()));
    lies
}

#[test]
fn what_is_known_already_is_not_read_again() {
    let (mut tx, mut rx, memory) = ring(16, 0);
    tx.stage(&[5; 8]).unwrap();
    tx.publish();
    assert_eq!(rx.available(1).unwrap(), 8);
    // The peer takes it back: the reader has looked once and does not have to believe the second word.
    memory.tail().store(0, Ordering::Relaxed);
    assert_eq!(rx.pull(&mut [0; 8]).unwrap(), 8);
}

#[test]
fn reset_begins_anew() {
    let (mut tx, mut rx, memory) = ring(16, 0);
    tx.stage(&[1; 12]).unwrap();
    tx.publish();
    rx.pull(&mut [0; 5]).unwrap();
    for index in [memory.head(), memory.tail()] {
        index.store(77, Ordering::Relaxed);
    }
    tx.stage(&[9; 2]).unwrap();
    tx.reset(77);
    rx.reset(77);
    assert!(!tx.has_staged());
    assert_eq!((tx.space(16).unwrap(), rx.available(1).unwrap()), (16, 0));
    assert_eq!((tx.capacity(), rx.capacity(), rx.position()), (16, 16, 77));
}

#[test]
fn two_threads_pass_a_stream() {
    let (mut tx, mut rx, _) = ring(256, u32::MAX - 10_000);
    let total = 200_000_u64;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut rng, mut sent) = (Rng::new(3), 0);
            while sent < total {
                let want = (1 + rng.below(300) as u64).min(total - sent);
                let bytes: Vec<u8> = (sent..sent + want).map(|i| (i * 31) as u8).collect();
                let n = tx.stage(&bytes).unwrap();
                sent += n as u64;
                if n == 0 || rng.one_in(3) || sent == total {
                    tx.publish();
                    std::thread::yield_now();
                }
            }
        });
        let (mut rng, mut got) = (Rng::new(4), 0_u64);
        while got < total {
            let mut to = vec![0; 1 + rng.below(300)];
            let n = rx.pull(&mut to).unwrap();
            for byte in &to[..n] {
                assert_eq!(*byte, (got * 31) as u8, "byte {got}");
                got += 1;
            }
            rx.release();
            if n == 0 {
                std::thread::yield_now();
            }
        }
    });
}
