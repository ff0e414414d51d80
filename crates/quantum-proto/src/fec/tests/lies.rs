use bytes::Bytes;

use super::super::code::Scheme;
use super::super::{Decoder, FecError};
use super::Chance;
use crate::frame::Repair;
use crate::packet::Numbering;

#[test]
fn what_is_not_defined_is_refused() {
    let refused = [
        repair(0, 0, 1, &[0, 1, 7]),
        repair(3, 0, 1, &[0, 1, 7]),
        repair(1, 128, 1, &[0, 1, 7]),
        repair(1, 0, 0x7ff, &[0, 1, 7]),
        repair(2, 0, 0, &[0, 1, 7]),
        Repair {
            first: 0,
            ..repair(2, 0, 1, &[0, 1, 7])
        },
    ];
    let mut decoder = Decoder::new();
    for wrong in refused {
        let told = decoder.on_repair(&wrong, &Numbering::default());
        assert!(matches!(told, Err(FecError::Undefined { .. })), "{wrong:?}");
    }
    for len in [0, 1, 2, 1_386, 65_000] {
        let wrong = repair(2, 0, 1, &vec![0; len]);
        let told = decoder.on_repair(&wrong, &Numbering::default());
        assert_eq!(told, Err(FecError::Length(len)));
    }
    assert_eq!(decoder.stats().refused, 11);
    assert_eq!(decoder.poll_recovered(), None);
}

#[test]
fn a_rebuilt_length_beyond_the_symbol_is_refused() {
    // One covered packet: the symbol times the coefficient's inverse is the packet's.
    for wrong in [&[0, 2, 7][..], &[0, 0, 7], &[0, 1, 7, 1], &[0xff, 0xff, 7]] {
        let mut decoder = Decoder::new();
        let symbol = encoded(wrong);
        decoder
            .on_repair(&repair(2, 0, 1, &symbol), &Numbering::default())
            .expect("nothing to be seen yet");
        assert_eq!(decoder.poll_recovered(), None, "{wrong:?}");
        assert_eq!(decoder.stats().refused, 1);
    }
    let mut decoder = Decoder::new();
    let symbol = encoded(&[0, 1, 7, 0, 0]);
    decoder
        .on_repair(&repair(2, 0, 1, &symbol), &Numbering::default())
        .expect("sound");
    let part = Bytes::from_static(&[7]);
    assert_eq!(decoder.poll_recovered(), Some((1, part)));
}

#[test]
fn contradictions_are_refused() {
    let mut decoder = Decoder::new();
    decoder.on_source(1, &Bytes::from_static(b"longer than the symbol"));
    let told = decoder.on_repair(&repair(2, 0, 0b11, &[0; 5]), &Numbering::default());
    assert_eq!(told, Err(FecError::Contradiction));
    // Twice the same row over the same packets, but not the same symbol.
    let numbering = Numbering::default();
    let first = repair(2, 0, 0b110, &[0, 1, 2, 3]);
    decoder.on_repair(&first, &numbering).expect("plausible");
    decoder.on_repair(&first, &numbering).expect("the same");
    let second = repair(2, 0, 0b110, &[0, 1, 2, 4]);
    let told = decoder.on_repair(&second, &numbering);
    assert_eq!(told, Err(FecError::Contradiction));
    // A source that is longer than the symbol of a repair that waits for it.
    decoder.on_source(2, &Bytes::from_static(b"longer"));
    assert_eq!(decoder.stats().refused, 3);
    decoder.on_source(3, &Bytes::from_static(b"x"));
    assert_eq!(decoder.poll_recovered(), None);
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut chance = Chance(7);
    for start in [0, u32::MAX - 3_000] {
        let numbering = Numbering::new(start);
        let mut decoder = Decoder::new();
        let mut newest = 1;
        for _ in 0..6_000 {
            if chance.below(4) == 0 {
                newest += chance.below(3);
                decoder.on_source(newest, &chance.part(1_500));
            }
            let near = newest.saturating_sub(40) + chance.below(80);
            let lie = Repair {
                scheme: 1 + chance.below(2) as u8,
                row: chance.next() as u8,
                first: match chance.below(50) {
                    0 => chance.next() as u32,
                    _ => numbering.to_wire(near),
                },
                mask: (chance.next() >> 32) as u32 >> chance.below(32),
                symbol: chance.part(1_385),
            };
            // Whether it is seen through does not matter.
            let _plausible = decoder.on_repair(&lie, &numbering);
            assert!(decoder.memory() <= 128 * (1 << 10) + 128 * 1_383);
            while decoder.poll_recovered().is_some() {}
            assert!(decoder.memory() <= 128 << 10);
        }
        let stats = decoder.stats();
        assert_eq!(stats.repairs, 6_000);
        assert!(stats.unrecoverable > 0 && stats.refused > 0, "{stats:?}");
    }
}

fn repair(scheme: u8, row: u8, mask: u32, symbol: &[u8]) -> Repair {
    Repair {
        scheme,
        row,
        first: 1,
        mask,
        symbol: Bytes::copy_from_slice(symbol),
    }
}

/// The symbol of a repair with row 0 that covers number 1 only, whose symbol is `plain`.
fn encoded(plain: &[u8]) -> Vec<u8> {
    let mut symbol = plain.to_vec();
    let coefficient = Scheme::Sliding.coefficient(0, 0, 1);
    super::super::field::scale(&mut symbol, coefficient);
    symbol
}
