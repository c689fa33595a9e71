//! Merges of sections that a child keeps: which sections apply to a request is decided anew each time, but those that come
//! from the configuration files are the same ones, and so are their merges.
//!
//! Only sections that live as long as the child are kept; what an `.htaccess` file says lives as long as its request.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::dir::DirConf;

/// The most merges that a child keeps: a configuration has a few for each section.
const MOST: usize = 16 << 10;

/// How many merges a thread finds without asking for the table of all.
const PLACES: usize = 64;

/// Outer and inner section, by their addresses: kept sections never move and never go.
type Merges = HashMap<(usize, usize), &'static DirConf>;

/// Whether the configuration has been read for good: this process serves requests.
static SERVING: AtomicBool = AtomicBool::new(false);
static ALL: Mutex<Option<Merges>> = Mutex::new(None);

/// A merge that a thread has met.
type Met = Option<((usize, usize), &'static DirConf)>;

thread_local! {
    /// What this thread has met of [`ALL`], each in the place of its key: two that share one push each other out.
    static MET: [Cell<Met>; PLACES] = const { [const { Cell::new(None) }; PLACES] };
}

/// Where a merge is looked for first.
fn place(key: (usize, usize)) -> usize {
    /// 2^64 divided by the golden ratio: spreads addresses, which differ in their middle bits, over the upper ones.
    const SPREAD: usize = 0x9e37_79b9_7f4a_7c15;
    (key.0.rotate_left(17) ^ key.1).wrapping_mul(SPREAD) >> (usize::BITS - PLACES.ilog2())
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
    let met = MET.with(|met| met[place(key)].get());
    if let Some((of, known)) = met
        && of == key
    {
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
    MET.with(|met| met[place(key)].set(Some((key, known))));
    Some(known)
}
