//! Frame headers: whatever is accepted is within the limits and encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vivarium_protocol::frame::{HEADER_LEN, Header, MAX_DEPTH};

fuzz_target!(|input: ([u8; HEADER_LEN], bool, u32)| {
    let (bytes, from_host, conversation) = input;
    if let Ok(header) = Header::decode(&bytes, from_host, conversation) {
        assert_eq!(header.encode(), bytes);
        assert!(header.len as usize <= header.kind.max_len());
        assert!((1..=MAX_DEPTH).contains(&header.depth));
        assert_eq!((header.kind.from_host(), header.conversation), (from_host, conversation));
    }
});
