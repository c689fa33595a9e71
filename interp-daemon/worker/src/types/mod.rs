//! What Python sees.

pub(crate) mod conn;
pub(crate) mod fields;
pub(crate) mod filter;
pub(crate) mod finfo;
pub(crate) mod hlist;
mod pairs;
pub(crate) mod request;
mod request_io;
mod request_methods;
mod request_objects;
pub(crate) mod server;
pub(crate) mod streams;
pub(crate) mod table;
pub(crate) mod text;
mod wsgi;

use pyo3::exceptions::PyException;

#[allow(non_camel_case_types, reason = "Python's name for it")]
mod server_return {
    use super::PyException;

    pyo3::create_exception!(
        _apache,
        SERVER_RETURN,
        PyException,
        "Ends a handler with the result that it carries: SERVER_RETURN(result[, status])."
    );
}
pub(crate) use server_return::SERVER_RETURN;
