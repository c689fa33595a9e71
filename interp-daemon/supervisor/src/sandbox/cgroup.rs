//! Control groups: one for each tenant, in version 2, in version 1, or (said loudly) in none.
//!
//! A tenant's group is `PARENT/TENANT.PID`, PID being the supervisor's: two supervisors do not meet. It is made when the
//! tenant's first worker starts, and removed when the supervisor ends; groups that a killed supervisor has left are
//! removed by the next one once nobody is in them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::CgroupJoin;
use super::machine::Machine;
use super::protection::Protection;
use crate::tenants::file::Limits;

/// The controllers that are used.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Where the hierarchies are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// Version 2, if it has controllers of ours.
    unified: Option<PathBuf>,
    /// Version 1: controller → mount point.
    split: BTreeMap<String, PathBuf>,
    /// The parent's path below the roots.
    parent: String,
}

impl Hierarchies {
    /// Reads a `mountinfo`.
    pub(crate) fn find(mountinfo: &Path, parent: &str) -> Self {
        let text = fs::read_to_string(mountinfo).unwrap_or_default();
        Self::parse(&text, parent)
    }

    fn parse(mountinfo: &str, parent: &str) -> Self {
        let mut found = Self { parent: parent.to_owned(), ..Self::default() };
        let mut version_2 = None;
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(at) = before.split(' ').nth(4) else { continue };
            let mut fields = after.split(' ');
            let (kind, _, options) = (fields.next(), fields.next(), fields.next());
            match kind {
                Some("cgroup2") => version_2 = Some(PathBuf::from(at)),
                Some("cgroup") => {
                    for option in options.unwrap_or_default().split(',') {
                        if CONTROLLERS.contains(&option) {
                            found.split.entry(option.to_owned()).or_insert_with(|| at.into());
                        }
                    }
                }
                _ => {}
            }
        }
        found.unified = version_2.filter(|at| {
            fs::read_to_string(at.join("cgroup.controllers"))
                .is_ok_and(|list| list.split_whitespace().any(|c| CONTROLLERS.contains(&c)))
        });
        found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unified.is_none() && self.split.is_empty()
    }

    /// `2`, `1`, or `none`, for people.
    pub(crate) fn version(&self) -> &'static str {
        match (&self.unified, self.split.is_empty()) {
            (Some(_), true) => "version 2",
            (Some(_), false) => "version 2, some controllers in version 1",
            (None, false) => "version 1",
            (None, true) => "none",
        }
    }

    fn is_unified(&self, controller: &str) -> bool {
        !self.split.contains_key(controller) && self.unified.is_some()
    }

    /// Whether groups with this controller can be made; tries.
    pub(crate) fn usable(&self, controller: &str) -> Result<(), String> {
        let root = self.split.get(controller).or(self.unified.as_ref());
        let root = root.ok_or_else(|| format!("there is no {controller} controller"))?;
        let parent = self.below(root, "");
        self.make_parent(root).map_err(|e| format!("{}: {e}", parent.display()))?;
        let controllers = fs::read_to_string(parent.join("cgroup.subtree_control"));
        if self.is_unified(controller)
            && !controllers.is_ok_and(|list| list.split_whitespace().any(|c| c == controller))
        {
            return Err(format!(
                "the {controller} controller cannot be used in {}",
                parent.display()
            ));
        }
        Ok(())
    }

    /// Whether swap is counted.
    pub(crate) fn has_swap(&self) -> bool {
        match self.split.get("memory") {
            Some(root) => self.below(root, "").join("memory.memsw.limit_in_bytes").exists(),
            None => self.unified.is_some() && Path::new("/proc/swaps").exists(),
        }
    }

    fn below(&self, root: &Path, name: &str) -> PathBuf {
        let parent = root.join(self.parent.trim_start_matches('/'));
        if name.is_empty() { parent } else { parent.join(name) }
    }

    /// Makes the parent; in version 2 the controllers are switched on, on the way down.
    fn make_parent(&self, root: &Path) -> io::Result<()> {
        let mut at = root.to_owned();
        for part in self.parent.split('/').filter(|p| !p.is_empty()) {
            Self::switch_on(&at);
            at.push(part);
            make_dir(&at)?;
        }
        Self::switch_on(&at);
        Ok(())
    }

    /// What cannot be switched on is seen by [`Hierarchies::usable`].
    fn switch_on(at: &Path) {
        let control = at.join("cgroup.subtree_control");
        if control.exists() {
            for controller in CONTROLLERS {
                let _ = fs::write(&control, format!("+{controller}"));
            }
        }
    }

    /// Makes a tenant's group with its limits. Each limit is read back.
    pub(crate) fn make(
        &self,
        name: &str,
        limits: &Limits,
        machine: &Machine,
    ) -> Result<Vec<CgroupJoin>, String> {
        let mut joins: Vec<CgroupJoin> = Vec::new();
        for (protection, controller) in [
            (Protection::MemoryLimit, "memory"),
            (Protection::PidsLimit, "pids"),
            (Protection::CpuLimit, "cpu"),
        ] {
            if !machine.has(protection) {
                continue;
            }
            let unified = self.is_unified(controller);
            let root = if unified { self.unified.as_ref() } else { self.split.get(controller) };
            let Some(root) = root else { continue };
            let dir = self.below(root, name);
            self.make_parent(root)
                .and_then(|()| make_dir(&dir))
                .map_err(|e| format!("{}: {e}", dir.display()))?;
            let settings =
                settings(controller, unified, limits, machine.has(Protection::SwapLimit));
            for (file, value) in settings {
                set(&dir.join(file), &value)?;
            }
            let procs = dir.join("cgroup.procs").to_string_lossy().into_owned();
            if !joins.iter().any(|j| j.procs == procs) {
                let controller = if unified { String::new() } else { controller.to_owned() };
                let path = format!("{}/{name}", self.parent);
                joins.push(CgroupJoin { procs, path, controller });
            }
        }
        Ok(joins)
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        self.split.values().chain(&self.unified)
    }

    /// Removes a group that nobody is in; whether it is gone.
    pub(crate) fn remove(&self, name: &str) -> bool {
        self.roots().fold(true, |gone, root| match fs::remove_dir(self.below(root, name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => false,
            _ => gone,
        })
    }

    /// Removes what supervisors that are gone have left.
    pub(crate) fn sweep(&self) {
        for root in self.roots() {
            let Ok(entries) = fs::read_dir(self.below(root, "")) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let owner = name
                    .to_string_lossy()
                    .rsplit_once('.')
                    .and_then(|(_, p)| p.parse::<i32>().ok());
                if let Some(pid) = owner
                    && !Path::new(&format!("/proc/{pid}")).exists()
                {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }
}

/// The name of a tenant's group.
pub(crate) fn group_name(tenant: &str) -> String {
    format!("{tenant}.{}", std::process::id())
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The period of CPU quotas, in microseconds.
const PERIOD: u64 = 100_000;

/// Which files of a controller get which values.
fn settings(
    controller: &str,
    unified: bool,
    limits: &Limits,
    swap: bool,
) -> Vec<(&'static str, String)> {
    let count = |n: u32| if n == 0 { "max".to_owned() } else { n.to_string() };
    let memory = limits.memory.0.filter(|m| *m > 0);
    let swap_size = limits.swap.0;
    let quota = u64::from(limits.cpu_quota.0) * PERIOD / 100;
    match (controller, unified) {
        ("memory", true) => {
            let shown = |size: Option<u64>| size.map_or("max".to_owned(), |s| s.to_string());
            let mut all = vec![("memory.max", shown(memory))];
            if swap {
                all.push(("memory.swap.max", shown(swap_size)));
            }
            all
        }
        ("memory", false) => {
            let shown = |size: Option<u64>| size.map_or("-1".to_owned(), |s| s.to_string());
            let both = memory.zip(swap_size).map(|(m, s)| m + s);
            // The sum may not be below the part at any moment: take it away, set the part, set the sum.
            let mut all = Vec::new();
            if swap {
                all.push(("memory.memsw.limit_in_bytes", "-1".to_owned()));
            }
            all.push(("memory.limit_in_bytes", shown(memory)));
            if swap {
                all.push(("memory.memsw.limit_in_bytes", shown(both)));
            }
            all
        }
        ("pids", _) => vec![("pids.max", count(limits.pids.0))],
        ("cpu", true) => vec![
            ("cpu.weight", limits.cpu_share.0.to_string()),
            (
                "cpu.max",
                if quota == 0 { format!("max {PERIOD}") } else { format!("{quota} {PERIOD}") },
            ),
        ],
        ("cpu", false) => {
            // 1024 is version 1's usual share, 100 version 2's usual weight.
            let shares = (u64::from(limits.cpu_share.0) * 1024 / 100).max(2);
            vec![
                ("cpu.shares", shares.to_string()),
                ("cpu.cfs_quota_us", if quota == 0 { "-1".to_owned() } else { quota.to_string() }),
            ]
        }
        _ => Vec::new(),
    }
}

/// Writes a setting and reads it back: the kernel rounds memory to pages, and says large numbers for "no limit".
fn set(path: &Path, value: &str) -> Result<(), String> {
    let shown = path.display();
    // Without the quota file the kernel has no quotas: nothing to take away.
    if !path.exists() && matches!(value, "-1" | "max") {
        return Ok(());
    }
    fs::write(path, value).map_err(|e| format!("{shown}: {value} cannot be set: {e}"))?;
    let got = fs::read_to_string(path).map_err(|e| format!("{shown}: {e}"))?;
    let got = got.trim();
    if got == value {
        return Ok(());
    }
    let numbers = (value.parse::<u64>(), got.parse::<u64>());
    match numbers {
        (Ok(wanted), Ok(got)) if got <= wanted && wanted - got < 65_536 => Ok(()),
        (Err(_), _) if matches!(value, "-1" | "max") => Ok(()),
        _ => Err(format!("{shown}: {value} was set, and it says {got}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
34 30 0:30 / /no/such/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn limits() -> Limits {
        let text = "memory = '64M'\nswap = '16M'\npids = 7\ncpu_share = 50\ncpu_quota = 150";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn version_1_is_found() {
        let found = Hierarchies::parse(HYBRID, "/vivarium");
        assert_eq!(found.version(), "version 1");
        assert_eq!(found.split["cpu"], Path::new("/sys/fs/cgroup/cpu"));
        assert!(!found.is_unified("memory"));
        assert!(Hierarchies::parse("", "/v").is_empty());
    }

    #[test]
    fn version_1_is_told_in_its_own_words() {
        let say = |c: &str| settings(c, false, &limits(), true);
        assert_eq!(say("pids"), [("pids.max", "7".to_owned())]);
        assert_eq!(
            say("cpu"),
            [("cpu.shares", "512".to_owned()), ("cpu.cfs_quota_us", "150000".to_owned())]
        );
        let memory = say("memory");
        assert_eq!(memory.last().unwrap().1, (80u64 << 20).to_string(), "memory and swap together");
        assert_eq!(memory[1].1, (64u64 << 20).to_string());
    }

    /// A directory in the place of a hierarchy: what is written where.
    #[test]
    fn version_2_groups_are_made() {
        let root = std::env::temp_dir().join(format!("viv-cgroup2-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let group = root.join("vivarium/alice.1");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.join("cgroup.controllers"), "cpu memory pids").unwrap();
        for file in ["memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cpu.max"] {
            fs::write(group.join(file), "").unwrap();
        }
        let mountinfo = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.display());
        let found = Hierarchies::parse(&mountinfo, "/vivarium");
        assert_eq!(found.version(), "version 2");
        let joins = found.make("alice.1", &limits(), &Machine::without(&[])).unwrap();
        assert_eq!(joins.len(), 1, "one group for all controllers");
        assert_eq!(joins[0].path, "/vivarium/alice.1");
        let said = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(said("memory.max"), (64 << 20).to_string());
        assert_eq!(said("memory.swap.max"), (16 << 20).to_string());
        assert_eq!((said("pids.max").as_str(), said("cpu.weight").as_str()), ("7", "50"));
        assert_eq!(said("cpu.max"), "150000 100000");
        let without = Machine::without(&[Protection::MemoryLimit, Protection::PidsLimit]);
        fs::write(group.join("pids.max"), "untouched").unwrap();
        found.make("alice.1", &limits(), &without).unwrap();
        assert_eq!(said("pids.max"), "untouched", "what is not there is not set");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn unlimited_is_said_too() {
        let none: Limits =
            toml::from_str("memory = 'unlimited'\nswap = 'unlimited'\npids = 0").unwrap();
        assert_eq!(settings("memory", true, &none, true)[0].1, "max");
        assert_eq!(
            settings("memory", false, &none, false),
            [("memory.limit_in_bytes", "-1".into())]
        );
        assert_eq!(settings("pids", true, &none, true)[0].1, "max");
    }
}
