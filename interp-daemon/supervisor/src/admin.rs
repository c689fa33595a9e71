//! The socket of `vivarium reload` and `vivarium status`: `RUN_DIR/admin/PID.sock`, for root and the supervisor's own
//! user only.
//!
//! One packet asks, one answers, both through the protocol's codec; then the connection ends. Who asks is known by the
//! kernel's word. A supervisor that has no run directory has no such socket, and runs.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use vivarium_protocol::{codec, seqpacket};

use crate::conn::Source;
use crate::pool::SlotState;
use crate::server::Server;

/// The most connections at a time.
const CLIENTS: usize = 8;
/// The most lines or pools in an answer, so that it fits a packet.
const LINES: usize = 150;
/// The longest line.
const LINE: usize = 350;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Read all configuration files again.
    Reload,
    /// Say how you are.
    Status,
}

impl Request {
    /// The longest packet that can be a request, in bytes.
    pub const LONGEST: usize = 64;

    /// The request that a packet is.
    pub fn read(packet: &[u8]) -> Option<Self> {
        if packet.len() > Self::LONGEST { None } else { codec::decode(packet).ok() }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Request::Reload`].
    Reloaded {
        /// All files are right.
        ok: bool,
        /// What has changed and what is wrong, a line each.
        lines: Vec<String>,
    },
    /// To [`Request::Status`].
    Status(Status),
    /// It may not ask.
    Refused,
}

/// How a supervisor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Started by httpd.
    pub managed: bool,
    /// The configuration file, or what is wrong with it.
    pub configuration: String,
    /// Where the tenants' files are.
    pub tenants_dir: String,
    /// How many files there are.
    pub tenants: u32,
    /// What is wrong with any of them.
    pub wrong: Vec<String>,
    /// Connected httpd children.
    pub children: u32,
    /// How many pools there are; not all may be listed.
    pub pool_count: u32,
    /// The pools.
    pub pools: Vec<PoolStatus>,
}

/// How a pool is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// `tenant/interpreter`.
    pub label: String,
    /// The httpd generation that it belongs to.
    pub generation: u32,
    /// Workers in service.
    pub ready: u32,
    /// Slots for workers.
    pub slots: u32,
    /// Why there is no worker, if so.
    pub down: Option<String>,
}

/// The directory that supervisors make their sockets in: the configured one, the environment's, else
/// `/run/vivarium` for root, else below `XDG_RUNTIME_DIR`.
pub fn run_dir(configured: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    configured.map(Path::to_owned).or_else(|| variable("VIVARIUM_RUN_DIR")).or_else(|| {
        if rustix::process::geteuid().is_root() {
            Some("/run/vivarium".into())
        } else {
            variable("XDG_RUNTIME_DIR").map(|dir| dir.join("vivarium"))
        }
    })
}

/// The supervisors' sockets in a run directory, with the process of each.
pub fn sockets(run_dir: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(run_dir.join("admin")) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let pid = path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok()?;
            connect(&path).is_ok().then_some((pid, path))
        })
        .collect();
    found.sort_unstable();
    found
}

fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Asks a supervisor.
///
/// # Errors
/// What went wrong with which path.
pub fn ask(path: &Path, request: Request) -> Result<Answer, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let socket = connect(path).map_err(|e| wrong(&e))?;
    seqpacket::send(&socket, &request, &[], false).map_err(|e| wrong(&e))?;
    seqpacket::recv::<Answer>(&socket, false).map(|(answer, _)| answer).map_err(|e| wrong(&e))
}

/// The listening socket and who has connected.
#[derive(Debug)]
pub(crate) struct Admin {
    listener: OwnedFd,
    path: PathBuf,
    clients: HashMap<u64, OwnedFd>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the socket; removes those that nobody listens on.
fn listen(run_dir: &Path, own_uid: u32) -> io::Result<(OwnedFd, PathBuf)> {
    let make = |path: &Path, mode: u32| match fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    make(run_dir, 0o755)?;
    let dir = run_dir.join("admin");
    make(&dir, 0o700)?;
    let metadata = fs::symlink_metadata(&dir)?;
    if !metadata.is_dir() || metadata.uid() != own_uid || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("it is not ours alone"));
    }
    for entry in fs::read_dir(&dir)?.flatten() {
        if connect(&entry.path()).is_err_and(|e| e == rustix::io::Errno::CONNREFUSED) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let path = dir.join(format!("{}.sock", std::process::id()));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, 8)?;
    Ok((socket, path))
}

impl Server {
    /// Opens the socket. Without it everything else works.
    pub(crate) fn open_admin(&mut self) {
        let Some(run_dir) = &self.run_dir else { return };
        let opened = listen(run_dir, self.own_uid);
        match opened {
            Ok((listener, path)) => {
                if self.poller.add(&listener, Source::Admin).is_ok() {
                    self.admin = Some(Admin { listener, path, clients: HashMap::new() });
                }
            }
            Err(e) => self.log.debug(
                vivarium_protocol::codes::SOCKET,
                format_args!(
                    "no socket for `vivarium reload` in {}: {e}; SIGHUP does the same",
                    run_dir.display()
                ),
            ),
        }
    }

    /// Somebody connects.
    pub(crate) fn admin_accept(&mut self) {
        let Some(admin) = &self.admin else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&admin.listener, flags) else { return };
        let known = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|p| p.uid.is_root() || p.uid.as_raw() == self.own_uid);
        if !known || admin.clients.len() >= CLIENTS {
            let _ = seqpacket::send(&socket, &Answer::Refused, &[], true);
            return;
        }
        let id = self.new_id();
        if self.poller.add(&socket, Source::AdminClient(id)).is_ok()
            && let Some(admin) = &mut self.admin
        {
            admin.clients.insert(id, socket);
        }
    }

    /// Somebody asks; the answer ends it.
    pub(crate) fn admin_asks(&mut self, id: u64) {
        let Some(socket) = self.admin.as_mut().and_then(|a| a.clients.remove(&id)) else { return };
        self.poller.remove(&socket);
        let mut buffer = [0; Request::LONGEST];
        let Ok((len, _)) = seqpacket::recv_bytes(&socket, &mut buffer, true) else { return };
        let Some(request) = Request::read(buffer.get(..len).unwrap_or_default()) else { return };
        let answer = match request {
            Request::Reload => {
                let (ok, lines) = self.reload_all("`vivarium reload`");
                Answer::Reloaded { ok, lines: cut(lines) }
            }
            Request::Status => Answer::Status(self.status()),
        };
        let _ = seqpacket::send(&socket, &answer, &[], true);
    }

    fn status(&self) -> Status {
        let wrong: Vec<String> =
            self.tenants.registry.names().filter_map(|(_, e)| e.map(str::to_owned)).collect();
        let pools = self.pools.values().take(LINES).map(|pool| PoolStatus {
            label: shorten(&pool.label),
            generation: pool.name.generation,
            ready: pool.ready().count() as u32,
            slots: pool.slots.iter().filter(|s| s.state != SlotState::Idle).count() as u32,
            down: pool.down.as_ref().map(|e| shorten(&format!("{}: {}", e.code, e.reason))),
        });
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            managed: self.managed,
            configuration: match &self.settings {
                Ok(_) => self.source.path().display().to_string(),
                Err(e) => shorten(e),
            },
            tenants_dir: self.tenants_dir().display().to_string(),
            tenants: count(self.tenants.registry.names().count()),
            wrong: cut(wrong).into_iter().take(20).collect(),
            children: count(self.children.len()),
            pool_count: count(self.pools.len()),
            pools: pools.take(60).collect(),
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(LINE).collect()
}

fn cut(lines: Vec<String>) -> Vec<String> {
    let count = lines.len();
    let mut kept: Vec<String> = lines.iter().take(LINES).map(|line| shorten(line)).collect();
    if count > LINES {
        kept.push(format!("... and {} lines more: see the log", count - LINES));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use vivarium_protocol::control::MAX_PACKET;

    #[test]
    fn answers_fit_a_packet() {
        let lines = cut(vec!["x".repeat(1000); 500]);
        assert_eq!(lines.len(), LINES + 1);
        let answer = Answer::Reloaded { ok: false, lines };
        assert!(codec::encode(&answer).unwrap().len() <= MAX_PACKET);
        let pool = PoolStatus {
            label: "l".repeat(LINE),
            generation: 1,
            ready: 1,
            slots: 1,
            down: Some("d".repeat(LINE)),
        };
        let status = Status {
            version: String::new(),
            pid: 1,
            managed: true,
            configuration: "c".repeat(LINE),
            tenants_dir: "d".repeat(4096),
            tenants: 1,
            wrong: vec!["w".repeat(LINE); 20],
            children: 1,
            pool_count: 1,
            pools: vec![pool; 60],
        };
        assert!(codec::encode(&Answer::Status(status)).unwrap().len() <= MAX_PACKET);
    }

    #[test]
    fn only_whole_requests_are_requests() {
        for request in [Request::Reload, Request::Status] {
            let mut packet = codec::encode(&request).unwrap();
            assert_eq!(Request::read(&packet), Some(request));
            packet.push(0);
            assert_eq!(Request::read(&packet), None, "something behind it");
        }
        assert_eq!(Request::read(&[]), None);
        assert_eq!(Request::read(&[2]), None, "there is no such request");
        assert_eq!(Request::read(&[0; Request::LONGEST + 1]), None);
    }

    #[test]
    fn stale_sockets_are_no_supervisors() {
        assert!(sockets(Path::new("/no/such/directory")).is_empty());
        assert!(ask(Path::new("/no/such/socket"), Request::Status).is_err());
    }
}
