//! What the gateways of a cluster tell each other, and what they keep together.
//!
//! A bus in memory has no others: it tells nobody and keeps nothing.

use std::time::Duration;

use bytes::Bytes;

use crate::BusError;
use crate::nats::{NatsKept, NatsTold};

/// What another gateway told all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Which gateway.
    pub from: String,
    /// What it is about, as the sender named it.
    pub kind: String,
    /// What it says.
    pub body: Bytes,
}

/// What other gateways tell, as it comes. What is said while one is away is not heard.
#[derive(Debug)]
pub struct Told(pub(crate) Option<NatsTold>);

/// State to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Under which name; dots part it. What lies under it before is replaced.
    pub key: String,
    /// What; `None` forgets it.
    pub value: Option<Bytes>,
    /// For how long; for ever without. Counted in whole seconds, at least one.
    pub ttl: Option<Duration>,
    /// Only if the revision is still this; 0 means that nothing is there.
    pub after: Option<u64>,
}

/// State that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Under which name.
    pub key: String,
    /// What; `None` if it was forgotten.
    pub value: Option<Bytes>,
    /// Rises with every change of anything.
    pub revision: u64,
}

/// State below a key: what is there now, and every change. After the connection was away
/// everything comes again; what expires is not told.
#[derive(Debug)]
pub struct WatchKept(pub(crate) Option<NatsKept>);

impl Told {
    /// The next word; safe to cancel. On a bus in memory it never comes.
    pub async fn next(&mut self) -> Option<Word> {
        match &mut self.0 {
            Some(told) => told.next().await,
            None => std::future::pending().await,
        }
    }
}

impl WatchKept {
    /// A change that has come already.
    pub fn try_next(&mut self) -> Option<Kept> {
        self.0.as_mut()?.try_next()
    }

    /// The next change; safe to cancel. On a bus in memory it never comes.
    ///
    /// # Errors
    ///
    /// If the servers did not give what is there; the next call tries again.
    pub async fn next(&mut self) -> Result<Option<Kept>, BusError> {
        match &mut self.0 {
            Some(kept) => kept.next().await,
            None => std::future::pending().await,
        }
    }
}
