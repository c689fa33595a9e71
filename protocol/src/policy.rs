//! What httpd has to know of a tenant: what its Python may ask for, how much of httpd it may hold.
//!
//! The supervisor reads the tenants' files and sends each child the policy of a pool's tenant before the answer to its
//! `Attach`, and again whenever a reload has changed it ([`crate::control::ToChild::Policy`]). The built-in tenant is
//! the administrator's own code: it has [`TenantPolicy::unconfined`].

use serde::{Deserialize, Serialize};

/// The built-in tenant's name. The empty name means it too.
pub const DEFAULT_TENANT: &str = "default";
/// The most document roots of one tenant.
pub const MAX_ROOTS: usize = 64;
/// The most bytes of all of a tenant's document roots together, so that a policy fits a packet.
pub const MAX_ROOT_BYTES: usize = 32 << 10;
/// The longest tenant name, in bytes.
pub const MAX_TENANT: usize = 64;

macro_rules! grants {
    ($($(#[$doc:meta])* $name:ident $bit:literal $text:literal;)*) => {
        impl Grants {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
            /// Each grant with its name in tenant files and log lines.
            pub const NAMES: &'static [(Self, &'static str)] = &[$((Self::$name, $text),)*];
            /// Every grant there is.
            pub const ALL: Self = Self($(1 << $bit)|*);
        }
    };
}

/// A set of grants: operations beyond answering its own requests with its own files in its own virtual host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Grants(u64);

grants! {
    /// `req.handler` may name a handler that is not Vivarium's (except those below, which have grants of their own).
    HANDLERS 0 "handlers";
    /// `req.handler` may name one that executes programs: `cgi-script`, `fcgid-script`, `server-parsed` with exec.
    CGI 1 "cgi";
    /// `req.handler` may be `proxy-server`, `req.filename` may begin with `proxy:`, `req.proxyreq` may be set.
    PROXY 2 "proxy";
    /// Filters that are not the tenant's own Python may be added (`INCLUDES` and others).
    FILTERS 3 "filters";
    /// `req.filename`, `req.sendfile()` and `canonical_filename` may name files outside the document roots.
    FOREIGN_FILES 4 "foreign_files";
    /// Any name may be set in `req.subprocess_env` (`LD_PRELOAD`, `PATH`, ... are refused without it).
    ENVIRONMENT 5 "environment";
    /// Internal redirects and sub-requests to paths that another tenant, or no tenant, answers.
    FOREIGN_URIS 6 "foreign_uris";
    /// The configuration of all virtual hosts: `apache.config_tree()`, `apache.main_server`, other servers.
    SERVER_CONFIG 7 "server_config";
    /// Lines in the main server's log instead of the virtual host's own.
    SERVER_LOG 8 "server_log";
    /// `PythonConnectionHandler`, connection-level filters, `req.connection` writes.
    CONNECTIONS 9 "connections";
    /// `PythonPostReadRequestHandler` and `PythonTransHandler` for requests that no section of the tenant has chosen.
    EARLY_PHASES 10 "early_phases";
    /// Setting `req.user` and `req.ap_auth_type` outside the authentication phase.
    IDENTITY 11 "identity";
    /// The `Authorization` and `Proxy-Authorization` headers of its own requests where httpd itself authenticates.
    AUTHORIZATION 12 "authorization";
    /// Changing `req.server` and `req.connection` values that outlive the request (keep-alive, time-outs).
    SERVER_STATE 13 "server_state";
    /// Scoreboard and MPM queries (`apache.mpm_query`, `apache.exists_config_define`, process lists).
    SCOREBOARD 14 "scoreboard";
}

impl Grants {
    /// No grant.
    pub const NONE: Self = Self(0);

    /// The grant of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, text)| *text == name).map(|(grant, _)| *grant)
    }

    /// Whether all of `wanted` are in the set.
    pub fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// The names in the set, in the table's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().filter(move |(grant, _)| self.has(*grant)).map(|(_, name)| *name)
    }
}

impl std::fmt::Display for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        for name in self.names() {
            if !std::mem::take(&mut first) {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// A tenant, as httpd needs to know it. In all numbers 0 means: no limit of the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantPolicy {
    /// Its name, as it came in `Attach`.
    pub tenant: String,
    /// Grows with each change of this tenant during the supervisor's life; for log lines and to tell old from new.
    pub revision: u64,
    /// A declared tenant: operations need grants, files must lie in the document roots, only its own virtual host is
    /// shown. False only for the built-in tenant.
    pub confined: bool,
    /// What it may do nevertheless.
    pub grants: Grants,
    /// The uid that its Python runs as; `None` if that is not another than the supervisor's.
    pub uid: Option<u32>,
    /// httpd threads that may be in the tenant's Python or wait for it, in one child.
    pub max_threads_per_child: u32,
    /// The same in all children of one httpd together.
    pub max_threads: u32,
    /// Requests that may wait for such a thread's place, in one child; more get 503 with `Retry-After` at once.
    pub queue: u32,
    /// How long a request may wait for a worker, in milliseconds: expired ones get 503 and are never started.
    pub queue_deadline_ms: u32,
    /// What `Retry-After` says, in seconds.
    pub retry_after_s: u32,
    /// How long a phase may run, in milliseconds; then its worker is ended.
    pub request_timeout_ms: u32,
    /// Bytes that one request may make httpd hold: header values, notes, filter data, log text.
    pub max_held_bytes: u64,
    /// Entries of one table (`headers_out`, `notes`, `subprocess_env`, ...).
    pub max_table_entries: u32,
    /// Log lines that one request may write.
    pub max_log_lines: u32,
    /// Directories whose files it may have served, absolute, without a trailing `/`; empty: the `DocumentRoot` of the
    /// virtual host that its request came to.
    pub document_roots: Vec<String>,
}

impl TenantPolicy {
    /// The built-in tenant's: everything is allowed, nothing is capped.
    pub fn unconfined(tenant: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            revision: 0,
            confined: false,
            grants: Grants::ALL,
            uid: None,
            max_threads_per_child: 0,
            max_threads: 0,
            queue: 0,
            queue_deadline_ms: 0,
            retry_after_s: 0,
            request_timeout_ms: 0,
            max_held_bytes: 0,
            max_table_entries: 0,
            max_log_lines: 0,
            document_roots: Vec::new(),
        }
    }

    /// Whether the operation that needs `grant` is allowed.
    pub fn allows(&self, grant: Grants) -> bool {
        !self.confined || self.grants.has(grant)
    }
}

/// Whether a confined tenant's assignment to this field may be refused by httpd: then Python is told at once.
pub fn is_guarded(field: crate::fields::Field) -> bool {
    use crate::fields::Field as F;
    matches!(
        field,
        F::Handler
            | F::Filename
            | F::CanonicalFilename
            | F::Uri
            | F::User
            | F::ApAuthType
            | F::Proxyreq
            | F::Assbackwards
            | F::Chunked
            | F::ContentType
            | F::Finfo
    )
}

/// The same of a table's.
pub fn is_guarded_table(table: crate::message::TableId) -> bool {
    use crate::message::TableId as T;
    matches!(table, T::HeadersIn | T::SubprocessEnv | T::ConnectionNotes | T::Notes)
}

/// Whether this is the built-in tenant's name.
pub fn is_default(tenant: &str) -> bool {
    tenant.is_empty() || tenant == DEFAULT_TENANT
}

/// Whether `name` can be a tenant's: 1 to [`MAX_TENANT`] of letters, digits, `-`, `_`, `.`, not beginning with a dot or
/// a dash; or, for one user of a template, `~USER` or `TEMPLATE~USER`. So it is safe in file names, control group names
/// and log lines.
pub fn is_valid_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.starts_with(['.', '-'])
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let parts = match name.split_once('~') {
        Some((template, user)) => plain(template) && !user.is_empty() && plain(user),
        None => !name.is_empty() && plain(name),
    };
    parts && name.len() <= MAX_TENANT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grant_has_one_bit_and_one_name() {
        let mut seen = Grants::NONE;
        for (grant, name) in Grants::NAMES {
            assert_eq!(grant.0.count_ones(), 1, "{name}");
            assert!(!seen.has(*grant), "{name} has another's bit");
            assert_eq!(Grants::by_name(name), Some(*grant));
            seen = seen.with(*grant);
        }
        assert_eq!(seen, Grants::ALL);
        assert_eq!(Grants::by_name("everything"), None);
    }

    #[test]
    fn sets_say_what_is_in_them() {
        let both = Grants::CGI.with(Grants::PROXY);
        assert!(both.has(Grants::CGI) && both.has(Grants::PROXY) && !both.has(Grants::FILTERS));
        assert!(both.has(Grants::NONE), "what needs no grant is always allowed");
        assert_eq!(both.to_string(), "cgi, proxy");
        assert_eq!(Grants::NONE.to_string(), "none");
    }

    #[test]
    fn only_the_built_in_tenant_is_unconfined() {
        let open = TenantPolicy::unconfined(DEFAULT_TENANT);
        assert!(open.allows(Grants::CGI));
        let closed = TenantPolicy { confined: true, grants: Grants::PROXY, ..open };
        assert!(closed.allows(Grants::PROXY) && !closed.allows(Grants::CGI));
        assert!(is_default("") && is_default("default") && !is_default("alice"));
    }

    #[test]
    fn a_policy_travels() {
        let policy = TenantPolicy {
            confined: true,
            document_roots: vec!["/srv/www".into()],
            ..TenantPolicy::unconfined("alice")
        };
        let bytes = crate::codec::encode(&policy).unwrap();
        assert_eq!(crate::codec::decode::<TenantPolicy>(&bytes).unwrap(), policy);
    }

    #[test]
    fn names_are_safe_everywhere() {
        for good in
            ["alice", "www.example.org", "a", "A-1_b", "~alice", "cheap~alice", &"t".repeat(64)]
        {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "a/b",
            "a b",
            "a\nb",
            "ü",
            "a\0",
            "~",
            "a~",
            "~.a",
            "a~b~c",
            &"t".repeat(65),
        ] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
    }
}
