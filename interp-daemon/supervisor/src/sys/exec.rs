//! From a fork to a worker: everything between `fork` and `execve`, each step checked.
//!
//! The supervisor has one thread, so the child may do what any process may. Still it allocates next to nothing, takes
//! no lock, and leaves by `execve` or `_exit` only. What goes wrong is written to the report pipe as
//! (step, errno, detail); the pipe is close-on-exec, so its silence means that the program runs.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use vivarium_protocol::control::{WORKER_CONTROL_FD, WORKER_PAGE_FD};

/// The descriptor number of the report pipe in a sandbox's helper.
pub(crate) const HELPER_REPORT_FD: RawFd = WORKER_PAGE_FD + 1;
/// The descriptor number of the plan in a sandbox's helper.
pub(crate) const HELPER_SPEC_FD: RawFd = WORKER_PAGE_FD + 2;

/// Who a worker runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// Everything that the child needs, made before the fork.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The program; also the first argument.
    pub(crate) program: &'a CStr,
    /// The arguments after it.
    pub(crate) arguments: &'a [&'a CStr],
    pub(crate) environment: &'a [CString],
    pub(crate) null: BorrowedFd<'a>,
    pub(crate) output: BorrowedFd<'a>,
    pub(crate) control: BorrowedFd<'a>,
    pub(crate) page: BorrowedFd<'a>,
    pub(crate) report: BorrowedFd<'a>,
    /// A declared tenant: what follows is the helper's ([`crate::sandbox::helper`]), and nothing else of this is used.
    pub(crate) sandbox: Option<Sandboxed<'a>>,
    /// None: stay who we are.
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) umask: u32,
    pub(crate) home: &'a CStr,
    /// Whether failing to enter `home` is an error; if not, `/` will do.
    pub(crate) home_must_be: bool,
    /// The soft limit of open files, at most the hard one.
    pub(crate) open_files: u64,
    /// Must be searchable by the worker.
    pub(crate) package_dir: &'a CStr,
    /// Must be readable by the worker.
    pub(crate) extension: &'a CStr,
}

/// What a sandbox's helper is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sandboxed<'a> {
    /// The encoded [`crate::sandbox::Spec`].
    pub(crate) spec: BorrowedFd<'a>,
    /// Whether it is the first process of a PID namespace.
    pub(crate) pid_namespace: bool,
}

macro_rules! steps {
    ($($name:ident $text:literal;)*) => {
        /// What the child was doing when it failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Step { $($name),* }
        impl Step {
            const ALL: &[(Self, &str)] = &[$((Self::$name, $text)),*];
        }
    };
}

steps! {
    Session "setsid";
    Descriptors "placing the descriptors";
    CloseRange "closing the other descriptors";
    Signals "resetting the signals";
    Limits "setting the limit of open files";
    BoundingSet "dropping the capability bounding set";
    Groups "setting the supplementary groups";
    Gid "setting the group";
    Uid "setting the user";
    Identity "checking that user and groups are the ones wanted";
    Capabilities "dropping the capabilities";
    CapabilitiesLeft "checking that no capability is left";
    NoNewPrivs "setting no_new_privs";
    Home "entering the home directory";
    PackageDir "looking into the Python package directory";
    Extension "reading the worker extension";
    Exec "executing the interpreter";
    Helper "executing vivariumd as the sandbox's helper";
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::ALL.get(*self as usize).map_or("", |(_, text)| text))
    }
}

/// A child's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    /// For [`Step::PackageDir`] and [`Step::Extension`]: how many bytes of the path lead to what cannot be used.
    pub(crate) detail: u16,
}

/// The length of an encoded report.
pub(crate) const REPORT_LEN: usize = 7;

impl Failure {
    fn new(step: Step, errno: Errno) -> Self {
        Self { step, errno, detail: 0 }
    }

    fn encode(self) -> [u8; REPORT_LEN] {
        let mut out = [0; REPORT_LEN];
        out[0] = self.step as u8;
        out[1..5].copy_from_slice(&self.errno.raw_os_error().to_le_bytes());
        out[5..].copy_from_slice(&self.detail.to_le_bytes());
        out
    }

    /// Reads a report.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REPORT_LEN] = bytes.try_into().ok()?;
        let (step, _) = *Step::ALL.get(usize::from(bytes[0]))?;
        let errno = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        if !(1..4096).contains(&errno) {
            return None;
        }
        let detail = u16::from_le_bytes([bytes[5], bytes[6]]);
        Some(Self { step, errno: Errno::from_raw_os_error(errno), detail })
    }
}

fn last_errno() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(raw)
}

/// Forks a child that becomes what `plan` says. The program must have one thread only.
pub(crate) fn spawn(plan: &Plan<'_>) -> Result<Pid, Errno> {
    // The arrays that execve wants, made while we may still allocate at leisure.
    let mut argv: Vec<*const libc::c_char> = vec![plan.program.as_ptr()];
    argv.extend(plan.arguments.iter().map(|a| a.as_ptr()));
    argv.push(std::ptr::null());
    let mut envp: Vec<*const libc::c_char> = plan.environment.iter().map(|e| e.as_ptr()).collect();
    envp.push(std::ptr::null());

    // SAFETY: this program has one thread, so the child finds every lock free and all memory whole; it leaves by execve
    // or _exit, so nothing of the parent's is destroyed or flushed twice.
    match unsafe { super::sandbox::fork(plan.sandbox.is_some_and(|s| s.pid_namespace)) } {
        Err(e) => Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
        Ok(0) => {
            let (failure, report) = become_worker(plan, &argv, &envp);
            let bytes = failure.encode();
            // SAFETY: the buffer is valid; _exit does not return and runs no destructors.
            unsafe {
                libc::write(report, bytes.as_ptr().cast(), bytes.len());
                libc::_exit(127)
            }
        }
        Ok(pid) => Pid::from_raw(pid).ok_or(Errno::SRCH),
    }
}

/// Runs in the child; returns only if a step failed, with the descriptor to report it on.
fn become_worker(
    plan: &Plan<'_>,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> (Failure, RawFd) {
    let mut report = plan.report.as_raw_fd();
    if let Some(sandboxed) = plan.sandbox {
        return (become_helper(plan, sandboxed, &mut report), report);
    }
    if let Err(failure) = prepare(plan, &mut report) {
        return (failure, report);
    }
    // SAFETY: both arrays end with a null pointer and point to strings that `plan` keeps alive.
    unsafe { libc::execve(plan.program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    (Failure::new(Step::Exec, last_errno()), report)
}

/// Runs in the child; returns only if a step failed.
fn become_helper(plan: &Plan<'_>, sandboxed: Sandboxed<'_>, report: &mut RawFd) -> Failure {
    let begun = rustix::process::setsid()
        .map_err(|e| Failure::new(Step::Session, e))
        .and_then(|_| place_descriptors(plan, Some(sandboxed.spec), report))
        .and_then(|()| reset_signals().map_err(|e| Failure::new(Step::Signals, e)));
    if let Err(failure) = begun {
        return failure;
    }
    let argv = [c"vivariumd".as_ptr(), c"--sandbox-exec".as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null()];
    // The program that runs, even if its file has been replaced since.
    // SAFETY: both arrays end with a null pointer and point to constants.
    unsafe { libc::execve(c"/proc/self/exe".as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Failure::new(Step::Helper, last_errno())
}

fn prepare(plan: &Plan<'_>, report: &mut RawFd) -> Result<(), Failure> {
    let at = |step: Step| move |errno: Errno| Failure::new(step, errno);

    rustix::process::setsid().map_err(at(Step::Session))?;
    place_descriptors(plan, None, report)?;
    reset_signals().map_err(at(Step::Signals))?;
    limit_files(plan.open_files).map_err(at(Step::Limits))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(plan.umask & 0o777));
    drop_bounding_set().map_err(at(Step::BoundingSet))?;
    if let Some(identity) = plan.identity {
        change_identity(identity)?;
    }
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true).map_err(at(Step::NoNewPrivs))?;
    if !rustix::thread::no_new_privs().map_err(at(Step::NoNewPrivs))? {
        return Err(Failure::new(Step::NoNewPrivs, Errno::PERM));
    }
    // From here on as the tenant's user: what it cannot reach must not be reached for it.
    if let Err(errno) = rustix::process::chdir(plan.home) {
        if plan.home_must_be {
            return Err(Failure::new(Step::Home, errno));
        }
        rustix::process::chdir(c"/").map_err(at(Step::Home))?;
    }
    usable(plan.package_dir, libc::R_OK | libc::X_OK, Step::PackageDir)?;
    usable(plan.extension, libc::R_OK, Step::Extension)
}

/// 0 = /dev/null, 1 and 2 = the output pipe, 3 = control socket, 4 = pool page, and the report pipe somewhere above;
/// for a helper also 5 = the report pipe, 6 = its plan. Nothing else stays open.
fn place_descriptors(
    plan: &Plan<'_>,
    spec: Option<BorrowedFd<'_>>,
    report: &mut RawFd,
) -> Result<(), Failure> {
    let failed = |errno: Errno| Failure::new(Step::Descriptors, errno);
    // First all of them out of the way of the numbers that they are to have.
    let up = |fd: BorrowedFd<'_>| -> Result<RawFd, Errno> {
        // SAFETY: duplicates a descriptor; touches no memory.
        let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) };
        if new < 0 { Err(last_errno()) } else { Ok(new) }
    };
    *report = up(plan.report).map_err(failed)?;
    let null = up(plan.null).map_err(failed)?;
    let output = up(plan.output).map_err(failed)?;
    let control = up(plan.control).map_err(failed)?;
    let page = up(plan.page).map_err(failed)?;
    let targets = [
        (null, libc::STDIN_FILENO),
        (output, libc::STDOUT_FILENO),
        (output, libc::STDERR_FILENO),
        (control, WORKER_CONTROL_FD),
        (page, WORKER_PAGE_FD),
        (*report, HELPER_REPORT_FD),
        (spec.map_or(Ok(null), up).map_err(failed)?, HELPER_SPEC_FD),
    ];
    let used = if spec.is_some() { targets.len() } else { targets.len() - 2 };
    let last = if spec.is_some() { HELPER_SPEC_FD } else { WORKER_PAGE_FD };
    for (from, to) in targets.into_iter().take(used) {
        // SAFETY: this process is about to exec: whatever the target number was, nothing here uses it any more.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(failed(last_errno()));
        }
    }
    let keep = u32::try_from(*report).map_err(|_| Failure::new(Step::CloseRange, Errno::BADF))?;
    for (first, last) in [(last as u32 + 1, keep - 1), (keep + 1, u32::MAX)] {
        // SAFETY: as above.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
            return Err(Failure::new(Step::CloseRange, last_errno()));
        }
    }
    Ok(())
}

fn reset_signals() -> Result<(), Errno> {
    // The kernel's struct sigaction is smaller than this everywhere; all zero means SIG_DFL, no flags, empty mask.
    let default = [0u64; 8];
    for signal in (1..=64).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)) {
        // The system call itself: the C library refuses to touch two signals that it keeps for its threads, and those
        // too may have been inherited as ignored.
        // SAFETY: the kernel reads a struct sigaction from a larger, zeroed buffer; the handler in it is SIG_DFL.
        let done = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            )
        };
        if done < 0 {
            return Err(last_errno());
        }
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it.
    let done = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    if done < 0 { Err(last_errno()) } else { Ok(()) }
}

fn limit_files(soft: u64) -> Result<(), Errno> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(soft, |m| soft.min(m)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum })
}

/// The kernel knows 41 capabilities; it says EINVAL to those that it does not know.
const CAPABILITIES: std::ops::Range<i32> = 0..64;

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> Result<libc::c_int, Errno> {
    // SAFETY: the options used here take numbers and touch no memory of ours.
    let done = unsafe { libc::prctl(option, argument, 0, 0, 0) };
    if done < 0 { Err(last_errno()) } else { Ok(done) }
}

fn may_drop_bounding_set() -> Result<bool, Errno> {
    let own = rustix::thread::capabilities(None)?;
    Ok(own.effective.contains(rustix::thread::CapabilitySet::SETPCAP))
}

/// Without `CAP_SETPCAP` (a plain user's supervisor) the set cannot be changed; `no_new_privs` makes it meaningless then.
pub(crate) fn drop_bounding_set() -> Result<(), Errno> {
    if !may_drop_bounding_set()? {
        return Ok(());
    }
    for capability in CAPABILITIES {
        match prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong) {
            Ok(_) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    for capability in CAPABILITIES {
        match prctl(libc::PR_CAPBSET_READ, capability as libc::c_ulong) {
            Ok(0) => {}
            Ok(_) => return Err(Errno::PERM),
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

pub(crate) fn change_identity(identity: &Identity) -> Result<(), Failure> {
    let Identity { uid, gid, groups } = identity;
    // SAFETY: the list is valid for the call; the process has one thread.
    if unsafe { libc::setgroups(groups.len(), groups.as_ptr()) } < 0 {
        return Err(Failure::new(Step::Groups, last_errno()));
    }
    // SAFETY: numbers only.
    if unsafe { libc::setresgid(*gid, *gid, *gid) } < 0 {
        return Err(Failure::new(Step::Gid, last_errno()));
    }
    // SAFETY: numbers only.
    if unsafe { libc::setresuid(*uid, *uid, *uid) } < 0 {
        return Err(Failure::new(Step::Uid, last_errno()));
    }
    let (mut users, mut own_groups) = ([0; 3], [0; 3]);
    // SAFETY: six places for six numbers.
    let read = unsafe {
        let [real, effective, saved] = &mut users;
        let first = libc::getresuid(real, effective, saved);
        let [real, effective, saved] = &mut own_groups;
        first | libc::getresgid(real, effective, saved)
    };
    if read < 0 {
        return Err(Failure::new(Step::Identity, last_errno()));
    }
    let wrong = Failure::new(Step::Identity, Errno::PERM);
    if users != [*uid; 3] || own_groups != [*gid; 3] {
        return Err(wrong);
    }
    let mut have = vec![0; groups.len() + 1];
    // SAFETY: room for one group more than there should be.
    let count = unsafe { libc::getgroups(have.len() as libc::c_int, have.as_mut_ptr()) };
    let count = usize::try_from(count).map_err(|_| wrong)?;
    if have[..count.min(have.len())].iter().any(|g| !groups.contains(g)) {
        return Err(wrong);
    }
    Ok(())
}

pub(crate) fn drop_capabilities() -> Result<(), Failure> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let at = |step: Step| move |errno: Errno| Failure::new(step, errno);
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong)
        .map_err(at(Step::Capabilities))?;
    let nothing = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, nothing).map_err(at(Step::Capabilities))?;
    if capabilities(None).map_err(at(Step::CapabilitiesLeft))? == nothing {
        Ok(())
    } else {
        Err(Failure::new(Step::CapabilitiesLeft, Errno::PERM))
    }
}

/// Whether the worker may use a file; if not, how much of its path leads to the obstacle.
fn usable(path: &CStr, mode: libc::c_int, step: Step) -> Result<(), Failure> {
    // SAFETY: a NUL-terminated string.
    if unsafe { libc::access(path.as_ptr(), mode) } == 0 {
        return Ok(());
    }
    let errno = last_errno();
    let bytes = path.to_bytes();
    let mut detail = bytes.len();
    for (end, _) in bytes.iter().enumerate().skip(1).filter(|(_, b)| **b == b'/') {
        let Ok(part) = CString::new(&bytes[..end]) else { break };
        // SAFETY: a NUL-terminated string.
        if unsafe { libc::access(part.as_ptr(), libc::X_OK) } < 0 {
            detail = end;
            break;
        }
    }
    Err(Failure { step, errno, detail: u16::try_from(detail).unwrap_or(u16::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        for (i, (step, text)) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, i);
            assert!(!text.is_empty());
            let failure = Failure { step: *step, errno: Errno::ACCESS, detail: 517 };
            assert_eq!(Failure::decode(&failure.encode()), Some(failure));
        }
    }

    #[test]
    fn a_forged_report_is_none() {
        assert_eq!(Failure::decode(&[]), None);
        assert_eq!(Failure::decode(&[0; 6]), None);
        assert_eq!(Failure::decode(&[200, 2, 0, 0, 0, 0, 0]), None);
        assert_eq!(Failure::decode(&[0, 0, 0, 0, 0, 0, 0]), None, "errno 0 is no error");
        assert_eq!(Failure::decode(&[0, 0xff, 0xff, 0xff, 0xff, 0, 0]), None);
    }

    #[test]
    fn the_obstacle_in_a_path_is_found() {
        let failure =
            usable(c"/usr/no-such-dir/below/it", libc::R_OK, Step::PackageDir).unwrap_err();
        assert_eq!(failure.errno, Errno::NOENT);
        assert_eq!(usize::from(failure.detail), "/usr/no-such-dir".len());
        assert_eq!(usable(c"/usr", libc::R_OK | libc::X_OK, Step::PackageDir), Ok(()));
    }
}
