//! Log lines: one `write` each, to descriptor 2, with a stable code.
//!
//! A managed supervisor writes lines like httpd's own into httpd's error log (the parent hands over the descriptor with
//! each configuration, so log rotation works). A service writes for the journal: a `<N>` priority, no time.
//!
//! Text that comes from elsewhere (a worker's output, names, reasons) goes through [`escape`]: a line stays one line.

use std::cell::Cell;
use std::fmt;
use std::fmt::Write as _;
use std::io::IsTerminal;

use rustix::event::{PollFd, PollFlags, Timespec};
use vivarium_protocol::codes::{self, Code};

/// How important a line is; httpd's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
    /// syslog's number.
    fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Notice => 5,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `[time] [vivarium:level] [pid N] `.
    Httpd,
    /// `<N>`.
    Journal,
}

/// A pipe takes this much without waiting once `poll` says that it is writable, and nobody else's bytes come between.
const ATOMIC: usize = 4096;

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Log {
    style: Style,
    level: Cell<Level>,
    pid: u32,
    /// The reader of the log does not read: lines are counted instead of written.
    stuck: Cell<bool>,
    lost: Cell<u64>,
    /// A line was begun and could not be ended.
    broken_off: Cell<bool>,
}

impl Log {
    /// For a managed supervisor, or for a service (whose lines look like httpd's if a person looks on).
    pub(crate) fn new(managed: bool) -> Self {
        let style =
            if managed || std::io::stderr().is_terminal() { Style::Httpd } else { Style::Journal };
        Self {
            style,
            level: Cell::new(Level::Info),
            pid: std::process::id(),
            stuck: Cell::new(false),
            lost: Cell::new(0),
            broken_off: Cell::new(false),
        }
    }

    /// From now on lines below `level` are left out.
    pub(crate) fn set_level(&self, level: Level) {
        self.level.set(level);
    }

    /// The descriptor behind the log was replaced.
    pub(crate) fn replaced(&self) {
        self.stuck.set(false);
    }

    /// Writes one line; `text` must be one line already (see [`escape`]).
    pub(crate) fn write(&self, level: Level, code: Code, text: fmt::Arguments<'_>) {
        if level > self.level.get() {
            return;
        }
        let lost = self.lost.get();
        if self.stuck.get() && !writable(0) {
            self.lost.set(lost + 1);
            return;
        }
        self.stuck.set(false);
        if lost > 0 {
            self.lost.set(0);
            let text = format_args!("{lost} lines were lost: nobody read the log");
            self.line(Level::Warn, codes::SUPERVISOR_LIMIT, text);
        }
        self.line(level, code, text);
    }

    fn line(&self, level: Level, code: Code, text: fmt::Arguments<'_>) {
        let mut line = String::with_capacity(160);
        if self.broken_off.take() {
            line.push('\n');
        }
        let done = match self.style {
            Style::Journal => write!(line, "<{}>{code}: {text}", level.priority()),
            Style::Httpd => {
                time_stamp(&mut line);
                write!(line, " [vivarium:{}] [pid {}] {code}: {text}", level.name(), self.pid)
            }
        };
        if done.is_err() {
            return;
        }
        line.push('\n');
        for (i, part) in line.as_bytes().chunks(ATOMIC).enumerate() {
            // A log that is a pipe may be full for a moment. Nothing here may hang for good on who reads it.
            if !writable(1000) {
                self.stuck.set(true);
                self.lost.set(self.lost.get() + 1);
                self.broken_off.set(i > 0);
                return;
            }
            let _ = rustix::io::retry_on_intr(|| rustix::io::write(std::io::stderr(), part));
        }
    }

    pub(crate) fn error(&self, code: Code, text: fmt::Arguments<'_>) {
        self.write(Level::Error, code, text);
    }
    pub(crate) fn warn(&self, code: Code, text: fmt::Arguments<'_>) {
        self.write(Level::Warn, code, text);
    }
    pub(crate) fn notice(&self, code: Code, text: fmt::Arguments<'_>) {
        self.write(Level::Notice, code, text);
    }
    pub(crate) fn info(&self, code: Code, text: fmt::Arguments<'_>) {
        self.write(Level::Info, code, text);
    }
    pub(crate) fn debug(&self, code: Code, text: fmt::Arguments<'_>) {
        self.write(Level::Debug, code, text);
    }
}

fn writable(milliseconds: i64) -> bool {
    let limit =
        Timespec { tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000 };
    let stderr = std::io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    // An error (a reader that is gone) counts as writable: the write then fails at once.
    !matches!(rustix::event::poll(&mut fds, Some(&limit)), Ok(0))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

fn time_stamp(out: &mut String) {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(0);
    let micros = now.subsec_micros();
    if let Some(t) = crate::sys::local_time(seconds) {
        let day = DAYS.get(t.weekday).unwrap_or(&"???");
        let month = MONTHS.get(t.month).unwrap_or(&"???");
        let _ = write!(
            out,
            "[{day} {month} {:02} {:02}:{:02}:{:02}.{micros:06} {}]",
            t.day, t.hour, t.minute, t.second, t.year
        );
    } else {
        let _ = write!(out, "[{seconds}.{micros:06}]");
    }
}

fn dangerous(c: char) -> bool {
    // Control characters, and those that make a terminal or an editor show lines that are not there or turned around.
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes one harmless line of `bytes`, the way httpd escapes its error log: `\n`, `\t`, `\\`, else `\xNN` for each byte
/// that is no printable text. At most about `limit` bytes of it.
pub(crate) fn escape(bytes: &[u8], limit: usize) -> String {
    let (bytes, cut) = match bytes.get(..limit) {
        Some(start) if bytes.len() > limit => (start, true),
        _ => (bytes, false),
    };
    let mut out = String::with_capacity(bytes.len() + 8);
    let hex = |out: &mut String, bytes: &[u8]| {
        for b in bytes {
            let _ = write!(out, "\\x{b:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if dangerous(c) => hex(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        hex(&mut out, chunk.invalid());
    }
    if cut {
        out.push_str(" [cut]");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_leaves_text_alone() {
        assert_eq!(escape("Grüße, 世界: ok".as_bytes(), 100), "Grüße, 世界: ok");
    }

    #[test]
    fn escaping_keeps_one_line_one_line() {
        assert_eq!(
            escape(b"a\nb\r\x1b[31mred\0\\\t\x7f", 100),
            "a\\nb\\r\\x1b[31mred\\x00\\\\\\t\\x7f"
        );
        assert_eq!(escape(b"bad \xff\xfe utf8", 100), "bad \\xff\\xfe utf8");
        assert_eq!(
            escape("\u{85}\u{2028}\u{202e}".as_bytes(), 100),
            "\\xc2\\x85\\xe2\\x80\\xa8\\xe2\\x80\\xae"
        );
    }

    #[test]
    fn escaping_cuts() {
        assert_eq!(escape(b"abcdef", 3), "abc [cut]");
        assert_eq!(escape(b"abc", 3), "abc");
        // Cut in the middle of a character: what is left of it shows as bytes.
        assert_eq!(escape("ü".as_bytes(), 1), "\\xc3 [cut]");
    }

    #[test]
    fn time_stamps_look_like_httpds() {
        let mut stamp = String::new();
        time_stamp(&mut stamp);
        let parts: Vec<&str> = stamp.trim_matches(['[', ']']).split(' ').collect();
        assert_eq!(parts.len(), 5, "{stamp}");
        assert!(DAYS.contains(&parts[0]) && MONTHS.contains(&parts[1]), "{stamp}");
        assert_eq!(parts[3].len(), "13:40:00.123456".len(), "{stamp}");
        assert!(parts[4].parse::<i32>().is_ok_and(|y| y > 2000), "{stamp}");
    }

    #[test]
    fn levels_are_ordered_as_in_httpd() {
        assert!(
            Level::Error < Level::Warn && Level::Notice < Level::Info && Level::Info < Level::Debug
        );
    }

    #[test]
    fn the_documentation_lists_the_codes_that_there_are() {
        let page = include_str!("../../../docs/log-codes.md");
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|line| line.starts_with("| VIV"))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        let listed: Vec<(&str, &str)> = rows.iter().map(|row| (row[0], row[1])).collect();
        let known: Vec<(&str, &str)> =
            codes::ALL.iter().map(|(code, title)| (code.0, *title)).collect();
        assert_eq!(listed, known, "docs/log-codes.md and protocol/src/codes.rs differ");
        for row in rows {
            assert!(row.len() == 4 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        }
        let mut numbers: Vec<&str> = known.iter().map(|(code, _)| *code).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), known.len(), "a code was given twice");
    }
}
