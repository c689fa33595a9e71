//! The contents of a table: pairs that lie in the payload they came in, until they are changed.

use std::sync::Arc;

use vivarium_protocol::table::{read_table, same_key};
use vivarium_protocol::wire::{Reader, WireError};

use crate::engine::buffers::Buffer;

/// A key or a value: in the table's base, or its own.
#[derive(Debug, Clone)]
enum Slot {
    At(u32, u32),
    Own(Box<[u8]>),
}

/// The pairs of a table at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs {
    base: Arc<Buffer>,
    list: Vec<(Slot, Slot)>,
}

fn get<'a>(base: &'a [u8], slot: &'a Slot) -> &'a [u8] {
    match slot {
        Slot::At(at, len) => base.get(*at as usize..(*at + *len) as usize).unwrap_or_default(),
        Slot::Own(bytes) => bytes,
    }
}

impl Pairs {
    /// Decodes a table that lies at `at` in `base`.
    pub(crate) fn decode(base: Arc<Buffer>, at: usize, len: usize) -> Result<Self, WireError> {
        let bytes = base.get(at..at + len).ok_or(WireError { at, what: "table" })?;
        let mut reader = Reader::new(bytes);
        let pairs = read_table(&mut reader)?;
        reader.finish()?;
        let start = base.as_ptr() as usize;
        let slot = |s: &[u8]| Slot::At((s.as_ptr() as usize - start) as u32, s.len() as u32);
        let list = pairs.iter().map(|(k, v)| (slot(k), slot(v))).collect();
        Ok(Self { base, list })
    }

    /// The pairs in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|(k, v)| (get(&self.base, k), get(&self.base, v)))
    }

    /// The values of a key, in order.
    pub(crate) fn of_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(k, _)| same_key(k, key)).map(|(_, v)| v)
    }

    /// Appends a pair.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.list.push((Slot::Own(key.into()), Slot::Own(value.into())));
    }

    /// Removes all pairs of a key.
    pub(crate) fn unset(&mut self, key: &[u8]) {
        self.retain(|k, _| !same_key(k, key));
    }

    /// Removes the pairs that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let base = &self.base;
        self.list.retain(|(key, value)| keep(get(base, key), get(base, value)));
    }

    /// Removes all pairs.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    /// How many pairs there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// As `apr_table_set`: the first pair of the key keeps its place and its spelling, others go.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        let first = self.iter().position(|(k, _)| same_key(k, key));
        let Some(first) = first else { return self.add(key, value) };
        let kept = self.list[first].0.clone();
        if self.of_key(key).nth(1).is_some() {
            self.unset(key);
            self.list.insert(first.min(self.list.len()), (kept, Slot::Own(value.into())));
        } else {
            self.list[first].1 = Slot::Own(value.into());
        }
    }
}
