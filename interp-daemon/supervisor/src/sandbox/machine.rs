//! Which protections this machine, and this supervisor's rights, have.

use std::collections::BTreeMap;
use std::path::Path;

use super::cgroup::Hierarchies;
use super::protection::Protection;
use crate::sys::probe;

/// Each protection that is missing, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    missing: BTreeMap<Protection, String>,
    pub(crate) cgroups: Hierarchies,
    /// 0: none.
    pub(crate) landlock_abi: i32,
    /// Which file below `/proc/self/attr` AppArmor reads.
    pub(crate) apparmor_attr: Option<&'static str>,
}

/// Landlock's version that has a feature first.
pub(crate) const LANDLOCK_NETWORK: i32 = 4;
pub(crate) const LANDLOCK_SCOPE: i32 = 6;

impl Machine {
    /// Looks. Takes some milliseconds and a few short-lived children, which try what is to be known.
    pub(crate) fn probe(cgroup: &str) -> Self {
        let mut machine = Self::default();
        if !rustix::process::geteuid().is_root() {
            machine.lack(Protection::User, "vivariumd is not root: it can become nobody else");
        }
        machine.namespaces();
        machine.cgroups(cgroup);
        machine.landlock_abi = probe::landlock_abi();
        machine.landlock();
        if !probe::has_seccomp() {
            machine.lack(Protection::Seccomp, "the kernel has no seccomp filters");
        }
        if !probe::has_keyrings() {
            machine.lack(Protection::Keyring, "the kernel has no key store, or it is closed to us");
        }
        machine.labels();
        machine
    }

    fn lack(&mut self, protection: Protection, why: impl Into<String>) {
        self.missing.entry(protection).or_insert_with(|| why.into());
    }

    fn namespaces(&mut self) {
        for (protection, flag, name) in [
            (Protection::MountNamespace, libc::CLONE_NEWNS, "mnt"),
            (Protection::PidNamespace, libc::CLONE_NEWPID, "pid"),
            (Protection::IpcNamespace, libc::CLONE_NEWIPC, "ipc"),
            (Protection::UtsNamespace, libc::CLONE_NEWUTS, "uts"),
            (Protection::NetworkNamespace, libc::CLONE_NEWNET, "net"),
            (Protection::CgroupNamespace, libc::CLONE_NEWCGROUP, "cgroup"),
        ] {
            if !Path::new("/proc/self/ns").join(name).exists() {
                self.lack(protection, format!("the kernel has no {name} namespaces"));
            } else if let Err(e) = probe::try_unshare(flag) {
                self.lack(protection, format!("a new {name} namespace is refused: {e}"));
            }
        }
        let mounts = if self.has(Protection::MountNamespace) {
            probe::try_mount().map_err(|e| format!("mounting is refused: {e}"))
        } else {
            Err("there are no mount namespaces".into())
        };
        if let Err(why) = mounts {
            for protection in
                [Protection::PrivateRoot, Protection::PrivateTmp, Protection::PidNamespace]
            {
                self.lack(protection, why.clone());
            }
        }
    }

    fn cgroups(&mut self, parent: &str) {
        if parent.is_empty() {
            self.no_cgroups("`cgroup` in [sandbox] of vivariumd.toml is empty");
            return;
        }
        self.cgroups = Hierarchies::find(Path::new("/proc/self/mountinfo"), parent);
        if self.cgroups.is_empty() {
            self.no_cgroups("no control group hierarchy is mounted");
            return;
        }
        for (protection, controller) in [
            (Protection::MemoryLimit, "memory"),
            (Protection::PidsLimit, "pids"),
            (Protection::CpuLimit, "cpu"),
        ] {
            if let Err(why) = self.cgroups.usable(controller) {
                self.lack(protection, why);
            }
        }
        if !self.has(Protection::MemoryLimit) {
            self.lack(Protection::SwapLimit, "there is no memory controller");
        } else if !self.cgroups.has_swap() {
            self.lack(Protection::SwapLimit, "the kernel does not count swap");
        }
    }

    fn no_cgroups(&mut self, why: &str) {
        for protection in [
            Protection::MemoryLimit,
            Protection::SwapLimit,
            Protection::PidsLimit,
            Protection::CpuLimit,
        ] {
            self.lack(protection, why);
        }
    }

    fn landlock(&mut self) {
        let abi = self.landlock_abi;
        if abi < 1 {
            self.lack(Protection::Landlock, "the kernel has no Landlock, or it is not enabled");
        }
        if abi < LANDLOCK_NETWORK {
            let why = format!("Landlock is of version {abi}; ports need 4 (Linux 6.7)");
            self.lack(Protection::LandlockNetwork, why);
        }
        if abi < LANDLOCK_SCOPE {
            let why = format!("Landlock is of version {abi}; scopes need 6 (Linux 6.12)");
            self.lack(Protection::LandlockScope, why);
        }
    }

    fn labels(&mut self) {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if enabled.is_ok_and(|text| text.trim_end() == "Y") {
            let own = Path::new("/proc/self/attr/apparmor/exec").exists();
            self.apparmor_attr = Some(if own { "apparmor/exec" } else { "exec" });
        } else {
            self.lack(Protection::Apparmor, "AppArmor is not enabled in this kernel");
        }
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            self.lack(Protection::Selinux, "SELinux is not enabled in this kernel");
        }
    }

    /// Whether a protection is there.
    pub(crate) fn has(&self, protection: Protection) -> bool {
        !self.missing.contains_key(&protection)
    }

    /// Why it is not.
    pub(crate) fn why_not(&self, protection: Protection) -> Option<&str> {
        self.missing.get(&protection).map(String::as_str)
    }

    /// A machine that lacks these.
    #[cfg(test)]
    pub(crate) fn without(missing: &[Protection]) -> Self {
        let missing = missing.iter().map(|p| (*p, "a test says so".to_owned())).collect();
        Self { missing, landlock_abi: 7, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_looked_at() {
        let machine = Machine::probe("/vivarium");
        for (protection, ..) in Protection::ALL {
            assert_eq!(machine.has(*protection), machine.why_not(*protection).is_none());
        }
        assert!(machine.has(Protection::NoNewPrivs), "every kernel that we run on has it");
        if !rustix::process::geteuid().is_root() {
            assert!(!machine.has(Protection::User));
        }
    }
}
