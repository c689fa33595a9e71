//! The C side of the providers: see [`crate::conversation::providers`].

use core::ffi::{c_char, c_void};
use core::ptr::null_mut;

use vivarium_protocol::message::Phase;

use super::edge::guarded;
use super::request::Request;
use crate::conversation::providers::{Verdict, ask};
use crate::sys;

/// httpd only reads the records.
#[repr(transparent)]
struct Shared<T>(T);
// SAFETY: never written; they hold function pointers alone.
unsafe impl<T> Sync for Shared<T> {}

static AUTHN: Shared<sys::authn_provider> = Shared(sys::authn_provider {
    check_password: Some(check_password),
    get_realm_hash: Some(get_realm_hash),
});

static AUTHZ: Shared<sys::authz_provider> = Shared(sys::authz_provider {
    check_authorization: Some(check_groups),
    parse_require_line: None,
});

/// Registers both providers.
pub(crate) fn register(pool: *mut sys::apr_pool_t) {
    let how = sys::AP_AUTH_INTERNAL_PER_CONF;
    let providers: [(&core::ffi::CStr, &core::ffi::CStr, *const c_void); 2] = [
        (c"authn", c"python", (&raw const AUTHN.0).cast()),
        (c"authz", c"python-group", (&raw const AUTHZ.0).cast()),
    ];
    for (group, name, provider) in providers {
        // SAFETY: live pool, constant names, records that stay mapped.
        unsafe {
            let version = c"0".as_ptr();
            sys::ap_register_auth_provider(
                pool,
                group.as_ptr(),
                name.as_ptr(),
                version,
                provider,
                how,
            );
        }
    }
}

/// # Safety
/// `p` is null or NUL-terminated.
unsafe fn owned(p: *const c_char) -> Vec<u8> {
    // SAFETY: passed on.
    unsafe { super::bytes(p) }.unwrap_or(b"").to_vec()
}

unsafe extern "C" fn check_password(
    r: *mut sys::request_rec,
    user: *const c_char,
    password: *const c_char,
) -> sys::authn_status {
    guarded("a password check", sys::AUTH_GENERAL_ERROR, || {
        // SAFETY: httpd calls with a live request and NUL-terminated strings.
        let (r, arguments) = unsafe { (Request::from_raw(r), vec![owned(user), owned(password)]) };
        match r.map(|r| ask(r, Phase::CheckPassword, arguments)) {
            Some(Verdict::Yes(_)) => sys::AUTH_GRANTED,
            Some(Verdict::No) => sys::AUTH_DENIED,
            Some(Verdict::Unknown) => sys::AUTH_USER_NOT_FOUND,
            Some(Verdict::Error) | None => sys::AUTH_GENERAL_ERROR,
        }
    })
}

unsafe extern "C" fn get_realm_hash(
    r: *mut sys::request_rec,
    user: *const c_char,
    realm: *const c_char,
    hash: *mut *mut c_char,
) -> sys::authn_status {
    guarded("a realm hash", sys::AUTH_GENERAL_ERROR, || {
        // SAFETY: as in `check_password`; `hash` is where the caller wants the result.
        let (r, arguments) = unsafe {
            *hash = null_mut();
            (Request::from_raw(r), vec![owned(user), owned(realm)])
        };
        let Some(r) = r else { return sys::AUTH_GENERAL_ERROR };
        match ask(r, Phase::RealmHash, arguments) {
            Verdict::Yes(Some(found)) => {
                // SAFETY: as above; the copy lives in the request's pool.
                unsafe { *hash = r.pool().dup(&found) };
                sys::AUTH_USER_FOUND
            }
            Verdict::Unknown | Verdict::No => sys::AUTH_USER_NOT_FOUND,
            Verdict::Yes(None) | Verdict::Error => sys::AUTH_GENERAL_ERROR,
        }
    })
}

unsafe extern "C" fn check_groups(
    r: *mut sys::request_rec,
    line: *const c_char,
    _parsed: *const c_void,
) -> sys::authz_status {
    guarded("a group check", sys::AUTHZ_GENERAL_ERROR, || {
        // SAFETY: as in `check_password`.
        let (r, groups) = unsafe { (Request::from_raw(r), owned(line)) };
        let Some(r) = r else { return sys::AUTHZ_GENERAL_ERROR };
        if !r.has_user() {
            return sys::AUTHZ_DENIED_NO_USER;
        }
        match ask(r, Phase::Groups, vec![groups]) {
            Verdict::Yes(_) => sys::AUTHZ_GRANTED,
            Verdict::No | Verdict::Unknown => sys::AUTHZ_DENIED,
            Verdict::Error => sys::AUTHZ_GENERAL_ERROR,
        }
    })
}
