use api::Message as _;
use api::xy::md::v1;

use super::*;

const NUMBERS: [u64; 9] = [
    0,
    1,
    127,
    128,
    16_383,
    16_384,
    1 << 62,
    u64::MAX - 1,
    u64::MAX,
];

#[test]
fn a_tick_is_the_same_bytes_as_that_of_the_contract() {
    for number in NUMBERS {
        let ours = Tick {
            ts_ms: number.cast_signed(),
            symbol: b"S000",
            price: 101.25,
            volume: number,
        };
        let theirs = v1::Tick {
            ts_ms: ours.ts_ms,
            symbol: "S000".to_owned(),
            price: ours.price,
            volume: ours.volume,
        };
        let mut bytes = Vec::new();
        ours.write(&mut bytes);
        assert_eq!(bytes, theirs.encode_to_vec());
        assert_eq!(bytes.len(), ours.written_len());
        assert_eq!(Tick::read(&bytes), Ok(ours));
    }
}

#[test]
fn batches_are_the_same_bytes_as_those_of_the_contract() {
    let mut ours = Vec::new();
    begin_batch(&mut ours, "g07", 300, 1_700_000_000_000);
    let mut theirs = v1::SnapshotBatch {
        group: "g07".to_owned(),
        seq: 300,
        ts_ms: 1_700_000_000_000,
        snapshots: Vec::new(),
    };
    for number in NUMBERS {
        let name = format!("S{number}");
        let snapshot = Snapshot {
            ts_ms: 5,
            symbol: name.as_bytes(),
            bid: number as f64,
            ask: 1.5,
            bid_size: number,
            ask_size: 7,
            last: 1.25,
            volume: number,
        };
        add_snapshot(&mut ours, &snapshot);
        theirs.snapshots.push(v1::Snapshot {
            ts_ms: 5,
            symbol: name.clone(),
            bid: number as f64,
            ask: 1.5,
            bid_size: number,
            ask_size: 7,
            last: 1.25,
            volume: number,
        });
    }
    assert_eq!(ours, theirs.encode_to_vec());
    let batch = Batch::read(&ours).expect("it is a batch");
    assert_eq!((batch.group, batch.seq), ("g07", 300));
    let snapshots = batch.snapshots().expect("they are snapshots");
    assert_eq!(snapshots.len(), NUMBERS.len());
    assert_eq!(snapshots[8].volume, u64::MAX);
}

#[test]
fn fields_that_are_not_known_are_skipped() {
    let mut bytes = v1::Tick {
        ts_ms: 1,
        symbol: "A".to_owned(),
        price: 2.0,
        volume: 3,
    }
    .encode_to_vec();
    // Field 20 as a number, 21 as bytes, 22 as 64 and 23 as 32 bits.
    bytes.extend([0xa0, 0x01, 0x05, 0xaa, 0x01, 0x01, 0xff]);
    bytes.extend([0xb1, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0xbd, 0x01, 0, 0, 0, 0]);
    let tick = Tick::read(&bytes).expect("it is a tick");
    assert_eq!((tick.symbol, tick.volume), (&b"A"[..], 3));
}

#[test]
fn what_is_no_message_is_refused_where_it_is_wrong() {
    let cases: [(&[u8], WireError); 7] = [
        (&[0x08], WireError::CutShort { at: 1 }),
        (&[0x12, 5, b'a'], WireError::CutShort { at: 3 }),
        (&[0x19, 0, 0], WireError::CutShort { at: 3 }),
        (&[0x00, 0x00], WireError::OutOfRange { at: 1 }),
        (&[0x0b], WireError::Unsupported { at: 1 }),
        (&[0x18, 1], WireError::OtherType { field: 3 }),
        (
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ],
            WireError::OutOfRange { at: 11 },
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(Tick::read(bytes), Err(error), "{bytes:?}");
    }
}
