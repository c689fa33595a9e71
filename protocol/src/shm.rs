//! Sealed memfds and their mappings: the one place of this crate that uses `unsafe`.
//!
//! The face is safe: atomics at checked, aligned offsets and raw copies at checked ranges. No reference to shared
//! *bytes* ever leaves this module. A mapping is as large as the sealed file, so the peer can write into it at any time
//! (which is expected) but never take pages away (which would be a SIGBUS).

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::ring::RingMemory;
use crate::sync::{AtomicU32, AtomicU64};

/// The seals that a mapping must carry: nobody can resize the file, nor unseal it.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Why a descriptor from a peer is not mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A system call failed.
    #[error("{what}: {source}")]
    Os {
        /// The call.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The file is not sealed against resizing.
    #[error(
        "the memory is not sealed against resizing (seals {0:#x}): its owner could take it away under us"
    )]
    Seals(u32),
    /// The file's size is not the one expected.
    #[error("the memory has {actual} bytes, expected {expected}")]
    Size {
        /// What was expected, in bytes.
        expected: u64,
        /// What `fstat` says, in bytes.
        actual: u64,
    },
}

fn os(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> MapError {
    move |e| MapError::Os { what, source: e.into() }
}

/// A shared mapping of a sealed memfd.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that stays until `drop`; every access is an atomic or a raw copy, and concurrent
// access by anybody, this process's threads included, is what it is for.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Creates a memfd of `len` bytes (zeroed), seals it and maps it. `name` shows in `/proc/PID/maps`.
    ///
    /// # Errors
    /// [`MapError::Os`] with the failing call.
    pub fn create(name: &CStr, len: usize) -> Result<(Self, OwnedFd), MapError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // NOEXEC_SEAL is refused by kernels before 6.3; the seal it adds is welcome, not needed.
        let fd = rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| rustix::fs::memfd_create(name, flags))
            .map_err(os("memfd_create"))?;
        rustix::fs::ftruncate(&fd, len as u64).map_err(os("ftruncate"))?;
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(os("fcntl(F_ADD_SEALS)"))?;
        let mapping = Self::map(fd.as_fd(), len)?;
        Ok((mapping, fd))
    }

    /// The size of a sealed memfd from a peer, after its seals were checked.
    ///
    /// # Errors
    /// [`MapError::Seals`] or [`MapError::Os`].
    pub fn sealed_size(fd: BorrowedFd<'_>) -> Result<u64, MapError> {
        let seals = rustix::fs::fcntl_get_seals(fd).map_err(os("fcntl(F_GET_SEALS)"))?;
        if !seals.contains(SEALS) {
            return Err(MapError::Seals(seals.bits()));
        }
        let stat = rustix::fs::fstat(fd).map_err(os("fstat"))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Checks seals and size of a peer's memfd, then maps it.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn open(fd: BorrowedFd<'_>, expected: usize) -> Result<Self, MapError> {
        let actual = Self::sealed_size(fd)?;
        if actual != expected as u64 {
            return Err(MapError::Size { expected: expected as u64, actual });
        }
        Self::map(fd, expected)
    }

    fn map(fd: BorrowedFd<'_>, len: usize) -> Result<Self, MapError> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing; the file is sealed at `len`
        // bytes, so every page of it stays backed until we unmap it.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )
        }
        .map_err(os("mmap"))?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or(MapError::Os { what: "mmap", source: io::ErrorKind::OutOfMemory.into() })?;
        Ok(Self { base, len })
    }

    /// The size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mapping is empty (it never is).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&self, at: usize, size: usize) -> NonNull<u8> {
        assert!(
            at.checked_add(size).is_some_and(|end| end <= self.len),
            "offset {at} + {size} is outside a mapping of {} bytes",
            self.len
        );
        // SAFETY: `at + size` lies inside the mapping, as just checked.
        unsafe { self.base.add(at) }
    }

    /// The 32-bit atomic at byte offset `at`.
    ///
    /// # Panics
    /// If `at` is outside the mapping or not a multiple of 4: offsets come from our own layout, never from the peer.
    pub fn u32(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4), "offset {at} is not aligned");
        let place = self.place(at, 4).cast::<AtomicU32>();
        // SAFETY: inside the mapping and aligned (the base is page-aligned); an atomic may be shared with any writer
        // that uses atomic or single-copy stores; the mapping outlives the borrow of `self`.
        unsafe { place.as_ref() }
    }

    /// The 64-bit atomic at byte offset `at`; panics as [`Mapping::u32`], alignment 8.
    pub fn u64(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8), "offset {at} is not aligned");
        let place = self.place(at, 8).cast::<AtomicU64>();
        // SAFETY: as in `u32`.
        unsafe { place.as_ref() }
    }

    /// Copies `from` to offset `at`; panics if that is outside the mapping.
    pub fn copy_in(&self, at: usize, from: &[u8]) {
        let place = self.place(at, from.len());
        // SAFETY: the range lies inside the mapping; `from` is private memory, so the two cannot overlap; racing
        // writers of the peer can spoil the bytes, not the copy's bounds.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), place.as_ptr(), from.len()) }
    }

    /// Copies from offset `at` to `to`; panics if that is outside the mapping.
    pub fn copy_out(&self, at: usize, to: &mut [u8]) {
        let place = self.place(at, to.len());
        // SAFETY: as in `copy_in`; whatever bytes arrive are valid `u8`s and are validated by the caller after the copy.
        unsafe { std::ptr::copy_nonoverlapping(place.as_ptr(), to.as_mut_ptr(), to.len()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of our own mapping, and no borrow of `self` is left.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// One ring inside a mapping.
#[derive(Debug, Clone)]
pub struct ShmRing {
    mapping: Arc<Mapping>,
    head: usize,
    tail: usize,
    data: usize,
    capacity: u32,
}

impl ShmRing {
    /// A ring whose published indices and bytes are at these offsets; checks that all of it lies inside.
    ///
    /// # Panics
    /// If the layout does not fit the mapping or `capacity` is no power of two: layouts are our own.
    pub fn new(
        mapping: Arc<Mapping>,
        head: usize,
        tail: usize,
        data: usize,
        capacity: u32,
    ) -> Self {
        assert!(capacity.is_power_of_two() && capacity <= 1 << 30);
        let _ = (mapping.u32(head), mapping.u32(tail), mapping.place(data, capacity as usize));
        Self { mapping, head, tail, data, capacity }
    }
}

impl RingMemory for ShmRing {
    fn head(&self) -> &AtomicU32 {
        self.mapping.u32(self.head)
    }
    fn tail(&self) -> &AtomicU32 {
        self.mapping.u32(self.tail)
    }
    fn capacity(&self) -> u32 {
        self.capacity
    }
    fn copy_in(&self, at: u32, from: &[u8]) {
        debug_assert!(at as usize + from.len() <= self.capacity as usize);
        self.mapping.copy_in(self.data + at as usize, from);
    }
    fn copy_out(&self, at: u32, to: &mut [u8]) {
        debug_assert!(at as usize + to.len() <= self.capacity as usize);
        self.mapping.copy_out(self.data + at as usize, to);
    }
    fn place(&self, at: u32) -> *const u8 {
        debug_assert!(at < self.capacity);
        self.mapping.place(self.data + at as usize, 1).as_ptr()
    }
}

#[cfg(test)]
mod tests;
