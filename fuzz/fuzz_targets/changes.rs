//! Lists of changes: whatever is accepted is allowed, and written again gives the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vivarium_protocol::fields::Value;
use vivarium_protocol::message::Change;
use vivarium_protocol::wire::{Reader, Writer};

fuzz_target!(|bytes: &[u8]| {
    let mut r = Reader::new(bytes);
    let mut start = 0;
    while let Ok(Some(change)) = Change::read(&mut r) {
        match change {
            Change::Field(field, ref value) => {
                assert!(field.row().writable);
                let clean = |value: &Value<'_>| !matches!(value, Value::Str(s) if s.contains(&0));
                assert!(match value {
                    Value::Tuple(items) => items.iter().all(clean),
                    one => clean(one),
                });
            }
            Change::Set(_, key, value) | Change::Add(_, key, value) => {
                assert!(!key.contains(&0) && !value.contains(&0));
            }
            _ => {}
        }
        let mut again = Vec::new();
        change.write(&mut Writer::new(&mut again));
        assert_eq!(again, bytes[start..r.position()]);
        start = r.position();
    }
});
