//! The parts of the module that know nothing of httpd, with their own tests. (The module itself can only be loaded by
//! httpd, whose functions it calls: there is nothing that a test program could link it with.)
#![allow(dead_code, unreachable_pub)]

#[path = "../src/apache/buffers.rs"]
mod buffers;
#[path = "../src/grants/files.rs"]
mod files;
#[path = "../src/grants/names.rs"]
mod names;
#[path = "../src/tenants/places.rs"]
mod places;
#[path = "../src/tenants/shared.rs"]
mod shared;
#[path = "../src/tenants/throttle.rs"]
mod throttle;

/// What [`buffers`] needs of the module's own.
mod edge {
    pub(crate) fn guarded<T>(_what: &'static str, _fallback: T, body: impl FnOnce() -> T) -> T {
        body()
    }
}

/// What [`shared`] needs of the module's own.
mod process {
    pub(crate) fn pid() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    pub(crate) fn exists(pid: i32) -> bool {
        rustix::process::Pid::from_raw(pid)
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }
}
