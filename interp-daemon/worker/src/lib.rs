//! `_vivarium`: the Python side of a conversation.
//!
//! The supervisor execs `python3 -m vivarium.worker`; that program loads this module, which maps the regions that the
//! supervisor sends, claims the lanes that httpd's threads offer, and runs the phases of requests by calling one
//! dispatcher object (the package `mod_python`). Everything that a handler asks of httpd goes over the lane that its
//! request came on.
//!
//! | module | what lives there |
//! |---|---|
//! | [`engine`] | regions, lanes, threads, conversations, request trees: no Python types of its own |
//! | [`types`] | what Python sees: `mp_request`, `mp_table`, `mp_conn`, `mp_server`, `mp_filter`, `mp_finfo` |
//! | [`forms`] | query strings and multipart bodies |
//! | [`ffi`] | the few calls into CPython and libc that need `unsafe` |
//!
//! # Threads and locks
//!
//! A request thread is attached to the interpreter for its whole life and detaches only to wait. No lock of this crate
//! is ever held while Python code can run or while a thread waits for the interpreter, with one exception that is made
//! for it: the [`engine::gate::Gate`] of a conversation, which one thread holds from its question to httpd's answer,
//! handlers that run in between included.
//!
//! # Trust
//!
//! httpd is trusted here (it is the side with the privileges), but a frame that cannot be decoded ends its
//! conversation and nothing else.

#![deny(unsafe_code)]

mod engine;
mod ffi;
mod forms;
mod module;
mod types;
