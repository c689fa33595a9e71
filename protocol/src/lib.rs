//! What httpd and a Python worker say to each other, and how: no httpd, no Python, all of it testable alone.
//!
//! # Trust
//!
//! *A worker is hostile from the moment its interpreter starts; its region, its sockets and its exit status are
//! attacker input.* The httpd child is likewise not trusted by the supervisor beyond what its uid may ask. So:
//!
//! 1. No reference ever points at shared bytes: they are reached by atomics and by raw copies only ([`shm`]).
//! 2. Every side keeps its own indices in private memory and publishes copies ([`ring`]).
//! 3. What is read from the peer is copied out first, then validated, then used; every length is bounded.
//! 4. No lock lives in shared memory, and no loop waits on the peer without a bound or a [`lane::Guard`].
//! 5. Regions are sealed memfds: a peer can scribble on them, never resize them.
//!
//! # Map
//!
//! | module | what lives there |
//! |---|---|
//! | [`shm`] | sealed memfds and their mappings: the crate's only `unsafe` |
//! | [`futex`] | shared futex calls and the poll-then-sleep wait |
//! | [`ring`] | one-writer one-reader byte ring |
//! | [`region`] | layout of a region, ready bitmaps |
//! | [`claim`] | claim words: who holds a lane |
//! | [`page`] | layout of a pool page: doorbell and worker slots |
//! | [`lane`] | a lane's two rings as a channel of frames |
//! | [`frame`] | frame headers and their kinds |
//! | [`message`] | what frames carry: `Enter`, `Leave`, calls, replies, changes |
//! | [`fields`] | the request's field list, written once |
//! | [`table`] | header-like tables on the wire |
//! | [`wire`] | the bounded hand-written codec of the hot path |
//! | [`codec`] | bincode with limits, for everything else |
//! | [`control`] | messages on the supervisor's sockets |
//! | [`policy`] | what httpd has to know of a tenant: grants, caps, document roots |
//! | [`seqpacket`] | those sockets, with descriptors |
//! | [`codes`] | the stable log codes |
//! | `mock` | a hostile peer for tests, behind the feature `mock` |
//!
//! The reader's description of all this, with the rules of a conversation, is `docs/protocol.md`.

#![deny(unsafe_code)]

// The models (cfg loom) run the bare steps of rings, claims, sleeps and doorbells on loom's atomics, which cannot lie in
// a mapping: what is built on mappings is left out then.
pub mod claim;
pub mod codec;
pub mod codes;
pub mod control;
mod doorbell;
pub mod fields;
pub mod frame;
pub mod futex;
#[cfg(not(loom))]
pub mod lane;
pub mod message;
#[cfg(all(any(test, feature = "mock"), not(loom)))]
pub mod mock;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
pub mod page;
pub mod policy;
#[cfg(not(loom))]
pub mod polling;
#[cfg(not(loom))]
pub mod region;
pub mod ring;
pub mod seqpacket;
#[cfg(not(loom))]
pub mod shm;
pub mod sync;
pub mod table;
#[cfg(all(test, not(loom)))]
mod testing;
pub mod wire;

/// The version of everything in this crate that two processes must agree on.
///
/// It is part of the region header, of the control socket's `Hello`, and of a worker's `Ready`; both sides refuse
/// another number with [`codes::VERSION_MISMATCH`].
pub const PROTOCOL_VERSION: u32 = 3;
