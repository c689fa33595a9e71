//! Filter chains.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use super::brigade::Brigade;
use super::request::Request;
use crate::sys;

/// A filter in a chain. The handle is good for the callback that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter(NonNull<sys::ap_filter_t>);

impl Filter {
    /// # Safety
    /// `f` is null or live as long as the handle is used.
    pub(crate) unsafe fn from_raw(f: *mut sys::ap_filter_t) -> Option<Self> {
        NonNull::new(f).map(Self)
    }

    pub(crate) fn as_ptr(self) -> *mut sys::ap_filter_t {
        self.0.as_ptr()
    }

    /// The request it belongs to; none for connection filters.
    pub(crate) fn request<'r>(self) -> Option<Request<'r>> {
        // SAFETY: live filter; its request lives at least as long as the callback.
        unsafe { Request::from_raw((*self.as_ptr()).r) }
    }

    /// The name it was registered under, in lower case.
    pub(crate) fn name<'n>(self) -> &'n [u8] {
        // SAFETY: filter records and their names live in the configuration's pool.
        unsafe { super::bytes((*(*self.as_ptr()).frec).name) }.unwrap_or(b"")
    }

    pub(crate) fn next(self) -> *mut sys::ap_filter_t {
        // SAFETY: live filter.
        unsafe { (*self.as_ptr()).next }
    }

    pub(crate) fn context(self) -> *mut c_void {
        // SAFETY: live filter.
        unsafe { (*self.as_ptr()).ctx }
    }

    pub(crate) fn set_context(self, ctx: *mut c_void) {
        // SAFETY: live filter, owned by this thread.
        unsafe { (*self.as_ptr()).ctx = ctx }
    }
}

/// Hands a brigade to a filter (null: nowhere, an error). The APR status.
pub(crate) fn pass(to: *mut sys::ap_filter_t, bb: Brigade) -> c_int {
    if to.is_null() {
        return sys::APR_EOF;
    }
    // SAFETY: a live filter of a chain and a live brigade; httpd's filters do not unwind.
    unsafe { sys::ap_pass_brigade(to, bb.as_ptr()) }
}

/// Reads from a request's input filters, blocking. The APR status.
pub(crate) fn read(r: Request<'_>, bb: Brigade, bytes: usize) -> c_int {
    // SAFETY: live chain and brigade.
    unsafe {
        sys::ap_get_brigade(
            r.input_filters(),
            bb.as_ptr(),
            sys::AP_MODE_READBYTES,
            sys::APR_BLOCK_READ,
            bytes as i64,
        )
    }
}

/// How httpd asks an input filter for data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    pub(crate) mode: sys::ap_input_mode_t,
    pub(crate) block: sys::apr_read_type_e,
    pub(crate) bytes: i64,
}

impl Demand {
    /// Whether it is for body data, not a peek or a preparation.
    pub(crate) fn is_for_data(self) -> bool {
        matches!(self.mode, sys::AP_MODE_READBYTES | sys::AP_MODE_GETLINE)
    }
}

/// Asks an input filter (null: nowhere, an error) for data. The APR status.
pub(crate) fn fetch(from: *mut sys::ap_filter_t, bb: Brigade, demand: Demand) -> c_int {
    if from.is_null() {
        return sys::APR_EOF;
    }
    // SAFETY: a live filter of a chain and a live brigade.
    unsafe { sys::ap_get_brigade(from, bb.as_ptr(), demand.mode, demand.block, demand.bytes) }
}

/// Puts a registered filter on a request, with a context of ours or null.
pub(crate) fn add(r: Request<'_>, name: &[u8], is_input: bool, context: *mut c_void) {
    let name = r.pool().dup(name);
    // SAFETY: live request and connection, NUL-terminated name.
    unsafe {
        let c = r.connection().as_ptr();
        if is_input {
            sys::ap_add_input_filter(name, context, r.as_ptr(), c);
        } else {
            sys::ap_add_output_filter(name, context, r.as_ptr(), c);
        }
    }
}

/// Output filters of httpd's that count, frame, copy or encrypt data and do not look at it.
const COPY_ONLY: [&[u8]; 11] = [
    b"byterange",
    b"content_length",
    b"http_header",
    b"http_outerror",
    b"chunk",
    b"log_input_output",
    b"reqtimeout",
    b"ssl/tls coalesce filter",
    b"ssl/tls filter",
    b"core",
    crate::conversation::length::NAME,
];

/// Whether no filter from `f` on looks at what goes through it: then it does no harm if somebody changes that meanwhile.
pub(crate) fn copies_only(mut f: *mut sys::ap_filter_t) -> bool {
    // SAFETY: a live chain ends with null.
    while let Some(filter) = unsafe { Filter::from_raw(f) } {
        if !COPY_ONLY.contains(&filter.name()) {
            return false;
        }
        f = filter.next();
    }
    true
}

/// Whether a chain has a filter whose function has this address.
pub(crate) fn chain_has(mut f: *mut sys::ap_filter_t, function: *const ()) -> bool {
    // SAFETY: a live chain ends with null; records live in the configuration's pool. Both members of the union are
    // function pointers of the same size, and only the address is compared.
    unsafe {
        while let Some(filter) = f.as_ref() {
            if let Some(rec) = filter.frec.as_ref()
                && rec.filter_func.out_func.is_some_and(|g| g as *const () == function)
            {
                return true;
            }
            f = filter.next;
        }
    }
    false
}
