//! From a tenant's file and a machine to a [`Spec`]: which protections are wanted, which are missing, what the helper
//! is to do.

use std::path::Path;

use super::machine::Machine;
use super::protection::Protection;
use super::rules::{self, RawRule, Rule, Variables};
use super::{CgroupJoin, LandlockSpec, RootSpec, Spec, TmpSpec};
use crate::spawn::Launch;
use crate::tenants::file::{File, Limits, Namespace, NetworkMode, Profile, Root};
use crate::tenants::{Declared, Tenant};

/// A protection that is wanted and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) protection: Protection,
    pub(crate) why: String,
}

/// What a tenant's file asks for.
pub(crate) fn wanted(file: &File) -> Vec<Protection> {
    let mut all = vec![Protection::User, Protection::NoNewPrivs, Protection::Capabilities];
    let has = |namespace: Namespace| file.sandbox.namespaces.contains(&namespace);
    let ports = file.network.connect.is_some() || file.network.bind.is_some();
    let limits = &file.limits;
    let optional = [
        (has(Namespace::Mount), Protection::MountNamespace),
        (file.files.root != Root::Host, Protection::PrivateRoot),
        (file.files.private_tmp && has(Namespace::Mount), Protection::PrivateTmp),
        (has(Namespace::Pid), Protection::PidNamespace),
        (has(Namespace::Ipc), Protection::IpcNamespace),
        (has(Namespace::Uts), Protection::UtsNamespace),
        (has(Namespace::Cgroup), Protection::CgroupNamespace),
        (is_apart(file.network.mode), Protection::NetworkNamespace),
        (limits.memory.0.is_some(), Protection::MemoryLimit),
        (limits.memory.0.is_some() && limits.swap.0.is_some(), Protection::SwapLimit),
        (limits.pids.0 > 0, Protection::PidsLimit),
        (true, Protection::CpuLimit),
        (file.sandbox.landlock, Protection::Landlock),
        (
            file.sandbox.landlock && (ports || file.network.mode == NetworkMode::Outbound),
            Protection::LandlockNetwork,
        ),
        (file.sandbox.landlock, Protection::LandlockScope),
        (file.sandbox.seccomp != Profile::Off, Protection::Seccomp),
        (true, Protection::Keyring),
        (file.sandbox.apparmor_profile.is_some(), Protection::Apparmor),
        (file.sandbox.selinux_context.is_some(), Protection::Selinux),
    ];
    all.extend(optional.into_iter().filter(|(wanted, _)| *wanted).map(|(_, p)| p));
    all
}

fn is_apart(mode: NetworkMode) -> bool {
    matches!(mode, NetworkMode::None | NetworkMode::Loopback)
}

/// What of it this machine lacks; an error if the tenant must not run without.
pub(crate) fn missing(file: &File, machine: &Machine) -> Result<Vec<Missing>, String> {
    let wanted = wanted(file);
    for required in &file.require {
        if !wanted.contains(required) {
            return Err(format!(
                "`require` names {required}, which the rest of the file turns off: mend one of the two"
            ));
        }
    }
    // A network that is to be denied, a label that is to be worn, another user: never without.
    let never_without =
        [Protection::User, Protection::NetworkNamespace, Protection::Apparmor, Protection::Selinux];
    let mut missing = Vec::new();
    for protection in wanted {
        let Some(why) = machine.why_not(protection) else { continue };
        if file.require.contains(&protection) {
            return Err(format!("{protection} is required and is not here: {why}"));
        }
        if never_without.contains(&protection) {
            return Err(format!("{protection} is not here, and its file asks for it: {why}"));
        }
        missing.push(Missing { protection, why: why.to_owned() });
    }
    Ok(missing)
}

/// What the workers of a tenant are started with, apart from what differs between them.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) spec: Spec,
    pub(crate) missing: Vec<Missing>,
}

/// What the supervisor has made for the tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    pub(crate) cgroups: Vec<CgroupJoin>,
    pub(crate) tmp: Option<TmpSpec>,
    /// Where a private root is put together.
    pub(crate) root_at: String,
}

/// The files whose use each variable of the rules stands for.
fn variables(declared: &Declared, launch: &Launch) -> Variables {
    let file = &declared.file;
    let paths = |list: &[crate::config::AbsolutePath]| -> Vec<String> {
        list.iter().map(|p| p.get().clone()).collect()
    };
    let mut all = Variables::new();
    all.insert("home", declared.home.clone().into_iter().collect());
    all.insert("python", python_prefix(file.python.get()).into_iter().collect());
    all.insert("package_dir", vec![launch.package_dir.clone()]);
    all.insert("extension", vec![launch.extension.clone()]);
    all.insert("document_roots", file.document_roots.0.clone());
    all.insert("read_only", paths(&file.files.read_only));
    all.insert("read_write", paths(&file.files.read_write));
    all
}

/// What has to be there for a Python: the parent of its `bin`, or the file itself; nothing for the system's own.
pub(crate) fn python_prefix(python: &str) -> Option<String> {
    let path = Path::new(python);
    let bin = path.parent()?;
    let prefix = match bin.file_name() {
        Some(name) if name == "bin" => bin.parent()?,
        _ => path,
    };
    let covered = ["/usr", "/bin", "/"].iter().any(|p| prefix == Path::new(p));
    if covered { None } else { Some(prefix.to_string_lossy().into_owned()) }
}

fn arguments(launch: &Launch) -> Vec<String> {
    let optimize = launch.optimize.then_some("-OO");
    optimize.into_iter().chain(["-s", "-m", "vivarium.worker"]).map(str::to_owned).collect()
}

fn rlimits(limits: &Limits) -> Vec<(u32, u64)> {
    let mut all: Vec<(u32, u64)> = Vec::new();
    if let Some(core) = limits.core.0 {
        all.push((libc::RLIMIT_CORE, core));
    }
    if let Some(size) = limits.file_size.0.filter(|s| *s > 0) {
        all.push((libc::RLIMIT_FSIZE, size));
    }
    if limits.open_files.0 > 0 {
        all.push((libc::RLIMIT_NOFILE, limits.open_files.0.into()));
    }
    // Where there is no control group this at least is there: of the user, not of the tenant.
    if limits.pids.0 > 0 {
        all.push((libc::RLIMIT_NPROC, limits.pids.0.into()));
    }
    all.push((libc::RLIMIT_MEMLOCK, 64 << 10));
    all.push((libc::RLIMIT_SIGPENDING, 1024));
    all.push((libc::RLIMIT_MSGQUEUE, 800 << 10));
    all
}

/// Rules for Landlock: those of the files, and the file system in memory that stands for `/tmp`.
fn landlock_rules(rules: &[Rule], private_tmp: bool) -> Vec<Rule> {
    rules
        .iter()
        .filter(|rule| {
            // The machine's `/tmp` is everybody's.
            let tmp = ["/tmp", "/dev/shm"].contains(&rule.path.as_str());
            !rule.own || !tmp || private_tmp
        })
        .cloned()
        .collect()
}

/// Makes the plan. `program` and `environment` are the worker's; `seccomp` is the compiled profile.
pub(crate) fn make(
    tenant: &Tenant,
    declared: &Declared,
    launch: &Launch,
    machine: &Machine,
    raw: &[RawRule],
    seccomp: &[super::filter::Program],
    made: Made,
) -> Result<Prepared, String> {
    let file = &declared.file;
    let missing = missing(file, machine)?;
    let asked = wanted(file);
    let is = |protection: Protection| asked.contains(&protection) && machine.has(protection);

    let rules = rules::fill(raw, &variables(declared, launch));
    let mounts = is(Protection::MountNamespace);
    let tmp = made.tmp.filter(|_| is(Protection::PrivateTmp));
    let root = match &file.files.root {
        Root::Private if is(Protection::PrivateRoot) => RootSpec::Private {
            at: made.root_at,
            rules: rules.clone(),
            tmp: tmp.clone(),
            passwd: passwd(tenant, declared),
            group: group(declared),
        },
        Root::Directory(path) if is(Protection::PrivateRoot) => RootSpec::Directory {
            path: path.clone(),
            tmp: tmp.clone(),
            rules: rules.iter().filter(|r| is_its_own(r, declared, launch)).cloned().collect(),
        },
        // A jail that cannot be entered is no jail to do without.
        Root::Directory(path) => {
            return Err(format!("root = {path:?} needs mounts: they are refused"));
        }
        Root::Private | Root::Host => RootSpec::Host { mounts, tmp: tmp.clone() },
    };
    let unshare = [
        (Protection::MountNamespace, libc::CLONE_NEWNS),
        (Protection::IpcNamespace, libc::CLONE_NEWIPC),
        (Protection::UtsNamespace, libc::CLONE_NEWUTS),
        (Protection::NetworkNamespace, libc::CLONE_NEWNET),
        (Protection::CgroupNamespace, libc::CLONE_NEWCGROUP),
    ]
    .into_iter()
    .filter(|(protection, _)| is(*protection))
    .fold(0, |flags, (_, flag)| flags | flag);
    let ports = |list: &Option<Vec<crate::tenants::file::Port>>| {
        list.as_ref().map(|l| l.iter().map(|p| p.0).collect::<Vec<u16>>())
    };
    let landlock = is(Protection::Landlock).then(|| {
        let network = machine.has(Protection::LandlockNetwork);
        // Outbound means that nobody connects to it.
        let bind = match (file.network.mode, ports(&file.network.bind)) {
            (_, Some(list)) => Some(list),
            (NetworkMode::Outbound, None) => Some(Vec::new()),
            _ => None,
        };
        LandlockSpec {
            rules: landlock_rules(&rules, tmp.is_some()),
            connect: ports(&file.network.connect).filter(|_| network),
            bind: bind.filter(|_| network),
            scope: is(Protection::LandlockScope),
        }
    });
    let label = match (&file.sandbox.apparmor_profile, &file.sandbox.selinux_context) {
        (Some(_), Some(_)) => {
            return Err("a tenant has an AppArmor profile or a SELinux context, not both".into());
        }
        (Some(profile), None) => {
            machine.apparmor_attr.map(|attr| (attr.to_owned(), format!("exec {}", profile.get())))
        }
        (None, Some(context)) => Some(("exec".to_owned(), context.get().clone())),
        (None, None) => None,
    };
    let spec = Spec {
        program: file.python.get().clone(),
        arguments: arguments(launch),
        environment: Vec::new(),
        identity: declared.identity.clone(),
        umask: file.umask.0,
        home: declared.home.clone(),
        package_dir: launch.package_dir.clone(),
        extension: launch.extension.clone(),
        unshare,
        pid_namespace: is(Protection::PidNamespace),
        loopback: file.network.mode == NetworkMode::Loopback && is(Protection::NetworkNamespace),
        host_name: is(Protection::UtsNamespace).then(|| tenant.name.replace('~', "-")),
        root,
        cgroups: made.cgroups,
        rlimits: rlimits(&file.limits),
        keyring: machine.has(Protection::Keyring),
        landlock,
        seccomp: if is(Protection::Seccomp) { seccomp.to_vec() } else { Vec::new() },
        label,
    };
    Ok(Prepared { spec, missing })
}

/// A rule that comes from the tenant's file, not from the system's list.
fn is_its_own(rule: &Rule, declared: &Declared, launch: &Launch) -> bool {
    let variables = variables(declared, launch);
    variables.values().flatten().any(|path| path.trim_end_matches('/') == rule.path)
}

fn passwd(tenant: &Tenant, declared: &Declared) -> String {
    let (user, identity) = (&declared.user, &declared.identity);
    let home = tenant.base.home.as_ref().map_or("/", |h| h.get().as_str());
    format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n{}:x:{}:{}::{home}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        user.name, identity.uid, identity.gid
    )
}

fn group(declared: &Declared) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("root:x:0:\n");
    let _ = writeln!(text, "{}:x:{}:", declared.group_name, declared.identity.gid);
    for (name, gid) in declared.file.groups.iter().zip(declared.identity.groups.iter().skip(1)) {
        let _ = writeln!(text, "{}:x:{gid}:{}", name.get(), declared.user.name);
    }
    text.push_str("nogroup:x:65534:\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::users::User;

    fn tenant(text: &str) -> Tenant {
        let file: File = crate::config::parse(Path::new("/t"), text).unwrap();
        let user = User { name: "alice".into(), uid: 1500, gid: 1501, home: "/nonexistent".into() };
        crate::tenants::make("alice", file, user, 1000, Path::new("/t")).unwrap()
    }

    fn launch() -> Launch {
        Launch { package_dir: "/p".into(), extension: "/e.so".into(), optimize: false, httpd: None }
    }

    fn planned(text: &str, machine: &Machine) -> Result<Prepared, String> {
        let tenant = tenant(text);
        let declared = tenant.declared.clone().unwrap();
        let raw = rules::load(Path::new("/nowhere")).unwrap();
        let tmp = Some(TmpSpec { tmp: "/m/tmp".into(), shm: "/m/shm".into() });
        let made = Made { cgroups: Vec::new(), tmp, root_at: "/m/root".into() };
        make(&tenant, &declared, &launch(), machine, &raw, &[Vec::new()], made)
    }

    #[test]
    fn a_user_alone_gets_everything() {
        let all = Machine::without(&[]);
        let plan = planned("user = 'alice'", &all).unwrap();
        assert!(plan.missing.is_empty());
        let spec = plan.spec;
        assert!(spec.pid_namespace && spec.keyring && spec.landlock.is_some());
        assert!(!spec.seccomp.is_empty() && !spec.loopback);
        for flag in [libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWIPC, libc::CLONE_NEWUTS]
        {
            assert!(spec.unshare & flag != 0);
        }
        assert!(spec.rlimits.contains(&(libc::RLIMIT_CORE, 0)));
        let RootSpec::Private { passwd, rules, tmp, .. } = &spec.root else { panic!("{spec:?}") };
        assert!(passwd.contains("alice:x:1500:1501:") && !passwd.contains("daemon"));
        assert!(rules.iter().any(|r| r.path == "/usr") && tmp.is_some());
        assert_eq!(spec.home, None, "no home, so it starts in /");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let without = Machine::without(&[Protection::Landlock, Protection::MemoryLimit]);
        let plan = planned("user = 'alice'", &without).unwrap();
        let missing: Vec<Protection> = plan.missing.iter().map(|m| m.protection).collect();
        assert_eq!(missing, [Protection::MemoryLimit, Protection::Landlock]);
        assert!(plan.spec.landlock.is_none());
        let error = planned("user = 'alice'\nrequire = ['landlock']", &without).unwrap_err();
        assert!(error.contains("landlock is required"), "{error}");
        assert!(planned("user = 'alice'\nrequire = ['seccomp']", &without).is_ok());
    }

    #[test]
    fn a_network_is_never_opened_for_want_of_a_namespace() {
        let without = Machine::without(&[Protection::NetworkNamespace]);
        assert!(planned("user = 'alice'", &without).unwrap_err().contains("network_namespace"));
        assert!(planned("user = 'alice'\n[network]\nmode = 'full'", &without).is_ok());
    }

    #[test]
    fn what_is_required_must_be_asked_for() {
        let all = Machine::without(&[]);
        for (what, off) in [
            ("landlock", "[sandbox]\nlandlock = false"),
            ("network_namespace", "[network]\nmode = 'full'"),
            ("apparmor", ""),
        ] {
            let text = format!("user = 'alice'\nrequire = ['{what}']\n{off}");
            let error = planned(&text, &all).unwrap_err();
            assert!(error.contains("turns off"), "{error}");
        }
    }

    #[test]
    fn ports_become_rules() {
        let all = Machine::without(&[]);
        let of = |text: &str| {
            planned(&format!("user = 'alice'\n{text}"), &all).unwrap().spec.landlock.unwrap()
        };
        let outbound = of("[network]\nmode = 'outbound'\nconnect = [443, 5432]");
        assert_eq!((outbound.connect, outbound.bind), (Some(vec![443, 5432]), Some(vec![])));
        let full = of("[network]\nmode = 'full'");
        assert_eq!((full.connect, full.bind), (None, None));
        let open = planned("user = 'alice'\n[network]\nmode = 'full'", &all).unwrap();
        assert_eq!(open.spec.unshare & libc::CLONE_NEWNET, 0);
        let loopback = planned("user = 'alice'\n[network]\nmode = 'loopback'", &all).unwrap();
        assert!(loopback.spec.loopback && loopback.spec.unshare & libc::CLONE_NEWNET != 0);
    }

    #[test]
    fn the_machines_tmp_is_in_no_rule() {
        let text = "user = 'alice'\n[files]\nroot = 'host'\nprivate_tmp = false";
        let plan = planned(text, &Machine::without(&[])).unwrap();
        assert_eq!(plan.spec.root, RootSpec::Host { mounts: true, tmp: None });
        let rules = plan.spec.landlock.unwrap().rules;
        assert!(!rules.iter().any(|r| r.path == "/tmp") && rules.iter().any(|r| r.path == "/proc"));
    }

    #[test]
    fn the_prefix_of_a_python() {
        assert_eq!(python_prefix("/usr/bin/python3"), None);
        assert_eq!(python_prefix("/bin/python3"), None);
        assert_eq!(python_prefix("/srv/venv/bin/python").as_deref(), Some("/srv/venv"));
        assert_eq!(python_prefix("/opt/py").as_deref(), Some("/opt/py"));
    }
}
