//! httpd's and APR's C interface, made by bindgen from the installed headers (see `build.rs`).
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
/// `APR_EGENERAL`: the header's macro is an expression that bindgen does not evaluate.
pub(crate) const APR_EGENERAL: i32 = APR_OS_START_ERROR + 14;

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
