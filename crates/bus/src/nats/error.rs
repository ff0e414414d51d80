//! Why there is no bus over NATS.

/// Why there is no bus over NATS.
#[derive(Debug, thiserror::Error)]
pub enum NatsBusError {
    /// A setting is wrong.
    #[error("setting {setting} of the bus over NATS can't be used: {why}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The server lacks what is used of it.
    #[error("nats-server {found} is too old; 2.12 or later is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// History, presence or streams are asked for.
    #[error("the NATS server or account has no JetStream, which history and streams need")]
    JetStreamOff,
    /// It is not there and may not be made.
    #[error("stream {stream:?} does not exist, and creating it is not allowed by the settings")]
    StreamAbsent {
        /// Which one.
        stream: String,
    },
    /// The server has no room for it.
    #[error("stream {stream:?} has no room at the server: {why}")]
    NoRoom {
        /// Which one.
        stream: String,
        /// What the server says.
        why: String,
    },
    /// It could not be made, or can't be used as it is.
    #[error("stream {stream:?} can't be used: {why}")]
    StreamFailed {
        /// Which one.
        stream: String,
        /// What the server says, or what is wrong.
        why: String,
    },
}
