//! Which names and values a confined tenant may use, and which grant others need. No httpd here: tests/units.rs runs this
//! module's tests alone.

use vivarium_protocol::policy::Grants;

/// What stops a confined tenant: a grant that it lacks, or nothing that a grant could change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// This grant.
    Grant(Grants),
    /// A better value.
    Better(&'static str),
}

fn is_any(name: &[u8], of: &[&str]) -> bool {
    of.iter().any(|o| name.eq_ignore_ascii_case(o.as_bytes()))
}

fn begins(name: &[u8], with: &str) -> bool {
    name.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with.as_bytes()))
}

/// Handlers that are ours, or httpd's own for files.
const OWN_HANDLERS: [&str; 3] = ["mod_python", "python-program", "default-handler"];
/// Handlers that execute programs, beside all whose name has `cgi` or `php` in it.
const PROGRAMS: [&str; 8] = [
    "server-parsed",
    "wsgi-script",
    "lua-script",
    "perl-script",
    "modperl",
    "isapi-handler",
    "passenger-script",
    "servlet",
];

/// `req.handler`.
pub(crate) fn handler(name: &[u8]) -> Option<Needs> {
    if name.is_empty() || is_any(name, &OWN_HANDLERS) {
        return None;
    }
    if begins(name, "proxy:") || begins(name, "proxy-") || is_any(name, &["balancer-manager"]) {
        return Some(Needs::Grant(Grants::PROXY));
    }
    let lower = name.to_ascii_lowercase();
    let has = |part: &[u8]| lower.windows(part.len()).any(|w| w == part);
    if is_any(name, &PROGRAMS) || has(b"cgi") || has(b"php") || has(b"x-httpd") {
        return Some(Needs::Grant(Grants::CGI));
    }
    Some(Needs::Grant(Grants::HANDLERS))
}

/// `req.content_type`: without a handler httpd takes it for one.
pub(crate) fn content_type(value: &[u8]) -> Option<Needs> {
    let kind = value.split(|b| *b == b';').next().unwrap_or(b"").trim_ascii();
    let Some(slash) = kind.iter().position(|b| *b == b'/') else {
        // `text` and the like say nothing; a handler's name does.
        return if kind.is_empty() { None } else { handler(kind) };
    };
    let (main, sub) = (&kind[..slash], &kind[slash + 1..]);
    if begins(sub, "x-httpd") || begins(sub, "x-server-parsed") {
        return Some(Needs::Grant(Grants::CGI));
    }
    let maps = is_any(sub, &["x-type-map", "x-imagemap"]);
    if maps || is_any(main, &["httpd", "magnus-internal", "proxy:"]) || begins(kind, "proxy:") {
        return Some(Needs::Grant(Grants::HANDLERS));
    }
    None
}

/// `subprocess_env`: plain names in capitals that mean nothing to httpd, to a CGI script or to the dynamic linker.
pub(crate) fn environment(name: &[u8]) -> Option<Needs> {
    const PREFIXES: [&str; 28] = [
        "LD_",
        "DYLD_",
        "MALLOC_",
        "GLIBC_",
        "GCONV",
        "LOCPATH",
        "NLSPATH",
        "PYTHON",
        "PERL",
        "RUBY",
        "NODE_",
        "JAVA_",
        "PHP",
        "BASH",
        "SSL_",
        "TLS_",
        "HTTP",
        "REMOTE_",
        "SERVER_",
        "REQUEST_",
        "SCRIPT_",
        "DOCUMENT_",
        "CONTEXT_",
        "CONTENT_",
        "PATH",
        "REDIRECT_",
        "MATCH_",
        "VIVARIUM_",
    ];
    const NAMES: [&str; 17] = [
        "HOME",
        "SHELL",
        "IFS",
        "ENV",
        "CDPATH",
        "TMPDIR",
        "TMP",
        "TEMP",
        "TZ",
        "TZDIR",
        "USER",
        "LOGNAME",
        "AUTH_TYPE",
        "GATEWAY_INTERFACE",
        "QUERY_STRING",
        "UNIQUE_ID",
        "TERM",
    ];
    let plain = name.first().is_some_and(u8::is_ascii_uppercase)
        && name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_');
    let taken = PREFIXES.iter().any(|p| begins(name, p)) || is_any(name, &NAMES);
    if plain && !taken { None } else { Some(Needs::Grant(Grants::ENVIRONMENT)) }
}

/// `notes`: not those by which httpd's modules tell each other things.
pub(crate) fn note(name: &[u8]) -> Option<Needs> {
    const PREFIXES: [&str; 7] = ["mod_", "ssl", "proxy", "http2", "h2", "balancer", "cache"];
    const NAMES: [&str; 4] = ["error-notes", "verbose-error-to", "variant-list", "no-etag"];
    let taken = PREFIXES.iter().any(|p| begins(name, p)) || is_any(name, &NAMES);
    if taken { Some(Needs::Grant(Grants::SERVER_STATE)) } else { None }
}

/// Headers that say where an answer or a body ends, or what becomes of the connection.
const FRAMING: [&str; 8] = [
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Status",
];
/// Headers by which a handler asks a server in front of it for a file.
const FILES: [&str; 4] =
    ["X-Sendfile", "X-Sendfile-Temporary", "X-LIGHTTPD-send-file", "X-Accel-Redirect"];

/// A token, as header names are made of (RFC 9110).
pub(crate) fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// `headers_out` and `err_headers_out`.
pub(crate) fn header_out(name: &[u8], value: &[u8]) -> Option<Needs> {
    if !is_token(name) {
        return Some(Needs::Better("a header's name is no token"));
    }
    if is_any(name, &FILES) {
        return Some(Needs::Grant(Grants::FOREIGN_FILES));
    }
    // To end the connection is everybody's right.
    if is_any(name, &["Connection"]) && is_any(value, &["close"]) {
        return None;
    }
    if is_any(name, &["Content-Length"]) && !value.iter().all(u8::is_ascii_digit) {
        return Some(Needs::Better("Content-Length is a number"));
    }
    if is_any(name, &FRAMING) { Some(Needs::Grant(Grants::CONNECTIONS)) } else { None }
}

/// `headers_in`, changed or removed.
pub(crate) fn header_in(name: &[u8]) -> Option<Needs> {
    if is_any(name, &FRAMING) || is_any(name, &["Content-Length", "Expect", "Host"]) {
        return Some(Needs::Grant(Grants::CONNECTIONS));
    }
    if is_any(name, &["Authorization", "Proxy-Authorization"]) {
        return Some(Needs::Grant(Grants::IDENTITY));
    }
    None
}

/// A URI that stays on this server: a path, with no control characters.
pub(crate) fn uri(value: &[u8]) -> Option<Needs> {
    if value.iter().any(|b| *b < b' ' || *b == 127) {
        return Some(Needs::Better("a URI has no control characters"));
    }
    if value.first() == Some(&b'/') && value.get(1) != Some(&b'/') {
        None
    } else {
        Some(Needs::Grant(Grants::PROXY))
    }
}

/// Filters that a confined tenant may put on its answers.
pub(crate) fn output_filter(name: &[u8]) -> Option<Needs> {
    if is_any(name, &["DEFLATE", "BROTLI_COMPRESS", "RATE_LIMIT"]) {
        None
    } else {
        Some(Needs::Grant(Grants::FILTERS))
    }
}

/// `ssl_var_lookup`: httpd's own environment (`ENV:`) and hidden headers (`HTTP:`) can be asked for by it, too.
pub(crate) fn ssl_variable(name: &[u8]) -> Option<Needs> {
    if begins(name, "SSL_") || is_any(name, &["HTTPS"]) {
        return None;
    }
    if begins(name, "HTTP") {
        Some(Needs::Grant(Grants::AUTHORIZATION))
    } else {
        Some(Needs::Grant(Grants::SERVER_CONFIG))
    }
}

/// `mpm_query`: whether the MPM has threads (2) and processes (3) is no secret.
pub(crate) fn mpm_query(code: i64) -> Option<Needs> {
    if matches!(code, 2 | 3) { None } else { Some(Needs::Grant(Grants::SCOREBOARD)) }
}

/// A status that an answer can have.
pub(crate) fn is_final_status(n: i64) -> bool {
    (200..=599).contains(&n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(needs: Option<Needs>) -> Option<Grants> {
        match needs {
            Some(Needs::Grant(grant)) => Some(grant),
            Some(Needs::Better(_)) => Some(Grants::NONE),
            None => None,
        }
    }

    #[test]
    fn handlers_by_what_they_do() {
        for own in ["", "mod_python", "Python-Program", "default-handler"] {
            assert_eq!(handler(own.as_bytes()), None, "{own}");
        }
        for program in
            ["cgi-script", "fcgid-script", "application/x-httpd-php", "server-parsed", "php8"]
        {
            assert_eq!(grant(handler(program.as_bytes())), Some(Grants::CGI), "{program}");
        }
        for proxy in
            ["proxy-server", "proxy:fcgi://localhost", "PROXY:unix:/x|http://y", "balancer-manager"]
        {
            assert_eq!(grant(handler(proxy.as_bytes())), Some(Grants::PROXY), "{proxy}");
        }
        for other in ["server-status", "server-info", "send-as-is", "type-map"] {
            assert_eq!(grant(handler(other.as_bytes())), Some(Grants::HANDLERS), "{other}");
        }
    }

    #[test]
    fn types_that_are_handlers() {
        for plain in
            ["text/html", "text/html; charset=utf-8", "application/json", "image/svg+xml", ""]
        {
            assert_eq!(content_type(plain.as_bytes()), None, "{plain}");
        }
        for magic in [
            "application/x-httpd-cgi",
            "application/x-httpd-php;x",
            "text/x-server-parsed-html3",
            "cgi-script",
        ] {
            assert_eq!(grant(content_type(magic.as_bytes())), Some(Grants::CGI), "{magic}");
        }
        for magic in ["httpd/unix-directory", "application/x-type-map", "server-status"] {
            assert_eq!(grant(content_type(magic.as_bytes())), Some(Grants::HANDLERS), "{magic}");
        }
        assert_eq!(grant(content_type(b"proxy:http://127.0.0.1/")), Some(Grants::HANDLERS));
    }

    #[test]
    fn environment_in_plain_capitals_only() {
        for plain in ["APP_MODE", "X", "MY_VAR2"] {
            assert_eq!(environment(plain.as_bytes()), None, "{plain}");
        }
        for taken in [
            "LD_PRELOAD",
            "PATH",
            "PYTHONPATH",
            "dontlog",
            "no-gzip",
            "nokeepalive",
            "HTTPS",
            "HTTP_PROXY",
            "MATCH_USER",
            "REMOTE_USER",
            "",
            "A=B",
            "A B",
            "SSL_CLIENT_VERIFY",
            "1A",
        ] {
            assert_eq!(grant(environment(taken.as_bytes())), Some(Grants::ENVIRONMENT), "{taken}");
        }
    }

    #[test]
    fn headers_that_frame_or_fetch() {
        assert_eq!(header_out(b"X-Mine", b"1"), None);
        assert_eq!(header_out(b"Connection", b"close"), None);
        assert_eq!(header_out(b"Content-Length", b"12"), None);
        assert_eq!(grant(header_out(b"Connection", b"upgrade")), Some(Grants::CONNECTIONS));
        assert_eq!(grant(header_out(b"transfer-encoding", b"chunked")), Some(Grants::CONNECTIONS));
        assert_eq!(grant(header_out(b"X-Sendfile", b"/etc/passwd")), Some(Grants::FOREIGN_FILES));
        assert_eq!(grant(header_out(b"Content-Length", b"-1")), Some(Grants::NONE));
        for name in ["", "a b", "a:b", "a(b", "ä"] {
            assert_eq!(grant(header_out(name.as_bytes(), b"")), Some(Grants::NONE), "{name}");
        }
        assert_eq!(header_in(b"X-Any"), None);
        assert_eq!(grant(header_in(b"content-length")), Some(Grants::CONNECTIONS));
        assert_eq!(grant(header_in(b"Authorization")), Some(Grants::IDENTITY));
    }

    #[test]
    fn uris_stay_here() {
        assert_eq!(uri(b"/a?b=c"), None);
        assert_eq!(grant(uri(b"http://127.0.0.1/")), Some(Grants::PROXY));
        assert_eq!(grant(uri(b"//elsewhere/")), Some(Grants::PROXY));
        assert_eq!(grant(uri(b"/a\r\nb")), Some(Grants::NONE));
        assert_eq!(grant(uri(b"")), Some(Grants::PROXY));
    }

    #[test]
    fn filters_notes_variables_and_queries() {
        assert_eq!(output_filter(b"deflate"), None);
        assert_eq!(grant(output_filter(b"INCLUDES")), Some(Grants::FILTERS));
        assert_eq!(note(b"my-note"), None);
        assert_eq!(grant(note(b"mod_userdir_user")), Some(Grants::SERVER_STATE));
        assert_eq!(ssl_variable(b"SSL_PROTOCOL"), None);
        assert_eq!(grant(ssl_variable(b"ENV:SECRET")), Some(Grants::SERVER_CONFIG));
        assert_eq!(grant(ssl_variable(b"HTTP:Authorization")), Some(Grants::AUTHORIZATION));
        assert_eq!(mpm_query(2), None);
        assert_eq!(grant(mpm_query(12)), Some(Grants::SCOREBOARD));
    }
}
