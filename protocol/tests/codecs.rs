//! Every decoder: what was written is read back equal, nothing may follow it, no prefix of it is enough, and no bytes
//! whatsoever make it panic.

mod common;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use vivarium_protocol::codec::{self, CodecError, MAX_MESSAGE};
use vivarium_protocol::fields::{FIELDS, FINFO_ITEMS, FINFO_TEXTS, Field, Type, Value, When};
use vivarium_protocol::frame::{HEADER_LEN, Header, HeaderError, Kind, MAX_DEPTH};
use vivarium_protocol::message::{
    Change, ConfigNode, Enter, FilterRef, HandlerRef, MAX_NESTING, Phase, SNAPSHOT_TABLES,
    Snapshot, TableId, Then, write_enter_head, write_snapshot_fields, write_snapshot_head,
};
use vivarium_protocol::table::{MAX_PAIRS, read_table, same_key, write_table};
use vivarium_protocol::wire::{Reader, Writer};

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    out
}

/// The rules for a message that goes through bincode.
fn serde_rules<'a, T>(value: &T, bytes: &'a mut Vec<u8>) -> Result<(), TestCaseError>
where
    T: Serialize + Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    *bytes = codec::encode(value).unwrap();
    let len = bytes.len();
    bytes.push(0);
    let bytes = &*bytes;
    prop_assert_eq!(&codec::decode::<T>(&bytes[..len]).unwrap(), value);
    prop_assert!(matches!(codec::decode::<T>(bytes), Err(CodecError::Trailing(1))));
    for cut in 0..len {
        prop_assert!(codec::decode::<T>(&bytes[..cut]).is_err(), "{} of {} bytes", cut, len);
    }
    Ok(())
}

macro_rules! serde_round_trips {
    ($($name:ident: $strategy:expr;)*) => {
        proptest! {
            $(#[test]
            fn $name(value in $strategy) {
                let mut bytes = Vec::new();
                serde_rules(&value, &mut bytes)?;
            })*
        }
    };
}

serde_round_trips! {
    calls: common::call();
    replies: common::reply();
    leaves: common::leave();
    connections: common::connection();
    servers: common::server();
    startups: common::startup();
    configurations: common::config();
    packets_to_the_supervisor: common::to_supervisor();
    packets_to_a_child: common::to_child();
    packets_to_a_worker: common::to_worker();
    packets_from_a_worker: common::from_worker();
    packets_from_the_parent: common::from_parent();
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Enter),
        Just(Kind::Reply),
        Just(Kind::Data),
        Just(Kind::Leave),
        Just(Kind::Call),
        Just(Kind::Changes),
        Just(Kind::Body),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    (kind(), any::<u32>(), any::<u8>(), 1..=MAX_DEPTH, any::<u32>(), any::<u32>()).prop_map(
        |(kind, len, flags, depth, conversation, rid)| {
            let len = len % (kind.max_len() as u32 + 1);
            Header { len, kind, flags, depth, conversation, rid }
        },
    )
}

fn handler() -> impl Strategy<Value = HandlerRef<'static>> {
    (common::bytes(), option::of(common::bytes()), any::<bool>(), any::<bool>()).prop_map(
        |(name, directory, silent, is_location)| HandlerRef {
            name,
            directory,
            silent,
            is_location,
        },
    )
}

fn pairs() -> impl Strategy<Value = Vec<(&'static [u8], &'static [u8])>> {
    vec((common::bytes(), common::bytes()), 0..12)
}

fn phase() -> impl Strategy<Value = Phase> {
    (0..=255_u8).prop_filter_map("no phase", Phase::from_u8)
}

proptest! {
    #[test]
    fn headers(header in header()) {
        let bytes = header.encode();
        let from_host = header.kind.from_host();
        let conversation = header.conversation;
        prop_assert_eq!(Header::decode(&bytes, from_host, conversation), Ok(header));
        let wrong_side = Header::decode(&bytes, !from_host, conversation);
        prop_assert_eq!(wrong_side, Err(HeaderError::Kind(bytes[4])));
        let late = Header::decode(&bytes, from_host, conversation ^ 1);
        let theirs = conversation;
        prop_assert_eq!(late, Err(HeaderError::Conversation { ours: theirs ^ 1, theirs }));
    }

    #[test]
    fn header_lies_one_field_at_a_time(header in header(), over in any::<u32>(), depth in any::<u16>()) {
        let good = header.encode();
        let decode = |b: &[u8; HEADER_LEN]| Header::decode(b, header.kind.from_host(), header.conversation);
        let mut long = good;
        let len = over.max(header.kind.max_len() as u32 + 1);
        long[0..4].copy_from_slice(&len.to_le_bytes());
        prop_assert_eq!(decode(&long), Err(HeaderError::Length { kind: header.kind, len }));
        let mut deep = good;
        deep[6..8].copy_from_slice(&depth.to_le_bytes());
        let fits = (1..=MAX_DEPTH).contains(&depth);
        prop_assert_eq!(decode(&deep), if fits { Ok(Header { depth, ..header }) } else { Err(HeaderError::Depth(depth)) });
    }

    #[test]
    fn header_noise(bytes in any::<[u8; HEADER_LEN]>(), from_host in any::<bool>(), conversation in any::<u32>()) {
        if let Ok(header) = Header::decode(&bytes, from_host, conversation) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn values(value in common::value()) {
        let bytes = written(|w| value.write(w));
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(Value::read(&mut r), Ok(value));
        prop_assert!(r.finish().is_ok());
        for cut in 0..=bytes.len() {
            let (mut read, mut skipped) = (Reader::new(&bytes[..cut]), Reader::new(&bytes[..cut]));
            let read = Value::read(&mut read).map(|_| read.position());
            prop_assert_eq!(read.is_ok(), cut == bytes.len());
            prop_assert_eq!(Value::skip(&mut skipped).map(|()| skipped.position()), read);
        }
    }

    #[test]
    fn changes(list in vec(common::change(), 0..8)) {
        let bytes = written(|w| list.iter().for_each(|c| c.write(w)));
        let mut r = Reader::new(&bytes);
        let mut got = Vec::new();
        while let Some(change) = Change::read(&mut r).unwrap() {
            got.push(change);
        }
        prop_assert_eq!(&got, &list);
        // Every cut ends either between two changes or in an error.
        for cut in 0..bytes.len() {
            let mut r = Reader::new(&bytes[..cut]);
            let mut whole = 0;
            while let Ok(Some(change)) = Change::read(&mut r) {
                prop_assert_eq!(&change, &list[whole]);
                whole += 1;
            }
            prop_assert!(whole < list.len());
        }
    }

    #[test]
    fn tables(pairs in pairs()) {
        let bytes = written(|w| write_table(w, pairs.iter().copied()));
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(read_table(&mut r), Ok(pairs));
        prop_assert!(r.finish().is_ok());
        for cut in 0..bytes.len() {
            prop_assert!(read_table(&mut Reader::new(&bytes[..cut])).is_err());
        }
    }

    #[test]
    fn enters(
        phase in phase(), flags in any::<u8>(), tree in any::<u64>(), handlers in vec(handler(), 0..5),
        filter in option::of((any::<u32>(), common::bytes(), any::<(bool, bool)>(), common::bytes(), 0..3_u8)),
        extension in option::of(common::bytes()), sections in (common::bytes(), common::bytes()),
    ) {
        let filter = filter.map(|(id, name, (is_input, is_sync), ahead, then)| {
            let then = [Then::Ask, Then::Nothing, Then::End][then as usize];
            FilterRef { id, name, is_input, is_sync, ahead, then }
        });
        let mut bytes = Vec::new();
        let mut w = Writer::new(&mut bytes);
        write_enter_head(&mut w, phase, flags, tree, &handlers, filter, extension);
        let start = w.begin_section();
        sections.0.iter().for_each(|b| w.u8(*b));
        w.end_section(start);
        w.bytes(sections.1);
        let enter = Enter::read(&bytes).unwrap();
        prop_assert_eq!((enter.phase, enter.flags, enter.tree), (phase, flags, tree));
        prop_assert_eq!((enter.handlers, enter.filter, enter.extension), (handlers, filter, extension));
        prop_assert_eq!((enter.snapshot, enter.connection), sections);
        for cut in 0..bytes.len() {
            prop_assert!(Enter::read(&bytes[..cut]).is_err());
        }
        bytes.push(0);
        prop_assert_eq!(Enter::read(&bytes).unwrap_err().what, "end");
    }

    #[test]
    fn snapshots(
        rids in any::<[Option<u32>; 3]>(), server in any::<u32>(),
        values in vec(common::value(), FIELDS.len()), tables in vec(common::bytes(), SNAPSHOT_TABLES.len()),
    ) {
        // The number that says "none" cannot be a request's.
        let rids = rids.map(|rid| rid.filter(|n| *n != u32::MAX));
        let mut bytes = Vec::new();
        let mut w = Writer::new(&mut bytes);
        write_snapshot_head(&mut w, rids[0], rids[1], rids[2], server);
        write_snapshot_fields(&mut w, |field| values[field as usize].clone());
        for table in &tables {
            w.bytes(table);
        }
        let got = Snapshot::read(&bytes).unwrap();
        let back = [got.prev, got.next, got.main].map(|rid| Some(rid).filter(|n| *n != u32::MAX));
        prop_assert_eq!((back, got.server), (rids, server));
        for (row, value) in FIELDS.iter().zip(&got.fields) {
            let sent = &values[row.field as usize];
            prop_assert_eq!(value, if row.when == When::Asked { &Value::None } else { sent });
        }
        prop_assert_eq!(&got.tables[..], &tables[..]);
        for cut in (0..bytes.len()).step_by(7) {
            prop_assert!(Snapshot::read(&bytes[..cut]).is_err());
        }
        bytes.push(0);
        prop_assert_eq!(Snapshot::read(&bytes).unwrap_err().what, "end");
    }

    #[test]
    fn wire_items(n in any::<u64>(), f in any::<f64>(), s in option::of(common::bytes())) {
        let bytes = written(|w| {
            w.u8(n as u8);
            w.u16(n as u16);
            w.u32(n as u32);
            w.u64(n);
            w.i64(n as i64);
            w.f64(f);
            w.opt_bytes(s);
        });
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(r.u8("").unwrap(), n as u8);
        prop_assert_eq!(r.u16("").unwrap(), n as u16);
        prop_assert_eq!(r.u32("").unwrap(), n as u32);
        prop_assert_eq!(r.u64("").unwrap(), n);
        prop_assert_eq!(r.i64("").unwrap(), n as i64);
        prop_assert_eq!(r.f64("").unwrap().to_bits(), f.to_bits());
        let mut strict = r;
        prop_assert_eq!(r.opt_bytes("").unwrap(), s);
        prop_assert_eq!(strict.bytes("text").ok(), s);
        prop_assert!(r.finish().is_ok());
    }
}

#[test]
fn numbers_name_one_thing_each() {
    let phases: Vec<u8> = (0..=255).filter(|n| Phase::from_u8(*n).is_some()).collect();
    // Without a gap: a number that was given away is not taken back.
    assert!(phases.len() >= 20 && phases.iter().zip(1..).all(|(n, i)| *n == i), "{phases:?}");
    for n in phases {
        let phase = Phase::from_u8(n).unwrap();
        assert_eq!(phase as u8, n);
        assert!(!phase.directive().is_empty());
    }
    for n in 0..=255 {
        assert_eq!(
            Field::from_u8(n).map(|f| f as u8),
            (usize::from(n) < FIELDS.len()).then_some(n)
        );
    }
    for row in FIELDS {
        assert_eq!(row.field.row().name, row.name);
    }
    let mut names: Vec<_> = FIELDS.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FIELDS.len());
    assert!(same_key(b"Content-Type", b"content-tYPE") && !same_key(b"a", b"ab"));
}

#[test]
fn changes_that_are_not_allowed_are_refused() {
    for row in FIELDS {
        for value in [Value::None, Value::Int(3), Value::Str(b"x"), Value::Tuple(vec![])] {
            let bytes = written(|w| Change::Field(row.field, value.clone()).write(w));
            let fits = matches!(
                (row.kind, &value),
                (Type::Int | Type::Seconds, Value::Int(_))
                    | (Type::OptStr, Value::None | Value::Str(_))
                    | (Type::Str, Value::Str(_))
            );
            let read = Change::read(&mut Reader::new(&bytes));
            assert_eq!(read.is_ok(), row.writable && fits, "{} = {value:?}", row.name);
        }
    }
    let finfo = |at: usize, value| {
        let mut items = vec![Value::None; FINFO_ITEMS];
        items[at] = value;
        let bytes = written(|w| Change::Field(Field::Finfo, Value::Tuple(items)).write(w));
        Change::read(&mut Reader::new(&bytes)).is_ok()
    };
    for at in 0..FINFO_ITEMS {
        assert!(finfo(at, Value::None));
        assert_eq!(finfo(at, Value::Int(-1)), !FINFO_TEXTS.contains(&at), "{at}");
        assert_eq!(finfo(at, Value::Str(b"/srv")), FINFO_TEXTS.contains(&at), "{at}");
        assert!(!finfo(at, Value::Str(b"/srv\0/etc")), "{at}");
    }
    for count in [FINFO_ITEMS - 1, FINFO_ITEMS + 1] {
        let items = Value::Tuple(vec![Value::None; count]);
        let bytes = written(|w| Change::Field(Field::Finfo, items).write(w));
        assert!(Change::read(&mut Reader::new(&bytes)).is_err(), "{count}");
    }
    for change in [
        Change::Field(Field::Filename, Value::Str(b"/srv/a\0/etc")),
        Change::Set(TableId::Notes, b"a\0b", b"c"),
        Change::Set(TableId::Notes, b"a", b"b\0c"),
        Change::Add(TableId::Notes, b"\0", b""),
        Change::Unset(TableId::Notes, b"a\0"),
        Change::Keepalive(3),
        Change::Keepalive(-1),
    ] {
        let bytes = written(|w| change.write(w));
        assert!(Change::read(&mut Reader::new(&bytes)).is_err(), "{change:?}");
    }
    for bytes in [&[6_u8][..], &[255], &[4, 10], &[4, 255], &[0, 255, 0]] {
        assert!(Change::read(&mut Reader::new(bytes)).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_configuration_nests_so_deep_and_no_deeper() {
    let leaf = || ConfigNode { directive: b"<If>".into(), args: vec![], children: vec![] };
    let tower = |levels: u32| {
        (1..levels).fold(leaf(), |inner, _| ConfigNode { children: vec![inner], ..leaf() })
    };
    for (levels, fits) in [(1, true), (MAX_NESTING, true), (MAX_NESTING + 1, false)] {
        let bytes = codec::encode(&tower(levels)).unwrap();
        assert_eq!(codec::decode::<ConfigNode>(&bytes).is_ok(), fits, "{levels}");
    }
    // Three bytes a level: no name, no arguments, one child. An error, not the end of the stack.
    let bytes = [0, 0, 1].repeat(1_000_000);
    assert!(codec::decode::<ConfigNode>(&bytes).is_err());
    // The count starts anew after an error.
    let bytes = codec::encode(&tower(MAX_NESTING)).unwrap();
    assert!(codec::decode::<ConfigNode>(&bytes).is_ok());
}

#[test]
fn limits_hold_for_writers_too() {
    // More pairs, items or handlers than the limit are not written: the reader would refuse them.
    let pair = (&b"k"[..], &b""[..]);
    let bytes = written(|w| write_table(w, std::iter::repeat_n(pair, MAX_PAIRS as usize + 5)));
    assert_eq!(read_table(&mut Reader::new(&bytes)).unwrap().len(), MAX_PAIRS as usize);
    let many = Value::Tuple(vec![Value::Int(1); 5000]);
    let bytes = written(|w| many.write(w));
    let Ok(Value::Tuple(items)) = Value::read(&mut Reader::new(&bytes)) else { panic!() };
    assert_eq!(items.len(), 1024);
    let nested = Value::Tuple(vec![Value::Tuple(vec![Value::Int(1)])]);
    let bytes = written(|w| nested.write(w));
    assert_eq!(Value::read(&mut Reader::new(&bytes)), Ok(Value::Tuple(vec![Value::None])));
    let handler = HandlerRef { name: b"h", directory: None, silent: true, is_location: false };
    let mut bytes = written(|w| {
        write_enter_head(w, Phase::Content, 0, 1, &vec![handler; 2000], None, None);
    });
    bytes.extend([0; 8]);
    assert_eq!(Enter::read(&bytes).unwrap().handlers.len(), 1024);
    let big = vec![0_u8; MAX_MESSAGE];
    let mut out = b"before".to_vec();
    let error = codec::encode_into(&vivarium_protocol::message::Reply::Bytes(&big), &mut out);
    assert!(matches!(error, Err(CodecError::TooLong(_))));
    assert_eq!(out, b"before");
    let long = vec![0; MAX_MESSAGE + 1];
    assert!(matches!(codec::decode::<u8>(&long), Err(CodecError::TooLong(_))));
}
