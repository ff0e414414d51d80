//! One channel's stream: its position, and the publications still kept.
//!
//! **What must hold:** the kept publications are the last ones without a gap, ending at
//! the top. Whoever leaves one out (no memory for it) drops the older ones as well;
//! otherwise "everything after offset n is here" could not be told from the first offset
//! alone. A stream therefore needs no offset per entry, and finding one is arithmetic.

use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::Budget;
use crate::{Epoch, History, HistoryLimit, HistoryPolicy, HistoryQuery, Message, Position};

/// A stream without publications is worth keeping for at least so long.
const UNUSED_MS_MIN: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Stream {
    epoch: Epoch,
    top: u64,
    kept: VecDeque<Kept>,
    /// As of the last use, for the sweep, which knows no channel's policy.
    policy: HistoryPolicy,
    used_ms: u64,
    version: Version,
}

#[derive(Debug)]
struct Kept {
    message: Arc<Message>,
    bytes: usize,
    since_ms: u64,
}

/// The version of the last versioned publication; `number` 0 stands for none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Version {
    pub(super) number: u64,
    /// A hash of the version's epoch: equality is all that is asked, and a hash needs no
    /// limit. `None` for the empty epoch.
    pub(super) epoch: Option<u64>,
}

impl Stream {
    pub(super) fn new(epoch: Epoch, policy: HistoryPolicy, now_ms: u64) -> Self {
        Self {
            epoch,
            top: 0,
            kept: VecDeque::new(),
            policy,
            used_ms: now_ms,
            version: Version::default(),
        }
    }

    /// Notes a use, and applies the policy to what is kept.
    pub(super) fn touch(&mut self, now_ms: u64, policy: HistoryPolicy, memory: &Budget) {
        self.policy = policy;
        self.used_ms = now_ms;
        self.expire(now_ms, memory);
    }

    /// Drops what is too old or too much.
    pub(super) fn expire(&mut self, now_ms: u64, memory: &Budget) {
        let HistoryPolicy { size, ttl_ms, .. } = self.policy;
        while let Some(oldest) = self.kept.front()
            && (self.kept.len() > size || now_ms.saturating_sub(oldest.since_ms) >= ttl_ms)
        {
            self.drop_oldest(memory);
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// Gives the next publication its position.
    pub(super) fn advance(&mut self) -> Position {
        self.top += 1;
        self.top()
    }

    /// Keeps the publication that [`Stream::advance`] numbered last. Where memory is
    /// short, the stream's own oldest go first; returns false if that was not enough.
    #[must_use]
    pub(super) fn keep(&mut self, message: Arc<Message>, now_ms: u64, memory: &Budget) -> bool {
        if self.policy.size == 0 || self.policy.ttl_ms == 0 {
            return true;
        }
        let cost = message
            .publication()
            .map_or(0, crate::Publication::cost_bytes);
        let bytes = cost + size_of::<Kept>();
        while self.kept.len() >= self.policy.size {
            self.drop_oldest(memory);
        }
        while memory.take(bytes).is_err() {
            if self.kept.is_empty() {
                return false;
            }
            self.drop_oldest(memory);
        }
        self.kept.push_back(Kept {
            message,
            bytes,
            since_ms: now_ms,
        });
        true
    }

    /// Drops every publication; the position stays.
    pub(super) fn clear(&mut self, memory: &Budget) {
        memory.give(self.kept.iter().map(|kept| kept.bytes).sum());
        self.kept = VecDeque::new();
    }

    /// Remembers the version of a publication that is about to be sent.
    pub(super) fn note_version(&mut self, version: Version) {
        if version.number > 0 {
            self.version = version;
        }
    }

    /// Whether a publication of this version comes too late.
    pub(super) fn is_outdated(&self, version: Version) -> bool {
        let same_epoch = version.epoch.is_none() || version.epoch == self.version.epoch;
        version.number > 0 && same_epoch && version.number <= self.version.number
    }

    pub(super) fn top(&self) -> Position {
        Position {
            offset: self.top,
            epoch: self.epoch,
        }
    }

    /// Whether even the position is forgotten by now.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        let HistoryPolicy {
            ttl_ms,
            meta_ttl_ms,
            ..
        } = self.policy;
        let unused_ms = now_ms.saturating_sub(self.used_ms);
        match (self.top, meta_ttl_ms) {
            (0, _) => unused_ms >= ttl_ms.max(UNUSED_MS_MIN),
            (_, 0) => false,
            (_, _) => unused_ms >= meta_ttl_ms.max(ttl_ms),
        }
    }

    pub(super) fn read(&self, query: HistoryQuery) -> History {
        let first = self.top + 1 - self.kept.len() as u64;
        History {
            publications: self.select(query, first),
            first,
            top: self.top(),
        }
    }

    fn select(&self, query: HistoryQuery, first: u64) -> Vec<Arc<Message>> {
        let limit = match query.limit {
            HistoryLimit::PositionOnly => return Vec::new(),
            HistoryLimit::AtMost(limit) => limit,
            HistoryLimit::All => usize::MAX,
        };
        // Offset n is at index n - first; bounds are clamped to what is kept.
        let index = |offset: u64| {
            usize::try_from(offset.saturating_sub(first))
                .unwrap_or(usize::MAX)
                .min(self.kept.len())
        };
        let message = |kept: &Kept| Arc::clone(&kept.message);
        if query.reverse {
            let end = query.since.map_or(self.kept.len(), index);
            self.kept
                .range(..end)
                .rev()
                .take(limit)
                .map(message)
                .collect()
        } else {
            let start = query
                .since
                .map_or(0, |since| index(since.saturating_add(1)));
            self.kept.range(start..).take(limit).map(message).collect()
        }
    }

    fn drop_oldest(&mut self, memory: &Budget) {
        if let Some(oldest) = self.kept.pop_front() {
            memory.give(oldest.bytes);
        }
    }
}
