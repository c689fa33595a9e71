//! Workers: started as they should be, replaced when they die, reported when they cannot come up.

mod common;

use common::{Setup, as_root, kill, mode, wait_end, watch};
use rustix::process::Signal;
use vivarium_protocol::control::{ToChild, ToSupervisor};

#[test]
fn a_pool_comes_up_and_serves_regions() {
    let mut s = Setup::new("").start();
    let mut child = s.child(1);
    let page = child.attach("main", 7);
    let a = child.expect_up();
    let b = child.expect_up();
    assert_eq!((a.region, b.region), (7, 7));
    let mut slots = [a.slot, b.slot];
    slots.sort_unstable();
    assert_eq!(slots, [0, 1]);
    assert_eq!((a.epoch, b.epoch), (1, 1));
    assert_ne!(a.pid, b.pid);
    s.log.expect(&["[vivarium:info]", "VIV0010", "default/main", "3.11.2"]);
    // Each worker was given the region: its memory and the descriptor socket.
    s.log.expect(&["VIV0016", "region ", "["]);
    s.log.expect(&["VIV0016", "region ", "["]);
    assert!(!page.ring(None), "nobody sleeps on the page yet");

    // A second child of the same httpd shares the workers, and they learn of its region at once.
    let mut other = s.child(1);
    other.attach("main", 1);
    let mut pids = [other.expect_up().pid, other.expect_up().pid];
    let mut known = [a.pid, b.pid];
    pids.sort_unstable();
    known.sort_unstable();
    assert_eq!(pids, known);
    s.log.expect(&["VIV0016", "region "]);

    // Another interpreter has workers of its own.
    other.attach("second", 2);
    let c = other.expect_up();
    assert!(c.region == 2 && !known.contains(&c.pid));
}

#[test]
fn regions_go_when_they_are_detached_and_when_their_child_goes() {
    let mut setup = Setup::new("");
    setup.processes = 1;
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    child.expect_up();
    let first = region_number(&s.log.expect(&["region "]));
    child.attach("main", 2);
    child.expect_up();
    let second = region_number(&s.log.expect(&["region "]));
    assert_ne!(first, second);
    child.send(&ToSupervisor::Detach { region: 1 });
    s.log.expect(&[&format!("gone {first} ")]);
    // The number is free again, for another region.
    child.attach("main", 1);
    child.expect_up();
    let third = region_number(&s.log.expect(&["region "]));
    assert!(third != first && third != second);
    drop(child);
    s.log.expect(&["gone "]);
    s.log.expect(&["gone "]);
}

fn region_number(line: &str) -> u64 {
    let rest = line.split("region ").nth(1).unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_worker_is_a_clean_process_of_another_user() {
    let mut setup = Setup::new("describe");
    setup.processes = 1;
    setup.more = "umask = '0027'\nthreads = 5".into();
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("a name with ü and \"quotes\"", 1);
    s.log.expect(&["described"]);
    let seen = s.log.seen.join("\n");
    let value = |name: &str| {
        let start = seen.find(&format!("] {name}=")).unwrap_or_else(|| panic!("{name} in\n{seen}"));
        let rest = &seen[start + name.len() + 3..];
        rest.lines().next().unwrap().to_owned()
    };
    assert_eq!(value("fds"), "0,1,2,3,4");
    assert_eq!(value("null"), "/dev/null");
    assert_eq!(value("page"), "8192");
    assert_eq!(value("session"), "True");
    assert_eq!(value("umask"), "0027");
    assert_eq!(value("NoNewPrivs"), "1");
    assert_eq!(value("SigBlk"), "0000000000000000");
    // Python itself ignores SIGPIPE (13) and SIGXFSZ (25), no more.
    assert_eq!(value("SigIgn"), "0000000001001000");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    if as_root() {
        assert_eq!(value("CapBnd"), "0000000000000000");
        assert_eq!(value("ids"), "(65534, 65534, 65534),(65534, 65534, 65534),[65534]");
        assert_eq!(value("env USER"), "nobody");
        assert_eq!(value("env HOME"), "/nonexistent");
        assert_eq!(value("cwd"), "/", "a home that is not there is no obstacle");
    }
    assert!(value("arguments").ends_with("-s -m vivarium.worker"), "{}", value("arguments"));
    assert_eq!(value("env PYTHONPATH"), s.setup.package_dir.to_string_lossy());
    assert_eq!(value("env VIVARIUM_INTERPRETER"), "a name with ü and \"quotes\"");
    assert_eq!(value("env VIVARIUM_TENANT"), "default");
    assert_eq!(value("env VIVARIUM_THREADS"), "5");
    assert_eq!((value("env VIVARIUM_SLOT"), value("env VIVARIUM_EPOCH")), ("0".into(), "1".into()));
    assert_eq!(value("env LANG"), "C.UTF-8");
    let names: Vec<&str> =
        seen.lines().filter_map(|l| l.split("] env ").nth(1)?.split('=').next()).collect();
    let expected = [
        "FAKE",
        "FAKE_DIR",
        "HOME",
        "LANG",
        "LC_CTYPE",
        "LOGNAME",
        "PATH",
        "PYTHONPATH",
        "TZ",
        "USER",
        "VIVARIUM_EPOCH",
        "VIVARIUM_EXTENSION",
        "VIVARIUM_INTERPRETER",
        "VIVARIUM_SLOT",
        "VIVARIUM_TENANT",
        "VIVARIUM_THREADS",
    ];
    let unexpected: Vec<_> = names.iter().filter(|n| !expected.contains(n)).collect();
    assert!(
        unexpected.is_empty(),
        "nothing leaks from the supervisor's environment: {unexpected:?}"
    );
}

#[test]
fn a_killed_worker_is_reported_and_replaced() {
    let mut setup = Setup::new("");
    setup.processes = 1;
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let mut other = s.child(1);
    other.attach("main", 1);
    let first = child.expect_up();
    assert_eq!(other.expect_up().pid, first.pid);
    kill(&first.pidfd);
    wait_end(&first.pidfd, "the worker");
    for c in [&child, &other] {
        assert_eq!(c.expect_down(), (1, first.slot, first.epoch, "killed by SIGKILL".into()));
    }
    let second = child.expect_up();
    assert_eq!(other.expect_up().pid, second.pid);
    assert_eq!((second.slot, second.epoch), (first.slot, first.epoch + 1));
    assert_ne!(second.pid, first.pid);
    s.log.expect(&["VIV0011", "killed by SIGKILL", "at once"]);
    // The new one is given the regions that are there.
    s.log.expect(&[&format!("pid {}] region ", second.pid)]);
    s.log.expect(&[&format!("pid {}] region ", second.pid)]);
    // The second death in a row waits; when no worker is left meanwhile, the children know that they need not wait.
    kill(&second.pidfd);
    assert_eq!(child.expect_down().2, second.epoch);
    let (region, code, reason, retry_ms) = child.expect_pool_down();
    assert_eq!((region, code.as_str()), (1, "VIV0013"));
    assert!(reason.contains("killed by SIGKILL") && retry_ms <= 100, "{reason} {retry_ms}");
    assert_eq!(child.expect_up().epoch, second.epoch + 1);
    s.log.expect(&["VIV0011", "in 100 ms"]);
}

#[test]
fn what_a_worker_started_goes_with_it() {
    let mut setup = Setup::new("grandchild");
    setup.processes = 1;
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let line = s.log.expect(&["grandchild="]);
    let pid: i32 = line.split("grandchild=").nth(1).unwrap().parse().unwrap();
    let grandchild = watch(pid).unwrap();
    let worker = child.expect_up();
    kill(&worker.pidfd);
    wait_end(&grandchild, "the grandchild");
}

#[test]
fn a_missing_python_is_one_line_and_pool_down_for_all() {
    let mut setup = Setup::new("");
    setup.python = "/no/such/python".into();
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 3);
    let (region, code, reason, retry_ms) = child.expect_pool_down();
    assert_eq!((region, code.as_str()), (3, "VIV0012"));
    assert!(reason.contains("/no/such/python") && reason.contains("No such file"), "{reason}");
    assert!(reason.contains("vivariumd.toml"), "the remedy is named: {reason}");
    assert!((1..=10_000).contains(&retry_ms), "{retry_ms}");
    // A child that comes later need not wait for the next try.
    let mut late = s.child(1);
    late.attach("main", 9);
    let (region, code, ..) = late.expect_pool_down();
    assert_eq!((region, code.as_str()), (9, "VIV0012"));
    // More tries, no more lines.
    while child.expect_pool_down().3 < 500 {}
    s.signal(Signal::TERM);
    let (status, _) = s.end();
    assert!(status.success());
    let lines = s.log.seen.iter().filter(|l| l.contains("VIV0012")).count();
    assert_eq!(lines, 1, "{}", s.log.seen.join("\n"));
}

#[test]
fn an_unreadable_package_names_path_and_user() {
    if !as_root() {
        // Who is not root starts workers as itself, and can read what it has made.
        let mut setup = Setup::new("");
        setup.package_dir = "/no/such/package".into();
        let mut s = setup.start();
        s.child(1).attach("main", 1);
        s.log.expect(&["VIV0012", "/no/such/package"]);
        return;
    }
    let mut setup = Setup::new("");
    let inner = setup.package_dir.join("inner");
    std::fs::create_dir(&inner).unwrap();
    mode(&setup.package_dir, 0o700);
    let outer = std::mem::replace(&mut setup.package_dir, inner.clone());
    let s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert_eq!(code, "VIV0012");
    assert!(reason.contains(&*inner.to_string_lossy()) && reason.contains("nobody"), "{reason}");
    assert!(reason.contains(&format!("(at {})", outer.display())), "{reason}");
}

#[test]
fn a_worker_that_exits_early_is_quoted() {
    let s = Setup::new("exit3").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert_eq!(code, "VIV0012");
    assert!(
        reason.contains("exit status 3") && reason.contains("there is no module here"),
        "{reason}"
    );
}

#[test]
fn a_worker_that_says_why_is_believed() {
    let mut s = Setup::new("failed").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert_eq!(code, "VIV0012");
    assert!(reason.contains("the extension is\\nmissing"), "escaped: {reason}");
    s.log.expect(&["VIV0012", "the extension is\\nmissing"]);
}

#[test]
fn a_worker_of_another_version_is_refused() {
    let mut s = Setup::new("version").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert_eq!(code, "VIV0006");
    assert!(reason.contains("99") && reason.contains("extension.so"), "{reason}");
    s.log.expect(&["VIV0006", "protocol 99"]);
}

#[test]
fn a_pool_that_is_repaired_comes_back_by_itself() {
    let mut setup = Setup::new("repair");
    setup.processes = 1;
    let s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let (_, _, reason, _) = child.expect_pool_down();
    assert!(reason.contains("exit status 4"), "{reason}");
    std::fs::write(s.setup.dir.path("repaired"), "").unwrap();
    // More tries may fail before it is seen.
    let up = loop {
        match child.recv() {
            (ToChild::PoolDown { .. }, _) => {}
            (ToChild::WorkerUp { region, .. }, _) => break region,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(up, 1);
    let mut late = s.child(1);
    late.attach("main", 1);
    late.expect_up();
}

#[test]
fn a_new_configuration_file_cures_a_pool() {
    let mut setup = Setup::new("");
    setup.processes = 1;
    let good = std::mem::replace(&mut setup.python, "/no/such/python".into());
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    while child.expect_pool_down().3 < 3000 {}
    s.setup.python = good;
    s.setup.write_config();
    s.signal(Signal::HUP);
    s.log.expect(&["VIV0041", "SIGHUP"]);
    child.expect_up();
    // A file that has become wrong changes nothing.
    std::fs::write(s.setup.config_file(), "[default]\nprocesses = 'x'\n").unwrap();
    s.signal(Signal::HUP);
    s.log.expect(&["VIV0040", "vivariumd.toml:2:", "stays in force"]);
    let mut late = s.child(1);
    late.attach("another", 1);
    late.expect_up();
}

#[test]
fn workers_that_break_the_protocol_are_killed() {
    for fake in ["garbage", "oversize", "descriptor"] {
        let mut setup = Setup::new(fake);
        setup.processes = 1;
        let mut s = setup.start();
        let mut child = s.child(1);
        child.attach("main", 1);
        let (_, code, _, _) = child.expect_pool_down();
        assert_eq!(code, "VIV0012", "{fake}");
        s.log.expect(&["VIV0014", "is killed"]);
    }
    let mut setup = Setup::new("twice");
    setup.processes = 1;
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let worker = child.expect_up();
    wait_end(&worker.pidfd, "the worker");
    assert_eq!(child.expect_down().3, "killed by SIGKILL");
    s.log.expect(&["VIV0014", "spoke again"]);
}

#[test]
fn a_worker_that_closes_its_socket_and_stays_is_killed() {
    let mut setup = Setup::new("close");
    setup.processes = 1;
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let worker = child.expect_up();
    wait_end(&worker.pidfd, "the worker");
    s.log.expect(&["VIV0015", "closed its control socket"]);
}

#[test]
fn a_child_can_have_a_misbehaving_worker_killed() {
    let mut setup = Setup::new("");
    setup.processes = 1;
    let mut s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let worker = child.expect_up();
    let accuse = |region, slot, epoch| ToSupervisor::Misbehaved {
        region,
        slot,
        epoch,
        reason: "it wrote\nrubbish".into(),
    };
    // Not a region of this child; no such slot; not the process that has the slot now: nothing happens.
    child.send(&accuse(2, worker.slot, worker.epoch));
    child.send(&accuse(1, 63, worker.epoch));
    child.send(&accuse(1, worker.slot, worker.epoch + 1));
    child.attach("main", 5);
    assert_eq!(child.expect_up().pid, worker.pid, "it lives");
    child.send(&accuse(1, worker.slot, worker.epoch));
    wait_end(&worker.pidfd, "the worker");
    s.log.expect(&["VIV0014", "it wrote\\nrubbish"]);
    let mut regions = [child.expect_down().0, child.expect_down().0];
    regions.sort_unstable();
    assert_eq!(regions, [1, 5]);
    assert_eq!(child.expect_up().epoch, worker.epoch + 1);
}

#[test]
fn output_is_logged_and_bounded() {
    let mut setup = Setup::new("flood");
    setup.processes = 1;
    let mut s = setup.start();
    s.child(1).attach("main", 1);
    s.log.expect(&["VIV0016", "suppressed 2", "lines"]);
    let lines = s.log.seen.iter().filter(|l| l.ends_with("] flood")).count();
    assert_eq!(lines, 1000);
    assert!(
        s.log
            .seen
            .iter()
            .any(|l| l.contains("[vivarium:notice] [pid ") && l.contains("default/main pid "))
    );
}

/// Out of the ordinary run because it takes as long as the time-out: `cargo test -p vivariumd -- --ignored`.
#[test]
#[ignore = "waits for the start time-out of 30 s"]
fn a_worker_that_never_is_ready_is_killed() {
    let mut setup = Setup::new("hang");
    setup.processes = 1;
    let s = setup.start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert_eq!(code, "VIV0012");
    assert!(reason.contains("not ready within 30 s"), "{reason}");
}
