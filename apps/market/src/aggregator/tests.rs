use api::Message as _;
use api::xy::md::v1;

use super::*;

const NOW: Now = Now {
    mono_ms: 1_000,
    unix_ms: 1_700_000_000_000,
};

fn aggregator(groups: usize) -> Aggregator {
    let limits = Limits {
        symbols_max: 100,
        skew_max_ms: 60_000,
    };
    Aggregator::new(Grouping::new(groups, 1).expect("it is a grouping"), limits)
}

fn tick(symbol: &str, price: f64, volume: u64) -> v1::Tick {
    v1::Tick {
        ts_ms: NOW.unix_ms.cast_signed(),
        symbol: symbol.to_owned(),
        price,
        volume,
    }
}

fn take(aggregator: &mut Aggregator, tick: &v1::Tick) -> Result<Taken, Reason> {
    let subject = format!("xy.src.tick.demo.{}", tick.symbol);
    aggregator.take(&subject, None, &tick.encode_to_vec(), NOW)
}

/// Takes all batches.
fn batches(aggregator: &mut Aggregator) -> Vec<v1::TickBatch> {
    let mut batches = Vec::new();
    aggregator.cut_ticks(NOW, |offer| {
        batches.push(v1::TickBatch::decode(offer.payload).expect("it is a batch"));
        true
    });
    batches
}

fn snapshot(aggregator: &mut Aggregator, group: usize) -> v1::SnapshotBatch {
    let snapshot = aggregator
        .snapshot(group, NOW, 0)
        .expect("there is such a group");
    v1::SnapshotBatch::decode(snapshot.payload).expect("it is a snapshot")
}

#[test]
fn the_latest_price_wins_and_volumes_are_summed() {
    let mut aggregator = aggregator(1);
    take(&mut aggregator, &tick("A", 1.0, 10)).unwrap();
    take(&mut aggregator, &tick("B", 5.0, 1)).unwrap();
    take(&mut aggregator, &tick("A", 2.0, 20)).unwrap();
    let late = v1::Tick {
        ts_ms: NOW.unix_ms.cast_signed() - 5,
        ..tick("A", 9.0, 3)
    };
    take(&mut aggregator, &late).unwrap();
    let batches = batches(&mut aggregator);
    assert_eq!(batches.len(), 1);
    let expected = v1::TickBatch {
        group: "g00".to_owned(),
        seq: 1,
        ts_ms: NOW.unix_ms.cast_signed(),
        ticks: vec![tick("A", 2.0, 33), tick("B", 5.0, 1)],
    };
    assert_eq!(batches[0], expected);
    assert_eq!(aggregator.counts().reordered, 1);
    assert!(!aggregator.is_dirty());
    aggregator.cut_ticks(NOW, |_| panic!("nothing has changed"));
}

#[test]
fn a_snapshot_tells_what_batches_told_and_no_more() {
    let mut aggregator = aggregator(1);
    take(&mut aggregator, &tick("A", 1.0, 10)).unwrap();
    assert_eq!(snapshot(&mut aggregator, 0).snapshots, []);
    batches(&mut aggregator);
    take(&mut aggregator, &tick("A", 2.0, 20)).unwrap();
    let snapshot = snapshot(&mut aggregator, 0);
    assert_eq!(snapshot.seq, 1);
    assert_eq!(snapshot.snapshots[0].last, 1.0);
    assert_eq!(snapshot.snapshots[0].volume, 10);
}

#[test]
fn what_was_not_taken_waits_and_joins_what_comes() {
    let mut aggregator = aggregator(1);
    take(&mut aggregator, &tick("A", 1.0, 10)).unwrap();
    let mut refused = 0;
    aggregator.cut_ticks(NOW, |offer| {
        assert_eq!(offer.seq, 1);
        refused += 1;
        false
    });
    assert_eq!(refused, 1);
    assert_eq!(aggregator.seq(0), 0);
    assert!(aggregator.is_dirty());
    take(&mut aggregator, &tick("A", 2.0, 20)).unwrap();
    let batches = batches(&mut aggregator);
    assert_eq!(batches[0].seq, 1);
    assert_eq!(batches[0].ticks, [tick("A", 2.0, 30)]);
}

#[test]
fn quotes_stand_in_snapshots_only() {
    let mut aggregator = aggregator(1);
    let quote = v1::Snapshot {
        ts_ms: NOW.unix_ms.cast_signed(),
        symbol: "A".to_owned(),
        bid: 1.25,
        ask: 1.5,
        bid_size: 100,
        ask_size: 200,
        last: 77.0,
        volume: 77,
    };
    let taken = aggregator.take("xy.src.snapshot.demo.A", None, &quote.encode_to_vec(), NOW);
    assert_eq!(taken, Ok(Taken::Quote));
    assert!(!aggregator.is_dirty());
    let expected = v1::Snapshot {
        last: 0.0,
        volume: 0,
        ..quote
    };
    assert_eq!(snapshot(&mut aggregator, 0).snapshots, [expected]);
}

#[test]
fn what_cannot_be_is_refused_and_counted() {
    let mut aggregator = aggregator(1);
    let good = tick("A", 1.0, 1);
    let with = |change: fn(&mut v1::Tick)| {
        let mut tick = good.clone();
        change(&mut tick);
        tick
    };
    let wrong = [
        (with(|tick| tick.price = f64::NAN), Reason::Price),
        (with(|tick| tick.price = -1.0), Reason::Price),
        (with(|tick| tick.price = f64::INFINITY), Reason::Price),
        (with(|tick| tick.price = 0.0), Reason::Price),
        (with(|tick| tick.ts_ms = 0), Reason::Time),
        (with(|tick| tick.ts_ms = i64::MIN), Reason::Time),
        (with(|tick| tick.ts_ms += 60_001), Reason::Time),
        (with(|tick| tick.ts_ms -= 60_001), Reason::Time),
        (with(|tick| tick.symbol.clear()), Reason::Symbol),
        (with(|tick| tick.symbol = "x".repeat(65)), Reason::Symbol),
        (with(|tick| tick.symbol = "a b".to_owned()), Reason::Symbol),
    ];
    for (tick, reason) in &wrong {
        assert_eq!(take(&mut aggregator, tick), Err(*reason), "{tick:?}");
    }
    let bytes = good.encode_to_vec();
    let subjects = [
        ("xy.src.tick.demo.B", Reason::Mismatch),
        ("xy.src.tick.A", Reason::Subject),
        ("xy.src.order.demo.A", Reason::Subject),
        ("xy.md.tick.demo.A", Reason::Subject),
        ("xy.src.tick..A", Reason::Subject),
    ];
    for (subject, reason) in subjects {
        assert_eq!(
            aggregator.take(subject, None, &bytes, NOW),
            Err(reason),
            "{subject}"
        );
    }
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(
        aggregator.take("xy.src.tick.demo.A", None, cut, NOW),
        Err(Reason::Malformed)
    );
    assert_eq!(aggregator.symbols(), 0);
    let refused: u64 = aggregator.counts().refused.iter().sum();
    assert_eq!(refused, 17);
    assert_eq!(aggregator.counts().refused[Reason::Time as usize], 4);
}

#[test]
fn symbols_have_a_cap() {
    let mut aggregator = aggregator(3);
    for index in 0..100 {
        take(&mut aggregator, &tick(&format!("S{index}"), 1.0, 1)).unwrap();
    }
    let one_more = take(&mut aggregator, &tick("S100", 1.0, 1));
    assert_eq!(one_more, Err(Reason::TooMany));
    take(&mut aggregator, &tick("S99", 1.0, 1)).unwrap();
    assert_eq!(aggregator.symbols(), 100);
}

#[test]
fn what_the_source_numbered_and_did_not_send_is_counted() {
    let mut aggregator = aggregator(1);
    let bytes = tick("A", 1.0, 1).encode_to_vec();
    let mut numbered = |venue: &str, offset| {
        let subject = format!("xy.src.tick.{venue}.A");
        aggregator
            .take(&subject, Some(offset), &bytes, NOW)
            .unwrap();
        aggregator.counts().missing
    };
    assert_eq!(numbered("x", 7), 0);
    assert_eq!(numbered("x", 8), 0);
    assert_eq!(numbered("x", 12), 3);
    // Of another venue, and of a stream that began anew.
    assert_eq!(numbered("y", 100), 3);
    assert_eq!(numbered("y", 1), 3);
    // A source may number as it likes.
    for _ in 0..3 {
        numbered("y", u64::MAX);
        numbered("y", 0);
    }
    assert_eq!(numbered("y", u64::MAX), u64::MAX);
}

#[test]
fn silence_is_measured_from_the_last_sign_of_life() {
    let mut aggregator = aggregator(1);
    assert_eq!(aggregator.silent_ms(NOW), None);
    let taken = aggregator.take("xy.src.heartbeat.demo", None, b"", NOW);
    assert_eq!(taken, Ok(Taken::Heartbeat));
    let later = Now {
        mono_ms: NOW.mono_ms + 250,
        ..NOW
    };
    assert_eq!(aggregator.silent_ms(later), Some(250));
}

#[test]
fn groups_have_names_and_symbols_stay_in_them() {
    let mut grouping = Grouping::new(12, 2).unwrap();
    assert_eq!(grouping.len(), 24);
    assert_eq!((grouping.name(0), grouping.name(23)), ("g00.s0", "g11.s1"));
    // A value of before: groups must not change from version to version.
    assert_eq!(grouping.name(grouping.group_of("EURUSD")), "g09.s0");
    grouping.give("EURUSD", "g05.s1").unwrap();
    assert_eq!(grouping.name(grouping.group_of("EURUSD")), "g05.s1");
    assert!(grouping.give("EURUSD", "g12.s0").is_err());

    let mut count = [0_usize; 20];
    let grouping = Grouping::new(20, 1).unwrap();
    for index in 0..10_000 {
        count[grouping.group_of(&format!("S{index:04}"))] += 1;
    }
    assert!(
        count.iter().all(|count| (400..=600).contains(count)),
        "{count:?}"
    );
}

#[test]
fn a_snapshot_is_given_again_while_nothing_changed() {
    let mut aggregator = aggregator(1);
    take(&mut aggregator, &tick("A", 1.0, 1)).unwrap();
    batches(&mut aggregator);
    let first = aggregator.snapshot(0, NOW, 1000).unwrap();
    let again = aggregator.snapshot(0, NOW, 1000).unwrap();
    assert_eq!(first.payload.as_ptr(), again.payload.as_ptr());
    take(&mut aggregator, &tick("A", 1.0, 1)).unwrap();
    batches(&mut aggregator);
    assert_eq!(aggregator.snapshot(0, NOW, 1000).unwrap().seq, 2);
    assert!(aggregator.snapshot(1, NOW, 1000).is_none());
}

#[test]
fn a_restart_says_if_batches_are_missing() {
    let mut before = aggregator(1);
    take(&mut before, &tick("A", 1.0, 1)).unwrap();
    batches(&mut before);
    let snapshot = before.snapshot(0, NOW, 0).unwrap().payload;
    let mut cuts = Vec::new();
    for _ in 0..2 {
        take(&mut before, &tick("A", 2.0, 1)).unwrap();
        before.cut_ticks(NOW, |offer| {
            cuts.push(offer.payload.to_vec());
            true
        });
    }
    let restored = |is_gapped| Restored::Taken {
        group: 0,
        is_gapped,
    };
    let mut after = aggregator(1);
    assert_eq!(
        after.restore_snapshot("g00", &snapshot),
        Ok(restored(false))
    );
    assert_eq!(after.restore_ticks("g00", &cuts[1]), Ok(restored(true)));
    assert_eq!(after.seq(0), 3);

    let mut after = aggregator(1);
    assert_eq!(
        after.restore_snapshot("g00", &snapshot),
        Ok(restored(false))
    );
    assert_eq!(after.restore_ticks("g00", &cuts[0]), Ok(restored(false)));
    assert_eq!(after.restore_ticks("g00", &cuts[0]), Ok(Restored::Known));
    assert_eq!(
        after.restore_ticks("g01", &cuts[1]),
        Err(RestoreError::OtherGroup)
    );
    assert!(after.restore_snapshot("g00", b"\xff").is_err());
}
