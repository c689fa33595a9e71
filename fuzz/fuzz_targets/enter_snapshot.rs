//! `Enter` with what lies in it: the snapshot with its fields and tables, and the connection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vivarium_protocol::codec;
use vivarium_protocol::fields::FIELDS;
use vivarium_protocol::message::{ConnectionInfo, Enter, Snapshot, write_enter_head};
use vivarium_protocol::table::read_table;
use vivarium_protocol::wire::{Reader, Writer};

fn snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::read(bytes) {
        assert_eq!(snapshot.fields.len(), FIELDS.len());
        for table in snapshot.tables {
            let _ = read_table(&mut Reader::new(table));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    snapshot(bytes);
    let Ok(enter) = Enter::read(bytes) else { return };
    snapshot(enter.snapshot);
    let _ = codec::decode::<ConnectionInfo>(enter.connection);
    // Written again it is read the same. (Unknown flag bits of a handler are dropped.)
    let mut again = Vec::new();
    let mut w = Writer::new(&mut again);
    let (handlers, filter) = (&enter.handlers[..], enter.filter);
    write_enter_head(
        &mut w,
        enter.phase,
        enter.flags,
        enter.tree,
        handlers,
        filter,
        enter.extension,
    );
    w.bytes(enter.snapshot);
    w.bytes(enter.connection);
    let second = Enter::read(&again).expect("what was written can be read");
    assert_eq!(second.handlers, enter.handlers);
    assert_eq!((second.snapshot, second.connection), (enter.snapshot, enter.connection));
});
