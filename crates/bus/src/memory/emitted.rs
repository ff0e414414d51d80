//! Channels whose only publisher numbers what it sends.

use std::sync::Arc;

use crate::{History, HistoryLimit, HistoryQuery, Message, Position};

/// What the only publisher of a channel sent last.
#[derive(Debug, Default)]
pub(super) struct Emitted {
    /// Where it stands, if it counts.
    pub(super) top: Option<Position>,
    /// The message, if it is to be kept.
    pub(super) last: Option<Arc<Message>>,
}

impl Emitted {
    /// Only the last message is kept, and only if it is the one at the top.
    pub(super) fn read(&self, query: HistoryQuery) -> Option<History> {
        let top = self.top?;
        let kept = self.last.as_ref().filter(|last| {
            let publication = last.publication();
            publication.and_then(|publication| publication.position) == Some(top)
        });
        let beyond = query.since.is_none_or(|since| {
            if query.reverse {
                top.offset < since
            } else {
                top.offset > since
            }
        });
        let wanted = !matches!(
            query.limit,
            HistoryLimit::PositionOnly | HistoryLimit::AtMost(0)
        );
        Some(History {
            publications: kept
                .filter(|_| wanted && beyond)
                .map(Arc::clone)
                .into_iter()
                .collect(),
            first: top.offset.saturating_add(u64::from(kept.is_none())),
            top,
        })
    }
}
