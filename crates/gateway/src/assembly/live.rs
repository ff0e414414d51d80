//! From the configuration to what the edge and the admin face work with.

use std::sync::Arc;
use std::time::Duration;

use admin::{ApiKeys, ErrorMode as ApiErrorMode};
use auth::{KeySets, Verifier};
use bus::Bus;
use edge::live::{Addresses, DemoToken, Door, Fixed, Http, Http2, Live, LiveDialect, WebSocket};
use lifecycle::Clock;
use protocol::session;
use protocol::settings::Namespaces;
use websocket::{DeflateConfig, Limits};

use crate::config::{Config, ErrorMode, Network, calls};
use crate::flags::Flags;
use crate::tokens;

use super::services::Keeper;
use super::{memory, relay};

/// How long a demo token is good for: long enough to try things, short enough to see
/// a refresh.
const DEMO_TOKEN_TTL: Duration = Duration::from_secs(600);

/// How names of the demo's users begin.
const GUEST: &str = "guest-";

/// What settings are put into force with, and what stays whatever they say.
#[derive(Clone)]
pub(super) struct Around {
    pub(super) key_sets: Arc<KeySets>,
    pub(super) clock: Clock,
    pub(super) node: String,
    pub(super) bus: Bus,
    pub(super) flags: Flags,
    pub(super) services: Keeper,
}

/// What may change while running.
pub(super) fn live(
    config: &Config,
    around: &Around,
    before: Option<&edge::live::Relay>,
) -> Result<Live, String> {
    let Around {
        key_sets,
        clock,
        node,
        ..
    } = around;
    let mut channel = config.channel.clone();
    if config.relay.is_on() {
        // Before all others: no pattern of the operator's may take its channels.
        channel.namespaces.insert(0, relay::namespace(config));
    }
    let namespaces = Namespaces::new(&channel).map_err(|error| format!("channel.{error}"))?;
    let calls = calls(&config.rpc).map_err(|(key, problem)| format!("rpc.{key}: {problem}"))?;
    let signatures = relay::signatures(
        &config.relay.signatures,
        before.and_then(|before| before.signatures.as_deref()),
    )?;
    let own_tokens = &config.client.subscription_token;
    let verifier = Verifier::new(
        &config.client.token,
        own_tokens.enabled.then_some(&own_tokens.token),
        key_sets,
    )
    .map_err(|error| format!("client.token: {error}"))?;
    let origins = config.access.allowed_origins.clone();
    let nets = |networks: &[Network]| networks.iter().map(|network| network.net()).collect();
    let limits = &config.limits;
    let live_data = live_data(config, around)?;
    // The last that may fail: it replaces what there was.
    let services = around.services.build(config)?;
    Ok(Live {
        session: session::Settings {
            client: config.client.settings.clone(),
            namespaces,
            rpc_ping: config.rpc.ping.enabled,
            calls,
            backlog_max: 4 * config.websocket.message_size_limit,
            stratix_pulse: relay::pulse(config),
            live_subjects: config.live.patterns(),
            version: env!("CARGO_PKG_VERSION"),
            node: node.clone(),
        },
        services,
        origins: Box::new(move |origin| origins.iter().any(|rule| rule.admits(origin))),
        addresses: Addresses {
            trusted: nets(&config.access.trusted_networks),
            allow: nets(&config.access.allow),
            deny: nets(&config.access.deny),
        },
        door: Door {
            connections: limits.connections,
            connections_per_address: limits.connections_per_address,
            handshake_rate: limits.handshake_rate,
            handshake_burst: limits.handshake_burst,
            handshake_rate_per_address: limits.handshake_rate_per_address,
            handshake_burst_per_address: limits.handshake_burst_per_address,
            memory: if limits.memory == 0 {
                memory::default_limit()
            } else {
                limits.memory
            },
            handshake_timeout: limits.handshake_timeout,
            header_size: limits.header_size,
            headers: limits.headers,
        },
        websocket: websocket(config),
        http_stream_body_max: config
            .http_stream
            .enabled
            .then_some(config.http_stream.max_request_body_size),
        sse_body_max: config
            .sse
            .enabled
            .then_some(config.sse.max_request_body_size),
        emulation_body_max: config.emulation.max_request_body_size,
        verifier: Arc::new(verifier),
        proxy: http(config),
        relay: relay::live(config, signatures),
        live_data,
        flags: {
            let flags = around.flags.clone();
            Arc::new(move |name, user| flags.get(name, user))
        },
        demo: config.demo.is_on().then(|| demo_tokens(config, *clock)),
    })
}

fn live_data(config: &Config, around: &Around) -> Result<Option<LiveDialect>, String> {
    let live = &config.live;
    if !live.is_on() {
        return Ok(None);
    }
    let verifier = match live.token.enabled {
        false => None,
        true => Some(Arc::new(
            Verifier::new(&live.token.token, None, &around.key_sets)
                .map_err(|error| format!("live.token: {error}"))?,
        )),
    };
    let bus = around.bus.clone();
    Ok(Some(LiveDialect {
        verifier,
        optional_token: live.optional_token,
        envelope: live.envelope,
        websocket: Limits {
            message_max: live.message_size_max,
            frame_max: live.message_size_max as u64,
            inflated_max: live.message_size_max,
            inflate_ratio_max: config.websocket.compression.inflate_ratio_limit,
        },
        subjects_per_message_max: live.subjects_per_message_max,
        queue: live.send_queue_max,
        slow_bytes: live.slow_bytes,
        slow_patience: live.slow_patience,
        metrics_networks: live.metrics_networks.iter().map(|one| one.net()).collect(),
        bus: Arc::new(move || super::bus::health(&bus)),
    }))
}

fn http(config: &Config) -> Http {
    let proxy = &config.proxy;
    Http {
        keep_alive: proxy.keep_alive,
        body_patience_ms: u64::try_from(proxy.body_timeout.as_millis()).unwrap_or(u64::MAX),
        http2: proxy.http2.enabled.then_some(Http2 {
            streams: proxy.http2.streams,
            header_list: proxy.http2.header_list_size,
            pending_resets: proxy.http2.resets_pending,
            local_resets: proxy.http2.resets_by_error,
            ping_after: HTTP2_PING_AFTER,
            ping_timeout: HTTP2_PING_TIMEOUT,
        }),
    }
}

/// A client of HTTP/2 that is silent for so long is asked whether it is still there.
const HTTP2_PING_AFTER: Duration = Duration::from_secs(30);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

fn websocket(config: &Config) -> WebSocket {
    let websocket = &config.websocket;
    let compression = &websocket.compression;
    let message_max = websocket.message_size_limit;
    WebSocket {
        enabled: websocket.enabled,
        limits: Limits {
            message_max,
            frame_max: message_max as u64,
            inflated_max: match compression.inflated_size_limit {
                0 => message_max,
                limit => limit,
            },
            inflate_ratio_max: compression.inflate_ratio_limit,
        },
        deflate: compression.enabled.then(DeflateConfig::default),
        write_timeout: websocket.write_timeout,
        control_frame_rate: websocket.control_frame_rate,
        control_frame_burst: websocket.control_frame_burst,
        unsent_max: websocket.unsent_max,
    }
}

/// What stays until the next start.
pub(super) fn fixed(config: &Config) -> Fixed {
    Fixed {
        workers: workers(config),
        handshakes_pending: config.limits.handshakes_pending,
        deflate_level: config.websocket.compression.level,
        deflate_min: config.websocket.compression.min_size,
    }
}

/// How many workers there are.
pub(super) fn workers(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// The part of the admin face's settings that a reload may change.
pub(super) fn admin_settings(config: &Config) -> admin::Settings {
    let key = config.http_api.key.reveal().filter(|key| !key.is_empty());
    admin::Settings {
        api_keys: ApiKeys::new(key),
        error_mode: match config.http_api.error_mode {
            ErrorMode::Body => ApiErrorMode::Body,
            ErrorMode::Transport => ApiErrorMode::Transport,
        },
        body_bytes_max: config.http_api.max_request_body_size,
        metrics_guarded: config.admin.metrics_guarded,
        proxy_metrics_public: false,
        operators: config.admin.enabled,
        failed_tries_per_minute: config.admin.failed_tries_per_minute,
    }
}

/// An id that no other process has.
pub(super) fn random_id() -> String {
    uuid::Uuid::new_v4().hyphenated().to_string()
}

fn demo_tokens(config: &Config, clock: Clock) -> edge::live::DemoTokens {
    let config = config.clone();
    Box::new(move |shown| {
        let now = clock.unix_ms() / 1_000;
        let guest = || format!("{GUEST}{}", random_id().get(..8).unwrap_or_default());
        let known = shown.and_then(|token| tokens::own_user(&config, token, now));
        // A token of a backend that signs with the same secret is none of the demo's.
        let known = known.filter(|user| user.starts_with(GUEST));
        let user = known.unwrap_or_else(guest);
        let request = tokens::Request {
            user: user.clone(),
            ttl: DEMO_TOKEN_TTL,
            ..tokens::Request::default()
        };
        // The demo has prepared a key; without one the token is empty and refused.
        let token = tokens::development(&config, request, now).unwrap_or_default();
        DemoToken {
            user,
            token,
            expires_in: DEMO_TOKEN_TTL.as_secs(),
        }
    })
}
