use std::error::Error as _;
use std::time::{Duration, UNIX_EPOCH};

use quantum_proto::crypto::{Level, NewKeys, Peer};
use tempfile::TempDir;

use super::*;
use crate::identity::{Identity, Wanted};

const SERVER: &str = "gateway.test";
const CLIENT: &str = "spiffe://tidegate.test/client";
const YEAR: u64 = 365 * 86_400;

/// An authority and both sides, valid for `lifetime` from a time long past.
fn identity(lifetime: Duration) -> (TempDir, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        server_names: vec![SERVER.to_owned(), "127.0.0.1".to_owned()],
        client_uri: CLIENT.to_owned(),
        now: UNIX_EPOCH + Duration::from_secs(50 * YEAR),
        lifetime,
    };
    let made = Identity::generate(folder.path(), &wanted).unwrap();
    (folder, made)
}

fn lasting() -> (TempDir, Identity) {
    identity(Duration::from_secs(200 * YEAR))
}

fn client(identity: &Identity) -> ClientTls {
    ClientTls::load(&identity.authority, Some(&identity.client)).unwrap()
}

fn server(identity: &Identity) -> ServerTls {
    ServerTls::load(&identity.server, &certified(identity)).unwrap()
}

fn certified(identity: &Identity) -> Clients {
    Clients::Certified {
        authorities: identity.authority.clone(),
    }
}

fn guuid() -> Guuid {
    Guuid::new(std::array::from_fn(|index| index as u8 + 1)).unwrap()
}

struct Party {
    handshake: Box<dyn Handshake>,
    level: Level,
    handshake_keys: Option<Keys>,
    keys: Option<Keys>,
}

impl Party {
    fn new(handshake: Box<dyn Handshake>) -> Self {
        Self {
            handshake,
            level: Level::Initial,
            handshake_keys: None,
            keys: None,
        }
    }

    /// All that it has to say now.
    fn flight(&mut self) -> Vec<(Level, Vec<u8>)> {
        let mut said = Vec::new();
        loop {
            let mut out = Vec::new();
            let keys = self.handshake.write(&mut out);
            let stop = out.is_empty() && keys.is_none();
            if !out.is_empty() {
                said.push((self.level, out));
            }
            match keys {
                Some(NewKeys::Handshake(keys)) => {
                    self.level = Level::Handshake;
                    self.handshake_keys = Some(keys);
                }
                Some(NewKeys::Application(keys)) => self.keys = Some(keys),
                None if stop => return said,
                None => {}
            }
        }
    }
}

struct Pair {
    client: Party,
    server: Party,
}

/// Who gave up, and why.
type Failure = (&'static str, HandshakeError);

impl Pair {
    fn new(client: &ClientTls, server: &ServerTls, name: &str) -> Self {
        let client = client.start(guuid(), name, b"client options").unwrap();
        let server = server.start(guuid(), b"server options").unwrap();
        Self {
            client: Party::new(client),
            server: Party::new(server),
        }
    }

    /// Shakes hands; `tamper` may change what a flight says.
    fn shake(&mut self, mut tamper: impl FnMut(usize, &mut Vec<u8>)) -> Result<(), Failure> {
        let mut at = 0;
        for turn in 0..8 {
            let Self { client, server } = self;
            let (from, to, side) = if turn % 2 == 0 {
                (client, server, "server")
            } else {
                (server, client, "client")
            };
            for (level, mut bytes) in from.flight() {
                tamper(at, &mut bytes);
                at += 1;
                // In two pieces, as datagrams cut it.
                let (one, other) = bytes.split_at(bytes.len() / 2);
                for piece in [one, other] {
                    let read = to.handshake.read(level, piece);
                    read.map_err(|error| (side, error))?;
                    // What a client has to say at once, it says in its turn; keys come now.
                    if level == Level::Initial && side == "client" {
                        assert!(to.flight().is_empty());
                    }
                }
            }
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.client.handshake.is_complete() && self.server.handshake.is_complete()
    }
}

/// What becomes of a handshake of these two.
fn failure(client: &ClientTls, server: &ServerTls, name: &str) -> Failure {
    let mut pair = Pair::new(client, server, name);
    let failure = pair.shake(|_, _| {}).expect_err("handshake succeeded");
    assert!(!pair.is_complete());
    let failed = if failure.0 == "client" {
        &mut pair.client
    } else {
        &mut pair.server
    };
    assert!(failed.handshake.peer().is_none());
    assert_eq!(
        failed.handshake.read(Level::Handshake, b"").as_ref(),
        Err(&failure.1)
    );
    failure
}

fn alert(code: u8) -> u32 {
    close::TLS + u32::from(code)
}

fn exchange(from: &Keys, to: &Keys) {
    let mut packet = b"payload".to_vec();
    let tag = from.local.seal(u64::MAX, b"header", &mut packet);
    assert_ne!(packet, b"payload");
    packet.extend_from_slice(&tag);
    for changed in 0..packet.len() {
        let mut forged = packet.clone();
        forged[changed] ^= 1;
        assert!(to.remote.open(u64::MAX, b"header", &mut forged).is_err());
    }
    assert!(to.remote.open(1, b"header", &mut packet.clone()).is_err());
    assert!(
        to.remote
            .open(u64::MAX, b"other", &mut packet.clone())
            .is_err()
    );
    assert!(to.remote.open(1, b"", &mut [0; 15]).is_err());
    to.remote.open(u64::MAX, b"header", &mut packet).unwrap();
    assert_eq!(&packet[..7], b"payload");
}

#[test]
fn both_sides_learn_who_the_other_is_and_get_keys() {
    let (_folder, identity) = lasting();
    let mut pair = Pair::new(&client(&identity), &server(&identity), SERVER);
    assert!(pair.client.handshake.next_keys().is_none());
    pair.shake(|_, _| {}).unwrap();
    assert!(pair.is_complete());

    let Pair { client, server } = &mut pair;
    assert_eq!(
        client.handshake.peer_options(),
        Some(&b"server options"[..])
    );
    assert_eq!(
        server.handshake.peer_options(),
        Some(&b"client options"[..])
    );
    let names = |peer: Option<Peer>| peer.unwrap().names;
    assert_eq!(names(server.handshake.peer()), [CLIENT]);
    assert_eq!(names(client.handshake.peer()), [SERVER]);

    for level in [
        |party: &mut Party| party.handshake_keys.take(),
        |party: &mut Party| party.keys.take(),
    ] {
        let (ours, theirs) = (level(client).unwrap(), level(server).unwrap());
        exchange(&ours, &theirs);
        exchange(&theirs, &ours);
    }
}

#[test]
fn keys_are_renewed_in_step() {
    let (_folder, identity) = lasting();
    let mut pair = Pair::new(&client(&identity), &server(&identity), SERVER);
    pair.shake(|_, _| {}).unwrap();
    let mut before = (
        pair.client.keys.take().unwrap(),
        pair.server.keys.take().unwrap(),
    );
    for _ in 0..5 {
        let ours = pair.client.handshake.next_keys().unwrap();
        let theirs = pair.server.handshake.next_keys().unwrap();
        exchange(&ours, &theirs);
        exchange(&theirs, &ours);
        let mut packet = vec![1; 20];
        let tag = ours.local.seal(1, b"", &mut packet);
        packet.extend_from_slice(&tag);
        assert!(
            before.1.remote.open(1, b"", &mut packet).is_err(),
            "old key"
        );
        before = (ours, theirs);
    }
    assert!(before.0.local.confidentiality_limit() >= 1 << 23);
    assert!(before.0.remote.integrity_limit() >= 1 << 36);
}

#[test]
fn a_server_of_another_authority_is_refused() {
    let ((_one, ours), (_other, theirs)) = (lasting(), lasting());
    let (side, error) = failure(&client(&ours), &server(&theirs), SERVER);
    assert_eq!((side, error.code), ("client", alert(48)));
    assert_eq!(
        error.text,
        "peer's certificate does not lead to a trusted authority"
    );
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let ((_one, ours), (_other, theirs)) = (lasting(), lasting());
    let foreign = ClientTls::load(&ours.authority, Some(&theirs.client)).unwrap();
    let (side, error) = failure(&foreign, &server(&ours), SERVER);
    assert_eq!((side, error.code), ("server", alert(48)));
    assert_eq!(
        error.text,
        "peer's certificate does not lead to a trusted authority"
    );
}

#[test]
fn a_client_without_certificate_is_refused_unless_allowed() {
    let (_folder, identity) = lasting();
    let anonymous = ClientTls::load(&identity.authority, None).unwrap();
    let (side, error) = failure(&anonymous, &server(&identity), SERVER);
    assert_eq!((side, error.code), ("server", alert(116)));
    assert_eq!(error.text, "client has shown no certificate");

    let open = ServerTls::load(&identity.server, &Clients::Anonymous).unwrap();
    for client in [anonymous, client(&identity)] {
        let mut pair = Pair::new(&client, &open, SERVER);
        pair.shake(|_, _| {}).unwrap();
        assert!(pair.is_complete());
        assert!(pair.server.handshake.peer().is_none());
        assert!(pair.client.handshake.peer().is_some());
    }
}

#[test]
fn a_certificate_is_for_one_side_only() {
    let (_folder, identity) = lasting();
    let posing = ClientTls::load(&identity.authority, Some(&identity.server)).unwrap();
    let (side, error) = failure(&posing, &server(&identity), SERVER);
    assert_eq!(side, "server");
    assert_eq!(
        error.text,
        "peer's certificate is not for this side of a connection"
    );
    let posing = ServerTls::load(&identity.client, &certified(&identity)).unwrap();
    let (side, _) = failure(&client(&identity), &posing, SERVER);
    assert_eq!(side, "client");
}

#[test]
fn a_server_of_another_name_is_refused() {
    let (_folder, identity) = lasting();
    let (client, server) = (client(&identity), server(&identity));
    let (side, error) = failure(&client, &server, "other.test");
    assert_eq!(side, "client");
    let begin = "peer's certificate is for another name: ";
    assert!(error.text.starts_with(begin), "{error}");
    assert!(error.text.contains("gateway.test"), "{error}");
    assert!(
        Pair::new(&client, &server, "127.0.0.1")
            .shake(|_, _| {})
            .is_ok()
    );
    let error = client.start(guuid(), "not a name", b"").err().unwrap();
    assert_eq!(
        error.text,
        "`not a name` is neither a DNS name nor an address"
    );
}

#[test]
fn expired_certificates_are_refused() {
    let ((_one, ours), (_other, expired)) = (lasting(), identity(Duration::from_secs(86_400)));
    let (side, error) = failure(&client(&expired), &server(&expired), SERVER);
    assert_eq!((side, error.code), ("client", alert(45)));
    assert!(
        error.text.starts_with("peer's certificate has expired"),
        "{error}"
    );
    let late = ClientTls::load(&ours.authority, Some(&expired.client)).unwrap();
    let clients = certified(&expired);
    let lasting_server = ServerTls::load(&ours.server, &clients).unwrap();
    let (side, error) = failure(&late, &lasting_server, SERVER);
    assert_eq!((side, error.code), ("server", alert(45)));
}

#[test]
fn a_peer_that_speaks_something_else_is_refused() {
    let (_folder, identity) = lasting();
    for other in [vec![b"quantum/9".to_vec()], Vec::new()] {
        let mut client = client(&identity);
        Arc::make_mut(&mut client.config).alpn_protocols = other;
        let (side, error) = failure(&client, &server(&identity), SERVER);
        assert_eq!((side, error.code), ("server", alert(120)));
        assert_eq!(error.text, "peer does not speak `quantum/1`");
    }
}

#[test]
fn no_byte_of_a_handshake_can_be_changed() {
    let (_folder, identity) = lasting();
    let (client, server) = (client(&identity), server(&identity));
    let mut lengths = Vec::new();
    let mut pair = Pair::new(&client, &server, SERVER);
    pair.shake(|_, bytes| lengths.push(bytes.len())).unwrap();
    assert_eq!(
        lengths.len(),
        4,
        "hello, hello, rest of the server, rest of the client"
    );
    for (flight, length) in lengths.into_iter().enumerate() {
        for byte in (0..length).step_by(29) {
            let mut pair = Pair::new(&client, &server, SERVER);
            let changed = pair.shake(|at, bytes| {
                if at == flight {
                    // Signatures differ by a byte or two in length.
                    let byte = byte.min(bytes.len() - 1);
                    bytes[byte] ^= 0x40;
                }
            });
            assert!(!pair.is_complete(), "byte {byte} of flight {flight}");
            if let Err((_, error)) = changed {
                assert!(error.code >= close::TLS && !error.text.is_empty());
            }
        }
    }
}

#[test]
fn what_anybody_adds_under_initial_keys_is_ignored() {
    let (_folder, identity) = lasting();
    let mut pair = Pair::new(&client(&identity), &server(&identity), SERVER);
    let hello = pair.client.flight();
    pair.server
        .handshake
        .read(Level::Initial, &hello[0].1)
        .unwrap();
    let reply = pair.server.flight();
    pair.server.handshake.read(Level::Initial, b"more").unwrap();
    for (level, bytes) in &reply {
        pair.client.handshake.read(*level, bytes).unwrap();
        let said = pair.client.flight();
        pair.client.handshake.read(Level::Initial, b"more").unwrap();
        for (level, bytes) in &said {
            pair.server.handshake.read(*level, bytes).unwrap();
        }
    }
    assert!(pair.is_complete());
}

#[test]
fn handshake_bytes_before_their_keys_are_refused() {
    let (_folder, identity) = lasting();
    let mut server = server(&identity).start(guuid(), b"").unwrap();
    let error = server.read(Level::Handshake, b"early").unwrap_err();
    assert_eq!(error.code, close::VIOLATION);
}

/// The specification prints these; whoever derives other bytes cannot connect.
#[test]
fn initial_keys_follow_from_the_guuid() {
    let (_folder, identity) = lasting();
    let (client, server) = (
        client(&identity).initial(guuid()),
        server(&identity).initial(guuid()),
    );
    exchange(&client, &server);
    exchange(&server, &client);
    let sealed = |keys: &Keys| {
        let mut payload = b"quantum".to_vec();
        let tag = keys.local.seal(1, b"header", &mut payload);
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        (hex(&payload), hex(&tag))
    };
    let (payload, tag) = sealed(&client);
    assert_eq!(
        (payload.as_str(), tag.as_str()),
        ("1460c2ebd56b5f", "2634c7d0cb7cf2a28d2f52d2e92c5c4c")
    );
    let (payload, tag) = sealed(&server);
    assert_eq!(
        (payload.as_str(), tag.as_str()),
        ("e42c396ec4f22c", "7904705a2ceaf0182d78c3ead5f95ba4")
    );
}

#[test]
fn reset_tokens_survive_a_restart_and_differ_by_scope_and_key() {
    let ((_one, identity), (_other, stranger)) = (lasting(), lasting());
    let mac = |identity: &Identity, scope: &[u8]| server(identity).macs(scope).mac(1, &[b"part"]);
    let first = mac(&identity, b"0.0.0.0:9090");
    assert_eq!(first, mac(&identity, b"0.0.0.0:9090"));
    assert_ne!(first, mac(&identity, b"0.0.0.0:9091"));
    assert_ne!(first, mac(&stranger, b"0.0.0.0:9090"));
    let macs = HmacMacs::new(b"a key of 16 byte");
    assert_ne!(macs.mac(1, &[b"ab", b"c"]), macs.mac(1, &[b"a", b"bc"]));
    assert_ne!(macs.mac(1, &[]), macs.mac(2, &[]));
}

#[test]
fn unusable_files_are_named() {
    let ((folder, ours), (_other, theirs)) = (lasting(), lasting());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let absent = folder.path().join("absent.pem");
    let empty = file("empty.pem", "");
    let garbage = file(
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let with = |chain: &Path, key: &Path| IdentityFiles {
        chain: chain.to_owned(),
        key: key.to_owned(),
    };
    let cases = [
        (ClientTls::load(&absent, None).unwrap_err(), "absent.pem"),
        (ClientTls::load(&empty, None).unwrap_err(), "empty.pem"),
        (ClientTls::load(&garbage, None).unwrap_err(), "garbage.pem"),
        (
            ClientTls::load(&ours.authority, Some(&with(&ours.client.chain, &absent))).unwrap_err(),
            "absent.pem",
        ),
        (
            ClientTls::load(&ours.authority, Some(&with(&empty, &ours.client.key))).unwrap_err(),
            "empty.pem",
        ),
        (
            ServerTls::load(
                &with(&ours.server.chain, &theirs.server.key),
                &Clients::Anonymous,
            )
            .unwrap_err(),
            "server-key.pem",
        ),
        (
            ServerTls::load(
                &ours.server,
                &Clients::Certified {
                    authorities: empty.clone(),
                },
            )
            .unwrap_err(),
            "empty.pem",
        ),
    ];
    for (error, name) in cases {
        assert!(error.to_string().contains(name), "{error}");
        if !matches!(error, TlsError::NoCertificate { .. }) {
            assert!(error.source().is_some());
        }
    }
}
