//! The protections that there are, by name: for `require = [...]`, for `vivarium check`, for log lines.

use serde::{Deserialize, Serialize};

macro_rules! protections {
    ($($name:ident $key:literal $text:literal;)*) => {
        /// Something that stands between a tenant and everybody else.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[allow(missing_docs)]
        pub(crate) enum Protection { $($name),* }

        impl Protection {
            /// All of them: key and what it is for.
            pub(crate) const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$name, $key, $text)),*];
        }
    };
}

protections! {
    User "user" "runs as its own user, with nothing left to go back";
    NoNewPrivs "no_new_privs" "set-uid programs and file capabilities give nothing";
    Capabilities "capabilities" "no capability in any set, none in the bounding set";
    MountNamespace "mount_namespace" "mounts of its own";
    PrivateRoot "private_root" "sees its own files and the system's programs, nothing else";
    PrivateTmp "private_tmp" "/tmp and /dev/shm of its own, of a limited size";
    PidNamespace "pid_namespace" "sees and reaches no process but its own";
    IpcNamespace "ipc_namespace" "System V IPC and message queues of its own";
    UtsNamespace "uts_namespace" "a host name of its own";
    NetworkNamespace "network_namespace" "no network but what its file says";
    CgroupNamespace "cgroup_namespace" "does not see the machine's control groups";
    MemoryLimit "memory_limit" "memory of all its processes together";
    SwapLimit "swap_limit" "swap of all its processes together";
    PidsLimit "pids_limit" "number of its processes and threads";
    CpuLimit "cpu_limit" "share and quota of the CPUs";
    Landlock "landlock" "files beyond its rules stay closed, whatever their modes";
    LandlockNetwork "landlock_network" "TCP ports that its file does not name stay closed";
    LandlockScope "landlock_scope" "signals and abstract sockets end at its border";
    Seccomp "seccomp" "system calls that it has no need of are refused";
    Keyring "keyring" "a session keyring of its own";
    Apparmor "apparmor" "the AppArmor profile that its file names";
    Selinux "selinux" "the SELinux context that its file names";
}

impl Protection {
    fn row(self) -> &'static (Self, &'static str, &'static str) {
        Self::ALL.get(self as usize).unwrap_or(&Self::ALL[0])
    }

    /// Its name in files.
    pub(crate) fn key(self) -> &'static str {
        self.row().1
    }
}

impl std::fmt::Display for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.key())
    }
}

impl TryFrom<String> for Protection {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        Self::ALL.iter().find(|(_, key, _)| *key == raw).map(|(p, ..)| *p).ok_or_else(|| {
            let keys: Vec<&str> = Self::ALL.iter().map(|(_, key, _)| *key).collect();
            format!("there is no protection {raw:?}: there are {}", keys.join(", "))
        })
    }
}

impl From<Protection> for String {
    fn from(protection: Protection) -> Self {
        protection.key().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_enum() {
        for (protection, key, text) in Protection::ALL {
            assert!(protection.key() == *key && !text.is_empty());
            assert_eq!(Protection::try_from((*key).to_owned()), Ok(*protection));
        }
    }
}
