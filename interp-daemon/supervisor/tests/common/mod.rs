//! A real supervisor in a temporary directory, with the tests in the places of httpd's parent and children.
//!
//! Everything waits for events: packets, log lines (the log is a pipe), pidfds. A watchdog ends what waits too long.

// Each test file uses its part of this.
#![allow(dead_code, unreachable_pub, missing_docs)]

mod child;

#[allow(unused_imports)]
pub use child::{HttpdChild, Up, key, small_region};

use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use vivarium_protocol::PROTOCOL_VERSION;
use vivarium_protocol::control::{Config, FromParent, ToChild, ToSupervisor};
use vivarium_protocol::seqpacket;

/// No event that a test waits for takes this long.
const WATCHDOG: Duration = Duration::from_secs(60);

pub const INSTANCE: u64 = 0x1234_5678_9abc;

/// A file that is open for writing in any process cannot be executed, and a fork of another test thread would hold it
/// open: no file is written while anybody forks.
static FORKING: std::sync::Mutex<()> = std::sync::Mutex::new(());

pub fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until `fd` is readable (or closed); false if the watchdog bit.
fn readable(fd: impl AsFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let limit =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(n) => return n > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

/// Waits for the end of a process.
pub fn wait_end(pidfd: impl AsFd, what: &str) {
    assert!(readable(pidfd, Instant::now() + WATCHDOG), "{what} did not end");
}

/// A pidfd of a process that may be gone already (then `None`).
pub fn watch(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).ok()
}

/// For what no event tells of: looks until it is so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + WATCHDOG;
    while !so() {
        assert!(Instant::now() < until, "{what}: in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process still runs.
pub fn is_alive(pidfd: impl AsFd) -> bool {
    !readable(pidfd, Instant::now())
}

pub fn kill(pidfd: impl AsFd) {
    pidfd_send_signal(pidfd, Signal::KILL).unwrap();
}

/// A directory of its own that is removed at the end.
pub struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vivariumd-test-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        mode(&path, 0o777);
        Self(path)
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What the supervisor has logged, line by line.
pub struct LogPipe {
    pipe: std::fs::File,
    buffer: Vec<u8>,
    pub seen: Vec<String>,
}

impl LogPipe {
    fn next_line(&mut self, until: Instant) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                self.seen.push(line.clone());
                return Some(line);
            }
            if !readable(&self.pipe, until) {
                return None;
            }
            let mut chunk = [0; 4096];
            match self.pipe.read(&mut chunk).unwrap() {
                0 => return None,
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// The next line with all of `parts` in it. What was read before does not count.
    pub fn expect(&mut self, parts: &[&str]) -> String {
        let until = Instant::now() + WATCHDOG;
        while let Some(line) = self.next_line(until) {
            if parts.iter().all(|p| line.contains(p)) {
                return line;
            }
        }
        panic!("no line with {parts:?}; seen:\n{}", self.seen.join("\n"));
    }

    /// The lines from this one on count as not yet read.
    pub fn again(&mut self, first: usize) {
        let mut lines = self.seen.split_off(first).join("\n").into_bytes();
        if !lines.is_empty() {
            lines.push(b'\n');
        }
        lines.append(&mut self.buffer);
        self.buffer = lines;
    }

    /// Everything up to the end of the log: all writers are gone.
    pub fn rest(&mut self) -> Vec<String> {
        let until = Instant::now() + WATCHDOG;
        let mut lines = Vec::new();
        while let Some(line) = self.next_line(until) {
            lines.push(line);
        }
        lines
    }
}

/// How a supervisor is to be started.
pub struct Setup {
    pub dir: Dir,
    pub python: PathBuf,
    pub fake: &'static str,
    pub processes: u32,
    /// Fewer of them while nobody waits.
    pub least: Option<u32>,
    /// More lines for `[default]`.
    pub more: String,
    /// Lines after the sections.
    pub sections: String,
    pub package_dir: PathBuf,
}

impl Setup {
    pub fn new(fake: &'static str) -> Self {
        let dir = Dir::new();
        let python = dir.path("python");
        let fake_worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_worker.py");
        {
            let _alone = FORKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let version = format!("\nPROTOCOL_VERSION = {PROTOCOL_VERSION}\n");
            let text = std::fs::read_to_string(fake_worker).unwrap();
            std::fs::write(&python, text.replace("\nPROTOCOL_VERSION = 0\n", &version)).unwrap();
        }
        mode(&python, 0o755);
        let package_dir = dir.path("package");
        std::fs::create_dir(&package_dir).unwrap();
        mode(&package_dir, 0o755);
        std::fs::write(dir.path("extension.so"), "").unwrap();
        Self {
            dir,
            python,
            fake,
            processes: 2,
            least: None,
            more: String::new(),
            sections: String::new(),
            package_dir,
        }
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path("vivariumd.toml")
    }

    pub fn write_config(&self) {
        let user = if as_root() { "user = 'nobody'\n" } else { "" };
        let text = format!(
            "[default]\n{user}python = '{}'\nprocesses = {}\nenv = {{ FAKE = '{}', FAKE_DIR = '{}' }}\n{}\n\
             [log]\nlevel = 'debug'\n{}\n",
            self.python.display(),
            match self.least {
                Some(least) => format!("{{ min = {least}, max = {} }}", self.processes),
                None => self.processes.to_string(),
            },
            self.fake,
            self.dir.0.display(),
            self.more,
            self.sections,
        );
        std::fs::write(self.config_file(), text).unwrap();
    }

    fn listener(&self) -> (OwnedFd, SocketAddrUnix) {
        let address = SocketAddrUnix::new(self.dir.path("socket")).unwrap();
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::bind(&socket, &address).unwrap();
        mode(&self.dir.path("socket"), 0o777);
        rustix::net::listen(&socket, 128).unwrap();
        (socket, address)
    }

    /// Starts a managed supervisor with its first configuration sent.
    pub fn start(self) -> Supervisor {
        self.write_config();
        let supervisor = self.start_unconfigured();
        supervisor.push(1);
        supervisor
    }

    /// Starts a managed supervisor that has not heard from its parent.
    pub fn start_unconfigured(self) -> Supervisor {
        let (listener, address) = self.listener();
        let (ours, theirs) = seqpacket::pair().unwrap();
        let command = self.managed_command();
        // The listener stays ours too, as httpd's parent keeps it.
        let give = [&listener, &theirs];
        let kept = listener.try_clone().unwrap();
        Supervisor::run(self, command, &give, address, Some(ours), Some(kept))
    }

    fn managed_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vivariumd"));
        command.arg("--managed").env("VIVARIUM_CONFIG", self.config_file());
        command.env("VIVARIUM_RUN_DIR", self.dir.path("run"));
        command
    }

    /// Starts a service; `activated` as systemd would, else it makes its own socket.
    pub fn start_service(mut self, activated: bool) -> Supervisor {
        use std::fmt::Write as _;
        let paths = (self.package_dir.clone(), self.dir.path("extension.so"));
        write!(
            self.sections,
            "[paths]\npackage_dir = '{}'\nextension = '{}'\n",
            paths.0.display(),
            paths.1.display()
        )
        .unwrap();
        self.write_config();
        let binary = env!("CARGO_BIN_EXE_vivariumd");
        let config = self.config_file();
        if activated {
            let (listener, address) = self.listener();
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --config \"$1\""]);
            command.arg(binary).arg(config);
            command.env("NOTIFY_SOCKET", self.dir.path("notify"));
            command.env("VIVARIUM_RUN_DIR", self.dir.path("run"));
            return Supervisor::run(self, command, &[&listener], address, None, None);
        }
        let path = self.dir.path("socket");
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut command = Command::new(binary);
        command.arg("--config").arg(config).arg("--socket").arg(path);
        command.env("VIVARIUM_RUN_DIR", self.dir.path("run"));
        Supervisor::run(self, command, &[], address, None, None)
    }
}

/// A running supervisor.
pub struct Supervisor {
    process: Child,
    pub pidfd: OwnedFd,
    pub channel: Option<OwnedFd>,
    pub listener: Option<OwnedFd>,
    pub log: LogPipe,
    log_writer: Option<OwnedFd>,
    address: SocketAddrUnix,
    pub setup: Setup,
}

/// Starts the program with `give` as descriptors 3, 4, ... and `log` as its standard error.
fn fork(mut command: Command, give: &[&OwnedFd], log: &OwnedFd) -> Child {
    command.stdin(Stdio::null()).stderr(log.try_clone().unwrap());
    // Above the numbers that they are to have, so that none is overwritten.
    let high: Vec<OwnedFd> =
        give.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 20).unwrap()).collect();
    let numbers: Vec<i32> = high.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: dup2 is all that happens between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for (i, number) in numbers.iter().enumerate() {
                if libc::dup2(*number, 3 + i as i32) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    {
        let _alone = FORKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        command.spawn().unwrap()
    }
}

impl Supervisor {
    fn run(
        setup: Setup,
        command: Command,
        give: &[&OwnedFd],
        address: SocketAddrUnix,
        channel: Option<OwnedFd>,
        listener: Option<OwnedFd>,
    ) -> Self {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let process = fork(command, give, &writer);
        let pid = i32::try_from(process.id()).unwrap();
        Self {
            process,
            pidfd: watch(pid).unwrap(),
            channel,
            listener,
            log: LogPipe { pipe: reader.into(), buffer: Vec::new(), seen: Vec::new() },
            log_writer: Some(writer),
            address,
            setup,
        }
    }

    /// As httpd's parent: starts another one at the same socket after the first has died.
    pub fn restart(&mut self) {
        self.process.wait().unwrap();
        let (ours, theirs) = seqpacket::pair().unwrap();
        let give = [self.listener.as_ref().unwrap(), &theirs];
        let command = self.setup.managed_command();
        self.process = fork(command, &give, self.log_writer.as_ref().unwrap());
        self.pidfd = watch(i32::try_from(self.process.id()).unwrap()).unwrap();
        self.channel = Some(ours);
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn config(&self, generation: u32) -> Config {
        Config {
            version: PROTOCOL_VERSION,
            instance: INSTANCE,
            generation,
            child_uid: 65_533,
            child_gid: 65_533,
            package_dir: self.setup.package_dir.to_string_lossy().into_owned(),
            extension: self.setup.dir.path("extension.so").to_string_lossy().into_owned(),
            optimize: false,
            server_root: "/etc/apache2".into(),
            tenants_dir: String::new(),
        }
    }

    /// As httpd's parent: a configuration, with the log.
    pub fn push(&self, generation: u32) {
        self.push_config(self.config(generation));
    }

    pub fn push_config(&self, config: Config) {
        let log = self.log_writer.as_ref().unwrap().as_fd();
        let channel = self.channel.as_ref().unwrap();
        seqpacket::send(channel, &FromParent::Config(config), &[log], false).unwrap();
    }

    /// A connection that has said nothing yet.
    pub fn connect(&self) -> HttpdChild {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::connect(&socket, &self.address).unwrap();
        HttpdChild { socket, files: Vec::new(), policies: std::cell::RefCell::default() }
    }

    /// A child of that generation that has been welcomed.
    pub fn child(&self, generation: u32) -> HttpdChild {
        let child = self.connect();
        child.send(&ToSupervisor::Hello {
            version: PROTOCOL_VERSION,
            instance: INSTANCE,
            generation,
        });
        match child.recv() {
            (ToChild::Welcome { version }, fds) if fds.is_empty() => {
                assert_eq!(version, PROTOCOL_VERSION);
            }
            other => panic!("no welcome: {other:?}"),
        }
        child
    }

    /// How many descriptors the supervisor has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).unwrap();
    }

    /// Waits for the supervisor's end; returns its exit status and the rest of the log (which ends only when no worker
    /// holds the log either).
    pub fn end(&mut self) -> (std::process::ExitStatus, Vec<String>) {
        drop(self.log_writer.take());
        let rest = self.log.rest();
        wait_end(&self.pidfd, "the supervisor");
        (self.process.wait().unwrap(), rest)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log so far:\n{}", self.log.seen.join("\n"));
        }
        // Two different ones, so that neither can be merged with the other: stop, and do not be patient. That ends the
        // workers too, whatever they are up to.
        for signal in [Signal::TERM, Signal::INT] {
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
        drop(self.channel.take());
        drop(self.log_writer.take());
        // Read, so that nobody waits to write.
        let until = Instant::now() + WATCHDOG;
        while self.log.next_line(until).is_some() {}
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
