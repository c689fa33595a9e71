//! Hostile bytes for every decoder: no panic, and never more memory than a small multiple of the bytes that came.

mod common;
mod counting;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use vivarium_protocol::codec;
use vivarium_protocol::control::{FromParent, FromWorker, ToChild, ToSupervisor, ToWorker};
use vivarium_protocol::fields::Value;
use vivarium_protocol::message::{
    Call, Change, ConfigNode, ConnectionInfo, Enter, Leave, Reply, ServerInfo, Snapshot, Startup,
};
use vivarium_protocol::mock::{Rng, lying_payload};
use vivarium_protocol::table::read_table;
use vivarium_protocol::wire::{Reader, Writer};

use crate::counting::peak_of;

/// What decoding may take for bytes that httpd or the supervisor gets from somebody it does not trust.
fn most(len: usize) -> usize {
    8192 + 128 * len
}
/// What the worker's side may take on top: serde's cautious first guess at a list, once for each level of nesting.
const GUESS: usize = 2 << 20;
/// Messages with owned lists, which only httpd sends.
const FROM_HTTPD: &[&str] = &["Reply", "ConnectionInfo", "ServerInfo", "Startup", "ConfigNode"];

type Decoder = fn(&[u8]) -> bool;

/// Every decoder of the crate; true if it took the bytes.
const DECODERS: &[(&str, Decoder)] = &[
    ("Enter", |b| Enter::read(b).is_ok()),
    ("Snapshot", |b| Snapshot::read(b).is_ok()),
    ("Value", |b| {
        let read = Value::read(&mut Reader::new(b)).is_ok();
        assert_eq!(Value::skip(&mut Reader::new(b)).is_ok(), read);
        read
    }),
    ("table", |b| read_table(&mut Reader::new(b)).is_ok()),
    ("Changes", |b| {
        let mut r = Reader::new(b);
        loop {
            match Change::read(&mut r) {
                Ok(Some(_)) => {}
                end => return end.is_ok(),
            }
        }
    }),
    ("Call", |b| codec::decode::<Call<'_>>(b).is_ok()),
    ("Reply", |b| codec::decode::<Reply<'_>>(b).is_ok()),
    ("Leave", |b| codec::decode::<Leave>(b).is_ok()),
    ("ConnectionInfo", |b| codec::decode::<ConnectionInfo>(b).is_ok()),
    ("ServerInfo", |b| codec::decode::<ServerInfo>(b).is_ok()),
    ("Startup", |b| codec::decode::<Startup>(b).is_ok()),
    ("ConfigNode", |b| codec::decode::<Vec<ConfigNode>>(b).is_ok()),
    ("ToSupervisor", |b| codec::decode::<ToSupervisor>(b).is_ok()),
    ("ToChild", |b| codec::decode::<ToChild>(b).is_ok()),
    ("ToWorker", |b| codec::decode::<ToWorker>(b).is_ok()),
    ("FromWorker", |b| codec::decode::<FromWorker>(b).is_ok()),
    ("FromParent", |b| codec::decode::<FromParent>(b).is_ok()),
];

fn run_all(bytes: &[u8]) {
    for (name, decoder) in DECODERS {
        let (_, peak) = peak_of(|| decoder(bytes));
        let guess = if FROM_HTTPD.contains(name) { GUESS } else { 0 };
        let most = guess + most(bytes.len());
        assert!(peak <= most, "{name}: {peak} bytes for {} bytes {bytes:02x?}", bytes.len());
    }
}

/// A well-formed message and a place in it where a lie goes.
fn spoiled(mut bytes: Vec<u8>, at: usize, lie: u32, how: u8) -> Vec<u8> {
    let at = at % bytes.len().max(1);
    match how % 4 {
        0 => bytes.truncate(at),
        1 => bytes.splice(at..at, lie.to_le_bytes()).for_each(drop),
        2 if bytes.len() >= at + 4 => bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes()),
        _ => {
            // A varint that promises 2^32 or 2^64 items.
            let varint = [
                [252, 255, 255, 255, 255, 0, 0, 0, 0],
                [253, 255, 255, 255, 255, 255, 255, 255, 127],
            ];
            bytes.splice(at..at, varint[usize::from(how / 4 % 2)]).for_each(drop);
        }
    }
    bytes
}

fn encoded<T: Serialize + std::fmt::Debug>(
    s: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<u8>> {
    s.prop_map(|value| codec::encode(&value).unwrap())
}

fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        encoded(common::call()),
        encoded(common::reply()),
        encoded(common::leave()),
        encoded(common::connection()),
        encoded(common::server()),
        encoded(common::startup()),
        encoded(common::config()),
        encoded(common::to_supervisor()),
        encoded(common::to_child()),
        encoded(common::to_worker()),
        encoded(common::from_worker()),
        encoded(common::from_parent()),
        vec(common::change(), 0..5).prop_map(|list| {
            let mut out = Vec::new();
            for change in list {
                change.write(&mut Writer::new(&mut out));
            }
            out
        }),
        common::value().prop_map(|value| {
            let mut out = Vec::new();
            value.write(&mut Writer::new(&mut out));
            out
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn noise(bytes in vec(any::<u8>(), 0..300)) {
        run_all(&bytes);
    }

    #[test]
    fn small_numbers(bytes in vec(0..6_u8, 0..300)) {
        // Noise of small bytes goes further: variants and lengths that exist.
        run_all(&bytes);
    }

    #[test]
    fn true_messages_with_a_lie(bytes in well_formed(), at in any::<usize>(), lie in any::<u32>(), how in any::<u8>()) {
        run_all(&bytes);
        run_all(&spoiled(bytes, at, lie, how));
    }
}

#[test]
fn what_the_mock_peer_says() {
    let mut rng = Rng::new(42);
    let mut taken = [0_usize; 2];
    for _ in 0..4000 {
        let (_, payload) = lying_payload(&mut rng);
        run_all(&payload);
        taken[0] += usize::from(codec::decode::<Call<'_>>(&payload).is_ok());
        taken[1] += usize::from(DECODERS[4].1(&payload));
    }
    assert!(taken.iter().all(|n| *n > 300 && *n < 3700), "the mock does not lie well: {taken:?}");
}

#[test]
fn promises_of_gigabytes_cost_nothing() {
    for lie in [1 << 16, 1 << 20, 1 << 31, u32::MAX - 1, u32::MAX] {
        for len in [4, 8, 64, 4096] {
            let bytes: Vec<u8> = lie.to_le_bytes().into_iter().cycle().take(len).collect();
            run_all(&bytes);
        }
    }
    for first in 0..=255 {
        for marker in [251, 252, 253] {
            let mut bytes = vec![255; 64];
            (bytes[0], bytes[1]) = (first, marker);
            run_all(&bytes);
        }
    }
}

#[test]
fn the_counter_counts() {
    let (v, peak) = peak_of(|| vec![0_u8; 5 << 20].len());
    assert!(v == 5 << 20 && (5 << 20..6 << 20).contains(&peak), "{peak}");
}
