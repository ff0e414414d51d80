//! The nonces that were used.

use std::collections::{BTreeMap, HashSet};

use super::SignatureError;

/// The nonces that were used and could be used again.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    used: HashSet<u128>,
    /// By when their messages stop passing, in milliseconds since the Unix epoch; with when
    /// they were signed. Sorted, not queued: clocks step, and senders sign ahead.
    ends: BTreeMap<(u64, u128), u64>,
    /// When the latest of those that were forgotten was signed.
    forgotten_ms: Option<u64>,
}

impl Nonces {
    /// Keeps a nonce that was not used before.
    pub(super) fn use_up(
        &mut self,
        now_ms: u64,
        nonce: u128,
        signed_ms: u64,
        window_ms: u64,
        max: usize,
    ) -> Result<(), SignatureError> {
        if self.used.contains(&nonce) {
            return Err(SignatureError::Replayed);
        }
        self.forget(now_ms);
        if self.forgotten_ms.is_some_and(|last| signed_ms <= last) {
            return Err(SignatureError::Forgotten);
        }
        if self.used.len() >= max {
            return Err(SignatureError::Busy);
        }
        self.used.insert(nonce);
        let end = signed_ms.saturating_add(window_ms);
        self.ends.insert((end, nonce), signed_ms);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    /// Drops those whose messages the window refuses by now.
    fn forget(&mut self, now_ms: u64) {
        while let Some(first) = self.ends.first_entry() {
            if first.key().0 >= now_ms {
                break;
            }
            let ((_, nonce), signed_ms) = first.remove_entry();
            self.used.remove(&nonce);
            self.forgotten_ms = self.forgotten_ms.max(Some(signed_ms));
        }
    }
}
