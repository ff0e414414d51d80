//! What the methods take: JSON in, a checked [`Call`] out.

mod shape;

use bytes::Bytes;
use protocol::code::Disconnect;

use super::BATCH_COMMANDS_MAX;
use crate::control::{HistoryQuery, PublishOptions, RefreshOptions, Selector, SubscribeOptions};
use crate::error::ApiError;
use shape::{
    Batch, Channels, DisconnectUser, History, InChannel, Info, Legacy, Publish, Refresh, Rpc,
    Subscribe, Unsubscribe,
};

pub(crate) use shape::disconnect;

/// The methods, in the order in which a batch command looks for its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Publish,
    Broadcast,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Info,
    Rpc,
    Refresh,
    Channels,
    Batch,
}

/// A call whose required fields are there and whose values can be acted upon.
#[derive(Debug, PartialEq)]
pub(super) enum Call {
    Publish {
        channel: String,
        data: Bytes,
        options: PublishOptions,
    },
    Broadcast {
        channels: Vec<String>,
        data: Bytes,
        options: PublishOptions,
    },
    Subscribe {
        selector: Selector,
        channel: String,
        options: SubscribeOptions,
    },
    Unsubscribe {
        selector: Selector,
        channel: String,
    },
    Disconnect {
        selector: Selector,
        whitelist: Vec<String>,
        disconnect: Disconnect,
    },
    Refresh {
        selector: Selector,
        options: RefreshOptions,
    },
    Presence {
        channel: String,
    },
    PresenceStats {
        channel: String,
    },
    History {
        channel: String,
        query: HistoryQuery,
    },
    HistoryRemove {
        channel: String,
    },
    Channels {
        pattern: String,
    },
    Info,
    Batch {
        commands: Vec<Checked>,
        parallel: bool,
    },
}

/// JSON of the right shape; whether it can be acted upon is another question.
pub(super) type Checked = Result<Call, ApiError>;

impl Method {
    pub(super) const ALL: [Self; 14] = [
        Self::Publish,
        Self::Broadcast,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Disconnect,
        Self::Presence,
        Self::PresenceStats,
        Self::History,
        Self::HistoryRemove,
        Self::Info,
        Self::Rpc,
        Self::Refresh,
        Self::Channels,
        Self::Batch,
    ];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Publish => "/api/publish",
            Self::Broadcast => "/api/broadcast",
            Self::Subscribe => "/api/subscribe",
            Self::Unsubscribe => "/api/unsubscribe",
            Self::Disconnect => "/api/disconnect",
            Self::Presence => "/api/presence",
            Self::PresenceStats => "/api/presence_stats",
            Self::History => "/api/history",
            Self::HistoryRemove => "/api/history_remove",
            Self::Info => "/api/info",
            Self::Rpc => "/api/rpc",
            Self::Refresh => "/api/refresh",
            Self::Channels => "/api/channels",
            Self::Batch => "/api/batch",
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.path().trim_start_matches("/api/")
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl Call {
    /// Reads a request. An error is JSON that is malformed or of the wrong types.
    pub(super) fn parse(method: Method, json: &[u8]) -> Result<Checked, serde_json::Error> {
        // Methods that require nothing can be called with no body.
        let json = if json.is_empty() { b"{}" } else { json };
        // Serde would take an array for a struct, field by field.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(serde::de::Error::custom("a request is a JSON object"));
        }
        let outcome = match method {
            Method::Publish => serde_json::from_slice::<Publish>(json)?.check(),
            Method::Broadcast => serde_json::from_slice::<Publish>(json)?.check_broadcast(),
            Method::Subscribe => serde_json::from_slice::<Subscribe>(json)?.check(),
            Method::Unsubscribe => serde_json::from_slice::<Unsubscribe>(json)?.check(),
            Method::Disconnect => serde_json::from_slice::<DisconnectUser>(json)?.check(),
            Method::Refresh => serde_json::from_slice::<Refresh>(json)?.check(),
            Method::Presence => serde_json::from_slice::<InChannel>(json)?
                .check()
                .map(|channel| Self::Presence { channel }),
            Method::PresenceStats => serde_json::from_slice::<InChannel>(json)?
                .check()
                .map(|channel| Self::PresenceStats { channel }),
            Method::History => serde_json::from_slice::<History>(json)?.check(),
            Method::HistoryRemove => serde_json::from_slice::<InChannel>(json)?
                .check()
                .map(|channel| Self::HistoryRemove { channel }),
            Method::Channels => {
                let Channels { pattern } = serde_json::from_slice(json)?;
                Ok(Self::Channels {
                    pattern: pattern.unwrap_or_default(),
                })
            }
            Method::Info => serde_json::from_slice::<Info>(json).map(|Info {}| Ok(Self::Info))?,
            Method::Rpc => serde_json::from_slice::<Rpc>(json)?.check(),
            Method::Batch => return parse_batch(json),
        };
        Ok(outcome)
    }

    /// The method this is a call of.
    pub(super) fn method(&self) -> Method {
        match self {
            Self::Publish { .. } => Method::Publish,
            Self::Broadcast { .. } => Method::Broadcast,
            Self::Subscribe { .. } => Method::Subscribe,
            Self::Unsubscribe { .. } => Method::Unsubscribe,
            Self::Disconnect { .. } => Method::Disconnect,
            Self::Refresh { .. } => Method::Refresh,
            Self::Presence { .. } => Method::Presence,
            Self::PresenceStats { .. } => Method::PresenceStats,
            Self::History { .. } => Method::History,
            Self::HistoryRemove { .. } => Method::HistoryRemove,
            Self::Channels { .. } => Method::Channels,
            Self::Info => Method::Info,
            Self::Batch { .. } => Method::Batch,
        }
    }
}

/// Reads `{method, params}` once or several times.
pub(super) fn parse_legacy(json: &[u8]) -> Result<Vec<Checked>, serde_json::Error> {
    let commands = serde_json::Deserializer::from_slice(json).into_iter::<Legacy>();
    commands
        .map(|command| {
            let Legacy { method, params } = command?;
            match Method::named(&method) {
                Some(Method::Batch) | None => Ok(Err(ApiError::NotFound)),
                Some(method) => Call::parse(
                    method,
                    params.as_deref().map_or(b"", |json| json.get().as_bytes()),
                ),
            }
        })
        .collect()
}

fn parse_batch(json: &[u8]) -> Result<Checked, serde_json::Error> {
    let Batch { commands, parallel } = serde_json::from_slice(json)?;
    if commands.len() > BATCH_COMMANDS_MAX {
        return Ok(Err(ApiError::BadRequest));
    }
    let commands = commands
        .into_iter()
        .map(|command| {
            let set = Method::ALL
                .into_iter()
                .filter(|method| *method != Method::Batch)
                .find_map(|method| Some((method, command.get(method.name())?.as_deref()?)));
            match set {
                Some((method, request)) => Call::parse(method, request.get().as_bytes()),
                None => Ok(Err(ApiError::NotFound)),
            }
        })
        .collect::<Result<_, serde_json::Error>>()?;
    Ok(Ok(Call::Batch { commands, parallel }))
}

#[cfg(test)]
mod tests;
