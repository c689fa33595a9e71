//! The directives: how each is read. Their rows stand in `conf/directives.toml`, from which the build script makes `ROWS`
//! and `scripts/gen-docs` the documentation.

use vivarium_protocol::message::Phase;
use vivarium_protocol::policy::is_valid_name;

use crate::apache::has_module;
use crate::apache::pattern::Pattern;

use super::dir::{DirConf, FilterDef, Handler, TenantOf, set};
use super::server::{Daemon, ServerConf};

/// Where a directive may stand, in httpd's bits (`http_config.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// Server, virtual host, sections and `.htaccess`: `OR_ALL` and both configuration bits.
    Everywhere,
    /// Server, virtual host and sections, not `.htaccess`.
    Sections,
    /// As `Require` (`OR_AUTHCFG`).
    Auth,
    /// As `AddHandler` (`OR_FILEINFO`).
    FileInfo,
    /// Server and virtual host only.
    Servers,
    /// The main server only.
    Main,
}

/// What a directive is given.
pub(crate) struct Args<'a> {
    /// The directive's name, as written in its row.
    pub(crate) name: &'static str,
    /// The rest of the line.
    pub(crate) raw: &'a [u8],
    /// The same, split into words as httpd does (quotes honoured).
    pub(crate) words: Vec<Vec<u8>>,
    /// The section's per-directory configuration (at server level: the default one).
    pub(crate) dir: &'a mut DirConf,
    /// The server's configuration, for `Context::Main`.
    pub(crate) server: Option<&'a mut ServerConf>,
    /// The directory of the section, with a trailing slash, or the path of a `<Location>`.
    pub(crate) directory: Option<Vec<u8>>,
    /// The section's pattern, if many directories match it.
    pub(crate) pattern: Option<Pattern>,
    /// The section is a `<Location>`.
    pub(crate) is_location: bool,
    /// Filters to register with httpd: name, input.
    pub(crate) register: Vec<(Vec<u8>, bool)>,
}

/// One directive.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) context: Context,
    pub(crate) usage: &'static str,
    pub(crate) parse: fn(&mut Args<'_>) -> Result<(), String>,
}

include!(concat!(env!("OUT_DIR"), "/directives.rs"));

/// The number of directives.
pub(crate) const COUNT: usize = ROWS.len();

fn handlers(a: &mut Args<'_>, phase: Phase) -> Result<(), String> {
    let mut names: Vec<&[u8]> = Vec::new();
    let mut extensions: Vec<&[u8]> = Vec::new();
    let mut bar = false;
    for word in a.raw.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()) {
        match word {
            b"|" if !bar => bar = true,
            b"|" => {
                return Err(format!("{}: a second `|`; write all extensions behind one", a.name));
            }
            w if bar && w.starts_with(b".") => extensions.push(w),
            w if bar => {
                let w = String::from_utf8_lossy(w);
                return Err(format!(
                    "{}: `{w}` behind `|` is no extension: it must begin with a dot",
                    a.name
                ));
            }
            w => names.push(w),
        }
    }
    if names.is_empty() {
        return Err(format!("{} needs at least one handler", a.name));
    }
    if bar && extensions.is_empty() {
        return Err(format!("{}: no extension behind `|`", a.name));
    }
    for name in names {
        check_text(a.name, name)?;
        let handler = handler(a, name, false);
        if extensions.is_empty() {
            a.dir.add_handler(phase, None, handler);
        } else {
            for ext in &extensions {
                a.dir.add_handler(phase, Some(ext), handler.clone());
            }
        }
    }
    Ok(())
}

fn handler(a: &Args<'_>, name: &[u8], silent: bool) -> Handler {
    Handler {
        name: name.into(),
        directory: a.directory.as_deref().map(Into::into),
        pattern: a.pattern.clone(),
        is_location: a.is_location,
        silent,
    }
}

fn plain_handlers(a: &mut Args<'_>, phase: Phase) -> Result<(), String> {
    // Before a request is mapped to a file there is no extension to go by.
    if a.raw.split(u8::is_ascii_whitespace).any(|w| w == b"|") {
        return Err(format!("{}: `| .ext` needs a file name, which this phase has not", a.name));
    }
    handlers(a, phase)
}

fn handler_module(a: &mut Args<'_>) -> Result<(), String> {
    let [module] = a.words.as_slice() else {
        return Err(format!("{} takes one module", a.name));
    };
    let module = module.clone();
    check_text(a.name, &module)?;
    if module.windows(2).any(|w| w == b"::") {
        return Err(format!("{} takes a module, without `::object`", a.name));
    }
    let handler = handler(a, &module, true);
    for phase in REQUEST_PHASES {
        a.dir.add_handler(phase, None, handler.clone());
    }
    Ok(())
}

/// The phases that `PythonHandlerModule` serves.
const REQUEST_PHASES: [Phase; 12] = [
    Phase::PostReadRequest,
    Phase::Trans,
    Phase::HeaderParser,
    Phase::Init,
    Phase::Access,
    Phase::Authen,
    Phase::Authz,
    Phase::Type,
    Phase::Fixup,
    Phase::Content,
    Phase::Log,
    Phase::Cleanup,
];

fn filter(a: &mut Args<'_>, is_input: bool) -> Result<(), String> {
    let (handler, name) = match a.words.as_slice() {
        [handler] => (handler.clone(), handler.to_ascii_lowercase()),
        [handler, name] => (handler.clone(), name.to_ascii_lowercase()),
        _ => return Err(format!("{} takes a handler and, if wanted, a name", a.name)),
    };
    check_text(a.name, &handler)?;
    check_text(a.name, &name)?;
    let handler = self::handler(a, &handler, false);
    a.register.push((name.clone(), is_input));
    a.dir.add_filter(FilterDef { name: name.into(), is_input, handler });
    Ok(())
}

fn import(a: &mut Args<'_>) -> Result<(), String> {
    let [what, interpreter] = a.words.as_slice() else {
        return Err(format!(
            "{} takes a module (or module::function) and an interpreter's name",
            a.name
        ));
    };
    check_text(a.name, what)?;
    check_text(a.name, interpreter)?;
    let pair = (what.clone(), interpreter.clone());
    if let Some(server) = a.server.as_deref_mut() {
        server.imports.push(pair);
    }
    Ok(())
}

fn enable_pdb(a: &mut Args<'_>) -> Result<(), String> {
    match a.words.as_slice() {
        [w] if w.eq_ignore_ascii_case(b"on") => Err(
            "PythonEnablePdb: there is no terminal behind a worker, so pdb cannot run there. Put `breakpoint()` into \
             the handler and set PYTHONBREAKPOINT to a remote debugger in vivariumd.toml ([default] env); \
             docs/debugging.md shows how"
                .into(),
        ),
        _ => flag(a),
    }
}

fn provider(a: &mut Args<'_>, phase: Phase) -> Result<(), String> {
    let [name] = a.words.as_slice() else {
        return Err(format!("{} takes one `module` or `module::object`", a.name));
    };
    let name = name.clone();
    check_text(a.name, &name)?;
    let handler = handler(a, &name, false);
    a.dir.set_handler(phase, handler);
    Ok(())
}

fn require(a: &mut Args<'_>) -> Result<(), String> {
    // Asking for the directive must not make a configuration valid that nobody enforces.
    if !has_module(c"mod_authz_core.c") {
        return Err("Require needs mod_authz_core: load it".into());
    }
    a.dir.requires.get_or_insert_default().push(a.raw.into());
    Ok(())
}

fn add_handler(a: &mut Args<'_>) -> Result<(), String> {
    if !has_module(c"mod_mime.c") {
        return Err("AddHandler needs mod_mime: load it".into());
    }
    if let [handler, extensions @ ..] = a.words.as_slice() {
        let ours = [&b"mod_python"[..], b"python-program"];
        if ours.iter().any(|o| handler.eq_ignore_ascii_case(o)) {
            a.dir.extensions.extend(extensions.iter().map(|e| e.as_slice().into()));
        }
    }
    Ok(())
}

fn one_value(a: &mut Args<'_>) -> Result<(), String> {
    let [value] = a.words.as_slice() else {
        return Err(format!(
            "{} takes exactly one argument; put it in double quotes if it has spaces",
            a.name
        ));
    };
    check_text(a.name, value)?;
    set(&mut a.dir.directives, a.name.as_bytes(), value);
    Ok(())
}

/// Belongs to httpd as a whole, in whichever server it stands; `get_config()` does not show it.
fn optimize(a: &mut Args<'_>) -> Result<(), String> {
    let on = on_or_off(a)? == b"1";
    if let Some(server) = a.server.as_deref_mut() {
        server.optimize = on;
    }
    Ok(())
}

fn on_or_off(a: &Args<'_>) -> Result<&'static [u8], String> {
    match a.words.as_slice() {
        [w] if w.eq_ignore_ascii_case(b"on") => Ok(b"1"),
        [w] if w.eq_ignore_ascii_case(b"off") => Ok(b"0"),
        _ => Err(format!("{} must be On or Off", a.name)),
    }
}

fn flag(a: &mut Args<'_>) -> Result<(), String> {
    let value = on_or_off(a)?;
    set(&mut a.dir.directives, a.name.as_bytes(), value);
    Ok(())
}

fn option(a: &mut Args<'_>) -> Result<(), String> {
    let (key, value) = match a.words.as_slice() {
        [key] => (key, &b""[..]),
        [key, value] => (key, &value[..]),
        _ => {
            return Err(format!("{} takes a key and, unless it is to be removed, a value", a.name));
        }
    };
    check_text(a.name, key)?;
    set(&mut a.dir.options, key, value);
    Ok(())
}

fn daemon(a: &mut Args<'_>) -> Result<(), String> {
    let words: Vec<String> =
        a.words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let daemon = match words.as_slice() {
        ["managed"] => Daemon::Managed(None),
        ["managed", path] if path.starts_with('/') => {
            check_program(a.name, path)?;
            Daemon::Managed(Some((*path).to_owned()))
        }
        [socket] if socket.starts_with("unix:/") => {
            let path = &socket["unix:".len()..];
            // sockaddr_un has room for 107 bytes and a NUL.
            if path.len() > 107 {
                return Err(format!("{}: the socket's path is longer than 107 bytes", a.name));
            }
            Daemon::Socket(path.to_owned())
        }
        _ => {
            return Err(format!(
                "{} takes `managed`, `managed /path/of/vivariumd` or `unix:/path/of/socket`",
                a.name
            ));
        }
    };
    let Some(server) = a.server.as_deref_mut() else {
        return Err(format!("{} belongs to the main server", a.name));
    };
    server.daemon = Some(daemon);
    Ok(())
}

fn tenant(a: &mut Args<'_>) -> Result<(), String> {
    let [name] = a.words.as_slice() else {
        return Err(format!("{} takes one tenant's name", a.name));
    };
    let name = String::from_utf8_lossy(name).into_owned();
    if let Some(template) = name.strip_suffix("~*") {
        // `~x` shows that any user could stand there.
        if !is_valid_name(&format!("{template}~x")) {
            return Err(format!("{}: `{template}` cannot be a template's name", a.name));
        }
        let Some(pattern) = a.pattern.clone().filter(Pattern::has_user) else {
            return Err(format!(
                "{}: `~*` needs a <Directory> whose path has a step with a wildcard, or a <DirectoryMatch> with a group",
                a.name
            ));
        };
        a.dir.tenant = Some(TenantOf::User { template: template.into(), pattern });
        return Ok(());
    }
    if !is_valid_name(&name) {
        return Err(format!(
            "{}: `{name}` cannot be a tenant's name: at most 64 letters, digits, `-`, `_` and `.`, not beginning with a dot \
             or a dash",
            a.name
        ));
    }
    let directory = a.directory.as_deref().filter(|_| !a.is_location && a.pattern.is_none());
    a.dir.tenant = Some(TenantOf::Name(name.into(), directory.map(Into::into)));
    Ok(())
}

fn tenant_dir(a: &mut Args<'_>) -> Result<(), String> {
    let [path] = a.words.as_slice() else {
        return Err(format!("{} takes one directory", a.name));
    };
    let path = String::from_utf8_lossy(path).into_owned();
    if !path.starts_with('/') || path.len() > 4096 {
        return Err(format!("{}: the path must be absolute", a.name));
    }
    if let Some(server) = a.server.as_deref_mut() {
        server.tenants_dir = Some(path);
    }
    Ok(())
}

fn check_program(name: &str, path: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Ok(m) if m.is_file() && m.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(format!("{name}: {path} is no executable file")),
        Err(e) => Err(format!("{name}: {path}: {e}")),
    }
}

fn check_text(name: &str, value: &[u8]) -> Result<(), String> {
    if value.is_empty() || value.len() > 4096 {
        return Err(format!("{name}: an argument must have 1 to 4096 bytes"));
    }
    Ok(())
}
