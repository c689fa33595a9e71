//! The helper: a fresh, single-threaded process that becomes a tenant's Python, one step after the other.
//!
//! The order is that of the design: session, descriptors and environment (done before it was executed), key store,
//! namespaces, root, control groups, limits, groups, user, capabilities, `no_new_privs`, not dumpable, Landlock, seccomp.
//! Each step is read back. The first that fails ends it, with a [`Complaint`] on the report pipe and nothing executed.
//! It trusts the spec, which came from the supervisor, and nothing that the tenant's user could have made.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use vivarium_protocol::codec;

use super::{CgroupJoin, Complaint, LARGEST_SPEC, LandlockSpec, Spec, filter, root, ruleset};
use crate::sys::exec::{self, HELPER_REPORT_FD, HELPER_SPEC_FD};
use crate::sys::{self, probe, sandbox};

/// What the command line says to become the helper.
pub(crate) const ARGUMENT: &str = "--sandbox-exec";

/// The first byte of a report that is a [`Complaint`].
pub(crate) const COMPLAINT: u8 = 0xff;

/// Runs the helper; returns only if something failed.
pub(crate) fn main() -> ExitCode {
    let Ok(report) = sys::inherited(HELPER_REPORT_FD) else { return ExitCode::from(127) };
    let complaint = match sys::inherited(HELPER_SPEC_FD) {
        Ok(spec) => match read_spec(spec).and_then(|spec| become_tenant(&spec)) {
            Ok(never) => match never {},
            Err(complaint) => complaint,
        },
        Err(e) => Complaint { step: "reading the plan".into(), why: e.to_string() },
    };
    let mut bytes = vec![COMPLAINT];
    if codec::encode_into(&complaint, &mut bytes).is_ok() {
        let _ = rustix::io::write(&report, &bytes);
    }
    ExitCode::from(127)
}

fn read_spec(fd: OwnedFd) -> Result<Spec, Complaint> {
    let failed = at("reading the plan");
    let mut file = File::from(fd);
    let mut bytes = Vec::new();
    file.rewind().map_err(&failed)?;
    file.take(LARGEST_SPEC).read_to_end(&mut bytes).map_err(&failed)?;
    codec::decode(&bytes).map_err(at("reading the plan"))
}

/// A step's name, for the errors in it.
fn at<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> Complaint {
    move |e| Complaint { step: step.to_owned(), why: e.to_string() }
}

fn wrong(step: &'static str, why: impl Into<String>) -> Complaint {
    Complaint { step: step.to_owned(), why: why.into() }
}

/// Nothing is this: success does not return.
enum Never {}

fn become_tenant(spec: &Spec) -> Result<Never, Complaint> {
    let uid = spec.identity.uid;
    if uid == 0 || spec.identity.gid == 0 || spec.identity.groups.contains(&0) {
        return Err(wrong("looking at the user", "it is root: never"));
    }
    if spec.pid_namespace && std::process::id() != 1 {
        return Err(wrong("checking the PID namespace", "this is not its first process"));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if spec.keyring {
        sandbox::own_session_keyring().map_err(at("leaving the session keyring"))?;
    }
    // Their files are out of reach once the root has changed.
    let mut groups = open_cgroups(&spec.cgroups)?;
    namespaces(spec)?;
    root::enter(&spec.root, spec.pid_namespace).map_err(at("making the root directory"))?;
    join_cgroups(spec, &mut groups)?;
    drop(groups);
    for (resource, most) in &spec.rlimits {
        sandbox::limit(*resource, *most).map_err(at("setting the resource limits"))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(spec.umask & 0o777));

    exec::drop_bounding_set().map_err(at("dropping the capability bounding set"))?;
    exec::change_identity(&spec.identity)
        .map_err(|f| Complaint { step: f.step.to_string(), why: f.errno.to_string() })?;
    exec::drop_capabilities()
        .map_err(|f| Complaint { step: f.step.to_string(), why: f.errno.to_string() })?;
    if rustix::thread::set_thread_res_uid(
        rustix::process::Uid::ROOT,
        rustix::process::Uid::ROOT,
        rustix::process::Uid::ROOT,
    )
    .is_ok()
    {
        return Err(wrong("checking that there is no way back", "it could become root again"));
    }
    label(spec)?;
    rustix::thread::set_no_new_privs(true).map_err(at("setting no_new_privs"))?;
    if !rustix::thread::no_new_privs().map_err(at("reading no_new_privs back"))? {
        return Err(wrong("reading no_new_privs back", "it is not set"));
    }
    sandbox::not_dumpable().map_err(at("becoming undumpable"))?;

    home(spec)?;
    // As the tenant's user, in its root: what it cannot reach must not be reached for it.
    readable(&spec.package_dir, true)?;
    readable(&spec.extension, false)?;
    if let Some(rules) = &spec.landlock {
        landlock(rules)?;
    }
    let (program, arguments, environment) = strings(spec)?;
    let pointers = |all: &[CString]| {
        let mut pointers: Vec<*const libc::c_char> = all.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (argv, envp) = (pointers(&arguments), pointers(&environment));
    if !spec.seccomp.is_empty() {
        filter::install(&spec.seccomp).map_err(at("installing the seccomp filters"))?;
        if sandbox::seccomp_mode().map_err(at("reading the seccomp mode back"))? != 2 {
            return Err(wrong("reading the seccomp mode back", "no filter holds"));
        }
    }
    let error = sandbox::exec(&program, &argv, &envp);
    Err(Complaint {
        step: format!("executing {}", spec.program),
        why: format!("{error}; `python` and what it needs must be in the tenant's root"),
    })
}

fn strings(spec: &Spec) -> Result<(CString, Vec<CString>, Vec<CString>), Complaint> {
    let failed = at("reading the plan");
    let program = CString::new(spec.program.as_str()).map_err(&failed)?;
    let mut arguments = vec![program.clone()];
    for argument in &spec.arguments {
        arguments.push(CString::new(argument.as_str()).map_err(&failed)?);
    }
    let environment: Result<Vec<CString>, _> =
        spec.environment.iter().map(|entry| CString::new(entry.clone())).collect();
    Ok((program, arguments, environment.map_err(failed)?))
}

// ---- namespaces ----

/// Each flag with the file that names its namespace.
const NAMESPACES: [(i32, &str); 5] = [
    (libc::CLONE_NEWNS, "mnt"),
    (libc::CLONE_NEWIPC, "ipc"),
    (libc::CLONE_NEWUTS, "uts"),
    (libc::CLONE_NEWNET, "net"),
    (libc::CLONE_NEWCGROUP, "cgroup"),
];

/// Leaves the namespaces of `flags`; reads back that each is another one now.
fn leave(flags: i32) -> Result<(), Complaint> {
    let step = "making namespaces";
    let which = |name: &str| std::fs::read_link(Path::new("/proc/self/ns").join(name));
    let concerned = NAMESPACES.iter().filter(|(flag, _)| flags & flag != 0);
    let mut before = Vec::new();
    for (_, name) in concerned {
        before.push((*name, which(name).map_err(at(step))?));
    }
    if flags != 0 {
        sandbox::unshare(flags).map_err(at(step))?;
    }
    for (name, old) in before {
        if which(name).map_err(at(step))? == old {
            return Err(wrong(step, format!("the {name} namespace is still the old one")));
        }
    }
    Ok(())
}

fn namespaces(spec: &Spec) -> Result<(), Complaint> {
    // Its own control groups become the root of what it sees of them: after joining them.
    leave(spec.unshare & !libc::CLONE_NEWCGROUP)?;
    if spec.loopback {
        sandbox::loopback_up().map_err(at("bringing the loopback interface up"))?;
    }
    if let Some(name) = &spec.host_name {
        rustix::system::sethostname(name.as_bytes()).map_err(at("setting the host name"))?;
    }
    Ok(())
}

// ---- control groups ----

fn open_cgroups(joins: &[CgroupJoin]) -> Result<Vec<File>, Complaint> {
    joins
        .iter()
        .map(|join| {
            OpenOptions::new().write(true).open(&join.procs).map_err(|e| Complaint {
                step: "opening the control group".into(),
                why: format!("{}: {e}", join.procs),
            })
        })
        .collect()
}

fn join_cgroups(spec: &Spec, groups: &mut [File]) -> Result<(), Complaint> {
    let step = "joining the control group";
    for (file, join) in groups.iter_mut().zip(&spec.cgroups) {
        file.write_all(b"0").map_err(|e| wrong(step, format!("{}: {e}", join.procs)))?;
    }
    if !spec.cgroups.is_empty() {
        let text = std::fs::read_to_string("/proc/self/cgroup").map_err(at(step))?;
        for join in &spec.cgroups {
            if !is_member(&text, join) {
                return Err(wrong(step, format!("it is not in {}", join.path)));
            }
        }
    }
    leave(spec.unshare & libc::CLONE_NEWCGROUP)
}

/// Whether a `/proc/self/cgroup` says so.
fn is_member(text: &str, join: &CgroupJoin) -> bool {
    text.lines().any(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next(), fields.next(), fields.next());
        controllers.is_some_and(|list| list.split(',').any(|c| c == join.controller))
            && path.is_some_and(|path| path.ends_with(&join.path))
    })
}

// ---- the rest ----

fn label(spec: &Spec) -> Result<(), Complaint> {
    let Some((file, text)) = &spec.label else { return Ok(()) };
    let path = Path::new("/proc/self/attr").join(file);
    std::fs::write(&path, text).map_err(|e| Complaint {
        step: "asking for the security label".into(),
        why: format!("{text:?} to {}: {e}", path.display()),
    })
}

fn home(spec: &Spec) -> Result<(), Complaint> {
    match &spec.home {
        Some(home) => rustix::process::chdir(home.as_str()).map_err(|e| Complaint {
            step: "entering the home directory".into(),
            why: format!("{home}: {e}"),
        }),
        None => rustix::process::chdir(c"/").map_err(at("entering /")),
    }
}

fn readable(path: &str, is_dir: bool) -> Result<(), Complaint> {
    let failed = |e: &dyn std::fmt::Display| Complaint {
        step: if is_dir {
            "reading the Python package directory".into()
        } else {
            "reading the worker extension".into()
        },
        why: format!("{path}: {e}: make it and all above it readable for everybody"),
    };
    let read = if is_dir { std::fs::read_dir(path).map(drop) } else { File::open(path).map(drop) };
    read.map_err(|e| failed(&e))
}

fn landlock(spec: &LandlockSpec) -> Result<(), Complaint> {
    let step = "confining it by Landlock";
    ruleset::confine(spec, probe::landlock_abi()).map_err(at(step))?;
    // The root directory itself is in no rule: it must be closed now, whatever its mode says.
    let closed = std::fs::read_dir("/").is_err_and(|e| e.raw_os_error() == Some(libc::EACCES));
    if closed {
        Ok(())
    } else {
        Err(wrong(step, "a directory that no rule names can still be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::RootSpec;

    #[test]
    fn membership_is_read_back() {
        let join = |controller: &str| CgroupJoin {
            procs: String::new(),
            path: "/vivarium/a.7".into(),
            controller: controller.into(),
        };
        let text = "4:memory:/vivarium/a.7\n1:cpu,cpuacct:/\n0::/system/vivarium/a.7\n";
        assert!(is_member(text, &join("memory")));
        assert!(is_member(text, &join("")));
        assert!(!is_member(text, &join("cpu")));
        assert!(!is_member(text, &join("pids")));
        assert!(!is_member("4:memory:/vivarium/a.77\n", &join("memory")));
    }

    #[test]
    fn root_is_refused_before_anything_is_done() {
        let spec = Spec {
            program: "/bin/false".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            identity: exec::Identity { uid: 1000, gid: 1000, groups: vec![1000, 0] },
            umask: 0o077,
            home: None,
            package_dir: "/".into(),
            extension: "/".into(),
            unshare: 0,
            pid_namespace: true,
            loopback: false,
            host_name: None,
            root: RootSpec::Host { mounts: false, tmp: None },
            cgroups: Vec::new(),
            rlimits: Vec::new(),
            keyring: false,
            landlock: None,
            seccomp: Vec::new(),
            label: None,
        };
        let Err(complaint) = become_tenant(&spec);
        assert!(complaint.why.contains("root"), "{complaint:?}");
        let mut other = spec;
        other.identity.groups.pop();
        let Err(complaint) = become_tenant(&other);
        assert!(complaint.step.contains("PID namespace"), "{complaint:?}");
    }
}
