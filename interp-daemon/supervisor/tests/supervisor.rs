//! The supervisor among its peers: who may connect, what is refused, generations, and how everything ends.

mod common;

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use common::{INSTANCE, Setup, as_root, key, kill, small_region, wait_end, wait_until};
use rustix::process::Signal;
use vivarium_protocol::PROTOCOL_VERSION;
use vivarium_protocol::control::{MAX_PACKET, PoolKey, ToChild, ToSupervisor};
use vivarium_protocol::policy::Grants;
use vivarium_protocol::seqpacket;

fn one(fake: &'static str) -> Setup {
    let mut setup = Setup::new(fake);
    setup.processes = 1;
    setup
}

fn hello(version: u32, instance: u64) -> ToSupervisor {
    ToSupervisor::Hello { version, instance, generation: 1 }
}

#[test]
fn a_child_of_another_version_is_refused_with_one_line() {
    let mut s = one("").start();
    for _ in 0..3 {
        let child = s.connect();
        child.send(&hello(PROTOCOL_VERSION + 1, INSTANCE));
        let reason = child.expect_refused();
        assert!(
            reason.contains(&format!("protocol {}", PROTOCOL_VERSION + 1))
                && reason.contains("restart httpd"),
            "{reason}"
        );
        child.expect_closed();
    }
    s.child(1);
    s.signal(Signal::TERM);
    s.end();
    let lines: Vec<_> = s.log.seen.iter().filter(|l| l.contains("VIV0006")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn a_child_of_another_httpd_is_refused() {
    let s = one("").start();
    let child = s.connect();
    child.send(&hello(PROTOCOL_VERSION, INSTANCE + 1));
    assert!(child.expect_refused().contains("another httpd"));
    child.expect_closed();
    s.child(1);
}

#[test]
fn start_up_data_comes_before_everything_else() {
    let mut s = one("").start();
    let mut child = s.child(1);
    let data = b"what to import".to_vec();
    child.send(&ToSupervisor::Startup { pool: key("main"), data });
    child.attach("main", 1);
    s.log.expect(&["startup 1 what to import"]);
    // It is of no effect for another pool.
    let up = child.expect_up();
    assert_eq!(up.region, 1);
    child.attach("other", 2);
    s.log.expect(&["default/other", "region"]);
}

#[test]
fn start_up_data_is_bounded() {
    let mut s = one("").start();
    let child = s.child(1);
    let data = vec![b'x'; vivarium_protocol::control::MAX_STARTUP + 1];
    child.send(&ToSupervisor::Startup { pool: key("main"), data });
    child.expect_closed();
    s.log.expect(&["VIV0008", "start-up data"]);
}

#[test]
fn a_parent_of_another_version_has_its_children_refused() {
    let mut s = one("").start_unconfigured();
    let mut config = s.config(1);
    config.version = 77;
    s.push_config(config);
    s.log.expect(&["VIV0006", "protocol 77"]);
    let child = s.connect();
    child.send(&hello(PROTOCOL_VERSION, INSTANCE));
    assert!(child.expect_refused().contains("protocol 77"));
}

#[test]
fn a_parent_that_cannot_be_understood_is_reported() {
    let mut s = one("").start_unconfigured();
    seqpacket::send_bytes(s.channel.as_ref().unwrap(), &[0xff; 40], &[], false).unwrap();
    s.log.expect(&["VIV0008", "one version?"]);
    let child = s.connect();
    child.send(&hello(PROTOCOL_VERSION, INSTANCE));
    assert!(child.expect_refused().contains("cannot be understood"));
    // The parent was replaced meanwhile: all is well.
    s.setup.write_config();
    s.push(1);
    s.log.expect(&["VIV0041"]);
    s.child(1).attach("main", 1);
}

#[test]
fn strangers_are_refused() {
    if !as_root() {
        return; // One cannot be another then.
    }
    let mut s = one("").start();
    let script = "import socket, os, sys\n\
        os.setgid(65534); os.setuid(65534)\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])\n\
        s.send(b'x' * 100)\n\
        d = s.recv(65536)\n\
        sys.exit(0 if d[0] == 1 and b'65534' in d and s.recv(100) == b'' else 1)";
    let status = std::process::Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(s.setup.dir.path("socket"))
        .status()
        .unwrap();
    assert!(status.success());
    s.log.expect(&["VIV0007", "uid 65534"]);
    // httpd's children, whose uid the parent has told, may.
    let script = script.replace("65534)", "65533)").replace("s.send(b'x' * 100)", "sys.exit(0)");
    let status = std::process::Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .arg(s.setup.dir.path("socket"))
        .status()
        .unwrap();
    assert!(status.success());
    s.child(1);
    s.signal(Signal::TERM);
    let (_, rest) = s.end();
    assert!(!rest.iter().any(|l| l.contains("VIV0007")), "{rest:?}");
}

#[test]
fn forged_packets_end_their_connection_and_nothing_else() {
    let mut s = one("").start();
    let mut good = s.child(1);
    good.attach("main", 1);
    let worker = good.expect_up();

    // Bytes that are no message; before and after the hello.
    for greeted in [false, true] {
        for garbage in [&[0xff; 60][..], b"", &[0], &[9, 9, 9], &[0, 1, 2, 3, 4, 5, 6, 7, 8]] {
            let bad = if greeted { s.child(1) } else { s.connect() };
            seqpacket::send_bytes(&bad.socket, garbage, &[], false).unwrap();
            bad.expect_closed();
        }
        let bad = if greeted { s.child(1) } else { s.connect() };
        let _ = seqpacket::send_bytes(&bad.socket, &vec![0; MAX_PACKET + 1], &[], false);
        bad.expect_closed();
    }
    s.log.expect(&["VIV0008"]);

    // Messages out of turn.
    let bad = s.connect();
    bad.send(&ToSupervisor::Detach { region: 1 });
    bad.expect_closed();
    let bad = s.child(1);
    bad.send(&hello(PROTOCOL_VERSION, INSTANCE));
    bad.expect_closed();
    let mut bad = s.child(1);
    bad.attach("main", 1);
    bad.expect_up();
    bad.send_attach(&key("main"), 1);
    bad.expect_closed();

    // Names that cannot be.
    let nul = PoolKey { tenant: "default".into(), interpreter: "a\0b".into() };
    let long = PoolKey { tenant: "default".into(), interpreter: "x".repeat(5000) };
    let odd = PoolKey { tenant: "../alice".into(), interpreter: "main".into() };
    for pool in [nul, long, odd] {
        let mut bad = s.child(1);
        bad.send_attach(&pool, 1);
        bad.expect_closed();
    }

    // Descriptors: none, one, the wrong ones, ones where none belong.
    let (_region, memory) = small_region();
    let (socket, _other) = seqpacket::pair().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let unsealed = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&unsealed, 1 << 20).unwrap();
    let attach = ToSupervisor::Attach { pool: key("main"), region: 2 };
    let lists: [&[_]; 5] = [
        &[],
        &[memory.as_fd()],
        &[memory.as_fd(), file.as_fd()],
        &[unsealed.as_fd(), socket.as_fd()],
        &[memory.as_fd(), socket.as_fd(), socket.as_fd()],
    ];
    for list in lists {
        let bad = s.child(1);
        seqpacket::send(&bad.socket, &attach, list, false).unwrap();
        bad.expect_closed();
    }
    let bad = s.child(1);
    let detach = ToSupervisor::Detach { region: 2 };
    seqpacket::send(&bad.socket, &detach, &[file.as_fd()], false).unwrap();
    bad.expect_closed();

    // All the while the good child was served: it detaches and attaches, with the same worker.
    good.send(&ToSupervisor::Detach { region: 1 });
    good.send(&ToSupervisor::Detach { region: 4711 });
    good.attach("main", 2);
    assert_eq!(good.expect_up().pid, worker.pid);
}

#[test]
fn an_unknown_tenant_has_no_workers() {
    let s = one("").start();
    let mut child = s.child(1);
    child.send_attach(&PoolKey { tenant: "alice".into(), interpreter: "main".into() }, 1);
    assert!(matches!(child.recv(), (ToChild::Attached { region: 1 }, _)));
    let (_, code, reason, _) = child.expect_pool_down();
    assert!(code == "VIV0046" && reason.contains("no tenant alice"), "{code} {reason}");
    let (region, policy) = child.expect_policy();
    assert!(region == 1 && policy.confined && policy.grants == Grants::NONE);
}

#[test]
fn the_number_of_pools_is_bounded() {
    let mut setup = one("");
    setup.sections = "[limits]\npools = 2".into();
    let mut s = setup.start();
    let mut child = s.child(1);
    for (number, name) in [(1, "a"), (2, "b")] {
        child.attach(name, number);
        child.expect_up();
    }
    child.send_attach(&key("c"), 3);
    let (region, code, reason, _) = child.expect_pool_down();
    assert_eq!((region, code.as_str()), (3, "VIV0012"));
    assert!(reason.contains("no room"), "{reason}");
    s.log.expect(&["VIV0042", "2 pools", "[limits]"]);
    child.attach("a", 4);
    child.expect_up();
}

#[test]
fn a_child_that_does_not_read_is_dropped() {
    let mut s = one("quiet").start();
    let deaf = s.child(1);
    // Every packet asks for an answer, and the same one is never allowed twice: regions come and go.
    let mut number = 0;
    loop {
        number += 1;
        let (_region, memory) = small_region();
        let (_ours, theirs) = seqpacket::pair().unwrap();
        let attach = ToSupervisor::Attach { pool: key("main"), region: number };
        let fds = [memory.as_fd(), theirs.as_fd()];
        if seqpacket::send(&deaf.socket, &attach, &fds, false).is_err()
            || seqpacket::send(&deaf.socket, &ToSupervisor::Detach { region: number }, &[], false)
                .is_err()
        {
            break;
        }
        assert!(number < 100_000, "its answers are kept without a bound");
    }
    s.log.expect(&["does not read"]);
    s.child(1).attach("main", 1);
}

#[test]
fn httpds_end_ends_everything() {
    let mut s = Setup::new("").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let mut workers = vec![child.expect_up(), child.expect_up()];
    child.attach("other", 2);
    workers.extend([child.expect_up(), child.expect_up()]);
    drop(s.channel.take());
    child.expect_closed();
    for worker in &workers {
        wait_end(&worker.pidfd, "a worker");
    }
    let (status, rest) = s.end();
    assert!(status.success(), "{status}");
    assert!(rest.iter().any(|l| l.contains("VIV0002") && l.contains("httpd has ended")));
    assert_eq!(
        rest.iter().filter(|l| l.contains("stop 10000")).count(),
        4,
        "all were asked: {rest:?}"
    );
}

#[test]
fn sigterm_stops_gracefully_and_twice_at_once() {
    let mut s = one("stubborn").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let worker = child.expect_up();
    s.signal(Signal::TERM);
    child.expect_closed();
    s.log.expect(&["stop 10000"]);
    assert!(common::is_alive(&worker.pidfd), "it has its grace");
    s.signal(Signal::TERM);
    wait_end(&worker.pidfd, "the worker");
    let (status, rest) = s.end();
    assert!(status.success());
    assert!(rest.iter().any(|l| l.contains("VIV0015")), "{rest:?}");
}

#[test]
fn killing_the_supervisor_leaves_no_orphan() {
    let mut s = Setup::new("").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let workers = [child.expect_up(), child.expect_up()];
    kill(&s.pidfd);
    child.expect_closed();
    for worker in &workers {
        wait_end(&worker.pidfd, "a worker");
        // Not killed: it has read the end of file, and had the time to finish.
        assert!(s.setup.dir.path(&format!("eof-{}", worker.pid)).exists());
    }
    let (status, _) = s.end();
    assert!(!status.success());
}

#[test]
fn a_successor_takes_the_same_socket() {
    let mut s = one("").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let old = child.expect_up();
    kill(&s.pidfd);
    child.expect_closed();
    // As a child does: it connects again before anybody is there to accept.
    let waiting = s.connect();
    waiting.send(&hello(PROTOCOL_VERSION, INSTANCE));
    s.restart();
    s.push(1);
    assert!(matches!(waiting.recv(), (ToChild::Welcome { .. }, _)));
    let mut waiting = waiting;
    waiting.attach("main", 1);
    assert_ne!(waiting.expect_up().pid, old.pid);
    wait_end(&old.pidfd, "the old worker");
}

#[test]
fn an_old_generation_retires_with_its_last_child() {
    let mut s = one("").start();
    let (mut a, mut b) = (s.child(1), s.child(1));
    a.attach("main", 1);
    b.attach("main", 1);
    let old = a.expect_up();
    assert_eq!(b.expect_up().pid, old.pid);
    s.push(2);
    s.log.expect(&["VIV0041", "generation 2"]);
    let mut new = s.child(2);
    new.attach("main", 1);
    let young = new.expect_up();
    assert_ne!(young.pid, old.pid, "new children get a new pool: new code");
    drop(a);
    // The old pool still works for who still has it.
    b.attach("main", 2);
    assert_eq!(b.expect_up().pid, old.pid);
    drop(b);
    wait_end(&old.pidfd, "the old worker");
    s.log.expect(&["VIV0017", "default/main", "generation 1"]);
    // The newest stays, children or not.
    drop(new);
    let mut next = s.child(2);
    next.attach("main", 1);
    assert_eq!(next.expect_up().pid, young.pid);
}

#[test]
fn unused_old_pools_retire_with_the_push() {
    let mut s = one("").start();
    let mut child = s.child(1);
    child.attach("main", 1);
    let worker = child.expect_up();
    drop(child);
    s.log.expect(&["gone "]);
    assert!(common::is_alive(&worker.pidfd));
    s.push(2);
    s.log.expect(&["VIV0017"]);
    wait_end(&worker.pidfd, "the worker");
}

#[test]
fn a_child_that_is_faster_than_its_configuration_is_served() {
    // The configuration is in the channel before the child connects; whatever is looked at first, all goes well.
    let s = one("").start();
    for generation in 2..30 {
        s.push(generation);
        let mut child = s.child(generation);
        child.attach("main", 1);
        child.expect_up();
    }
}

#[test]
fn a_bad_configuration_file_at_the_start_stops_python_not_the_supervisor() {
    let setup = one("");
    std::fs::write(setup.config_file(), "[default]\nthreads = 0\n").unwrap();
    let mut s = setup.start_unconfigured();
    s.push(1);
    let mut child = s.child(1);
    child.attach("main", 1);
    let (_, code, reason, _) = child.expect_pool_down();
    assert_eq!(code, "VIV0040");
    assert!(reason.contains("vivariumd.toml:2:") && reason.contains("1 to 512"), "{reason}");
    s.setup.write_config();
    s.signal(Signal::HUP);
    s.log.expect(&["VIV0041", "SIGHUP"]);
    let mut late = s.child(1);
    late.attach("second", 1);
    late.expect_up();
}

#[test]
fn a_service_makes_its_socket_and_speaks_to_the_journal() {
    let mut s = one("").start_service(false);
    assert!(s.log.expect(&["VIV0001", "as a service"]).starts_with("<5>VIV0001: "));
    let mut child = s.child(1);
    child.attach("main", 1);
    let old = child.expect_up();
    assert!(s.log.expect(&["VIV0010"]).starts_with("<6>"));
    // Another httpd is another world; a newer generation of the first one is announced by its first child.
    let mut other = s.connect();
    other.send(&hello(PROTOCOL_VERSION, 42));
    assert!(matches!(other.recv(), (ToChild::Welcome { .. }, _)));
    other.attach("main", 1);
    assert_ne!(other.expect_up().pid, old.pid);
    let mut new = s.child(2);
    new.attach("main", 1);
    assert_ne!(new.expect_up().pid, old.pid);
    drop(child);
    wait_end(&old.pidfd, "the old worker");
    s.log.expect(&["VIV0017", "generation 1"]);
    // Two at one socket do not go.
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_vivariumd"))
        .arg("--config")
        .arg(s.setup.config_file())
        .arg("--socket")
        .arg(s.setup.dir.path("socket"))
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("VIV0005"));
    s.signal(Signal::TERM);
    let (status, _) = s.end();
    assert!(status.success());
}

#[test]
fn a_service_is_activated_by_its_socket_and_notifies() {
    let setup = one("");
    let manager = UnixDatagram::bind(setup.dir.path("notify")).unwrap();
    let state = || {
        let mut buffer = [0; 200];
        let got = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..got]).into_owned()
    };
    let mut s = setup.start_service(true);
    assert_eq!(state(), "READY=1");
    let mut child = s.child(1);
    child.attach("main", 1);
    child.expect_up();
    s.signal(Signal::HUP);
    assert!(state().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(state(), "READY=1");
    s.signal(Signal::INT);
    assert_eq!(state(), "STOPPING=1");
    assert!(s.end().0.success());
}

#[test]
fn a_service_does_not_start_on_a_bad_file() {
    let setup = one("");
    std::fs::write(setup.config_file(), "[default]\nuser = 5\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vivariumd"))
        .arg("--config")
        .arg(setup.config_file())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("<3>VIV0040: ") && text.contains("vivariumd.toml:2:"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn started_without_its_descriptors_it_says_so() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vivariumd"))
        .arg("--managed")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("VIV0005: descriptor 3"));
}

#[test]
fn nothing_leaks() {
    let s = one("quiet").start();
    let mut steady = s.child(1);
    steady.attach("main", 1);
    let mut worker = steady.expect_up();
    let before = s.descriptors();
    // Another user's descriptors cannot always be looked at; the supervisor's own always can.
    let in_worker =
        |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).ok();
    // 0 to 4: those that it was born with. At this moment it may still hold the region's.
    let only_its_own = |pid: i32| in_worker(pid).is_none_or(|count| count == 5);
    let pid = worker.pid;
    wait_until("the region's descriptors in the worker are closed", || only_its_own(pid));
    for round in 0..100 {
        let mut child = s.child(1);
        child.attach("main", 1);
        child.expect_up();
        child.attach("main", 2);
        child.expect_up();
        if round % 2 == 0 {
            child.send(&ToSupervisor::Detach { region: 1 });
        }
    }
    wait_until("descriptors of children are closed", || s.descriptors() == before);
    wait_until("descriptors in the worker are closed", || only_its_own(pid));
    for _ in 0..4 {
        kill(&worker.pidfd);
        steady.expect_down();
        worker = loop {
            match steady.recv() {
                (ToChild::PoolDown { .. }, _) => {}
                (ToChild::WorkerUp { region, slot, epoch, pid }, mut fds) => {
                    break common::Up { region, slot, epoch, pid, pidfd: fds.pop().unwrap() };
                }
                other => panic!("{other:?}"),
            }
        };
    }
    assert_eq!(worker.epoch, 5);
    wait_until("descriptors of dead workers are closed", || s.descriptors() == before);
}
