//! What travels on the bus.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::channel::Channel;
use protocol::message::ClientInfo;

use crate::Position;

/// A message on a channel. Made once, shared by every sink and by history as
/// `Arc<Message>`.
#[derive(Debug)]
pub struct Message {
    /// Where it was published.
    pub channel: Channel,
    /// What it is.
    pub kind: Kind,
}

/// What a message is.
#[derive(Debug)]
pub enum Kind {
    /// Somebody published.
    Publication(Publication),
    /// A subscriber came.
    Join(Arc<ClientInfo>),
    /// A subscriber went.
    Leave(Arc<ClientInfo>),
    /// Nothing new: the channel's stream had come to here some time ago, so that whoever
    /// counts positions and is behind has missed something.
    Top(Position),
}

/// A publication as subscribers get it.
#[derive(Debug)]
pub struct Publication {
    /// The payload.
    pub data: Bytes,
    /// Who published, if it was a client.
    pub info: Option<Arc<ClientInfo>>,
    /// Free labels.
    pub tags: Option<Box<BTreeMap<String, String>>>,
    /// Its place in the channel's stream; `None` without history.
    pub position: Option<Position>,
    /// When the bus took it, in milliseconds since 1970 UTC.
    pub time_ms: u64,
}

impl Message {
    /// The publication, if it is one.
    pub fn publication(&self) -> Option<&Publication> {
        match &self.kind {
            Kind::Publication(publication) => Some(publication),
            Kind::Join(_) | Kind::Leave(_) | Kind::Top(_) => None,
        }
    }
}

impl Publication {
    /// Bytes of memory that keeping this publication costs, its own structure included.
    pub(crate) fn cost_bytes(&self) -> usize {
        let info = self.info.as_deref().map_or(0, |info| {
            size_of::<ClientInfo>() + info.user.len() + info.client.len() + info_bytes(info)
        });
        let tags = self.tags.as_deref().map_or(0, |tags| {
            tags.iter()
                .map(|(key, value)| size_of::<(String, String)>() + key.len() + value.len())
                .sum()
        });
        // The two counters of an Arc stand before the message.
        2 * size_of::<usize>() + size_of::<Message>() + self.data.len() + info + tags
    }
}

fn info_bytes(info: &ClientInfo) -> usize {
    info.conn_info.len() + info.chan_info.len()
}
