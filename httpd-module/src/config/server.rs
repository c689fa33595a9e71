//! Per-server configuration.

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
    /// `PythonImport`: what and in which interpreter; of effect in the main server only.
    pub(crate) imports: Vec<(Vec<u8>, Vec<u8>)>,
    /// `PythonOptimize On`.
    pub(crate) optimize: bool,
    /// `VivariumDaemon`, main server only.
    pub(crate) daemon: Option<Daemon>,
    /// `VivariumTenantDir`, main server only.
    pub(crate) tenants_dir: Option<String>,
}
