//! Packets on the supervisor's sockets: whatever is accepted is read equal after it was written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vivarium_protocol::codec;
use vivarium_protocol::control::{FromParent, FromWorker, ToChild, ToSupervisor, ToWorker};

fn twice<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = codec::decode::<T>(bytes) {
        let again = codec::encode(&message).expect("what was read can be written");
        assert_eq!(codec::decode::<T>(&again).expect("and read"), message);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 5 {
        0 => twice::<ToSupervisor>(bytes),
        1 => twice::<ToChild>(bytes),
        2 => twice::<ToWorker>(bytes),
        3 => twice::<FromWorker>(bytes),
        _ => twice::<FromParent>(bytes),
    }
});
