//! What a run came to.

use std::any::Any;
use std::fmt;

/// Something did not hold.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The name of what should have held.
    pub(crate) oracle: &'static str,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        Self {
            oracle: "nothing-panics",
            text: text.unwrap_or_default(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.text)
    }
}

/// Whether everything held.
pub(crate) type Held<T = ()> = Result<T, Failure>;

/// Fails the run unless `holds`.
pub(crate) fn check(oracle: &'static str, holds: bool, text: impl FnOnce() -> String) -> Held {
    if holds {
        return Ok(());
    }
    Err(Failure {
        oracle,
        text: text(),
    })
}

/// What happened in runs, added up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) datagrams: u64,
    pub(crate) lost_on_the_way: u64,
    pub(crate) corrupted: u64,
    pub(crate) repeated: u64,
    pub(crate) replays_refused: u64,
    pub(crate) forged: u64,
    pub(crate) streams: u64,
    pub(crate) bytes: u64,
    pub(crate) packets_lost: u64,
    pub(crate) spurious: u64,
    pub(crate) retransmissions: u64,
    pub(crate) repairs: u64,
    pub(crate) recoveries: u64,
    pub(crate) recoveries_checked: u64,
    pub(crate) moves: u64,
    pub(crate) key_updates: u64,
    pub(crate) pieces: u64,
    pub(crate) cookies: u64,
    pub(crate) virtual_seconds: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, other: &Self) {
        let all = [
            (&mut self.datagrams, other.datagrams),
            (&mut self.lost_on_the_way, other.lost_on_the_way),
            (&mut self.corrupted, other.corrupted),
            (&mut self.repeated, other.repeated),
            (&mut self.replays_refused, other.replays_refused),
            (&mut self.forged, other.forged),
            (&mut self.streams, other.streams),
            (&mut self.bytes, other.bytes),
            (&mut self.packets_lost, other.packets_lost),
            (&mut self.spurious, other.spurious),
            (&mut self.retransmissions, other.retransmissions),
            (&mut self.repairs, other.repairs),
            (&mut self.recoveries, other.recoveries),
            (&mut self.recoveries_checked, other.recoveries_checked),
            (&mut self.moves, other.moves),
            (&mut self.key_updates, other.key_updates),
            (&mut self.pieces, other.pieces),
            (&mut self.cookies, other.cookies),
            (&mut self.virtual_seconds, other.virtual_seconds),
        ];
        for (sum, value) in all {
            *sum += value;
        }
    }

    pub(crate) fn rows(&self) -> [(&'static str, u64); 19] {
        [
            ("datagrams sent", self.datagrams),
            ("  lost on the way", self.lost_on_the_way),
            ("  corrupted", self.corrupted),
            ("  repeated", self.repeated),
            ("forged", self.forged),
            ("replays refused", self.replays_refused),
            ("streams", self.streams),
            ("bytes read", self.bytes),
            ("packets counted as lost", self.packets_lost),
            ("  that arrived after all", self.spurious),
            ("retransmissions", self.retransmissions),
            ("repairs sent", self.repairs),
            ("source parts recovered", self.recoveries),
            ("  compared with the original", self.recoveries_checked),
            ("moves of clients", self.moves),
            ("key updates", self.key_updates),
            ("pieces", self.pieces),
            ("cookies", self.cookies),
            ("virtual seconds", self.virtual_seconds),
        ]
    }
}
