use std::os::fd::AsFd;

use super::*;
use crate::sync::Ordering;

fn memfd(len: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(c"test", flags).unwrap();
    rustix::fs::ftruncate(&fd, len).unwrap();
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

#[test]
fn created_memory_cannot_be_resized_or_unsealed_and_is_shared() {
    let (mine, fd) = Mapping::create(c"test", 8192).unwrap();
    assert_eq!(Mapping::sealed_size(fd.as_fd()).unwrap(), 8192);
    for len in [0, 4096, 16384] {
        assert!(rustix::fs::ftruncate(&fd, len).is_err(), "resized to {len}");
    }
    assert!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE).is_err());
    let theirs = Mapping::open(fd.as_fd(), 8192).unwrap();
    mine.copy_in(8190, b"ab");
    let mut two = [0; 2];
    theirs.copy_out(8190, &mut two);
    assert_eq!(&two, b"ab");
    theirs.u32(4).store(7, Ordering::Relaxed);
    assert_eq!(mine.u64(0).load(Ordering::Relaxed), 7 << 32);
    assert_eq!((mine.len(), mine.is_empty()), (8192, false));
}

#[test]
fn every_missing_seal_is_noticed() {
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
        let fd = memfd(4096, SEALS.difference(missing));
        assert!(matches!(Mapping::open(fd.as_fd(), 4096), Err(MapError::Seals(_))), "{missing:?}");
        assert!(matches!(Mapping::sealed_size(fd.as_fd()), Err(MapError::Seals(_))));
    }
    assert!(Mapping::open(memfd(4096, SEALS).as_fd(), 4096).is_ok());
}

#[test]
fn other_sizes_and_other_files_are_refused() {
    for len in [0, 4095, 4097, 8192] {
        let error = Mapping::open(memfd(len, SEALS).as_fd(), 4096).unwrap_err();
        assert!(
            matches!(error, MapError::Size { expected: 4096, actual } if actual == len),
            "{error}"
        );
    }
    // What has no seals at all: a pipe, a directory. The error names the call.
    let (pipe, _end) = std::io::pipe().unwrap();
    let error = Mapping::open(pipe.as_fd(), 4096).unwrap_err();
    assert!(error.to_string().starts_with("fcntl(F_GET_SEALS): "), "{error}");
    let root = std::fs::File::open("/").unwrap();
    assert!(Mapping::open(root.as_fd(), 4096).is_err());
    // Sealed against writing: it cannot be mapped for writing.
    let fd = memfd(4096, SEALS.union(SealFlags::WRITE));
    let error = Mapping::open(fd.as_fd(), 4096).unwrap_err();
    assert!(error.to_string().starts_with("mmap: "), "{error}");
}

#[test]
fn every_place_outside_panics_instead_of_being_touched() {
    type Act = fn(&Mapping);
    let (mapping, _fd) = Mapping::create(c"test", 4096).unwrap();
    let mapping = std::sync::Arc::new(mapping);
    let acts: [(&str, Act); 8] = [
        ("u32 at the end", |m| _ = m.u32(4096)),
        ("u32 not aligned", |m| _ = m.u32(2)),
        ("u64 across the end", |m| _ = m.u64(4096)),
        ("u64 not aligned", |m| _ = m.u64(4)),
        ("u32 far away", |m| _ = m.u32(usize::MAX - 3)),
        ("copy in across the end", |m| m.copy_in(4095, &[0; 2])),
        ("copy out across the end", |m| m.copy_out(4090, &mut [0; 7])),
        ("copy out, sum overflows", |m| m.copy_out(usize::MAX, &mut [0; 7])),
    ];
    for (what, act) in acts {
        let mapping = std::sync::Arc::clone(&mapping);
        assert!(std::thread::spawn(move || act(&mapping)).join().is_err(), "{what}");
    }
    mapping.copy_in(4096, &[]);
    mapping.copy_in(0, &[1; 4096]);
}

#[test]
fn a_ring_must_lie_inside() {
    let (mapping, _fd) = Mapping::create(c"test", 8192).unwrap();
    let mapping = std::sync::Arc::new(mapping);
    for (head, tail, data, capacity) in
        [(0, 64, 4096, 8192), (8192, 64, 0, 64), (0, 8190, 0, 64), (0, 64, 4096, 3000)]
    {
        let mapping = std::sync::Arc::clone(&mapping);
        let ring = std::thread::spawn(move || ShmRing::new(mapping, head, tail, data, capacity));
        assert!(ring.join().is_err(), "{head} {tail} {data} {capacity}");
    }
    assert_eq!(ShmRing::new(mapping, 0, 64, 4096, 4096).capacity(), 4096);
}
