//! Files that a confined tenant has named, served by httpd: looked at once more, and sent by descriptor.
//!
//! httpd's own file handler would open `r->filename` again, and the tenant could have put a link there meanwhile.

use rustix::fs::FileType;
use vivarium_protocol::policy::{Grants, TenantPolicy};

use super::{Refusal, complain_of, files, roots};
use crate::apache::brigade::Brigade;
use crate::apache::filter;
use crate::apache::request::Request;
use crate::conversation::tree::Entry;
use crate::sys;

/// What becomes of a request whose content is not Python's, after a confined tenant has named its file; `None`: httpd goes
/// on with the handler that it has.
pub(crate) fn named_file(
    tenant: &str,
    policy: &TenantPolicy,
    entry: &Entry,
    r: Request<'_>,
) -> Option<i32> {
    if !entry.file_told.get() || policy.allows(Grants::FOREIGN_FILES) {
        return None;
    }
    let path = r.filename()?;
    let roots = roots(policy, r);
    let refused = || {
        complain_of(r, tenant, &Refusal::grant("the file that was named", Grants::FOREIGN_FILES));
        Some(sys::HTTP_FORBIDDEN)
    };
    if !files::is_inside(&roots, path) {
        return refused();
    }
    // Without a handler, httpd takes the content type for one; then its own file handler answers.
    let by_httpd = match r.handler() {
        None => true,
        Some(name) => name.is_empty() || name.contains(&b'/') || name == b"default-handler",
    };
    if !by_httpd {
        return None;
    }
    if !r.is_get() {
        return Some(sys::HTTP_METHOD_NOT_ALLOWED);
    }
    let fd = match files::open(&roots, path) {
        Ok(fd) => fd,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(sys::HTTP_NOT_FOUND),
        Err(_) => return refused(),
    };
    let Ok(stat) = rustix::fs::fstat(&fd) else { return refused() };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Some(sys::HTTP_NOT_FOUND);
    }
    r.describe_file(stat.st_size, stat.st_mtime, stat.st_ino);
    let met = r.meets_conditions();
    if met != sys::OK {
        return Some(met);
    }
    let Some(bb) = Brigade::new(r.pool(), r.connection()) else {
        return Some(sys::HTTP_INTERNAL_SERVER_ERROR);
    };
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > 0 && !bb.push_file(fd, 0, size, r) {
        return Some(sys::HTTP_INTERNAL_SERVER_ERROR);
    }
    bb.push_eos();
    let status = filter::pass(r.output_filters(), bb);
    bb.clear();
    let gone = r.connection().aborted();
    Some(if status == sys::APR_SUCCESS || gone { sys::OK } else { sys::HTTP_INTERNAL_SERVER_ERROR })
}
