//! The stable log codes: one row each, given once and never reused. `docs/log-codes.md` lists the same rows; a test
//! keeps the two equal.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $title:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($code);)*
        /// All codes, with a title each.
        pub const ALL: &[(Code, &str)] = &[$(($name, $title),)*];
    };
}

/// A log code, `VIV....`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub &'static str);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

codes! {
    /// The supervisor is up.
    STARTED "VIV0001" "the supervisor has started";
    /// The supervisor ends.
    STOPPING "VIV0002" "the supervisor is stopping";
    /// httpd could not start the supervisor.
    CANNOT_START_SUPERVISOR "VIV0003" "httpd cannot start the supervisor";
    /// The supervisor died; httpd starts it again.
    SUPERVISOR_DIED "VIV0004" "the supervisor has died and is being started again";
    /// The supervisor's socket cannot be made or reached.
    SOCKET "VIV0005" "the supervisor's socket cannot be used";
    /// Two sides speak different protocol versions.
    VERSION_MISMATCH "VIV0006" "httpd module, supervisor and worker are not of one version";
    /// A peer without permission connected.
    PEER_REFUSED "VIV0007" "a process that is not an httpd child connected to the supervisor";
    /// A peer sent a packet that is no message.
    BAD_PACKET "VIV0008" "a packet on a supervisor socket is no message";
    /// A worker is up.
    WORKER_UP "VIV0010" "a worker has started";
    /// A worker ended without being asked to.
    WORKER_DIED "VIV0011" "a worker has died";
    /// A worker could not be started.
    CANNOT_START_WORKER "VIV0012" "a worker cannot be started";
    /// A worker's start is put off.
    BACKOFF "VIV0013" "a pool's workers die too often: waiting before the next start";
    /// A worker broke the protocol and was killed.
    WORKER_MISBEHAVED "VIV0014" "a worker broke the protocol and was killed";
    /// A worker did not stop in time.
    WORKER_KILLED "VIV0015" "a worker did not stop in time and was killed";
    /// A line that a worker wrote to its standard error outside of any request.
    WORKER_OUTPUT "VIV0016" "output of a worker outside of any request";
    /// A pool of an old generation was stopped, or one, or a worker, that had nothing to do.
    POOL_RETIRED "VIV0017" "a pool of an old configuration, or one that had nothing to do, was stopped";
    /// No tenant user to run as.
    NO_USER "VIV0018" "the user that Python should run as does not exist";
    /// A request could not be handed to Python: no worker.
    NO_WORKER "VIV0020" "a request could not be handed to Python";
    /// A worker died while it had a request.
    LOST_REQUEST "VIV0021" "a worker died while it had a request";
    /// A worker sent something impossible while it had a request.
    BAD_FRAME "VIV0022" "a worker sent an impossible frame";
    /// Python returned something that is no handler result.
    BAD_RESULT "VIV0023" "a handler returned no valid result";
    /// All lanes of a pool are in use.
    NO_LANE "VIV0024" "all lanes of a pool are in use";
    /// A panic was caught at httpd's edge.
    PANIC "VIV0025" "an internal error was caught";
    /// The configuration is wrong.
    CONFIG "VIV0026" "a directive is wrong";
    /// A file descriptor from a worker was refused.
    BAD_DESCRIPTOR "VIV0027" "a worker sent a file that cannot be served";
    /// A header of an answer is refused.
    BAD_HEADER "VIV0028" "a handler set a header that cannot be sent";
    /// A tenant's handler was added to a request that came to another tenant's section.
    STRAY_HANDLER "VIV0029" "a handler was added to a request that is another tenant's";
    /// Python text: traceback lines, log calls, output within a request.
    PYTHON "VIV0030" "what a handler wrote to the log";
    /// The supervisor's own configuration file is wrong or unreadable.
    SUPERVISOR_CONFIG "VIV0040" "the supervisor's configuration file is wrong";
    /// The supervisor has taken a new configuration.
    CONFIGURED "VIV0041" "the supervisor has taken a configuration";
    /// The supervisor has run into one of its own limits or the system's.
    SUPERVISOR_LIMIT "VIV0042" "a limit of the supervisor or of the system is reached";
    /// The supervisor cannot go on.
    SUPERVISOR_FAILED "VIV0043" "the supervisor cannot go on";
    /// A tenant's file cannot be used.
    TENANT_CONFIG "VIV0044" "a tenant's file is wrong";
    /// The tenants' files were read and something has changed.
    TENANTS "VIV0045" "the tenants' files were read";
    /// A request names a tenant that there is not, or that cannot be served.
    NO_TENANT "VIV0046" "a tenant cannot be served";
    /// A step of a sandbox failed: the worker was not started.
    SANDBOX "VIV0047" "a worker's sandbox cannot be made";
    /// A tenant runs without a protection that this machine does not have.
    UNPROTECTED "VIV0048" "a protection is not available here";
    /// A tenant's places in httpd are all taken.
    BULKHEAD "VIV0050" "a tenant's places in httpd are all taken";
    /// A tenant's Python asked for what it has no grant for.
    GRANT "VIV0051" "a tenant asked for something that it has no grant for";
    /// A tenant's request went over one of the tenant's limits.
    TENANT_LIMIT "VIV0052" "a request went over a limit of its tenant";
    /// A phase ran longer than its tenant's requests may.
    TOO_LONG "VIV0053" "a phase ran longer than it may";
    /// A form was refused. Logged by the Python package.
    FORM "VIV0060" "a form was refused";
    /// The store of the sessions cannot be used. Logged by the Python package.
    SESSION_STORE "VIV0061" "the store of the sessions cannot be used";
    /// A request waited too long for its session. Logged by the Python package.
    SESSION_LOCK "VIV0062" "a request waited too long for its session";
    /// A stored session cannot be read. Logged by the Python package.
    SESSION_DAMAGED "VIV0063" "a stored session cannot be read";
}
