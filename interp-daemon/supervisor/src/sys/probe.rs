//! What the kernel lets us do, found out by doing it in a child that ends at once.

use std::io;

use super::sandbox;

/// Runs `attempt` in a child and gives the error that it met. The program must have one thread only.
fn in_child(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: the program has one thread (tests fork only to make system calls), and the child leaves by _exit, having
    // made system calls only.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = match attempt() {
                Ok(()) => 0,
                // Numbers of errors are below 134.
                Err(e) => e.raw_os_error().unwrap_or(libc::EIO).min(255),
            };
            // SAFETY: does not return and runs no destructors.
            unsafe { libc::_exit(status) }
        }
        pid => {
            let mut status = 0;
            loop {
                // SAFETY: `status` is a place for the status of our own child.
                let done = unsafe { libc::waitpid(pid, &raw mut status, 0) };
                if done == pid {
                    break;
                }
                let e = io::Error::last_os_error();
                if e.kind() != io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
            if !libc::WIFEXITED(status) {
                return Err(io::Error::other("the child that tried was killed"));
            }
            match libc::WEXITSTATUS(status) {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

/// Whether a namespace of this kind (`CLONE_NEW...`) can be made.
pub(crate) fn try_unshare(flag: i32) -> io::Result<()> {
    in_child(|| sandbox::unshare(flag))
}

/// Whether file systems can be mounted in a mount namespace of our own.
pub(crate) fn try_mount() -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    in_child(|| {
        sandbox::unshare(libc::CLONE_NEWNS)?;
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount(c"none", c"/tmp", c"tmpfs", MountFlags::NOSUID, c"size=4096")?;
        Ok(())
    })
}

/// Landlock's version, 0 if there is none.
pub(crate) fn landlock_abi() -> i32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the call takes no memory and gives a number.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION)
    };
    i32::try_from(abi).unwrap_or(0).max(0)
}

/// Whether filters can be installed.
pub(crate) fn has_seccomp() -> bool {
    // SAFETY: asks whether an action is known: reads one number.
    let done = unsafe {
        let action: u32 = libc::SECCOMP_RET_ERRNO;
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0 as libc::c_ulong,
            &raw const action,
        )
    };
    done == 0
}

/// Whether the key store is there.
pub(crate) fn has_keyrings() -> bool {
    in_child(sandbox::own_session_keyring).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_children_come_back() {
        assert!(in_child(|| Ok(())).is_ok());
        let e = in_child(|| Err(io::Error::from_raw_os_error(libc::EPERM))).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EPERM));
        let e = in_child(|| {
            rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            )?;
            Ok(())
        });
        assert!(e.unwrap_err().to_string().contains("killed"));
    }
}
