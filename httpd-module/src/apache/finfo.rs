//! What httpd knows of a request's file (`r->finfo`), as the values of [`Field::Finfo`](vivarium_protocol::fields::Field).

use core::ffi::c_int;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use vivarium_protocol::fields::Value;

use super::request::Request;
use crate::sys;

/// The bits that say whether a value is known, in the order of the values; 0 where that shows otherwise.
const BITS: [c_int; 14] = [
    sys::APR_FINFO_PROT,
    sys::APR_FINFO_INODE,
    sys::APR_FINFO_DEV,
    sys::APR_FINFO_NLINK,
    sys::APR_FINFO_USER,
    sys::APR_FINFO_GROUP,
    sys::APR_FINFO_SIZE,
    sys::APR_FINFO_ATIME,
    sys::APR_FINFO_MTIME,
    sys::APR_FINFO_CTIME,
    0,
    sys::APR_FINFO_NAME,
    0,
    0,
];

/// The values of a request.
pub(super) fn read(r: Request<'_>) -> Value<'_> {
    // SAFETY: live request; every access is a plain read of a member of its `finfo`.
    let f = unsafe { &(*r.as_ptr().cast_const()).finfo };
    // SAFETY: texts of the request, or of the configuration, that live as long as it does.
    let text = |p| unsafe { super::bytes(p) }.map_or(Value::None, Value::Str);
    let id = |n: u64| i64::try_from(n).map_or(Value::None, Value::Int);
    let mut values = vec![
        Value::Int(f.protection.into()),
        id(f.inode),
        id(f.device),
        Value::Int(f.nlink.into()),
        Value::Int(f.user.into()),
        Value::Int(f.group.into()),
        Value::Int(f.size),
        Value::Int(f.atime),
        Value::Int(f.mtime),
        Value::Int(f.ctime),
        text(f.fname),
        text(f.name),
        Value::Int(f.filetype.into()),
        Value::Int(f.valid.into()),
    ];
    // Of a file that is not there, httpd may still have what it has seen of the directory above it.
    let there = f.filetype != sys::APR_NOFILE;
    for (value, bits) in values.iter_mut().zip(BITS) {
        if bits != 0 && (!there || f.valid & bits != bits) {
            *value = Value::None;
        }
    }
    Value::Tuple(values)
}

/// Assigns them. What does not fit its member counts as unknown.
pub(super) fn write(r: Request<'_>, values: &[Value<'_>]) {
    let mut valid = match values.last() {
        Some(Value::Int(n)) => c_int::try_from(*n).unwrap_or(0),
        _ => 0,
    };
    let mut number = |i: usize, most: i64| match values.get(i) {
        Some(Value::Int(n)) if (0..=most).contains(n) => *n,
        _ => {
            valid &= !BITS[i];
            0
        }
    };
    let int = i64::from(c_int::MAX);
    let id = i64::from(u32::MAX);
    let (protection, inode, device) = (number(0, int), number(1, i64::MAX), number(2, i64::MAX));
    let (nlink, user, group) = (number(3, int), number(4, id), number(5, id));
    let size = number(6, i64::MAX);
    let (atime, mtime, ctime) = (number(7, i64::MAX), number(8, i64::MAX), number(9, i64::MAX));
    let filetype = number(12, i64::from(sys::APR_UNKFILE));
    let text = |i: usize| match values.get(i) {
        Some(Value::Str(s)) => r.pool().dup(s).cast_const(),
        _ => core::ptr::null(),
    };
    let (fname, name) = (text(10), text(11));
    if name.is_null() {
        valid &= !sys::APR_FINFO_NAME;
    }
    // SAFETY: live request, owned by this thread; texts are copies in its pool.
    let f = unsafe { &mut (*r.as_ptr()).finfo };
    f.valid = valid;
    f.protection = protection as c_int;
    f.inode = inode as u64;
    f.device = device as u64;
    f.nlink = nlink as c_int;
    f.user = user as u32;
    f.group = group as u32;
    f.size = size;
    f.atime = atime;
    f.mtime = mtime;
    f.ctime = ctime;
    f.fname = fname;
    f.name = name;
    f.filetype = filetype as sys::apr_filetype_e;
}

/// Makes the size no larger than the file is. httpd's own handlers trust it, and may map so much of the file: bytes that
/// are not there would end the process.
pub(super) fn limit(r: Request<'_>) {
    let Some(name) = r.filename() else { return };
    let size = rustix::fs::stat(OsStr::from_bytes(name)).map_or(0, |s| s.st_size);
    // SAFETY: live request, owned by this thread.
    let f = unsafe { &mut (*r.as_ptr()).finfo };
    f.size = f.size.min(size);
}
