//! Per-server configuration.

use std::cell::Cell;

/// How httpd reaches the supervisor (`VivariumDaemon`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// httpd starts it; with the path of the program if one is given.
    Managed(Option<String>),
    /// It runs by itself and listens on this path.
    Socket(String),
}

/// What belongs to one `server_rec`.
#[derive(Debug, Default)]
pub(crate) struct ServerConf {
    /// Its place in httpd's list; set once in `post_config`.
    pub(crate) number: Cell<u32>,
    /// `VivariumDaemon`, main server only.
    pub(crate) daemon: Option<Daemon>,
}
