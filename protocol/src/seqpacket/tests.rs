use std::io::Read;

use super::*;
use crate::control::{FromWorker, PoolKey, ToSupervisor};

/// A descriptor to send, and the pipe end that tells when its last copy is closed.
fn tracer() -> (OwnedFd, std::io::PipeReader) {
    let (read, write) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK).unwrap();
    (write.into(), read)
}

/// Whether all copies of the tracer's descriptor are closed.
fn all_closed(mut read: &std::io::PipeReader) -> bool {
    matches!(read.read(&mut [0]), Ok(0))
}

fn hello() -> ToSupervisor {
    ToSupervisor::Hello { version: 1, instance: u64::MAX, generation: 3 }
}

#[test]
fn messages_arrive_one_by_one_with_their_descriptors() {
    let (a, b) = pair().unwrap();
    let attach = ToSupervisor::Attach {
        pool: PoolKey { tenant: "default".into(), interpreter: "main".into() },
        region: 9,
    };
    let (read, mut write) = std::io::pipe().unwrap();
    send(&a, &hello(), &[], true).unwrap();
    send(&a, &attach, &[read.as_fd(), b.as_fd()], true).unwrap();
    drop(read);
    let (first, none) = recv::<ToSupervisor>(&b, true).unwrap();
    assert_eq!((first, none.len()), (hello(), 0));
    let (second, mut fds) = recv::<ToSupervisor>(&b, true).unwrap();
    assert_eq!((second, fds.len()), (attach, 2));
    for fd in &fds {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
    std::io::Write::write_all(&mut write, b"through").unwrap();
    drop(write);
    let mut text = String::new();
    std::fs::File::from(fds.remove(0)).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn nothing_there_and_nobody_there_are_told_apart() {
    let (a, b) = pair().unwrap();
    let error = recv::<ToSupervisor>(&b, true).unwrap_err();
    assert!(error.would_block(), "{error}");
    drop(a);
    let error = recv::<ToSupervisor>(&b, false).unwrap_err();
    assert!(matches!(error, PacketError::Closed) && !error.would_block(), "{error}");
    let error = send(&b, &hello(), &[], false).unwrap_err();
    assert!(matches!(error, PacketError::Os(rustix::io::Errno::PIPE)), "{error}");
    assert!(!error.would_block());
}

#[test]
fn a_full_socket_does_not_block_a_sender_that_must_not() {
    let (a, b) = pair().unwrap();
    let mut sent = 0;
    let error = loop {
        match send(&a, &hello(), &[], true) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(error.would_block() && sent > 0, "{error} after {sent}");
    for _ in 0..sent {
        recv::<ToSupervisor>(&b, true).unwrap();
    }
    assert!(recv::<ToSupervisor>(&b, true).unwrap_err().would_block());
}

#[test]
fn the_largest_packet_passes_and_a_larger_one_does_not() {
    let (a, b) = pair().unwrap();
    let failed = |len| FromWorker::Failed { reason: "x".repeat(len) };
    // The encoding adds one byte for the variant and three for the length.
    send(&a, &failed(MAX_PACKET - 4), &[], true).unwrap();
    assert_eq!(recv::<FromWorker>(&b, true).unwrap().0, failed(MAX_PACKET - 4));
    let error = send(&a, &failed(MAX_PACKET - 3), &[], true).unwrap_err();
    let PacketError::Codec(CodecError::TooLong(n)) = error else { panic!("{error}") };
    assert_eq!(n, MAX_PACKET + 1);
    // A peer that does not keep to it: cut by the kernel, refused as a whole, and its descriptors closed.
    let (fd, trace) = tracer();
    send_bytes(&a, &vec![0; MAX_PACKET + 1], &[fd.as_fd()], true).unwrap();
    send(&a, &hello(), &[], true).unwrap();
    drop(fd);
    assert!(!all_closed(&trace));
    assert!(matches!(recv::<FromWorker>(&b, true), Err(PacketError::Cut)));
    assert!(all_closed(&trace));
    assert_eq!(recv::<ToSupervisor>(&b, true).unwrap().0, hello(), "the next packet is whole");
}

#[test]
fn too_many_descriptors_are_refused_and_closed() {
    let (a, b) = pair().unwrap();
    let fd = a.as_fd();
    let error = send(&a, &hello(), &[fd; MAX_FDS + 1], true).unwrap_err();
    assert!(matches!(error, PacketError::Cut));
    send(&a, &hello(), &[fd; MAX_FDS], true).unwrap();
    assert_eq!(recv::<ToSupervisor>(&b, true).unwrap().1.len(), MAX_FDS);
    // A peer that sends one more, and one that sends many more than there is room for.
    for count in [MAX_FDS + 1, 20] {
        let (traced, trace) = tracer();
        let many = vec![traced.as_fd(); count];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let bytes = [IoSlice::new(b"x")];
        rustix::net::sendmsg(&a, &bytes, &mut control, SendFlags::empty()).unwrap();
        drop(traced);
        assert!(matches!(recv::<ToSupervisor>(&b, true), Err(PacketError::Cut)));
        assert!(all_closed(&trace), "descriptors of a refused packet stay open");
    }
}

#[test]
fn packets_that_are_no_message_are_typed_errors_and_lose_their_descriptors() {
    let (a, b) = pair().unwrap();
    let mut good = codec::encode(&hello()).unwrap();
    good.push(0);
    for bytes in [&good[..], &good[..3], &[0xff; 40]] {
        let (fd, trace) = tracer();
        send_bytes(&a, bytes, &[fd.as_fd()], true).unwrap();
        drop(fd);
        let error = recv::<ToSupervisor>(&b, true).unwrap_err();
        assert!(matches!(error, PacketError::Codec(_)), "{error}");
        assert!(all_closed(&trace));
    }
}
