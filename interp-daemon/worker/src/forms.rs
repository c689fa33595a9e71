//! Forms: query strings, and bodies of type `multipart/form-data`.
//!
//! What is parsed here comes from strangers. [`urlencoded`] splits and decodes text that is in memory already, [`query`]
//! makes Python objects of it; [`multipart`] takes a body in pieces and keeps at most one header block and one piece of it.
//!
//! Both work outside a worker too: they ask nothing of httpd.

pub(crate) mod multipart;
pub(crate) mod query;
pub(crate) mod urlencoded;
