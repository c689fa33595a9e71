//! What a confined tenant's answer says of its own length is kept to.
//!
//! A `Content-Length` that is less than what is written would make the rest look like the next answer on the connection;
//! one that is more would swallow the beginning of it. Whoever shares the connection, a proxy in front of all tenants, could
//! so be given one tenant's words as another's.

use std::cell::Cell;

use vivarium_protocol::message::TableId;

use crate::apache::request::Request;

const LENGTH: &[u8] = b"Content-Length";

/// How much of an answer may and must still come.
#[derive(Default)]
pub(crate) struct Promise {
    /// Bytes that were written before the head went out.
    written: Cell<u64>,
    /// Once it has: how many bytes are left of what it promised, if it did.
    left: Cell<Option<u64>>,
}

impl Promise {
    /// Counts `len` bytes that are about to be written; how many of them may be.
    pub(crate) fn take(&self, len: u64) -> u64 {
        self.written.set(self.written.get().saturating_add(len));
        let Some(left) = self.left.get() else { return len };
        let n = len.min(left);
        self.left.set(Some(left - n));
        n
    }

    /// The head goes out now; `end`: with all that there is. A length that is wrong already is left to httpd.
    pub(crate) fn begin(&self, r: Request<'_>, end: bool) {
        if r.is_head() {
            return;
        }
        let tables = || {
            [TableId::HeadersOut, TableId::ErrHeadersOut].map(|t| r.table(t)).into_iter().flatten()
        };
        let said = tables().find_map(|t| {
            let value = t.pairs().find(|(name, _)| name.eq_ignore_ascii_case(LENGTH))?.1;
            Some(std::str::from_utf8(value).ok().and_then(|v| v.trim().parse::<u64>().ok()))
        });
        let written = self.written.get();
        match said {
            None => {}
            Some(Some(length)) if written == length || (written < length && !end) => {
                self.left.set(Some(length - written));
            }
            Some(_) => tables().for_each(|t| t.unset(r.pool(), LENGTH)),
        }
    }

    /// Whether the answer is shorter than its head said.
    pub(crate) fn is_broken(&self) -> bool {
        self.left.get().is_some_and(|left| left > 0)
    }
}
