//! A tenant's file: every key, its default, what it may say.
//!
//! All keys are optional but `user` (which a template has instead in `[template]`). The defaults make a strict tenant.

use std::collections::BTreeMap;

use serde::Deserialize;
use vivarium_protocol::policy::{Grants, MAX_ROOT_BYTES, MAX_ROOTS};
use vivarium_protocol::region::MAX_WORKERS;

use crate::config::{AbsolutePath, Environment, IDLE_S, Name, Threads, Umask, checked, number};
use crate::sandbox::protection::Protection;

/// What a tenant's file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) user: Option<Name>,
    pub(crate) group: Option<Name>,
    /// Supplementary groups; `None`: none at all.
    pub(crate) groups: Vec<Name>,
    pub(crate) python: AbsolutePath,
    pub(crate) home: Option<AbsolutePath>,
    pub(crate) umask: Umask,
    pub(crate) env: Environment,
    /// The interpreter names that it may have; empty: any, at most `max_interpreters`.
    pub(crate) interpreters: Vec<String>,
    pub(crate) max_interpreters: Interpreters,
    pub(crate) processes: Processes,
    pub(crate) threads: Threads,
    pub(crate) grants: GrantList,
    pub(crate) document_roots: Roots,
    pub(crate) require: Vec<Protection>,
    pub(crate) limits: Limits,
    pub(crate) files: Files,
    pub(crate) network: Network,
    pub(crate) sandbox: Sandbox,
    pub(crate) httpd: Httpd,
    pub(crate) timeouts: Timeouts,
    pub(crate) template: Option<Template>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            groups: Vec::new(),
            python: AbsolutePath("/usr/bin/python3".into()),
            home: None,
            umask: Umask(0o077),
            env: Environment(BTreeMap::new()),
            interpreters: Vec::new(),
            max_interpreters: Interpreters(4),
            processes: Processes { min: Workers(0), max: Workers(2) },
            threads: Threads(8),
            grants: GrantList(Grants::NONE),
            document_roots: Roots(Vec::new()),
            require: Vec::new(),
            limits: Limits::default(),
            files: Files::default(),
            network: Network::default(),
            sandbox: Sandbox::default(),
            httpd: Httpd::default(),
            timeouts: Timeouts::default(),
            template: None,
        }
    }
}

/// `processes = { min = 0, max = 2 }`, workers of each of its pools.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Processes {
    /// Started with the pool's first request, and kept. 0: one is started then, and ends when there is nothing to do.
    pub(crate) min: Workers,
    /// The most.
    pub(crate) max: Workers,
}

impl Default for Processes {
    fn default() -> Self {
        Self { min: Workers(0), max: Workers(2) }
    }
}

/// `[limits]`: control group and resource limits. 0 or "unlimited" takes a limit away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Memory of all its processes together.
    pub(crate) memory: Size,
    /// Swap of all its processes together.
    pub(crate) swap: Size,
    /// Processes and threads together.
    pub(crate) pids: Count,
    /// Weight against other tenants when the CPUs are short: 1 to 10000, 100 is usual.
    pub(crate) cpu_share: Share,
    /// Percent of one CPU; 0: no quota.
    pub(crate) cpu_quota: Count,
    /// Of one process.
    pub(crate) open_files: Count,
    /// The largest file that it may write.
    pub(crate) file_size: Size,
    /// Core dumps; 0: none.
    pub(crate) core: Size,
    /// The private `/tmp`, and the private `/dev/shm`, each.
    pub(crate) tmp: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Size(Some(512 << 20)),
            swap: Size(Some(0)),
            pids: Count(128),
            cpu_share: Share(100),
            cpu_quota: Count(0),
            open_files: Count(1024),
            file_size: Size(Some(1 << 30)),
            core: Size(Some(0)),
            tmp: Size(Some(64 << 20)),
        }
    }
}

/// `[files]`: what it sees.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Files {
    pub(crate) root: Root,
    pub(crate) read_only: Vec<AbsolutePath>,
    pub(crate) read_write: Vec<AbsolutePath>,
    pub(crate) private_tmp: bool,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            root: Root::Private,
            read_only: Vec::new(),
            read_write: Vec::new(),
            private_tmp: true,
        }
    }
}

/// What `/` is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Root {
    /// A root of its own, with what the rules name and nothing else.
    Private,
    /// The machine's.
    Host,
    /// This directory.
    Directory(String),
}

impl TryFrom<String> for Root {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        match raw.as_str() {
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            path if path.starts_with('/') && path.len() > 1 => Ok(Self::Directory(raw)),
            _ => {
                Err(format!("root = {raw:?}: \"private\", \"host\" or an absolute path is wanted"))
            }
        }
    }
}

/// `[network]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    pub(crate) mode: NetworkMode,
    /// TCP ports that may be connected to; absent: any, where the mode allows connections.
    pub(crate) connect: Option<Vec<Port>>,
    /// TCP ports that may be listened on; absent: any, where the mode is `full`.
    pub(crate) bind: Option<Vec<Port>>,
}

/// How much of the network there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkMode {
    /// A network of its own with nothing in it.
    #[default]
    None,
    /// A network of its own with a loopback interface.
    Loopback,
    /// The machine's, for connections to others.
    Outbound,
    /// The machine's.
    Full,
}

/// `[sandbox]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sandbox {
    pub(crate) seccomp: Profile,
    pub(crate) landlock: bool,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) apparmor_profile: Option<Label>,
    pub(crate) selinux_context: Option<Label>,
}

impl Default for Sandbox {
    fn default() -> Self {
        use Namespace::{Cgroup, Ipc, Mount, Pid, Uts};
        Self {
            seccomp: Profile::Strict,
            landlock: true,
            namespaces: vec![Mount, Pid, Ipc, Uts, Cgroup],
            apparmor_profile: None,
            selinux_context: None,
        }
    }
}

/// A seccomp profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// What Python and its usual extensions need, and no more.
    Strict,
    /// Everything but what only attacks and system administration need.
    Standard,
    /// No filter.
    Off,
}

/// A namespace of its own. The network's follows from `[network] mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub(crate) enum Namespace {
    Mount,
    Pid,
    Ipc,
    Uts,
    Cgroup,
}

/// `[httpd]`: how much of httpd it may hold. 0: no limit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Httpd {
    pub(crate) max_threads_per_child: Count,
    pub(crate) max_threads: Count,
    pub(crate) queue: Count,
    pub(crate) queue_deadline_ms: Count,
    pub(crate) retry_after_s: Count,
    pub(crate) max_held: Size,
    pub(crate) max_table_entries: Count,
    pub(crate) max_log_lines: Count,
}

impl Default for Httpd {
    fn default() -> Self {
        Self {
            max_threads_per_child: Count(8),
            max_threads: Count(64),
            queue: Count(32),
            queue_deadline_ms: Count(5000),
            retry_after_s: Count(2),
            max_held: Size(Some(8 << 20)),
            max_table_entries: Count(1000),
            max_log_lines: Count(200),
        }
    }
}

/// `[timeouts]`.
#[allow(clippy::struct_field_names)] // The keys say their unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    /// From a worker's start to its being ready.
    pub(crate) start_s: Seconds,
    /// For what runs when a worker is asked to stop.
    pub(crate) stop_s: Seconds,
    /// For one phase of one request; 0: none.
    pub(crate) request_s: Count,
    /// How long a worker above `min` has nothing to do before it ends; 0: it stays.
    pub(crate) idle_s: Count,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start_s: Seconds(30),
            stop_s: Seconds(10),
            request_s: Count(0),
            idle_s: Count(IDLE_S),
        }
    }
}

/// `[template]`: one file for many users. A tenant `~USER` takes the first template that its user matches,
/// `NAME~USER` the one called NAME.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    /// Patterns of user names (`*` and `?`), one of which must match.
    pub(crate) users: Vec<String>,
    /// Groups, one of which the user must be in; empty: any.
    #[serde(default)]
    pub(crate) groups: Vec<Name>,
    /// Patterns of user names of which none may match.
    #[serde(default)]
    pub(crate) deny: Vec<String>,
}

checked!(
    /// A number of workers.
    Workers: "i64" i64 => u8, |raw| number(raw, 0, i64::from(MAX_WORKERS), "processes")
);
checked!(
    /// A number of interpreters.
    Interpreters: "i64" i64 => u32, |raw| number(raw, 1, 1024, "max_interpreters")
);
checked!(
    /// A number; 0 is none.
    Count: "i64" i64 => u32, |raw| number(raw, 0, 1_000_000_000, "this number")
);
checked!(
    /// A CPU weight.
    Share: "i64" i64 => u32, |raw| number(raw, 1, 10_000, "cpu_share")
);
checked!(
    /// Seconds.
    Seconds: "i64" i64 => u32, |raw| number(raw, 1, 3600, "this time in seconds")
);
checked!(
    /// A TCP port.
    Port: "i64" i64 => u16, |raw| number(raw, 1, 65_535, "a port")
);
checked!(
    /// Bytes: `"512M"`; `None` is "unlimited".
    Size: "String" String => Option<u64>, |raw| size(&raw)
);
checked!(
    /// Names of grants.
    GrantList: "Vec<String>" Vec<String> => Grants, |raw| {
        raw.iter().try_fold(Grants::NONE, |set, name| {
            let all = || Grants::NAMES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
            Grants::by_name(name)
                .map(|grant| set.with(grant))
                .ok_or_else(|| format!("there is no grant {name:?}: there are {}", all()))
        })
    }
);
checked!(
    /// Document roots.
    Roots: "Vec<String>" Vec<String> => Vec<String>, |raw| {
        let bytes: usize = raw.iter().map(String::len).sum();
        if raw.len() > MAX_ROOTS || bytes > MAX_ROOT_BYTES {
            return Err(format!("there can be {MAX_ROOTS} document roots at most, of {MAX_ROOT_BYTES} bytes together"));
        }
        raw.into_iter()
            .map(|root| match AbsolutePath::try_from(root)?.0.trim_end_matches('/') {
                "" => Err("/ cannot be a document root".to_owned()),
                root => Ok(root.to_owned()),
            })
            .collect()
    }
);
checked!(
    /// The name of an AppArmor profile or a SELinux context.
    Label: "String" String => String, |raw| {
        if raw.is_empty() || raw.len() > 1000 || raw.bytes().any(|b| b.is_ascii_control()) {
            return Err("the name of a profile or a context is wanted".into());
        }
        Ok(raw)
    }
);

fn size(raw: &str) -> Result<Option<u64>, String> {
    if raw == "unlimited" {
        return Ok(None);
    }
    let (digits, shift) = match raw.as_bytes().last() {
        Some(b'K') => (&raw[..raw.len() - 1], 10),
        Some(b'M') => (&raw[..raw.len() - 1], 20),
        Some(b'G') => (&raw[..raw.len() - 1], 30),
        _ => (raw, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .filter(|n| *n <= u64::MAX >> 11 >> shift)
        .map(|n| Some(n << shift))
        .ok_or_else(|| {
            format!("{raw:?} is no size: write bytes, or \"64K\", \"512M\", \"2G\", \"unlimited\"")
        })
}

/// What serde cannot see: keys that do not go together. `None` if all is well, else what would be right.
pub(crate) fn contradiction(file: &File) -> Option<String> {
    let text = match (&file.user, &file.template) {
        (None, None) => {
            "`user` is missing: user = \"NAME\", a user of this machine that is not root"
        }
        (Some(_), Some(_)) => "a template takes its users from [template]: remove `user`",
        (None, Some(t)) if t.users.is_empty() => {
            "`users` in [template] names nobody: users = [\"*\"]"
        }
        _ if file.processes.max.0 == 0 => "`max` in `processes` must be 1 at least",
        _ if file.processes.min.0 > file.processes.max.0 => "`min` in `processes` is above `max`",
        _ if file.files.root != Root::Host
            && !file.sandbox.namespaces.contains(&Namespace::Mount) =>
        {
            "a root of its own needs the mount namespace: add \"mount\" to `namespaces`, or say root = \"host\""
        }
        _ if file.sandbox.namespaces.contains(&Namespace::Pid)
            && !file.sandbox.namespaces.contains(&Namespace::Mount) =>
        {
            "the pid namespace needs a /proc of its own: add \"mount\" to `namespaces`"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
