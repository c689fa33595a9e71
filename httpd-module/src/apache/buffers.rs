//! Memory for large pieces of bodies: used again and again, so that none of it has to be cleared or faulted in anew.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer.
pub(crate) const SIZE: usize = 64 << 10;
/// The most buffers that a process keeps for later.
const MOST: usize = 64;

static FREE: Mutex<Vec<Box<[u8; SIZE]>>> = Mutex::new(Vec::new());

/// A buffer; what is in it is of no meaning.
pub(crate) fn take() -> Box<[u8; SIZE]> {
    let known = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    known.unwrap_or_else(|| {
        let fresh: Box<[u8]> = vec![0; SIZE].into_boxed_slice();
        // Of just this length.
        fresh.try_into().unwrap_or_else(|_| std::process::abort())
    })
}

fn give_back(buffer: Box<[u8; SIZE]>) {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    if free.len() < MOST {
        free.push(buffer);
    }
}

/// A buffer as C has it: goes back by [`free`].
pub(crate) fn into_raw(buffer: Box<[u8; SIZE]>) -> *mut c_void {
    Box::into_raw(buffer).cast()
}

/// The function with which a bucket frees its buffer.
///
/// # Safety
/// `memory` comes from [`into_raw`] and is used no more.
pub(crate) unsafe extern "C" fn free(memory: *mut c_void) {
    super::edge::guarded("a buffer's end", (), || {
        // SAFETY: by the caller's promise.
        give_back(unsafe { Box::from_raw(memory.cast::<[u8; SIZE]>()) });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back() {
        let mut buffer = take();
        buffer[0] = 7;
        let raw = into_raw(buffer);
        // SAFETY: as it was given.
        unsafe { free(raw) };
        assert!(FREE.lock().unwrap().iter().any(|b| std::ptr::eq(b.as_ptr().cast(), raw)));
    }
}
