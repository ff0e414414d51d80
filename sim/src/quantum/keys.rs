//! All keys of a connection, for whoever watches it and for whoever pretends to be a peer: the
//! null handshake is the same for everybody.

use bytes::{Bytes, BytesMut};
use quantum_proto::Guuid;
use quantum_proto::crypto::null::{NullClient, NullServer};
use quantum_proto::crypto::{
    ClientCrypto, Handshake, Keys, Level, NewKeys, PacketKey, ServerCrypto,
};
use quantum_proto::packet::{Flags, Sealed};
use quantum_proto::streams::Role;

use super::failure::{Failure, Held};

/// The keys of one connection, as its client sees them.
pub(super) struct AllKeys {
    initial: Keys,
    handshake: Keys,
    application: Vec<Keys>,
    /// Makes further application keys.
    source: Box<dyn Handshake>,
    /// The generation of application keys that each side has last used.
    generation: [usize; 2],
}

impl AllKeys {
    pub(super) fn new(guuid: Guuid) -> Held<Self> {
        let (mut hello, mut answer, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut client = NullClient.start(guuid, "watcher", &[]).map_err(broken)?;
        let mut server = NullServer::default().start(guuid, &[]).map_err(broken)?;
        client.write(&mut hello);
        server.read(Level::Initial, &hello).map_err(broken)?;
        server.write(&mut answer);
        server.write(&mut rest);
        client.read(Level::Initial, &answer).map_err(broken)?;
        let handshake = client.write(&mut Vec::new());
        client.read(Level::Handshake, &rest).map_err(broken)?;
        let application = client.write(&mut Vec::new());
        let (Some(NewKeys::Handshake(handshake)), Some(NewKeys::Application(application))) =
            (handshake, application)
        else {
            return Err(broken("no keys came of it"));
        };
        Ok(Self {
            initial: NullClient.initial(guuid),
            handshake,
            application: vec![application],
            source: client,
            generation: [0, 0],
        })
    }

    /// Opens what `from` has just sealed: it uses its present application keys or the next ones.
    pub(super) fn open(&mut self, from: Role, sealed: &Sealed) -> Option<Bytes> {
        let flags = sealed.header.flags;
        if flags.contains(Flags::SYN) {
            let keys = if flags.contains(Flags::KEY_PHASE) {
                &self.handshake
            } else {
                &self.initial
            };
            return sealed.clone().open(key(keys, from)).ok();
        }
        let present = self.generation[from as usize];
        let odd = usize::from(flags.contains(Flags::KEY_PHASE));
        let generation = if present % 2 == odd {
            present
        } else {
            present + 1
        };
        if self.application.len() <= generation {
            let next = self.source.next_keys()?;
            self.application.push(next);
        }
        let payload = sealed
            .clone()
            .open(key(&self.application[generation], from));
        self.generation[from as usize] = generation;
        payload.ok()
    }

    /// Seals `out`, which holds `head` bytes of header and then the payload, as `from` would.
    pub(super) fn seal(&self, from: Role, counter: u64, head: usize, out: &mut BytesMut) {
        let keys = &self.application[self.generation[from as usize]];
        quantum_proto::packet::seal(out, 0, head, counter, key(keys, from));
    }

    /// Whether `from` seals with keys of the odd phase now.
    pub(super) fn phase(&self, from: Role) -> bool {
        self.generation[from as usize] % 2 == 1
    }

    pub(super) fn generation(&self, from: Role) -> usize {
        self.generation[from as usize]
    }
}

fn key(keys: &Keys, from: Role) -> &dyn PacketKey {
    match from {
        Role::Client => keys.local.as_ref(),
        Role::Server => keys.remote.as_ref(),
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure {
        oracle: "the-simulation-works",
        text: format!("handshake of the watcher: {error}"),
    }
}
