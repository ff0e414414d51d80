//! Datagrams of strangers at an endpoint of the Quantum transport.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quantum_proto::crypto::ClientCrypto;
use quantum_proto::crypto::null::{NullClient, NullMacs, NullServer};
use quantum_proto::endpoint::{Endpoint, EndpointConfig, Handle, Verdict};
use quantum_proto::packet::{Flags, Header, Packet, Sacks, seal};
use quantum_proto::{Guuid, Time};

const CONFIG: EndpointConfig = EndpointConfig {
    connections_max: 8,
    handshakes_max: 6,
    half_open_max: 2,
    cookie_lifetime: Duration::from_secs(2),
    resets_per_second: 4,
};

/// Steps `kind, argument, length u16, bytes`: no answer is longer than what it answers, no more
/// connections are let in than allowed, and each name once.
pub fn datagrams(data: &[u8]) {
    let server = Arc::new(NullServer::default());
    let mut endpoint = Endpoint::new(CONFIG, Box::new(NullMacs { key: 1 }), Some(server));
    let mut now = Time::ZERO;
    let mut rest = data;
    while let Some((&[kind, argument, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])) & 0x7ff;
        let (bytes, after) = after.split_at(length.min(after.len()));
        rest = after;
        match kind % 4 {
            0 => offer(&mut endpoint, now, argument, BytesMut::from(bytes)),
            1 => offer(&mut endpoint, now, argument, sealed(argument, bytes)),
            2 if argument % 2 == 0 => endpoint.established(Handle(u32::from(argument / 2))),
            2 => endpoint.remove(Handle(u32::from(argument / 2))),
            _ => now = now + Duration::from_millis(u64::from(argument) * 10),
        }
        assert!(endpoint.len() <= CONFIG.connections_max);
        assert!(endpoint.handshakes() <= CONFIG.handshakes_max.min(endpoint.len()));
    }
}

fn offer(endpoint: &mut Endpoint, now: Time, from: u8, datagram: BytesMut) {
    let length = datagram.len();
    let Ok(packet) = Packet::parse(datagram) else {
        return;
    };
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1_024 + u16::from(from)));
    match endpoint.handle(now, remote, &packet) {
        Verdict::Respond(answer) => assert!(answer.len() < length, "{} bytes", answer.len()),
        Verdict::New(incoming) => {
            let taken = endpoint.insert(incoming.guuid, true);
            assert!(taken.is_ok(), "{taken:?} after it was let in");
            let again = endpoint.handle(now, remote, &packet);
            assert!(matches!(again, Verdict::Connection(_)), "{again:?}");
        }
        Verdict::Connection(_) | Verdict::Drop(_) => {}
    }
}

/// A first packet of a client, well sealed, that holds `frames` and is padded.
fn sealed(name: u8, frames: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let Some(guuid) = Guuid::new([name | 1; 16]) else {
        return out;
    };
    let header = Header {
        flags: Flags::SYN,
        guuid,
        sequence: 0,
        ack: 0,
        sacks: Sacks::default(),
    };
    header.write(0, &mut out);
    out.extend_from_slice(frames);
    let padding = 1_200_usize.saturating_sub(out.len() + 24 + 3);
    quantum_proto::frame::write_padding(&mut out, padding + 3);
    let keys = NullClient.initial(guuid);
    seal(&mut out, 0, header.len(), 1, keys.local.as_ref());
    out
}
