//! All tenants' files, each in its last good form.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use vivarium_protocol::policy::is_valid_name;

use super::file::{File, contradiction};
use super::{Tenant, make, template, trusted};
use crate::config::{ConfigError, parse};
use crate::log::escape;
use crate::sys::users;

/// The end of a tenant's file name.
const ENDING: &str = ".toml";

/// A file's last good form and what is wrong with it now.
#[derive(Debug, Clone, Default)]
struct Form {
    /// A tenant.
    tenant: Option<Rc<Tenant>>,
    /// Or a template.
    template: Option<Rc<File>>,
    error: Option<String>,
}

/// What a reload has changed, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: Vec<String>,
    pub(crate) changed: Vec<String>,
    pub(crate) removed: Vec<String>,
    /// One line for each file that is wrong.
    pub(crate) errors: Vec<String>,
    /// Any template was added, changed or removed: tenants of templates may be others now.
    pub(crate) templates: bool,
}

impl Changes {
    /// Whether anything is to be done or said.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The tenants of one directory.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    dir: PathBuf,
    forms: BTreeMap<String, Form>,
    /// Tenants made of templates, as they were last asked for.
    made: HashMap<String, Rc<Tenant>>,
    min_uid: u32,
    last_revision: u64,
}

/// The most tenants of templates that are kept in mind.
const MADE: usize = 65_536;

impl Registry {
    /// Reads the directory again. One that does not exist has no tenants in it.
    pub(crate) fn reload(&mut self, dir: &Path, min_uid: u32) -> Changes {
        let mut changes = Changes::default();
        dir.clone_into(&mut self.dir);
        self.min_uid = min_uid;
        let names = match list(dir) {
            Ok((names, bad)) => {
                changes.errors.extend(bad);
                names
            }
            Err(e) => {
                changes.errors.push(format!("{}: {e}", dir.display()));
                return changes;
            }
        };
        let gone: Vec<String> =
            self.forms.keys().filter(|n| names.binary_search(n).is_err()).cloned().collect();
        for name in gone {
            if let Some(form) = self.forms.remove(&name) {
                changes.templates |= form.template.is_some();
                if form.tenant.is_some() {
                    changes.removed.push(name);
                }
            }
        }
        for name in names {
            self.read(&name, &mut changes);
        }
        if changes.templates {
            self.made.clear();
        }
        changes
    }

    fn read(&mut self, name: &str, changes: &mut Changes) {
        let path = self.dir.join(format!("{name}{ENDING}"));
        let read = read_file(&path).and_then(|file| {
            if file.template.is_some() {
                return Ok((Some(file), None));
            }
            one(name, file, self.min_uid, &path).map(|tenant| (None, Some(tenant)))
        });
        let form = self.forms.entry(name.to_owned()).or_default();
        match read {
            Ok((template, tenant)) => {
                form.error = None;
                if form.template.as_deref() != template.as_ref() {
                    form.template = template.map(Rc::new);
                    changes.templates = true;
                }
                match (&form.tenant, tenant) {
                    (None, None) => {}
                    (Some(_), None) => {
                        form.tenant = None;
                        changes.removed.push(name.to_owned());
                    }
                    (old, Some(mut new)) => {
                        if let Some(old) = old {
                            new.revision = old.revision;
                            if **old == new {
                                return;
                            }
                            changes.changed.push(name.to_owned());
                        } else {
                            changes.added.push(name.to_owned());
                        }
                        self.last_revision += 1;
                        new.revision = self.last_revision;
                        form.tenant = Some(Rc::new(new));
                    }
                }
            }
            Err(error) => {
                let kept = form.tenant.is_some() || form.template.is_some();
                let fate = if kept {
                    "it keeps its last good form"
                } else {
                    "its requests get 503 until this is corrected"
                };
                changes.errors.push(format!("{error}; tenant {name}: {fate}"));
                form.error = Some(error);
            }
        }
    }

    /// The tenant of this name, or why there is none.
    pub(crate) fn find(&mut self, name: &str) -> Result<Rc<Tenant>, String> {
        if let Some((template, user)) = template::split(name) {
            return self.find_made(name, template, user);
        }
        match self.forms.get(name) {
            Some(Form { tenant: Some(tenant), .. }) => Ok(Rc::clone(tenant)),
            Some(Form { error: Some(error), .. }) => Err(error.clone()),
            Some(_) => Err(format!("{} is a template: its tenants are {0}~USER", shown(name))),
            None => Err(format!(
                "there is no tenant {}: {}{ENDING} would declare it",
                shown(name),
                self.dir.join(name).display()
            )),
        }
    }

    fn find_made(
        &mut self,
        name: &str,
        wanted: Option<&str>,
        user: &str,
    ) -> Result<Rc<Tenant>, String> {
        let found = users::by_name(user)
            .map_err(|e| format!("the user {} cannot be looked up: {e}", shown(user)))?
            .ok_or_else(|| format!("there is no user {}", shown(user)))?;
        for (template_name, form) in &self.forms {
            let Some(file) = &form.template else { continue };
            if wanted.is_some_and(|w| w != template_name) {
                continue;
            }
            let Some(own) = template::apply(file, &found) else { continue };
            let path = self.dir.join(format!("{template_name}{ENDING}"));
            let mut tenant = make(name, own, found, self.min_uid, &path)
                .map_err(|e| format!("{}: {e}", path.display()))?;
            if let Some(old) = self.made.get(name) {
                tenant.revision = old.revision;
                if **old == tenant {
                    return Ok(Rc::clone(old));
                }
            }
            self.last_revision += 1;
            tenant.revision = self.last_revision;
            let tenant = Rc::new(tenant);
            if self.made.len() >= MADE {
                self.made.clear();
            }
            self.made.insert(name.to_owned(), Rc::clone(&tenant));
            return Ok(tenant);
        }
        Err(match wanted {
            Some(w) if self.forms.get(w).is_none_or(|f| f.template.is_none()) => {
                format!("there is no template {}", shown(w))
            }
            _ => format!("no template is for the user {}", shown(user)),
        })
    }

    /// The names of all tenants and templates that were ever read well, and of those that were not.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.forms.iter().map(|(name, form)| (name.as_str(), form.error.as_deref()))
    }

    /// Whether the name is a template's.
    pub(crate) fn is_template(&self, name: &str) -> bool {
        self.forms.get(name).is_some_and(|form| form.template.is_some())
    }

    /// Tenants that run as one user, by uid: nothing but their sandboxes is between them.
    pub(crate) fn shared_users(&self) -> Vec<(u32, Vec<String>)> {
        let mut by_uid: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (name, form) in &self.forms {
            if let Some(declared) = form.tenant.as_ref().and_then(|t| t.declared.as_ref()) {
                by_uid.entry(declared.identity.uid).or_default().push(name.clone());
            }
        }
        by_uid.into_iter().filter(|(_, names)| names.len() > 1).collect()
    }
}

/// A list of names that may be long.
pub(crate) fn some_of(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
    let more = if names.len() > 20 { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn shown(name: &str) -> String {
    escape(name.as_bytes(), 64)
}

/// The tenants' names in a directory, sorted, and what cannot be one.
fn list(dir: &Path) -> std::io::Result<(Vec<String>, Vec<String>)> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(e) => return Err(e),
    };
    trusted::check_directory(dir)?;
    let (mut names, mut bad) = (Vec::new(), Vec::new());
    for entry in entries {
        let file = entry?.file_name();
        let file = file.to_string_lossy();
        // Editors' and package managers' leavings do not end so.
        let Some(name) = file.strip_suffix(ENDING).filter(|n| !n.starts_with('.')) else {
            continue;
        };
        if !is_valid_name(name) || name.contains('~') || name == super::DEFAULT_TENANT {
            bad.push(format!(
                "{}: {:?} cannot be a tenant's name: letters, digits, `-`, `_` and `.` are allowed, 64 at most, and \
                 `default` is taken",
                dir.display(),
                shown(name)
            ));
            continue;
        }
        names.push(name.to_owned());
    }
    names.sort_unstable();
    Ok((names, bad))
}

/// Reads one file; an error names path, line and remedy.
fn read_file(path: &Path) -> Result<File, String> {
    let text = trusted::read(path).map_err(|e| {
        ConfigError::Read { path: path.to_owned(), error: e.to_string() }.to_string()
    })?;
    let file: File = parse(path, &text).map_err(|e| e.to_string())?;
    match contradiction(&file) {
        Some(text) => Err(format!("{}: {text}", path.display())),
        None => Ok(file),
    }
}

fn one(name: &str, file: File, min_uid: u32, path: &Path) -> Result<Tenant, String> {
    let wrong = |text: String| format!("{}: {text}", path.display());
    let wanted = file.user.as_ref().map(|u| u.get().clone()).unwrap_or_default();
    let user = users::by_name(&wanted)
        .map_err(|e| wrong(format!("the user {wanted} cannot be looked up: {e}")))?
        .ok_or_else(|| {
            wrong(format!("user = {wanted:?} does not exist: create it, or name another"))
        })?;
    make(name, template::fill(&file, &user), user, min_uid, path).map_err(wrong)
}

#[cfg(test)]
mod tests;
