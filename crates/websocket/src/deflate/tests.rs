use super::*;
use crate::mask::apply_mask;

const LIMITS: Limits = Limits {
    message_max: 1 << 20,
    frame_max: 1 << 20,
    inflated_max: 1 << 20,
    inflate_ratio_max: 2000,
};

fn json(repeats: usize) -> Vec<u8> {
    r#"{"symbol":"TIDE","price":101.25,"volume":3000}"#
        .repeat(repeats)
        .into_bytes()
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(Deflater::new(6).compress(15, payload, &mut out));
    out
}

#[test]
fn every_window_size_round_trips_and_contexts_do_not_leak() {
    let mut deflater = Deflater::new(6);
    let mut inflater = Inflater::new();
    for round in 1..4 {
        for bits in 9..=15 {
            let payload = json(round * 200);
            let mut out = b"kept".to_vec();
            assert!(deflater.compress(bits, &payload, &mut out), "window {bits}");
            let compressed = out.strip_prefix(b"kept").unwrap();
            assert!(compressed.len() < payload.len() / 4);
            assert_eq!(inflater.inflate(&LIMITS, compressed).unwrap(), payload);
        }
    }
}

#[test]
fn same_message_compresses_to_the_same_bytes_every_time() {
    let mut deflater = Deflater::new(6);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    assert!(deflater.compress(12, &json(9), &mut first));
    assert!(deflater.compress(12, &json(9), &mut second));
    assert_eq!(first, second);
}

#[test]
fn what_does_not_shrink_or_cannot_be_done_is_left_alone() {
    let mut deflater = Deflater::new(6);
    let mut out = b"kept".to_vec();
    assert!(!deflater.compress(15, &noise(3000), &mut out));
    assert!(!deflater.compress(15, b"", &mut out));
    assert!(!deflater.compress(8, &json(100), &mut out));
    assert!(!deflater.compress(16, &json(100), &mut out));
    assert_eq!(out, b"kept");
}

#[test]
fn examples_of_the_specification_inflate() {
    // RFC 7692, 7.2.3.1, 7.2.3.3, 7.2.3.4, 7.2.3.5 and 7.2.3.6.
    let mut inflater = Inflater::new();
    for compressed in [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
        &[
            0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
        ],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ],
    ] {
        assert_eq!(inflater.inflate(&LIMITS, compressed).unwrap(), b"Hello");
    }
    assert_eq!(inflater.inflate(&LIMITS, &[0x00]).unwrap(), b"");
    assert_eq!(inflater.inflate(&LIMITS, &[]).unwrap(), b"");
}

#[test]
fn window_of_an_earlier_message_is_out_of_reach() {
    // RFC 7692, 7.2.3.2: the second "Hello" of a peer that keeps its context.
    let mut inflater = Inflater::new();
    inflater
        .inflate(&LIMITS, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])
        .unwrap();
    let again = inflater.inflate(&LIMITS, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    assert_eq!(again, Err(FrameError::DeflateCorrupt));
}

#[test]
fn absolute_cap_is_exact() {
    let compressed = deflated(&json(1000));
    let len = json(1000).len();
    let mut inflater = Inflater::new();
    let at = Limits {
        inflated_max: len,
        ..LIMITS
    };
    assert_eq!(inflater.inflate(&at, &compressed).unwrap().len(), len);
    let below = Limits {
        inflated_max: len - 1,
        ..LIMITS
    };
    assert_eq!(
        inflater.inflate(&below, &compressed),
        Err(FrameError::InflatedTooLarge)
    );
}

#[test]
fn ratio_cap_is_exact_and_spares_small_messages() {
    let payload = vec![b'a'; 100_000];
    let compressed = deflated(&payload);
    let ratio = payload.len().div_ceil(compressed.len()) as u32;
    let mut inflater = Inflater::new();
    let at = Limits {
        inflate_ratio_max: ratio,
        ..LIMITS
    };
    assert!(inflater.inflate(&at, &compressed).is_ok());
    let below = Limits {
        inflate_ratio_max: ratio - 1,
        ..LIMITS
    };
    assert_eq!(
        inflater.inflate(&below, &compressed),
        Err(FrameError::InflateRatio)
    );

    let small = deflated(&[b'a'; RATIO_FREE]);
    let strict = Limits {
        inflate_ratio_max: 1,
        ..LIMITS
    };
    assert!(inflater.inflate(&strict, &small).is_ok());
    let larger = deflated(&[b'a'; RATIO_FREE + 1]);
    assert_eq!(
        inflater.inflate(&strict, &larger),
        Err(FrameError::InflateRatio)
    );
}

#[test]
fn bomb_is_refused_in_bounded_memory() {
    let bomb = deflated(&vec![0; 32 << 20]);
    assert!(bomb.len() < 64 << 10);
    for (limits, error) in [
        (
            Limits {
                inflated_max: 1 << 20,
                ..LIMITS
            },
            FrameError::InflatedTooLarge,
        ),
        (
            Limits {
                inflated_max: 64 << 20,
                inflate_ratio_max: 20,
                ..LIMITS
            },
            FrameError::InflateRatio,
        ),
    ] {
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&limits, &bomb), Err(error));
        assert!(
            inflater.held.capacity() <= 1 << 20 | 1,
            "held {}",
            inflater.held.capacity()
        );
        inflater.trim();
        assert!(inflater.held.capacity() <= HELD_KEPT_MAX);
    }
}

#[test]
fn noise_does_not_inflate_to_anything_unbounded() {
    let mut inflater = Inflater::new();
    let limits = Limits {
        inflated_max: 10_000,
        ..LIMITS
    };
    let source = noise(4096);
    for start in 0..2000 {
        let outcome = inflater.inflate(&limits, &source[start..start + start % 97]);
        assert!(outcome.is_err() || outcome.is_ok_and(|payload| payload.len() <= 10_000));
    }
}

#[test]
fn message_is_compressed_when_it_helps() {
    let mut deflater = Deflater::new(6);
    let params = DeflateParams { window_bits: 15 };
    for (payload, compressed) in [(json(50), true), (noise(500), false)] {
        let mut out = Vec::new();
        let key = [1, 2, 3, 4];
        encode_message(
            &mut out,
            true,
            Some(key),
            &payload,
            Some((&mut deflater, params)),
        );
        assert_eq!(out[0], if compressed { 0xc2 } else { 0x82 });
        if !compressed {
            apply_mask(&mut out[8..], key);
            assert_eq!(out[8..], payload);
        }
    }
    let mut plain = Vec::new();
    encode_message(&mut plain, false, None, b"hi", None);
    assert_eq!(plain, [0x81, 2, b'h', b'i']);
}

#[test]
fn large_message_leaves_no_large_buffer_behind() {
    let mut deflater = Deflater::new(1);
    let params = DeflateParams { window_bits: 15 };
    let payload = noise(4 * HELD_KEPT_MAX);
    let mut out = Vec::new();
    encode_message(
        &mut out,
        true,
        None,
        &payload,
        Some((&mut deflater, params)),
    );
    assert!(deflater.scratch.capacity() <= HELD_KEPT_MAX);
    encode_message(
        &mut out,
        true,
        None,
        b"aaaaaaaaaaaaaa",
        Some((&mut deflater, params)),
    );
    assert!(deflater.scratch.capacity() > 0, "a small one is kept");
}
