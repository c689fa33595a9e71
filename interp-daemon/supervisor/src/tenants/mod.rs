//! Tenants: who they are, read from one file each, kept in their last good form.
//!
//! | module | what |
//! |---|---|
//! | [`file`] | the keys of a tenant's file |
//! | [`template`] | one file for many users |
//! | [`trusted`] | reading files that nobody else can have written |
//!
//! A file that is wrong concerns its own tenant only: it keeps its last good form, or cannot be served if it never had
//! one. Files are read at the start, at each reload of httpd, at `SIGHUP` and by `vivarium reload`.

pub(crate) mod file;
mod registry;
pub(crate) mod template;
pub(crate) mod trusted;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use vivarium_protocol::policy::{DEFAULT_TENANT, Grants, TenantPolicy};

pub(crate) use self::registry::{Changes, Registry, some_of};
use crate::config;
use crate::elastic::Scale;
use crate::sys::exec::Identity;
use crate::sys::users::{self, User};
use file::File;

/// A tenant as workers are started for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenant {
    /// Its name: the file's, `~USER` of a template, or `default`.
    pub(crate) name: String,
    /// Grows with each change.
    pub(crate) revision: u64,
    /// How its Python is started.
    pub(crate) base: config::Tenant,
    /// All that its file says; `None` for the built-in tenant.
    pub(crate) declared: Option<Rc<Declared>>,
    /// The file that all this comes from.
    pub(crate) source: PathBuf,
}

/// What only declared tenants have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) file: File,
    pub(crate) user: User,
    pub(crate) identity: Identity,
    /// The user's home or the configured one, if it is a directory of its own.
    pub(crate) home: Option<String>,
    /// The name of its primary group, for the tenant's own `/etc/group`.
    pub(crate) group_name: String,
}

impl Tenant {
    /// The built-in tenant.
    pub(crate) fn built_in(base: config::Tenant, source: &Path) -> Self {
        let name = DEFAULT_TENANT.to_owned();
        Self { name, revision: 0, base, declared: None, source: source.to_owned() }
    }

    /// How many workers each of its pools has.
    pub(crate) fn scale(&self) -> Scale {
        let config::Processes { min, max } = self.base.processes;
        let idle_s = self.base.idle_s.0;
        // Who has always as many needs no looking at.
        let idle = (min < max && idle_s > 0).then(|| Duration::from_secs(idle_s.into()));
        Scale { min, max, idle }
    }

    /// What httpd is told.
    pub(crate) fn policy(&self) -> TenantPolicy {
        let Some(declared) = &self.declared else {
            return TenantPolicy::unconfined(&self.name);
        };
        let (file, httpd) = (&declared.file, &declared.file.httpd);
        TenantPolicy {
            tenant: self.name.clone(),
            revision: self.revision,
            confined: true,
            grants: file.grants.0,
            uid: Some(declared.identity.uid),
            max_threads_per_child: httpd.max_threads_per_child.0,
            max_threads: httpd.max_threads.0,
            queue: httpd.queue.0,
            queue_deadline_ms: httpd.queue_deadline_ms.0,
            retry_after_s: httpd.retry_after_s.0,
            request_timeout_ms: file.timeouts.request_s.0.saturating_mul(1000),
            max_held_bytes: httpd.max_held.0.unwrap_or(0),
            max_table_entries: httpd.max_table_entries.0,
            max_log_lines: httpd.max_log_lines.0,
            document_roots: file.document_roots.0.clone(),
        }
    }

    /// How long a worker may take to be ready.
    pub(crate) fn start_time(&self) -> Duration {
        let seconds = self.declared.as_ref().map_or(30, |d| d.file.timeouts.start_s.0);
        Duration::from_secs(seconds.into())
    }

    /// How long a worker may finish what it does.
    pub(crate) fn stop_time(&self) -> Duration {
        let seconds = self.declared.as_ref().map_or(10, |d| d.file.timeouts.stop_s.0);
        Duration::from_secs(seconds.into())
    }

    /// Whether it may have an interpreter of this name.
    pub(crate) fn allows_interpreter(&self, name: &str) -> bool {
        self.declared.as_ref().is_none_or(|d| {
            d.file.interpreters.is_empty() || d.file.interpreters.iter().any(|i| i == name)
        })
    }

    /// How many pools it may have in one configuration generation.
    pub(crate) fn most_interpreters(&self) -> usize {
        self.declared.as_ref().map_or(usize::MAX, |d| d.file.max_interpreters.0 as usize)
    }
}

/// For a tenant that there is not: one worker, whose start fails and says why.
pub(crate) const NO_TENANT: Scale = Scale { min: 1, max: 1, idle: None };

/// A policy for a tenant that cannot be served: nothing is granted.
pub(crate) fn closed_policy(name: &str) -> TenantPolicy {
    TenantPolicy { confined: true, grants: Grants::NONE, ..TenantPolicy::unconfined(name) }
}

/// Who a tenant's Python runs as; every objection names the remedy.
pub(crate) fn identity(file: &File, user: &User, min_uid: u32) -> Result<Identity, String> {
    let name = &user.name;
    if user.uid == 0 {
        return Err(format!(
            "user = {name:?} is root: a tenant never runs as root; name a user of its own"
        ));
    }
    if user.uid < min_uid {
        return Err(format!(
            "user = {name:?} has uid {}, below {min_uid}: those belong to the system; name another user, or lower \
             `min_uid` in [sandbox] of vivariumd.toml",
            user.uid
        ));
    }
    let number = |group: &str| match users::group(group) {
        Ok(Some(0)) => Err(format!("the group {group} is root's: a tenant is never in it")),
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => Err(format!("the group {group} does not exist: create it, or name another")),
        Err(e) => Err(format!("the group {group} cannot be looked up: {e}")),
    };
    let gid = match &file.group {
        Some(group) => number(group.get())?,
        None if user.gid == 0 => {
            return Err(format!("the primary group of {name} is root's: name another as `group`"));
        }
        None => user.gid,
    };
    let mut groups = vec![gid];
    for group in &file.groups {
        let extra = number(group.get())?;
        if !groups.contains(&extra) {
            groups.push(extra);
        }
    }
    Ok(Identity { uid: user.uid, gid, groups })
}

/// A tenant of a file's contents for one user.
pub(crate) fn make(
    name: &str,
    mut file: File,
    user: User,
    min_uid: u32,
    source: &Path,
) -> Result<Tenant, String> {
    let identity = identity(&file, &user, min_uid)?;
    let home = match &file.home {
        Some(home) => Some(home.get().clone()),
        // Homes that are nobody's: `/`, `/nonexistent`, `/dev/null`.
        None => Some(user.home.clone())
            .filter(|home| home.len() > 1 && home.starts_with('/') && Path::new(home).is_dir()),
    };
    if let Some(home) = &home
        && ["", "/etc", "/usr", "/var", "/home", "/root", "/dev", "/proc", "/sys", "/run"]
            .contains(&home.trim_end_matches('/'))
    {
        return Err(format!("home = {home:?} cannot be a tenant's: it would be writable for it"));
    }
    if home.is_some() && file.home.is_none() {
        file.home = home.clone().map(config::AbsolutePath);
    }
    let group_name = users::group_name(identity.gid)
        .ok()
        .flatten()
        .unwrap_or_else(|| format!("g{}", identity.gid));
    let base = config::Tenant {
        user: Some(config::Name(user.name.clone())),
        group: None,
        python: file.python.clone(),
        processes: config::Processes { min: file.processes.min.0, max: file.processes.max.0 },
        idle_s: config::Idle(file.timeouts.idle_s.0),
        threads: file.threads.clone(),
        env: file.env.clone(),
        umask: file.umask.clone(),
        home: home.clone().map(config::AbsolutePath),
    };
    let declared = Some(Rc::new(Declared { file, user, identity, home, group_name }));
    Ok(Tenant { name: name.to_owned(), revision: 0, base, declared, source: source.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, gid: u32) -> User {
        User { name: "alice".into(), uid, gid, home: "/nonexistent".into() }
    }

    fn file(text: &str) -> File {
        config::parse(Path::new("/t"), text).unwrap()
    }

    #[test]
    fn root_and_the_systems_users_are_refused() {
        let plain = file("user = 'alice'");
        assert!(identity(&plain, &user(0, 0), 1000).unwrap_err().contains("never runs as root"));
        assert!(identity(&plain, &user(33, 33), 1000).unwrap_err().contains("min_uid"));
        assert!(identity(&plain, &user(1000, 0), 1000).unwrap_err().contains("primary group"));
        let root_group = file("user = 'alice'\ngroups = ['root']");
        assert!(identity(&root_group, &user(1000, 1000), 1000).unwrap_err().contains("root's"));
        let missing = file("user = 'alice'\ngroup = 'no-such-group-here'");
        assert!(identity(&missing, &user(1000, 1000), 1000).unwrap_err().contains("not exist"));
        let ok = identity(&plain, &user(1000, 1001), 1000).unwrap();
        assert_eq!(ok, Identity { uid: 1000, gid: 1001, groups: vec![1001] });
        let more = file("user = 'alice'\ngroups = ['nogroup']");
        assert_eq!(identity(&more, &user(1000, 1001), 1000).unwrap().groups.len(), 2);
    }

    #[test]
    fn a_policy_says_what_the_file_says() {
        let text = "user = 'alice'\ngrants = ['cgi']\ndocument_roots = ['/srv/www/']\n\
                    [httpd]\nmax_threads = 5\nqueue = 7\n[timeouts]\nrequest_s = 3";
        let tenant = make("shop", file(text), user(1000, 1000), 1000, Path::new("/t")).unwrap();
        let policy = tenant.policy();
        assert!(policy.confined && policy.allows(Grants::CGI) && !policy.allows(Grants::PROXY));
        assert_eq!((policy.max_threads, policy.queue, policy.request_timeout_ms), (5, 7, 3000));
        assert_eq!(policy.document_roots, ["/srv/www"]);
        assert_eq!((policy.tenant.as_str(), policy.uid), ("shop", Some(1000)));
        assert!(tenant.allows_interpreter("any"));
        let open = Tenant::built_in(config::Tenant::default(), Path::new("/t")).policy();
        assert!(!open.confined);
        assert!(!closed_policy("x").allows(Grants::CGI));
    }

    #[test]
    fn the_systems_directories_are_no_homes() {
        for home in ["/", "/etc", "/home/", "/usr"] {
            let text = format!("user = 'alice'\nhome = '{home}'");
            let error = make("a", file(&text), user(1000, 1000), 1000, Path::new("/t"));
            assert!(error.unwrap_err().contains("cannot be a tenant's"), "{home}");
        }
    }
}
