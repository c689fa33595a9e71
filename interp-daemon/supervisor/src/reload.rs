//! Tenants while the supervisor runs: reading their files again, finding one, preparing its sandbox.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use vivarium_protocol::codes;
use vivarium_protocol::control::{PoolKey, ToChild, ToWorker};
use vivarium_protocol::policy::{TenantPolicy, is_default};

use crate::config::Settings;
use crate::log::escape;
use crate::pool::SlotState;
use crate::sandbox::cgroup::group_name;
use crate::sandbox::filter::{self, Program};
use crate::sandbox::machine::Machine;
use crate::sandbox::plan::{self, Made, Prepared};
use crate::sandbox::rules::{self, RawRule};
use crate::sandbox::shared::Shared;
use crate::server::Server;
use crate::spawn::{Launch, StartError};
use crate::tenants::file::Profile;
use crate::tenants::{Changes, NO_TENANT, Registry, Tenant, closed_policy, some_of};
use crate::workers::KillReason;

/// When a worker that was asked to stop is killed, after its time.
pub(crate) const GRACE_MARGIN: Duration = Duration::from_secs(1);

/// Everything about declared tenants that the supervisor keeps.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    pub(crate) registry: Registry,
    /// `VivariumTenantDir`.
    pub(crate) told_dir: Option<PathBuf>,
    /// What this machine can do; looked at when the first tenant is there.
    pub(crate) machine: Option<Rc<Machine>>,
    shared: Option<Shared>,
    /// By tenant: made for this revision and these files of httpd's.
    prepared: HashMap<String, (u64, Rc<Launch>, Rc<Prepared>)>,
    /// The rules and filters that are in force, read once in each reload.
    rules: Option<Rc<Vec<RawRule>>>,
    filters: Vec<(Profile, Rc<Vec<Program>>)>,
    /// Tenants of whom it was said that they lack something.
    said: HashMap<String, u64>,
    /// Those that have a control group.
    pub(crate) groups: HashMap<String, String>,
}

impl Tenants {
    /// Tenants for which a sandbox is prepared.
    pub(crate) fn prepared_names(&self) -> impl Iterator<Item = &String> {
        self.prepared.keys()
    }

    /// Puts away what was made for a tenant's workers; false if its control group is still in use.
    pub(crate) fn put_away(&mut self, name: &str) -> bool {
        self.prepared.remove(name);
        let (Some(group), Some(machine)) = (self.groups.get(name), &self.machine) else {
            return true;
        };
        let gone = machine.cgroups.remove(group);
        if gone {
            self.groups.remove(name);
        }
        gone
    }
}

fn cannot(reason: impl Into<String>) -> StartError {
    StartError::new(codes::NO_TENANT, reason)
}

fn sandbox(reason: impl Into<String>) -> StartError {
    StartError::new(codes::SANDBOX, reason)
}

impl Server {
    /// Where the tenants' files are.
    pub(crate) fn tenants_dir(&self) -> PathBuf {
        let settings = self.settings.as_ref().ok();
        tenants_dir(self.tenants.told_dir.clone(), settings.map(Rc::as_ref), self.source.path())
    }

    /// Reads all tenants' files again and has what runs follow. Gives what there is to say, line by line, and whether
    /// all files are right.
    pub(crate) fn reload_tenants(&mut self) -> (bool, Vec<String>) {
        let dir = self.tenants_dir();
        let min_uid = match &self.settings {
            Ok(settings) => *settings.sandbox.min_uid.get(),
            Err(_) => *Settings::default().sandbox.min_uid.get(),
        };
        let changes = self.tenants.registry.reload(&dir, min_uid);
        self.tenants.prepared.clear();
        self.tenants.filters.clear();
        self.tenants.rules = None;
        // The machine may have got, or lost, something since: a mount, a security module, a limit.
        if self.tenants.machine.take().is_some() {
            self.machine();
        }
        for error in &changes.errors {
            let error = escape(error.as_bytes(), 2000);
            self.log.error(codes::TENANT_CONFIG, format_args!("{error}"));
        }
        let mut lines = changes.errors.clone();
        if !changes.is_empty() {
            let count = self.tenants.registry.names().count();
            let line = summary(&changes, count, &dir.to_string_lossy());
            self.log.notice(codes::TENANTS, format_args!("{line}"));
            lines.push(line);
            for (uid, names) in self.tenants.registry.shared_users() {
                let line = format!(
                    "{} tenants run as uid {uid}, and can reach each other's files: give each a user of its own ({})",
                    names.len(),
                    some_of(&names)
                );
                self.log.warn(codes::TENANTS, format_args!("{line}"));
                lines.push(line);
            }
        }
        for name in &changes.removed {
            self.let_go(name);
        }
        self.follow_tenants();
        (changes.errors.is_empty(), lines)
    }

    /// Nothing of a removed tenant stays but what its last workers still use.
    fn let_go(&mut self, name: &str) {
        if let Some(shared) = &mut self.tenants.shared {
            shared.forget(name);
        }
        self.tenants.said.remove(name);
    }

    /// Pools whose tenant is another than it was: the new policy for the children, new workers.
    fn follow_tenants(&mut self) {
        let now = Instant::now();
        let ids: Vec<u64> =
            self.pools.iter().filter(|(_, p)| !p.retiring).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(pool) = self.pools.get(&id) else { continue };
            let name = pool.name.key.tenant.clone();
            if is_default(&name) {
                continue;
            }
            let tenant = self.tenants.registry.find(&name).ok();
            let policy = tenant.as_ref().map(|t| Rc::new(t.policy()));
            let Some(pool) = self.pools.get_mut(&id) else { continue };
            if pool.policy == policy {
                continue;
            }
            let told =
                policy.as_ref().map_or_else(|| closed_policy(&name), |p| TenantPolicy::clone(p));
            pool.policy = policy;
            let children: Vec<(u64, u32)> =
                pool.regions.values().map(|r| (r.child, r.number)).collect();
            pool.resize(tenant.as_ref().map_or(NO_TENANT, |t| t.scale()), now);
            for slot in &mut pool.slots {
                if let SlotState::Starting(w) | SlotState::Ready(w) = slot.state {
                    slot.state = SlotState::Leaving(w);
                }
            }
            let workers: Vec<u64> = pool.workers().collect();
            for (child, region) in children {
                self.tell_child(child, &ToChild::Policy { region, policy: told.clone() }, &[]);
            }
            for worker in workers {
                self.recycle(worker, now);
            }
        }
    }

    /// Asks a worker to make room.
    fn recycle(&mut self, id: u64, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.recycled || worker.killed {
            return;
        }
        worker.recycled = true;
        let grace = worker.tenant.stop_time();
        worker.kill_at = Some((now + grace + GRACE_MARGIN, KillReason::Stop));
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.tell_worker(id, &ToWorker::Drain { grace_ms: Some(grace_ms) }, &[]);
    }

    /// The tenant of this name as it is now, or why there is none.
    pub(crate) fn tenant(&mut self, name: &str) -> Result<Rc<Tenant>, StartError> {
        if is_default(name) {
            return match &self.settings {
                Ok(settings) => {
                    let base = settings.tenant.clone();
                    Ok(Rc::new(Tenant::built_in(base, self.source.path())))
                }
                Err(reason) => Err(StartError::new(codes::SUPERVISOR_CONFIG, reason.clone())),
            };
        }
        self.tenants.registry.find(name).map_err(cannot)
    }

    /// The tenant of a pool, if workers may be started for it.
    pub(crate) fn servable(
        &mut self,
        key: &PoolKey,
        launch: &Launch,
    ) -> Result<Rc<Tenant>, StartError> {
        let tenant = self.tenant(&key.tenant)?;
        let Some(declared) = &tenant.declared else { return Ok(tenant) };
        let name = &tenant.name;
        if self.own_uid != 0 {
            return Err(cannot(format!(
                "tenant {name} cannot be served: vivariumd runs as uid {}, and only root can become {}; start httpd as \
                 root, or vivariumd as a service",
                self.own_uid, declared.user.name
            )));
        }
        if launch.httpd.is_some_and(|(uid, _)| uid == declared.identity.uid) {
            return Err(cannot(format!(
                "tenant {name} cannot be served: its user {} is that of httpd's children; give it a user of its own",
                declared.user.name
            )));
        }
        if !tenant.allows_interpreter(&key.interpreter) {
            return Err(cannot(format!(
                "tenant {name} has no interpreter {}: `interpreters` in {} names those that it has",
                escape(key.interpreter.as_bytes(), 100),
                tenant.source.display()
            )));
        }
        Ok(tenant)
    }

    /// What this machine can do; looks once.
    pub(crate) fn machine(&mut self) -> Rc<Machine> {
        if let Some(machine) = &self.tenants.machine {
            return Rc::clone(machine);
        }
        let cgroup = match &self.settings {
            Ok(settings) => settings.sandbox.cgroup.get().clone(),
            Err(_) => String::new(),
        };
        let machine = Rc::new(Machine::probe(&cgroup));
        machine.cgroups.sweep();
        self.tenants.machine = Some(Rc::clone(&machine));
        machine
    }

    /// A declared tenant's sandbox, made ready; nothing for the built-in tenant.
    pub(crate) fn prepare(
        &mut self,
        tenant: &Tenant,
        launch: &Rc<Launch>,
    ) -> Result<Option<Rc<Prepared>>, StartError> {
        let Some(declared) = tenant.declared.clone() else { return Ok(None) };
        if let Some((revision, for_launch, prepared)) = self.tenants.prepared.get(&tenant.name)
            && *revision == tenant.revision
            && for_launch == launch
        {
            return Ok(Some(Rc::clone(prepared)));
        }
        let machine = self.machine();
        let file = &declared.file;
        plan::missing(file, &machine).map_err(sandbox)?;
        let (raw, seccomp) = (self.rules()?, self.filters(file.sandbox.seccomp)?);
        let group = group_name(&tenant.name);
        let cgroups = machine.cgroups.make(&group, &file.limits, &machine).map_err(sandbox)?;
        self.tenants.groups.insert(tenant.name.clone(), group);
        let mut made = Made { cgroups, ..Made::default() };
        let asked = plan::wanted(file);
        let mounts = crate::sandbox::protection::Protection::MountNamespace;
        if asked.contains(&mounts) && machine.has(mounts) {
            let run_dir = self.run_dir.clone().ok_or_else(|| {
                sandbox("there is no run directory: set `run_dir` in [paths] of vivariumd.toml")
            })?;
            let shared = match &mut self.tenants.shared {
                Some(shared) => shared,
                none => none.insert(Shared::new(&run_dir).map_err(sandbox)?),
            };
            made.root_at = shared.root();
            if file.files.private_tmp {
                made.tmp = Some(shared.tmp(&tenant.name, file.limits.tmp.0).map_err(sandbox)?);
            }
        }
        let prepared = plan::make(tenant, &declared, launch, &machine, &raw, &seccomp, made)
            .map_err(sandbox)?;
        if self.tenants.said.insert(tenant.name.clone(), tenant.revision) != Some(tenant.revision) {
            for missing in &prepared.missing {
                self.log.warn(
                    codes::UNPROTECTED,
                    format_args!(
                        "tenant {}: no {}: {}",
                        tenant.name, missing.protection, missing.why
                    ),
                );
            }
        }
        let prepared = Rc::new(prepared);
        self.tenants.prepared.insert(
            tenant.name.clone(),
            (tenant.revision, Rc::clone(launch), Rc::clone(&prepared)),
        );
        Ok(Some(prepared))
    }

    fn profiles(&self) -> PathBuf {
        match &self.settings {
            Ok(settings) => settings.sandbox.profiles.get().into(),
            Err(_) => Settings::default().sandbox.profiles.get().into(),
        }
    }

    fn rules(&mut self) -> Result<Rc<Vec<RawRule>>, StartError> {
        if self.tenants.rules.is_none() {
            self.tenants.rules = Some(Rc::new(rules::load(&self.profiles()).map_err(sandbox)?));
        }
        Ok(self.tenants.rules.clone().unwrap_or_default())
    }

    fn filters(&mut self, profile: Profile) -> Result<Rc<Vec<Program>>, StartError> {
        if let Some((_, found)) = self.tenants.filters.iter().find(|(p, _)| *p == profile) {
            return Ok(Rc::clone(found));
        }
        let loaded = Rc::new(filter::load(profile, &self.profiles()).map_err(sandbox)?);
        self.tenants.filters.push((profile, Rc::clone(&loaded)));
        Ok(loaded)
    }

    /// The supervisor ends: no control group stays.
    pub(crate) fn remove_groups(&mut self) {
        if let Some(machine) = &self.tenants.machine {
            for group in self.tenants.groups.values() {
                machine.cgroups.remove(group);
            }
        }
    }
}

/// Where the tenants' files are: httpd's word, the environment's, the file's, else `tenants.d` beside the file.
pub(crate) fn tenants_dir(
    told: Option<PathBuf>,
    settings: Option<&Settings>,
    config: &std::path::Path,
) -> PathBuf {
    let environment =
        || std::env::var_os("VIVARIUM_TENANTS_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    told.or_else(environment)
        .or_else(|| settings?.tenants_dir.as_ref().map(|dir| dir.get().into()))
        .unwrap_or_else(|| {
            config.parent().unwrap_or(std::path::Path::new("/etc/vivarium")).join("tenants.d")
        })
}

fn summary(changes: &Changes, count: usize, dir: &str) -> String {
    let mut line = format!("{count} tenants' files in {dir}");
    for (what, names) in
        [("added", &changes.added), ("changed", &changes.changed), ("removed", &changes.removed)]
    {
        if names.is_empty() {
            continue;
        }
        let _ = write!(line, "; {what} {}: {}", names.len(), some_of(names));
    }
    if changes.templates {
        line.push_str("; templates have changed");
    }
    if !changes.errors.is_empty() {
        let _ = write!(line, "; {} are wrong", changes.errors.len());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_chosen() {
        let config = std::path::Path::new("/etc/vivarium/vivariumd.toml");
        assert_eq!(tenants_dir(None, None, config), PathBuf::from("/etc/vivarium/tenants.d"));
        let told = Some(PathBuf::from("/told"));
        let settings: Settings = toml::from_str("tenants_dir = '/said'").unwrap();
        assert_eq!(tenants_dir(told, Some(&settings), config), PathBuf::from("/told"));
        assert_eq!(tenants_dir(None, Some(&settings), config), PathBuf::from("/said"));
    }

    #[test]
    fn a_summary_names_what_changed() {
        let changes = Changes {
            added: (0..25).map(|i| format!("t{i}")).collect(),
            removed: vec!["old".into()],
            errors: vec!["x".into()],
            ..Changes::default()
        };
        let line = summary(&changes, 25, "/t");
        assert!(line.starts_with("25 tenants' files in /t; added 25: t0, "), "{line}");
        assert!(line.contains("t19, ...; removed 1: old; 1 are wrong"), "{line}");
    }
}
