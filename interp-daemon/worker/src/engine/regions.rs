//! The regions that this worker serves.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use vivarium_protocol::futex;
use vivarium_protocol::lane::Guard;
use vivarium_protocol::region::{Owner, Region};

use super::lock;
use super::tree::Tree;

/// One httpd child's region.
///
/// The table holds it until the child is gone, a conversation until it is over; the mapping and the descriptor go with
/// the last of them. Python objects never hold it.
#[derive(Debug)]
pub(crate) struct Entry {
    number: u64,
    region: Arc<Region>,
    gone: AtomicBool,
    /// Where descriptors for `sendfile` go. Closed as soon as the child is gone.
    socket: Mutex<Option<Arc<OwnedFd>>>,
    /// Request trees whose objects are kept for later phases.
    trees: Mutex<HashMap<u64, Arc<Tree>>>,
}

/// Why a wait for httpd ends early: its process is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone;

/// Ends waits in a region whose httpd child is gone.
#[derive(Debug)]
pub(crate) struct WhileThere<'e>(pub(crate) &'e Entry);

impl Guard for WhileThere<'_> {
    type Stop = Gone;
    fn check(&mut self) -> Result<(), Gone> {
        if self.0.is_gone() { Err(Gone) } else { Ok(()) }
    }
}

impl Entry {
    /// A region that has just been mapped, and its descriptor socket.
    pub(crate) fn new(number: u64, region: Region, socket: Option<OwnedFd>) -> Self {
        Self {
            number,
            region: Arc::new(region),
            gone: AtomicBool::new(false),
            socket: Mutex::new(socket.map(Arc::new)),
            trees: Mutex::new(HashMap::new()),
        }
    }

    /// The mapping.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Whether the httpd child is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The descriptor socket, while the child lives.
    pub(crate) fn socket(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.socket).clone()
    }

    /// Marks the child as gone, closes the descriptor socket and wakes every thread that waits in the region. Returns
    /// the trees that were kept; those with a conversation under way are ended by its thread.
    pub(crate) fn end(&self) -> Vec<Arc<Tree>> {
        self.gone.store(true, Ordering::Release);
        lock(&self.socket).take();
        for lane in 0..self.region.geometry().lanes {
            futex::wake_always(self.region.guest_word(lane));
        }
        lock(&self.trees).drain().map(|(_, tree)| tree).collect()
    }

    /// The tree of this number, if its objects are kept here.
    pub(crate) fn tree(&self, id: u64) -> Option<Arc<Tree>> {
        lock(&self.trees).get(&id).cloned()
    }

    /// Keeps a tree for its next phase; false if the child is gone and nobody will ask for it again.
    pub(crate) fn keep(&self, tree: &Arc<Tree>) -> bool {
        let mut trees = lock(&self.trees);
        if self.is_gone() {
            return false;
        }
        trees.insert(tree.id(), Arc::clone(tree));
        true
    }

    /// Forgets a tree.
    pub(crate) fn forget(&self, id: u64) {
        lock(&self.trees).remove(&id);
    }
}

/// All regions of this worker.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    list: RwLock<Vec<Arc<Entry>>>,
}

impl Regions {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Entry>>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Arc<Entry>>> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a region.
    pub(crate) fn add(&self, entry: Arc<Entry>) {
        self.write().push(entry);
    }

    /// Takes a region out of the table.
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Entry>> {
        let mut list = self.write();
        let at = list.iter().position(|e| e.number == number)?;
        Some(list.swap_remove(at))
    }

    /// Takes all regions out of the table; returns the trees that were kept and are not in use.
    pub(crate) fn end(&self) -> Vec<Arc<Tree>> {
        let all = std::mem::take(&mut *self.list.write().unwrap_or_else(PoisonError::into_inner));
        let trees = all.iter().flat_map(|entry| entry.end());
        trees.filter(|tree| tree.is_over()).collect()
    }

    /// Claims an offered lane, looking through the regions from a rotating place on.
    pub(crate) fn take(&self, me: Owner, start: usize) -> Option<(Arc<Entry>, u32)> {
        let list = self.read();
        let (before, after) = list.split_at(if list.is_empty() { 0 } else { start % list.len() });
        after.iter().chain(before).find_map(|e| e.region.take(me).map(|lane| (Arc::clone(e), lane)))
    }

    /// Claims a lane that is offered to this very worker.
    pub(crate) fn take_own(&self, me: Owner) -> Option<(Arc<Entry>, u32)> {
        self.read().iter().find_map(|e| e.region.take_own(me).map(|lane| (Arc::clone(e), lane)))
    }

    /// Whether objects of any request are kept for a later phase.
    pub(crate) fn keeps_any(&self) -> bool {
        self.read().iter().any(|e| !lock(&e.trees).is_empty())
    }

    /// How many lanes are on offer to this worker.
    pub(crate) fn count_ready(&self, slot: u8) -> u32 {
        self.read().iter().map(|e| e.region.count_ready(slot)).sum()
    }

    /// Whether any lane may be offered to this worker.
    pub(crate) fn any_ready(&self, slot: u8) -> bool {
        self.read().iter().any(|e| e.region.any_ready(slot))
    }
}
