use std::path::Path;

use super::*;
use crate::config::parse;

fn read(text: &str) -> Result<File, String> {
    let file: File = parse(Path::new("/t/alice.toml"), text).map_err(|e| e.to_string())?;
    contradiction(&file).map_or(Ok(file), Err)
}

#[test]
fn a_user_alone_is_a_strict_tenant() {
    let file = read("user = 'alice'").unwrap();
    assert_eq!(file.sandbox.seccomp, Profile::Strict);
    assert!(file.sandbox.landlock && file.files.private_tmp);
    assert_eq!(file.files.root, Root::Private);
    assert_eq!(file.network.mode, NetworkMode::None);
    assert_eq!(file.grants.0, Grants::NONE);
    assert_eq!((file.limits.memory.0, file.limits.core.0), (Some(512 << 20), Some(0)));
    assert_eq!(file.umask.0, 0o077);
    assert!(file.groups.is_empty(), "no group but its own");
    assert_eq!(file.sandbox.namespaces.len(), 5);
}

#[test]
fn every_key_of_the_samples_is_read() {
    for sample in [
        include_str!("../../../../../conf/tenants.d/alice.toml"),
        include_str!("../../../../../conf/tenants.d/hosting.toml"),
        include_str!("../../../../../conf/tenants.d/reference.toml"),
    ] {
        let uncommented: String = sample
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        read(sample).unwrap();
        read(&uncommented).unwrap();
    }
    let reference = include_str!("../../../../../conf/tenants.d/reference.toml");
    let keys = [
        "user",
        "group",
        "groups",
        "python",
        "home",
        "umask",
        "env",
        "interpreters",
        "max_interpreters",
        "processes",
        "threads",
        "grants",
        "document_roots",
        "require",
        "memory",
        "swap",
        "pids",
        "cpu_share",
        "cpu_quota",
        "open_files",
        "file_size",
        "core",
        "tmp",
        "root",
        "read_only",
        "read_write",
        "private_tmp",
        "mode",
        "connect",
        "bind",
        "seccomp",
        "landlock",
        "namespaces",
        "apparmor_profile",
        "selinux_context",
        "max_threads_per_child",
        "max_threads",
        "queue",
        "queue_deadline_ms",
        "retry_after_s",
        "max_held",
        "max_table_entries",
        "max_log_lines",
        "start_s",
        "stop_s",
        "request_s",
    ];
    for key in keys {
        assert!(
            reference.lines().any(|l| l.trim_start_matches('#').starts_with(&format!("{key} ="))),
            "{key} is not in the reference sample"
        );
    }
}

#[test]
fn mistakes_have_a_line_and_a_remedy() {
    for (text, must) in [
        ("\nusr = 'alice'", ["alice.toml:2: ", "user"]),
        ("user = 'alice'\n[limits]\nmemory = '512 MB'", ["alice.toml:3: ", "512M"]),
        ("user = 'alice'\ngrants = ['root']", ["alice.toml:2: ", "foreign_files"]),
        ("user = 'alice'\n[files]\nroot = 'jail'", ["alice.toml:3: ", "private"]),
        ("user = 'alice'\n[network]\nmode = 'some'", ["alice.toml:3: ", "outbound"]),
        ("user = 'alice'\n[network]\nconnect = [0]", ["alice.toml:3: ", "65535"]),
        ("user = 'alice'\nrequire = ['magic']", ["alice.toml:2: ", "landlock"]),
        ("user = 'alice'\ndocument_roots = ['/']", ["alice.toml:2: ", "document root"]),
        ("user = 'alice'\nprocesses = { max = 65 }", ["alice.toml:2: ", "64"]),
        ("user = 'alice'\n[sandbox]\nseccomp = 'loose'", ["alice.toml:3: ", "standard"]),
        ("user = 'alice'\n[template]\ndeny = []", ["alice.toml:2: ", "users"]),
    ] {
        let error = read(text).unwrap_err();
        assert!(must.iter().all(|m| error.contains(m)), "{text}: {error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    for (text, must) in [
        ("", "`user` is missing"),
        ("user = 'a'\n[template]\nusers = ['*']", "remove `user`"),
        ("[template]\nusers = []", "names nobody"),
        ("user = 'a'\nprocesses = { max = 0 }", "1 at least"),
        ("user = 'a'\nprocesses = { min = 3, max = 2 }", "above"),
        ("user = 'a'\n[sandbox]\nnamespaces = ['pid']", "mount"),
        ("user = 'a'\n[files]\nroot = 'host'\n[sandbox]\nnamespaces = ['pid']", "/proc"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(must), "{text}: {error}");
    }
}

#[test]
fn sizes_are_understood() {
    assert_eq!(size("0"), Ok(Some(0)));
    assert_eq!(size("64K"), Ok(Some(65_536)));
    assert_eq!(size("2G"), Ok(Some(2 << 30)));
    assert_eq!(size("unlimited"), Ok(None));
    for bad in ["", "-1", "1.5G", "G", "99999999999G", "1T"] {
        assert!(size(bad).is_err(), "{bad}");
    }
}
