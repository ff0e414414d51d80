//! Gateways on one bus are one cluster: what is done to clients through one of them is
//! done wherever the clients are connected, and what is revoked at one is revoked at all.
//!
//! Orders are told, not kept: a gateway that is cut off from the bus misses them, as its
//! clients may have gone elsewhere by then. Revocations are kept on the bus, and whoever
//! comes or comes back reads them ([`revocations`]).

mod revocations;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bus::{Bus, BusError};
use bytes::Bytes;
use edge::fleet::{Fleet, Select};
use lifecycle::CancellationToken;
use protocol::claims::Overrides;
use protocol::code::{Disconnect, UnsubscribeCode};
use protocol::message::StreamPosition;
use protocol::session::{ClientId, Operation, ServerSubscribe};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub(super) use revocations::SharedRevocations;

/// What is to be done to the connections of a user, on the wire between gateways as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The user; empty means the anonymous connections.
    pub(super) user: String,
    /// Only the connection of this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<String>,
    /// Only the connection of this session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    /// Not the connections of these ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) except: Vec<String>,
    /// What.
    pub(super) deed: Deed,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum Deed {
    /// Subscribe them.
    Subscribe(Box<Subscribe>),
    /// End a subscription.
    Unsubscribe {
        /// Which.
        channel: String,
    },
    /// Set when they expire, and what is said about them.
    Refresh {
        /// Close them as expired.
        expired: bool,
        /// In Unix seconds; 0 means never; none leaves it.
        expires_at: Option<u64>,
        /// Replaces the connection info; base64.
        info: Option<String>,
    },
    /// End them.
    Disconnect {
        /// With this code.
        code: u16,
        /// And this reason.
        reason: String,
    },
}

/// How clients are to be subscribed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Subscribe {
    channel: String,
    /// Base64.
    info: String,
    /// Base64.
    data: String,
    presence: Option<bool>,
    join_leave: Option<bool>,
    force_push_join_leave: Option<bool>,
    force_positioning: Option<bool>,
    force_recovery: Option<bool>,
    recover_since: Option<(u64, String)>,
    expires_at: u64,
}

/// The gateways on the bus, this one among them.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) bus: Bus,
    pub(super) fleet: Arc<Fleet>,
    pub(super) revocations: SharedRevocations,
}

impl Cluster {
    /// Carries an order out here and tells the others.
    pub(super) fn give(&self, order: &Order) -> Result<(), OrderError> {
        order.carry_out(&self.fleet)?;
        self.bus.tell_all(ORDER, order.to_json())?;
        Ok(())
    }

    /// Follows what other gateways do, until told to stop.
    pub(super) async fn run(self, stopping: CancellationToken) {
        if !self.bus.is_remote() {
            return;
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.obey() => {}
            () = self.revocations.follow() => {}
        }
    }

    /// Carries out what other gateways have been told to do.
    async fn obey(&self) {
        loop {
            match self.bus.told().await {
                Err(error) => warn!(%error, "orders of other gateways are not heard"),
                Ok(mut told) => {
                    while let Some(word) = told.next().await {
                        if word.kind != ORDER {
                            continue;
                        }
                        let order = Order::parse(&word.body);
                        if let Err(error) = order.and_then(|order| order.carry_out(&self.fleet)) {
                            warn!(%error, "order of another gateway was not carried out");
                        }
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What messages between gateways with an order in them are called.
const ORDER: &str = "order";

/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// An order that no gateway could have given.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    /// It is not written as orders are.
    #[error("order is not readable")]
    Json(#[from] serde_json::Error),
    /// An id in it is none.
    #[error("order names a connection by {0:?}, which is no id")]
    Id(String),
    /// Bytes in it are not base64.
    #[error("order has bytes that are not base64")]
    Base64(#[from] base64::DecodeError),
    /// The others could not be told.
    #[error("order was carried out here only")]
    Bus(#[from] BusError),
    /// A code in it would be misread.
    #[error(transparent)]
    Code(#[from] protocol::code::DisconnectError),
}

impl Order {
    /// Carries it out on the connections of this gateway.
    pub(super) fn carry_out(&self, fleet: &Fleet) -> Result<(), OrderError> {
        let client = self.client.as_deref().map(client_id).transpose()?;
        let session = self.session.as_deref().map(session_id).transpose()?;
        let except = self.except.iter().map(|id| client_id(id));
        let select = Select {
            client,
            session,
            except: except.collect::<Result<_, _>>()?,
            arrived_before: None,
        };
        let operation = self.deed.operation()?;
        fleet.operate(&self.user, &select, &operation);
        Ok(())
    }

    /// As it goes to the other gateways.
    pub(super) fn to_json(&self) -> Bytes {
        // Texts and numbers only: this does not fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads what another gateway has sent.
    pub(super) fn parse(json: &[u8]) -> Result<Self, OrderError> {
        Ok(serde_json::from_slice(json)?)
    }
}

impl Deed {
    fn operation(&self) -> Result<Operation, OrderError> {
        Ok(match self {
            Self::Subscribe(subscribe) => {
                Operation::Subscribe(Box::new(subscribe.to_server_subscribe()?))
            }
            Self::Unsubscribe { channel } => Operation::Unsubscribe {
                channel: channel.as_str().into(),
                code: UnsubscribeCode::SERVER_UNSUBSCRIBE,
            },
            Self::Refresh {
                expired,
                expires_at,
                info,
            } => Operation::Refresh {
                expired: *expired,
                expires_at: *expires_at,
                info: info.as_deref().map(decoded).transpose()?,
            },
            Self::Disconnect { code, reason } => {
                Operation::Disconnect(Disconnect::new((*code).into(), reason.clone())?)
            }
        })
    }
}

impl Subscribe {
    pub(super) fn of(asked: &ServerSubscribe) -> Self {
        let Overrides {
            presence,
            join_leave,
            force_push_join_leave,
            force_positioning,
            force_recovery,
        } = asked.overrides;
        Self {
            channel: asked.channel.clone(),
            info: STANDARD.encode(&asked.info),
            data: STANDARD.encode(&asked.data),
            presence,
            join_leave,
            force_push_join_leave,
            force_positioning,
            force_recovery,
            recover_since: asked
                .recover_since
                .as_ref()
                .map(|since| (since.offset, since.epoch.clone())),
            expires_at: asked.expires_at,
        }
    }

    fn to_server_subscribe(&self) -> Result<ServerSubscribe, OrderError> {
        let since = self.recover_since.clone();
        Ok(ServerSubscribe {
            channel: self.channel.clone(),
            info: decoded(&self.info)?,
            data: decoded(&self.data)?,
            overrides: Overrides {
                presence: self.presence,
                join_leave: self.join_leave,
                force_push_join_leave: self.force_push_join_leave,
                force_positioning: self.force_positioning,
                force_recovery: self.force_recovery,
            },
            recover_since: since.map(|(offset, epoch)| StreamPosition { offset, epoch }),
            expires_at: self.expires_at,
        })
    }
}

fn client_id(text: &str) -> Result<ClientId, OrderError> {
    ClientId::from_str(text).map_err(|_| OrderError::Id(text.to_owned()))
}

fn session_id(text: &str) -> Result<u128, OrderError> {
    let id = uuid::Uuid::parse_str(text).map_err(|_| OrderError::Id(text.to_owned()))?;
    Ok(id.as_u128())
}

fn decoded(base64: &str) -> Result<Bytes, OrderError> {
    Ok(STANDARD.decode(base64)?.into())
}

#[cfg(test)]
mod tests;
