//! Event loop and sockets: [`Poller`] around epoll, [`Conn`] around a non-blocking packet socket with a bounded queue.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use serde::Serialize;
use vivarium_protocol::codec;
use vivarium_protocol::control::MAX_PACKET;
use vivarium_protocol::seqpacket::{self, PacketError};

/// What an event is about. Numbers are never used again, so an event of something that is gone finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Listener,
    Channel,
    Signals,
    /// An httpd child's control socket.
    Child(u64),
    /// A worker's control socket.
    Worker(u64),
    /// A worker's pidfd.
    Process(u64),
    /// A worker's output pipe.
    Output(u64),
    /// The socket of `vivarium reload` and `vivarium status`.
    Admin,
    /// Who has connected to it.
    AdminClient(u64),
}

impl Source {
    fn to_data(self) -> EventData {
        let (kind, id) = match self {
            Self::Listener => (1, 0),
            Self::Channel => (2, 0),
            Self::Signals => (3, 0),
            Self::Child(id) => (4, id),
            Self::Worker(id) => (5, id),
            Self::Process(id) => (6, id),
            Self::Output(id) => (7, id),
            Self::Admin => (8, 0),
            Self::AdminClient(id) => (9, id),
        };
        EventData::new_u64(kind << 56 | id)
    }

    fn from_data(data: EventData) -> Option<Self> {
        let data = data.u64();
        let id = data & ((1 << 56) - 1);
        Some(match data >> 56 {
            1 => Self::Listener,
            2 => Self::Channel,
            3 => Self::Signals,
            4 => Self::Child(id),
            5 => Self::Worker(id),
            6 => Self::Process(id),
            7 => Self::Output(id),
            8 => Self::Admin,
            9 => Self::AdminClient(id),
            _ => return None,
        })
    }
}

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Reports when `fd` is readable.
    pub(crate) fn add(&self, fd: impl AsFd, source: Source) -> rustix::io::Result<()> {
        epoll::add(&self.0, fd, source.to_data(), EventFlags::IN)
    }

    fn set_writable(&self, fd: impl AsFd, source: Source, wanted: bool) -> rustix::io::Result<()> {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        epoll::modify(&self.0, fd, source.to_data(), flags)
    }

    /// No more reports. Must be called before a descriptor is closed: others may hold the same open file.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // Fails only for what is not registered.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits, at most until `deadline`, and puts what has happened into `events`.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        events: &mut Vec<Source>,
    ) -> rustix::io::Result<()> {
        events.clear();
        let limit = deadline.map(|d| {
            // Rounded up, so that what is due at the deadline is due when we wake.
            let left = d.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut buffer = [std::mem::MaybeUninit::<Event>::uninit(); 64];
        let (happened, _) = match epoll::wait(&self.0, &mut buffer, limit.as_ref()) {
            Ok(got) => got,
            Err(Errno::INTR) => return Ok(()),
            Err(e) => return Err(e),
        };
        events.extend(happened.iter().filter_map(|e| Source::from_data(e.data)));
        Ok(())
    }
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    fds: Vec<Rc<OwnedFd>>,
}

/// Why a packet cannot go out. The connection is to be given up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("it does not read: {0} packets are waiting for it")]
    Full(usize),
    #[error("{0}")]
    Gone(String),
}

/// A packet socket with what waits to be sent on it.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: OwnedFd,
    source: Source,
    queue: VecDeque<Packet>,
    most: usize,
    broken: bool,
}

impl Conn {
    /// Takes a socket into the event loop. `most` packets may wait.
    pub(crate) fn new(
        poller: &Poller,
        socket: OwnedFd,
        source: Source,
        most: usize,
    ) -> rustix::io::Result<Self> {
        poller.add(&socket, source)?;
        Ok(Self { socket, source, queue: VecDeque::new(), most, broken: false })
    }

    /// Sends now or as soon as there is room. After an error further packets are dropped silently.
    pub(crate) fn send<T: Serialize>(
        &mut self,
        poller: &Poller,
        message: &T,
        fds: &[&Rc<OwnedFd>],
    ) -> Result<(), SendError> {
        if self.broken {
            return Ok(());
        }
        let done = self.try_send(poller, message, fds);
        self.broken = done.is_err();
        done
    }

    fn try_send<T: Serialize>(
        &mut self,
        poller: &Poller,
        message: &T,
        fds: &[&Rc<OwnedFd>],
    ) -> Result<(), SendError> {
        let bytes = codec::encode(message).map_err(|e| SendError::Gone(e.to_string()))?;
        if bytes.len() > MAX_PACKET {
            return Err(SendError::Gone(format!("a packet of {} bytes is too long", bytes.len())));
        }
        let packet = Packet { bytes, fds: fds.iter().map(|fd| Rc::clone(fd)).collect() };
        if self.queue.is_empty() && self.put(&packet)? {
            return Ok(());
        }
        if self.queue.len() >= self.most {
            return Err(SendError::Full(self.queue.len()));
        }
        if self.queue.is_empty() {
            poller
                .set_writable(&self.socket, self.source, true)
                .map_err(|e| SendError::Gone(e.to_string()))?;
        }
        self.queue.push_back(packet);
        Ok(())
    }

    /// Whether the kernel took it.
    fn put(&self, packet: &Packet) -> Result<bool, SendError> {
        let fds: Vec<_> = packet.fds.iter().map(|fd| fd.as_fd()).collect();
        match seqpacket::send_bytes(&self.socket, &packet.bytes, &fds, true) {
            Ok(()) => Ok(true),
            Err(e) if e.would_block() => Ok(false),
            Err(e) => Err(SendError::Gone(e.to_string())),
        }
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self, poller: &Poller) -> Result<(), SendError> {
        if self.broken || self.queue.is_empty() {
            return Ok(());
        }
        while let Some(packet) = self.queue.pop_front() {
            match self.put(&packet) {
                Ok(true) => {}
                Ok(false) => {
                    self.queue.push_front(packet);
                    return Ok(());
                }
                Err(e) => {
                    self.broken = true;
                    return Err(e);
                }
            }
        }
        poller
            .set_writable(&self.socket, self.source, false)
            .map_err(|e| SendError::Gone(e.to_string()))
    }

    /// The next packet; `None` if there is none now.
    pub(crate) fn recv(
        &self,
        buffer: &mut [u8],
    ) -> Result<Option<(usize, Vec<OwnedFd>)>, PacketError> {
        match seqpacket::recv_bytes(&self.socket, buffer, true) {
            Ok(got) => Ok(Some(got)),
            Err(e) if e.would_block() => Ok(None),
            // The peer closed while something of ours lay unread: closed is closed.
            Err(PacketError::Os(Errno::CONNRESET | Errno::PIPE)) => Err(PacketError::Closed),
            Err(e) => Err(e),
        }
    }

    /// Nothing more will be sent: the peer reads what was, then the end.
    pub(crate) fn end_sending(&mut self) {
        self.broken = true;
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }

    /// Takes the socket out of the event loop and closes it.
    pub(crate) fn close(self, poller: &Poller) {
        poller.remove(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_epoll() {
        for source in [
            Source::Listener,
            Source::Channel,
            Source::Signals,
            Source::Child(0),
            Source::Worker((1 << 56) - 1),
            Source::Process(77),
            Source::Output(78),
        ] {
            assert_eq!(Source::from_data(source.to_data()), Some(source));
        }
        assert_eq!(Source::from_data(EventData::new_u64(0)), None);
    }

    #[test]
    fn a_peer_that_does_not_read_is_found_out_and_loses_nothing_before() {
        let poller = Poller::new().unwrap();
        let (ours, theirs) = seqpacket::pair().unwrap();
        let mut conn = Conn::new(&poller, ours, Source::Child(5), 10).unwrap();
        let text = "x".repeat(30_000);
        let mut sent = 0;
        let error = loop {
            match conn.send(&poller, &(sent, &text), &[]) {
                Ok(()) => sent += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(error, SendError::Full(10));
        assert_eq!(conn.send(&poller, &(99, &text), &[]), Ok(()), "silent after the error");
        conn.broken = false;
        // The peer reads: first what the kernel has, then, flushed, what waited; in order.
        let mut events = Vec::new();
        for expected in 0..sent {
            let ((number, _), _): ((i32, String), _) = seqpacket::recv(&theirs, false).unwrap();
            assert_eq!(number, expected);
            conn.flush(&poller).unwrap();
        }
        assert!(conn.queue.is_empty());
        drop(theirs);
        poller.wait(None, &mut events).unwrap();
        assert_eq!(events, [Source::Child(5)]);
        assert!(matches!(conn.recv(&mut [0; 100]), Err(PacketError::Closed)));
        assert!(matches!(conn.send(&poller, &1, &[]), Err(SendError::Gone(_))));
    }
}
