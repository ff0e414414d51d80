//! Contracts on the wire: numbers that never move again, and the bytes that other languages read.

use std::collections::BTreeMap;
use std::path::Path;

use api::xy::flags::v1::FeatureFlags;
use api::xy::md::v1::{Snapshot, SnapshotBatch, Tick, TickBatch};
use api::xy::session::v1::Session;
use api::{DecodeError, Message};

#[test]
fn every_message_survives_the_way_over_the_wire() {
    assert_eq!(there_and_back(&tick()), Ok(tick()));
    assert_eq!(there_and_back(&tick_batch()), Ok(tick_batch()));
    assert_eq!(there_and_back(&snapshot()), Ok(snapshot()));
    assert_eq!(there_and_back(&snapshot_batch()), Ok(snapshot_batch()));
    assert_eq!(there_and_back(&session()), Ok(session()));
    assert_eq!(there_and_back(&feature_flags()), Ok(feature_flags()));
}

/// Written out by hand: key of each field (number and kind), then its value.
#[test]
fn wire_numbers_of_a_tick_are_fixed() {
    let tick = Tick {
        ts_ms: 1,
        symbol: "S".to_owned(),
        price: 1.0,
        volume: 2,
    };
    let bytes = b"\x08\x01\x12\x01S\x19\0\0\0\0\0\0\xf0\x3f\x20\x02";
    assert_eq!(tick.encode_to_vec(), bytes);

    let batch = TickBatch {
        group: "g".to_owned(),
        seq: 3,
        ts_ms: 4,
        ticks: vec![tick],
    };
    let mut batch_bytes = b"\x0a\x01g\x10\x03\x18\x04\x22\x10".to_vec();
    batch_bytes.extend(bytes);
    assert_eq!(batch.encode_to_vec(), batch_bytes);
}

#[test]
fn wire_numbers_of_a_snapshot_are_fixed() {
    let snapshot = Snapshot {
        ts_ms: 1,
        symbol: "S".to_owned(),
        bid: 1.0,
        ask: 2.0,
        bid_size: 3,
        ask_size: 4,
        last: 1.5,
        volume: 5,
    };
    let bytes = b"\x08\x01\x12\x01S\x19\0\0\0\0\0\0\xf0\x3f\x21\0\0\0\0\0\0\0\x40\
        \x28\x03\x30\x04\x39\0\0\0\0\0\0\xf8\x3f\x40\x05";
    assert_eq!(snapshot.encode_to_vec(), bytes);

    let batch = SnapshotBatch {
        group: "g".to_owned(),
        seq: 6,
        ts_ms: 7,
        snapshots: vec![snapshot],
    };
    let mut batch_bytes = b"\x0a\x01g\x10\x06\x18\x07\x22\x26".to_vec();
    batch_bytes.extend(bytes);
    assert_eq!(batch.encode_to_vec(), batch_bytes);
}

#[test]
fn wire_numbers_of_session_and_flags_are_fixed() {
    let session = Session {
        id: "i".to_owned(),
        subject: "s".to_owned(),
        connected_ms: 1,
        last_seen_ms: 2,
        remote: "r".to_owned(),
        subjects: vec!["a".to_owned(), "b".to_owned()],
    };
    let bytes = b"\x0a\x01i\x12\x01s\x18\x01\x20\x02\x2a\x01r\x32\x01a\x32\x01b";
    assert_eq!(session.encode_to_vec(), bytes);

    let flags = FeatureFlags {
        flags: BTreeMap::from([("f".to_owned(), true)]),
        version: 1,
        rollouts: BTreeMap::from([("p".to_owned(), 2)]),
    };
    let bytes = b"\x0a\x05\x0a\x01f\x10\x01\x10\x01\x1a\x05\x0a\x01p\x10\x02";
    assert_eq!(flags.encode_to_vec(), bytes);
}

#[test]
fn fields_of_a_newer_contract_are_tolerated() {
    assert_eq!(Tick::decode(newer_tick().as_slice()), Ok(tick()));
}

#[test]
fn torn_messages_are_refused() {
    let whole = snapshot_batch().encode_to_vec();
    let torn = &whole[..whole.len() - 1];
    assert!(SnapshotBatch::decode(torn).is_err());
}

/// TypeScript, Go and Python read these files in `cargo xtask contracts`.
///
/// With `TIDEGATE_GOLDEN=write` they are written instead, for messages that are new: those there
/// already stay as they are, or consumers of older messages are lost.
#[test]
fn golden_files_are_what_rust_writes() {
    let golden = [
        ("xy.md.v1.Tick", tick().encode_to_vec()),
        ("xy.md.v1.Tick.newer", newer_tick()),
        ("xy.md.v1.TickBatch", tick_batch().encode_to_vec()),
        ("xy.md.v1.Snapshot", snapshot().encode_to_vec()),
        ("xy.md.v1.SnapshotBatch", snapshot_batch().encode_to_vec()),
        ("xy.session.v1.Session", session().encode_to_vec()),
        ("xy.flags.v1.FeatureFlags", feature_flags().encode_to_vec()),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contracts/golden");
    let write = std::env::var_os("TIDEGATE_GOLDEN").is_some_and(|value| value == "write");
    for (name, bytes) in golden {
        let path = folder.join(format!("{name}.binpb"));
        if write && !path.exists() {
            std::fs::write(&path, &bytes).expect("the folder can be written to");
        }
        let stored = std::fs::read(&path).expect("every message has a golden file");
        assert_eq!(bytes, stored, "{name}");
    }
}

fn there_and_back<M: Message + Default>(message: &M) -> Result<M, DecodeError> {
    M::decode(message.encode_to_vec().as_slice())
}

fn tick() -> Tick {
    Tick {
        ts_ms: 1_767_225_600_033,
        symbol: "S000".to_owned(),
        price: 101.25,
        volume: u64::MAX,
    }
}

/// A tick with a field that this contract does not have: number 100, text.
fn newer_tick() -> Vec<u8> {
    let mut bytes = tick().encode_to_vec();
    bytes.extend(b"\xa2\x06\x05later");
    bytes
}

/// The second tick has default values only, which are not written.
fn tick_batch() -> TickBatch {
    TickBatch {
        group: "g00".to_owned(),
        seq: 9_007_199_254_740_993,
        ts_ms: 1_767_225_600_066,
        ticks: vec![tick(), Tick::default()],
    }
}

/// A time before 1970 is a negative number and ten bytes long; a name need not be ASCII.
fn snapshot() -> Snapshot {
    Snapshot {
        ts_ms: -1,
        symbol: "中国".to_owned(),
        bid: 101.125,
        ask: 101.375,
        bid_size: 300,
        ask_size: 1,
        last: 1e-9,
        volume: 123_456_789_012,
    }
}

fn snapshot_batch() -> SnapshotBatch {
    SnapshotBatch {
        group: "g09".to_owned(),
        seq: 127,
        ts_ms: 1_767_225_602_000,
        snapshots: vec![snapshot(), Snapshot::default()],
    }
}

fn session() -> Session {
    Session {
        id: "6f1c0a1e-8a0c-4b7e-9d5e-2f6f0a2c9b11".to_owned(),
        subject: "demo-user".to_owned(),
        connected_ms: 1_767_225_600_000,
        last_seen_ms: 1_767_225_625_000,
        remote: "192.0.2.7:51234".to_owned(),
        subjects: vec!["xy.md.snapshot.g00".to_owned(), "xy.md.tick.g00".to_owned()],
    }
}

fn feature_flags() -> FeatureFlags {
    FeatureFlags {
        flags: BTreeMap::from([
            ("canary".to_owned(), true),
            ("example_flag".to_owned(), false),
        ]),
        version: 300,
        rollouts: BTreeMap::from([("new_charts".to_owned(), 25)]),
    }
}
