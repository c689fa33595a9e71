//! What takes the place of `sys.stdout` and `sys.stderr`: whole lines go to httpd's error log.

use std::cell::RefCell;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use vivarium_protocol::message::LogScope;

use super::text;
use crate::engine::phases::{self, ERR};
use crate::engine::{calls, control};

/// A line is cut when it is longer than this.
const MAX_LINE: usize = 64 << 10;

thread_local! {
    /// Unfinished lines of this thread: standard output's, standard error's.
    static UNFINISHED: RefCell<[Vec<u8>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Writes a line where it belongs: to the log of the request that this thread runs, else to the supervisor.
pub(crate) fn emit(py: Python<'_>, line: &[u8]) {
    let sent = phases::current().is_some_and(|(conversation, rid)| {
        calls::log(py, &conversation, Some(rid), LogScope::Request, ERR, line).is_ok()
    });
    if !sent {
        control::say(py, &text::to_string(line));
    }
}

/// Writes this thread's unfinished lines: its request is over.
pub(crate) fn flush_thread(py: Python<'_>) {
    for stream in 0..2 {
        let line = UNFINISHED.with(|u| {
            let line = &mut u.borrow_mut()[stream];
            if line.is_empty() { None } else { Some(std::mem::take(line)) }
        });
        if let Some(line) = line {
            emit(py, &line);
        }
    }
}

/// A text stream (or its `buffer`) whose lines go to the error log, each thread's for itself.
#[pyclass(name = "LogStream", module = "vivarium", frozen)]
#[derive(Debug)]
pub(crate) struct LogStream {
    stream: usize,
    binary: bool,
}

impl LogStream {
    fn take(&self, py: Python<'_>, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            let mut whole = UNFINISHED.with(|u| std::mem::take(&mut u.borrow_mut()[self.stream]));
            whole.extend_from_slice(line);
            emit(py, &whole);
        }
        while !rest.is_empty() {
            let full = UNFINISHED.with(|u| {
                let line = &mut u.borrow_mut()[self.stream];
                let (now, later) = rest.split_at(rest.len().min(MAX_LINE - line.len()));
                line.extend_from_slice(now);
                rest = later;
                (line.len() >= MAX_LINE).then(|| std::mem::take(line))
            });
            if let Some(line) = full {
                emit(py, &line);
            }
        }
    }
}

#[pymethods]
impl LogStream {
    /// `LogStream(1)` for standard output, `LogStream(2)` for standard error.
    #[new]
    #[pyo3(signature = (fd, binary=false))]
    fn new(fd: i32, binary: bool) -> PyResult<Self> {
        match fd {
            1 | 2 => Ok(Self { stream: usize::from(fd == 2), binary }),
            _ => Err(PyValueError::new_err("1 or 2")),
        }
    }

    /// Takes text (bytes if this is a `buffer`); whole lines are written at once.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>()
            && self.binary
        {
            self.take(py, bytes.as_bytes());
            return Ok(bytes.as_bytes().len());
        }
        match data.cast::<PyString>() {
            Ok(string) if !self.binary => {
                self.take(py, text::log_text(string).as_bytes());
                string.len()
            }
            _ => {
                let name = data.get_type().name()?;
                let expected = if self.binary { "bytes" } else { "str" };
                Err(PyTypeError::new_err(format!(
                    "write() argument must be {expected}, not {name}"
                )))
            }
        }
    }

    /// Takes each item of `lines`.
    fn writelines(&self, py: Python<'_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(py, &line?)?;
        }
        Ok(())
    }

    /// Does nothing: a log has whole lines; an unfinished one is written when its request is over.
    #[allow(clippy::unused_self)]
    fn flush(&self) {}

    /// Does nothing: the log stays open.
    #[allow(clippy::unused_self)]
    fn close(&self) {}

    /// The descriptor that the supervisor reads.
    fn fileno(&self) -> i32 {
        if self.stream == 0 { 1 } else { 2 }
    }

    #[allow(clippy::unused_self)]
    fn isatty(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)]
    fn readable(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)]
    fn writable(&self) -> bool {
        true
    }

    #[allow(clippy::unused_self)]
    fn seekable(&self) -> bool {
        false
    }

    /// The stream that takes bytes.
    #[getter]
    fn buffer(&self) -> Self {
        Self { stream: self.stream, binary: true }
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn closed(&self) -> bool {
        false
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn encoding(&self) -> &'static str {
        "utf-8"
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn errors(&self) -> &'static str {
        "backslashreplace"
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn line_buffering(&self) -> bool {
        true
    }

    #[getter]
    #[allow(clippy::unused_self)]
    fn mode(&self) -> &'static str {
        "w"
    }

    #[getter]
    fn name(&self) -> &'static str {
        if self.stream == 0 { "<stdout>" } else { "<stderr>" }
    }
}
