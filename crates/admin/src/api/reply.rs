//! What the methods answer, as JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::message::{ClientInfo, StreamPosition};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::control::{History, Node, PresenceStats, Publication};
use crate::error::ApiError;

/// A result as JSON. Failing to write one is our fault.
pub(super) fn raw(value: &impl Serialize) -> Result<Box<RawValue>, ApiError> {
    to_raw_value(value).map_err(|error| {
        tracing::error!(%error, "reply could not be written as JSON");
        ApiError::Internal
    })
}

/// `{"result": …}` or `{"error": …}`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Envelope<'a> {
    Result(&'a RawValue),
    Error(ErrorBody),
}

impl<'a> Envelope<'a> {
    pub(super) fn result(result: &'a RawValue) -> Self {
        Self::Result(result)
    }

    pub(super) fn error(error: ApiError) -> Self {
        Self::Error(error.into())
    }
}

/// `{"code": …, "message": …}`.
#[derive(Serialize)]
pub(super) struct ErrorBody {
    code: u32,
    message: String,
}

impl From<ApiError> for ErrorBody {
    fn from(error: ApiError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

/// `{}`.
#[derive(Serialize)]
pub(super) struct Empty {}

/// Where a publication was kept; nothing where it was not.
#[derive(Serialize)]
pub(super) struct Published {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

impl From<Option<StreamPosition>> for Published {
    fn from(position: Option<StreamPosition>) -> Self {
        let (offset, epoch) = position.map(|at| (at.offset, at.epoch)).unzip();
        Self { offset, epoch }
    }
}

#[derive(Serialize)]
pub(super) struct Broadcasted<'a> {
    pub(super) responses: Vec<Envelope<'a>>,
}

#[derive(Serialize)]
pub(super) struct Replies {
    pub(super) replies: Vec<BTreeMap<&'static str, Box<RawValue>>>,
}

/// A payload in two fields: as it stands if it is JSON, else in Base64.
struct Payload<'a> {
    json: Option<&'a RawValue>,
    base64: Option<String>,
}

impl<'a> Payload<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        if bytes.is_empty() {
            return Self {
                json: None,
                base64: None,
            };
        }
        match serde_json::from_slice(bytes) {
            Ok(json) => Self {
                json: Some(json),
                base64: None,
            },
            Err(_) => Self {
                json: None,
                base64: Some(STANDARD.encode(bytes)),
            },
        }
    }
}

#[derive(Serialize)]
struct MemberShape<'a> {
    user: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64conn_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64chan_info: Option<String>,
}

impl<'a> From<&'a ClientInfo> for MemberShape<'a> {
    fn from(member: &'a ClientInfo) -> Self {
        let conn = Payload::new(&member.conn_info);
        let chan = Payload::new(&member.chan_info);
        Self {
            user: &member.user,
            client: &member.client,
            conn_info: conn.json,
            b64conn_info: conn.base64,
            chan_info: chan.json,
            b64chan_info: chan.base64,
        }
    }
}

pub(super) fn presence(members: &BTreeMap<String, ClientInfo>) -> Result<Box<RawValue>, ApiError> {
    #[derive(Serialize)]
    struct Shape<'a> {
        presence: BTreeMap<&'a str, MemberShape<'a>>,
    }
    let presence = members
        .iter()
        .map(|(client, member)| (client.as_str(), member.into()));
    raw(&Shape {
        presence: presence.collect(),
    })
}

pub(super) fn presence_stats(stats: PresenceStats) -> Result<Box<RawValue>, ApiError> {
    #[derive(Serialize)]
    struct Shape {
        num_clients: u64,
        num_users: u64,
    }
    raw(&Shape {
        num_clients: stats.clients,
        num_users: stats.users,
    })
}

pub(super) fn history(history: &History) -> Result<Box<RawValue>, ApiError> {
    #[derive(Serialize)]
    struct Shape<'a> {
        publications: Vec<PublicationShape<'a>>,
        epoch: &'a str,
        offset: u64,
    }
    raw(&Shape {
        publications: history
            .publications
            .iter()
            .map(PublicationShape::from)
            .collect(),
        epoch: &history.top.epoch,
        offset: history.top.offset,
    })
}

#[derive(Serialize)]
struct PublicationShape<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<MemberShape<'a>>,
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Publication> for PublicationShape<'a> {
    fn from(publication: &'a Publication) -> Self {
        let data = Payload::new(&publication.data);
        Self {
            data: data.json,
            b64data: data.base64,
            info: publication.info.as_ref().map(MemberShape::from),
            offset: publication.offset,
            tags: &publication.tags,
        }
    }
}

pub(super) fn channels(channels: &BTreeMap<String, u64>) -> Result<Box<RawValue>, ApiError> {
    #[derive(Serialize)]
    struct Shape<'a> {
        channels: BTreeMap<&'a str, Count>,
    }
    #[derive(Serialize)]
    struct Count {
        num_clients: u64,
    }
    let channels = channels.iter().map(|(name, count)| {
        (
            name.as_str(),
            Count {
                num_clients: *count,
            },
        )
    });
    raw(&Shape {
        channels: channels.collect(),
    })
}

pub(super) fn info(nodes: &[Node]) -> Result<Box<RawValue>, ApiError> {
    #[derive(Serialize)]
    struct Shape<'a> {
        nodes: Vec<NodeShape<'a>>,
    }
    #[derive(Serialize)]
    struct NodeShape<'a> {
        uid: &'a str,
        name: &'a str,
        version: &'a str,
        num_clients: u64,
        num_users: u64,
        num_channels: u64,
        num_subs: u64,
        uptime: u64,
    }
    let nodes = nodes.iter().map(|node| NodeShape {
        uid: &node.uid,
        name: &node.name,
        version: &node.version,
        num_clients: node.clients,
        num_users: node.users,
        num_channels: node.channels,
        num_subs: node.subscriptions,
        uptime: node.uptime.as_secs(),
    });
    raw(&Shape {
        nodes: nodes.collect(),
    })
}
