//! httpd's error log.

use core::ffi::{CStr, c_char, c_int};

use super::connection::Connection;
use super::request::Request;
use super::server::Server;
use crate::sys;

/// syslog levels, as `APLOG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Level {
    Crit = 2,
    Err = 3,
    Info = 6,
}

const FORMAT: &CStr = c"%s";
const FILE: &CStr = c"mod_vivarium";
/// httpd cuts lines at 8192 bytes less its prefix; longer texts are logged in pieces.
const PIECE: usize = 7000;

fn module_index() -> c_int {
    crate::module::index()
}

/// Calls `emit` with NUL-terminated pieces of the text, one for each line.
fn pieces(text: &[u8], mut emit: impl FnMut(*const c_char)) {
    let mut line = Vec::with_capacity(text.len().min(PIECE) + 1);
    for part in text.split(|b| *b == b'\n') {
        for piece in part.chunks(PIECE).chain(part.is_empty().then_some(&[][..])) {
            line.clear();
            // A NUL would cut the line; httpd escapes the other control characters itself.
            line.extend(piece.iter().map(|b| if *b == 0 { b'?' } else { *b }));
            line.push(0);
            emit(line.as_ptr().cast());
        }
    }
}

/// One line (or several) about a server, or about httpd as a whole.
pub(crate) fn server(s: Option<Server<'_>>, level: Level, text: &str) {
    server_bytes(s, level as i32, text.as_bytes());
}

/// The same with a level number and bytes.
pub(crate) fn server_bytes(s: Option<Server<'_>>, level: i32, text: &[u8]) {
    let Some(_inside) = super::ending::inside() else { return };
    let s = s.map_or(core::ptr::null(), |s| s.as_ptr().cast_const());
    // SAFETY: reading a pointer that httpd sets once the configuration has been read.
    let s = if s.is_null() { unsafe { sys::ap_server_conf }.cast_const() } else { s };
    pieces(text, |line| {
        // SAFETY: format and line are NUL-terminated, the format takes one string; a null server means "main log".
        unsafe {
            sys::ap_log_error_(
                FILE.as_ptr(),
                0,
                module_index(),
                level,
                0,
                s,
                FORMAT.as_ptr(),
                line,
            );
        }
    });
}

/// Lines about a request, with its client.
pub(crate) fn request(r: Request<'_>, level: i32, text: &[u8]) {
    pieces(text, |line| {
        // SAFETY: as above; the request is live.
        unsafe {
            sys::ap_log_rerror_(
                FILE.as_ptr(),
                0,
                module_index(),
                level,
                0,
                r.as_ptr(),
                FORMAT.as_ptr(),
                line,
            );
        }
    });
}

/// Lines about a connection, with its client.
pub(crate) fn connection(c: Connection<'_>, level: i32, text: &[u8]) {
    pieces(text, |line| {
        // SAFETY: as above; the connection is live.
        unsafe {
            sys::ap_log_cerror_(
                FILE.as_ptr(),
                0,
                module_index(),
                level,
                0,
                c.as_ptr(),
                FORMAT.as_ptr(),
                line,
            );
        }
    });
}
