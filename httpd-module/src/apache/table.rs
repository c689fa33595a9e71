//! APR tables.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::pool::Pool;
use crate::sys;

/// A table that outlives `'t`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'t>(NonNull<sys::apr_table_t>, PhantomData<&'t *mut ()>);

impl<'t> Table<'t> {
    /// # Safety
    /// `t` is null or a table that is live for `'t`.
    pub(crate) unsafe fn from_raw(t: *mut sys::apr_table_t) -> Option<Self> {
        NonNull::new(t).map(|t| Self(t, PhantomData))
    }

    /// The pairs, in order. Nothing may change the table while the iterator lives; callers copy at once.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (&'t [u8], &'t [u8])> {
        // SAFETY: a table's elements are an array of entries; the header is never null.
        let array = unsafe { sys::apr_table_elts(self.0.as_ptr()).as_ref() };
        let count = array.map_or(0, |a| usize::try_from(a.nelts).unwrap_or(0));
        (0..count).filter_map(move |i| {
            // SAFETY: `i` is below the array's count; keys and values are NUL-terminated strings of the table's pool.
            unsafe {
                let entry: sys::apr_table_entry_t = super::element(array?, i);
                Some((super::bytes(entry.key)?, super::bytes(entry.val).unwrap_or(b"")))
            }
        })
    }

    /// How many pairs there are.
    pub(crate) fn len(self) -> usize {
        // SAFETY: as in `pairs`.
        let array = unsafe { sys::apr_table_elts(self.0.as_ptr()).as_ref() };
        array.map_or(0, |a| usize::try_from(a.nelts).unwrap_or(0))
    }

    /// Whether there is a value of `key`.
    pub(crate) fn has(self, key: &[u8]) -> bool {
        self.pairs().any(|(k, _)| k.eq_ignore_ascii_case(key))
    }

    /// Replaces all values of `key` by one. `pool` must live as long as the table.
    pub(crate) fn set(self, pool: Pool<'_>, key: &[u8], value: &[u8]) {
        let (key, value) = (pool.dup(key), pool.dup(value));
        // SAFETY: live table, NUL-terminated strings; `setn` keeps the pointers, which live in a pool that the
        // caller has chosen to live as long as the table.
        unsafe { sys::apr_table_setn(self.0.as_ptr(), key, value) }
    }

    /// Appends a pair. `pool` must live as long as the table.
    pub(crate) fn add(self, pool: Pool<'_>, key: &[u8], value: &[u8]) {
        let (key, value) = (pool.dup(key), pool.dup(value));
        // SAFETY: as in `set`.
        unsafe { sys::apr_table_addn(self.0.as_ptr(), key, value) }
    }

    /// Removes all values of `key`.
    pub(crate) fn unset(self, pool: Pool<'_>, key: &[u8]) {
        let key = pool.dup(key);
        // SAFETY: as in `set`.
        unsafe { sys::apr_table_unset(self.0.as_ptr(), key) }
    }

    /// Removes everything.
    pub(crate) fn clear(self) {
        // SAFETY: live table.
        unsafe { sys::apr_table_clear(self.0.as_ptr()) }
    }
}
