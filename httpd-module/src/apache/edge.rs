//! The edge between C and Rust: no panic ever unwinds into httpd.

use core::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vivarium_protocol::codes;

use super::log;
use super::request::Request;
use crate::sys;

/// Runs `body`; a panic in it is logged (by the hook of [`install_panic_hook`]) and becomes `fallback`.
pub(crate) fn guarded<T>(what: &'static str, fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        log::server(
            None,
            log::Level::Crit,
            &format!(
                "{}: an internal error ended {what}; please report the line above",
                codes::PANIC
            ),
        );
        fallback
    })
}

/// A panic writes one line to the error log instead of several to standard error.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place =
            info.location().map_or_else(String::new, |l| format!("{}:{}: ", l.file(), l.line()));
        let message = info
            .payload()
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        log::server(None, log::Level::Crit, &format!("{}: {place}{message}", codes::PANIC));
    }));
}

/// What runs in a request hook.
pub(crate) trait RequestHook {
    /// Names the hook in log lines.
    const NAME: &'static str;
    /// What httpd gets if the hook panics: never `DECLINED`, so that nothing falls open.
    const ON_PANIC: c_int = sys::HTTP_INTERNAL_SERVER_ERROR;
    /// The hook.
    fn run(r: Request<'_>) -> c_int;
}

/// The one C function behind every request hook.
pub(crate) unsafe extern "C" fn request_hook<H: RequestHook>(r: *mut sys::request_rec) -> c_int {
    guarded(H::NAME, H::ON_PANIC, || {
        // SAFETY: httpd calls hooks with a live request that stays so for the call.
        match unsafe { Request::from_raw(r) } {
            Some(r) => H::run(r),
            None => H::ON_PANIC,
        }
    })
}
