//! Why datagrams are dropped, and how often.

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It does not have the form of a packet, or its first frames cannot be read.
    Malformed,
    /// A packet of a connection that is not there, too short to be answered.
    Unknown,
    /// Part of a handshake that is not there.
    UnknownHandshake,
    /// A stateless reset of a connection that is not there.
    UnknownReset,
    /// A client's first packet, and no clients are let in.
    NotAccepting,
    /// A client's first packet that is shorter than [`super::FIRST_DATAGRAM`].
    ShortFirst,
    /// A client's first packet that its keys do not open.
    Forged,
    /// A client's first packet that begins no handshake.
    NoBeginning,
    /// There are as many connections or handshakes as allowed.
    Full,
    /// There were as many stateless resets as allowed.
    ResetsLimited,
    /// The queue of the task that had to take it was full.
    Overload,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::Unknown,
        Self::UnknownHandshake,
        Self::UnknownReset,
        Self::NotAccepting,
        Self::ShortFirst,
        Self::Forged,
        Self::NoBeginning,
        Self::Full,
        Self::ResetsLimited,
        Self::Overload,
    ];

    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::UnknownHandshake => "unknown_handshake",
            Self::UnknownReset => "unknown_reset",
            Self::NotAccepting => "not_accepting",
            Self::ShortFirst => "short_first",
            Self::Forged => "forged",
            Self::NoBeginning => "no_beginning",
            Self::Full => "full",
            Self::ResetsLimited => "resets_limited",
            Self::Overload => "overload",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    pub(super) fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.0)
    }
}
