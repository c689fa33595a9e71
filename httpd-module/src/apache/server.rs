//! Virtual hosts.

use core::marker::PhantomData;
use core::ptr::NonNull;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use vivarium_protocol::message::ServerInfo;

use crate::config::server::ServerConf;
use crate::sys;

/// A `server_rec` that outlives `'s`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'s>(NonNull<sys::server_rec>, PhantomData<&'s *mut ()>);

impl<'s> Server<'s> {
    /// # Safety
    /// `s` is null or live for `'s`.
    pub(crate) unsafe fn from_raw(s: *mut sys::server_rec) -> Option<Self> {
        NonNull::new(s).map(|s| Self(s, PhantomData))
    }

    pub(crate) fn as_ptr(self) -> *mut sys::server_rec {
        self.0.as_ptr()
    }

    fn raw(self) -> &'s sys::server_rec {
        // SAFETY: live for `'s`; httpd does not change server records after the configuration is read.
        unsafe { self.0.as_ref() }
    }

    /// All virtual hosts from this one on, in httpd's order.
    pub(crate) fn chain(self) -> impl Iterator<Item = Server<'s>> {
        let mut next = Some(self);
        core::iter::from_fn(move || {
            let now = next?;
            // SAFETY: the list ends with null and lives as long as its first record.
            next = unsafe { Self::from_raw(now.raw().next) };
            Some(now)
        })
    }

    /// `ServerName`.
    pub(crate) fn hostname(self) -> &'s [u8] {
        // SAFETY: a string of the configuration's pool.
        unsafe { super::bytes(self.raw().server_hostname) }.unwrap_or(b"")
    }

    /// Our configuration of it.
    pub(crate) fn conf(self) -> Option<&'s ServerConf> {
        // SAFETY: `module_config` is the server's vector; our slot holds what `create_server_config` returned.
        unsafe {
            sys::ap_get_module_config(self.raw().module_config, crate::module::ptr())
                .cast::<ServerConf>()
                .as_ref()
        }
    }

    /// Our part of its default per-directory configuration.
    pub(crate) fn default_dir_conf(self) -> Option<&'s crate::config::dir::DirConf> {
        // SAFETY: as in `conf`, for the default per-directory vector.
        unsafe {
            sys::ap_get_module_config(self.raw().lookup_defaults, crate::module::ptr())
                .cast::<crate::config::dir::DirConf>()
                .as_ref()
        }
    }

    /// Its place in httpd's list, as counted by [`count`].
    pub(crate) fn number(self) -> u32 {
        let numbers = NUMBERS.read().unwrap_or_else(PoisonError::into_inner);
        numbers.get(&(self.as_ptr() as usize)).copied().unwrap_or(0)
    }

    /// The pool that lives as long as httpd.
    pub(crate) fn process_pool(self) -> Option<super::pool::Pool<'s>> {
        // SAFETY: the process record and its pool live as long as httpd.
        unsafe { super::pool::Pool::from_raw((*self.raw().process).pool) }
    }

    /// Whether it is a `<VirtualHost>`.
    pub(crate) fn is_virtual(self) -> bool {
        self.raw().is_virtual != 0
    }

    /// Where its `<VirtualHost>` begins: file and line.
    pub(crate) fn defined_at(self) -> (&'s [u8], u32) {
        // SAFETY: a string of the configuration's pool.
        let file = unsafe { super::bytes(self.raw().defn_name) }.unwrap_or(b"");
        (file, self.raw().defn_line_number)
    }

    /// Nothing but what everybody can find out by asking this httpd for a page.
    pub(crate) fn bare_info(self) -> ServerInfo {
        let raw = self.raw();
        ServerInfo {
            next: None,
            defn_name: None,
            defn_line_number: 0,
            server_admin: None,
            server_hostname: None,
            port: 0,
            error_fname: None,
            loglevel: raw.log.level,
            is_virtual: false,
            timeout: raw.timeout as f64 / 1e6,
            keep_alive_timeout: raw.keep_alive_timeout as f64 / 1e6,
            keep_alive_max: raw.keep_alive_max,
            keep_alive: raw.keep_alive,
            path: None,
            names: Vec::new(),
            wild_names: Vec::new(),
            limit_req_line: raw.limit_req_line,
            limit_req_fieldsize: raw.limit_req_fieldsize,
            limit_req_fields: raw.limit_req_fields,
            server_scheme: None,
            config: vec![0; 4],
            options: vec![0; 4],
            my_generation: 0,
            restart_time: crate::daemon::started_at(),
        }
    }

    /// What Python may know of it.
    pub(crate) fn info(self) -> ServerInfo {
        let raw = self.raw();
        let owned = |p: *const core::ffi::c_char| {
            // SAFETY: strings of the configuration's pool.
            unsafe { super::bytes(p) }.map(<[u8]>::to_vec)
        };
        let names = |array: *mut sys::apr_array_header_t| {
            // SAFETY: null, or an array of string pointers of the configuration's pool.
            let Some(array) = (unsafe { array.as_ref() }) else { return Vec::new() };
            (0..usize::try_from(array.nelts).unwrap_or(0))
                // SAFETY: `i` is below the count.
                .filter_map(|i| {
                    // SAFETY: `i` is below the array's count, and its elements are string pointers.
                    owned(unsafe { super::element::<*const core::ffi::c_char>(array, i) })
                })
                .collect()
        };
        let seconds = |micros: i64| micros as f64 / 1e6;
        let next = self.chain().nth(1).map(Server::number);
        let (config, options) = self.default_dir_conf().map_or_else(
            || (vec![0; 4], vec![0; 4]),
            |d| (d.encoded_config(), d.encoded_options()),
        );
        let mut generation = 0;
        // SAFETY: a plain query into a local integer.
        let _ = unsafe { sys::ap_mpm_query(sys::AP_MPMQ_GENERATION, &raw mut generation) };
        ServerInfo {
            next,
            defn_name: owned(raw.defn_name),
            defn_line_number: raw.defn_line_number,
            server_admin: owned(raw.server_admin),
            server_hostname: owned(raw.server_hostname),
            port: raw.port,
            error_fname: owned(raw.error_fname),
            loglevel: raw.log.level,
            is_virtual: raw.is_virtual != 0,
            timeout: seconds(raw.timeout),
            keep_alive_timeout: seconds(raw.keep_alive_timeout),
            keep_alive_max: raw.keep_alive_max,
            keep_alive: raw.keep_alive,
            path: owned(raw.path),
            names: names(raw.names),
            wild_names: names(raw.wild_names),
            limit_req_line: raw.limit_req_line,
            limit_req_fieldsize: raw.limit_req_fieldsize,
            limit_req_fields: raw.limit_req_fields,
            server_scheme: owned(raw.server_scheme),
            config,
            options,
            my_generation: generation,
            restart_time: crate::daemon::started_at(),
        }
    }
}

/// The number of each virtual host, by its record's address. A virtual host without directives of ours has no
/// configuration of its own to keep it in: httpd lets it share the main server's.
static NUMBERS: RwLock<BTreeMap<usize, u32>> = RwLock::new(BTreeMap::new());

/// Numbers all virtual hosts of a new configuration.
pub(crate) fn count(main: Server<'_>) {
    let numbered = (0..).zip(main.chain()).map(|(n, s)| (s.as_ptr() as usize, n)).collect();
    *NUMBERS.write().unwrap_or_else(PoisonError::into_inner) = numbered;
}

/// The main server, once the configuration has been read.
pub(crate) fn main<'s>() -> Option<Server<'s>> {
    // SAFETY: httpd sets the pointer before any hook runs; the record lives as long as this process's configuration.
    unsafe { Server::from_raw(sys::ap_server_conf) }
}
