use bytes::{Bytes, BytesMut};

use super::super::code::Scheme;
use super::super::window::Window;
use super::super::{Decoder, LARGEST_SOURCE};
use super::{Chance, read};
use crate::frame::Repair;
use crate::packet::Numbering;

/// What is sent: parts by their numbers from `first` on.
struct Sent {
    numbering: Numbering,
    first: u64,
    parts: Vec<Bytes>,
}

impl Sent {
    fn part(&self, seq: u64) -> &Bytes {
        &self.parts[(seq - self.first) as usize]
    }

    fn repair(&self, scheme: Scheme, row: u8, covered: std::ops::Range<u64>) -> Repair {
        let mut window = Window::default();
        for seq in covered {
            window.add(seq, self.part(seq));
        }
        let cover = window.cover(0, 32, 1_400).expect("sources that fit");
        let mut out = BytesMut::new();
        window.write(&cover, (scheme, row), &self.numbering, &mut out);
        assert_eq!(out.len(), cover.frame());
        read(out.freeze())
    }
}

#[test]
fn vector_of_the_specification() {
    let sent = Sent {
        numbering: Numbering::default(),
        first: 5,
        parts: [&[10][..], &[20, 30], &[40, 50, 60]]
            .map(Bytes::copy_from_slice)
            .to_vec(),
    };
    let coefficients = [5, 6, 7].map(|wire| Scheme::Sliding.coefficient(1, wire - 5, wire));
    assert_eq!(coefficients, [0x7c, 0xb0, 0xe4]);
    let repair = sent.repair(Scheme::Sliding, 1, 5..8);
    assert_eq!((repair.scheme, repair.row), (2, 1));
    assert_eq!((repair.first, repair.mask), (5, 0b111));
    assert_eq!(repair.symbol[..], [0x0, 0x30, 0xa8, 0x43, 0xf3]);
    let repair = sent.repair(Scheme::Block, 1, 5..8);
    assert_eq!((repair.scheme, repair.row), (1, 1));
    assert_eq!(repair.symbol[..], [0x0, 0x45, 0x9c, 0x5f, 0xd6]);
}

#[test]
fn as_many_losses_as_repairs_are_rebuilt() {
    let mut chance = Chance(1);
    for round in 0..400 {
        let (scheme, most) = match round % 2 {
            0 => (Scheme::Block, 10),
            _ => (Scheme::Sliding, 32),
        };
        let sent = sent(&mut chance, 1 + round % most);
        let count = sent.parts.len() as u64;
        let covered = sent.first..sent.first + count;
        let lost = 1 + chance.below(count.min(8));
        let mut missing: Vec<u64> = (0..lost)
            .map(|_| sent.first + chance.below(count))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let mut decoder = decoder(&sent);
        for seq in covered.clone().filter(|seq| !missing.contains(seq)) {
            decoder.on_source(seq, sent.part(seq));
        }
        let row = chance.below(100) as u8;
        for more in 0..missing.len() as u8 {
            assert_eq!(decoder.poll_recovered(), None, "too few repairs");
            let repair = sent.repair(scheme, row + more, covered.clone());
            decoder.on_repair(&repair, &sent.numbering).expect("sound");
        }
        assert_eq!(recovered(&mut decoder, &sent), missing, "round {round}");
        assert_eq!(decoder.stats().recovered, missing.len() as u64);
        assert_eq!(decoder.stats().refused, 0);
    }
}

#[test]
fn windows_that_slide_help_each_other() {
    let mut chance = Chance(2);
    let sent = sent(&mut chance, 12);
    let first = sent.first;
    let mut decoder = decoder(&sent);
    for seq in [0, 3, 4, 7, 9, 10, 11] {
        decoder.on_source(first + seq, sent.part(first + seq));
    }
    // 1 and 2; then 2, 5 and 6; then 5, 6 and 8: three equations for five unknowns.
    for (row, covered) in [(0, 0..3), (1, 2..7), (2, 5..12)] {
        let covered = first + covered.start..first + covered.end;
        let repair = sent.repair(Scheme::Sliding, row, covered);
        decoder.on_repair(&repair, &sent.numbering).expect("sound");
    }
    assert_eq!(decoder.poll_recovered(), None);
    // 8 comes late; 5 and 6 hang together still.
    decoder.on_source(first + 8, sent.part(first + 8));
    assert_eq!(decoder.poll_recovered(), None);
    let repair = sent.repair(Scheme::Sliding, 3, first + 6..first + 10);
    decoder.on_repair(&repair, &sent.numbering).expect("sound");
    let wanted = [1, 2, 5, 6].map(|seq| first + seq);
    assert_eq!(recovered(&mut decoder, &sent), wanted);
}

#[test]
fn a_stream_under_loss_is_rebuilt_where_repairs_suffice() {
    let mut chance = Chance(3);
    let sent = sent(&mut chance, 3_000);
    let end = sent.first + 3_000;
    let mut decoder = decoder(&sent);
    let (mut lost, mut rebuilt) = (0, 0);
    for seq in sent.first..end {
        match chance.below(20) {
            0 => lost += 1,
            _ => decoder.on_source(seq, sent.part(seq)),
        }
        if seq % 4 == 0 && chance.below(20) > 0 {
            let from = seq.saturating_sub(11).max(sent.first);
            let repair = sent.repair(Scheme::Sliding, seq as u8, from..seq + 1);
            decoder.on_repair(&repair, &sent.numbering).expect("sound");
        }
        rebuilt += recovered(&mut decoder, &sent).len();
        assert!(decoder.memory() <= 128 << 10);
    }
    assert!(
        lost > 100 && rebuilt * 100 > lost * 97,
        "{rebuilt} of {lost}"
    );
    assert_eq!(decoder.stats().refused, 0);
}

#[test]
fn nothing_is_kept_for_a_peer_that_sends_no_repairs() {
    let mut chance = Chance(4);
    let sent = sent(&mut chance, 4_200);
    let mut decoder = decoder(&sent);
    for seq in sent.first..sent.first + 4_095 {
        decoder.on_source(seq, sent.part(seq));
    }
    assert!(decoder.memory() > 0);
    for seq in sent.first + 4_095..sent.first + 4_100 {
        decoder.on_source(seq, sent.part(seq));
    }
    assert_eq!(decoder.memory(), 0);
    // The first repair is of no use, but from then on parts are kept again.
    let next = sent.first + 4_100;
    let repair = sent.repair(Scheme::Sliding, 0, next - 5..next);
    decoder.on_repair(&repair, &sent.numbering).expect("sound");
    assert_eq!(decoder.poll_recovered(), None);
    decoder.on_source(next, sent.part(next));
    let repair = sent.repair(Scheme::Sliding, 1, next..next + 2);
    decoder.on_repair(&repair, &sent.numbering).expect("sound");
    assert_eq!(recovered(&mut decoder, &sent), [next + 1]);
}

#[test]
fn repairs_out_of_reach_are_given_up() {
    let mut chance = Chance(5);
    let sent = sent(&mut chance, 400);
    let first = sent.first;
    let mut decoder = decoder(&sent);
    let pair = sent.repair(Scheme::Sliding, 0, first..first + 2);
    decoder.on_repair(&pair, &sent.numbering).expect("sound");
    for seq in first + 2..first + 300 {
        decoder.on_source(seq, sent.part(seq));
    }
    assert_eq!(decoder.stats().unrecoverable, 1);
    decoder.on_repair(&pair, &sent.numbering).expect("sound");
    assert_eq!(decoder.stats().unrecoverable, 2);
    decoder.on_source(first, sent.part(first));
    assert_eq!(decoder.poll_recovered(), None);
}

#[test]
fn what_was_rebuilt_may_be_handed_in_again() {
    let mut chance = Chance(6);
    let sent = sent(&mut chance, 3);
    let first = sent.first;
    let mut decoder = decoder(&sent);
    let repair = sent.repair(Scheme::Block, 0, first..first + 1);
    decoder.on_repair(&repair, &sent.numbering).expect("sound");
    decoder.on_repair(&repair, &sent.numbering).expect("sound");
    assert_eq!(recovered(&mut decoder, &sent), [first]);
    decoder.on_source(first, sent.part(first));
    let repair = sent.repair(Scheme::Block, 1, first..first + 2);
    decoder.on_repair(&repair, &sent.numbering).expect("sound");
    assert_eq!(recovered(&mut decoder, &sent), [first + 1]);
}

#[test]
fn the_largest_source_fits_and_a_larger_one_is_left_out() {
    let part = |len| Bytes::from(vec![7; len]);
    let mut window = Window::default();
    assert!(window.add(1, &part(LARGEST_SOURCE)));
    assert!(!window.add(2, &part(LARGEST_SOURCE + 1)));
    assert!(window.add(3, &part(1)));
    let cover = window.cover(0, 12, 1_400).expect("sources that fit");
    assert_eq!((cover.first, cover.last, cover.mask), (1, 3, 0b101));
    assert_eq!(cover.frame(), 1_400);
    let cover = window.cover(0, 12, 1_399).expect("one that fits");
    assert_eq!((cover.first, cover.mask), (3, 1));
    assert_eq!(window.cover(0, 12, 17), None);
}

#[test]
fn a_window_spans_what_a_mask_can_name() {
    let mut window = Window::default();
    for seq in 1..=40 {
        window.add(seq, &Bytes::from_static(b"part"));
    }
    let cover = window.cover(0, 40, 1_400).expect("sources that fit");
    assert_eq!((cover.first, cover.last, cover.mask), (9, 40, u32::MAX));
    window.remove(20);
    let cover = window.cover(0, 40, 1_400).expect("sources that fit");
    assert_eq!(cover.mask, !(1 << 11));
    window.add(1_000, &Bytes::from_static(b"part"));
    let cover = window.cover(0, 40, 1_400).expect("sources that fit");
    assert_eq!((cover.first, cover.mask), (1_000, 1));
}

/// Parts of all lengths; the numbers on the wire wrap within them.
fn sent(chance: &mut Chance, count: u64) -> Sent {
    let first = 1 + chance.below(1_000);
    let longest = [5, 300, LARGEST_SOURCE as u64][chance.below(3) as usize];
    Sent {
        numbering: Numbering::new(u32::MAX - (first + count / 2) as u32),
        first,
        parts: (0..count).map(|_| chance.part(longest)).collect(),
    }
}

/// A decoder that stands where the parts begin.
fn decoder(sent: &Sent) -> Decoder {
    let mut decoder = Decoder::new();
    let before = sent.first - 1;
    if before > 0 {
        decoder.on_source(before, &Bytes::from_static(b"before"));
    }
    decoder
}

/// The numbers that were rebuilt, once their parts were compared.
fn recovered(decoder: &mut Decoder, sent: &Sent) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some((seq, part)) = decoder.poll_recovered() {
        assert_eq!(part, sent.part(seq));
        numbers.push(seq);
    }
    numbers.sort_unstable();
    numbers
}
