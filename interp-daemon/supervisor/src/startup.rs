//! From the command line to a running [`Server`]: arguments, inherited descriptors, the listening socket.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vivarium_protocol::codes::{self, Code};
use vivarium_protocol::control::{SUPERVISOR_CHANNEL_FD, SUPERVISOR_LISTEN_FD};

use crate::config::{Settings, Source};
use crate::log::Log;
use crate::notify::Notify;
use crate::sandbox::helper;
use crate::server::{Server, Start};
use crate::spawn::Launch;
use crate::sys;

const SOCKET: &str = "/run/vivarium/vivariumd.sock";
const USAGE: &str = "\
usage: vivariumd --managed
       vivariumd [--config FILE] [--socket PATH]

  --managed      started by httpd: descriptor 3 is the listening socket, 4 the channel to httpd
  --config FILE  configuration (default: $VIVARIUM_CONFIG, else /etc/vivarium/vivariumd.toml if there)
  --socket PATH  where to listen without socket activation (default: /run/vivarium/vivariumd.sock)
  --version      say the version
  --help         say this

Signals: TERM and INT stop gracefully (twice: at once), HUP reads the configuration again.";

#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    managed: bool,
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Run(Arguments),
    Say(String),
}

fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Asked, String> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let mut path = |name: &str| {
            rest.next().map(PathBuf::from).ok_or_else(|| format!("{name} needs a path"))
        };
        match argument.to_str() {
            Some("--managed") => parsed.managed = true,
            Some("--config") => parsed.config = Some(path("--config")?),
            Some("--socket") => parsed.socket = Some(path("--socket")?),
            Some("--version") => {
                return Ok(Asked::Say(format!("vivariumd {}", env!("CARGO_PKG_VERSION"))));
            }
            Some("--help" | "-h") => return Ok(Asked::Say(USAGE.into())),
            _ => return Err(format!("{} is not understood", argument.to_string_lossy())),
        }
    }
    if parsed.managed && parsed.socket.is_some() {
        return Err("--socket does not go with --managed: httpd gives the socket".into());
    }
    Ok(Asked::Run(parsed))
}

/// Why there is nothing to run.
type Failed = (Code, String);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == helper::ARGUMENT) {
        return helper::main();
    }
    let arguments = match parse(std::env::args_os().skip(1)) {
        Ok(Asked::Run(arguments)) => arguments,
        Ok(Asked::Say(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("vivariumd: {e}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let log = Log::new(arguments.managed);
    match prepare(arguments, log) {
        Ok(mut server) => match server.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                server
                    .log
                    .error(codes::SUPERVISOR_FAILED, format_args!("the event loop failed: {e}"));
                ExitCode::FAILURE
            }
        },
        Err(code) => code,
    }
}

fn prepare(arguments: Arguments, log: Log) -> Result<Server, ExitCode> {
    let failed = |log: &Log, (code, text): Failed| {
        log.error(code, format_args!("{text}"));
        ExitCode::FAILURE
    };
    // Before anything is opened: which descriptors are ours, and none else.
    let (inherited, channel) = match inherited(arguments.managed) {
        Ok(found) => found,
        Err(e) => return Err(failed(&log, e)),
    };
    let source = Source::choose(
        arguments.config,
        std::env::var_os("VIVARIUM_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from),
    );
    let settings = source.load().map_err(|e| e.to_string());
    if let Err(reason) = &settings {
        // httpd runs on whatever happens here; a service that cannot start is what systemd reports best.
        let end = if arguments.managed {
            "no Python is run until this is corrected"
        } else {
            "not started"
        };
        log.error(codes::SUPERVISOR_CONFIG, format_args!("{reason}; {end}"));
        if !arguments.managed {
            return Err(ExitCode::FAILURE);
        }
    }
    let own_uid = rustix::process::geteuid().as_raw();
    let listener = match inherited {
        Some(fd) => Ok(fd),
        None => {
            listen(arguments.socket.as_deref().unwrap_or(Path::new(SOCKET)), settings.as_ref().ok())
        }
    };
    let listener = listener.map_err(|e| failed(&log, e))?;
    if arguments.managed {
        // httpd signals its process group; the channel alone says when to end.
        let _ = rustix::process::setsid();
    }
    raise_open_files();
    let os =
        |what: &str, e: &dyn std::fmt::Display| (codes::SUPERVISOR_FAILED, format!("{what}: {e}"));
    let signals = sys::Signals::new(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(|e| failed(&log, os("signalfd", &e)))?;
    let launch = settings.as_ref().ok().filter(|_| !arguments.managed).map(service_launch);
    let notify = if arguments.managed { Notify::default() } else { Notify::from_env() };
    let configured = settings.as_ref().ok().and_then(|s| s.paths.run_dir.clone());
    let run_dir = crate::admin::run_dir(configured.as_ref().map(|p| Path::new(p.get())));
    let start = Start {
        log,
        signals,
        listener,
        channel,
        source,
        settings,
        launch,
        notify,
        own_uid,
        run_dir,
    };
    Server::new(start).map_err(|e| {
        let log = Log::new(false);
        failed(&log, os("epoll", &e))
    })
}

/// Takes what the starter has opened for us and closes everything else.
fn inherited(managed: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Failed> {
    let given = if managed { 2 } else { listen_fds() };
    let bad = |what: &str, e: &dyn std::fmt::Display| (codes::SOCKET, format!("{what}: {e}"));
    sys::close_from(SUPERVISOR_LISTEN_FD as u32 + given).map_err(|e| bad("close_range", &e))?;
    if given == 0 {
        return Ok((None, None));
    }
    let listener = sys::inherited(SUPERVISOR_LISTEN_FD)
        .map_err(|e| bad("descriptor 3, the listening socket", &e))?;
    if !is_seqpacket(&listener)
        || !rustix::net::sockopt::socket_acceptconn(&listener).unwrap_or(false)
    {
        return Err((
            codes::SOCKET,
            "descriptor 3 is no listening AF_UNIX SOCK_SEQPACKET socket".into(),
        ));
    }
    rustix::io::ioctl_fionbio(&listener, true).map_err(|e| bad("descriptor 3", &e))?;
    if !managed {
        if given > 1 {
            return Err((codes::SOCKET, format!("{given} sockets were given, one is wanted")));
        }
        return Ok((Some(listener), None));
    }
    let channel = sys::inherited(SUPERVISOR_CHANNEL_FD)
        .map_err(|e| bad("descriptor 4, the channel to httpd", &e))?;
    if !is_seqpacket(&channel) {
        return Err((codes::SOCKET, "descriptor 4 is no AF_UNIX SOCK_SEQPACKET socket".into()));
    }
    Ok((Some(listener), Some(channel)))
}

fn is_seqpacket(fd: &OwnedFd) -> bool {
    use rustix::net::sockopt::{socket_domain, socket_type};
    matches!(
        (socket_domain(fd), socket_type(fd)),
        (Ok(AddressFamily::UNIX), Ok(SocketType::SEQPACKET))
    )
}

/// systemd's protocol: how many sockets from descriptor 3 on are for us.
fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() && count < 1000 => count,
        _ => 0,
    }
}

/// Makes the listening socket at `path`: httpd's group may connect (and [`Server`] looks at who does).
fn listen(path: &Path, settings: Option<&Settings>) -> Result<OwnedFd, Failed> {
    let shown = path.display();
    let bad = |what: &str, e: &dyn std::fmt::Display| {
        (codes::SOCKET, format!("{shown}: {what}: {e}; choose another place with --socket"))
    };
    let address = SocketAddrUnix::new(path).map_err(|e| bad("it is no socket address", &e))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = || rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let socket = make().map_err(|e| bad("socket", &e))?;
    if path.exists() {
        // A socket that nobody listens on is left from a supervisor that was killed.
        let probe = make().map_err(|e| bad("socket", &e))?;
        match rustix::net::connect(&probe, &address) {
            Err(rustix::io::Errno::CONNREFUSED) => {
                std::fs::remove_file(path)
                    .map_err(|e| bad("the old socket cannot be removed", &e))?;
            }
            Ok(()) | Err(rustix::io::Errno::AGAIN) => {
                return Err((
                    codes::SOCKET,
                    format!("{shown}: another supervisor is listening there"),
                ));
            }
            Err(e) => return Err(bad("it exists and is no socket of ours", &e)),
        }
    }
    if let Some(directory) = path.parent().filter(|d| !d.exists()) {
        std::fs::create_dir_all(directory).map_err(|e| bad("its directory cannot be made", &e))?;
        // Everybody may look for the socket; who may connect is the socket's own mode.
        let _ = std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755));
    }
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o117));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(mask);
    bound.map_err(|e| bad("bind", &e))?;
    let user = match settings.and_then(|s| s.httpd.user.as_ref()) {
        Some(name) => sys::users::by_name(name.get()).ok().flatten(),
        None => crate::configure::default_httpd_user(),
    };
    if let Some(user) = user {
        // Not root: then httpd is ours too, or the group is for the administrator to arrange.
        let _ = std::os::unix::fs::chown(path, None, Some(user.gid));
    }
    rustix::net::listen(&socket, 511).map_err(|e| bad("listen", &e))?;
    Ok(socket)
}

/// Each httpd child costs three descriptors a pool.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Where the Python side is if httpd does not say: configured, else beside this program, else installed.
fn service_launch(settings: &Settings) -> Launch {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().unwrap_or(Path::new("/"));
    let first = |candidates: &[PathBuf]| {
        let found = candidates.iter().find(|p| p.exists()).or(candidates.last());
        found.map(|p| p.canonicalize().unwrap_or_else(|_| p.clone()).to_string_lossy().into_owned())
    };
    let package_dir = match &settings.paths.package_dir {
        Some(path) => Some(path.get().clone()),
        None => first(&[
            beside.join("../../interp-daemon/python"),
            beside.join("python"),
            "/usr/lib/vivarium/python".into(),
        ]),
    };
    let extension = match &settings.paths.extension {
        Some(path) => Some(path.get().clone()),
        None => {
            first(&[beside.join("lib_vivarium.so"), "/usr/lib/vivarium/lib_vivarium.so".into()])
        }
    };
    Launch {
        package_dir: package_dir.unwrap_or_default(),
        extension: extension.unwrap_or_default(),
        optimize: false,
        httpd: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Asked, String> {
        parse(arguments.iter().map(Into::into))
    }

    #[test]
    fn arguments_are_understood() {
        assert_eq!(asked(&[]), Ok(Asked::Run(Arguments::default())));
        let managed = Arguments { managed: true, ..Arguments::default() };
        assert_eq!(asked(&["--managed"]), Ok(Asked::Run(managed)));
        let both =
            Arguments { managed: false, config: Some("/c".into()), socket: Some("/s".into()) };
        assert_eq!(asked(&["--config", "/c", "--socket", "/s"]), Ok(Asked::Run(both)));
        assert!(
            matches!(asked(&["--version"]), Ok(Asked::Say(text)) if text.starts_with("vivariumd "))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [&["--config"][..], &["--manage"], &["file"], &["--managed", "--socket", "/s"]] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
    }
}
