//! Starting one worker: who it runs as, its environment, its descriptors, and what to say when it fails.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vivarium_protocol::codes::{self, Code};
use vivarium_protocol::control::{self, PoolKey};
use vivarium_protocol::{codec, seqpacket};

use crate::config::Tenant;
use crate::log::escape;
use crate::sandbox::plan::Prepared;
use crate::sandbox::{Complaint, helper};
use crate::sys::exec::{self, Failure, Identity, Plan, Sandboxed, Step};
use crate::sys::users::{self, User};

/// The built-in tenant's user, if nobody names another.
const DEFAULT_USER: &str = "vivarium";

/// Why a worker did not come up: the code under which it is logged, and one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartError {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

impl StartError {
    pub(crate) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    fn os(what: &str, error: impl std::fmt::Display) -> Self {
        Self::new(codes::CANNOT_START_WORKER, format!("{what}: {error}"))
    }
}

/// Where the Python side is and whom httpd's children run as: what differs between httpd generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) package_dir: String,
    pub(crate) extension: String,
    /// `python3 -OO`.
    pub(crate) optimize: bool,
    /// httpd's children's uid and gid.
    pub(crate) httpd: Option<(u32, u32)>,
}

/// Who Python runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) name: String,
    home: String,
    /// None: as the supervisor itself.
    identity: Option<Identity>,
}

impl Who {
    /// A declared tenant's user.
    pub(crate) fn declared(name: &str, home: Option<&str>, identity: Identity) -> Self {
        let home = home.unwrap_or("/").to_owned();
        Self { name: name.to_owned(), home, identity: Some(identity) }
    }
}

fn no_user(reason: String) -> StartError {
    StartError::new(codes::NO_USER, reason)
}

fn look_up<T>(found: std::io::Result<Option<T>>, what: &str) -> Result<Option<T>, StartError> {
    found.map_err(|e| no_user(format!("the {what} cannot be looked up: {e}")))
}

/// The user for the built-in tenant: the configured one; else `vivarium` if it exists; else httpd's; without root
/// always ourselves.
pub(crate) fn who(tenant: &Tenant, launch: &Launch, own_uid: u32) -> Result<Who, StartError> {
    choose(tenant, launch, own_uid, DEFAULT_USER)
}

fn choose(
    tenant: &Tenant,
    launch: &Launch,
    own_uid: u32,
    default_user: &str,
) -> Result<Who, StartError> {
    if own_uid != 0 {
        let user = look_up(users::by_uid(own_uid), "supervisor's own user")?;
        let (name, home) = user
            .map_or_else(|| (format!("uid {own_uid}"), "/".into()), |user| (user.name, user.home));
        return Ok(Who { name, home, identity: None });
    }
    let user = match &tenant.user {
        Some(name) => look_up(users::by_name(name.get()), &format!("user {}", name.get()))?
            .ok_or_else(|| {
                no_user(format!(
                    "the user {} does not exist: create it, or name another as `user` in [default]",
                    name.get()
                ))
            })?,
        None => match look_up(users::by_name(default_user), "default user")? {
            Some(user) => user,
            None => httpd_user(launch)?,
        },
    };
    if user.uid == 0 {
        return Err(no_user(format!(
            "Python would run as {}, and never runs as root: create a user `{DEFAULT_USER}`, or name one as `user` in \
             [default]",
            user.name
        )));
    }
    let gid = match &tenant.group {
        Some(group) => look_up(users::group(group.get()), "group")?
            .ok_or_else(|| no_user(format!("the group {} does not exist", group.get())))?,
        None => user.gid,
    };
    let groups = if user.name.starts_with("uid ") {
        vec![gid]
    } else {
        users::groups(&user.name, gid)
            .map_err(|e| no_user(format!("the groups of {} cannot be read: {e}", user.name)))?
    };
    let identity = Some(Identity { uid: user.uid, gid, groups });
    Ok(Who { name: user.name, home: user.home, identity })
}

fn httpd_user(launch: &Launch) -> Result<User, StartError> {
    let Some((uid, gid)) = launch.httpd else {
        return Err(no_user(format!(
            "there is no user to run Python as: create a user `{DEFAULT_USER}`, or name one as `user` in [default]"
        )));
    };
    let known = look_up(users::by_uid(uid), "user of httpd's children")?;
    Ok(known.unwrap_or_else(|| User { name: format!("uid {uid}"), uid, gid, home: "/".into() }))
}

/// One worker's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) key: &'a PoolKey,
    pub(crate) slot: u8,
    pub(crate) epoch: u16,
    /// A start-up packet comes first.
    pub(crate) startup: bool,
}

/// A forked worker, not yet known to run.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// Our end of its control socket.
    pub(crate) control: OwnedFd,
    /// Our end of its output pipe.
    pub(crate) output: OwnedFd,
    /// Our end of the report pipe.
    pub(crate) report: OwnedFd,
}

fn environment(
    tenant: &Tenant,
    launch: &Launch,
    who: &Who,
    place: Place<'_>,
) -> Vec<(String, OsString)> {
    let text = |s: &str| OsString::from(s);
    let home = tenant.home.as_ref().map_or(who.home.as_str(), |h| h.get());
    let mut all: Vec<(String, OsString)> = vec![
        ("PATH".into(), text("/usr/local/bin:/usr/bin:/bin")),
        ("LANG".into(), text("C.UTF-8")),
        ("LC_CTYPE".into(), text("C.UTF-8")),
        ("HOME".into(), text(home)),
        ("USER".into(), text(&who.name)),
        ("LOGNAME".into(), text(&who.name)),
        ("PYTHONPATH".into(), text(&launch.package_dir)),
    ];
    if let Some(zone) = std::env::var_os("TZ") {
        all.push(("TZ".into(), zone));
    }
    for (name, value) in tenant.env.get() {
        let value = if name == "PYTHONPATH" && !value.is_empty() {
            format!("{}:{value}", launch.package_dir)
        } else {
            value.clone()
        };
        all.retain(|(n, _)| n != name);
        all.push((name.clone(), value.into()));
    }
    all.extend([
        (control::ENV_SLOT.into(), text(&place.slot.to_string())),
        (control::ENV_EPOCH.into(), text(&place.epoch.to_string())),
        (control::ENV_EXTENSION.into(), text(&launch.extension)),
        (control::ENV_INTERPRETER.into(), text(&place.key.interpreter)),
        (control::ENV_TENANT.into(), text(&place.key.tenant)),
        (control::ENV_THREADS.into(), text(&tenant.threads.get().to_string())),
    ]);
    if place.startup {
        all.push((control::ENV_STARTUP.into(), text("1")));
    }
    all
}

fn c_string(what: &str, bytes: impl Into<Vec<u8>>) -> Result<CString, StartError> {
    CString::new(bytes).map_err(|_| StartError::os(what, "there is a NUL in it"))
}

/// Workers may open at least this many files where the hard limit allows: one descriptor socket for each httpd child.
const OPEN_FILES: u64 = 8192;

/// Forks a worker. Returns at once: whether it runs is seen by its `Ready`, by its death, and by its report.
pub(crate) fn spawn(
    tenant: &Tenant,
    launch: &Launch,
    who: &Who,
    place: Place<'_>,
    page: &OwnedFd,
    prepared: Option<&Prepared>,
) -> Result<Spawned, StartError> {
    let program = c_string("python", tenant.python.get().as_str())?;
    let package_dir = c_string("the package directory's path", launch.package_dir.as_str())?;
    if launch.package_dir.contains(':') {
        return Err(StartError::os(
            &launch.package_dir,
            "a path with a colon cannot be in PYTHONPATH",
        ));
    }
    let extension = c_string("the extension's path", launch.extension.as_str())?;
    let home = tenant.home.as_ref().map_or(who.home.as_str(), |h| h.get());
    let home = c_string("home", if home.is_empty() { "/" } else { home })?;
    let mut variables = Vec::new();
    for (name, value) in environment(tenant, launch, who, place) {
        let mut entry = name.clone().into_bytes();
        entry.push(b'=');
        entry.extend(value.into_vec());
        variables.push(c_string(&name, entry)?);
    }

    let spec = prepared.map(|p| write_spec(p, &variables)).transpose()?;
    let sandbox = spec.as_ref().zip(prepared).map(|(spec, prepared)| Sandboxed {
        spec: spec.as_fd(),
        pid_namespace: prepared.spec.pid_namespace,
    });

    let null = std::fs::File::open("/dev/null").map_err(|e| StartError::os("/dev/null", e))?;
    let (control, control_theirs) =
        seqpacket::pair().map_err(|e| StartError::os("socketpair", e))?;
    let (output, output_theirs) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| StartError::os("pipe", e))?;
    let (report, report_theirs) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| StartError::os("pipe", e))?;
    for fd in [&output, &report] {
        rustix::io::ioctl_fionbio(fd, true).map_err(|e| StartError::os("ioctl(FIONBIO)", e))?;
    }

    let arguments: &[&CStr] = if launch.optimize {
        &[c"-OO", c"-s", c"-m", c"vivarium.worker"]
    } else {
        &[c"-s", c"-m", c"vivarium.worker"]
    };
    let pid = exec::spawn(&Plan {
        program: &program,
        arguments,
        environment: &variables,
        null: null.as_fd(),
        output: output_theirs.as_fd(),
        control: control_theirs.as_fd(),
        page: page.as_fd(),
        report: report_theirs.as_fd(),
        sandbox,
        identity: who.identity.as_ref(),
        umask: *tenant.umask.get(),
        home: &home,
        home_must_be: tenant.home.is_some(),
        open_files: OPEN_FILES,
        package_dir: &package_dir,
        extension: &extension,
    })
    .map_err(|e| StartError::os("fork", e))?;

    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Spawned { pid, pidfd, control, output, report }),
        Err(e) => {
            // Out of descriptors, most likely. The child has nobody to talk to; it must not stay.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err(StartError::os("pidfd_open", e))
        }
    }
}

/// The helper's plan, in a file that is nowhere and that nobody can change.
fn write_spec(prepared: &Prepared, variables: &[CString]) -> Result<OwnedFd, StartError> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    use std::io::Write;
    let os = |e: &dyn std::fmt::Display| StartError::os("the sandbox's plan", e);
    let mut spec = prepared.spec.clone();
    spec.environment = variables.iter().map(|entry| entry.as_bytes().to_vec()).collect();
    let bytes = codec::encode(&spec).map_err(|e| os(&e))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create(c"vivarium-sandbox", flags).map_err(|e| os(&e))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&bytes).map_err(|e| os(&e))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(|e| os(&e))?;
    Ok(file.into())
}

/// What a worker that did not come to Python has left in its report pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The forked child could not go on.
    Failure(Failure),
    /// The sandbox's helper could not.
    Complaint(Complaint),
}

/// Reads the report of a worker that has ended, if it made one.
pub(crate) fn read_report(report: &OwnedFd) -> Option<Report> {
    let mut bytes = [0; 4096];
    let got = rustix::io::read(report, &mut bytes).ok()?;
    decode_report(bytes.get(..got)?)
}

fn decode_report(bytes: &[u8]) -> Option<Report> {
    match bytes.split_first()? {
        (&helper::COMPLAINT, rest) => codec::decode(rest).ok().map(Report::Complaint),
        _ => Failure::decode(bytes).map(Report::Failure),
    }
}

/// One line that says what failed, where, for whom, and what to do.
pub(crate) fn explain(
    failure: Failure,
    tenant: &Tenant,
    launch: &Launch,
    who: &Who,
    config: &Path,
) -> String {
    let Failure { step, errno, detail } = failure;
    let shown = |path: &str| escape(path.as_bytes(), 1000);
    let obstacle = |path: &str| {
        let part = path.get(..usize::from(detail)).unwrap_or(path);
        if part == path { String::new() } else { format!(" (at {})", shown(part)) }
    };
    let name = &who.name;
    match step {
        Step::Exec => {
            let python = tenant.python.get();
            format!(
                "user {name} cannot execute {}: {errno}; set `python` in {}",
                shown(python),
                shown(&config.to_string_lossy())
            )
        }
        Step::PackageDir => {
            let path = &launch.package_dir;
            format!(
                "user {name} cannot read the Python package directory {}: {errno}{}; make it and all above it readable \
                 for that user",
                shown(path),
                obstacle(path)
            )
        }
        Step::Extension => {
            let path = &launch.extension;
            format!(
                "user {name} cannot read the worker extension {}: {errno}{}; make it and all above it readable for that \
                 user",
                shown(path),
                obstacle(path)
            )
        }
        Step::Home => {
            let home = tenant.home.as_ref().map_or(who.home.as_str(), |h| h.get());
            format!("user {name} cannot enter its home directory {}: {errno}", shown(home))
        }
        step => format!("{step} failed for user {name}: {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn launch(httpd: Option<(u32, u32)>) -> Launch {
        Launch {
            package_dir: "/p/python".into(),
            extension: "/p/e.so".into(),
            optimize: false,
            httpd,
        }
    }

    fn tenant(text: &str) -> Tenant {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn root_is_refused_and_missing_users_are_named() {
        let e = who(&tenant("user = 'root'"), &launch(None), 0).unwrap_err();
        assert_eq!(e.code, codes::NO_USER);
        assert!(e.reason.contains("never runs as root"), "{}", e.reason);
        let e = who(&tenant("user = 'no-such-user-here'"), &launch(None), 0).unwrap_err();
        assert!(e.reason.contains("no-such-user-here does not exist"), "{}", e.reason);
        let e =
            who(&tenant("user = 'nobody'\ngroup = 'no-such-group'"), &launch(None), 0).unwrap_err();
        assert!(e.reason.contains("no-such-group does not exist"), "{}", e.reason);
    }

    #[test]
    fn a_configured_user_wins() {
        let w = who(&tenant("user = 'nobody'"), &launch(Some((33, 33))), 0).unwrap();
        let nobody = users::by_name("nobody").unwrap().unwrap();
        assert_eq!((w.name.as_str(), w.identity.as_ref().unwrap().uid), ("nobody", nobody.uid));
        assert!(w.identity.unwrap().groups.contains(&nobody.gid));
    }

    #[test]
    fn httpds_user_is_the_last_resort() {
        let (none, odd) = ("no-such-user-here", 3_999_999_999);
        let w = choose(&tenant(""), &launch(Some((odd, 12))), 0, none).unwrap();
        assert_eq!(w.identity, Some(Identity { uid: odd, gid: 12, groups: vec![12] }));
        let w = choose(&tenant(""), &launch(Some((odd, 12))), 0, "nobody").unwrap();
        assert_eq!(w.name, "nobody", "the default user comes before httpd's");
        let e = choose(&tenant(""), &launch(None), 0, none).unwrap_err();
        assert_eq!(e.code, codes::NO_USER);
        let e = choose(&tenant(""), &launch(Some((0, 0))), 0, none).unwrap_err();
        assert_eq!(
            e.code,
            codes::NO_USER,
            "httpd's children as root are no way to run Python as root"
        );
    }

    #[test]
    fn without_root_we_are_ourselves() {
        let w = who(&tenant("user = 'root'"), &launch(None), 3_999_999_999).unwrap();
        assert_eq!((w.identity, w.name.as_str()), (None, "uid 3999999999"));
    }

    #[test]
    fn the_environment_is_clean_and_ours_wins() {
        let t =
            tenant("threads = 5\nenv = { PYTHONPATH = '/more', LANG = 'de_DE.UTF-8', X = 'y' }");
        let w = Who { name: "alice".into(), home: "/home/alice".into(), identity: None };
        let key = PoolKey { tenant: "default".into(), interpreter: "main".into() };
        let all = environment(
            &t,
            &launch(None),
            &w,
            Place { key: &key, slot: 3, epoch: 9, startup: false },
        );
        let get = |name: &str| {
            let found: Vec<_> = all.iter().filter(|(n, _)| n == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            found[0].1.to_str().unwrap().to_owned()
        };
        assert_eq!(get("PYTHONPATH"), "/p/python:/more");
        assert_eq!(get("LANG"), "de_DE.UTF-8");
        assert_eq!(get("HOME"), "/home/alice");
        assert_eq!(get("X"), "y");
        assert_eq!((get("VIVARIUM_SLOT"), get("VIVARIUM_EPOCH")), ("3".into(), "9".into()));
        assert_eq!(get("VIVARIUM_INTERPRETER"), "main");
        assert_eq!(get("VIVARIUM_THREADS"), "5");
        assert!(!all.iter().any(|(n, _)| n.starts_with("CARGO")));
    }

    #[test]
    fn explanations_name_path_user_and_place() {
        let w = Who { name: "alice".into(), home: "/h".into(), identity: None };
        let l = launch(None);
        let say = |step, errno, detail| {
            let failure = Failure { step, errno, detail };
            explain(failure, &tenant("python = '/no/python'"), &l, &w, Path::new("/c.toml"))
        };
        let text = say(Step::Exec, Errno::NOENT, 0);
        assert!(
            text.contains("/no/python") && text.contains("/c.toml") && text.contains("alice"),
            "{text}"
        );
        let text = say(Step::PackageDir, Errno::ACCESS, 2);
        assert!(text.contains("/p/python") && text.contains("(at /p)"), "{text}");
        let text = say(Step::Extension, Errno::ACCESS, 7);
        assert!(text.contains("/p/e.so") && !text.contains("(at"), "{text}");
        assert!(say(Step::Uid, Errno::PERM, 0).contains("setting the user failed"));
    }
}
