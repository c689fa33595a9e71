//! Merges of sections that a child keeps: which sections apply to a request is decided anew each time, but those that come
//! from the configuration files are the same ones, and so are their merges.
//!
//! Only sections that live as long as the child are kept; what an `.htaccess` file says lives as long as its request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::dir::DirConf;

/// The most merges that a child keeps: a configuration has a few for each section.
const MOST: usize = 16 << 10;

/// Outer and inner section, by their addresses: kept sections never move and never go.
type Merges = HashMap<(usize, usize), &'static DirConf>;

/// Whether the configuration has been read for good: this process serves requests.
static SERVING: AtomicBool = AtomicBool::new(false);
static ALL: Mutex<Option<Merges>> = Mutex::new(None);

thread_local! {
    /// What this thread has met of [`ALL`].
    static MET: RefCell<Merges> = RefCell::default();
}

/// This process serves requests from here on.
pub(crate) fn begin_serving() {
    SERVING.store(true, Ordering::Relaxed);
}

/// Whether a section that is made now lives as long as the process will serve.
pub(crate) fn is_lasting() -> bool {
    !SERVING.load(Ordering::Relaxed)
}

/// The merge of two sections, if it may be kept.
pub(crate) fn merge(outer: &DirConf, inner: &DirConf) -> Option<&'static DirConf> {
    if is_lasting() || !outer.lasts || !inner.lasts {
        return None;
    }
    let key = (core::ptr::from_ref(outer).addr(), core::ptr::from_ref(inner).addr());
    if let Some(known) = MET.with_borrow(|met| met.get(&key).copied()) {
        return Some(known);
    }
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let all = all.get_or_insert_default();
    let known = match all.get(&key) {
        Some(known) => *known,
        None if all.len() >= MOST => return None,
        None => {
            let kept: &'static DirConf = Box::leak(Box::new(DirConf::merge(outer, inner, true)));
            all.insert(key, kept);
            kept
        }
    };
    MET.with_borrow_mut(|met| met.insert(key, known));
    Some(known)
}
