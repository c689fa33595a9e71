//! Tables and field values: whatever is accepted gives the same bytes when it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vivarium_protocol::fields::Value;
use vivarium_protocol::table::{MAX_PAIRS, read_table, write_table};
use vivarium_protocol::wire::{Reader, Writer};

fuzz_target!(|bytes: &[u8]| {
    let mut r = Reader::new(bytes);
    if let Ok(pairs) = read_table(&mut r) {
        assert!(pairs.len() <= MAX_PAIRS as usize);
        let mut again = Vec::new();
        write_table(&mut Writer::new(&mut again), pairs.into_iter());
        assert_eq!(again, bytes[..r.position()]);
    }
    let mut r = Reader::new(bytes);
    if let Ok(value) = Value::read(&mut r) {
        let mut again = Vec::new();
        value.write(&mut Writer::new(&mut again));
        assert_eq!(again, bytes[..r.position()]);
    }
});
