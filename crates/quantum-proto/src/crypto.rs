//! Faces of the cryptography, which lives outside: this crate only says when which key is used.
//!
//! A connection has three generations of keys. *Initial* keys follow from the GUUID, so everybody
//! on the path can derive them: they keep out accidents, not attackers. *Handshake* keys come from
//! the key exchange, *application* keys from the finished handshake; the latter can be renewed.
//! All packets of a connection and direction share one space of counters, which are the nonces,
//! so no key ever meets a nonce twice.

use bytes::Bytes;

use crate::Guuid;

pub mod null;

/// Protects the packets of one direction with one key.
pub trait PacketKey: Send + Sync {
    /// Encrypts `payload` in place and gives the tag over it and `associated`.
    ///
    /// `counter` must not have been used with this key.
    fn seal(&self, counter: u64, associated: &[u8], payload: &mut [u8]) -> [u8; 16];

    /// Decrypts in place: `sealed` is the ciphertext and its tag of 16 bytes; the plaintext
    /// stands where the ciphertext stood.
    ///
    /// # Errors
    /// Key, counter, associated data, ciphertext and tag do not belong together, or there is no
    /// tag; `sealed` may then hold anything.
    fn open(&self, counter: u64, associated: &[u8], sealed: &mut [u8]) -> Result<(), Rejected>;

    /// Packets that this key may seal at most.
    fn confidentiality_limit(&self) -> u64;

    /// Packets that may fail to open, over all keys of a connection, before it must end.
    fn integrity_limit(&self) -> u64;
}

/// A packet did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packet is not authentic")]
pub struct Rejected;

/// Keys of both directions.
pub struct Keys {
    /// Seals what we send.
    pub local: Box<dyn PacketKey>,
    /// Opens what we receive.
    pub remote: Box<dyn PacketKey>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// Where bytes of the handshake belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// They came, or go, under initial keys.
    Initial,
    /// They came, or go, under handshake keys.
    Handshake,
}

/// What [`Handshake::write`] brings.
#[derive(Debug)]
pub enum NewKeys {
    /// What is written from now on belongs to [`Level::Handshake`], under these keys.
    Handshake(Keys),
    /// Nothing more is written; these protect the application's packets.
    Application(Keys),
}

/// The handshake of one connection, and later the source of its renewed keys.
pub trait Handshake: Send {
    /// Takes bytes of the peer, in order and each once within a level.
    ///
    /// Bytes of a level that is over are ignored: under initial keys anybody may have sent them.
    ///
    /// # Errors
    /// The handshake has failed and stays so.
    fn read(&mut self, level: Level, bytes: &[u8]) -> Result<(), HandshakeError>;

    /// Appends what is to be sent. It belongs to the level before the keys that this returns,
    /// which begins at [`Level::Initial`].
    ///
    /// To be called at the beginning and after each [`Handshake::read`], until it neither appends
    /// nor returns anything.
    fn write(&mut self, out: &mut Vec<u8>) -> Option<NewKeys>;

    /// Both sides have proved that they know the keys and are who they say.
    ///
    /// A server may have application keys before: until then it must not trust the peer.
    fn is_complete(&self) -> bool;

    /// The peer's options, as [`crate::frame::Options`] encodes them. They are authentic once
    /// [`Handshake::is_complete`].
    fn peer_options(&self) -> Option<&[u8]>;

    /// The application keys after the present ones, each call one step further; `None` before
    /// there are any.
    fn next_keys(&mut self) -> Option<Keys>;

    /// Who the peer has proved to be; `None` before that, and if it did not have to prove it.
    fn peer(&self) -> Option<Peer>;
}

/// A peer that has proved to own the key of a certificate we trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// DNS names and URIs of the certificate, such as SPIFFE ids, in the order they stand there;
    /// at most 64 of at most 512 bytes.
    pub names: Vec<String>,
    /// The certificate, DER.
    pub certificate: Bytes,
}

/// The handshake cannot succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct HandshakeError {
    /// What CLOSE tells the peer: [`crate::codes::close::TLS`] plus the TLS alert, or another
    /// code of [`crate::codes::close`].
    pub code: u32,
    /// For the log and for people at the peer's side; tells no secrets.
    pub text: String,
}

/// Starts handshakes as the client.
pub trait ClientCrypto: Send + Sync {
    /// Begins the handshake of the connection `guuid` to a server that must prove to be
    /// `server_name`. `options` are [`crate::frame::Options`], encoded.
    ///
    /// # Errors
    /// `server_name` is not a DNS name or address.
    fn start(
        &self,
        guuid: Guuid,
        server_name: &str,
        options: &[u8],
    ) -> Result<Box<dyn Handshake>, HandshakeError>;

    /// Keys of the first packets, from the client's side.
    fn initial(&self, guuid: Guuid) -> Keys;
}

/// Starts handshakes as the server.
pub trait ServerCrypto: Send + Sync {
    /// Begins the handshake of the connection `guuid`. `options` are
    /// [`crate::frame::Options`], encoded.
    ///
    /// # Errors
    /// The server's settings do not allow any handshake.
    fn start(&self, guuid: Guuid, options: &[u8]) -> Result<Box<dyn Handshake>, HandshakeError>;

    /// Keys of the first packets, from the server's side.
    fn initial(&self, guuid: Guuid) -> Keys;
}

/// A keyed hash, for cookies and for the tokens of stateless resets.
pub trait Macs: Send + Sync {
    /// Hashes the parts, each with its length, so that no two lists of parts give the same input.
    /// `purpose` keeps apart what one key is used for.
    fn mac(&self, purpose: u8, parts: &[&[u8]]) -> [u8; 32];
}
