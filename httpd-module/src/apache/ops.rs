//! The operations of httpd that Python may call by a number and a text.

use core::ffi::{CStr, c_int};

use vivarium_protocol::codec;
use vivarium_protocol::fields::{Field, Value};
use vivarium_protocol::message::{ConfigNode, ErrorKind, Op, TableId};

use super::request::Request;
use super::server::Server;
use crate::conversation::calls::Answer;
use crate::sys;

fn int(n: c_int) -> Answer {
    Answer::Int(i64::from(n))
}

/// # Safety
/// `p` is null or a live NUL-terminated string.
unsafe fn text(p: *const core::ffi::c_char) -> Answer {
    // SAFETY: passed on.
    Answer::Text(unsafe { super::bytes(p) }.map(<[u8]>::to_vec))
}

/// Operations that concern httpd as a whole.
pub(crate) fn global(op: Op, number: i64, argument: &[u8]) -> Answer {
    match op {
        // SAFETY: httpd sets the pointer when it reads the configuration.
        Op::ServerRoot => unsafe { text(sys::ap_server_root) },
        Op::MpmQuery => {
            let mut result = 0;
            let code = c_int::try_from(number).unwrap_or(-1);
            // SAFETY: a query into a local integer.
            match unsafe { sys::ap_mpm_query(code, &raw mut result) } {
                sys::APR_SUCCESS => int(result),
                _ => Answer::Error(ErrorKind::Value, b"the MPM does not know this query"),
            }
        }
        Op::ExistsConfigDefine => {
            let mut name = argument.to_vec();
            name.push(0);
            match CStr::from_bytes_with_nul(&name) {
                // SAFETY: a NUL-terminated name; httpd's list of defines does not change after start.
                Ok(name) => int(unsafe { sys::ap_exists_config_define(name.as_ptr()) }),
                Err(_) => int(0),
            }
        }
        Op::ConfigTree => {
            // SAFETY: the tree lives as long as the configuration that this process runs with.
            let nodes = unsafe { config_nodes(sys::ap_conftree, 0) };
            tree(&nodes)
        }
        _ => Answer::Error(ErrorKind::State, b"only within a request"),
    }
}

fn tree(nodes: &[ConfigNode]) -> Answer {
    codec::encode(nodes)
        .map_or(Answer::Error(ErrorKind::Value, b"the configuration is too large"), Answer::Bytes)
}

/// The parsed configuration of one virtual host.
pub(crate) fn config_of(server: Server<'_>) -> Answer {
    let (file, line) = server.defined_at();
    // SAFETY: as in `global`: live lists that end with null.
    let found = unsafe {
        let mut next = sys::ap_conftree.cast_const();
        let mut found = Vec::new();
        while let Some(d) = next.as_ref() {
            let here = u32::try_from(d.line_num).ok() == Some(line)
                && super::bytes(d.filename) == Some(file);
            if here {
                found.push(config_node(d, 0));
            }
            next = d.next;
        }
        found
    };
    tree(&found)
}

/// No configuration at all.
pub(crate) fn no_config() -> Answer {
    tree(&[])
}

/// Fills `subprocess_env` as for a CGI script.
pub(crate) fn add_cgi_vars(r: Request<'_>) {
    // SAFETY: live request, owned by this thread.
    unsafe { sys::ap_add_common_vars(r.as_ptr()) };
    let Some(env) = r.table(TableId::SubprocessEnv) else { return };
    let text = |field| match r.field(field) {
        Value::Str(s) => s.to_vec(),
        _ => Vec::new(),
    };
    let (uri, path_info) = (text(Field::Uri), text(Field::PathInfo));
    let script = uri.strip_suffix(&*path_info).unwrap_or(&uri);
    let all: [(&[u8], &[u8]); 6] = [
        (b"GATEWAY_INTERFACE", b"CGI/1.1"),
        (b"SERVER_PROTOCOL", &text(Field::Protocol)),
        (b"REQUEST_METHOD", &text(Field::Method)),
        (b"QUERY_STRING", &text(Field::Args)),
        (b"REQUEST_URI", &uri),
        (b"SCRIPT_NAME", script),
    ];
    for (key, value) in all {
        env.set(r.pool(), key, value);
    }
    if !path_info.is_empty() {
        env.set(r.pool(), b"PATH_INFO", &path_info);
    }
}

/// Operations on a request. `argument` has no NUL.
pub(crate) fn of_request(r: Request<'_>, op: Op, number: i64, argument: &[u8]) -> Answer {
    let raw = r.as_ptr();
    // SAFETY: live request, owned by this thread; arguments are NUL-terminated copies in its pool; results are strings
    // of its pool or of the configuration's.
    unsafe {
        match op {
            Op::AuthName => text(sys::ap_auth_name(raw)),
            Op::AuthType => text(sys::ap_auth_type(raw)),
            Op::ConstructUrl => {
                let uri = r.pool().dup(argument);
                text(sys::ap_construct_url(r.pool().as_ptr(), uri, raw))
            }
            Op::DiscardRequestBody => int(sys::ap_discard_request_body(raw)),
            Op::DocumentRoot => text(sys::ap_document_root(raw)),
            Op::BasicAuthPassword => {
                let mut password = core::ptr::null();
                match sys::ap_get_basic_auth_pw(raw, &raw mut password) {
                    sys::OK => text(password),
                    _ => Answer::Text(None),
                }
            }
            Op::RemoteHost => {
                let kind = c_int::try_from(number).unwrap_or(sys::REMOTE_NAME);
                text(sys::ap_get_useragent_host(raw, kind, core::ptr::null_mut()))
            }
            Op::IsHttps => int(sys::ap_ssl_conn_is_ssl(r.connection().as_ptr())),
            Op::SslVar => {
                let name = r.pool().dup(argument);
                text(sys::ap_ssl_var_lookup(
                    r.pool().as_ptr(),
                    r.server().as_ptr(),
                    r.connection().as_ptr(),
                    raw,
                    name,
                ))
            }
            Op::MeetsConditions => int(sys::ap_meets_conditions(raw)),
            Op::SetContentLength => {
                sys::ap_set_content_length(raw, number.max(0));
                Answer::Ok
            }
            Op::SetEtag => {
                sys::ap_set_etag(raw);
                Answer::Ok
            }
            Op::SetLastModified => {
                sys::ap_set_last_modified(raw);
                Answer::Ok
            }
            Op::UpdateMtime => {
                sys::ap_update_mtime(raw, number);
                Answer::Ok
            }
            Op::AllowMethods => {
                let end = core::ptr::null::<core::ffi::c_char>();
                let mut reset = c_int::from(number != 0);
                for method in argument.split(|b| *b == b' ').filter(|m| !m.is_empty()) {
                    sys::ap_allow_methods(raw, reset, r.pool().dup(method), end);
                    reset = 0;
                }
                Answer::Ok
            }
            Op::ServerRoot | Op::MpmQuery | Op::ExistsConfigDefine | Op::ConfigTree => {
                global(op, number, argument)
            }
            Op::Requires => {
                Answer::Text(r.dir_conf().and_then(|c| Some(c.requires.as_ref()?.join(&b'\n'))))
            }
            Op::AddHandlerExtensions => Answer::Text(
                r.dir_conf().map(|c| c.extensions.iter().flat_map(|e| bare(e)).collect()),
            ),
            Op::AddCommonVars => {
                sys::ap_add_common_vars(raw);
                Answer::Ok
            }
            Op::AddedHandler => Answer::Error(ErrorKind::State, b"not possible here"),
        }
    }
}

/// An extension as publishers want it: without its dot, with a space behind it.
fn bare(extension: &[u8]) -> Vec<u8> {
    let mut name = extension.strip_prefix(b".").unwrap_or(extension).to_vec();
    name.push(b' ');
    name
}

/// How deep sections may nest; httpd's own configurations come nowhere near.
const MAX_NESTING: u32 = 64;

/// # Safety
/// `first` is null or the first of a live list of directives.
unsafe fn config_nodes(first: *const sys::ap_directive_t, depth: u32) -> Vec<ConfigNode> {
    let mut nodes = Vec::new();
    let mut next = first;
    // SAFETY: live list that ends with null, by the caller's promise; strings live as long.
    while let Some(d) = unsafe { next.as_ref() } {
        // SAFETY: as above.
        nodes.push(unsafe { config_node(d, depth) });
        next = d.next;
    }
    nodes
}

/// # Safety
/// A live directive.
unsafe fn config_node(d: &sys::ap_directive_t, depth: u32) -> ConfigNode {
    // SAFETY: strings and children live as long as the directive, by the caller's promise.
    unsafe {
        ConfigNode {
            directive: super::bytes(d.directive).unwrap_or(b"").to_vec(),
            args: super::bytes(d.args).unwrap_or(b"").to_vec(),
            children: if depth < MAX_NESTING {
                config_nodes(d.first_child, depth + 1)
            } else {
                Vec::new()
            },
        }
    }
}
