//! The test vectors of `docs/internals/quantum.md`, checked against the code.
#![cfg(test)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::{Bytes, BytesMut};
use quantum::grpc::fields;
use quantum::identity::{Identity, Wanted};
use quantum::tls::{ClientTls, Clients, HmacMacs, ServerTls};
use quantum::{Config, FecMode, Guuid};
use quantum_proto::Time;
use quantum_proto::crypto::{ClientCrypto, Keys, ServerCrypto};
use quantum_proto::endpoint::{Endpoint, EndpointConfig, FIRST_DATAGRAM, Verdict};
use quantum_proto::fec::{Decoder, Encoder, Situation};
use quantum_proto::frame::{self, END_MESSAGE, END_STREAM, Frame, Frames, Options, Repair};
use quantum_proto::packet::{self, Flags, HEADER_LEN, Header, Numbering, Packet, Sacks, Sealed};

const DOCUMENT: &str = include_str!("../../../docs/internals/quantum.md");
const GUUID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// The key of cookies and reset tokens.
const KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut at = 0;
    while at < key.len() {
        key[at] = at as u8;
        at += 1;
    }
    key
};

/// The text of each vector, by name.
fn vectors() -> BTreeMap<&'static str, &'static str> {
    let blocks = DOCUMENT.split("```vector ").skip(1);
    let named = blocks.map(|block| {
        let (name, rest) = block.split_once('\n').unwrap();
        (name.trim(), rest.split_once("```").unwrap().0)
    });
    let mut all = BTreeMap::new();
    for (name, text) in named {
        assert!(all.insert(name, text).is_none(), "`{name}` is there twice");
    }
    all
}

fn bytes(name: &str) -> Bytes {
    let text = vectors().remove(name);
    hex(text.unwrap_or_else(|| panic!("the document has no vector `{name}`")))
}

/// The lines of a vector, each as bytes.
fn rows(name: &str) -> Vec<Bytes> {
    vectors()[name].lines().map(hex).collect()
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .filter(|it| !it.is_whitespace())
        .map(|it| it.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn written(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

fn guuid() -> Guuid {
    Guuid::new(GUUID).unwrap()
}

fn header(flags: Flags, sequence: u32, ack: u32) -> Header {
    Header {
        flags,
        guuid: guuid(),
        sequence,
        ack,
        sacks: Sacks::default(),
    }
}

struct Tls {
    client: ClientTls,
    server: ServerTls,
}

/// Certificates do not matter here: initial keys follow from the GUUID.
fn tls() -> Tls {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        server_names: vec!["localhost".to_owned()],
        client_uri: "spiffe://test/client".to_owned(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30),
        lifetime: Duration::from_secs(3_600),
    };
    let identity = Identity::generate(&folder.path().join("keys"), &wanted).unwrap();
    Tls {
        client: ClientTls::load(&identity.authority, Some(&identity.client)).unwrap(),
        server: ServerTls::load(&identity.server, &Clients::Anonymous).unwrap(),
    }
}

fn sealed(header: &Header, frames: &[u8], counter: u64, keys: &Keys) -> BytesMut {
    let mut out = BytesMut::new();
    header.write(0, &mut out);
    out.extend_from_slice(frames);
    packet::seal(&mut out, 0, header.len(), counter, keys.local.as_ref());
    out
}

#[test]
fn every_vector_is_checked() {
    let ours = include_str!("vectors.rs");
    let unchecked: Vec<_> = vectors()
        .into_keys()
        .filter(|name| !ours.contains(&format!("\"{name}\"")))
        .collect();
    assert!(unchecked.is_empty(), "nothing checks {unchecked:?}");
    assert!(vectors().len() > 30);
}

#[test]
fn headers() {
    let mut header = header(Flags::ACK.with(Flags::PSH), 7, 5);
    assert_eq!(bytes("header"), written(|out| header.write(300, out)));
    header.sacks.push(7, 7);
    header.sacks.push(9, 12);
    let with_sacks = bytes("header-with-sacks");
    assert_eq!(with_sacks, written(|out| header.write(300, out)));
    let mut datagram = BytesMut::from(&with_sacks[..]);
    datagram.resize(datagram.len() + 300 + packet::TRAILER_LEN, 0);
    assert_eq!(Sealed::parse(datagram).unwrap().header, header);
}

#[test]
fn numbers_on_the_wire() {
    for line in vectors()["numbering"].lines() {
        let mut numbers = line.split(' ').map(|it| it.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let (start, number, wire) = (next(), next(), next());
        let numbering = Numbering::new(u32::try_from(start).unwrap());
        assert_eq!(u64::from(numbering.to_wire(number)), wire, "{line}");
        let wire = u32::try_from(wire).unwrap();
        assert_eq!(numbering.expand(wire, number), Some(number), "{line}");
        assert_eq!(
            numbering.expand(wire, number + 1_000),
            Some(number),
            "{line}"
        );
    }
    assert_eq!(Numbering::new(0).expand(0, 1), None);
}

#[test]
fn frames() {
    let stream = END_STREAM | END_MESSAGE;
    let cookie = Options {
        cookie: Some(bytes("cookie")),
        ..Options::default()
    };
    let mut tlvs = Vec::new();
    cookie.encode(&mut tlvs);
    let token = [1, 2, 3, 4, 5, 6, 7, 8];
    let acked = [(18, 20), (12, 15)].into_iter();
    let recovered = [(7, 7)].into_iter();
    let expected = [
        ("frame-padding", written(|out| frame::write_padding(out, 8))),
        (
            "frame-stream",
            written(|out| frame::write_stream(out, 5, 1_000, stream, &[b"hello"])),
        ),
        (
            "frame-max-data",
            written(|out| frame::write_max_data(out, 5, 1 << 20)),
        ),
        (
            "frame-options",
            written(|out| frame::write_options(out, &tlvs)),
        ),
        ("frame-reset", written(|out| frame::write_reset(out, 5, 1))),
        (
            "frame-close",
            written(|out| frame::write_close(out, 0x1007, "enough", 100)),
        ),
        (
            "frame-ack-ext",
            written(|out| {
                assert!(frame::write_ack_ext(out, 250, acked, recovered, 100));
            }),
        ),
        ("frame-stop", written(|out| frame::write_stop(out, 5, 1))),
        (
            "frame-max-streams",
            written(|out| frame::write_max_streams(out, 1_024)),
        ),
        (
            "frame-piece",
            written(|out| frame::write_piece(out, 7, 4, 9, &[10, 11, 12])),
        ),
        ("frame-ping", written(frame::write_ping)),
        (
            "frame-path-challenge",
            written(|out| frame::write_path_challenge(out, token)),
        ),
        (
            "frame-path-response",
            written(|out| frame::write_path_response(out, token)),
        ),
        (
            "frame-crypto",
            written(|out| frame::write_crypto(out, 1_200, &[1, 2])),
        ),
        ("frame-done", written(frame::write_done)),
        ("frame-ecn", written(|out| frame::write_ecn(out, 3))),
    ];
    for (name, expected) in expected {
        assert_eq!(bytes(name), expected, "{name}");
        let read: Vec<_> = Frames::new(expected).collect();
        assert!(matches!(&read[..], [Ok(_)]), "{name} is read as {read:?}");
    }
    let Some(Ok(Frame::AckExt(ack))) = Frames::new(bytes("frame-ack-ext")).next() else {
        panic!("not ACK_EXT");
    };
    assert_eq!((ack.largest, ack.delay), (20, 250));
    assert_eq!(ack.ranges().collect::<Vec<_>>(), [(18, 20), (12, 15)]);
    assert_eq!(ack.recovered().collect::<Vec<_>>(), [(7, 7)]);
}

#[test]
fn options() {
    let expected = Options {
        largest_datagram: 1_472,
        fec_schemes: 0b110,
        first_sequence: 4_294_967_290,
        connection_window: 8 << 20,
        stream_window: 1 << 20,
        max_streams: 1_024,
        ..Options::default()
    };
    assert_eq!(Options::decode(&bytes("options")).unwrap(), expected);
    let mut encoded = Vec::new();
    expected.encode(&mut encoded);
    assert_eq!(bytes("options"), encoded);
}

#[test]
fn keys_of_the_first_packets() {
    let tls = tls();
    let sides = [tls.client.initial(guuid()), tls.server.initial(guuid())];
    let rows = rows("initial-keys");
    for (pair, keys) in rows.chunks(2).zip(&sides) {
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &pair[0]).unwrap());
        let counter = 0x0102_0304_0506_0708_u64;
        let mut nonce: [u8; 12] = pair[1][..].try_into().unwrap();
        for (byte, number) in nonce[4..].iter_mut().zip(counter.to_be_bytes()) {
            *byte ^= number;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (mut ours, mut theirs) = (b"payload".to_vec(), b"payload".to_vec());
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(b"header"), &mut ours)
            .unwrap();
        let expected = keys.local.seal(counter, b"header", &mut theirs);
        assert_eq!((ours, tag.as_ref()), (theirs, &expected[..]));
    }

    let frames = written(|out| frame::write_crypto(out, 0, &[1, 2, 3, 4]));
    let syn = sealed(&header(Flags::SYN, 0, 0), &frames, 0, &sides[0]);
    assert_eq!(bytes("sealed-syn"), syn);
    let opened = Sealed::parse(syn).unwrap().open(sides[1].remote.as_ref());
    assert_eq!(opened.unwrap(), frames);
}

#[test]
fn cookies_and_resets() {
    let tls = tls();
    let keys = tls.client.initial(guuid());
    let config = EndpointConfig {
        half_open_max: 0,
        ..EndpointConfig::default()
    };
    let server: Arc<dyn ServerCrypto> = Arc::new(tls.server);
    let mut endpoint = Endpoint::new(config, Box::new(HmacMacs::new(&KEY)), Some(server));
    let remote = SocketAddr::from(([192, 0, 2, 7], 4_433));

    let hello = |cookie: Option<Bytes>| {
        let frames = written(|out| {
            if let Some(cookie) = cookie {
                let mut tlvs = Vec::new();
                let options = Options {
                    cookie: Some(cookie),
                    ..Options::default()
                };
                options.encode(&mut tlvs);
                frame::write_options(out, &tlvs);
            }
            frame::write_crypto(out, 0, b"hello");
            frame::write_padding(out, FIRST_DATAGRAM - HEADER_LEN - out.len() - 24);
        });
        Packet::parse(sealed(&header(Flags::SYN, 0, 0), &frames, 0, &keys)).unwrap()
    };
    let Verdict::Respond(answer) = endpoint.handle(Time::ZERO, remote, &hello(None)) else {
        panic!("no cookie");
    };
    assert_eq!(bytes("cookie-packet"), answer);
    let verdict = endpoint.handle(Time::ZERO, remote, &hello(Some(bytes("cookie"))));
    assert!(matches!(verdict, Verdict::New(it) if it.validated));

    let stray = sealed(&header(Flags::NONE, 0, 0), &[0; 20], 9, &keys);
    let stray = Packet::parse(stray).unwrap();
    let Verdict::Respond(answer) = endpoint.handle(Time::ZERO, remote, &stray) else {
        panic!("no reset");
    };
    assert_eq!(bytes("reset"), answer);
}

/// Multiplication in GF(2^8), bit by bit.
fn multiply(mut left: u8, mut right: u8) -> u8 {
    let mut product = 0;
    while right != 0 {
        if right & 1 != 0 {
            product ^= left;
        }
        let overflows = left & 0x80 != 0;
        left <<= 1;
        if overflows {
            left ^= 0x1d;
        }
        right >>= 1;
    }
    product
}

const PARTS: [(u64, &[u8]); 3] = [(5, &[0x0a]), (6, &[0x14, 0x1e]), (7, &[0x28, 0x32, 0x3c])];

/// What a receiver computes from these parts and repairs.
fn recovered(parts: &[(u64, Bytes)], repairs: &[Repair]) -> Vec<(u64, Bytes)> {
    let mut decoder = Decoder::new();
    for (number, part) in parts {
        decoder.on_source(*number, part);
    }
    for repair in repairs {
        decoder.on_repair(repair, &Numbering::default()).unwrap();
    }
    let mut found: Vec<_> = std::iter::from_fn(|| decoder.poll_recovered()).collect();
    found.sort();
    found
}

#[test]
fn coefficients_of_repairs() {
    let rows = rows("coefficients");
    let cases = [(2, 0), (2, 1), (1, 0), (1, 1)];
    for ((scheme, row), coefficients) in cases.into_iter().zip(rows) {
        // All parts but one are sums of nothing: each coefficient is seen alone.
        for (place, coefficient) in coefficients.iter().enumerate() {
            let known = PARTS.iter().enumerate().filter(|(at, _)| *at != place);
            let known: Vec<_> = known
                .map(|(_, (number, part))| (*number, Bytes::from_static(part)))
                .collect();
            let mut symbol = vec![0; 5];
            for (at, (_, part)) in PARTS.iter().enumerate() {
                let mut source = vec![0, part.len() as u8];
                source.extend_from_slice(part);
                for (sum, byte) in symbol.iter_mut().zip(source) {
                    *sum ^= multiply(coefficients[at], byte);
                }
            }
            let repair = Repair {
                scheme,
                row,
                first: 5,
                mask: 0b111,
                symbol: symbol.into(),
            };
            let (number, part) = PARTS[place];
            let expected = [(number, Bytes::from_static(part))];
            let found = recovered(&known, &[repair]);
            assert_eq!(
                found, expected,
                "scheme {scheme}, row {row}, {coefficient:02x}"
            );
        }
    }
}

fn quiet() -> Situation {
    Situation {
        cwnd_limited: false,
        more_queued: false,
        srtt: Duration::from_millis(20),
        probe_rtt: false,
    }
}

/// The repairs that an encoder makes of these parts, one flight.
fn repairs(config: &Config, parts: &[(u64, Bytes)]) -> Vec<Repair> {
    let mut encoder = Encoder::new(config);
    encoder.set_peer_schemes(0b110);
    for _ in 0..200 {
        encoder.on_fate(Time::ZERO, true);
    }
    for (number, part) in parts {
        encoder.on_source(Time::ZERO, *number, part, false);
    }
    let mut found = Vec::new();
    for millis in 0..20 {
        let now = Time::after(Duration::from_millis(millis));
        let mut out = BytesMut::new();
        let numbering = Numbering::default();
        while encoder
            .poll(now, &quiet(), 1_000, &numbering, &mut out)
            .is_some()
        {}
        found.extend(Frames::new(out.freeze()).map(|frame| match frame {
            Ok(Frame::Repair(repair)) => repair,
            other => panic!("{other:?} instead of a repair"),
        }));
    }
    found
}

#[test]
fn repairs_of_a_sliding_window() {
    let parts = PARTS.map(|(number, part)| (number, Bytes::from_static(part)));
    let config = Config {
        fec_ratio: 0.3,
        ..Config::default()
    };
    let made = repairs(&config, &parts);
    let symbols: Vec<_> = made.iter().map(|it| it.symbol.clone()).take(2).collect();
    assert_eq!(symbols, [bytes("rlc-row-0"), bytes("rlc-row-1")]);
    assert_eq!((made[0].first, made[0].mask, made[0].row), (5, 0b111, 0));

    let Some(Ok(Frame::Repair(first))) = Frames::new(bytes("frame-repair")).next() else {
        panic!("not REPAIR");
    };
    assert_eq!(made[0], first);
    let second = Repair {
        row: 1,
        symbol: bytes("rlc-row-1"),
        ..first.clone()
    };
    assert_eq!(
        recovered(&parts[..2], std::slice::from_ref(&first)),
        parts[2..]
    );
    assert_eq!(recovered(&parts[2..], &[first, second]), parts[..2]);
}

#[test]
fn repairs_of_a_block() {
    let parts: Vec<_> = (0..10_u8)
        .map(|at| (u64::from(at) + 1, Bytes::from(vec![0xa0 + at])))
        .collect();
    let config = Config {
        fec_mode: FecMode::Block,
        fec_ratio: 0.3,
        ..Config::default()
    };
    let made = repairs(&config, &parts);
    let symbols: Vec<_> = made.iter().map(|it| it.symbol.clone()).collect();
    assert_eq!(symbols, rows("rs-rows"));
    let shape = |it: &Repair| (it.scheme, it.first, it.mask);
    assert!(made.iter().all(|it| shape(it) == (1, 1, 0x3ff)));
    assert_eq!(recovered(&parts[3..], &made), parts[..3]);
}

#[test]
fn blocks_of_fields_and_calls() {
    let request = written(|out| {
        fields::write(out, ":path", b"/echo.Echo/Say").unwrap();
        fields::write(out, "content-type", b"application/grpc").unwrap();
        fields::write(out, "grpc-timeout", b"5S").unwrap();
        fields::write(out, "x-guuid", b"550e8400-e29b-41d4-a716-446655440000").unwrap();
        fields::write(out, "tenant", b"a").unwrap();
    });
    assert_eq!(bytes("grpc-headers"), request);
    assert_eq!(fields::read(&request).unwrap().len(), 5);
    let trailers = written(|out| fields::write(out, "grpc-status", b"0").unwrap());
    assert_eq!(bytes("grpc-trailers"), trailers);

    let message = [0, 0, 0, 0, 4, 0x0a, 2, b'h', b'i'];
    let call = written(|out| {
        frame::write_stream(out, 1, 0, END_MESSAGE, &[&[1], &request]);
        let offset = 1 + request.len() as u64;
        frame::write_stream(out, 1, offset, END_STREAM, &[&[2], &message]);
    });
    assert_eq!(bytes("grpc-call"), call);
    let header = HEADER_LEN + packet::TRAILER_LEN;
    assert!(header + call.len() < 200);
}

#[test]
fn the_tables_of_fields_are_the_documents() {
    for (entry, (name, value)) in fields::PAIRS.iter().enumerate() {
        let row = format!("| {entry} | `{name}: {value}` |");
        assert!(DOCUMENT.contains(&row), "the document lacks `{row}`");
    }
    let names = fields::NAMES.map(|name| format!("`{name}`"));
    for (index, eight) in names.chunks(8).enumerate() {
        let (first, last) = (index * 8, index * 8 + eight.len() - 1);
        let row = format!("| {first} … {last} | {} |", eight.join(", "));
        assert!(DOCUMENT.contains(&row), "the document lacks `{row}`");
    }
}
