//! What a connection of HTTP/2 may not cost.

use anyhow::{Context, ensure};

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, block,
    frame,
};
use super::{Got, answer, others_get};
use crate::smuggling;
use crate::smuggling::origin::Origin;

/// The usual fields of a request.
fn usual(method: &str, path: &str) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "gate.test"),
        (":path", path),
    ];
    block(&fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())))
}

/// Reads up to GOAWAY and gives its error code; `None` if the connection ends without.
fn goaway(raw: &mut Raw) -> Option<u32> {
    while let Some(frame) = raw.next() {
        if frame.kind == GOAWAY {
            let code = frame.payload.get(4..8)?;
            return Some(u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        }
    }
    None
}

const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u8 = 7;

#[test]
fn flood_of_resets_ends_the_connection() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let mut raw = Raw::open(gateway.main_addr())?;
    let mut stream = 1;
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let head = usual("GET", "/-/o/flood");
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            stream += 2;
        }
        if !raw.send(&bytes) {
            break;
        }
    }
    // Where the socket is reset with it, the frame itself may be lost.
    let code = goaway(&mut raw);
    assert!(
        code.is_none_or(|code| code == ENHANCE_YOUR_CALM),
        "{code:?}"
    );
    others_get(gateway.main_addr(), "/c0/next")?;
    let asked = origin.seen().len();
    assert!(asked < 2_000, "{asked} of the requests reached the origin");
    Ok(())
}

#[test]
fn head_that_does_not_end_ends_the_connection() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let mut raw = Raw::open(gateway.main_addr())?;
    raw.send(&frame(HEADERS, END_STREAM, 1, &usual("GET", "/-/o/bomb")));
    let field = block(&[(b"x-a".to_vec(), vec![b'b'; 16_000])]);
    let mut sent = 0;
    while sent < 4_096 && raw.send(&frame(CONTINUATION, 0, 1, &field)) {
        sent += 1;
    }
    assert!(sent < 4_096, "64 MiB of a head were taken");
    others_get(gateway.main_addr(), "/c0/next")?;
    assert_eq!(origin.seen().len(), 1, "the head reached the origin");
    Ok(())
}

#[test]
fn list_of_fields_has_a_limit() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let mut raw = Raw::open(gateway.main_addr())?;
    let mut head = usual("GET", "/-/o/large");
    // Few bytes on the wire, many in the table: each refers to the field before.
    head.push(0x40);
    head.extend(block(&[(b"x-a".to_vec(), vec![b'b'; 1_000])])[1..].to_vec());
    head.extend(std::iter::repeat_n(0xbe, 8_000));
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head));
    let got = answer(&mut raw, 1)?;
    let is_refused = matches!(got, Got::Reset | Got::Answer(431, _));
    assert!(is_refused, "{got:?}");
    others_get(gateway.main_addr(), "/c0/next")?;
    assert_eq!(origin.seen().len(), 1, "the head reached the origin");
    Ok(())
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_served() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let mut raw = Raw::open(gateway.main_addr())?;
    let mut bytes = Vec::new();
    // Their bodies do not come yet.
    for number in 0..=100 {
        let head = usual("POST", "/-/o/held");
        bytes.extend(frame(HEADERS, END_HEADERS, number * 2 + 1, &head));
    }
    raw.send(&bytes);
    let refused = loop {
        let frame = raw.next().context("nothing was refused")?;
        ensure!(frame.kind != GOAWAY, "the connection ends: {frame:?}");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!(refused.stream, 201, "{refused:?}");
    assert_eq!(refused.payload.last(), Some(&REFUSED_STREAM), "{refused:?}");
    raw.send(&frame(DATA, END_STREAM, 1, b"hello"));
    assert_eq!(
        answer(&mut raw, 1)?,
        Got::Answer(200, "POST /held".to_owned())
    );
    Ok(())
}

#[test]
fn flood_of_pings_is_answered_or_ends_and_hurts_nobody() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let mut raw = Raw::open(gateway.main_addr())?;
    let pings: Vec<u8> = (0..1_000)
        .flat_map(|_| frame(PING, 0, 0, &[0; 8]))
        .collect();
    for _ in 0..20 {
        // The answers are read, but late.
        if !raw.send(&pings) {
            break;
        }
        while raw
            .next_within(std::time::Duration::from_millis(1))
            .is_some()
        {}
    }
    others_get(gateway.main_addr(), "/c0/next")
}
