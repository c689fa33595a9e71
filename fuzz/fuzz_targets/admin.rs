//! The socket of `vivarium reload` and `vivarium status`, both ways: what the supervisor takes for a request, and what the
//! command takes for an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vivarium_protocol::codec;
use vivarium_supervisor::admin::{Answer, Request};

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = Request::read(bytes) {
        assert!(bytes.len() <= Request::LONGEST, "a request is short");
        let again = codec::encode(&request).expect("what was read can be written");
        assert_eq!(Request::read(&again), Some(request));
    }
    if let Ok(answer) = codec::decode::<Answer>(bytes) {
        let again = codec::encode(&answer).expect("what was read can be written");
        assert_eq!(codec::decode::<Answer>(&again).expect("and read"), answer);
    }
});
