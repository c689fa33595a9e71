//! The bounded hand-written codec of the hot path: little-endian numbers and length-prefixed byte strings.
//!
//! A [`Writer`] appends to a vector; a [`Reader`] walks a slice that has already been copied out of shared memory and
//! never looks past its end. Decoded byte strings borrow from the slice.

/// The length that stands for "no value" in an optional byte string.
const NONE: u32 = u32::MAX;

/// The bytes do not hold what was expected of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed data at byte {at}: {what}")]
pub struct WireError {
    /// Offset of the item that could not be read, in bytes.
    pub at: usize,
    /// What was being read.
    pub what: &'static str,
}

/// Appends items to a vector.
#[derive(Debug)]
pub struct Writer<'v> {
    out: &'v mut Vec<u8>,
}

impl<'v> Writer<'v> {
    /// A writer that appends to `out`.
    pub fn new(out: &'v mut Vec<u8>) -> Self {
        Self { out }
    }
    /// One byte.
    #[inline]
    pub fn u8(&mut self, v: u8) {
        self.out.push(v);
    }
    /// Two bytes.
    #[inline]
    pub fn u16(&mut self, v: u16) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }
    /// Four bytes.
    #[inline]
    pub fn u32(&mut self, v: u32) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }
    /// Eight bytes.
    #[inline]
    pub fn u64(&mut self, v: u64) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }
    /// Eight bytes, two's complement.
    #[inline]
    pub fn i64(&mut self, v: i64) {
        self.out.extend_from_slice(&v.to_le_bytes());
    }
    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self, v: f64) {
        self.out.extend_from_slice(&v.to_bits().to_le_bytes());
    }
    /// A length (four bytes) and the bytes. Longer than 4 GiB cannot be said and is cut; no caller comes near.
    #[inline]
    pub fn bytes(&mut self, v: &[u8]) {
        let len = v.len().min(NONE as usize - 1);
        self.out.reserve(4 + len);
        self.u32(len as u32);
        self.out.extend_from_slice(&v[..len]);
    }
    /// A byte, then as [`Writer::bytes`]; in one go.
    #[inline]
    pub fn tagged_bytes(&mut self, tag: u8, v: &[u8]) {
        let len = v.len().min(NONE as usize - 1);
        let mut head = [tag; 5];
        head[1..].copy_from_slice(&(len as u32).to_le_bytes());
        self.out.reserve(head.len() + len);
        self.out.extend_from_slice(&head);
        self.out.extend_from_slice(&v[..len]);
    }
    /// A byte, then as [`Writer::i64`]; in one go.
    #[inline]
    pub fn tagged_i64(&mut self, tag: u8, v: i64) {
        let mut all = [tag; 9];
        all[1..].copy_from_slice(&v.to_le_bytes());
        self.out.extend_from_slice(&all);
    }
    /// [`Writer::bytes`], or a mark for "none".
    #[inline]
    pub fn opt_bytes(&mut self, v: Option<&[u8]>) {
        match v {
            Some(v) => self.bytes(v),
            None => self.u32(NONE),
        }
    }
    /// Begins a length-prefixed section; give what it returns to [`Writer::end_section`].
    #[must_use]
    pub fn begin_section(&mut self) -> usize {
        self.u32(0);
        self.out.len()
    }
    /// Ends the section that began at `start`.
    pub fn end_section(&mut self, start: usize) {
        let len = (self.out.len() - start) as u32;
        self.out[start - 4..start].copy_from_slice(&len.to_le_bytes());
    }
    /// How many bytes the vector holds now.
    pub fn len(&self) -> usize {
        self.out.len()
    }
    /// Whether the vector is empty.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
    /// Overwrites the four bytes at `at` (which an earlier [`Writer::u32`] wrote).
    pub fn patch_u32(&mut self, at: usize, v: u32) {
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&v.to_le_bytes());
        }
    }
}

/// Walks a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
    /// The offset of the next item.
    pub fn position(&self) -> usize {
        self.at
    }
    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }
    #[inline]
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let error = WireError { at: self.at, what };
        let end = self.at.checked_add(len).ok_or(error)?;
        let part = self.bytes.get(self.at..end).ok_or(error)?;
        self.at = end;
        Ok(part)
    }
    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let at = self.at;
        self.take(N, what)?.try_into().map_err(|_| WireError { at, what })
    }
    /// One byte.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }
    /// Two bytes.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }
    /// Four bytes.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }
    /// Eight bytes.
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }
    /// Eight bytes, two's complement.
    #[inline]
    pub fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }
    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self, what: &'static str) -> Result<f64, WireError> {
        Ok(f64::from_bits(self.u64(what)?))
    }
    /// A length-prefixed byte string.
    #[inline]
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let at = self.at;
        self.opt_bytes(what)?.ok_or(WireError { at, what })
    }
    /// A length-prefixed byte string, or none.
    #[inline]
    pub fn opt_bytes(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, WireError> {
        let len = self.u32(what)?;
        if len == NONE { Ok(None) } else { self.take(len as usize, what).map(Some) }
    }
    /// Refuses leftovers.
    pub fn finish(self) -> Result<(), WireError> {
        if self.remaining() == 0 { Ok(()) } else { Err(WireError { at: self.at, what: "end" }) }
    }
}
