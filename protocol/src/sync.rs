//! The atomics that this crate uses: the standard ones, or loom's when the models run.
//!
//! Nothing else in the crate names `core::sync::atomic`, so that every ordering can be model-checked.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
