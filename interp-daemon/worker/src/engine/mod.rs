//! Regions, lanes, threads and conversations.

pub(crate) mod buffers;
pub(crate) mod calls;
pub(crate) mod control;
pub(crate) mod conversation;
pub(crate) mod dispatcher;
mod drain;
pub(crate) mod gate;
pub(crate) mod phases;
pub(crate) mod regions;
pub(crate) mod seats;
mod special;
pub(crate) mod state;
pub(crate) mod tree;
pub(crate) mod worker_loop;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose data stays usable after a panic elsewhere.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
