//! System calls around processes and sockets that the parent and the children make.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sys;

/// This process.
pub(crate) fn pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Whether there is a process of this number.
pub(crate) fn exists(pid: i32) -> bool {
    // EPERM: there is one that is not ours.
    Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// Eight random bytes from the kernel; the clock and the pid if it has none to give.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer has the length that is passed.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n == 8 { u64::from_ne_bytes(bytes) } else { now_micros() as u64 ^ (pid() as u64) << 32 }
}

/// Whether httpd's MPM is stopping.
pub(crate) fn is_stopping() -> bool {
    let mut state = 0;
    // SAFETY: a query into a local integer.
    let known =
        unsafe { sys::ap_mpm_query(sys::AP_MPMQ_MPM_STATE, &raw mut state) } == sys::APR_SUCCESS;
    known && state == sys::AP_MPMQ_STOPPING
}

/// Whether httpd is ending: its configuration's pool goes for good.
pub(crate) fn is_exiting() -> bool {
    // SAFETY: a plain query.
    unsafe { sys::ap_state_query(sys::AP_SQ_MAIN_STATE) == sys::AP_SQ_MS_EXITING }
}

/// Waits for a child of this process to end, and reaps it; false if it has not ended after `limit`.
pub(crate) fn wait_for(pid: i32, limit: Duration) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    // Reaped already, by whoever waits for any child.
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            _ => break,
        }
    }
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    true
}

/// `wait` status as a person says it.
pub(crate) fn describe_wait_status(status: i32) -> String {
    ExitStatus::from_raw(status).to_string()
}

/// A listening `SOCK_SEQPACKET` socket at `path`; a stale one is replaced.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let address = SocketAddrUnix::new(path)?;
    let _ = std::fs::remove_file(path);
    rustix::net::bind(&socket, &address)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, 1024)?;
    Ok(socket)
}

/// Connects to a listening socket.
pub(crate) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // A full backlog must not block the thread for ever: then the kernel says EAGAIN, and the caller tries again.
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

/// Whether connecting again later may help.
pub(crate) fn is_temporary(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Gives a socket's file to the user that httpd's children run as.
pub(crate) fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

const PRIVATE_PREFIX: &str = "vivarium-";

/// A new directory below the temporary one that only we may enter.
pub(crate) fn private_directory() -> io::Result<PathBuf> {
    let name =
        format!("{PRIVATE_PREFIX}{}-{:016x}", rustix::process::geteuid().as_raw(), random_u64());
    let path = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

/// Removes the directory of `file` if [`private_directory`] made it.
pub(crate) fn remove_private_directory(file: &Path) {
    if let Some(dir) = file.parent() {
        let ours = dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PRIVATE_PREFIX));
        if ours && dir.starts_with(std::env::temp_dir()) {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// Starts `vivariumd --managed` with the listening socket as descriptor 3, the channel as 4, and our error log as 2.
pub(crate) fn spawn_supervisor(
    program: &Path,
    listener: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
) -> io::Result<i32> {
    // The two must not be in each other's place, nor in that of the pipe by which `spawn` reports a failing exec:
    // fill the low numbers, then move both out of the way.
    let fillers = (std::fs::File::open("/dev/null")?, std::fs::File::open("/dev/null")?);
    let listener = rustix::io::fcntl_dupfd_cloexec(listener, 10)?;
    let channel = rustix::io::fcntl_dupfd_cloexec(channel, 10)?;
    let (l, c) = (listener.as_raw_fd(), channel.as_raw_fd());
    let mut command = Command::new(program);
    command
        .arg("--managed")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .current_dir("/");
    // SAFETY: between fork and exec only async-signal-safe calls on captured integers.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 || libc::dup2(l, 3) < 0 || libc::dup2(c, 4) < 0 {
                return Err(io::Error::last_os_error());
            }
            // Whatever else httpd has open stays here. An old kernel without the call leaves it to the supervisor,
            // which closes everything above 4 first.
            libc::syscall(libc::SYS_close_range, 5, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    let child = command.spawn()?;
    drop(fillers);
    // Not waited for here: httpd's main loop reaps it and tells us.
    Ok(child.id() as i32)
}

/// Runs `start` with all signals blocked, so that a thread it starts never takes httpd's.
pub(crate) fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let mut all = core::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    let mut old = core::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are initialised by the calls before they are read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), core::ptr::null_mut());
        result
    }
}
