//! What a session keeps of one subscription.

use bytes::Bytes;

use crate::channel::Channel;

/// One subscription of one client; small, because there are very many.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The channel, or the pattern subscribed to.
    pub channel: Channel,
    /// What others see of the subscriber here.
    pub info: Option<Box<Bytes>>,
    /// When it expires, in Unix seconds; 0 means never.
    pub expires_at: u64,
    pub(super) traits: Traits,
}

/// What was granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traits(u8);

impl Traits {
    pub(super) const SERVER_SIDE: u8 = 1;
    pub(super) const RECOVERABLE: u8 = 2;
    pub(super) const PRESENCE: u8 = 4;
    pub(super) const JOIN_LEAVE: u8 = 8;
    pub(super) const WILDCARD: u8 = 16;
    /// Came with the connection token, so that a refresh may compare.
    pub(super) const FROM_TOKEN: u8 = 32;
    /// The join was published, so that the leave has to be.
    pub(super) const JOINED: u8 = 64;

    pub(super) fn with(self, bit: u8, on: bool) -> Self {
        if on { Self(self.0 | bit) } else { self }
    }

    pub(super) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

impl Subscription {
    /// The server subscribed the client, not the client itself.
    pub fn is_server_side(&self) -> bool {
        self.traits.has(Traits::SERVER_SIDE)
    }

    /// The subscriber is kept in presence.
    pub fn has_presence(&self) -> bool {
        self.traits.has(Traits::PRESENCE)
    }

    /// Its leaving is published.
    pub fn announces_leave(&self) -> bool {
        self.traits.has(Traits::JOINED)
    }

    /// Publications carry positions that the client may recover from.
    pub fn is_recoverable(&self) -> bool {
        self.traits.has(Traits::RECOVERABLE)
    }

    /// The channel is a subject pattern.
    pub fn is_wildcard(&self) -> bool {
        self.traits.has(Traits::WILDCARD)
    }

    /// What others see of the subscriber in this channel.
    pub fn chan_info(&self) -> Bytes {
        self.info.as_deref().cloned().unwrap_or_default()
    }
}
