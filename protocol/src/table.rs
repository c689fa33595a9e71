//! Header-like tables on the wire: ordered pairs of byte strings, keys compared without case, duplicates kept.
//!
//! Encoded: `u32` number of pairs, then for each pair two byte strings ([`crate::wire`]).

use crate::wire::{Reader, WireError, Writer};

/// The most pairs a table may have on the wire.
pub const MAX_PAIRS: u32 = 65_536;

/// Writes a table from pairs; the iterator is walked once.
pub fn write_table<'a>(w: &mut Writer<'_>, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let at = w.len();
    w.u32(0);
    let mut count = 0;
    for (key, value) in pairs.take(MAX_PAIRS as usize) {
        w.bytes(key);
        w.bytes(value);
        count += 1;
    }
    w.patch_u32(at, count);
}

/// One pair, as it lies in the decoded slice.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// Reads a table at the reader's place.
///
/// # Errors
/// A count over [`MAX_PAIRS`] or over what the remaining bytes could hold, or a string past the end.
pub fn read_table<'a>(r: &mut Reader<'a>) -> Result<Vec<Pair<'a>>, WireError> {
    let at = r.position();
    let count = r.u32("table size")?;
    // Each pair takes at least its two lengths.
    if count > MAX_PAIRS || count as usize > r.remaining() / 8 {
        return Err(WireError { at, what: "table size" });
    }
    let mut pairs = Vec::with_capacity(count as usize);
    for _ in 0..count {
        pairs.push((r.bytes("table key")?, r.bytes("table value")?));
    }
    Ok(pairs)
}

/// Whether two keys are the same to a table: equal without regard to ASCII case, as `apr_table_get` compares.
pub fn same_key(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}
