use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::mock::Rng;

const SMALL: Geometry = Geometry { lanes: 3, to_guest: 4096, to_host: 8192 };
const ME: Owner = Owner { slot: 5, epoch: 9 };
const OTHER: Owner = Owner { slot: 6, epoch: 9 };

fn region(lanes: u32) -> Region {
    Region::create(Geometry { lanes, to_guest: 4096, to_host: 4096 }).unwrap().0
}

#[test]
fn opened_region_is_the_created_one() {
    let (host, fd) = Region::create(SMALL).unwrap();
    let guest = Region::open(fd.as_fd()).unwrap();
    assert_eq!((host.geometry(), guest.geometry()), (SMALL, SMALL));
    host.offer(2, None);
    assert!(guest.any_ready(ME.slot));
    assert_eq!(guest.take(ME), Some(2));
    assert_eq!(host.claim(2), Claim::Claimed(ME));
    host.flags(1).store(FLAG_ABORTED, Ordering::Relaxed);
    assert_eq!(guest.flags(1).load(Ordering::Relaxed), FLAG_ABORTED);
    assert_eq!(guest.flags(0).load(Ordering::Relaxed), 0);
}

#[test]
fn no_two_words_of_a_region_share_a_place() {
    let (region, _fd) = Region::create(Geometry { lanes: MAX_LANES, ..SMALL }).unwrap();
    let mut places = HashSet::new();
    let mut put = |at: usize, len: usize| {
        assert!(at + len <= region.geometry.size());
        assert!(places.insert(at), "two things at {at}");
    };
    put(0, 24);
    for slot in std::iter::once(None).chain((0..MAX_WORKERS as u8).map(Some)) {
        for word in 0..WORDS {
            let at = std::ptr::from_ref(region.ready_word(slot, word)).addr();
            put(at - std::ptr::from_ref(region.mapping.u32(0)).addr(), 8);
        }
    }
    for lane in 0..MAX_LANES {
        let c = region.control(lane);
        for at in [
            CLAIM,
            FLAGS,
            HOST_WORD,
            GUEST_WORD,
            TO_GUEST_HEAD,
            TO_GUEST_TAIL,
            TO_HOST_HEAD,
            TO_HOST_TAIL,
        ] {
            assert!(at + 4 <= PAGE);
            put(c + at, 4);
        }
        put(c + PAGE, SMALL.to_guest as usize);
        put(c + PAGE + SMALL.to_guest as usize, SMALL.to_host as usize);
        assert!(c >= BITMAPS + BITMAPS_LEN && c + SMALL.stride() <= region.geometry.size());
    }
}

#[test]
fn every_wrong_header_field_is_refused() {
    type Check = fn(&RegionError) -> bool;
    let cases: [(usize, u32, Check); 10] = [
        (0, 0, |e| matches!(e, RegionError::Magic(_))),
        (4, 0, |e| matches!(e, RegionError::Magic(_))),
        (
            8,
            PROTOCOL_VERSION + 1,
            |e| matches!(e, RegionError::Version(v) if *v == PROTOCOL_VERSION + 1),
        ),
        (12, 0, |e| matches!(e, RegionError::Geometry(_))),
        (12, MAX_LANES + 1, |e| matches!(e, RegionError::Geometry(_))),
        (12, 2, |e| matches!(e, RegionError::Map(MapError::Size { .. }))),
        (16, 2048, |e| matches!(e, RegionError::Geometry(_))),
        (16, 5000, |e| matches!(e, RegionError::Geometry(_))),
        (20, 32 << 20, |e| matches!(e, RegionError::Geometry(_))),
        (20, 4096, |e| matches!(e, RegionError::Map(MapError::Size { .. }))),
    ];
    for (at, value, check) in cases {
        let (host, fd) = Region::create(SMALL).unwrap();
        host.mapping.u32(at).store(value, Ordering::Relaxed);
        let error = Region::open(fd.as_fd()).unwrap_err();
        assert!(check(&error), "word {at} = {value}: {error:?}");
        // Who has it mapped already does not care.
        assert_eq!(host.geometry(), SMALL);
        host.offer(2, None);
        assert_eq!(host.take(ME), Some(2));
    }
}

#[test]
fn memory_that_is_no_region_is_refused() {
    let (_, page) = crate::page::PoolPage::create().unwrap();
    assert!(matches!(
        Region::open(page.as_fd()).unwrap_err(),
        RegionError::Map(MapError::Size { .. })
    ));
    let (_, zeros) = Mapping::create(c"zeros", SMALL.size()).unwrap();
    assert!(matches!(Region::open(zeros.as_fd()).unwrap_err(), RegionError::Magic(0)));
    // One page more than its geometry says.
    let (big, fd) = Mapping::create(c"big", SMALL.size() + PAGE).unwrap();
    let (host, _) = Region::create(SMALL).unwrap();
    let mut head = [0; 64];
    host.mapping.copy_out(0, &mut head);
    big.copy_in(0, &head);
    let error = Region::open(fd.as_fd()).unwrap_err();
    assert!(matches!(error, RegionError::Map(MapError::Size { .. })), "{error}");
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(matches!(Region::open(file.as_fd()).unwrap_err(), RegionError::Map(_)));
}

#[test]
fn a_geometry_outside_the_limits_is_not_created() {
    for geometry in [
        Geometry { lanes: 0, ..SMALL },
        Geometry { lanes: MAX_LANES + 1, ..SMALL },
        Geometry { to_guest: 0, ..SMALL },
        Geometry { to_guest: 4097, ..SMALL },
        Geometry { to_host: 32 << 20, ..SMALL },
    ] {
        assert!(matches!(Region::create(geometry), Err(RegionError::Geometry(g)) if g == geometry));
    }
}

#[test]
fn a_lane_offered_to_one_goes_to_that_one() {
    let region = region(4);
    region.offer(1, Some(ME));
    assert!(!region.any_ready(OTHER.slot));
    assert_eq!(region.take(OTHER), None);
    // The next process of the same slot sees the bit, not the offer.
    assert_eq!(region.take(Owner { epoch: 10, ..ME }), None);
    assert_eq!(region.claim(1), Claim::Offered(Some(ME)));
    // The bit is gone now: httpd sets it again when it hears of that death.
    assert_eq!(region.take(ME), None);
    region.set_ready(1, Some(ME.slot));
    assert_eq!(region.take(ME), Some(1));
    region.release(1, ME);
    assert_eq!(region.claim(1), Claim::Released(ME));
    region.set_idle(1);
    assert_eq!(region.claim(1), Claim::Idle);
}

#[test]
fn a_bit_without_an_offer_is_ignored_and_goes_away() {
    let region = region(70);
    for word in 0..WORDS {
        // All bits, those of lanes that do not exist included.
        region.ready_word(None, word).store(u64::MAX, Ordering::Relaxed);
        region.ready_word(Some(ME.slot), word).store(u64::MAX, Ordering::Relaxed);
    }
    region.claim_word(3).store(0xdead_beef, Ordering::Relaxed);
    assert_eq!(region.take(ME), None);
    assert!(!region.any_ready(ME.slot), "bits that nobody may use stay and keep threads awake");
    assert_eq!(region.claim(3), Claim::Garbage(0xdead_beef));
}

#[test]
fn withdrawn_lanes_are_not_taken_and_taken_ones_not_withdrawn() {
    let region = region(4);
    region.offer(0, None);
    assert!(!region.withdraw(0, Some(ME)), "it was offered to all, not to one");
    assert!(region.withdraw(0, None));
    assert!(!region.withdraw(0, None));
    assert_eq!(region.take(ME), None);
    // Offered again, with the old bit and with none: both are found once.
    region.offer(0, None);
    region.set_ready(0, None);
    assert_eq!(region.take(OTHER), Some(0));
    assert_eq!(region.take(ME), None);
    assert!(!region.withdraw(0, None));
}

#[test]
fn no_lane_starves_while_others_come_back() {
    let region = region(130);
    for lane in 0..130 {
        region.offer(lane, None);
    }
    // Every lane that is taken is offered again at once; still every lane has its turn.
    let mut seen = HashSet::new();
    for _ in 0..130 {
        let lane = region.take(ME).unwrap();
        region.set_idle(lane);
        region.offer(lane, None);
        seen.insert(lane);
    }
    assert_eq!(seen.len(), 130);
}

#[test]
fn lanes_out_of_range_panic_instead_of_touching_another() {
    type Act = fn(&Region);
    let region = Arc::new(region(4));
    let acts: [(&str, Act); 6] = [
        ("offer", |r| r.offer(4, None)),
        ("offer to no slot", |r| r.offer(0, Some(Owner { slot: 64, epoch: 0 }))),
        ("set_ready", |r| r.set_ready(511, None)),
        ("flags", |r| _ = r.flags(4)),
        ("to_host", |r| _ = r.to_host(u32::MAX)),
        ("release", |r| r.release(5, ME)),
    ];
    for (what, act) in acts {
        let region = Arc::clone(&region);
        assert!(std::thread::spawn(move || act(&region)).join().is_err(), "{what}");
    }
}

/// Offers and withdrawals race with four takers: every offer ends exactly once, withdrawn or run.
#[test]
fn every_offer_is_run_once_or_withdrawn_once() {
    const ROUNDS: usize = 20_000;
    let region = Arc::new(region(2));
    let runs = AtomicUsize::new(0);
    let stop = crate::sync::AtomicU32::new(0);
    let mut withdrawn = 0;
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let (region, runs, stop) = (Arc::clone(&region), &runs, &stop);
            scope.spawn(move || {
                let me = Owner { slot: n, epoch: 1 };
                while stop.load(Ordering::Relaxed) == 0 {
                    match region.take(me) {
                        Some(lane) => {
                            runs.fetch_add(1, Ordering::Relaxed);
                            region.release(lane, me);
                        }
                        None => std::thread::yield_now(),
                    }
                }
            });
        }
        let mut rng = Rng::new(11);
        for round in 0..ROUNDS {
            let lane = (round % 2) as u32;
            let owner = Owner { slot: rng.below(4) as u8, epoch: 1 };
            let to = if rng.one_in(2) { Some(owner) } else { None };
            region.offer(lane, to);
            if rng.one_in(4) {
                std::thread::yield_now();
            }
            if rng.one_in(2) && region.withdraw(lane, to) {
                withdrawn += 1;
                continue;
            }
            while !matches!(region.claim(lane), Claim::Released(_)) {
                std::thread::yield_now();
            }
            region.set_idle(lane);
        }
        stop.store(1, Ordering::Relaxed);
    });
    assert_eq!(runs.load(Ordering::Relaxed) + withdrawn, ROUNDS);
    assert!(withdrawn > 0 && withdrawn < ROUNDS, "{withdrawn}");
}

#[test]
fn what_is_ones_own_is_taken_and_nothing_else() {
    let region = region(3);
    region.offer(0, None);
    region.offer(1, Some(OTHER));
    assert_eq!(region.take_own(ME), None);
    region.offer(2, Some(ME));
    assert_eq!(region.take_own(ME), Some(2));
    assert_eq!(region.claim(2), Claim::Claimed(ME));
    assert_eq!(region.take_own(ME), None);
    assert_eq!(region.take(ME), Some(0), "the common one is still there");
}
