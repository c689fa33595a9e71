//! The system calls that need `unsafe`, behind safe faces: the only place of this program that uses it.
//!
//! [`exec`] turns a forked child into a worker; [`sandbox`] has what a sandbox's helper needs; [`probe`] finds out what the
//! kernel lets us do; [`users`] reads the user database.

#![allow(unsafe_code)]

pub(crate) mod exec;
pub(crate) mod probe;
pub(crate) mod sandbox;
pub(crate) mod users;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that the program was started with, and makes it close-on-exec.
///
/// Call it once for each number, at the start of `main`, before anything else could have been opened with it.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD touches no memory; on a closed number it says EBADF.
    let done = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, as just seen; it was so before this program opened anything, and the caller asks for
    // each number once, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor from `first` up: what the parent forgot to mark close-on-exec.
///
/// Call it at the start of `main`, before anything was opened.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: closes descriptors that nothing in this program owns yet.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives memory that is free back to the system: after many tenants were awake, that is most of it.
pub(crate) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches memory that is free alone; any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A `signalfd`: signals as readable events.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks `signals` and has them delivered here.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that it is given.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in signals {
            // SAFETY: the set was initialised above.
            unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
        }
        // SAFETY: the set is initialised; a null third argument is allowed.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that has arrived, if any.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is writable and of the size given.
        let got = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if usize::try_from(got) != Ok(size) {
            return None;
        }
        // SAFETY: the kernel has filled all of it.
        i32::try_from(unsafe { info.assume_init() }.ssi_signo).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A moment in local time, as far as a log line shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i32,
    /// 0 to 11.
    pub(crate) month: usize,
    pub(crate) day: i32,
    /// 0 is Sunday.
    pub(crate) weekday: usize,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) second: i32,
}

/// `seconds` since 1970 in local time.
pub(crate) fn local_time(seconds: i64) -> Option<LocalTime> {
    let mut tm = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid for the call; localtime_r keeps neither.
    let done = unsafe { libc::localtime_r(&raw const seconds, tm.as_mut_ptr()) };
    if done.is_null() {
        return None;
    }
    // SAFETY: localtime_r returned its argument, so it has filled it.
    let tm = unsafe { tm.assume_init() };
    Some(LocalTime {
        year: tm.tm_year + 1900,
        month: usize::try_from(tm.tm_mon).ok()?,
        day: tm.tm_mday,
        weekday: usize::try_from(tm.tm_wday).ok()?,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
    })
}
