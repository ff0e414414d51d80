//! What an operator may set about clients and channels.
//!
//! Names, units and defaults follow the field's existing servers, so that a
//! configuration can be moved over (`contracts`: centrifuge 11.13 and 11.16).
//! The types are read from the configuration file as they stand; their field
//! docs become the reference page and the JSON Schema.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::code::ErrorCode;
use crate::subject::Pattern;

/// Limits and timers of a client connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// How often the server pings an open connection.
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping before it is closed with 3012.
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub pong_timeout: Duration,
    /// How long a connection may stay without a successful connect command (3502).
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub stale_close_delay: Duration,
    /// Grace after a connection's token has expired, for the client to refresh (3005).
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub expired_close_delay: Duration,
    /// Grace after a subscription's token has expired (2501; server-side 3006).
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub expired_sub_close_delay: Duration,
    /// Most bytes queued for one client; beyond it the channel's `slow_client` policy acts.
    pub queue_max_size: usize,
    /// Most channels one connection may be subscribed to (error 106; server-side 3505).
    pub channel_limit: usize,
    /// Most connections of one user on this node; 0 means no limit (3504).
    pub user_connection_limit: usize,
    /// Commands per second one connection may send, sustained; 0 means no limit (3013).
    pub command_rate: u32,
    /// Commands one connection may send in a burst above `command_rate`.
    pub command_burst: u32,
    /// Most publications one history call returns.
    pub history_max_publication_limit: usize,
    /// Most publications recovered at once; more than that is "not recovered".
    pub recovery_max_publication_limit: usize,
    /// Lets clients without a token in as the anonymous user.
    pub allow_anonymous_connect_without_token: bool,
    /// Refuses tokens that name no user (3507).
    pub disallow_anonymous_connection_tokens: bool,
    /// Adds the server's time, in ms, to the connect reply.
    pub connect_include_server_time: bool,
    /// Subscribes each authenticated connection to `#<user>`.
    pub subscribe_to_user_personal_channel: PersonalChannelSettings,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            stale_close_delay: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            queue_max_size: 1_048_576,
            channel_limit: 128,
            user_connection_limit: 0,
            command_rate: 200,
            command_burst: 1_000,
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            connect_include_server_time: false,
            subscribe_to_user_personal_channel: PersonalChannelSettings::default(),
        }
    }
}

/// The channel a user shares with nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PersonalChannelSettings {
    /// Turns the personal channel on.
    pub enabled: bool,
    /// Namespace of the personal channel; empty means none.
    pub personal_channel_namespace: String,
    /// Closes the user's other connections with 3504 when a new one comes.
    pub single_connection: bool,
}

/// What holds for all channels, and the namespaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelSettings {
    /// Longest channel name in bytes (error 107).
    pub max_length: usize,
    /// How long a stream's epoch and top position outlive its last publication,
    /// where the namespace does not say.
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub history_meta_ttl: Duration,
    /// Options of channels without a namespace.
    pub without_namespace: ChannelOptions,
    /// Namespaces: the text before the first `:` of a channel, or a subject pattern.
    pub namespaces: Vec<Namespace>,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            max_length: 255,
            history_meta_ttl: Duration::from_secs(720 * 3600),
            without_namespace: ChannelOptions::default(),
            namespaces: Vec::new(),
        }
    }
}

/// A named set of channel options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Matches `^[-a-zA-Z0-9_.]{2,}$`; a channel `name:rest` belongs to it.
    pub name: String,
    /// Also takes in channels without `:` whose subject matches this NATS-style pattern
    /// (`market.ticks.>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The options, beside `name` and `pattern`.
    #[serde(flatten)]
    pub options: ChannelOptions,
}

/// What may be done on a channel and what the server keeps for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChannelOptions {
    /// Keeps who is subscribed, and lets clients ask.
    pub presence: bool,
    /// Publishes join and leave to those who asked for them.
    pub join_leave: bool,
    /// Pushes join and leave to every subscriber.
    pub force_push_join_leave: bool,
    /// Most publications kept; with `history_ttl` above 0 it enables history.
    pub history_size: usize,
    /// How long a publication is kept.
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub history_ttl: Duration,
    /// How long epoch and top position are kept; 0 means `channel.history_meta_ttl`.
    #[serde(with = "crate::duration")]
    #[schemars(with = "crate::duration::Text")]
    pub history_meta_ttl: Duration,
    /// Makes every subscription positioned.
    pub force_positioning: bool,
    /// Lets clients ask for a positioned subscription.
    pub allow_positioning: bool,
    /// Makes every subscription recoverable; needs history.
    pub force_recovery: bool,
    /// Lets clients ask for a recoverable subscription.
    pub allow_recovery: bool,
    /// Whether recovery replays the stream or gives the latest publication only.
    pub force_recovery_mode: RecoveryMode,
    /// Gives the latest publication to every new subscriber; needs `force_recovery` and
    /// `force_recovery_mode: cache`.
    pub auto_cache_recover: bool,
    /// Lets authenticated clients subscribe without a subscription token.
    pub allow_subscribe_for_client: bool,
    /// Extends `allow_subscribe_for_client` to anonymous clients.
    pub allow_subscribe_for_anonymous: bool,
    /// Lets authenticated clients publish.
    pub allow_publish_for_client: bool,
    /// Lets subscribers of the channel publish.
    pub allow_publish_for_subscriber: bool,
    /// Extends the publish permissions to anonymous clients.
    pub allow_publish_for_anonymous: bool,
    /// Lets authenticated clients read history.
    pub allow_history_for_client: bool,
    /// Lets subscribers of the channel read history.
    pub allow_history_for_subscriber: bool,
    /// Extends the history permissions to anonymous clients.
    pub allow_history_for_anonymous: bool,
    /// Lets authenticated clients read presence.
    pub allow_presence_for_client: bool,
    /// Lets subscribers of the channel read presence.
    pub allow_presence_for_subscriber: bool,
    /// Extends the presence permissions to anonymous clients.
    pub allow_presence_for_anonymous: bool,
    /// Lets the user ids after the last `#` of a channel name subscribe.
    pub allow_user_limited_channels: bool,
    /// What is published here goes to the user's agent, and only that user may come: the
    /// relay's own namespace, never a configured one.
    #[serde(skip)]
    #[schemars(skip)]
    pub relay: bool,
    /// Lets clients subscribe to subject patterns (`*`, `>`) within the namespace.
    pub allow_wildcard_subscribe: bool,
    /// Regular expression for the part of the name after the namespace; replaces the
    /// ASCII rule (error 107).
    pub channel_regex: String,
    /// What publications may contain.
    pub publication_data_format: DataFormat,
    /// What happens to a subscriber that reads more slowly than the channel speaks.
    pub slow_client: SlowClientPolicy,
}

/// How a lost position is made good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMode {
    /// Everything missed, or an honest "not recovered".
    #[default]
    Stream,
    /// The latest publication only.
    Cache,
}

/// What publications may contain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// Anything but nothing.
    #[default]
    #[serde(rename = "")]
    Any,
    /// Valid JSON.
    Json,
    /// A JSON object.
    JsonObject,
    /// Any bytes, nothing included.
    Binary,
}

/// What happens when a client does not keep up; the first two act when its queue is over
/// `client.queue_max_size`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlowClientPolicy {
    /// The connection is closed with 3008, and the SDK recovers.
    #[default]
    Disconnect,
    /// The oldest queued publication is dropped; positioned subscriptions are then
    /// resubscribed (2500), others just miss it.
    DropOldest,
    /// Only the latest publication of each channel waits for a client, from the moment on at
    /// which its socket takes no more.
    Conflate,
}

/// The namespaces, ready to be asked.
#[derive(Debug, Default)]
pub struct Namespaces {
    max_length: usize,
    without: Arc<ResolvedOptions>,
    by_name: BTreeMap<String, Arc<ResolvedOptions>>,
    by_pattern: Vec<(Pattern, Arc<ResolvedOptions>)>,
}

/// Channel options with what is derived from them worked out once.
#[derive(Debug, Default)]
pub struct ResolvedOptions {
    /// The options as configured; `history_meta_ttl` is filled in.
    pub options: ChannelOptions,
    /// The compiled `channel_regex`.
    pub regex: Option<regex::Regex>,
}

/// Why channel settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// Which key, as a path below `channel`.
    pub key: String,
    /// What is wrong with it and what is accepted.
    pub problem: String,
}

impl Namespaces {
    /// Checks the settings and compiles them.
    pub fn new(settings: &ChannelSettings) -> Result<Self, SettingsError> {
        let mut by_name = BTreeMap::new();
        let mut by_pattern = Vec::new();
        for (index, namespace) in settings.namespaces.iter().enumerate() {
            let key = |field: &str| format!("namespaces[{index}].{field}");
            if !is_namespace_name(&namespace.name) {
                return Err(SettingsError {
                    key: key("name"),
                    problem: format!(
                        "{:?} is not a namespace name: two or more of A-Z a-z 0-9 - _ .",
                        namespace.name
                    ),
                });
            }
            let resolved = Arc::new(ResolvedOptions::new(&namespace.options, settings, &key)?);
            if let Some(text) = &namespace.pattern {
                let pattern = Pattern::new(text).map_err(|error| SettingsError {
                    key: key("pattern"),
                    problem: format!("{text:?} is not a subject pattern: {error}"),
                })?;
                by_pattern.push((pattern, Arc::clone(&resolved)));
            }
            if by_name.insert(namespace.name.clone(), resolved).is_some() {
                return Err(SettingsError {
                    key: key("name"),
                    problem: format!("{:?} is defined twice", namespace.name),
                });
            }
        }
        let without = ResolvedOptions::new(&settings.without_namespace, settings, &|field| {
            format!("without_namespace.{field}")
        })?;
        Ok(Self {
            max_length: settings.max_length,
            without: Arc::new(without),
            by_name,
            by_pattern,
        })
    }

    /// The longest channel name in bytes.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The options of a channel whose name is as it should be: not too long, in a
    /// namespace there is (else 102), and of ASCII or what `channel_regex` asks for
    /// (else 107).
    pub fn look_up(&self, channel: &str) -> Result<&Arc<ResolvedOptions>, ErrorCode> {
        if channel.len() > self.max_length {
            return Err(ErrorCode::BadRequest);
        }
        let resolved = self.resolve(channel).ok_or(ErrorCode::UnknownChannel)?;
        let rest = channel.split_once(':').map_or(channel, |(_, rest)| rest);
        let named_well = match &resolved.regex {
            Some(regex) => regex.is_match(rest),
            None => channel.is_ascii(),
        };
        if named_well {
            Ok(resolved)
        } else {
            Err(ErrorCode::BadRequest)
        }
    }

    /// The options of a channel; `None` if it names a namespace that is not configured.
    pub fn resolve(&self, channel: &str) -> Option<&Arc<ResolvedOptions>> {
        match namespace_of(channel) {
            Some(name) => self.by_name.get(name),
            None => Some(
                self.by_pattern
                    .iter()
                    .find(|(pattern, _)| pattern.covers_text(channel))
                    .map_or(&self.without, |(_, resolved)| resolved),
            ),
        }
    }
}

impl Namespaces {
    /// Whether all channels without `:` that a pattern covers have the same options,
    /// namely those of the channel written like the pattern.
    pub fn agree_on(&self, wanted: &Pattern) -> bool {
        let decisive = self
            .by_pattern
            .iter()
            .find(|(pattern, _)| pattern.overlaps(wanted));
        decisive.is_none_or(|(pattern, _)| pattern.includes(wanted))
    }
}

impl ResolvedOptions {
    fn new(
        options: &ChannelOptions,
        settings: &ChannelSettings,
        key: &dyn Fn(&str) -> String,
    ) -> Result<Self, SettingsError> {
        let refuse = |field: &str, problem: &str| SettingsError {
            key: key(field),
            problem: problem.to_owned(),
        };
        let mut options = options.clone();
        if options.history_meta_ttl.is_zero() {
            options.history_meta_ttl = settings.history_meta_ttl;
        }
        if options.history_meta_ttl < options.history_ttl {
            return Err(refuse("history_meta_ttl", "must be at least history_ttl"));
        }
        if options.force_recovery && !options.has_history() {
            return Err(refuse(
                "force_recovery",
                "needs history_size and history_ttl above 0",
            ));
        }
        if options.auto_cache_recover
            && !(options.force_recovery && options.force_recovery_mode == RecoveryMode::Cache)
        {
            return Err(refuse(
                "auto_cache_recover",
                "needs force_recovery and force_recovery_mode: cache",
            ));
        }
        let regex = match options.channel_regex.as_str() {
            "" => None,
            text => Some(
                regex::Regex::new(text)
                    .map_err(|error| refuse("channel_regex", &error.to_string()))?,
            ),
        };
        Ok(Self { options, regex })
    }
}

impl ChannelOptions {
    /// Whether publications are kept.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }
}

/// The namespace a channel names: what precedes the first `:`, a leading `$` aside.
pub fn namespace_of(channel: &str) -> Option<&str> {
    let name = channel.strip_prefix('$').unwrap_or(channel);
    name.split_once(':').map(|(namespace, _)| namespace)
}

/// Whether a subscriber of a pattern, written as the channel `pattern`, gets what is
/// published on a channel the pattern covers. Channels of another namespace are none of
/// its business, and channels for listed users (`#`) are for these alone.
pub fn is_within_wildcard(pattern: &str, channel: &str) -> bool {
    namespace_of(pattern) == namespace_of(channel) && !channel.contains('#')
}

fn is_namespace_name(name: &str) -> bool {
    name.len() >= 2
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests;
