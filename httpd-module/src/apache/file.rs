//! What a request says of its file and its place, beside [`super::request`].

use vivarium_protocol::fields::{Field, Value};

use super::request::Request;
use crate::sys;

impl<'r> Request<'r> {
    /// `AuthType` of its place.
    pub(crate) fn auth_type(self) -> Option<&'r [u8]> {
        // SAFETY: live request; the answer is a string of its pool or of the configuration's.
        unsafe { super::bytes(sys::ap_auth_type(self.as_ptr())) }
    }

    /// `DocumentRoot` of its virtual host.
    pub(crate) fn document_root(self) -> Option<&'r [u8]> {
        // SAFETY: as above.
        unsafe { super::bytes(sys::ap_document_root(self.as_ptr())) }
    }

    /// `r->uri`.
    pub(crate) fn uri(self) -> Option<&'r [u8]> {
        match self.field(Field::Uri) {
            Value::Str(uri) => Some(uri),
            _ => None,
        }
    }

    /// GET, or HEAD, which is a GET whose body is not sent.
    pub(crate) fn is_get(self) -> bool {
        self.field(Field::MethodNumber) == Value::Int(i64::from(sys::M_GET))
    }

    /// HEAD.
    pub(crate) fn is_head(self) -> bool {
        self.field(Field::HeaderOnly) != Value::Int(0)
    }

    /// Tells httpd of the file that is about to be sent: size, time of the last change in seconds, number. Sets the headers
    /// that follow from them.
    pub(crate) fn describe_file(self, size: i64, mtime: i64, inode: u64) {
        // SAFETY: live request, owned by this thread.
        unsafe {
            let r = self.as_ptr();
            let info = &mut (*r).finfo;
            info.size = size;
            info.mtime = mtime.saturating_mul(1_000_000);
            info.inode = inode;
            info.filetype = sys::APR_REG;
            info.valid |= sys::APR_FINFO_SIZE | sys::APR_FINFO_MTIME | sys::APR_FINFO_INODE;
            sys::ap_update_mtime(r, info.mtime);
            sys::ap_set_last_modified(r);
            sys::ap_set_etag(r);
            sys::ap_set_content_length(r, size);
        }
    }

    /// `ap_meets_conditions`: `OK`, or the status that answers a conditional request.
    pub(crate) fn meets_conditions(self) -> i32 {
        // SAFETY: live request, owned by this thread.
        unsafe { sys::ap_meets_conditions(self.as_ptr()) }
    }
}
