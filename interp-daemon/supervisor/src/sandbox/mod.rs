//! What stands between a tenant's Python and everybody else.
//!
//! A declared tenant's worker is forked into a new PID namespace and executes this very program once more, as the
//! *helper* (`vivariumd --sandbox-exec`): a fresh process with one thread that reads a [`Spec`] from a sealed memory
//! file, takes every step of it in order, reads each one back, and executes Python. Whatever fails is reported and
//! nothing is executed.
//!
//! | module | what |
//! |---|---|
//! | [`protection`] | the protections' names |
//! | [`machine`] | which of them this machine has |
//! | [`plan`] | from a tenant to a [`Spec`]: what is wanted, what is missing |
//! | [`rules`], [`filter`] | the files with file rules and system calls, a reason for each line |
//! | [`helper`] | the steps, in order |
//! | [`root`] | a root directory of its own |
//! | [`ruleset`] | Landlock |
//! | [`cgroup`] | control groups, version 2, version 1, or none |
//! | [`shared`] | what the workers of one tenant share: `/tmp`, `/dev/shm`, made in a mount namespace of the supervisor's |

pub(crate) mod cgroup;
pub(crate) mod filter;
pub(crate) mod helper;
pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod protection;
pub(crate) mod root;
pub(crate) mod rules;
pub(crate) mod ruleset;
pub(crate) mod shared;

use serde::{Deserialize, Serialize};

use crate::sys::exec::Identity;
use filter::Program;
use rules::Rule;

/// The most bytes of a spec.
pub(crate) const LARGEST_SPEC: u64 = 2 << 20;

/// Everything that the helper needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The program and its arguments.
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    /// `NAME=value`.
    pub(crate) environment: Vec<Vec<u8>>,
    pub(crate) identity: Identity,
    pub(crate) umask: u32,
    /// Where it starts; `None`: `/`.
    pub(crate) home: Option<String>,
    /// Must be readable once the sandbox is up: the package directory, the extension.
    pub(crate) package_dir: String,
    pub(crate) extension: String,
    /// `CLONE_NEW...`, without the PID namespace, which it has already.
    pub(crate) unshare: i32,
    /// It was forked into a PID namespace.
    pub(crate) pid_namespace: bool,
    /// Bring up the loopback interface of its own network.
    pub(crate) loopback: bool,
    pub(crate) host_name: Option<String>,
    pub(crate) root: RootSpec,
    pub(crate) cgroups: Vec<CgroupJoin>,
    /// (resource, limit).
    pub(crate) rlimits: Vec<(u32, u64)>,
    pub(crate) keyring: bool,
    pub(crate) landlock: Option<LandlockSpec>,
    pub(crate) seccomp: Vec<Program>,
    /// What to write to which file below `/proc/self/attr` before the exec.
    pub(crate) label: Option<(String, String)>,
}

/// What `/` will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RootSpec {
    /// The machine's, with private `/tmp` and `/dev/shm` if they are given and mounts are its own.
    Host { mounts: bool, tmp: Option<TmpSpec> },
    /// Made of the rules.
    Private { at: String, rules: Vec<Rule>, tmp: Option<TmpSpec>, passwd: String, group: String },
    /// This directory.
    Directory { path: String, tmp: Option<TmpSpec>, rules: Vec<Rule> },
}

/// Directories that the tenant's workers share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TmpSpec {
    pub(crate) tmp: String,
    pub(crate) shm: String,
}

/// A control group to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupJoin {
    /// Its `cgroup.procs`.
    pub(crate) procs: String,
    /// What a line of `/proc/self/cgroup` must then end with.
    pub(crate) path: String,
    /// The controller that the line names; empty in version 2.
    pub(crate) controller: String,
}

/// Landlock's rules; files come from the same rules as the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LandlockSpec {
    pub(crate) rules: Vec<Rule>,
    /// Ports that may be connected to; `None`: not handled.
    pub(crate) connect: Option<Vec<u16>>,
    /// Ports that may be bound; `None`: not handled.
    pub(crate) bind: Option<Vec<u16>>,
    /// Keep signals and abstract sockets in.
    pub(crate) scope: bool,
}

/// What the helper says if it cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Complaint {
    /// What it was doing.
    pub(crate) step: String,
    /// What was wrong.
    pub(crate) why: String,
}
