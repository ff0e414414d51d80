use std::net::Ipv4Addr;

use super::*;
use crate::crypto::null::{NullClient, NullMacs, NullServer};
use crate::crypto::{ClientCrypto, Handshake, HandshakeError, PacketKey, Rejected};
use crate::frame::{write_crypto, write_padding};

const NOW: Time = Time::ZERO;

fn endpoint(config: EndpointConfig) -> Endpoint {
    let server = Arc::new(NullServer::default());
    Endpoint::new(config, Box::new(NullMacs { key: 1 }), Some(server))
}

fn guuid(number: u64) -> Guuid {
    let mut bytes = [1; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Guuid::new(bytes).unwrap()
}

fn address(number: u64) -> SocketAddr {
    let [.., a, b, c, d] = number.to_be_bytes();
    (Ipv4Addr::new(10, b, c, d), u16::from(a) + 1_024).into()
}

/// A packet of a client with the given frames.
fn sealed(number: u64, flags: Flags, frames: &[u8]) -> Packet {
    let header = Header {
        flags,
        guuid: guuid(number),
        sequence: 0,
        ack: 0,
        sacks: Sacks::default(),
    };
    let keys = NullClient.initial(guuid(number));
    let mut out = BytesMut::new();
    header.write(0, &mut out);
    out.extend_from_slice(frames);
    packet::seal(&mut out, 0, header.len(), 0, keys.local.as_ref());
    Packet::parse(out).unwrap()
}

/// A client's first packet, of 1,200 bytes.
fn hello(number: u64, cookie: Option<&Bytes>) -> Packet {
    let mut frames = BytesMut::new();
    if let Some(cookie) = cookie {
        let options = Options {
            cookie: Some(cookie.clone()),
            ..Options::default()
        };
        let mut tlvs = Vec::new();
        options.encode(&mut tlvs);
        write_options(&mut frames, &tlvs);
    }
    let begin = b"client says hello";
    let used = frames.len() + crate::frame::CRYPTO_HEAD + begin.len();
    let room = FIRST_DATAGRAM - packet::HEADER_LEN - TRAILER_LEN;
    write_padding(&mut frames, room - used);
    write_crypto(&mut frames, 0, begin);
    sealed(number, Flags::SYN, &frames)
}

fn cookie_of(number: u64, answer: &[u8]) -> Bytes {
    let answer = Sealed::parse(BytesMut::from(answer)).unwrap();
    assert_eq!(answer.header.flags, Flags::SYN.with(Flags::ACK));
    let keys = NullClient.initial(guuid(number));
    let payload = answer.open(keys.remote.as_ref()).unwrap();
    match Frames::new(payload).next() {
        Some(Ok(Frame::Options(tlvs))) => Options::decode(&tlvs).unwrap().cookie.unwrap(),
        other => panic!("{other:?} instead of a cookie"),
    }
}

fn counted(endpoint: &Endpoint, reason: Reason) -> u64 {
    let mut all = endpoint.drops();
    all.find(|(of, _)| *of == reason).unwrap().1
}

#[test]
fn packets_find_their_connection() {
    let mut endpoint = endpoint(EndpointConfig::default());
    let Verdict::New(incoming) = endpoint.handle(NOW, address(1), &hello(1, None)) else {
        panic!("refused");
    };
    assert_eq!((incoming.guuid, incoming.remote), (guuid(1), address(1)));
    assert!(!incoming.validated);
    let one = endpoint.insert(guuid(1), true).unwrap();
    let two = endpoint.insert(guuid(2), true).unwrap();
    assert_eq!(endpoint.handshakes(), 2);

    for (number, handle) in [(1, one), (2, two)] {
        let data = sealed(number, Flags::NONE, b"x");
        assert!(matches!(
            endpoint.handle(NOW, address(9), &data),
            Verdict::Connection(found) if found == handle
        ));
    }
    let reset = Packet::Reset {
        guuid: guuid(2),
        token: [0; 16],
    };
    assert!(matches!(
        endpoint.handle(NOW, address(2), &reset),
        Verdict::Connection(found) if found == two
    ));

    endpoint.established(one);
    endpoint.established(one);
    assert_eq!(endpoint.handshakes(), 1);
    endpoint.remove(one);
    endpoint.remove(one);
    endpoint.remove(two);
    assert!(endpoint.is_empty());
    assert_eq!(endpoint.handshakes(), 0);
    assert!(matches!(
        endpoint.handle(NOW, address(2), &reset),
        Verdict::Drop(Reason::UnknownReset)
    ));
    assert_eq!(endpoint.insert(guuid(3), false).unwrap().0, two.0);
}

#[test]
fn one_name_is_one_connection() {
    let mut endpoint = endpoint(EndpointConfig {
        connections_max: 2,
        ..EndpointConfig::default()
    });
    endpoint.insert(guuid(1), false).unwrap();
    let taken = endpoint.insert(guuid(1), false).unwrap_err();
    assert_eq!(taken, InsertError::Taken { guuid: guuid(1) });
    endpoint.insert(guuid(2), false).unwrap();
    let full = endpoint.insert(guuid(3), false).unwrap_err();
    assert_eq!(full, InsertError::Full { max: 2 });
    assert!(matches!(
        endpoint.handle(NOW, address(3), &hello(3, None)),
        Verdict::Drop(Reason::Full)
    ));
}

#[test]
fn first_packets_that_begin_nothing_are_dropped() {
    let mut endpoint = endpoint(EndpointConfig::default());
    let padding = vec![0; 1_200];
    let mut forged = match hello(1, None) {
        Packet::Sealed(sealed) => sealed,
        Packet::Reset { .. } => unreachable!(),
    };
    forged.counter += 1;
    let frames = |write: fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        out
    };
    let cases = [
        (
            sealed(1, Flags::SYN, &frames(|out| write_crypto(out, 0, b"x"))),
            Reason::ShortFirst,
        ),
        (Packet::Sealed(forged), Reason::Forged),
        (
            sealed(1, Flags::SYN, &frames(|out| write_padding(out, 1_200))),
            Reason::NoBeginning,
        ),
        (sealed(1, Flags::SYN, &[0xee; 1_200]), Reason::Malformed),
        (
            sealed(1, Flags::SYN.with(Flags::ACK), &padding),
            Reason::UnknownHandshake,
        ),
        (
            sealed(1, Flags::SYN.with(Flags::KEY_PHASE), &padding),
            Reason::UnknownHandshake,
        ),
    ];
    for (packet, expected) in cases {
        match endpoint.handle(NOW, address(1), &packet) {
            Verdict::Drop(reason) => assert_eq!(reason, expected),
            other => panic!("{other:?} instead of {expected:?}"),
        }
        assert!(counted(&endpoint, expected) > 0);
    }
    endpoint.set_server(None);
    assert!(matches!(
        endpoint.handle(NOW, address(1), &hello(1, None)),
        Verdict::Drop(Reason::NotAccepting)
    ));
}

/// Fills an endpoint with handshakes until it wants cookies.
fn busy() -> Endpoint {
    let mut endpoint = endpoint(EndpointConfig {
        half_open_max: 4,
        handshakes_max: 8,
        ..EndpointConfig::default()
    });
    for number in 100..104 {
        endpoint.insert(guuid(number), true).unwrap();
    }
    endpoint
}

#[test]
fn a_busy_endpoint_wants_a_cookie_and_takes_it() {
    let mut endpoint = busy();
    let first = hello(1, None);
    let Verdict::Respond(answer) = endpoint.handle(NOW, address(1), &first) else {
        panic!("no cookie wanted");
    };
    assert!(answer.len() < 128);
    let cookie = cookie_of(1, &answer);
    let Verdict::New(incoming) = endpoint.handle(NOW, address(1), &hello(1, Some(&cookie))) else {
        panic!("cookie refused");
    };
    assert!(incoming.validated);
    for number in 104..108 {
        endpoint.insert(guuid(number), true).unwrap();
    }
    assert!(matches!(
        endpoint.handle(NOW, address(1), &hello(1, Some(&cookie))),
        Verdict::Drop(Reason::Full)
    ));
}

#[test]
fn a_cookie_is_good_for_its_address_name_and_time() {
    let mut endpoint = busy();
    let Verdict::Respond(answer) = endpoint.handle(NOW, address(1), &hello(1, None)) else {
        panic!("no cookie wanted");
    };
    let cookie = cookie_of(1, &answer);
    let mut is_taken = |after: u64, from, number, cookie: &Bytes| {
        let now = Time::after(Duration::from_secs(after));
        let verdict = endpoint.handle(now, from, &hello(number, Some(cookie)));
        matches!(verdict, Verdict::New(_))
    };
    assert!(is_taken(119, address(1), 1, &cookie));
    assert!(is_taken(239, address(1), 1, &cookie));
    assert!(!is_taken(240, address(1), 1, &cookie));
    assert!(!is_taken(0, address(2), 1, &cookie));
    assert!(!is_taken(0, address(1 + (1 << 24)), 1, &cookie), "port");
    assert!(!is_taken(0, address(1), 2, &cookie));
    assert!(!is_taken(0, address(1), 1, &cookie.slice(..15)));
    assert!(!is_taken(0, address(1), 1, &Bytes::new()));
    let IpAddr::V4(plain) = address(1).ip() else {
        unreachable!()
    };
    let mapped = (plain.to_ipv6_mapped(), address(1).port()).into();
    assert!(is_taken(0, mapped, 1, &cookie));
}

#[test]
fn unknown_packets_are_answered_with_a_token_that_a_restart_keeps() {
    let token = endpoint(EndpointConfig::default()).reset_token(guuid(1));
    let mut endpoint = endpoint(EndpointConfig::default());
    let packet = sealed(1, Flags::NONE, b"data");
    let Verdict::Respond(answer) = endpoint.handle(NOW, address(1), &packet) else {
        panic!("no reset");
    };
    assert!(answer.len() < packet::HEADER_LEN + 4 + TRAILER_LEN);
    match Packet::parse(BytesMut::from(&answer[..])).unwrap() {
        Packet::Reset {
            guuid: of,
            token: shown,
        } => assert_eq!((of, shown), (guuid(1), token)),
        Packet::Sealed(_) => panic!("not a reset"),
    }
    assert_ne!(endpoint.reset_token(guuid(2)), token);
}

#[test]
fn resets_are_limited_per_second() {
    let mut endpoint = endpoint(EndpointConfig {
        resets_per_second: 3,
        ..EndpointConfig::default()
    });
    let packet = sealed(1, Flags::NONE, b"data");
    let mut answered = |millis| {
        let now = Time::after(Duration::from_millis(millis));
        let all = (0..10).map(|_| endpoint.handle(now, address(1), &packet));
        all.filter(|verdict| matches!(verdict, Verdict::Respond(_)))
            .count()
    };
    assert_eq!(answered(100), 3);
    assert_eq!(answered(900), 0);
    assert_eq!(answered(1_000), 3);
    assert_eq!(counted(&endpoint, Reason::ResetsLimited), 24);
}

/// Opens whatever comes: computing a million tags is not what the flood is about.
struct Gullible;

impl PacketKey for Gullible {
    fn seal(&self, _: u64, _: &[u8], _: &mut [u8]) -> [u8; 16] {
        [0; 16]
    }

    fn open(&self, _: u64, _: &[u8], _: &mut [u8]) -> Result<(), Rejected> {
        Ok(())
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

impl ServerCrypto for Gullible {
    fn start(&self, guuid: Guuid, options: &[u8]) -> Result<Box<dyn Handshake>, HandshakeError> {
        NullServer::default().start(guuid, options)
    }

    fn initial(&self, _: Guuid) -> Keys {
        Keys {
            local: Box::new(Self),
            remote: Box::new(Self),
        }
    }
}

#[test]
fn a_flood_of_forged_addresses_takes_no_memory() {
    let server: Arc<dyn ServerCrypto> = Arc::new(Gullible);
    let macs = Box::new(NullMacs { key: 1 });
    let mut endpoint = Endpoint::new(EndpointConfig::default(), macs, Some(server));
    let Packet::Sealed(mut packet) = hello(0, None) else {
        unreachable!()
    };
    let (mut came, mut went, mut let_in) = (0, 0, 0);
    for number in 0..1_000_000 {
        packet.header.guuid = guuid(number);
        came += packet.len();
        match endpoint.handle(NOW, address(number), &Packet::Sealed(packet.clone())) {
            Verdict::New(incoming) => {
                endpoint.insert(incoming.guuid, true).unwrap();
                let_in += 1;
            }
            Verdict::Respond(answer) => went += answer.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(let_in, 128);
    assert_eq!((endpoint.len(), endpoint.slots.len()), (128, 128));
    assert!(endpoint.handles.capacity() < 1_024);
    assert!(went * 10 < came, "answered {went} bytes to {came}");
}
