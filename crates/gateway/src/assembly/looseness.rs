//! Settings that loosen security, told once: at the start, and when a reload adds one.

use crate::config::{BufferKind, BusKind, ClientAuth, Config, Sync};

/// Warns of what is loose now and was not `before`.
pub(super) fn warn_of(config: &Config, before: Option<&Config>) {
    let known = before.map(loose).unwrap_or_default();
    for what in loose(config) {
        if !known.contains(&what) {
            tracing::warn!("{what}");
        }
    }
}

fn loose(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let main = config.listeners.main.address;
    if config.demo.is_on() && !main.ip().is_loopback() {
        found.push(format!(
            "demo is on: anybody who reaches {main} gets a token for channels demo:*"
        ));
    }
    if config.client.settings.allow_anonymous_connect_without_token {
        found.push("clients without a token may connect as anonymous".to_owned());
    }
    let origins = &config.access.allowed_origins;
    if origins.iter().any(|rule| rule.as_str() == "*") {
        found.push("pages of all origins may connect".to_owned());
    }
    for (listener, address, is_tls) in [
        ("main", main, config.listeners.main.tls.is_some()),
        (
            "admin",
            config.listeners.admin.address,
            config.listeners.admin.tls.is_some(),
        ),
    ] {
        if !address.ip().is_loopback() && !is_tls {
            found.push(format!(
                "{listener} listener {address} is reachable from outside and has no TLS"
            ));
        }
    }
    for (listener, address) in [
        ("relay", config.listeners.relay.address),
        ("live", config.listeners.live.address),
    ] {
        if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
            found.push(format!(
                "{listener} listener {address} is reachable from outside and has no TLS"
            ));
        }
    }
    loose_live_data(config, &mut found);
    let relay = &config.relay;
    if relay.is_on() && relay.auth == ClientAuth::None {
        found.push("relay.auth is none: anybody may claim any client id".to_owned());
    }
    if relay.is_on() && relay.auth == ClientAuth::Token && !config.client.token.has_keys() {
        found.push(
            "relay.auth is token and client.token has no key: no client of the relay can connect"
                .to_owned(),
        );
    }
    if relay.is_on() && relay.buffer.kind == BufferKind::Disk && relay.buffer.sync != Sync::Always {
        found.push(
            "relay.buffer.sync is not always: a power failure loses acknowledged messages"
                .to_owned(),
        );
    }
    for key in relay.signatures.short_secrets() {
        found.push(format!(
            "relay.signatures.{key} is shorter than the {} bytes advised",
            auth::verifier::SECRET_BYTES_ADVISED
        ));
    }
    found.extend(relay.table.warnings().map(str::to_owned));
    let tokens = [
        ("client.token", &config.client.token),
        (
            "client.subscription_token",
            &config.client.subscription_token.token,
        ),
        ("live.token", &config.live.token.token),
    ];
    for (path, settings) in tokens {
        for key in settings.short_secrets() {
            found.push(format!(
                "{path}.{key} is shorter than the {} bytes advised",
                auth::verifier::SECRET_BYTES_ADVISED
            ));
        }
    }
    found
}

fn loose_live_data(config: &Config, found: &mut Vec<String>) {
    let live = &config.live;
    if live.is_on() && live.optional_token {
        found.push(
            "live.optional_token is on: anybody may read the subjects of live.subjects".to_owned(),
        );
    }
    let own_keys = live.token.enabled || config.client.token.has_keys();
    if live.is_on() && !live.optional_token && !own_keys {
        found.push(
            "live is on and client.token has no key: no client of live data can connect".to_owned(),
        );
    }
    let (bus, buffer) = (&config.bus, &config.relay.buffer);
    for (key, is_used, server) in [
        ("bus.nats", bus.kind == BusKind::Nats, &bus.nats.server),
        (
            "relay.buffer.nats",
            config.relay.is_on() && buffer.kind == BufferKind::Nats,
            &buffer.nats.server,
        ),
    ] {
        for url in server.plain_urls().into_iter().filter(|_| is_used) {
            found.push(format!(
                "{key}: {url} is spoken to without TLS: whoever is on the way reads and writes"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::loose;
    use crate::config::Config;

    #[test]
    fn defaults_are_tight_and_each_loosening_is_told() {
        assert_eq!(loose(&Config::default()), Vec::<String>::new());
        let config = Config::parse(
            "demo: { enabled: true }\n\
             access: { allowed_origins: [ \"*\" ] }\n\
             listeners: { main: { address: \"0.0.0.0:80\" } }\n\
             client: { allow_anonymous_connect_without_token: true, \
             token: { hmac_secret_key: sixteen-bytes-ok } }\n",
        )
        .unwrap();
        let told = loose(&config).join("\n");
        for part in [
            "demo is on",
            "anonymous",
            "origins",
            "main listener 0.0.0.0:80",
            "client.token.hmac_secret_key",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        assert_eq!(told.lines().count(), 5);
    }
}
