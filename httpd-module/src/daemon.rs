//! httpd's parent and the supervisor: the listening socket, starting `vivariumd`, starting it again, telling it of a
//! new configuration.
//!
//! The parent never runs threads and never waits for the supervisor. What must survive a reload (two descriptors, a
//! pid, a few numbers) is plain data in httpd's retained memory. The listening socket is made once and kept: while the
//! supervisor is being started again, children's connections wait in its backlog.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use vivarium_protocol::control::{self, Config, FromParent};
use vivarium_protocol::{PROTOCOL_VERSION, codes, seqpacket};

use crate::apache::log::{self, Level};
use crate::apache::server::{self, Server};
use crate::config::server::Daemon;
use crate::retained::{self, Retained};
use crate::{paths, process};

static STARTED: AtomicI64 = AtomicI64::new(0);

/// When this generation's configuration was read, in microseconds since 1970.
pub(crate) fn started_at() -> i64 {
    STARTED.load(Ordering::Relaxed)
}

/// How often a supervisor may die within [`WINDOW`] before it is started again only every few seconds.
const QUICK_RESTARTS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// What `post_config` does in the pass that counts. Never fails: a failure would end httpd on a reload.
pub(crate) fn post_config(main: Server<'_>, retained: &mut Retained) {
    retained.generation += 1;
    if retained.instance == 0 {
        retained.instance = process::random_u64().max(1);
        retained.parent = process::pid();
    }
    STARTED.store(process::now_micros(), Ordering::Relaxed);
    server::count(main);
    match main.conf().and_then(|c| c.daemon.clone()).unwrap_or(Daemon::Managed(None)) {
        Daemon::Socket(path) => {
            stop_managed(retained);
            retained.set_path(path.as_bytes());
            retained.managed = false;
        }
        Daemon::Managed(program) => {
            retained.managed = true;
            retained.set_program(program.unwrap_or_default().as_bytes());
            if let Err(e) = ensure_listener(main, retained) {
                log::server(Some(main), Level::Err, &format!("{}: {e}", codes::SOCKET));
                return;
            }
            if retained.channel < 0 || push_config(retained).is_err() {
                start(retained);
            }
        }
    }
}

fn stop_managed(retained: &mut Retained) {
    // The supervisor ends when it sees the end of its channel.
    drop(take_fd(&mut retained.channel));
    if retained.listener >= 0 {
        drop(take_fd(&mut retained.listener));
        let _ = std::fs::remove_file(retained.path());
    }
    retained.pid = 0;
}

#[allow(unsafe_code)]
fn take_fd(fd: &mut RawFd) -> Option<OwnedFd> {
    let raw = std::mem::replace(fd, -1);
    // SAFETY: descriptors in the retained record are open and owned by it; replacing one by -1 hands it over.
    (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) })
}

#[allow(unsafe_code)]
fn borrow(fd: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: as above; the record keeps the descriptor open while the borrow is used within one call.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Makes the socket that children connect to, once in httpd's life.
fn ensure_listener(main: Server<'_>, retained: &mut Retained) -> Result<(), String> {
    if retained.listener >= 0 {
        return Ok(());
    }
    let name = format!("vivarium.{}.sock", process::pid());
    let wanted = paths::runtime_file(&name);
    let (path, fd) = match process::listen(&wanted) {
        Ok(fd) => (wanted, fd),
        // A plain user may not write the run directory: then a private directory below the temporary one.
        Err(first) => {
            let private = process::private_directory().map(|d| d.join(&name));
            let done = private.and_then(|p| process::listen(&p).map(|fd| (p, fd)));
            done.map_err(|e| {
                format!(
                    "cannot make the supervisor's socket: {}: {first}; then in a private directory: {e}. \
                     Set DefaultRuntimeDir to a directory that httpd may write",
                    wanted.display()
                )
            })?
        }
    };
    let (uid, gid) = paths::child_ids();
    process::give(&path, uid, gid)
        .map_err(|e| format!("{}: cannot be given to httpd's user: {e}", path.display()))?;
    retained.set_path(path.as_os_str().as_encoded_bytes());
    retained.listener = fd.into_raw_fd();
    if let Some(pool) = main.process_pool() {
        retained::unlink_at_exit(pool);
    }
    Ok(())
}

/// Starts the supervisor and sends it the configuration.
fn start(retained: &mut Retained) {
    drop(take_fd(&mut retained.channel));
    let program = match retained.program() {
        Some(p) => PathBuf::from(p),
        None => paths::supervisor(),
    };
    if let Err(e) = spawn(&program, retained) {
        retained.pid = 0;
        let text = format!(
            "{}: {}: {e}. Python is not available (503) until this is mended and httpd reloaded; \
             VivariumDaemon names another program",
            codes::CANNOT_START_SUPERVISOR,
            program.display()
        );
        log::server(None, Level::Err, &text);
        return;
    }
    if let Err(e) = push_config(retained) {
        log::server(None, Level::Err, &format!("{}: {e}", codes::CANNOT_START_SUPERVISOR));
    }
}

fn spawn(program: &Path, retained: &mut Retained) -> std::io::Result<()> {
    let Some(listener) = borrow(retained.listener) else {
        return Err(std::io::Error::other("there is no socket to listen on"));
    };
    let (ours, theirs) = seqpacket::pair()?;
    let pid = process::spawn_supervisor(program, listener, theirs.as_fd())?;
    retained.channel = ours.into_raw_fd();
    retained.pid = pid;
    retained.started = process::now_micros();
    retained::watch(pid);
    Ok(())
}

fn push_config(retained: &mut Retained) -> Result<(), String> {
    let optimize =
        server::main().is_some_and(|m| m.chain().any(|s| s.conf().is_some_and(|c| c.optimize)));
    let (child_uid, child_gid) = paths::child_ids();
    let found = paths::worker_files();
    let config = Config {
        version: PROTOCOL_VERSION,
        instance: retained.instance,
        generation: retained.generation,
        child_uid,
        child_gid,
        package_dir: found.packages.display().to_string(),
        extension: found.extension.display().to_string(),
        optimize,
        server_root: paths::server_root(),
        tenants_dir: server::main().and_then(|m| m.conf()?.tenants_dir.clone()).unwrap_or_default(),
    };
    let channel = borrow(retained.channel).ok_or("no channel to the supervisor")?;
    let stderr = std::io::stderr();
    seqpacket::send(channel, &FromParent::Config(config), &[stderr.as_fd()], true)
        .map_err(|e| format!("cannot tell the supervisor of the configuration: {e}"))?;
    if retained.pid != 0 {
        retained::watch(retained.pid);
    }
    Ok(())
}

/// The supervisor has died (told by the MPM), or may have (asked by the monitor).
pub(crate) fn died(how: &str) {
    let Some(retained) = retained::get() else { return };
    retained.pid = 0;
    drop(take_fd(&mut retained.channel));
    if !retained.managed || process::is_stopping() {
        return;
    }
    let now = process::now_micros();
    if now - retained.window_began > WINDOW.as_micros() as i64 {
        retained.window_began = now;
        retained.deaths = 0;
    }
    retained.deaths += 1;
    let quick = retained.deaths <= QUICK_RESTARTS;
    let text = format!(
        "{}: {how}; {}",
        codes::SUPERVISOR_DIED,
        if quick {
            "starting it again"
        } else {
            "it dies too often: trying again in a few seconds"
        }
    );
    log::server(None, Level::Err, &text);
    if quick {
        start(retained);
    }
}

/// From httpd's monitor hook, every few seconds: a supervisor that could not be started is tried again.
pub(crate) fn monitor() {
    let Some(retained) = retained::get() else { return };
    if retained.managed && retained.pid == 0 && retained.listener >= 0 && !process::is_stopping() {
        start(retained);
    }
}

/// How long the supervisor may take to stop its workers: they have 2 s (10 s while a child lives), and a second more before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// httpd ends: so does the supervisor, and httpd waits for it. What clean-ups write when workers stop is in the log when
/// httpd is gone, and nothing is left that a service manager would kill.
pub(crate) fn stop_at_exit() {
    let Some(retained) = retained::get() else { return };
    if !process::is_exiting() || retained.parent != process::pid() || !retained.managed {
        return;
    }
    let pid = std::mem::take(&mut retained.pid);
    // It ends when it sees the end of its channel.
    drop(take_fd(&mut retained.channel));
    if pid != 0 && !process::wait_for(pid, STOP_LIMIT) {
        let text =
            format!("{}: the supervisor (pid {pid}) has not stopped in time", codes::STOPPING);
        log::server(None, Level::Err, &text);
    }
}

/// In a new child: the parent's descriptors are not its business, and an open copy of the channel would hide the
/// parent's end from the supervisor.
pub(crate) fn child_init() {
    if let Some(retained) = retained::get() {
        drop(take_fd(&mut retained.channel));
        drop(take_fd(&mut retained.listener));
    }
}

/// Connects to the supervisor, managed or not; waits at most `limit` for room in its backlog.
pub(crate) fn connect(limit: Duration) -> Result<(OwnedFd, u64, u32), String> {
    let retained = retained::get().ok_or("httpd's configuration has not been read yet")?;
    let path = retained.path();
    if path.as_os_str().is_empty() {
        return Err("httpd could not make the supervisor's socket; see the log of its start".into());
    }
    let until = Instant::now() + limit;
    loop {
        match process::connect(&path) {
            Ok(fd) => return Ok((fd, retained.instance, retained.generation)),
            Err(e) if process::is_temporary(&e) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => return Err(format!("{}: {e}", path.display())),
        }
    }
}

const _: () = assert!(control::SUPERVISOR_LISTEN_FD == 3 && control::SUPERVISOR_CHANNEL_FD == 4);
