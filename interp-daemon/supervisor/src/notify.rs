//! systemd's readiness protocol: one datagram for each change, if `NOTIFY_SOCKET` names where to.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to the service manager, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// From the environment.
    pub(crate) fn from_env() -> Self {
        Self { to: std::env::var_os("NOTIFY_SOCKET").and_then(|path| Self::open(path.as_bytes())) }
    }

    fn open(path: &[u8]) -> Option<(UnixDatagram, SocketAddr)> {
        let address = match path {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
            [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)).ok()?,
            _ => return None,
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some((socket, address))
    }

    /// Says something, such as `READY=1`. Nobody is helped by an error here.
    pub(crate) fn say(&self, state: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }

    /// A new configuration is being read; `READY=1` follows.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000) + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_arrive() {
        let name = format!("vivariumd-notify-{}", std::process::id());
        let here =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = Notify { to: Notify::open(format!("@{name}").as_bytes()) };
        notify.say("READY=1");
        notify.reloading();
        let mut buffer = [0; 100];
        let got = here.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..got], b"READY=1");
        let got = here.recv(&mut buffer).unwrap();
        assert!(buffer[..got].starts_with(b"RELOADING=1\nMONOTONIC_USEC="));
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        assert!(Notify::open(b"relative").is_none());
        Notify::default().say("READY=1");
    }
}
