//! `<!--#python eval="..." -->` and `<!--#python exec="..." -->`, through mod_include.

use core::ffi::{CStr, c_char, c_int};
use core::ptr::null_mut;

use super::brigade::Brigade;
use super::edge::guarded;
use super::filter::Filter;
use crate::conversation::ssi;
use crate::sys;

type GetTag =
    unsafe extern "C" fn(*mut sys::include_ctx_t, *mut *mut c_char, *mut *mut c_char, c_int);
type Include = unsafe extern "C" fn(
    *mut sys::include_ctx_t,
    *mut sys::ap_filter_t,
    *mut sys::apr_bucket_brigade,
) -> sys::apr_status_t;
type Register = unsafe extern "C" fn(*mut c_char, Include);

/// An optional function of another module.
///
/// # Safety
/// `F` is the type of the function of that name.
unsafe fn optional<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*const ()>()) };
    // SAFETY: a NUL-terminated name.
    let found = unsafe { sys::apr_dynamic_fn_retrieve(name.as_ptr()) }?;
    // SAFETY: a function pointer of the caller's type, which has a pointer's size.
    Some(unsafe { core::mem::transmute_copy::<_, F>(&found) })
}

/// Tells mod_include of the element, if it is loaded. Each process does it once, before requests.
pub(crate) fn register() {
    // SAFETY: the type is the one that mod_include.h declares for this name; the tag is a constant that it copies.
    unsafe {
        if let Some(register) = optional::<Register>(c"ap_register_include_handler") {
            register(c"python".as_ptr().cast_mut(), element);
        }
    }
}

unsafe extern "C" fn element(
    ctx: *mut sys::include_ctx_t,
    f: *mut sys::ap_filter_t,
    bb: *mut sys::apr_bucket_brigade,
) -> sys::apr_status_t {
    guarded("an SSI element", sys::APR_SUCCESS, || {
        // SAFETY: mod_include calls with live arguments.
        unsafe { run(ctx, f, bb) }
    })
}

unsafe fn run(
    ctx: *mut sys::include_ctx_t,
    f: *mut sys::ap_filter_t,
    bb: *mut sys::apr_bucket_brigade,
) -> sys::apr_status_t {
    // SAFETY: see `element`; tags and values live in the element's temporary pool.
    unsafe {
        let (Some(filter), Some(output)) = (Filter::from_raw(f), Brigade::from_raw(bb)) else {
            return sys::APR_EGENERAL;
        };
        let flags = (*ctx).flags;
        let error = || output.write(super::bytes((*ctx).error_str).unwrap_or(b"[error]"));
        if flags & sys::SSI_FLAG_PRINTING == 0 {
            return sys::APR_SUCCESS;
        }
        let Some(get_tag) = optional::<GetTag>(c"ap_ssi_get_tag_and_value") else {
            error();
            return sys::APR_SUCCESS;
        };
        let (mut tag, mut value): (*mut c_char, *mut c_char) = (null_mut(), null_mut());
        get_tag(ctx, &raw mut tag, &raw mut value, sys::SSI_VALUE_DECODED);
        let name = super::bytes(tag).map(<[u8]>::to_vec);
        let text = super::bytes(value).map(<[u8]>::to_vec);
        let element = ssi::Element {
            filter,
            output,
            name: name.unwrap_or_default(),
            text: text.unwrap_or_default(),
            may_run: flags & sys::SSI_FLAG_NO_EXEC == 0 && (*ctx).argc == 1,
        };
        if !ssi::run(&element) {
            error();
        }
        sys::APR_SUCCESS
    }
}
