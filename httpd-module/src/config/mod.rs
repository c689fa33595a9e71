//! Configuration: what directives say, and how sections merge.

pub(crate) mod dir;
pub(crate) mod directives;
pub(crate) mod edge;
pub(crate) mod merged;
pub(crate) mod server;
