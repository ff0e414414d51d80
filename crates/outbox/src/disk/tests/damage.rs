//! Bits that flip, and what is done about it.

use super::*;
use crate::disk::format::PAGE;
use crate::disk::manifest::Manifest;
use crate::disk::segment::segment_name;

/// A log of several segments in which nothing is settled.
fn filled() -> (ModelDisk, Vec<Entry>) {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let mut key = 1;
    while bench.log.active.id < 4 {
        bench.appended((key..key + 5).map(|key| record(key, 700)));
        key += 5;
    }
    drop(bench);
    let (_, entries) = Bench::open(&disk);
    (disk, entries)
}

#[test]
fn flipped_bits_in_sealed_segments_are_detected() {
    let (disk, entries) = filled();
    let (bench, _) = Bench::open(&disk);
    let ends: Vec<(u64, u64)> = {
        let index = bench.log.shared.index();
        let sealed = index.parts.len() - 1;
        let parts = index.parts.iter().take(sealed);
        parts.map(|part| (part.segment.id, part.end)).collect()
    };
    let mut chance = Chance(1);
    let mut detected = 0;
    for _ in 0..10_000 {
        let (id, end) = ends[usize::try_from(chance.below(ends.len() as u64)).unwrap()];
        let at = usize::try_from(chance.below(end)).unwrap();
        let bit = 1 << chance.below(8);
        let name = segment_name(id);
        disk.tamper(&name, |bytes| bytes[at] ^= bit);
        match Bench::try_open(&disk, false) {
            Err(OpenError::Damaged { file, .. }) => {
                assert_eq!(file, name, "byte {at}");
                detected += 1;
            }
            Err(error) => panic!("{name}, byte {at}: {error}"),
            Ok(_) => panic!("{name}, byte {at}, bit {bit}: nobody noticed"),
        }
        disk.tamper(&name, |bytes| bytes[at] ^= bit);
    }
    println!("{detected} of 10,000 flipped bits detected");
    assert_eq!(Bench::open(&disk).1, entries);
}

#[test]
fn flipped_bit_is_named_and_its_loss_can_be_accepted() {
    let (disk, entries) = filled();
    let name = segment_name(2);
    disk.tamper(&name, |bytes| bytes[3 * PAGE + 100] ^= 1);
    match Bench::try_open(&disk, false) {
        Err(OpenError::Damaged { file, from, to, .. }) => {
            assert_eq!((file.as_str(), from), (name.as_str(), 3 * PAGE as u64));
            assert!(to > from && to <= SEGMENT, "{to}");
        }
        other => panic!("{:?}", other.map(|(_, entries)| entries)),
    }
    let (bench, left) = Bench::try_open(&disk, true).unwrap();
    let lost = entries.len() - left.len();
    assert_eq!(lost, 5, "one batch");
    for entry in &left {
        assert!(entries.contains(entry), "{entry:?}");
        assert_eq!(bench.read(entry.id).unwrap().key, entry.key);
    }
    assert!(
        disk.names()
            .iter()
            .any(|name| name.ends_with(".quarantined"))
    );
    drop(bench);
    let (mut bench, again) = Bench::open(&disk);
    assert_eq!(again, left);
    bench.appended([record(9_999, 10)]);
    drop(bench);
    assert_eq!(Bench::open(&disk).1.len(), left.len() + 1);
}

#[test]
fn loss_of_any_segment_can_be_accepted() {
    for id in 1..=4 {
        let (disk, entries) = filled();
        disk.remove(&segment_name(id)).unwrap();
        assert!(matches!(
            Bench::try_open(&disk, false),
            Err(OpenError::Damaged { .. })
        ));
        let (_, left) = Bench::try_open(&disk, true).unwrap();
        assert!(
            left.len() < entries.len() && left.len() > 10,
            "{}",
            left.len()
        );
        assert_eq!(Bench::open(&disk).1, left);
    }
}

#[test]
fn lost_manifest_is_noticed_and_can_be_done_without() {
    let (disk, entries) = filled();
    disk.tamper("MANIFEST", |bytes| bytes.fill(7));
    assert!(matches!(
        Bench::try_open(&disk, false),
        Err(OpenError::Damaged { .. })
    ));
    let (_, left) = Bench::try_open(&disk, true).unwrap();
    assert_eq!(left, entries);
    assert_eq!(Bench::open(&disk).1, entries);
}

#[test]
fn one_page_of_the_manifest_is_enough() {
    let (disk, entries) = filled();
    for page in 0..2 {
        disk.tamper("MANIFEST", |bytes| bytes[page * PAGE + 20] ^= 1);
        assert_eq!(Bench::open(&disk).1, entries);
    }
}

#[test]
fn torn_tail_is_cut() {
    let (disk, entries) = filled();
    let (mut bench, _) = Bench::open(&disk);
    let (segment, end) = (bench.log.active.id, bench.log.offset);
    let last = bench.appended([record(7_777, 9_000)]);
    drop(bench);
    // The last batch was never acknowledged as far as the disk can tell.
    let at = usize::try_from(end).unwrap() + 5_000;
    disk.tamper(&segment_name(segment), |bytes| bytes[at] ^= 1);
    let (mut bench, left) = Bench::open(&disk);
    assert_eq!(left, entries);
    let again = bench.appended([record(8_888, 100)]);
    assert_eq!(again[0].seq, last[0].seq);
    drop(bench);
    let (bench, left) = Bench::open(&disk);
    assert_eq!(left.len(), entries.len() + 1);
    assert_eq!(bench.read(again[0]).unwrap().key, 8_888);
}

#[test]
fn damage_in_a_segment_made_ahead_can_be_accepted() {
    let (disk, entries) = filled();
    let (mut bench, _) = Bench::open(&disk);
    let ahead: Vec<u64> = (0..2)
        .map(|_| bench.log.supply.next().unwrap().id)
        .collect();
    drop(bench);
    let name = segment_name(ahead[1]);
    disk.tamper(&name, |bytes| bytes[20] ^= 1);
    match Bench::try_open(&disk, false) {
        Err(OpenError::Damaged { file, .. }) => assert_eq!(file, name),
        other => panic!("{:?}", other.map(|(_, entries)| entries)),
    }
    let (_, left) = Bench::try_open(&disk, true).unwrap();
    assert_eq!(left, entries);
    assert_eq!(Bench::open(&disk).1, entries);
}

#[test]
fn numbers_out_of_range_in_the_manifest_are_damage() {
    let good = Manifest::new();
    assert!(Manifest::decode(&good.encode()).is_some());
    let with = |change: fn(&mut Manifest)| {
        let mut manifest = good;
        change(&mut manifest);
        Manifest::decode(&manifest.encode())
    };
    assert_eq!(with(|manifest| manifest.newest = u64::MAX), None);
    assert_eq!(with(|manifest| manifest.newest = 1 << 40), None);
    assert_eq!(with(|manifest| manifest.floor = 3), None);
    assert_eq!(with(|manifest| manifest.floor = 0), None);
    assert_eq!(with(|manifest| manifest.next_seq = 0), None);
    assert_eq!(with(|manifest| manifest.next_seq = u64::MAX), None);
    assert_eq!(with(|manifest| manifest.synced = u64::MAX), None);
    assert_eq!(with(|manifest| manifest.epoch = u64::MAX), None);
}
