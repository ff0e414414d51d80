//! The JSON of each request, and what is checked about it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use protocol::claims::Overrides;
use protocol::code::{Disconnect, DisconnectError};
use protocol::message::StreamPosition;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Call;
use crate::control::{
    HistoryLimit, HistoryQuery, PublishOptions, RefreshOptions, Selector, SubscribeOptions,
};
use crate::error::ApiError;

#[derive(Deserialize)]
pub(super) struct Publish {
    channel: Option<String>,
    channels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "any_json")]
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    skip_history: Option<bool>,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    version: Option<u64>,
    version_epoch: Option<String>,
}

impl Publish {
    pub(super) fn check(mut self) -> Result<Call, ApiError> {
        let channel = filled(self.channel.take())?;
        let (data, options) = self.rest()?;
        Ok(Call::Publish {
            channel,
            data,
            options,
        })
    }

    pub(super) fn check_broadcast(mut self) -> Result<Call, ApiError> {
        let channels = self.channels.take().unwrap_or_default();
        if channels.is_empty() {
            return Err(ApiError::BadRequest);
        }
        let (data, options) = self.rest()?;
        Ok(Call::Broadcast {
            channels,
            data,
            options,
        })
    }

    fn rest(self) -> Result<(Bytes, PublishOptions), ApiError> {
        let data = json_or_base64(self.data.as_deref(), self.b64data)?;
        let options = PublishOptions {
            skip_history: self.skip_history.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            idempotency_key: self.idempotency_key.filter(|key| !key.is_empty()),
            version: self.version.unwrap_or_default(),
            version_epoch: self.version_epoch.unwrap_or_default(),
        };
        Ok((data.ok_or(ApiError::BadRequest)?, options))
    }
}

#[derive(Deserialize)]
pub(super) struct Subscribe {
    user: Option<String>,
    channel: Option<String>,
    client: Option<String>,
    session: Option<String>,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    recover_since: Option<SincePosition>,
    expire_at: Option<i64>,
    r#override: Option<Override>,
}

impl Subscribe {
    pub(super) fn check(self) -> Result<Call, ApiError> {
        let selector = selector(self.user, self.client, self.session)?;
        let channel = filled(self.channel)?;
        let options = SubscribeOptions {
            info: json_or_base64(self.info.as_deref(), self.b64info)?.unwrap_or_default(),
            data: json_or_base64(self.data.as_deref(), self.b64data)?.unwrap_or_default(),
            recover_since: self.recover_since.map(StreamPosition::from),
            expire_at: expiry(self.expire_at),
            overrides: self.r#override.map(Overrides::from).unwrap_or_default(),
        };
        Ok(Call::Subscribe {
            selector,
            channel,
            options,
        })
    }
}

#[derive(Deserialize)]
struct Override {
    presence: Option<Flag>,
    join_leave: Option<Flag>,
    force_push_join_leave: Option<Flag>,
    force_positioning: Option<Flag>,
    force_recovery: Option<Flag>,
}

#[derive(Deserialize)]
struct Flag {
    #[serde(default)]
    value: bool,
}

impl From<Override> for Overrides {
    fn from(flags: Override) -> Self {
        let value = |flag: Option<Flag>| flag.map(|flag| flag.value);
        Self {
            presence: value(flags.presence),
            join_leave: value(flags.join_leave),
            force_push_join_leave: value(flags.force_push_join_leave),
            force_positioning: value(flags.force_positioning),
            force_recovery: value(flags.force_recovery),
        }
    }
}

#[derive(Deserialize)]
struct SincePosition {
    offset: Option<u64>,
    epoch: Option<String>,
}

impl From<SincePosition> for StreamPosition {
    fn from(position: SincePosition) -> Self {
        Self {
            offset: position.offset.unwrap_or_default(),
            epoch: position.epoch.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Unsubscribe {
    user: Option<String>,
    channel: Option<String>,
    client: Option<String>,
    session: Option<String>,
}

impl Unsubscribe {
    pub(super) fn check(self) -> Result<Call, ApiError> {
        let selector = selector(self.user, self.client, self.session)?;
        // An empty channel would reach SDKs as such and break them (11.18, C8).
        Ok(Call::Unsubscribe {
            selector,
            channel: filled(self.channel)?,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct DisconnectUser {
    user: Option<String>,
    client: Option<String>,
    session: Option<String>,
    whitelist: Option<Vec<String>>,
    disconnect: Option<Goodbye>,
}

#[derive(Deserialize)]
struct Goodbye {
    code: Option<u32>,
    reason: Option<String>,
}

impl DisconnectUser {
    pub(super) fn check(self) -> Result<Call, ApiError> {
        let selector = selector(self.user, self.client, self.session)?;
        let disconnect = match self.disconnect {
            Some(Goodbye { code, reason }) => {
                disconnect(code, reason).map_err(|_| ApiError::BadRequest)?
            }
            None => Disconnect::FORCE_DISCONNECT,
        };
        let whitelist = self.whitelist.unwrap_or_default();
        Ok(Call::Disconnect {
            selector,
            whitelist,
            disconnect,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct Refresh {
    user: Option<String>,
    client: Option<String>,
    session: Option<String>,
    expired: Option<bool>,
    expire_at: Option<i64>,
    info: Option<Box<RawValue>>,
}

impl Refresh {
    pub(super) fn check(self) -> Result<Call, ApiError> {
        let selector = selector(self.user, self.client, self.session)?;
        let options = RefreshOptions {
            expired: self.expired.unwrap_or_default(),
            expire_at: expiry(self.expire_at),
            info: json_or_base64(self.info.as_deref(), None)?,
        };
        Ok(Call::Refresh { selector, options })
    }
}

#[derive(Deserialize)]
pub(super) struct History {
    channel: Option<String>,
    limit: Option<i32>,
    since: Option<SincePosition>,
    reverse: Option<bool>,
}

impl History {
    pub(super) fn check(self) -> Result<Call, ApiError> {
        let channel = filled(self.channel)?;
        let limit = match self.limit.unwrap_or_default() {
            -1 => HistoryLimit::All,
            0 => HistoryLimit::PositionOnly,
            limit => HistoryLimit::AtMost(u32::try_from(limit).map_err(|_| ApiError::BadRequest)?),
        };
        let query = HistoryQuery {
            limit,
            since: self.since.map(StreamPosition::from),
            reverse: self.reverse.unwrap_or_default(),
        };
        Ok(Call::History { channel, query })
    }
}

#[derive(Deserialize)]
pub(super) struct InChannel {
    channel: Option<String>,
}

impl InChannel {
    pub(super) fn check(self) -> Result<String, ApiError> {
        filled(self.channel)
    }
}

#[derive(Deserialize)]
pub(super) struct Channels {
    pub(super) pattern: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Info {}

#[derive(Deserialize)]
pub(super) struct Rpc {
    method: Option<String>,
}

impl Rpc {
    /// There are no methods to call yet, so every name is an unknown one.
    pub(super) fn check(self) -> Result<Call, ApiError> {
        filled(self.method)?;
        Err(ApiError::NotFound)
    }
}

#[derive(Deserialize)]
pub(super) struct Batch {
    pub(super) commands: Vec<BTreeMap<String, Option<Box<RawValue>>>>,
    #[serde(default)]
    pub(super) parallel: bool,
}

#[derive(Deserialize)]
pub(super) struct Legacy {
    pub(super) method: String,
    pub(super) params: Option<Box<RawValue>>,
}

fn filled(text: Option<String>) -> Result<String, ApiError> {
    text.filter(|text| !text.is_empty())
        .ok_or(ApiError::BadRequest)
}

/// A user must be named, be it the empty one; ids that are empty select nothing less.
fn selector(
    user: Option<String>,
    client: Option<String>,
    session: Option<String>,
) -> Result<Selector, ApiError> {
    Ok(Selector {
        user: user.ok_or(ApiError::BadRequest)?,
        client: client.filter(|id| !id.is_empty()),
        session: session.filter(|id| !id.is_empty()),
    })
}

/// What a client is told at the end. Without a code it is 3503 "force disconnect", which
/// keeps SDKs away; without a reason, the one that goes with the code.
pub(crate) fn disconnect(
    code: Option<u32>,
    reason: Option<String>,
) -> Result<Disconnect, DisconnectError> {
    let forced = Disconnect::FORCE_DISCONNECT;
    let code = code.filter(|code| *code != 0).unwrap_or(forced.code.into());
    match reason.filter(|reason| !reason.is_empty()) {
        Some(reason) => Disconnect::new(code, reason),
        None => {
            let known = Disconnect::ALL
                .iter()
                .find(|known| u32::from(known.code) == code);
            Disconnect::new(code, known.unwrap_or(&forced).reason.clone())
        }
    }
}

/// JSON, or Base64 of bytes, which wins; `None` if there is neither.
fn json_or_base64(
    json: Option<&RawValue>,
    base64: Option<String>,
) -> Result<Option<Bytes>, ApiError> {
    match base64.filter(|text| !text.is_empty()) {
        Some(text) => {
            let bytes = STANDARD.decode(text).map_err(|_| ApiError::BadRequest)?;
            Ok(Some(Bytes::from(bytes)))
        }
        None => Ok(json.map(|json| Bytes::copy_from_slice(json.get().as_bytes()))),
    }
}

/// Absent and 0 mean never. A time before 1970 is long past, and 1 says that as well.
fn expiry(unix_seconds: Option<i64>) -> Option<u64> {
    unix_seconds
        .filter(|at| *at != 0)
        .map(|at| u64::try_from(at).unwrap_or(1))
}

/// Here `null` is a value like any other; elsewhere it is as good as absent.
fn any_json<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(input).map(Some)
}
