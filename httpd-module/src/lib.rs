//! `mod_vivarium.so`: Python in every phase of a request, without Python in httpd.
//!
//! The module holds no interpreter. It reads the configuration, hands phases over a shared-memory lane to a worker
//! process, and then *serves* that lane until the phase is over: it writes body frames to the client, answers calls,
//! and enters Python again when httpd needs it meanwhile.
//!
//! # Security
//!
//! Everything that comes from a worker (ring indices, frames, descriptors) is attacker input: it is copied, checked,
//! and only then used; see `vivarium-protocol`. No panic crosses into C ([`apache::edge`]). A failure in a phase is an
//! error status, never `DECLINED`.
//!
//! # Processes and threads
//!
//! The parent runs no threads and keeps what must survive a reload as plain data ([`retained`]). Each child has one
//! control thread ([`link`]) once it needs Python, and one for what is left to do after a request.

#![deny(unsafe_code)]

mod apache;
mod config;
mod conversation;
mod daemon;
mod grants;
mod hooks;
mod link;
mod module;
mod paths;
mod process;
mod retained;
mod startup;
mod sys;
mod tenants;
