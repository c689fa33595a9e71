use super::*;
use std::os::unix::fs::PermissionsExt;

/// A directory of its own with tenants' files in it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("viv-registry-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }
    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `nobody` exists everywhere and is above the floor of these tests.
const GOOD: &str = "user = 'nobody'\n";

#[test]
fn tenants_come_change_and_go() {
    let dir = Dir::new("life");
    let mut all = Registry::default();
    assert!(all.reload(&dir.0, 2).is_empty());
    dir.write("a.toml", GOOD);
    dir.write("b.toml", GOOD);
    dir.write("notes.txt", "no tenant");
    let changes = all.reload(&dir.0, 2);
    assert_eq!(changes.added, ["a", "b"]);
    let first = all.find("a").unwrap();
    assert!(all.reload(&dir.0, 2).is_empty(), "nothing has changed");
    dir.write("a.toml", "user = 'nobody'\nthreads = 3\n");
    std::fs::remove_file(dir.0.join("b.toml")).unwrap();
    let changes = all.reload(&dir.0, 2);
    assert_eq!((changes.changed, changes.removed), (vec!["a".to_owned()], vec!["b".to_owned()]));
    let second = all.find("a").unwrap();
    assert!(second.revision > first.revision && second.base.threads.0 == 3);
    assert!(all.find("b").unwrap_err().contains("b.toml would declare it"));
}

#[test]
fn a_bad_file_keeps_its_last_good_form() {
    let dir = Dir::new("bad");
    let mut all = Registry::default();
    dir.write("a.toml", GOOD);
    dir.write("never.toml", "user = 'nobody'\ncolour = 'red'\n");
    dir.write("good.toml", GOOD);
    let changes = all.reload(&dir.0, 2);
    assert_eq!(changes.added, ["a", "good"]);
    assert!(changes.errors[0].contains("never.toml:2: ") && changes.errors[0].contains("503"));
    assert!(all.find("never").unwrap_err().contains("colour"), "the reason is kept");
    dir.write("a.toml", "user = 'no-such-user-here'\n");
    let changes = all.reload(&dir.0, 2);
    assert!(changes.changed.is_empty());
    assert!(changes.errors.iter().any(|e| e.contains("a.toml") && e.contains("last good form")));
    assert!(all.find("a").is_ok());
    dir.write("never.toml", GOOD);
    assert_eq!(all.reload(&dir.0, 2).added, ["never"]);
}

#[test]
fn files_that_others_may_write_are_refused() {
    let dir = Dir::new("modes");
    let mut all = Registry::default();
    dir.write("a.toml", GOOD);
    let path = dir.0.join("a.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let changes = all.reload(&dir.0, 2);
    assert!(changes.errors[0].contains("chmod go-w"), "{:?}", changes.errors);
    assert!(all.find("a").is_err());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o777)).unwrap();
    let changes = all.reload(&dir.0, 2);
    assert!(changes.errors[0].contains("others may write"), "{:?}", changes.errors);
}

#[test]
fn names_are_checked() {
    let dir = Dir::new("names");
    let mut all = Registry::default();
    for name in ["default.toml", "a b.toml", "x~y.toml"] {
        dir.write(name, GOOD);
    }
    dir.write(".hidden.toml", "nonsense");
    let changes = all.reload(&dir.0, 2);
    assert_eq!((changes.added.len(), changes.errors.len()), (0, 3));
}

#[test]
fn templates_make_tenants() {
    let dir = Dir::new("template");
    let mut all = Registry::default();
    dir.write("cheap.toml", "threads = 2\n[template]\nusers = ['nob*']\n");
    let changes = all.reload(&dir.0, 2);
    assert!(changes.templates && changes.errors.is_empty() && all.is_template("cheap"));
    let tenant = all.find("~nobody").unwrap();
    assert_eq!((tenant.name.as_str(), tenant.base.threads.0), ("~nobody", 2));
    assert!(Rc::ptr_eq(&tenant, &all.find("~nobody").unwrap()), "the same while nothing changes");
    assert!(all.find("cheap~nobody").is_ok());
    for (name, must) in [
        ("~daemon", "no template is for"),
        ("~no-such-user-here", "no user"),
        ("dear~nobody", "no template dear"),
        ("cheap", "is a template"),
    ] {
        let error = all.find(name).unwrap_err();
        assert!(error.contains(must), "{name}: {error}");
    }
    dir.write("cheap.toml", "threads = 4\n[template]\nusers = ['nob*']\n");
    assert!(all.reload(&dir.0, 2).templates);
    let changed = all.find("~nobody").unwrap();
    assert!(changed.base.threads.0 == 4 && changed.revision > tenant.revision);
}

#[test]
fn shared_users_are_seen() {
    let dir = Dir::new("shared");
    let mut all = Registry::default();
    dir.write("a.toml", GOOD);
    dir.write("b.toml", GOOD);
    all.reload(&dir.0, 2);
    let shared = all.shared_users();
    assert_eq!(shared, [(65_534, vec!["a".to_owned(), "b".to_owned()])]);
    assert_eq!(some_of(&shared[0].1), "a, b");
}
