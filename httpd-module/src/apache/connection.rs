//! Client connections.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::os::fd::BorrowedFd;

use vivarium_protocol::message::ConnectionInfo;
use vivarium_protocol::wire::Writer;

use super::pool::Pool;
use super::server::Server;
use super::table::Table;
use crate::sys;

/// The most bytes of notes for which a connection is kept.
const MOST_NOTES: usize = 256 << 10;
/// `AP_CONN_CLOSE`, for [`Connection::set_keepalive`].
pub(crate) const CLOSE: i32 = 1;

/// A `conn_rec` that outlives `'c`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection<'c>(NonNull<sys::conn_rec>, PhantomData<&'c *mut ()>);

impl<'c> Connection<'c> {
    /// # Safety
    /// `c` is null or live for `'c`.
    pub(crate) unsafe fn from_raw(c: *mut sys::conn_rec) -> Option<Self> {
        NonNull::new(c).map(|c| Self(c, PhantomData))
    }

    pub(crate) fn as_ptr(self) -> *mut sys::conn_rec {
        self.0.as_ptr()
    }

    fn raw(self) -> *const sys::conn_rec {
        self.0.as_ptr()
    }

    /// Whether the client is gone, as far as httpd knows.
    pub(crate) fn aborted(self) -> bool {
        // SAFETY: live connection.
        unsafe { (*self.raw()).aborted != 0 }
    }

    /// Sets `keepalive`: 0 unknown, 1 close, 2 keep.
    pub(crate) fn set_keepalive(self, n: i32) {
        // SAFETY: live connection, owned by this thread for the length of the callback.
        unsafe { (*self.as_ptr()).keepalive = n as sys::ap_conn_keepalive_e }
    }

    /// Whether it is kept for another request.
    pub(crate) fn is_kept(self) -> bool {
        // SAFETY: live connection.
        unsafe { (*self.raw()).keepalive == sys::AP_CONN_KEEPALIVE }
    }

    /// Its number: that of its thread, as long as one has it.
    pub(crate) fn id(self) -> i64 {
        // SAFETY: live connection.
        unsafe { (*self.raw()).id }
    }

    /// Its socket, if it has one.
    pub(crate) fn socket(self) -> Option<BorrowedFd<'c>> {
        // SAFETY: live connection; its socket, if it has one, is open as long as the connection lives.
        unsafe {
            let socket = sys::ap_get_conn_socket(self.as_ptr());
            let mut fd = -1;
            if socket.is_null()
                || sys::apr_os_sock_get(&raw mut fd, socket) != sys::APR_SUCCESS
                || fd < 0
            {
                return None;
            }
            Some(BorrowedFd::borrow_raw(fd))
        }
    }

    /// Whether this is a stream of an HTTP/2 connection, not a socket of its own.
    pub(crate) fn is_secondary(self) -> bool {
        // SAFETY: live connection.
        unsafe { !(*self.raw()).master.is_null() }
    }

    /// The virtual host of its address.
    pub(crate) fn base_server(self) -> Option<Server<'c>> {
        // SAFETY: live connection; servers outlive it.
        unsafe { Server::from_raw((*self.raw()).base_server) }
    }

    pub(crate) fn input_filters(self) -> *mut sys::ap_filter_t {
        // SAFETY: live connection.
        unsafe { (*self.raw()).input_filters }
    }

    pub(crate) fn output_filters(self) -> *mut sys::ap_filter_t {
        // SAFETY: live connection.
        unsafe { (*self.raw()).output_filters }
    }

    /// What buckets are allocated from.
    pub(crate) fn bucket_alloc(self) -> *mut sys::apr_bucket_alloc_t {
        // SAFETY: live connection.
        unsafe { (*self.raw()).bucket_alloc }
    }

    pub(crate) fn pool(self) -> Option<Pool<'c>> {
        // SAFETY: the connection's pool lives as long as the connection.
        unsafe { Pool::from_raw((*self.raw()).pool) }
    }

    /// `conn.notes`.
    pub(crate) fn notes(self) -> Option<Table<'c>> {
        // SAFETY: live connection.
        unsafe { Table::from_raw((*self.raw()).notes) }
    }

    /// Where strings of `conn.notes` live: as long as the connection. A connection to which more than [`MOST_NOTES`] bytes
    /// were told is not kept for another request, as they are freed only with it.
    pub(crate) fn pool_for_note(self, key: &[u8], value: &[u8]) -> Option<Pool<'c>> {
        let pool = self.pool()?;
        // SAFETY: live connection; only this function sets our place in its configuration vector, to a counter that its
        // pool owns.
        let told = unsafe {
            let vector = (*self.raw()).conn_config;
            let known = sys::ap_get_module_config(vector, crate::module::ptr());
            let known = known.cast::<Cell<usize>>().as_ref();
            known.unwrap_or_else(|| {
                let new: &Cell<usize> = pool.own(Cell::new(0));
                let data = core::ptr::from_ref(new).cast_mut().cast();
                sys::ap_set_module_config(vector, crate::module::ptr(), data);
                new
            })
        };
        told.set(told.get().saturating_add(key.len() + value.len()));
        if told.get() > MOST_NOTES {
            self.set_keepalive(CLOSE);
        }
        Some(pool)
    }

    /// What Python may know of it.
    pub(crate) fn info(self) -> ConnectionInfo {
        let mut notes = Vec::with_capacity(4);
        let mut w = Writer::new(&mut notes);
        match self.notes() {
            Some(t) => vivarium_protocol::table::write_table(&mut w, t.pairs()),
            None => w.u32(0),
        }
        // SAFETY: live connection; strings and addresses live in its pool.
        unsafe {
            let raw = &*self.raw();
            let owned = |p: *const core::ffi::c_char| super::bytes(p).map(<[u8]>::to_vec);
            let port = |a: *const sys::apr_sockaddr_t| a.as_ref().map_or(0, |a| a.port);
            ConnectionInfo {
                local: (owned(raw.local_ip).unwrap_or_default(), port(raw.local_addr)),
                client: (owned(raw.client_ip).unwrap_or_default(), port(raw.client_addr)),
                remote_host: owned(raw.remote_host),
                remote_logname: owned(raw.remote_logname),
                local_host: owned(raw.local_host),
                aborted: raw.aborted != 0,
                keepalive: raw.keepalive as i32,
                double_reverse: raw.double_reverse(),
                keepalives: raw.keepalives,
                id: raw.id,
                base_server: Server::from_raw(raw.base_server).map_or(0, Server::number),
                notes,
            }
        }
    }
}
