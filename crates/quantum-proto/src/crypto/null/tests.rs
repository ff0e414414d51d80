use super::*;

fn guuid(last: u8) -> Guuid {
    let mut bytes = [7; 16];
    bytes[15] = last;
    Guuid::new(bytes).unwrap()
}

/// Everything that one side says in one go, with levels, and the keys it got.
fn flight(side: &mut dyn Handshake, level: &mut Level) -> (Vec<(Level, Vec<u8>)>, Option<Keys>) {
    let (mut said, mut application) = (Vec::new(), None);
    loop {
        let mut out = Vec::new();
        let keys = side.write(&mut out);
        let stop = out.is_empty() && keys.is_none();
        if !out.is_empty() {
            said.push((*level, out));
        }
        match keys {
            Some(NewKeys::Handshake(_)) => *level = Level::Handshake,
            Some(NewKeys::Application(keys)) => application = Some(keys),
            None if stop => return (said, application),
            None => {}
        }
    }
}

fn deliver(to: &mut dyn Handshake, said: &[(Level, Vec<u8>)], piece: usize) {
    for (level, bytes) in said {
        for piece in bytes.chunks(piece) {
            to.read(*level, piece).unwrap();
        }
    }
}

#[test]
fn handshake_takes_one_round_trip_and_brings_options() {
    let name = guuid(1);
    let mut client = NullClient.start(name, "here", b"of client").unwrap();
    let server = NullServer { certificate: 3_000 };
    let mut server = server.start(name, b"of server").unwrap();
    let (mut ours, mut theirs) = (Level::Initial, Level::Initial);

    let (hello, none) = flight(client.as_mut(), &mut ours);
    assert!(none.is_none());
    deliver(server.as_mut(), &hello, 5);
    let (reply, server_keys) = flight(server.as_mut(), &mut theirs);
    assert!(!server.is_complete());
    assert!(reply[1].1.len() > 3_000);
    deliver(client.as_mut(), &reply[..1], 2);
    let (nothing, _) = flight(client.as_mut(), &mut ours);
    assert!(nothing.is_empty());
    deliver(client.as_mut(), &reply[1..], 1_000);
    let (finished, client_keys) = flight(client.as_mut(), &mut ours);
    assert_eq!(finished[0].0, Level::Handshake);
    deliver(server.as_mut(), &finished, 1);

    assert!(client.is_complete() && server.is_complete());
    assert_eq!(client.peer_options(), Some(&b"of server"[..]));
    assert_eq!(server.peer_options(), Some(&b"of client"[..]));
    exchange(&client_keys.unwrap(), &server_keys.unwrap());
    exchange(&client.next_keys().unwrap(), &server.next_keys().unwrap());
}

fn exchange(ours: &Keys, theirs: &Keys) {
    let mut packet = b"payload".to_vec();
    let tag = ours.local.seal(9, b"header", &mut packet);
    packet.extend_from_slice(&tag);
    theirs.remote.open(9, b"header", &mut packet).unwrap();
    assert!(ours.remote.open(9, b"header", &mut packet).is_err());
}

#[test]
fn any_change_of_a_packet_is_noticed() {
    let client = keys(guuid(1), Side::Client, APPLICATION);
    let server = keys(guuid(1), Side::Server, APPLICATION);
    let mut packet = b"twelve bytes".to_vec();
    let tag = client.local.seal(3, b"header", &mut packet);
    packet.extend_from_slice(&tag);
    for bit in 0..packet.len() * 8 {
        let mut changed = packet.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            server.remote.open(3, b"header", &mut changed),
            Err(Rejected)
        );
    }
    let mut wrong = |key: &Keys, counter, associated: &[u8]| {
        key.remote.open(counter, associated, &mut packet).is_err()
    };
    assert!(wrong(&server, 4, b"header"));
    assert!(wrong(&server, 3, b"headex"));
    assert!(wrong(&server, 3, b"header\0"));
    assert!(wrong(
        &keys(guuid(2), Side::Server, APPLICATION),
        3,
        b"header"
    ));
    assert!(wrong(
        &keys(guuid(1), Side::Server, HANDSHAKE),
        3,
        b"header"
    ));
    assert!(!wrong(&server, 3, b"header"));
    assert!(server.remote.open(3, b"header", &mut [0; 15]).is_err());
}

#[test]
fn bytes_of_a_level_that_is_over_change_nothing() {
    let mut server = NullServer::default().start(guuid(1), b"").unwrap();
    server.read(Level::Initial, &[HELLO, 0, 0]).unwrap();
    flight(server.as_mut(), &mut Level::Initial.clone());
    server.read(Level::Initial, b"forged").unwrap();
    server.read(Level::Handshake, &[FINISHED, 0, 0]).unwrap();
    assert!(server.is_complete());
}

#[test]
fn messages_out_of_place_are_refused() {
    let mut server = NullServer::default().start(guuid(1), b"").unwrap();
    let error = server.read(Level::Initial, &[FINISHED, 0, 0]).unwrap_err();
    assert_eq!(error.text, "message 4 is out of place in a handshake");
    let mut server = NullServer::default().start(guuid(1), b"").unwrap();
    assert!(server.read(Level::Handshake, &[FINISHED, 0, 0]).is_err());
}

#[test]
fn macs_depend_on_key_purpose_and_the_borders_of_parts() {
    let mac = |key, purpose, parts: &[&[u8]]| NullMacs { key }.mac(purpose, parts);
    let one = mac(1, 1, &[b"ab", b"c"]);
    assert_eq!(one, mac(1, 1, &[b"ab", b"c"]));
    for other in [
        mac(2, 1, &[b"ab", b"c"]),
        mac(1, 2, &[b"ab", b"c"]),
        mac(1, 1, &[b"a", b"bc"]),
        mac(1, 1, &[b"abc"]),
    ] {
        assert_ne!(one, other);
    }
    assert_ne!(one[..16], one[16..]);
}
