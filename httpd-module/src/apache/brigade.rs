//! Bucket brigades: what httpd moves bodies in.

use core::ffi::c_char;
use core::ptr::{NonNull, null, null_mut};
use std::os::fd::{IntoRawFd, OwnedFd};

use super::buffers;
use super::connection::Connection;
use super::pool::Pool;
use super::request::Request;
use crate::sys;

/// A brigade. Its memory belongs to a pool; this handle only names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Brigade(NonNull<sys::apr_bucket_brigade>);

/// What the next bucket of a brigade is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'b> {
    /// The brigade is empty.
    Empty,
    /// End of stream.
    Eos,
    /// A flush bucket.
    Flush,
    /// Another metadata bucket.
    Meta,
    /// Data; gone when the bucket is removed.
    Data(&'b [u8]),
    /// The bucket cannot be read; the APR status.
    Failed(i32),
}

/// What the next bucket of a brigade is, without a look at its data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// The brigade is empty.
    Empty,
    /// End of stream.
    Eos,
    /// Other metadata.
    Meta,
    /// So many bytes.
    Data(u64),
    /// Data whose size is known when it has been read.
    Unknown,
}

impl Brigade {
    /// # Safety
    /// `b` is null or live as long as the handle is used.
    pub(crate) unsafe fn from_raw(b: *mut sys::apr_bucket_brigade) -> Option<Self> {
        NonNull::new(b).map(Self)
    }

    /// A new, empty brigade that lives as long as `pool`.
    pub(crate) fn new(pool: Pool<'_>, c: Connection<'_>) -> Option<Self> {
        // SAFETY: live pool and allocator.
        NonNull::new(unsafe { sys::apr_brigade_create(pool.as_ptr(), c.bucket_alloc()) }).map(Self)
    }

    pub(crate) fn as_ptr(self) -> *mut sys::apr_bucket_brigade {
        self.0.as_ptr()
    }

    fn alloc(self) -> *mut sys::apr_bucket_alloc_t {
        // SAFETY: live brigade.
        unsafe { (*self.as_ptr()).bucket_alloc }
    }

    /// The ring's sentinel (`APR_BRIGADE_SENTINEL`): the list head seen as a bucket, whose link is its first member.
    fn sentinel(self) -> *mut sys::apr_bucket {
        const _: () = assert!(core::mem::offset_of!(sys::apr_bucket, link) == 0);
        // SAFETY: live brigade; only the address is taken.
        unsafe { (&raw mut (*self.as_ptr()).list).cast() }
    }

    fn first(self) -> *mut sys::apr_bucket {
        // SAFETY: live brigade.
        unsafe { (*self.as_ptr()).list.next }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.first() == self.sentinel()
    }

    /// `APR_BRIGADE_INSERT_TAIL`.
    fn push(self, e: *mut sys::apr_bucket) {
        if e.is_null() {
            return;
        }
        let sentinel = self.sentinel();
        // SAFETY: live brigade and a new bucket that is in no ring; the four stores keep the ring closed. The sentinel
        // is reached only through its link, which is the list head itself.
        unsafe {
            let last = (*sentinel).link.prev;
            (*e).link.next = sentinel;
            (*e).link.prev = last;
            (*last).link.next = e;
            (*sentinel).link.prev = e;
        }
    }

    /// Takes the first bucket out and destroys it (`apr_bucket_delete`).
    pub(crate) fn drop_first(self) {
        let e = self.first();
        if e == self.sentinel() {
            return;
        }
        // SAFETY: a bucket of the ring: unlink it, run its type's destructor on its data, free it by its own function.
        unsafe {
            let (next, prev) = ((*e).link.next, (*e).link.prev);
            (*prev).link.next = next;
            (*next).link.prev = prev;
            if let Some(destroy) = (*(*e).type_).destroy {
                destroy((*e).data);
            }
            if let Some(free) = (*e).free {
                free(e.cast());
            }
        }
    }

    /// Moves the first bucket to the end of `to`.
    pub(crate) fn move_first(self, to: Brigade) {
        let e = self.first();
        if e == self.sentinel() {
            return;
        }
        // SAFETY: as in `drop_first`, without the destruction.
        unsafe {
            let (next, prev) = ((*e).link.next, (*e).link.prev);
            (*prev).link.next = next;
            (*next).link.prev = prev;
        }
        to.push(e);
    }

    /// Looks at the first bucket, reading it if it holds data (which may morph it and split off a following one).
    pub(crate) fn peek<'b>(self) -> Next<'b> {
        let e = self.first();
        if e == self.sentinel() {
            return Next::Empty;
        }
        // SAFETY: a bucket of the ring. `read` returns bytes that stay until the bucket is destroyed.
        unsafe {
            let kind = (*e).type_;
            if core::ptr::eq(kind, &raw const sys::apr_bucket_type_eos) {
                return Next::Eos;
            }
            if core::ptr::eq(kind, &raw const sys::apr_bucket_type_flush) {
                return Next::Flush;
            }
            if (*kind).is_metadata == sys::APR_BUCKET_METADATA {
                return Next::Meta;
            }
            let (mut data, mut len) = (null::<c_char>(), 0_usize);
            let Some(read) = (*kind).read else { return Next::Meta };
            let status = read(e, &raw mut data, &raw mut len, sys::APR_BLOCK_READ);
            if status != sys::APR_SUCCESS {
                return Next::Failed(status);
            }
            if len == 0 || data.is_null() {
                return Next::Data(&[]);
            }
            Next::Data(core::slice::from_raw_parts(data.cast(), len))
        }
    }

    /// The first bucket's size; it is not read.
    pub(crate) fn size_of_first(self) -> Size {
        let e = self.first();
        if e == self.sentinel() {
            return Size::Empty;
        }
        // SAFETY: a bucket of the ring.
        unsafe {
            if core::ptr::eq((*e).type_, &raw const sys::apr_bucket_type_eos) {
                return Size::Eos;
            }
            if (*(*e).type_).is_metadata == sys::APR_BUCKET_METADATA {
                return Size::Meta;
            }
            // `(apr_size_t)-1`: not known.
            if (*e).length == usize::MAX as _ {
                Size::Unknown
            } else {
                Size::Data((*e).length as u64)
            }
        }
    }

    /// Splits the first bucket, whose size is known, behind its first `at` bytes. False if it cannot be split.
    pub(crate) fn split_first(self, at: usize) -> bool {
        let e = self.first();
        if e == self.sentinel() {
            return false;
        }
        // SAFETY: a bucket of the ring; `split` checks the place.
        unsafe { (*(*e).type_).split.is_some_and(|split| split(e, at) == sys::APR_SUCCESS) }
    }

    /// Appends a copy of `data`, merged into the last bucket when that has room.
    pub(crate) fn write(self, data: &[u8]) {
        // SAFETY: live brigade; without a flush function the call only copies. It fails never (APR aborts on no memory).
        unsafe {
            let _ = sys::apr_brigade_write(
                self.as_ptr(),
                None,
                null_mut(),
                data.as_ptr().cast(),
                data.len(),
            );
        }
    }

    /// Appends a heap bucket of `len` bytes that `fill` writes into; nothing is appended if it fails.
    ///
    /// # Errors
    /// Whatever `fill` returns.
    pub(crate) fn write_with<E>(
        self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let alloc = self.alloc();
        // SAFETY: live allocator. The memory is ours until it is given to the bucket or freed.
        let memory = unsafe { sys::apr_bucket_alloc(len, alloc).cast::<u8>() };
        if memory.is_null() {
            std::process::abort();
        }
        // SAFETY: `len` bytes of our own; zeroed before a reference to them is made.
        let slice = unsafe {
            memory.write_bytes(0, len);
            core::slice::from_raw_parts_mut(memory, len)
        };
        if let Err(e) = fill(slice) {
            // SAFETY: allocated above, given to nobody.
            unsafe { sys::apr_bucket_free(memory.cast()) };
            return Err(e);
        }
        // SAFETY: the bucket takes the memory over and frees it by the function that fits its allocator.
        self.push(unsafe {
            sys::apr_bucket_heap_create(memory.cast(), len, Some(sys::apr_bucket_free), alloc)
        });
        Ok(())
    }

    /// Appends `len` bytes that `fill` writes, piece by piece, in buckets whose memory is used again.
    ///
    /// # Errors
    /// Whatever `fill` returns; the pieces before stay.
    pub(crate) fn write_large<E>(
        self,
        len: usize,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = len;
        while left > 0 {
            let n = left.min(buffers::SIZE);
            let mut buffer = buffers::take();
            fill(&mut buffer[..n])?;
            left -= n;
            // SAFETY: the bucket takes the buffer over and gives it back by the function that fits.
            self.push(unsafe {
                let memory = buffers::into_raw(buffer).cast();
                sys::apr_bucket_heap_create(memory, n, Some(buffers::free), self.alloc())
            });
        }
        Ok(())
    }

    /// Appends `len` bytes that are neither copied nor kept: a filter that does not write them at once copies them
    /// (`APR_BUCKET_TRANSIENT`).
    ///
    /// # Safety
    /// The bytes stay where they are until the brigade was passed on and cleared. Others may change them meanwhile: the
    /// brigade is only for filters that do not look at them ([`super::filter::copies_only`]).
    pub(crate) unsafe fn push_transient(self, place: *const u8, len: usize) {
        // SAFETY: live allocator; the bucket only keeps the address.
        self.push(unsafe { sys::apr_bucket_transient_create(place.cast(), len, self.alloc()) });
    }

    pub(crate) fn push_flush(self) {
        // SAFETY: live allocator.
        self.push(unsafe { sys::apr_bucket_flush_create(self.alloc()) });
    }

    pub(crate) fn push_eos(self) {
        // SAFETY: live allocator.
        self.push(unsafe { sys::apr_bucket_eos_create(self.alloc()) });
    }

    /// An error bucket: the HTTP filters then withhold the final chunk and close the connection.
    pub(crate) fn push_error(self, status: i32, r: Request<'_>) {
        // SAFETY: live pool and allocator.
        self.push(unsafe {
            sys::ap_bucket_error_create(status, null(), r.pool().as_ptr(), self.alloc())
        });
    }

    /// Appends part of a file. Never mapped: its owner may truncate it at any time, and a mapping would then kill us.
    ///
    /// The file lives in the connection's pool, so that httpd does not move it to another pool when it sets the bucket
    /// aside (APR forgets to close a moved file that it did not open itself), and is closed with the request, which
    /// ends after its last bucket has been written.
    pub(crate) fn push_file(self, fd: OwnedFd, offset: u64, len: u64, r: Request<'_>) -> bool {
        unsafe extern "C" fn close(file: *mut core::ffi::c_void) -> sys::apr_status_t {
            // SAFETY: the file that was registered below, closed once.
            unsafe { sys::apr_file_close(file.cast()) }
        }
        let Some(pool) = r.connection().pool() else { return false };
        let mut raw = fd.into_raw_fd();
        let mut file = null_mut();
        let flags = sys::APR_FOPEN_READ;
        // SAFETY: the descriptor is open and ours; APR takes it over, and the clean-up below closes it.
        let status =
            unsafe { sys::apr_os_file_put(&raw mut file, &raw mut raw, flags, pool.as_ptr()) };
        if status != sys::APR_SUCCESS {
            return false;
        }
        r.pool().on_destroy(file.cast(), close);
        // A bucket's length is a `size_t`; larger files are appended in pieces, as httpd does.
        let piece = 1_u64 << 30;
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            let n = (end - at).min(piece);
            // SAFETY: live file, pool and allocator.
            let e = unsafe {
                sys::apr_bucket_file_create(
                    file,
                    at as i64,
                    n as usize,
                    pool.as_ptr(),
                    self.alloc(),
                )
            };
            // SAFETY: a new file bucket.
            unsafe { sys::apr_bucket_file_enable_mmap(e, 0) };
            self.push(e);
            at += n;
        }
        true
    }

    /// Destroys the brigade and all its buckets.
    pub(crate) fn destroy(self) {
        // SAFETY: live brigade, not used afterwards by who calls this.
        unsafe {
            let _ = sys::apr_brigade_destroy(self.as_ptr());
        }
    }

    /// Destroys all buckets.
    pub(crate) fn clear(self) {
        // SAFETY: live brigade.
        unsafe {
            let _ = sys::apr_brigade_cleanup(self.as_ptr().cast());
        }
    }
}
