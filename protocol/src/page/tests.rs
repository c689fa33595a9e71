use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32 as Count};

use super::*;
use crate::region::{Geometry, Owner, Region};
use crate::shm::MapError;
use crate::testing::{Watchdog, my_tid, wait_until_asleep};

/// So long that a lost wake-up shows as a hang, which the watchdog ends.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn opened_page_is_the_created_one() {
    let (mine, fd) = PoolPage::create().unwrap();
    let theirs = PoolPage::open(fd.as_fd()).unwrap();
    mine.ring_all();
    assert_eq!(theirs.bell().load(Ordering::Relaxed), 1);
    for slot in 0..MAX_WORKERS as u8 {
        mine.slot_sleepers(slot).store(u32::from(slot) + 1, Ordering::Relaxed);
    }
    for slot in 0..MAX_WORKERS as u8 {
        assert_eq!(theirs.slot_sleepers(slot).load(Ordering::Relaxed), u32::from(slot) + 1);
    }
    assert_eq!(theirs.sleepers().load(Ordering::Relaxed), 0);
}

#[test]
fn pages_with_a_wrong_header_are_refused() {
    let (page, fd) = PoolPage::create().unwrap();
    page.mapping.u32(8).store(PROTOCOL_VERSION + 1, Ordering::Relaxed);
    assert!(matches!(PoolPage::open(fd.as_fd()), Err(RegionError::Version(_))));
    page.mapping.u64(0).store(1, Ordering::Relaxed);
    assert!(matches!(PoolPage::open(fd.as_fd()), Err(RegionError::Magic(1))));
    let (_region, fd) = Region::create(Geometry::default()).unwrap();
    let error = PoolPage::open(fd.as_fd()).unwrap_err();
    assert!(matches!(error, RegionError::Map(MapError::Size { .. })), "{error}");
}

#[test]
fn ringing_costs_nothing_when_nobody_sleeps() {
    let (page, _fd) = PoolPage::create().unwrap();
    assert!(!page.ring(None));
    assert!(!page.ring(Some(3)));
    assert_eq!(page.bell().load(Ordering::Relaxed), 0);
    // Who finds something on the last look does not sleep, and is counted out again.
    page.sleep(3, false, LONG, || true);
    assert!(!page.ring(None));
}

#[test]
fn a_bell_that_rang_during_the_last_look_is_not_slept_through() {
    let _dog = Watchdog::new("page: ring in the last look");
    let (page, _fd) = PoolPage::create().unwrap();
    page.sleep(3, false, LONG, || {
        assert!(page.ring(Some(3)), "it is announced by now");
        false
    });
    page.sleep(3, false, LONG, || {
        page.ring_all();
        false
    });
}

#[test]
fn nobody_is_woken_while_somebody_looks() {
    let (page, _fd) = PoolPage::create().unwrap();
    page.doorbell().prepare(page.slot_sleepers(3));
    page.look_begin(5);
    assert!(!page.ring(None), "a thread of slot 5 looks");
    assert!(page.ring(Some(3)), "but may not take what is for slot 3");
    assert!(page.ring_anyhow(None));
    assert!(page.ring_idle_worker(), "slot 3 sleeps, and nobody looks there");
    page.look_begin(3);
    assert!(!page.ring(Some(3)) && !page.ring_idle_worker());
    page.look_end(3);
    page.look_end(5);
    assert!(page.ring(None));
    // A worker that dies with a promise on its lips.
    page.look_begin(5);
    page.forget(5);
    assert_eq!((page.looking(), page.looking_in(5)), (0, 0));
    assert!(page.ring(None));
}

#[test]
fn a_dead_worker_is_taken_off_the_count() {
    let (page, _fd) = PoolPage::create().unwrap();
    // Two threads of slot 2 die while they sleep; one of slot 4 lives.
    for slot in [2, 2, 4] {
        page.doorbell().prepare(page.slot_sleepers(slot));
    }
    page.forget(2);
    assert!(!page.ring(Some(2)));
    assert!(page.ring(Some(4)) && page.ring(None));
    page.forget(4);
    assert!(!page.ring(None));
}

/// Threads of several slots sleep; lanes are offered one after the other, to all or to one slot; each offer is served
/// although nobody looks without being rung.
#[test]
fn every_offer_wakes_somebody_who_may_take_it() {
    let _dog = Watchdog::new("page: offers");
    let (page, _fd) = PoolPage::create().unwrap();
    let (region, _rfd) =
        Region::create(Geometry { lanes: 4, to_guest: 4096, to_host: 4096 }).unwrap();
    let (stop, served) = (AtomicBool::new(false), Count::new(0));
    // 3 and 34 share a bit of the mask.
    let slots = [3, 34, 40];
    std::thread::scope(|scope| {
        for slot in slots {
            let (page, region, stop, served) = (&page, &region, &stop, &served);
            scope.spawn(move || {
                let me = Owner { slot, epoch: 1 };
                while !stop.load(Ordering::Acquire) {
                    if let Some(lane) = region.take(me) {
                        region.release(lane, me);
                        served.fetch_add(1, Ordering::Release);
                        if region.any_ready(slot) {
                            page.ring(None);
                        }
                    } else {
                        let ready = || stop.load(Ordering::Acquire) || region.any_ready(slot);
                        page.sleep(slot, slot == 40, LONG, ready);
                    }
                }
            });
        }
        let mut rng = crate::mock::Rng::new(5);
        for round in 0..3000_u32 {
            let to = match rng.below(4) {
                3 => None,
                n => Some(Owner { slot: slots[n], epoch: 1 }),
            };
            region.offer(round % 4, to);
            page.ring(to.map(|o| o.slot));
            while served.load(Ordering::Acquire) <= round {
                std::thread::yield_now();
            }
            region.set_idle(round % 4);
        }
        stop.store(true, Ordering::Release);
        page.ring_all();
    });
    assert_eq!(page.sleepers().load(Ordering::Relaxed), 0);
}

#[test]
fn a_ring_for_one_slot_wakes_it_though_another_shares_its_bit() {
    let _dog = Watchdog::new("page: shared bit");
    for (first, second) in [(3, 34), (34, 3)] {
        let page = Arc::new(PoolPage::create().unwrap().0);
        let woken = Arc::new(Count::new(0));
        let sleeper = |slot: u8| {
            let (page, woken) = (Arc::clone(&page), Arc::clone(&woken));
            let tid = Arc::new(AtomicI32::new(0));
            let its = Arc::clone(&tid);
            let thread = std::thread::spawn(move || {
                page.sleep(slot, slot == 40, LONG, || {
                    its.store(my_tid(), Ordering::Release);
                    false
                });
                woken.fetch_or(1 << (slot / 32), Ordering::Release);
            });
            while tid.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            wait_until_asleep(tid.load(Ordering::Acquire));
            thread
        };
        // The one that is not meant lies down first: a wake of one would find it at the head of the queue.
        let other = sleeper(second);
        let meant = sleeper(first);
        assert!(page.ring(Some(first)));
        meant.join().unwrap();
        assert!(woken.load(Ordering::Acquire) & (1 << (first / 32)) != 0);
        page.ring_all();
        other.join().unwrap();
    }
}

#[test]
fn a_slots_activity_is_its_own() {
    let (page, _fd) = PoolPage::create().unwrap();
    let before = page.taken();
    page.count_taken(3);
    page.count_taken(3);
    page.count_taken(4);
    assert_eq!((page.activity(3), page.activity(4), page.activity(5)), ((2, 0), (1, 0), (0, 0)));
    assert_eq!(page.taken().wrapping_sub(before), 3);
    page.sleep(4, false, Duration::from_secs(60), || {
        assert_eq!(page.activity(4), (1, 1), "it is about to sleep");
        true
    });
    assert_eq!(page.activity(4), (1, 0));
}
