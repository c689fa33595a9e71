//! Which of httpd's hooks do what.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::ptr::null;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use vivarium_protocol::message::Phase;

use crate::apache::brigade::Brigade;
use crate::apache::connection::Connection;
use crate::apache::edge::{self, RequestHook, guarded, request_hook};
use crate::apache::ending;
use crate::apache::filter::{self, Demand, Filter};
use crate::apache::pool::Pool;
use crate::apache::request::Request;
use crate::apache::server::Server;
use crate::conversation::{connections, filters, length, phases};
use crate::{daemon, retained, sys};

/// The pool of the configuration that is in force, for the parent.
static PCONF: AtomicPtr<sys::apr_pool_t> = AtomicPtr::new(core::ptr::null_mut());
static MAX_THREADS: AtomicU32 = AtomicU32::new(0);
static MAX_CHILDREN: AtomicU32 = AtomicU32::new(0);

/// The configuration's pool; valid in the parent's hooks.
pub(crate) fn pconf() -> Option<Pool<'static>> {
    // SAFETY: set in `post_config` to a pool that lives until the next configuration is read, which sets it anew.
    unsafe { Pool::from_raw(PCONF.load(Ordering::Relaxed)) }
}

/// How many request threads a child has.
pub(crate) fn max_threads() -> u32 {
    MAX_THREADS.load(Ordering::Relaxed).max(1)
}

/// How many children httpd may have.
pub(crate) fn max_children() -> u32 {
    MAX_CHILDREN.load(Ordering::Relaxed).max(1)
}

/// A number that the MPM knows.
fn mpm_number(code: c_int) -> u32 {
    let mut number = 0;
    // SAFETY: a query into a local integer.
    match unsafe { sys::ap_mpm_query(code, &raw mut number) } {
        sys::APR_SUCCESS => u32::try_from(number).unwrap_or(1),
        _ => 1,
    }
}

macro_rules! request_hooks {
    ($($name:ident $what:literal $run:expr;)*) => {$(
        struct $name;
        impl RequestHook for $name {
            const NAME: &'static str = $what;
            fn run(r: Request<'_>) -> c_int {
                let run: fn(Request<'_>) -> c_int = $run;
                run(r)
            }
        }
    )*};
}

request_hooks! {
    PostRead "post_read_request" phases::post_read;
    Trans "translate_name" phases::translate;
    MapToStorage "map_to_storage" phases::map_to_storage;
    HeaderParser "header_parser" phases::header_parser;
    Access "access_checker" phases::access;
    Authen "check_user_id" |r| phases::early(r, Phase::Authen);
    Authz "auth_checker" |r| phases::early(r, Phase::Authz);
    Type "type_checker" |r| phases::early(r, Phase::Type);
    Fixup "fixups" phases::fixups;
    BeforeContent "the first content handler" phases::before_content;
    Content "the content handler" phases::content;
    Log "log_transaction" phases::log_transaction;
}

/// `register_hooks`.
pub(crate) unsafe extern "C" fn register(pool: *mut sys::apr_pool_t) {
    crate::apache::auth::register(pool);
    // SAFETY: httpd is single-threaded here; the functions stay mapped for the life of the process (`-z nodelete`).
    unsafe {
        sys::ap_hook_pre_config(Some(pre_config), null(), null(), sys::APR_HOOK_MIDDLE);
        sys::ap_hook_post_config(Some(post_config), null(), null(), sys::APR_HOOK_MIDDLE);
        sys::ap_hook_child_init(Some(child_init), null(), null(), sys::APR_HOOK_MIDDLE);
        sys::ap_hook_monitor(Some(monitor), null(), null(), sys::APR_HOOK_MIDDLE);
        let (first, middle) = (sys::APR_HOOK_FIRST, sys::APR_HOOK_MIDDLE);
        sys::ap_hook_process_connection(Some(process_connection), null(), null(), middle);
        sys::ap_hook_post_read_request(Some(request_hook::<PostRead>), null(), null(), middle);
        sys::ap_hook_translate_name(Some(request_hook::<Trans>), null(), null(), middle);
        sys::ap_hook_map_to_storage(Some(request_hook::<MapToStorage>), null(), null(), middle);
        sys::ap_hook_header_parser(Some(request_hook::<HeaderParser>), null(), null(), middle);
        sys::ap_hook_access_checker(Some(request_hook::<Access>), null(), null(), middle);
        // Before the modules that would answer for everybody: a configured Python handler that declines hands on to
        // them, one that is never asked cannot.
        sys::ap_hook_check_user_id(Some(request_hook::<Authen>), null(), null(), first);
        sys::ap_hook_auth_checker(Some(request_hook::<Authz>), null(), null(), first);
        sys::ap_hook_type_checker(Some(request_hook::<Type>), null(), null(), first);
        sys::ap_hook_fixups(Some(request_hook::<Fixup>), null(), null(), middle);
        sys::ap_hook_log_transaction(Some(request_hook::<Log>), null(), null(), middle);
        let really_first = sys::APR_HOOK_REALLY_FIRST;
        sys::ap_hook_handler(Some(request_hook::<BeforeContent>), null(), null(), really_first);
        sys::ap_hook_handler(Some(request_hook::<Content>), null(), null(), sys::APR_HOOK_MIDDLE);
        sys::ap_hook_insert_error_filter(Some(error_page), null(), null(), middle);
    }
}

unsafe extern "C" fn pre_config(
    pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
) -> c_int {
    guarded("pre_config", sys::OK, || {
        edge::install_panic_hook();
        // SAFETY: the live pool of the configuration that is about to be read.
        if let Some(pool) = unsafe { Pool::from_raw(pconf) } {
            for (name, is_input) in filters::OWN_NAMES {
                register_filter(pool, name, is_input);
            }
            register_length(pool);
        }
        sys::OK
    })
}

unsafe extern "C" fn post_config(
    pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
    s: *mut sys::server_rec,
) -> c_int {
    guarded("post_config", sys::OK, || {
        // httpd reads its configuration twice at start; only the second time counts.
        // SAFETY: a plain query.
        let state = unsafe { sys::ap_state_query(sys::AP_SQ_MAIN_STATE) };
        if state == sys::AP_SQ_MS_CREATE_PRE_CONFIG {
            return sys::OK;
        }
        PCONF.store(pconf, Ordering::Relaxed);
        crate::tenants::shared::make();
        if let Some(pool) = self::pconf() {
            retained::stop_at_exit(pool);
        }
        // SAFETY: live pool and server; the text is a constant.
        unsafe {
            sys::ap_add_version_component(pconf, c"Vivarium/0.1".as_ptr());
            if let (Some(main), Some(retained)) = (Server::from_raw(s), retained::get_or_make()) {
                daemon::post_config(main, retained);
            }
        }
        sys::OK
    })
}

unsafe extern "C" fn child_end(_: *mut c_void) -> sys::apr_status_t {
    guarded("the end of a child", sys::APR_SUCCESS, || {
        ending::end();
        sys::APR_SUCCESS
    })
}

unsafe extern "C" fn child_init(p: *mut sys::apr_pool_t, _s: *mut sys::server_rec) {
    guarded("child_init", (), || {
        // SAFETY: the child's own pool.
        if let Some(pool) = unsafe { Pool::from_raw(p) } {
            pool.before_destroy(child_end);
        }
        crate::config::merged::begin_serving();
        daemon::child_init();
        crate::apache::ssi::register();
        MAX_THREADS.store(mpm_number(sys::AP_MPMQ_MAX_THREADS), Ordering::Relaxed);
        MAX_CHILDREN.store(mpm_number(sys::AP_MPMQ_MAX_DAEMONS), Ordering::Relaxed);
        crate::startup::begin();
    });
}

unsafe extern "C" fn error_page(r: *mut sys::request_rec) {
    guarded("an error page", (), || {
        // SAFETY: httpd calls with a live request.
        if let Some(r) = unsafe { Request::from_raw(r) } {
            phases::error_page(r);
        }
    });
}

unsafe extern "C" fn process_connection(c: *mut sys::conn_rec) -> c_int {
    // Whatever fails here ends the connection: no other protocol may take over one that Python should have handled.
    guarded("process_connection", sys::OK, || {
        // SAFETY: httpd calls with a live connection.
        unsafe { Connection::from_raw(c) }.map_or(sys::DECLINED, connections::process)
    })
}

unsafe extern "C" fn monitor(_p: *mut sys::apr_pool_t, _s: *mut sys::server_rec) -> c_int {
    guarded("the monitor hook", sys::DECLINED, || {
        daemon::monitor();
        sys::DECLINED
    })
}

unsafe extern "C" fn output_filter(
    f: *mut sys::ap_filter_t,
    bb: *mut sys::apr_bucket_brigade,
) -> c_int {
    guarded("an output filter", sys::APR_EGENERAL, || {
        // SAFETY: httpd calls filters with a live filter and brigade.
        match unsafe { (Filter::from_raw(f), Brigade::from_raw(bb)) } {
            (Some(f), Some(bb)) => filters::run_output(f, bb),
            _ => sys::APR_EGENERAL,
        }
    })
}

unsafe extern "C" fn input_filter(
    f: *mut sys::ap_filter_t,
    bb: *mut sys::apr_bucket_brigade,
    mode: sys::ap_input_mode_t,
    block: sys::apr_read_type_e,
    bytes: sys::apr_off_t,
) -> c_int {
    guarded("an input filter", sys::APR_EGENERAL, || {
        // SAFETY: as in `output_filter`.
        match unsafe { (Filter::from_raw(f), Brigade::from_raw(bb)) } {
            (Some(f), Some(bb)) => filters::run_input(f, bb, Demand { mode, block, bytes }),
            _ => sys::APR_EGENERAL,
        }
    })
}

unsafe extern "C" fn length_filter(
    f: *mut sys::ap_filter_t,
    bb: *mut sys::apr_bucket_brigade,
) -> c_int {
    guarded("the length filter", sys::APR_EGENERAL, || {
        // SAFETY: as in `output_filter`.
        match unsafe { (Filter::from_raw(f), Brigade::from_raw(bb)) } {
            (Some(f), Some(bb)) => length::run(f, bb),
            _ => sys::APR_EGENERAL,
        }
    })
}

/// Makes the filter known that counts answers: behind the one that writes their heads, in front of the one for chunks.
fn register_length(pool: Pool<'_>) {
    let kind = sys::AP_FTYPE_PROTOCOL + 1;
    // SAFETY: as in `register_filter`.
    unsafe {
        sys::ap_register_output_filter(pool.dup(length::NAME), Some(length_filter), None, kind);
    }
}

/// Makes a filter name known to httpd.
pub(crate) fn register_filter(pool: Pool<'_>, name: &[u8], is_input: bool) {
    let name = pool.dup(name);
    let kind = sys::AP_FTYPE_RESOURCE;
    // SAFETY: httpd copies the name into its own tables; the functions stay mapped.
    unsafe {
        if is_input {
            sys::ap_register_input_filter(name, Some(input_filter), None, kind);
        } else {
            sys::ap_register_output_filter(name, Some(output_filter), None, kind);
        }
    }
}

/// Whether Python is in a request's output chain.
pub(crate) fn has_output_filter(r: Request<'_>) -> bool {
    filter::chain_has(r.output_filters(), output_filter as *const ())
}

/// Whether Python comes after a filter in its output chain.
pub(crate) fn is_before_output_filter(f: filter::Filter) -> bool {
    filter::chain_has(f.next(), output_filter as *const ())
}

/// Whether Python is in a request's input chain.
pub(crate) fn has_input_filter(r: Request<'_>) -> bool {
    filter::chain_has(r.input_filters(), input_filter as *const ())
}
