//! `mp_finfo`: what is known of a file, by attribute and by `FINFO_*` index.

use std::convert::Infallible;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use pyo3::exceptions::{PyIndexError, PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::text;
use crate::engine::state::Owned;

/// `APR_FINFO_LINK`: do not follow a symbolic link.
const WANT_LINK: i64 = 1;
/// The `APR_FINFO_*` that a stat fills in.
const VALID: i64 = 0x73_f370;

/// A time in microseconds, as httpd has it; Python sees whole seconds.
#[derive(Debug, Clone, Copy)]
struct Time(i64);

impl Time {
    fn of(seconds: i64, nanoseconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1000))
    }

    fn of_seconds(seconds: i64) -> Self {
        Self::of(seconds, 0)
    }

    fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl<'py> IntoPyObject<'py> for Time {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        self.seconds().into_pyobject(py)
    }
}

/// `mp_finfo`
#[pyclass(name = "mp_finfo", frozen, get_all)]
#[derive(Debug, Default)]
pub(crate) struct MpFinfo {
    fname: Option<String>,
    filetype: i64,
    valid: Option<i64>,
    protection: Option<i64>,
    user: Option<i64>,
    group: Option<i64>,
    size: Option<i64>,
    inode: Option<i64>,
    device: Option<i64>,
    nlink: Option<i64>,
    atime: Option<Time>,
    mtime: Option<Time>,
    ctime: Option<Time>,
    name: Option<String>,
}

/// The permission bits as `apr_fileperms_t` has them: one hexadecimal digit each for user, group and world.
fn protection(mode: u32) -> i64 {
    let digit = |shift: u32| (mode >> shift) & 7;
    let special = ((mode >> 11) & 1) << 15 | ((mode >> 10) & 1) << 14 | ((mode >> 9) & 1) << 13;
    i64::from(special | digit(6) << 8 | digit(3) << 4 | digit(0))
}

/// The file's type as `apr_filetype_e` counts them.
fn filetype(kind: std::fs::FileType) -> i64 {
    let known = [
        (kind.is_file(), 1),
        (kind.is_dir(), 2),
        (kind.is_char_device(), 3),
        (kind.is_block_device(), 4),
        (kind.is_fifo(), 5),
        (kind.is_symlink(), 6),
        (kind.is_socket(), 7),
    ];
    known.into_iter().find_map(|(is, n)| is.then_some(n)).unwrap_or(127)
}

impl MpFinfo {
    /// Looks at a file, as this process sees it. A missing file is an object whose type is `APR_NOFILE`.
    ///
    /// # Errors
    /// `OSError` if the file cannot be looked at for another reason.
    pub(crate) fn stat(py: Python<'_>, name: &str, wanted: i64) -> PyResult<Self> {
        let path = Path::new(name);
        let found = py.detach(|| {
            if wanted & WANT_LINK == 0 { path.metadata() } else { path.symlink_metadata() }
        });
        let meta = match found {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(PyOSError::new_err((e.raw_os_error(), "apr_stat() failed"))),
        };
        let number = |n: u64| i64::try_from(n).ok();
        Ok(Self {
            fname: Some(name.to_owned()),
            filetype: filetype(meta.file_type()),
            valid: Some(VALID),
            protection: Some(protection(meta.mode())),
            user: Some(meta.uid().into()),
            group: Some(meta.gid().into()),
            size: number(meta.size()),
            inode: number(meta.ino()),
            device: number(meta.dev()),
            nlink: number(meta.nlink()),
            atime: Some(Time::of(meta.atime(), meta.atime_nsec())),
            mtime: Some(Time::of(meta.mtime(), meta.mtime_nsec())),
            ctime: Some(Time::of(meta.ctime(), meta.ctime_nsec())),
            name: None,
        })
    }

    /// An object of httpd's values: those of the `FINFO_*` indices, then what of them is valid.
    pub(crate) fn of_fields(values: &[Owned]) -> Self {
        let number = |i: usize| match values.get(i) {
            Some(Owned::Int(n)) => Some(*n),
            _ => None,
        };
        let name = |i: usize| match values.get(i) {
            Some(Owned::Str(s)) => Some(text::to_string(s)),
            _ => None,
        };
        Self {
            protection: number(0),
            inode: number(1),
            device: number(2),
            nlink: number(3),
            user: number(4),
            group: number(5),
            size: number(6),
            atime: number(7).map(Time),
            mtime: number(8).map(Time),
            ctime: number(9).map(Time),
            fname: name(10),
            name: name(11),
            filetype: number(12).unwrap_or(0),
            valid: number(13),
        }
    }

    /// The same values for httpd.
    pub(crate) fn fields(&self) -> Vec<Owned> {
        let number = |n: Option<i64>| n.map_or(Owned::None, Owned::Int);
        let name = |s: &Option<String>| {
            s.as_ref().map_or(Owned::None, |s| Owned::Str(s.as_bytes().into()))
        };
        vec![
            number(self.protection),
            number(self.inode),
            number(self.device),
            number(self.nlink),
            number(self.user),
            number(self.group),
            number(self.size),
            number(self.atime.map(|t| t.0)),
            number(self.mtime.map(|t| t.0)),
            number(self.ctime.map(|t| t.0)),
            name(&self.fname),
            name(&self.name),
            Owned::Int(self.filetype),
            number(self.valid),
        ]
    }

    /// An object made of values in the order of the `FINFO_*` indices, type last.
    ///
    /// # Errors
    /// `TypeError` for values of other types.
    pub(crate) fn of_values(values: &[Bound<'_, PyAny>]) -> PyResult<Self> {
        let number =
            |i: usize| values.get(i).map_or(Ok(None), PyAnyMethods::extract::<Option<i64>>);
        let name = |i: usize| -> PyResult<Option<String>> {
            match values.get(i).filter(|v| !v.is_none()) {
                Some(value) => text::opt_str_argument(i, value),
                None => Ok(None),
            }
        };
        Ok(Self {
            protection: number(0)?,
            inode: number(1)?,
            device: number(2)?,
            nlink: number(3)?,
            user: number(4)?,
            group: number(5)?,
            size: number(6)?,
            atime: number(7)?.map(Time::of_seconds),
            mtime: number(8)?.map(Time::of_seconds),
            ctime: number(9)?.map(Time::of_seconds),
            fname: name(10)?,
            name: name(11)?,
            filetype: number(12)?.unwrap_or(0),
            valid: Some(VALID),
        })
    }
}

#[pymethods]
impl MpFinfo {
    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        let number = |n: Option<i64>| Ok(n.into_pyobject(py)?);
        match index {
            0 => number(self.protection),
            1 => number(self.inode),
            2 => number(self.device),
            3 => number(self.nlink),
            4 => number(self.user),
            5 => number(self.group),
            6 => number(self.size),
            7 => number(self.atime.map(Time::seconds)),
            8 => number(self.mtime.map(Time::seconds)),
            9 => number(self.ctime.map(Time::seconds)),
            10 => Ok(self.fname.as_deref().into_pyobject(py)?),
            11 => Ok(self.name.as_deref().into_pyobject(py)?),
            12 => number(Some(self.filetype)),
            _ => Err(PyIndexError::new_err("tuple index out of range")),
        }
    }

    #[allow(clippy::unused_self)]
    fn __setattr__(&self, _name: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyTypeError::new_err("the attributes of mp_finfo objects are read-only"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let text = |t: &Option<String>| -> PyResult<String> {
            Ok(t.as_deref().into_pyobject(py)?.repr()?.to_string())
        };
        let number = |n: Option<i64>| n.map_or_else(|| String::from("None"), |n| n.to_string());
        Ok(format!(
            "{{'fname': {}, 'filetype': {}, 'valid': {}, 'protection': {}, 'user': {}, \
             'group': {}, 'size': {}, 'inode': {}, 'device': {}, 'nlink': {}, 'atime': {}, \
             'mtime': {}, 'ctime': {}, 'name': {}}}",
            text(&self.fname)?,
            self.filetype,
            number(self.valid),
            number(self.protection),
            number(self.user),
            number(self.group),
            number(self.size),
            number(self.inode),
            number(self.device),
            number(self.nlink),
            number(self.atime.map(Time::seconds)),
            number(self.mtime.map(Time::seconds)),
            number(self.ctime.map(Time::seconds)),
            text(&self.name)?,
        ))
    }
}
