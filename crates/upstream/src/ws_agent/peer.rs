//! The border between a link, which owns the socket, and a peer, which knows what is said on it.
//!
//! A peer is a pure state machine: the link feeds it [`Input`]s and carries out the
//! [`Output`]s in order. It outlives the connection, so that what was open when the connection
//! broke is known on the next one.

use std::sync::Arc;
use std::time::Duration;

use super::identity::Identity;
use super::{Answer, Delivery, Outcome, Peer, Target};
use super::{openclaw, stratix_peer};

/// What the link tells a peer.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// The WebSocket is open.
    Opened,
    /// A text or binary message.
    Frame(&'a [u8]),
    /// Deliver; the outcome comes later under the tag. Only between [`Output::Ready`] and
    /// [`Input::Closed`]; at other times the outcome is [`Outcome::NotSent`].
    Send {
        /// Chosen by the link, never used twice.
        tag: u64,
        /// What to deliver.
        delivery: Arc<Delivery>,
    },
    /// The frame of an [`Output::Watched`] was taken by the socket.
    Written {
        /// As in the output.
        tag: u64,
    },
    /// Nobody waits for this outcome any more; it must not be told.
    Forget {
        /// As in [`Input::Send`].
        tag: u64,
    },
    /// `deadline_ms` has passed.
    Time,
    /// The connection is gone, or could not be made: everything unanswered gets its outcome.
    Closed {
        /// The close code that the other side sent.
        code: Option<u16>,
        /// Why, for operators.
        reason: String,
    },
}

/// What a peer tells the link, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Text frame to write.
    Frame(String),
    /// Text frame to write, to be followed by [`Input::Written`].
    Watched {
        /// Of the delivery it carries.
        tag: u64,
        /// The frame.
        text: String,
    },
    /// The handshake is done: deliveries may come.
    Ready,
    /// What became of a delivery.
    Outcome {
        /// As in [`Input::Send`].
        tag: u64,
        /// What it came to.
        outcome: Outcome,
    },
    /// Something for a client.
    Answer(Answer),
    /// Close the connection. [`Input::Closed`] follows as after any other end.
    Close {
        /// WebSocket close code.
        code: u16,
        /// Close reason, at most 123 bytes.
        reason: String,
    },
    /// The next connection is to be tried after this time and not by the link's own backoff.
    /// At most one stands; a later one replaces it.
    Hold {
        /// How long to wait.
        wait: Duration,
        /// What kind of obstacle; the text is logged once per kind until the next `Ready`.
        reason: HoldReason,
        /// For operators: what is wrong and what to do.
        text: String,
    },
    /// A device token to be kept for the next connections, also after a restart.
    StoreDevice(DeviceToken),
}

/// Why there is no fast reconnection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HoldReason {
    /// An operator has to approve this device.
    Pairing,
    /// What we show is refused.
    Credentials,
    /// We are let in but may not send.
    Scopes,
    /// Too many failures.
    RateLimited,
    /// It starts or is busy, and said when to come again.
    Busy,
    /// It speaks another protocol, or refuses how we speak it.
    Protocol,
    /// At once, in another way; no reason for a warning.
    Retry,
    /// The certificate is not the one that the route names.
    Certificate,
}

/// What a gateway gave a device to show next time.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DeviceToken {
    /// URL of the gateway.
    pub url: Arc<str>,
    /// For which role.
    pub role: &'static str,
    /// The token.
    pub token: String,
    /// What it allows.
    pub scopes: Vec<String>,
}

impl std::fmt::Debug for DeviceToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DeviceToken({} at {}, …)", self.role, self.url)
    }
}

/// Now, as the link's clock has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Milliseconds of a clock that never goes back.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// The peer of one link.
#[derive(Debug)]
pub(crate) enum PeerState {
    /// Speaks the `OpenClaw` gateway protocol.
    OpenClaw(Box<openclaw::Peer>),
    /// Speaks the Stratix message JSON.
    Stratix(Box<stratix_peer::Peer>),
}

impl PeerState {
    /// The peer that a target asks for, before its first connection.
    pub(crate) fn new(target: &Arc<Target>, identity: &Arc<Identity>) -> Self {
        match target.peer {
            Peer::OpenClaw => {
                let peer = openclaw::Peer::new(Arc::clone(target), Arc::clone(identity));
                Self::OpenClaw(Box::new(peer))
            }
            Peer::Stratix => Self::Stratix(Box::new(stratix_peer::Peer::new(target))),
        }
    }

    /// Takes an input and appends what follows from it to `out`.
    pub(crate) fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        match self {
            Self::OpenClaw(peer) => peer.handle(now, input, out),
            Self::Stratix(peer) => peer.handle(now, input, out),
        }
    }

    /// When [`Input::Time`] is due, by [`Now::mono_ms`]; `u64::MAX` means never.
    pub(crate) fn deadline_ms(&self) -> u64 {
        match self {
            Self::OpenClaw(peer) => peer.deadline_ms(),
            Self::Stratix(_) => u64::MAX,
        }
    }

    /// Whether something that was delivered is still to be answered, so that the connection is
    /// of use although nothing is said. Stratix agents do not tell.
    pub(crate) fn expects_answers(&self) -> bool {
        match self {
            Self::OpenClaw(peer) => peer.expects_answers(),
            Self::Stratix(_) => false,
        }
    }
}
