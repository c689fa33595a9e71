//! bincode with a limit and without leftovers.
//!
//! Every message that is not on the hot path goes through these functions and no other: a size limit that holds for the
//! encoded form, another that follows from the received length for what decoding may allocate, and trailing bytes
//! refused.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::error::DecodeError;
use serde::{Deserialize, Serialize};

/// The largest encoded message, in bytes: one control packet or one frame that carries a message.
pub const MAX_MESSAGE: usize = 4 << 20;

const fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    config::standard().with_limit::<LIMIT>()
}

/// Why a message could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value does not fit [`MAX_MESSAGE`] or cannot be represented.
    #[error("message cannot be encoded: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The bytes are not such a message.
    #[error("message cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// The message is followed by bytes that do not belong to it.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    /// The bytes are longer than [`MAX_MESSAGE`].
    #[error("message of {0} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong(usize),
}

/// Encodes `value` at the end of `out`.
///
/// # Errors
/// [`CodecError::Encode`] or [`CodecError::TooLong`]; `out` is then as it was.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    let done = bincode::serde::encode_into_std_write(value, out, config::<MAX_MESSAGE>());
    let written = out.len() - start;
    match done {
        Ok(_) if written <= MAX_MESSAGE => Ok(()),
        Ok(_) => {
            out.truncate(start);
            Err(CodecError::TooLong(written))
        }
        Err(error) => {
            out.truncate(start);
            Err(error.into())
        }
    }
}

/// Encodes `value` into a new vector. Errors as [`encode_into`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(64);
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Decodes exactly one message that fills `bytes`; strings and byte slices of `T` may borrow from it.
///
/// # Errors
/// [`CodecError::Decode`], [`CodecError::Trailing`] or [`CodecError::TooLong`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(CodecError::TooLong(bytes.len()));
    }
    // bincode allocates what a text's length promises before it looks whether the bytes are there, up to its limit: so
    // the limit follows the bytes that came. It counts numbers at their full size, which is 8 times their encoded size
    // at most; twice that leaves no doubt.
    let (value, used) = match bytes.len() {
        0..=256 => within::<{ 4 << 10 }, T>(bytes),
        257..=2048 => within::<{ 32 << 10 }, T>(bytes),
        2049..=16_384 => within::<{ 256 << 10 }, T>(bytes),
        16_385..=131_072 => within::<{ 2 << 20 }, T>(bytes),
        _ => within::<{ 2 * MAX_MESSAGE }, T>(bytes),
    }?;
    if used == bytes.len() { Ok(value) } else { Err(CodecError::Trailing(bytes.len() - used)) }
}

/// `#[serde(with = "crate::codec::bytes")]` for a `Vec<u8>`: the same bytes on the wire, but moved as a whole, and no
/// memory for a length that only promises.
pub mod bytes {
    use serde::de::{Deserializer, Visitor};
    use serde::ser::Serializer;

    /// Writes the bytes as one item.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads them as one item.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

fn within<'a, const LIMIT: usize, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(T, usize), DecodeError> {
    bincode::serde::borrow_decode_from_slice(bytes, config::<LIMIT>())
}
