//! `vivariumd`: starts, watches and ends Vivarium's Python workers.
//!
//! httpd's children connect to it and ask for pools; it starts each pool's workers as the tenant's user, hands regions
//! from children to workers and pidfds of workers to children, and replaces workers that die. It runs in one thread
//! around one epoll instance.
//!
//! # Two ways to run
//!
//! * **Managed** (`--managed`): started by httpd's parent with the listening socket as descriptor 3 and a channel as
//!   descriptor 4. Each configuration generation arrives over the channel; its end is httpd's end, and ours.
//! * **Service**: started by systemd (socket activation) or by hand; who connects says which httpd it is.
//!
//! # Security
//!
//! It may be root, so it does little: it never runs Python, never parses HTTP, never maps a region or a ring (it looks
//! at a region's seals and passes it on), and reads no file but its own configuration. Packets from workers and from
//! children are attacker input: bounded, decoded by [`vivarium_protocol::codec`], expected or refused. A worker can
//! write lines to its output (escaped, bounded, counted) and say one message. Only root, our own user and httpd's user
//! may connect at all. What a forked child does before it executes Python stands in [`sys::exec`], and for declared tenants
//! in [`sandbox`], each step checked.
//!
//! # No orphans
//!
//! A worker holds one end of a socket pair whose other end only this process has: when we die, however that happens,
//! it reads the end of file, finishes what runs and exits. When a worker dies, its process group is killed.

#![deny(unsafe_code)]

pub mod admin;
mod backoff;
pub mod check;
mod children;
mod config;
mod configure;
mod conn;
mod elastic;
mod generations;
mod log;
mod notify;
mod output;
mod pool;
mod reaping;
mod reload;
mod sandbox;
mod scaling;
mod server;
mod spawn;
mod startup;
mod sys;
mod tenants;
mod workers;

use std::process::ExitCode;

/// Runs the program `vivariumd`; it is a library too so that `vivarium check` looks with the same eyes.
pub fn main() -> ExitCode {
    startup::main()
}
