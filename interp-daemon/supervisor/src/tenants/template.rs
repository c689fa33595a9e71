//! Templates: one file for many users, for mass hosting.
//!
//! A tenant `~alice` is user `alice` by the first template, in the order of their names, whose patterns match;
//! `NAME~alice` is user `alice` by the template NAME, if it matches. `{user}`, `{home}` and `{uid}` in the template's
//! paths and environment values become that user's.

use std::collections::BTreeMap;

use super::file::{File, Template};
use crate::config::{AbsolutePath, Environment};
use crate::sys::users::{self, User};

/// Splits a tenant's name into template and user; `None` if it is not of a template.
pub(crate) fn split(name: &str) -> Option<(Option<&str>, &str)> {
    let (template, user) = name.split_once('~')?;
    Some((Some(template).filter(|t| !t.is_empty()), user))
}

/// Whether `name` matches a pattern of `*` (anything) and `?` (any one character).
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    // The usual linear walk: remember the last star and what it had eaten.
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut eaten) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(next) = name.get(eaten) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, eaten));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == next => {
                at += 1;
                eaten += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    at = place + 1;
                    eaten = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// Whether the template is for this user; `groups` are those that the user is in, by name.
fn admits(template: &Template, user: &str, groups: &[String]) -> bool {
    template.users.iter().any(|p| matches(p, user))
        && !template.deny.iter().any(|p| matches(p, user))
        && (template.groups.is_empty() || template.groups.iter().any(|g| groups.contains(g.get())))
}

/// The template's file for a user, its variables filled in; `None` if it is not for this user.
pub(crate) fn apply(file: &File, user: &User) -> Option<File> {
    let template = file.template.as_ref()?;
    let groups = if template.groups.is_empty() { Vec::new() } else { group_names(user) };
    if !admits(template, &user.name, &groups) {
        return None;
    }
    let mut own = fill(file, user);
    own.template = None;
    Some(own)
}

/// The file with `{user}`, `{home}` and `{uid}` in its paths and values filled in.
pub(crate) fn fill(file: &File, user: &User) -> File {
    let fill = |text: &str| {
        text.replace("{user}", &user.name)
            .replace("{home}", user.home.trim_end_matches('/'))
            .replace("{uid}", &user.uid.to_string())
    };
    let path = |path: &AbsolutePath| AbsolutePath(fill(&path.0));
    let mut own = file.clone();
    own.home = file.home.as_ref().map(path);
    own.python = path(&file.python);
    own.document_roots.0 = file.document_roots.0.iter().map(|r| fill(r)).collect();
    own.files.read_only = file.files.read_only.iter().map(path).collect();
    own.files.read_write = file.files.read_write.iter().map(path).collect();
    let env: BTreeMap<String, String> =
        file.env.0.iter().map(|(name, value)| (name.clone(), fill(value))).collect();
    own.env = Environment(env);
    own
}

fn group_names(user: &User) -> Vec<String> {
    let numbers = users::groups(&user.name, user.gid).unwrap_or_default();
    numbers.into_iter().filter_map(|gid| users::group_name(gid).ok().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn names_of_template_tenants() {
        assert_eq!(split("~alice"), Some((None, "alice")));
        assert_eq!(split("cheap~alice"), Some((Some("cheap"), "alice")));
        assert_eq!(split("alice"), None);
    }

    #[test]
    fn patterns() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "abc"][..], &[][..]),
            ("u?", &["u1", "ux"], &["u", "u12", "v1"]),
            ("web-*", &["web-", "web-1"], &["web", "aweb-1"]),
            ("*a*b", &["ab", "xaxb", "aabb"], &["ba", "abx"]),
            ("alice", &["alice"], &["alic", "alicex", ""]),
        ] {
            assert!(yes.iter().all(|n| matches(pattern, n)), "{pattern}");
            assert!(!no.iter().any(|n| matches(pattern, n)), "{pattern}");
        }
    }

    #[test]
    fn a_template_is_for_those_that_it_names() {
        let text = "home = '{home}/app'\ndocument_roots = ['/srv/{user}/www']\nenv = { U = '{uid}' }\n\
                    [template]\nusers = ['u*']\ndeny = ['u0*']\n";
        let file: File = crate::config::parse(Path::new("/t"), text).unwrap();
        let user =
            |name: &str| User { name: name.into(), uid: 2000, gid: 2000, home: "/home/u1/".into() };
        let own = apply(&file, &user("u1")).unwrap();
        assert_eq!(own.home.unwrap().0, "/home/u1/app");
        assert_eq!(own.document_roots.0, ["/srv/u1/www"]);
        assert_eq!(own.env.0["U"], "2000");
        assert!(apply(&file, &user("u01")).is_none(), "denied");
        assert!(apply(&file, &user("alice")).is_none(), "not named");
    }

    #[test]
    fn groups_can_be_asked_for() {
        let t = Template {
            users: vec!["*".into()],
            groups: vec![crate::config::Name("hosting".into())],
            deny: Vec::new(),
        };
        assert!(admits(&t, "a", &["x".into(), "hosting".into()]));
        assert!(!admits(&t, "a", &["x".into()]));
    }
}
