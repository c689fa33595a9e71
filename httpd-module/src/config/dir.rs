//! Per-directory configuration: handlers, options and switches of a section, and how sections merge.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use vivarium_protocol::message::{HandlerRef, Phase};
use vivarium_protocol::table::write_table;
use vivarium_protocol::wire::Writer;

use crate::apache::pattern::Pattern;

/// A byte string that many merged configurations share.
pub(crate) type Bytes = Arc<[u8]>;

/// One configured handler.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    /// `module` or `module::object`.
    pub(crate) name: Bytes,
    /// The section's directory with a trailing slash; none at server level and under `<Location>`.
    pub(crate) directory: Option<Bytes>,
    /// The section matches many directories: which one is known with the file.
    pub(crate) pattern: Option<Pattern>,
    /// The section is a `<Location>`.
    pub(crate) is_location: bool,
    /// Functions that the module lacks are skipped (`PythonHandlerModule`).
    pub(crate) silent: bool,
}

impl Handler {
    pub(crate) fn to_ref(&self) -> HandlerRef<'_> {
        HandlerRef {
            name: &self.name,
            directory: self.directory.as_deref(),
            silent: self.silent,
            is_location: self.is_location,
        }
    }
}

/// Handlers with the directories that they have for a file.
pub(crate) fn for_file<'h>(handlers: &'h [Handler], file: Option<&[u8]>) -> Cow<'h, [Handler]> {
    if handlers.iter().all(|h| h.pattern.is_none()) {
        return Cow::Borrowed(handlers);
    }
    let resolved = handlers.iter().map(|h| {
        let directory = match &h.pattern {
            Some(pattern) => file.and_then(|f| pattern.shortest(f)).map(Into::into),
            None => h.directory.clone(),
        };
        Handler { directory, ..h.clone() }
    });
    Cow::Owned(resolved.collect())
}

/// The handlers of one phase, plain or for one extension (`| .ext`).
#[derive(Debug, Clone)]
pub(crate) struct HandlerList {
    pub(crate) phase: Phase,
    pub(crate) extension: Option<Bytes>,
    pub(crate) handlers: Arc<Vec<Handler>>,
}

/// A registered Python filter.
#[derive(Debug, Clone)]
pub(crate) struct FilterDef {
    /// In lower case, as httpd keeps filter names.
    pub(crate) name: Bytes,
    pub(crate) is_input: bool,
    pub(crate) handler: Handler,
}

/// Pairs of a table; an inner section's value replaces an outer one's.
pub(crate) type Pairs = Vec<(Bytes, Bytes)>;

/// Whose Python a section's is.
#[derive(Debug, Clone)]
pub(crate) enum TenantOf {
    /// A tenant, and the directory of the section that names it.
    Name(Arc<str>, Option<Bytes>),
    /// The tenant of the user whose directory a file is in.
    User {
        /// The template's name; empty for the first that matches.
        template: Arc<str>,
        /// What the directories look like.
        pattern: Pattern,
    },
}

/// What belongs to one section, or to the merge of several.
#[derive(Debug, Default)]
pub(crate) struct DirConf {
    pub(crate) lists: Vec<HandlerList>,
    pub(crate) filters: Vec<FilterDef>,
    /// What `req.get_config()` shows: directive and value.
    pub(crate) directives: Pairs,
    /// `PythonOption`; an empty value removes the key.
    pub(crate) options: Pairs,
    /// Whether the innermost section with handlers is a `<Location>`.
    pub(crate) in_location: Option<bool>,
    /// `Require` lines, if the section has any.
    pub(crate) requires: Option<Vec<Bytes>>,
    /// Extensions that `AddHandler` maps to us.
    pub(crate) extensions: Vec<Bytes>,
    /// `VivariumTenant`.
    pub(crate) tenant: Option<TenantOf>,
    /// It lives as long as the process serves requests: see [`super::merged`].
    pub(crate) lasts: bool,
    encoded_config: OnceLock<Vec<u8>>,
    encoded_options: OnceLock<Vec<u8>>,
}

/// Sets `key` in `pairs`, keys compared without case.
pub(crate) fn set(pairs: &mut Pairs, key: &[u8], value: &[u8]) {
    let value: Bytes = value.into();
    match pairs.iter_mut().find(|(k, _)| k.eq_ignore_ascii_case(key)) {
        Some((_, old)) => *old = value,
        None => pairs.push((key.into(), value)),
    }
}

fn overlay(outer: &Pairs, inner: &Pairs) -> Pairs {
    let mut all = outer.clone();
    for (key, value) in inner {
        match all.iter_mut().find(|(k, _)| k.eq_ignore_ascii_case(key)) {
            Some((_, old)) => old.clone_from(value),
            None => all.push((Arc::clone(key), Arc::clone(value))),
        }
    }
    all
}

impl DirConf {
    /// A section of which nothing is said yet.
    pub(crate) fn new(lasts: bool) -> Self {
        Self { lasts, ..Self::default() }
    }

    /// Inner over outer: tables key by key, handler lists whole for each phase and extension, filters by name.
    pub(crate) fn merge(outer: &Self, inner: &Self, lasts: bool) -> Self {
        let mut lists = inner.lists.clone();
        for list in &outer.lists {
            let hidden =
                inner.lists.iter().any(|l| l.phase == list.phase && l.extension == list.extension);
            if !hidden {
                lists.push(list.clone());
            }
        }
        let mut filters = inner.filters.clone();
        for f in &outer.filters {
            if !inner.filters.iter().any(|g| g.name == f.name && g.is_input == f.is_input) {
                filters.push(f.clone());
            }
        }
        Self {
            lists,
            filters,
            directives: overlay(&outer.directives, &inner.directives),
            options: overlay(&outer.options, &inner.options),
            in_location: inner.in_location.or(outer.in_location),
            // As mod_authz_core without `AuthMerging`: a section's own lines take the place of outer ones.
            requires: inner.requires.clone().or_else(|| outer.requires.clone()),
            extensions: outer.extensions.iter().chain(&inner.extensions).cloned().collect(),
            tenant: inner.tenant.clone().or_else(|| outer.tenant.clone()),
            lasts,
            ..Self::default()
        }
    }

    /// Appends a handler to a phase's list, as repeated directives in one section do.
    pub(crate) fn add_handler(&mut self, phase: Phase, extension: Option<&[u8]>, handler: Handler) {
        self.in_location = Some(handler.is_location);
        let at = self
            .lists
            .iter()
            .position(|l| l.phase == phase && l.extension.as_deref() == extension)
            .unwrap_or_else(|| {
                let extension = extension.map(Into::into);
                self.lists.push(HandlerList { phase, extension, handlers: Arc::default() });
                self.lists.len() - 1
            });
        Arc::make_mut(&mut self.lists[at].handlers).push(handler);
    }

    /// Makes a handler the only one of a phase.
    pub(crate) fn set_handler(&mut self, phase: Phase, handler: Handler) {
        self.lists.retain(|l| l.phase != phase);
        self.add_handler(phase, None, handler);
    }

    /// Defines a filter; the last definition of a name counts.
    pub(crate) fn add_filter(&mut self, filter: FilterDef) {
        self.filters.retain(|f| f.name != filter.name || f.is_input != filter.is_input);
        self.filters.push(filter);
    }

    /// The handlers of a phase for a file: those of its extension if there are any, else the plain ones.
    pub(crate) fn handlers(&self, phase: Phase, filename: Option<&[u8]>) -> Option<&HandlerList> {
        let of_phase = || self.lists.iter().filter(|l| l.phase == phase);
        if of_phase().any(|l| l.extension.is_some())
            && let Some(ext) = filename.and_then(extension_of)
            && let Some(list) = of_phase().find(|l| l.extension.as_deref() == Some(ext))
        {
            return Some(list);
        }
        of_phase().find(|l| l.extension.is_none())
    }

    pub(crate) fn has_phase(&self, phase: Phase) -> bool {
        self.lists.iter().any(|l| l.phase == phase)
    }

    pub(crate) fn filter(&self, name: &[u8], is_input: bool) -> Option<&FilterDef> {
        self.filters.iter().find(|f| f.is_input == is_input && f.name.eq_ignore_ascii_case(name))
    }

    fn directive(&self, name: &str) -> Option<&[u8]> {
        self.directives.iter().find(|(k, _)| **k == *name.as_bytes()).map(|(_, v)| &**v)
    }

    /// `PythonDebug On`.
    pub(crate) fn debug(&self) -> bool {
        self.directive("PythonDebug") == Some(b"1")
    }

    /// `PythonInterpPerDirectory On`.
    pub(crate) fn per_directory(&self) -> bool {
        self.directive("PythonInterpPerDirectory") == Some(b"1")
    }

    /// `PythonInterpPerDirective On`.
    pub(crate) fn per_directive(&self) -> bool {
        self.directive("PythonInterpPerDirective") == Some(b"1")
    }

    /// `PythonInterpreter`.
    pub(crate) fn interpreter(&self) -> Option<&[u8]> {
        self.directive("PythonInterpreter")
    }

    /// `get_config()`, encoded.
    pub(crate) fn encoded_config(&self) -> Vec<u8> {
        self.encoded_config_ref().to_vec()
    }

    /// `get_config()`, encoded, made once.
    pub(crate) fn encoded_config_ref(&self) -> &[u8] {
        self.encoded_config.get_or_init(|| encode(&self.directives, false))
    }

    /// `get_options()`, encoded.
    pub(crate) fn encoded_options(&self) -> Vec<u8> {
        self.encoded_options_ref().to_vec()
    }

    /// `get_options()`, encoded, made once.
    pub(crate) fn encoded_options_ref(&self) -> &[u8] {
        self.encoded_options.get_or_init(|| encode(&self.options, true))
    }
}

fn encode(pairs: &Pairs, without_empty: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let shown = pairs.iter().filter(|(_, v)| !(without_empty && v.is_empty()));
    write_table(&mut Writer::new(&mut out), shown.map(|(k, v)| (&**k, &**v)));
    out
}

/// `.` and everything after the first dot of a file's base name.
fn extension_of(filename: &[u8]) -> Option<&[u8]> {
    let base = filename.rsplit(|b| *b == b'/').next()?;
    let dot = base.iter().position(|b| *b == b'.')?;
    Some(&base[dot..])
}
