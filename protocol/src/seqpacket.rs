//! `AF_UNIX` `SOCK_SEQPACKET` sockets that carry one message and a few descriptors a packet.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::control::{MAX_FDS, MAX_PACKET};

/// Why a packet could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The system call failed; `EAGAIN` on a non-blocking socket means "not now".
    #[error(transparent)]
    Os(#[from] rustix::io::Errno),
    /// The bytes are no such message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The packet was larger than [`MAX_PACKET`], or had more than [`MAX_FDS`] descriptors.
    #[error("packet cut short by the kernel: too long or with too many descriptors")]
    Cut,
    /// The peer has closed the connection.
    #[error("the peer has closed the connection")]
    Closed,
}

impl PacketError {
    /// Whether the call should be made again later.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Os(rustix::io::Errno::AGAIN))
    }
}

/// A connected pair, both ends close-on-exec.
///
/// # Errors
/// What `socketpair(2)` says.
pub fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one message with descriptors. Never raises SIGPIPE. `nonblocking`: `EAGAIN` instead of waiting for room.
///
/// # Errors
/// [`PacketError`]; a message over [`MAX_PACKET`] is [`CodecError::TooLong`].
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
    nonblocking: bool,
) -> Result<(), PacketError> {
    let bytes = codec::encode(message)?;
    if bytes.len() > MAX_PACKET {
        return Err(CodecError::TooLong(bytes.len()).into());
    }
    send_bytes(socket, &bytes, fds, nonblocking)
}

/// Sends raw bytes with descriptors; see [`send`].
///
/// # Errors
/// [`PacketError::Os`], [`PacketError::Cut`].
pub fn send_bytes(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    nonblocking: bool,
) -> Result<(), PacketError> {
    // The buffer's alignment may leave room for one more than it is made for.
    if fds.len() > MAX_FDS {
        return Err(PacketError::Cut);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(PacketError::Cut);
    }
    let mut flags = SendFlags::NOSIGNAL;
    if nonblocking {
        flags |= SendFlags::DONTWAIT;
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one packet into `buffer` (give it [`MAX_PACKET`] bytes); returns its length and its descriptors, all
/// close-on-exec. Nothing of an oversized packet is used, and its descriptors are closed.
///
/// # Errors
/// [`PacketError`].
pub fn recv_bytes(
    socket: impl AsFd,
    buffer: &mut [u8],
    nonblocking: bool,
) -> Result<(usize, Vec<OwnedFd>), PacketError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if nonblocking {
        flags |= RecvFlags::DONTWAIT;
    }
    let got = loop {
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Ok(got) => break got,
            Err(rustix::io::Errno::INTR) => {}
            // What the kernel says when the peer went away with packets of ours unread.
            Err(rustix::io::Errno::CONNRESET) => return Err(PacketError::Closed),
            Err(e) => return Err(e.into()),
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            fds.extend(list);
        }
    }
    if fds.len() > MAX_FDS || got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(PacketError::Cut);
    }
    if got.bytes == 0 {
        return Err(PacketError::Closed);
    }
    Ok((got.bytes, fds))
}

/// Receives one message and its descriptors.
///
/// # Errors
/// [`PacketError`].
pub fn recv<T: for<'a> Deserialize<'a>>(
    socket: impl AsFd,
    nonblocking: bool,
) -> Result<(T, Vec<OwnedFd>), PacketError> {
    let mut buffer = vec![0; MAX_PACKET];
    let (len, fds) = recv_bytes(socket, &mut buffer, nonblocking)?;
    Ok((codec::decode(&buffer[..len])?, fds))
}

#[cfg(all(test, not(loom)))]
mod tests;
