//! Declared tenants: their files, their policies, their sandboxes. As a plain user most of it can only be refused.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{HttpdChild, Setup, Supervisor, as_root, mode};
use vivarium_protocol::control::{PoolKey, ToChild};
use vivarium_protocol::policy::Grants;

/// A supervisor with these tenants' files, by name.
fn with_tenants(fake: &'static str, tenants: &[(&str, &str)]) -> Supervisor {
    let mut setup = Setup::new(fake);
    setup.processes = 1;
    let dir = setup.dir.path("tenants.d");
    std::fs::create_dir(&dir).unwrap();
    mode(&dir, 0o755);
    for (name, text) in tenants {
        write(&setup, name, text);
    }
    let mut s = setup.start();
    // Before that a hang-up would end it.
    let lines = s.log.seen.len();
    s.log.expect(&["VIV0041", "is in force"]);
    // What it said at its start is for the tests to look at.
    s.log.again(lines);
    s
}

fn write(setup: &Setup, name: &str, text: &str) {
    let path = setup.dir.path("tenants.d").join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    mode(&path, 0o644);
}

/// A tenant's file for the stand-in for Python, with `more` lines before any section.
fn file(s: &Setup, fake: &str, more: &str) -> String {
    format!(
        "user = 'nobody'\npython = '{}'\nprocesses = {{ max = 1 }}\nenv = {{ FAKE = '{fake}' }}\n{more}\n",
        s.python.display()
    )
}

fn pool(tenant: &str) -> PoolKey {
    PoolKey { tenant: tenant.into(), interpreter: "main".into() }
}

fn reload(s: &Supervisor) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(s.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

/// Attaches; what the pool's fate is.
fn attach(child: &mut HttpdChild, tenant: &str, region: u32) {
    child.attach_as(&pool(tenant), region);
}

#[test]
fn a_plain_user_cannot_serve_tenants_and_says_so() {
    if as_root() {
        return;
    }
    let mut s = with_tenants("", &[("alice", "user = 'nobody'\n")]);
    let mut child = s.child(1);
    attach(&mut child, "alice", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert!(code == "VIV0046" && reason.contains("only root can"), "{code} {reason}");
    s.log.expect(&["VIV0046", "alice"]);
}

#[test]
fn a_bad_file_is_its_own_tenants_503_until_it_is_mended() {
    let mut s = with_tenants("", &[("bad", "user = 'nobody'\ncolour = 'red'\n")]);
    s.log.expect(&["VIV0044", "bad.toml:2: ", "colour", "503"]);
    let mut child = s.child(1);
    attach(&mut child, "bad", 1);
    let (region, code, reason, _) = child.expect_pool_down();
    assert_eq!((region, code.as_str()), (1, "VIV0046"));
    assert!(reason.contains("bad.toml:2: "), "{reason}");
    let (_, policy) = child.expect_policy();
    assert!(policy.confined && policy.grants == Grants::NONE, "never open");
    // The built-in tenant does not notice.
    child.attach("main", 2);
    child.expect_up();
    if as_root() {
        write(&s.setup, "bad", &file(&s.setup, "", "[sandbox]\nlandlock = true"));
        reload(&s);
        s.log.expect(&["VIV0045", "added 1: bad"]);
        assert_eq!(child.expect_up().region, 1);
    }
}

#[test]
fn a_changed_file_reaches_httpd_and_the_workers() {
    if !as_root() {
        return;
    }
    let mut s = with_tenants("", &[]);
    write(&s.setup, "alice", &file(&s.setup, "", "grants = ['cgi']"));
    reload(&s);
    s.log.expect(&["VIV0045", "added 1: alice"]);
    let mut child = s.child(1);
    attach(&mut child, "alice", 1);
    let (_, policy) = child.expect_policy();
    assert!(policy.confined && policy.allows(Grants::CGI) && !policy.allows(Grants::PROXY));
    assert_eq!(policy.uid, Some(65_534));
    let first = child.expect_up();

    write(&s.setup, "alice", &file(&s.setup, "", "grants = ['proxy']"));
    reload(&s);
    let (region, changed) = child.expect_policy();
    assert!(region == 1 && changed.allows(Grants::PROXY) && !changed.allows(Grants::CGI));
    assert!(changed.revision > policy.revision);
    // The old worker finishes and another takes its place.
    let (_, slot, epoch, _) = child.expect_down();
    assert_eq!((slot, epoch), (first.slot, first.epoch));
    let second = child.expect_up();
    assert_ne!(second.pid, first.pid);

    // A mistake changes nothing.
    write(&s.setup, "alice", "user = 'root'\n");
    reload(&s);
    s.log.expect(&["VIV0044", "never runs as root", "last good form"]);
    let mut other = s.child(1);
    attach(&mut other, "alice", 1);
    assert_eq!(other.expect_up().pid, second.pid);
    assert_eq!(other.expect_policy().1.revision, changed.revision);

    // A tenant that is removed is served no more; the others are.
    std::fs::remove_file(s.setup.dir.path("tenants.d/alice.toml")).unwrap();
    reload(&s);
    s.log.expect(&["VIV0045", "removed 1: alice"]);
    let (_, gone) = child.expect_policy();
    assert!(gone.grants == Grants::NONE && gone.confined);
    child.expect_down();
    let (_, code, reason, _) = child.expect_pool_down();
    assert!(code == "VIV0046" && reason.contains("no tenant alice"), "{reason}");
}

#[test]
fn a_strict_tenant_is_a_process_with_nothing() {
    if !as_root() {
        return;
    }
    let mut s = with_tenants("", &[]);
    write(&s.setup, "alice", &file(&s.setup, "describe", ""));
    reload(&s);
    let mut child = s.child(1);
    attach(&mut child, "alice", 1);
    s.log.expect(&["described"]);
    let seen = s.log.seen.join("\n");
    let value = |name: &str| {
        let start = seen.find(&format!("] {name}=")).unwrap_or_else(|| panic!("{name} in\n{seen}"));
        seen[start + name.len() + 3..].lines().next().unwrap().to_owned()
    };
    assert_eq!(value("fds"), "0,1,2,3,4", "no descriptor but those it needs");
    assert_eq!(value("ids"), "(65534, 65534, 65534),(65534, 65534, 65534),[65534]");
    assert_eq!((value("NoNewPrivs"), value("Seccomp")), ("1".into(), "2".into()));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("umask"), value("cwd")), ("0077".into(), "/".into()));
    assert_eq!(value("pids"), "1", "no process but its own");
    assert!(!value("root").contains("home") && !value("root").contains("boot"));
    // The test's own directory lies in the machine's /tmp, and what the worker needs of it was bound there.
    let own = s.setup.dir.path("").file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!((value("tmp"), value("shm")), (own, String::new()));
    assert_eq!(value("env VIVARIUM_TENANT"), "alice");
    let up = child.expect_up();
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.pid)).unwrap();
    assert!(
        status.contains("NSpid:")
            && status.lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1"))
    );
    for name in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_ne!(of(&up.pid.to_string()), of("self"), "{name}");
    }
}

#[test]
fn a_step_that_fails_is_named_and_nothing_runs() {
    if !as_root() {
        return;
    }
    let s = with_tenants("", &[]);
    write(&s.setup, "jail", &file(&s.setup, "describe", "[files]\nroot = '/no/such/jail'"));
    write(&s.setup, "home", &file(&s.setup, "describe", "home = '/no/such/home'"));
    write(&s.setup, "label", &file(&s.setup, "describe", "[sandbox]\napparmor_profile = 'x'"));
    reload(&s);
    for (region, (tenant, must)) in
        [("jail", "/no/such/jail"), ("home", "home directory"), ("label", "apparmor")]
            .into_iter()
            .enumerate()
    {
        let mut child = s.child(1);
        attach(&mut child, tenant, region as u32);
        let (_, code, reason, _) = child.expect_pool_down();
        // A machine with AppArmor has no profile x: then it is the exec that fails.
        assert!(tenant == "label" || (code == "VIV0047" && reason.contains(must)), "{reason}");
    }
    assert!(!s.log.seen.iter().any(|line| line.contains("described")));
}

#[test]
fn tenants_of_a_template() {
    if !as_root() {
        return;
    }
    let mut s = with_tenants("", &[]);
    let text =
        file(&s.setup, "", "[template]\nusers = ['nobod?']").replace("user = 'nobody'\n", "");
    write(&s.setup, "cheap", &text);
    reload(&s);
    s.log.expect(&["VIV0045", "templates have changed"]);
    let mut child = s.child(1);
    attach(&mut child, "~nobody", 1);
    child.expect_up();
    assert_eq!(child.expect_policy().1.tenant, "~nobody");
    attach(&mut child, "~daemon", 2);
    let (region, code, reason, _) = child.expect_pool_down();
    assert!(region == 2 && code == "VIV0046" && reason.contains("daemon"), "{reason}");
}

#[test]
fn the_users_of_httpd_and_of_the_system_are_no_tenants() {
    if !as_root() {
        return;
    }
    let mut s = with_tenants("", &[("low", "user = 'daemon'\n"), ("root", "user = 'root'\n")]);
    s.log.expect(&["VIV0044", "low.toml", "min_uid"]);
    s.log.expect(&["VIV0044", "root.toml", "never runs as root"]);
    write(&s.setup, "alice", &file(&s.setup, "", ""));
    let mut config = s.config(2);
    config.child_uid = 65_534;
    s.push_config(config);
    let mut child = s.child(2);
    attach(&mut child, "alice", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert!(code == "VIV0046" && reason.contains("httpd's children"), "{reason}");
}

#[test]
fn httpd_can_name_the_directory() {
    let mut s = with_tenants("", &[("here", "user = 'no-such-user-here'\n")]);
    let other = s.setup.dir.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(other.join("there.toml"), "user = 'no-such-user-here'\n").unwrap();
    mode(&other.join("there.toml"), 0o644);
    s.log.expect(&["VIV0044", "here.toml"]);
    let mut config = s.config(2);
    config.tenants_dir = other.to_string_lossy().into_owned();
    s.push_config(config);
    s.log.expect(&["VIV0044", "there.toml", "does not exist"]);
    let mut child = s.child(2);
    attach(&mut child, "here", 1);
    match child.recv() {
        (ToChild::PoolDown { reason, .. }, _) => assert!(reason.contains("no tenant here")),
        other => panic!("{other:?}"),
    }
}
