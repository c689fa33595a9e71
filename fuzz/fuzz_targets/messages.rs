//! Calls, replies, `Leave`, start-up data and configuration trees: whatever is accepted is read the same after it was written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use vivarium_protocol::codec;
use vivarium_protocol::message::{Call, ConfigNode, Leave, Reply, Startup};

/// Reads and writes; what was written, if the bytes were a message.
fn rewritten<'a, T: Serialize + Deserialize<'a>>(bytes: &'a [u8]) -> Option<Vec<u8>> {
    let message = codec::decode::<T>(bytes).ok()?;
    Some(codec::encode(&message).expect("what was read can be written"))
}

/// A reply may hold a NaN: the bytes are compared, not the values.
fn check(bytes: &[u8], rewrite: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    if let Some(once) = rewrite(bytes) {
        assert_eq!(rewrite(&once).expect("what was written can be read"), once);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 5 {
        0 => check(bytes, |b| rewritten::<Call<'_>>(b)),
        1 => check(bytes, |b| rewritten::<Reply<'_>>(b)),
        2 => check(bytes, |b| rewritten::<Leave>(b)),
        3 => check(bytes, |b| rewritten::<Startup>(b)),
        _ => check(bytes, |b| rewritten::<Vec<ConfigNode>>(b)),
    }
});
