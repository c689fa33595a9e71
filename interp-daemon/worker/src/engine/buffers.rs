//! Payload buffers that go back to their thread's small store when they are dropped.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers larger than this go back to the allocator.
const MAX_KEPT: usize = 256 << 10;
/// The most buffers that a thread keeps.
const MAX_COUNT: usize = 16;

thread_local! {
    static STORE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A byte vector from the store.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer, with capacity if the thread has one left over.
    pub(crate) fn take() -> Self {
        Self(STORE.try_with(|s| s.borrow_mut().pop()).ok().flatten().unwrap_or_default())
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() == 0 || bytes.capacity() > MAX_KEPT {
            return;
        }
        bytes.clear();
        // A thread that is ending has no store any more: the buffer is then simply freed.
        let _ = STORE.try_with(|s| {
            let mut store = s.borrow_mut();
            if store.len() < MAX_COUNT {
                store.push(bytes);
            }
        });
    }
}
