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
pub(crate) struct Regex {
    compiled: NonNull<sys::ap_regex_t>,
    has_group: bool,
}

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
            let compiled = NonNull::new(compiled)?;
            // SAFETY: a compiled expression.
            let has_group = unsafe { compiled.as_ref() }.re_nsub > 0;
            return Some(Self::Regex(Regex { compiled, has_group }));
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
                sys::ap_regexec(r.compiled.as_ptr(), directory.as_ptr(), 0, null_mut(), 0) == 0
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

    /// Whether one step of the path, or the first group of the expression, can stand for a user.
    pub(crate) fn has_user(&self) -> bool {
        match self {
            Self::Wildcard(p) => p.to_bytes().split(|b| *b == b'/').any(is_wild),
            Self::Regex(r) => r.has_group,
        }
    }

    /// What the first step with a wildcard, or the first group, stands for in a file's path.
    pub(crate) fn user(&self, file: &[u8]) -> Option<Vec<u8>> {
        let directory = self.shortest(file)?;
        match self {
            Self::Wildcard(p) => {
                let step = p.to_bytes().split(|b| *b == b'/').position(is_wild)?;
                directory.split(|b| *b == b'/').nth(step).map(<[u8]>::to_vec)
            }
            Self::Regex(r) => {
                let bare = directory.strip_suffix(b"/").unwrap_or(&directory);
                [&*directory, bare].into_iter().find_map(|text| r.first_group(text))
            }
        }
    }
}

fn is_wild(step: &[u8]) -> bool {
    step.iter().any(|b| b"*?[".contains(b))
}

impl Regex {
    /// What the first group matches in `text`.
    fn first_group(self, text: &[u8]) -> Option<Vec<u8>> {
        let whole = CString::new(text).ok()?;
        let mut found = [sys::ap_regmatch_t { rm_so: -1, rm_eo: -1 }; 2];
        // SAFETY: a live expression, a NUL-terminated string, room for two matches.
        let failed = unsafe {
            sys::ap_regexec(self.compiled.as_ptr(), whole.as_ptr(), 2, found.as_mut_ptr(), 0)
        };
        if failed != 0 {
            return None;
        }
        let at = |n: i32| usize::try_from(n).ok();
        text.get(at(found[1].rm_so)?..at(found[1].rm_eo)?).map(<[u8]>::to_vec)
    }
}
