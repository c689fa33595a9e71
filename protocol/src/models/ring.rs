#![allow(unsafe_code)]

use loom::cell::UnsafeCell;

use super::{Arc, check, thread};
use crate::ring::{Consumer, Producer, RingMemory};
use crate::sync::{AtomicU32, Ordering};

/// A ring whose bytes tell loom of every access: a copy that is not ordered with the other side's is an error by itself.
#[derive(Debug)]
struct Memory {
    head: AtomicU32,
    tail: AtomicU32,
    bytes: [UnsafeCell<u8>; 2],
}

// SAFETY: loom checks every access to the cells; an unordered one fails the model.
unsafe impl Sync for Memory {}

impl RingMemory for Arc<Memory> {
    fn head(&self) -> &AtomicU32 {
        &self.head
    }
    fn tail(&self) -> &AtomicU32 {
        &self.tail
    }
    fn capacity(&self) -> u32 {
        2
    }
    fn copy_in(&self, at: u32, from: &[u8]) {
        for (i, byte) in from.iter().enumerate() {
            // SAFETY: the pointer is the cell's own, and loom runs one thread at a time.
            self.bytes[at as usize + i].with_mut(|place| unsafe { *place = *byte });
        }
    }
    fn copy_out(&self, at: u32, to: &mut [u8]) {
        for (i, byte) in to.iter_mut().enumerate() {
            // SAFETY: as above.
            *byte = self.bytes[at as usize + i].with(|place| unsafe { *place });
        }
    }
}

/// Three bytes through a ring of two, so that places and the index's end are used again.
///
/// Catches: `Relaxed` in `Producer::publish`; `Relaxed` in `Consumer::available`; `Relaxed` in `Consumer::release`;
/// `Relaxed` in `Producer::space`; `release` before the copy in `pull`.
#[test]
fn bytes_are_there_before_the_index_and_gone_before_their_place_is_free() {
    check(3, || {
        let start = u32::MAX - 1;
        let memory = Arc::new(Memory {
            head: AtomicU32::new(start),
            tail: AtomicU32::new(start),
            bytes: [UnsafeCell::new(0), UnsafeCell::new(0)],
        });
        let mut tx = Producer::new(Arc::clone(&memory), start);
        let mut rx = Consumer::new(memory, start);
        let writer = thread::spawn(move || {
            let mut left = &[1, 2, 3][..];
            while !left.is_empty() {
                let n = tx.stage(left).unwrap();
                left = &left[n..];
                if !tx.publish() {
                    thread::yield_now();
                }
            }
        });
        let mut got = Vec::new();
        while got.len() < 3 {
            let mut byte = [0];
            if rx.pull(&mut byte).unwrap() == 1 {
                got.push(byte[0]);
                rx.release();
            } else {
                thread::yield_now();
            }
        }
        writer.join().unwrap();
        assert_eq!(got, [1, 2, 3]);
    });
}

/// A writer publishes while the reader's last known index is old: both sides' checks hold whatever they see.
///
/// Catches: `>=` for `>` in the check of `available`, or of `space`.
#[test]
fn true_indices_are_never_taken_for_lies() {
    check(3, || {
        let memory = Arc::new(Memory {
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            bytes: [UnsafeCell::new(0), UnsafeCell::new(0)],
        });
        let mut tx = Producer::new(Arc::clone(&memory), 0);
        let mut rx = Consumer::new(Arc::clone(&memory), 0);
        let writer = thread::spawn(move || {
            for _ in 0..3 {
                tx.space(2).unwrap();
                tx.stage(&[7]).unwrap();
                tx.publish();
            }
        });
        for _ in 0..3 {
            rx.available(2).unwrap();
            rx.pull(&mut [0]).unwrap();
            rx.release();
        }
        writer.join().unwrap();
        let (head, tail) =
            (memory.head.load(Ordering::Relaxed), memory.tail.load(Ordering::Relaxed));
        assert!(head <= tail && tail <= 3, "{head} {tail}");
    });
}
