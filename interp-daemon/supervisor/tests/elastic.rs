//! Pools that grow and sleep, as an httpd child sees them. The stand-in for Python never sleeps on the pool page: the tests
//! do that for it.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{HttpdChild, Setup, Supervisor};
use vivarium_protocol::control::{ToChild, ToSupervisor};
use vivarium_protocol::page::PoolPage;

/// A supervisor whose pools have between `least` and `most` workers of one thread.
fn elastic(least: u32, most: u32, fake: &'static str) -> Supervisor {
    let mut setup = Setup::new(fake);
    (setup.least, setup.processes) = (Some(least), most);
    setup.more = "threads = 1\nidle_s = 1".into();
    setup.start()
}

/// Sleeps on the page as the idle thread of a worker in `slot` does, until `over`.
fn sleep_as(page: &PoolPage, slot: u8, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        page.sleep(slot, false, Duration::from_secs(60), || over.load(Ordering::SeqCst));
    }
}

/// Runs `body` while the only thread of the worker in `slot` sleeps.
fn while_asleep<T>(page: &PoolPage, slot: u8, body: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| sleep_as(page, slot, &over));
        let result = body();
        over.store(true, Ordering::SeqCst);
        page.ring_all();
        result
    })
}

fn asleep(child: &HttpdChild) -> u32 {
    match child.recv() {
        (ToChild::Asleep { region }, fds) if fds.is_empty() => region,
        other => panic!("the pool is not asleep: {other:?}"),
    }
}

#[test]
fn a_pool_grows_by_one_when_a_child_says_that_lanes_wait() {
    let s = elastic(0, 2, "");
    let mut child = s.child(1);
    child.attach("main", 1);
    assert_eq!(child.expect_up().slot, 0);
    // Of a region that there is not: nothing.
    child.send(&ToSupervisor::Wanted { region: 7 });
    child.send(&ToSupervisor::Wanted { region: 1 });
    assert_eq!(child.expect_up().slot, 1);
    // There are as many as there may be: another child learns of two.
    child.send(&ToSupervisor::Wanted { region: 1 });
    let mut other = s.child(1);
    other.attach("main", 1);
    assert_eq!((other.expect_up().slot, other.expect_up().slot), (0, 1));
    child.send(&ToSupervisor::Detach { region: 1 });
    child.attach("second", 1);
    assert_eq!(child.expect_up().region, 1, "nothing came in between");
}

#[test]
fn a_pool_without_work_sleeps_and_wakes_with_the_next_region() {
    let mut s = elastic(0, 2, "");
    let mut child = s.child(1);
    let page = child.attach("main", 1);
    let first = child.expect_up();
    while_asleep(&page, 0, || {
        s.log.expect(&["is asked to end"]);
        s.log.expect(&["drain "]);
        assert_eq!(child.expect_down().0, 1);
        assert_eq!(asleep(&child), 1);
    });
    s.log.expect(&["VIV0017", "default/main sleeps"]);
    // It may still say what it says of a region that it has lost.
    child.send(&ToSupervisor::Wanted { region: 1 });
    child.send(&ToSupervisor::Detach { region: 1 });
    child.attach("main", 2);
    let second = child.expect_up();
    assert!(second.region == 2 && second.pid != first.pid);
}

#[test]
fn who_comes_while_the_last_worker_leaves_gets_another_one() {
    let mut s = elastic(0, 1, "stubborn");
    let mut child = s.child(1);
    let page = child.attach("main", 1);
    let first = child.expect_up();
    while_asleep(&page, 0, || {
        s.log.expect(&["drain "]);
    });
    // It has not gone yet, and has the pool's only slot.
    child.send(&ToSupervisor::Wanted { region: 1 });
    let mut other = s.child(1);
    other.attach("main", 1);
    rustix::process::pidfd_send_signal(&first.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(child.expect_down().0, 1);
    let second = child.expect_up();
    assert!(second.region == 1 && second.pid != first.pid, "the same region, no sleep between");
    assert_eq!(other.expect_down().0, 1);
    assert_eq!(other.expect_up().pid, second.pid);
}

#[test]
fn the_least_number_stays() {
    let s = elastic(1, 2, "");
    let mut child = s.child(1);
    let page = child.attach("main", 1);
    child.expect_up();
    child.send(&ToSupervisor::Wanted { region: 1 });
    assert_eq!(child.expect_up().slot, 1);
    while_asleep(&page, 0, || {
        while_asleep(&page, 1, || {
            let (region, slot, ..) = child.expect_down();
            assert_eq!((region, slot), (1, 1), "the last one that came");
        });
        // And it may come again.
        child.send(&ToSupervisor::Wanted { region: 1 });
        assert_eq!(child.expect_up().slot, 1);
    });
}
