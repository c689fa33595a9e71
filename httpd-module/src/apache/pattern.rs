//! Sections that many directories match: `<Directory "/srv/*/www">`, `<DirectoryMatch "^/srv/v[0-9]+">`.

use core::ffi::CStr;
use core::ptr::{NonNull, null_mut};
use std::ffi::CString;

use super::pool::Pool;
use crate::sys;

/// What a section's directories look like.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// A path with `*`, `?` or `[...]`, with a trailing slash.
    Wildcard(CString),
    /// A regular expression.
    Regex(Regex),
}

/// A compiled expression of httpd's; lives as long as the configuration that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Regex(NonNull<sys::ap_regex_t>);

// SAFETY: httpd matches one compiled expression in many threads itself; matching does not change it.
unsafe impl Send for Regex {}
// SAFETY: as above.
unsafe impl Sync for Regex {}

impl Pattern {
    /// The pattern of a section's path, if it is one.
    pub(crate) fn of(path: &[u8], is_regex: bool, pool: Pool<'_>) -> Option<Self> {
        let text = CString::new(path).ok()?;
        if is_regex {
            // SAFETY: the configuration's pool, a NUL-terminated expression; null if it is none.
            let compiled = unsafe { sys::ap_pregcomp(pool.as_ptr(), text.as_ptr(), 0) };
            return NonNull::new(compiled).map(|r| Self::Regex(Regex(r)));
        }
        path.iter().any(|b| b"*?[".contains(b)).then_some(Self::Wildcard(text))
    }

    /// Whether a directory, given with its trailing slash, matches.
    fn matches(&self, directory: &CStr) -> bool {
        match self {
            // SAFETY: NUL-terminated strings; `APR_FNM_PATHNAME` keeps wildcards from matching slashes.
            Self::Wildcard(p) => unsafe {
                sys::apr_fnmatch(p.as_ptr(), directory.as_ptr(), sys::APR_FNM_PATHNAME)
                    == sys::APR_SUCCESS
            },
            // SAFETY: a live expression, a NUL-terminated string, no room for matches.
            Self::Regex(r) => unsafe {
                sys::ap_regexec(r.0.as_ptr(), directory.as_ptr(), 0, null_mut(), 0) == 0
            },
        }
    }

    /// The shortest leading part of a file's path that matches, with a trailing slash.
    pub(crate) fn shortest(&self, file: &[u8]) -> Option<Vec<u8>> {
        let slashes = file.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        slashes.map(|i| &file[..=i]).find_map(|prefix| {
            let bare = &prefix[..prefix.len() - 1];
            let whole = CString::new(prefix).ok()?;
            let found = self.matches(&whole)
                || matches!(self, Self::Regex(_))
                    && CString::new(bare).is_ok_and(|b| self.matches(&b));
            found.then(|| prefix.to_vec())
        })
    }
}
