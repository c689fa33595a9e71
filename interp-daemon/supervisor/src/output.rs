//! What a worker writes to its standard output and standard error: cut into lines, bounded in length and in number.

use std::time::{Duration, Instant};

use crate::log::escape;

/// The longest line that is kept, in bytes.
pub(crate) const LINE: usize = 8 << 10;
/// So many lines are let through in one [`WINDOW`].
const LINES: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(1);

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Out {
    /// One line, safe to log.
    Line(String),
    /// So many lines were left out.
    Suppressed(u64),
}

/// The line cutter of one worker.
#[derive(Debug)]
pub(crate) struct Lines {
    pending: Vec<u8>,
    window: Instant,
    count: u32,
    suppressed: u64,
    /// The last line with something in it, for "its last words".
    last: Option<String>,
}

impl Lines {
    pub(crate) fn new(now: Instant) -> Self {
        Self { pending: Vec::new(), window: now, count: 0, suppressed: 0, last: None }
    }

    /// Takes what was read from the pipe.
    pub(crate) fn feed(&mut self, bytes: &[u8], now: Instant, mut out: impl FnMut(Out)) {
        self.tick(now, &mut out);
        let mut parts = bytes.split(|b| *b == b'\n').peekable();
        while let Some(part) = parts.next() {
            // One byte over the limit is kept so that `escape` sees that something was cut.
            let room = (LINE + 1).saturating_sub(self.pending.len());
            self.pending.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                self.end_line(&mut out);
            }
        }
    }

    /// The pipe is closed: an unfinished line is a line too.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(Out)) {
        if !self.pending.is_empty() {
            self.end_line(&mut out);
        }
        self.report(&mut out);
    }

    fn end_line(&mut self, out: &mut impl FnMut(Out)) {
        let pending = std::mem::take(&mut self.pending);
        let line = pending.strip_suffix(b"\r").unwrap_or(&pending);
        if line.is_empty() {
            return;
        }
        if self.count >= LINES {
            self.suppressed += 1;
            return;
        }
        self.count += 1;
        let text = escape(line, LINE);
        self.last = Some(text.clone());
        out(Out::Line(text));
    }

    fn report(&mut self, out: &mut impl FnMut(Out)) {
        if self.suppressed > 0 {
            out(Out::Suppressed(std::mem::take(&mut self.suppressed)));
        }
    }

    /// Opens a new window if the old one is over, and says what was left out in it.
    pub(crate) fn tick(&mut self, now: Instant, mut out: impl FnMut(Out)) {
        if now.saturating_duration_since(self.window) >= WINDOW {
            self.window = now;
            self.count = 0;
            self.report(&mut out);
        }
    }

    /// When [`Lines::tick`] will have something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.suppressed > 0).then(|| self.window + WINDOW)
    }

    /// The last line that was let through.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(lines: &mut Lines, bytes: &[u8], now: Instant) -> Vec<Out> {
        let mut all = Vec::new();
        lines.feed(bytes, now, |o| all.push(o));
        all
    }

    fn line(text: &str) -> Out {
        Out::Line(text.into())
    }

    #[test]
    fn lines_are_put_together() {
        let now = Instant::now();
        let mut l = Lines::new(now);
        assert_eq!(collect(&mut l, b"one\ntw", now), [line("one")]);
        assert_eq!(collect(&mut l, b"o\r\n\n\nthree", now), [line("two")]);
        let mut rest = Vec::new();
        l.finish(|o| rest.push(o));
        assert_eq!(rest, [line("three")]);
        assert_eq!(l.last(), Some("three"));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let now = Instant::now();
        let mut l = Lines::new(now);
        for _ in 0..100 {
            assert_eq!(collect(&mut l, &[b'x'; 4096], now), []);
            assert!(l.pending.len() <= LINE + 1);
        }
        let got = collect(&mut l, b"\nnext\n", now);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0], line(&format!("{} [cut]", "x".repeat(LINE))));
        assert_eq!(got[1], line("next"));
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let now = Instant::now();
        let mut l = Lines::new(now);
        let got = collect(&mut l, "y\n".repeat(1500).as_bytes(), now);
        assert_eq!(got.len(), 1000);
        assert_eq!(l.deadline(), Some(now + WINDOW));
        let later = now + WINDOW;
        assert_eq!(collect(&mut l, b"z\n", later), [Out::Suppressed(500), line("z")]);
        assert_eq!(l.deadline(), None);
    }

    #[test]
    fn what_was_left_out_is_said_at_the_end() {
        let now = Instant::now();
        let mut l = Lines::new(now);
        let _ = collect(&mut l, "y\n".repeat(1001).as_bytes(), now);
        let mut rest = Vec::new();
        l.finish(|o| rest.push(o));
        assert_eq!(rest, [Out::Suppressed(1)]);
    }
}
