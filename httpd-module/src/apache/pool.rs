//! APR pools: strings and Rust values that live as long as a pool.

use core::ffi::{c_char, c_void};
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::sys;

/// A pool that outlives `'p`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool<'p>(NonNull<sys::apr_pool_t>, PhantomData<&'p *mut ()>);

impl<'p> Pool<'p> {
    /// # Safety
    /// `p` is a live pool for `'p`. Null gives `None`.
    pub(crate) unsafe fn from_raw(p: *mut sys::apr_pool_t) -> Option<Self> {
        NonNull::new(p).map(|p| Self(p, PhantomData))
    }

    pub(crate) fn as_ptr(self) -> *mut sys::apr_pool_t {
        self.0.as_ptr()
    }

    /// A NUL-terminated copy of `s` in the pool.
    pub(crate) fn dup(self, s: &[u8]) -> *mut c_char {
        // SAFETY: the pool is live; `apr_pstrmemdup` copies `len` bytes and adds a NUL; it does not return null (APR
        // aborts when memory is out).
        unsafe { sys::apr_pstrmemdup(self.as_ptr(), s.as_ptr().cast(), s.len()) }
    }

    /// Moves a value to the heap; it is dropped when the pool is cleared or destroyed.
    pub(crate) fn own<T: 'static>(self, value: T) -> &'p T {
        unsafe extern "C" fn drop_box<T>(data: *mut c_void) -> sys::apr_status_t {
            super::edge::guarded("a pool clean-up", 0, || {
                // SAFETY: `data` is the box that `own` leaked, and APR runs a clean-up once.
                drop(unsafe { Box::from_raw(data.cast::<T>()) });
                0
            })
        }
        let leaked = Box::into_raw(Box::new(value));
        self.on_destroy(leaked.cast(), drop_box::<T>);
        // SAFETY: the box stays until the pool's clean-up, and the pool outlives `'p`.
        unsafe { &*leaked }
    }

    /// Registers a clean-up that runs before those of the pool's children, and before they are destroyed.
    pub(crate) fn before_destroy(self, f: unsafe extern "C" fn(*mut c_void) -> sys::apr_status_t) {
        // SAFETY: the pool is live, and the function takes no data.
        unsafe {
            sys::apr_pool_pre_cleanup_register(self.as_ptr(), core::ptr::null(), Some(f));
        }
    }

    /// Registers a clean-up. The function must not unwind and must be fit for `data`.
    pub(crate) fn on_destroy(
        self,
        data: *mut c_void,
        f: unsafe extern "C" fn(*mut c_void) -> sys::apr_status_t,
    ) {
        // SAFETY: the pool is live; the child clean-up does nothing, since we never exec from a copy of this process
        // without closing descriptors.
        unsafe {
            sys::apr_pool_cleanup_register(
                self.as_ptr(),
                data,
                Some(f),
                Some(sys::apr_pool_cleanup_null),
            );
        }
    }
}
