//! A byte ring with one writer and one reader, each of whom keeps its own index privately.
//!
//! The shared part is two published indices and `capacity` bytes. Indices run freely (wrapping `u32`); the capacity is
//! a power of two of at most 2^30, so that `tail - head` is the number of bytes in the ring. What the peer publishes is
//! checked against the private index on every read: a lying peer is an error, never an access out of bounds, because
//! the place of every copy comes from the private index and the private capacity alone.

use crate::sync::{AtomicU32, Ordering};

/// The shared bytes of a ring and its two published indices.
///
/// Implementations copy; they never hand out references to the bytes. `copy_in` and `copy_out` get offsets and lengths
/// that the ring has kept inside `0..capacity`.
pub trait RingMemory {
    /// Where the reader publishes how far it has read.
    fn head(&self) -> &AtomicU32;
    /// Where the writer publishes how far it has written.
    fn tail(&self) -> &AtomicU32;
    /// The number of bytes, a power of two.
    fn capacity(&self) -> u32;
    /// Copies `from` to offset `at`; `at + from.len() <= capacity`.
    fn copy_in(&self, at: u32, from: &[u8]);
    /// Copies from offset `at` to `to`; `at + to.len() <= capacity`.
    fn copy_out(&self, at: u32, to: &mut [u8]);
    /// Where the byte at offset `at` lies, for somebody who copies from there without us; null if the memory has no place
    /// that can be named.
    fn place(&self, at: u32) -> *const u8 {
        let _ = at;
        std::ptr::null()
    }
}

/// The peer published an index that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer published ring index {theirs} beside our {ours} (capacity {capacity})")]
pub struct BadIndex {
    /// Our own index.
    pub ours: u32,
    /// What the peer published.
    pub theirs: u32,
    /// The ring's size in bytes.
    pub capacity: u32,
}

/// The writing end.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    capacity: u32,
    /// Published tail.
    tail: u32,
    /// Bytes copied in beyond `tail`, not yet published.
    staged: u32,
    /// Last head of the peer that passed the check.
    head_seen: u32,
}

impl<M: RingMemory> Producer<M> {
    /// A writer that goes on at index `start` of an empty ring.
    pub fn new(memory: M, start: u32) -> Self {
        let capacity = memory.capacity();
        Self { memory, capacity, tail: start, staged: 0, head_seen: start }
    }

    /// Goes on at index `start` of an empty ring.
    pub fn reset(&mut self, start: u32) {
        self.tail = start;
        self.staged = 0;
        self.head_seen = start;
    }

    fn used_at(&self, head: u32) -> u32 {
        self.tail.wrapping_add(self.staged).wrapping_sub(head)
    }

    /// How many bytes can be staged now; looks at the peer's index only when its last known one leaves less than `want`.
    pub fn space(&mut self, want: u32) -> Result<u32, BadIndex> {
        let free = self.capacity - self.used_at(self.head_seen);
        if free >= want {
            return Ok(free);
        }
        // SYNC(head): pairs with the release in `Consumer::release`; the peer is done with those bytes.
        let head = self.memory.head().load(Ordering::Acquire);
        let used = self.used_at(head);
        // The head may only move forward from where it was last seen, up to what was published.
        if used > self.used_at(self.head_seen) || used < self.staged {
            return Err(BadIndex { ours: self.tail, theirs: head, capacity: self.capacity });
        }
        self.head_seen = head;
        Ok(self.capacity - used)
    }

    /// Copies as much of `bytes` as fits behind what is staged; returns how much. Not visible to the reader before
    /// [`Producer::publish`].
    pub fn stage(&mut self, bytes: &[u8]) -> Result<usize, BadIndex> {
        let want = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.capacity);
        let n = self.space(want)?.min(want);
        let at = self.tail.wrapping_add(self.staged) & (self.capacity - 1);
        let first = n.min(self.capacity - at);
        self.memory.copy_in(at, &bytes[..first as usize]);
        self.memory.copy_in(0, &bytes[first as usize..n as usize]);
        self.staged += n;
        Ok(n as usize)
    }

    /// Makes everything staged visible to the reader; returns whether there was anything.
    pub fn publish(&mut self) -> bool {
        if self.staged == 0 {
            return false;
        }
        self.tail = self.tail.wrapping_add(self.staged);
        self.staged = 0;
        // SYNC(tail): pairs with the acquire in `Consumer::available`; the bytes are there before the index says so.
        self.memory.tail().store(self.tail, Ordering::Release);
        true
    }

    /// Whether bytes wait to be published.
    pub fn has_staged(&self) -> bool {
        self.staged > 0
    }

    /// The ring's size in bytes.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    capacity: u32,
    /// How far we have read.
    head: u32,
    /// What of that is published.
    published: u32,
    /// Last tail of the peer that passed the check.
    tail_seen: u32,
}

impl<M: RingMemory> Consumer<M> {
    /// A reader that goes on at index `start` of an empty ring.
    pub fn new(memory: M, start: u32) -> Self {
        let capacity = memory.capacity();
        Self { memory, capacity, head: start, published: start, tail_seen: start }
    }

    /// Goes on at index `start` of an empty ring.
    pub fn reset(&mut self, start: u32) {
        self.head = start;
        self.published = start;
        self.tail_seen = start;
    }

    /// How many bytes can be read now; looks at the peer's index only when its last known one gives less than `want`.
    pub fn available(&mut self, want: u32) -> Result<u32, BadIndex> {
        let known = self.tail_seen.wrapping_sub(self.head);
        if known >= want && known > 0 {
            return Ok(known);
        }
        // SYNC(tail): pairs with the release in `Producer::publish`.
        let tail = self.memory.tail().load(Ordering::Acquire);
        let ready = tail.wrapping_sub(self.head);
        // The tail may only move forward from where it was last seen, up to one capacity beyond what we gave back.
        let filled = tail.wrapping_sub(self.published);
        if ready < known || ready > self.capacity || filled > self.capacity {
            return Err(BadIndex { ours: self.head, theirs: tail, capacity: self.capacity });
        }
        self.tail_seen = tail;
        Ok(ready)
    }

    /// Copies up to `to.len()` bytes out; returns how many. The place is not free for the writer before
    /// [`Consumer::release`].
    pub fn pull(&mut self, to: &mut [u8]) -> Result<usize, BadIndex> {
        let want = u32::try_from(to.len()).unwrap_or(u32::MAX).min(self.capacity);
        let n = self.available(want)?.min(want);
        let at = self.head & (self.capacity - 1);
        let first = n.min(self.capacity - at);
        let (a, b) = to[..n as usize].split_at_mut(first as usize);
        self.memory.copy_out(at, a);
        self.memory.copy_out(0, b);
        self.head = self.head.wrapping_add(n);
        Ok(n as usize)
    }

    /// Where the next `n` bytes lie, in one or two pieces, if they are there already. The peer can change them at any time:
    /// fit for a copy that takes whatever it finds, never for a reference. Read on by [`Consumer::skip`].
    pub fn places(&mut self, n: u32) -> Result<Option<[(*const u8, usize); 2]>, BadIndex> {
        if n > self.capacity || self.available(n)? < n {
            return Ok(None);
        }
        let at = self.head & (self.capacity - 1);
        let first = n.min(self.capacity - at);
        let (a, b) = (self.memory.place(at), self.memory.place(0));
        let there = !a.is_null() && !b.is_null();
        Ok(there.then_some([(a, first as usize), (b, (n - first) as usize)]))
    }

    /// Counts `n` bytes as pulled, at most those that were seen to be there; returns how many.
    pub fn skip(&mut self, n: u32) -> u32 {
        let n = n.min(self.tail_seen.wrapping_sub(self.head));
        self.head = self.head.wrapping_add(n);
        n
    }

    /// Gives the place of everything pulled back to the writer; returns whether there was anything.
    pub fn release(&mut self) -> bool {
        if self.published == self.head {
            return false;
        }
        self.published = self.head;
        // SYNC(head): pairs with the acquire in `Producer::space`; our copies are done before the place is free.
        self.memory.head().store(self.head, Ordering::Release);
        true
    }

    /// Whether half of the ring or more is free, as far as we have looked: never false when it is.
    pub fn mostly_read(&self) -> bool {
        self.tail_seen.wrapping_sub(self.head) <= self.capacity / 2
    }

    /// Our own index: the number of bytes pulled since the ring was new, wrapping.
    pub fn position(&self) -> u32 {
        self.head
    }

    /// Bytes pulled and not yet given back.
    pub fn unreleased(&self) -> u32 {
        self.head.wrapping_sub(self.published)
    }

    /// The ring's size in bytes.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
