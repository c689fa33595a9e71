//! Where httpd's configuration reader meets our types: creation, merging, and the one function behind all directives.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_void};
use core::ptr::{null, null_mut};

use super::dir::DirConf;
use super::directives::{Args, COUNT, Context, ROWS};
use super::merged;
use super::server::ServerConf;
use crate::apache;
use crate::apache::edge::guarded;
use crate::apache::pattern::Pattern;
use crate::apache::pool::Pool;
use crate::sys;

/// The command table for httpd: a row for each of ours and an empty one at the end.
#[repr(transparent)]
struct Commands([sys::command_rec; COUNT + 1]);

// SAFETY: never written after compilation; the pointers in it are to constants.
unsafe impl Sync for Commands {}

/// Room for the longest directive name and its NUL.
const NAME_ROOM: usize = 40;

/// NUL-terminated copies of the rows' names.
static NAMES: [[u8; NAME_ROOM]; COUNT] = {
    let mut names = [[0; NAME_ROOM]; COUNT];
    let mut i = 0;
    while i < COUNT {
        let name = ROWS[i].name.as_bytes();
        assert!(name.len() < NAME_ROOM);
        let mut j = 0;
        while j < name.len() {
            names[i][j] = name[j];
            j += 1;
        }
        i += 1;
    }
    names
};

static COMMANDS: Commands = {
    let empty = sys::command_rec {
        name: null(),
        func: sys::cmd_func { no_args: None },
        cmd_data: null_mut(),
        req_override: 0,
        args_how: sys::RAW_ARGS,
        errmsg: null(),
    };
    let mut table = [empty; COUNT + 1];
    let mut i = 0;
    while i < COUNT {
        table[i].name = (&raw const NAMES[i]).cast();
        table[i].func = sys::cmd_func { raw_args: Some(directive) };
        table[i].req_override = match ROWS[i].context {
            Context::Everywhere => sys::OR_ALL | sys::RSRC_CONF | sys::ACCESS_CONF,
            Context::Sections => sys::RSRC_CONF | sys::ACCESS_CONF,
            Context::Auth => sys::OR_AUTHCFG,
            Context::FileInfo => sys::OR_FILEINFO,
            Context::Servers | Context::Main => sys::RSRC_CONF,
        };
        // httpd shows this in `httpd -L` and in "wrong number of arguments" messages.
        table[i].errmsg = c"see the directive's page in Vivarium's documentation".as_ptr();
        i += 1;
    }
    Commands(table)
};

/// The command table's address.
pub(crate) const fn commands() -> *const sys::command_rec {
    (&raw const COMMANDS.0).cast()
}

fn leak<T: Send + 'static>(p: *mut sys::apr_pool_t, value: T) -> *mut c_void {
    // SAFETY: httpd hands a live pool to configuration functions.
    match unsafe { Pool::from_raw(p) } {
        Some(pool) => core::ptr::from_ref(pool.own(value)).cast_mut().cast(),
        None => null_mut(),
    }
}

pub(crate) unsafe extern "C" fn create_dir(
    p: *mut sys::apr_pool_t,
    _dir: *mut c_char,
) -> *mut c_void {
    guarded("the creation of a section's configuration", null_mut(), || {
        leak(p, DirConf::new(merged::is_lasting()))
    })
}

pub(crate) unsafe extern "C" fn merge_dir(
    p: *mut sys::apr_pool_t,
    base: *mut c_void,
    add: *mut c_void,
) -> *mut c_void {
    guarded("the merging of sections", base, || {
        // SAFETY: both are what `create_dir` or `merge_dir` returned, and nobody writes to them now.
        match unsafe { (base.cast::<DirConf>().as_ref(), add.cast::<DirConf>().as_ref()) } {
            (Some(outer), Some(inner)) => match merged::merge(outer, inner) {
                Some(known) => core::ptr::from_ref(known).cast_mut().cast(),
                None => leak(p, DirConf::merge(outer, inner, merged::is_lasting())),
            },
            _ => base,
        }
    })
}

pub(crate) unsafe extern "C" fn create_server(
    p: *mut sys::apr_pool_t,
    _s: *mut sys::server_rec,
) -> *mut c_void {
    guarded("the creation of a server's configuration", null_mut(), || {
        leak(p, ServerConf::default())
    })
}

pub(crate) unsafe extern "C" fn merge_server(
    p: *mut sys::apr_pool_t,
    _base: *mut c_void,
    _add: *mut c_void,
) -> *mut c_void {
    guarded("the merging of servers", null_mut(), || leak(p, ServerConf::default()))
}

/// The one C function behind every directive.
unsafe extern "C" fn directive(
    cmd: *mut sys::cmd_parms,
    mconfig: *mut c_void,
    args: *const c_char,
) -> *const c_char {
    let failed = c"Vivarium: internal error in a directive".as_ptr();
    guarded("a directive", failed, || {
        // SAFETY: httpd calls with live parameters, our section's configuration, and a NUL-terminated line; while it
        // reads a configuration, nobody else uses either configuration object.
        unsafe { parse(cmd, mconfig, args) }
    })
}

unsafe fn parse(
    cmd: *mut sys::cmd_parms,
    mconfig: *mut c_void,
    args: *const c_char,
) -> *const c_char {
    // SAFETY: see `directive`.
    unsafe {
        let name = (*(*cmd).cmd).name;
        let Some(row) = NAMES
            .iter()
            .position(|n| CStr::from_ptr(name).to_bytes_with_nul() == &n[..=name_len(n)])
            .and_then(|i| ROWS.get(i))
        else {
            return c"unknown directive".as_ptr();
        };
        let Some(pool) = Pool::from_raw((*cmd).pool) else { return c"no pool".as_ptr() };
        if row.context == Context::Main && (*(*cmd).server).is_virtual != 0 {
            let text = format!("{} belongs to the main server, not into a <VirtualHost>", row.name);
            return pool.dup(text.as_bytes());
        }
        let mut words = Vec::new();
        let mut rest = args;
        while !rest.is_null() && *rest != 0 {
            let word = sys::ap_getword_conf((*cmd).temp_pool, &raw mut rest);
            words.push(apache::bytes(word).unwrap_or(b"").to_vec());
        }
        let Section { directory, is_location, is_regex } = section(cmd);
        let pattern = directory
            .as_deref()
            .filter(|_| !is_location)
            .and_then(|d| Pattern::of(d, is_regex, pool));
        let server =
            sys::ap_get_module_config((*(*cmd).server).module_config, crate::module::ptr())
                .cast::<ServerConf>()
                .as_mut();
        let Some(dir) = mconfig.cast::<DirConf>().as_mut() else {
            return c"no configuration for this section".as_ptr();
        };
        let mut a = Args {
            name: row.name,
            raw: apache::bytes(args).unwrap_or(b"").trim_ascii(),
            words,
            dir,
            server,
            directory,
            pattern,
            is_location,
            register: Vec::new(),
        };
        match (row.parse)(&mut a) {
            Ok(()) => {
                for (name, is_input) in &a.register {
                    crate::hooks::register_filter(pool, name, *is_input);
                }
                null()
            }
            Err(message) => pool.dup(format!("{message} (usage: {})", row.usage).as_bytes()),
        }
    }
}

/// The length of a padded name.
fn name_len(name: &[u8; NAME_ROOM]) -> usize {
    name.iter().position(|b| *b == 0).unwrap_or(NAME_ROOM - 1)
}

/// The section that a directive stands in.
#[derive(Default)]
struct Section {
    /// Its directory, with a trailing slash; its expression; or the path of a `<Location>`.
    directory: Option<Vec<u8>>,
    is_location: bool,
    /// The directory is a regular expression.
    is_regex: bool,
}

/// Finds out in which section a directive stands.
///
/// # Safety
/// `cmd` is live.
unsafe fn section(cmd: *const sys::cmd_parms) -> Section {
    // SAFETY: directive nodes and their strings live as long as the configuration tree.
    unsafe {
        let own_path = || apache::bytes((*cmd).path).map(<[u8]>::to_vec);
        let mut node = (*cmd).directive.as_ref().map_or(null_mut(), |d| d.parent);
        let mut innermost = true;
        while let Some(d) = node.as_ref() {
            let kind = apache::bytes(d.directive).unwrap_or(b"").to_ascii_lowercase();
            if kind.starts_with(b"<location") {
                return Section { directory: own_path(), is_location: true, is_regex: false };
            }
            if kind.starts_with(b"<directory") {
                let mut args = d.args;
                let mut word = || {
                    let word = sys::ap_getword_conf((*cmd).temp_pool, &raw mut args);
                    let word = apache::bytes(word).unwrap_or(b"");
                    word.strip_suffix(b">").unwrap_or(word).to_vec()
                };
                let mut path = word();
                let is_regex = kind.starts_with(b"<directorymatch") || path == b"~";
                if path == b"~" {
                    path = word();
                }
                // The innermost section's path is ready-made, true name and slash included.
                let path = if innermost { own_path().unwrap_or(path) } else { path };
                let directory = Some(if is_regex { path } else { with_slash(path) });
                return Section { directory, is_location: false, is_regex };
            }
            if kind.starts_with(b"<files") {
                innermost = false;
            }
            node = d.parent;
        }
        // In a .htaccess file there is no section above: the directory is the file's. `override` tells it apart from
        // the server level.
        if (*cmd).path.is_null() {
            return Section::default();
        }
        let directory = if innermost {
            own_path().map(with_slash)
        } else {
            let file = (*cmd).config_file.as_ref().and_then(|f| apache::bytes(f.name));
            file.and_then(|f| f.iter().rposition(|b| *b == b'/').map(|i| f[..=i].to_vec()))
                .filter(|_| (*cmd).override_ & sys::RSRC_CONF == 0)
        };
        Section { directory, ..Section::default() }
    }
}

fn with_slash(mut path: Vec<u8>) -> Vec<u8> {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path
}
