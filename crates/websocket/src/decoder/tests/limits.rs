//! Each limit at its value and one above.

use super::*;

fn ear(limits: Limits) -> Ear {
    Ear {
        limits,
        ..Ear::new(Role::Server)
    }
}

const LIMITS: Limits = Limits {
    message_max: 100,
    frame_max: 60,
    inflated_max: 300,
    inflate_ratio_max: 1000,
};

#[test]
fn frame_limit_is_checked_at_the_header() {
    let mut exact = ear(LIMITS);
    exact.hear(&frame(OpCode::Binary, true, &[1; 60]));
    assert_eq!(exact.heard, [Heard::Binary(vec![1; 60])]);

    let mut above = ear(LIMITS);
    above.hear(&frame(OpCode::Binary, true, &[1; 61])[..6]);
    assert_eq!(above.heard, [Heard::Refused(FrameError::FrameTooLarge)]);
    assert_eq!(FrameError::FrameTooLarge.close_code(), 1009);
}

#[test]
fn message_limit_counts_all_fragments() {
    let first = frame(OpCode::Binary, false, &[1; 60]);
    let mut exact = ear(LIMITS);
    exact.hear(&first);
    exact.hear(&frame(OpCode::Continuation, true, &[1; 40]));
    assert_eq!(exact.heard, [Heard::Binary(vec![1; 100])]);

    let mut above = ear(LIMITS);
    above.hear(&first);
    above.hear(&frame(OpCode::Continuation, true, &[1; 41])[..6]);
    assert_eq!(above.heard, [Heard::Refused(FrameError::MessageTooLarge)]);
    assert_eq!(above.decoder.held_bytes(), 0);
}

#[test]
fn message_limit_holds_for_single_frames_too() {
    let limits = Limits {
        frame_max: 1000,
        ..LIMITS
    };
    let mut above = ear(limits);
    above.hear(&frame(OpCode::Binary, true, &[1; 101])[..6]);
    assert_eq!(above.heard, [Heard::Refused(FrameError::MessageTooLarge)]);
}

#[test]
fn control_frames_are_exempt_from_message_limits() {
    let limits = Limits {
        message_max: 0,
        frame_max: 0,
        ..LIMITS
    };
    let mut ear = ear(limits);
    ear.hear(&frame(OpCode::Ping, true, &[1; 125]));
    assert_eq!(ear.heard, [Heard::Ping(vec![1; 125])]);
}

#[test]
fn inflated_limit_holds_whole_and_in_parts() {
    for (len, refused) in [(300, false), (301, true)] {
        let wire = compressed(&vec![b'z'; len]);
        for cut in [0, 3, 8] {
            let mut ear = ear(LIMITS);
            ear.hear(&wire[..cut]);
            ear.hear(&wire[cut..]);
            let is_refused = ear.heard == [Heard::Refused(FrameError::InflatedTooLarge)];
            assert_eq!(is_refused, refused, "{len} bytes, cut at {cut}");
        }
    }
}

#[test]
fn announced_length_costs_nothing_before_it_arrives() {
    let limits = Limits {
        message_max: 1 << 30,
        frame_max: 1 << 30,
        ..LIMITS
    };
    let mut ear = ear(limits);
    let mut wire = vec![0x82, 0xff];
    wire.extend_from_slice(&(1_u64 << 30).to_be_bytes());
    wire.extend_from_slice(&KEY);
    wire.extend_from_slice(&[0; 100]);
    ear.hear(&wire);
    assert!(
        ear.decoder.held_bytes() < 1000,
        "{} bytes",
        ear.decoder.held_bytes()
    );
}

#[test]
fn message_of_one_byte_fragments_grows_geometrically() {
    let limits = Limits {
        message_max: 1 << 16,
        ..LIMITS
    };
    let mut ear = ear(limits);
    ear.hear(&frame(OpCode::Binary, false, b"x"));
    let mut capacities = Vec::new();
    for _ in 0..10_000 {
        ear.hear(&frame(OpCode::Continuation, false, b"x"));
        capacities.push(ear.decoder.held_bytes());
    }
    capacities.dedup();
    assert!(capacities.len() < 20, "{} reallocations", capacities.len());
}
