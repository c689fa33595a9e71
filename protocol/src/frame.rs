//! Frame headers: sixteen bytes before every payload on a lane.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | payload length in bytes |
//! | 4 | 1 | kind |
//! | 5 | 1 | flags (meaning depends on the kind) |
//! | 6 | 2 | depth of the conversation: 1 for the outermost `Enter` |
//! | 8 | 4 | conversation number: chosen by httpd for each use of a lane |
//! | 12 | 4 | request number in its tree (`rid`) that the frame speaks of |

use crate::codec::MAX_MESSAGE;

/// Size of a header on the wire, in bytes.
pub const HEADER_LEN: usize = 16;
/// The most payload bytes of one `Body` or `Data` frame.
pub const MAX_BODY: usize = 1 << 20;
/// The deepest nesting of a conversation; httpd's own limit for redirects and sub-requests is 10 each.
pub const MAX_DEPTH: u16 = 64;
/// The `rid` that stands for "no request".
pub const NO_RID: u32 = u32::MAX;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// httpd → worker: run a phase ([`crate::message::Enter`]).
    Enter = 1,
    /// httpd → worker: the answer to a `Call` ([`crate::message::Reply`]).
    Reply = 2,
    /// httpd → worker: raw bytes that belong to the `Reply` that will follow (request bodies, filter input).
    Data = 3,
    /// worker → httpd: the phase is over ([`crate::message::Leave`]).
    Leave = 16,
    /// worker → httpd: do this and reply ([`crate::message::Call`]).
    Call = 17,
    /// worker → httpd: changes to the request `rid`, no reply ([`crate::message::Change`] list).
    Changes = 18,
    /// worker → httpd: raw output. Flags: [`BODY_FLUSH`], [`BODY_SYNC`], [`BODY_FILTER`], [`BODY_CLOSE`].
    Body = 19,
}

/// `Body`: send what has been written so far to the client now.
pub const BODY_FLUSH: u8 = 1;
/// `Body`: reply (`Reply::Ok` or an error) when the bytes have been passed on; Python may be entered meanwhile.
pub const BODY_SYNC: u8 = 2;
/// `Body`: the bytes go to the filter after the Python filter that this depth runs, not to the request's first one.
pub const BODY_FILTER: u8 = 4;

/// `Body` with [`BODY_FILTER`]: these are the filter's last bytes; the end of the stream follows them.
pub const BODY_CLOSE: u8 = 8;

impl Kind {
    fn from_u8(v: u8) -> Option<Self> {
        Some(match v {
            1 => Self::Enter,
            2 => Self::Reply,
            3 => Self::Data,
            16 => Self::Leave,
            17 => Self::Call,
            18 => Self::Changes,
            19 => Self::Body,
            _ => return None,
        })
    }
    /// The most payload bytes a frame of this kind may have.
    pub fn max_len(self) -> usize {
        match self {
            Self::Body | Self::Data => MAX_BODY,
            _ => MAX_MESSAGE,
        }
    }
    /// Whether httpd sends frames of this kind (else the worker does).
    pub fn from_host(self) -> bool {
        (self as u8) < 16
    }
}

/// A header whose kind, length and depth have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload length in bytes, at most [`Kind::max_len`].
    pub len: u32,
    /// What the frame is.
    pub kind: Kind,
    /// Meaning depends on the kind.
    pub flags: u8,
    /// 1 to [`MAX_DEPTH`].
    pub depth: u16,
    /// The conversation.
    pub conversation: u32,
    /// The request in its tree, or [`NO_RID`].
    pub rid: u32,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No such kind, or not one that this side may receive.
    #[error("frame of kind {0} is not expected here")]
    Kind(u8),
    /// Longer than the kind allows.
    #[error("frame of kind {kind:?} with {len} bytes is over its limit")]
    Length {
        /// The kind.
        kind: Kind,
        /// The length that it claims.
        len: u32,
    },
    /// Depth 0 or over the limit.
    #[error("frame with depth {0}")]
    Depth(u16),
    /// Of another conversation: late words of a worker that had the lane before.
    #[error("frame of conversation {theirs} in conversation {ours}")]
    Conversation {
        /// The conversation on this lane.
        ours: u32,
        /// What the frame says.
        theirs: u32,
    },
}

impl Header {
    /// The sixteen bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut b = [0; HEADER_LEN];
        b[0..4].copy_from_slice(&self.len.to_le_bytes());
        b[4] = self.kind as u8;
        b[5] = self.flags;
        b[6..8].copy_from_slice(&self.depth.to_le_bytes());
        b[8..12].copy_from_slice(&self.conversation.to_le_bytes());
        b[12..16].copy_from_slice(&self.rid.to_le_bytes());
        b
    }

    /// Checks sixteen bytes that were copied out of the ring. `from_host`: which side sent them.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(
        b: &[u8; HEADER_LEN],
        from_host: bool,
        conversation: u32,
    ) -> Result<Self, HeaderError> {
        let word = |i: usize| u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        let kind = Kind::from_u8(b[4])
            .filter(|k| k.from_host() == from_host)
            .ok_or(HeaderError::Kind(b[4]))?;
        let header = Self {
            len: word(0),
            kind,
            flags: b[5],
            depth: u16::from_le_bytes([b[6], b[7]]),
            conversation: word(8),
            rid: word(12),
        };
        if header.conversation != conversation {
            return Err(HeaderError::Conversation {
                ours: conversation,
                theirs: header.conversation,
            });
        }
        if header.len as usize > kind.max_len() {
            return Err(HeaderError::Length { kind, len: header.len });
        }
        if header.depth == 0 || header.depth > MAX_DEPTH {
            return Err(HeaderError::Depth(header.depth));
        }
        Ok(header)
    }
}
