//! The rules file: which files a tenant sees and how. It makes both the private root and the Landlock rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The rules that come with the program.
const BUILT_IN: &str = include_str!("../../../../conf/sandbox/files-strict.rules");
/// The administrator's copy, in the profiles' directory.
pub(crate) const FILE: &str = "files-strict.rules";

/// What may be done with a path and everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Access {
    /// Open for reading, list.
    Read,
    /// And execute.
    Run,
    /// And write, make, rename, remove.
    Write,
    /// Read and write a device.
    Device,
}

/// One rule, its variables filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) access: Access,
    pub(crate) path: String,
    /// Not the machine's: made for the tenant.
    pub(crate) own: bool,
}

/// One rule as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawRule {
    access: Access,
    path: String,
    own: bool,
}

/// What the variables stand for: each for any number of paths.
pub(crate) type Variables = BTreeMap<&'static str, Vec<String>>;

/// The names that a path in braces may have.
const VARIABLES: [&str; 7] =
    ["home", "python", "package_dir", "extension", "document_roots", "read_only", "read_write"];

/// Reads a rules file; an error says which line.
pub(crate) fn parse(text: &str) -> Result<Vec<RawRule>, String> {
    let mut rules = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        rules.push(rule(line).map_err(|e| format!("line {}: {e}", i + 1))?);
    }
    Ok(rules)
}

fn rule(line: &str) -> Result<RawRule, String> {
    let (what, why) = line.split_once(" -- ").ok_or("a rule ends with ` -- ` and its reason")?;
    if why.trim().is_empty() {
        return Err("the reason is missing".into());
    }
    let mut words = what.split_whitespace().peekable();
    let own = words.next_if_eq(&"own").is_some();
    let access = match words.next() {
        Some("read") => Access::Read,
        Some("run") => Access::Run,
        Some("write") => Access::Write,
        Some("device") => Access::Device,
        other => return Err(format!("{} is no access", other.unwrap_or("nothing"))),
    };
    let path = words.next().ok_or("the path is missing")?;
    if words.next().is_some() {
        return Err("there is more than access and path".into());
    }
    let variable = path.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
    let known = match variable {
        Some(name) => VARIABLES.contains(&name),
        None => path.starts_with('/') && path.len() > 1 && !path.split('/').any(|p| p == ".."),
    };
    if !known {
        return Err(format!("{path} is neither an absolute path nor a variable"));
    }
    Ok(RawRule { access, path: path.to_owned(), own })
}

/// Fills the variables in. The order stays: later rules are mounted over earlier ones.
pub(crate) fn fill(rules: &[RawRule], variables: &Variables) -> Vec<Rule> {
    let mut filled: Vec<Rule> = Vec::new();
    for raw in rules {
        let variable = raw.path.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
        let paths = match variable {
            Some(name) => variables.get(name).cloned().unwrap_or_default(),
            None => vec![raw.path.clone()],
        };
        for path in paths {
            // What a later rule says of the same path holds: a home that is a document root too stays writable.
            let path = path.trim_end_matches('/').to_owned();
            match filled.iter_mut().find(|rule| rule.path == path) {
                Some(rule) => rule.access = rule.access.max(raw.access),
                None => filled.push(Rule { access: raw.access, path, own: raw.own }),
            }
        }
    }
    filled
}

/// The rules in force: the administrator's copy if there is one, else the built-in ones.
pub(crate) fn load(profiles: &std::path::Path) -> Result<Vec<RawRule>, String> {
    let path = profiles.join(FILE);
    match crate::tenants::trusted::read(&path) {
        Ok(text) => parse(&text).map_err(|e| format!("{}: {e}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => parse(BUILT_IN),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_are_right() {
        let rules = parse(BUILT_IN).unwrap();
        assert!(rules.len() > 30);
        for name in VARIABLES {
            assert!(rules.iter().any(|r| r.path == format!("{{{name}}}")), "{name} is not used");
        }
        let mut paths: Vec<&str> = rules.iter().map(|r| r.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), rules.len(), "a path has two rules");
    }

    #[test]
    fn every_rule_has_a_reason() {
        for (text, must) in [
            ("read /etc", "reason"),
            ("read /etc -- ", "reason"),
            ("look /etc -- x", "no access"),
            ("read -- x", "path is missing"),
            ("read etc -- x", "absolute"),
            ("read / -- x", "absolute"),
            ("read /a/../b -- x", "absolute"),
            ("read {everything} -- x", "variable"),
            ("read /a /b -- x", "more than"),
        ] {
            let error = parse(&format!("# nothing\n{text}\n")).unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(must), "{text}: {error}");
        }
    }

    #[test]
    fn variables_stand_for_any_number_of_paths() {
        let rules =
            parse("read /usr -- a\nread {document_roots} -- b\nwrite {home} -- c\n").unwrap();
        let mut variables = Variables::new();
        variables.insert("document_roots", vec!["/srv/a/".into(), "/home/alice".into()]);
        variables.insert("home", vec!["/home/alice".into()]);
        let filled = fill(&rules, &variables);
        let shown: Vec<(Access, &str)> =
            filled.iter().map(|r| (r.access, r.path.as_str())).collect();
        assert_eq!(
            shown,
            [(Access::Read, "/usr"), (Access::Read, "/srv/a"), (Access::Write, "/home/alice")]
        );
        assert_eq!(fill(&rules, &Variables::new()).len(), 1);
    }
}
