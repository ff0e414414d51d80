//! The figures that operators look at all the time, read at once.

use super::{DROPS, Metrics, Reason};

/// What the edge has done since the start, and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames received from clients.
    pub messages_in: u64,
    /// Replies, pushes and publications sent to clients.
    pub messages_out: u64,
    /// Bytes read from clients, TLS included.
    pub bytes_in: u64,
    /// Bytes written to clients, TLS excluded.
    pub bytes_out: u64,
    /// Publications not delivered to slow clients, by what was done about it.
    pub dropped: Vec<(&'static str, u64)>,
    /// Subscriptions of clients, when they were last counted.
    pub subscriptions: usize,
}

impl Metrics {
    /// Reads them; takes no lock that a worker waits for.
    pub fn totals(&self) -> Totals {
        let dropped = DROPS.map(|reason| {
            let counter = self.dropped.get_or_create(&Reason { reason });
            (reason, counter.get())
        });
        Totals {
            messages_in: self.received.get(),
            messages_out: self.sent.get(),
            bytes_in: self.bytes_received.get(),
            bytes_out: self.bytes_sent.get(),
            dropped: dropped.to_vec(),
            subscriptions: self.live.subscriptions(),
        }
    }
}
