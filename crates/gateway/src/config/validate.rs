//! What a type can't say: relations between keys, and files that must be there.

use std::path::Path;
use std::time::Duration;

use protocol::settings::Namespaces;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{Config, ProxyProtocol, ReadFile, Tls};

/// The key and what is wrong with it.
type Problem = (String, String);

/// Everything that is wrong with settings whose types are right.
pub(super) fn problems(config: &Config, read: ReadFile<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut refuse = |key: &str, problem: String| found.push((key.to_owned(), problem));
    check_listeners(config, read, &mut refuse);
    check_transports(config, &mut refuse);
    check_client(config, &mut refuse);
    check_tokens(config, read, &mut refuse);
    check_channels(config, &mut refuse);
    super::relay::check(&config.relay, &mut refuse);
    super::store::check(&config.store, &mut refuse);
    super::proxy::check(&config.proxy, &mut refuse);
    super::bus::check(&config.bus, &config.channel, &mut refuse);
    super::live::check(&config.live, &mut refuse);
    super::rpc::check(&config.rpc, &config.grpc, &mut refuse);
    if let Err(error) = config.market.check() {
        refuse("market", error.to_string());
    }
    super::feature_flags::check(&config.feature_flags, &mut refuse);
    if config.drain.delay >= config.drain.grace && !config.drain.delay.is_zero() {
        refuse(
            "drain.delay",
            "must be shorter than drain.grace, of which it is a part".into(),
        );
    }
    found
}

type Refuse<'a> = &'a mut dyn FnMut(&str, String);

fn check_listeners(config: &Config, read: ReadFile<'_>, refuse: Refuse<'_>) {
    let main = &config.listeners.main;
    let admin = &config.listeners.admin;
    if main.address.port() != 0 && main.address == admin.address {
        refuse(
            "listeners.admin.address",
            format!("{} is taken by listeners.main", main.address),
        );
    }
    let mut taken = vec![("main", main.address), ("admin", admin.address)];
    for (name, address) in [
        ("relay", config.listeners.relay.address),
        ("live", config.listeners.live.address),
    ] {
        let Some(address) = address.filter(|address| address.port() != 0) else {
            continue;
        };
        if let Some((other, _)) = taken.iter().find(|(_, other)| *other == address) {
            let problem = format!("{address} is taken by listeners.{other}");
            refuse(&format!("listeners.{name}.address"), problem);
        }
        taken.push((name, address));
    }
    for (key, tls) in [
        ("listeners.main.tls", &main.tls),
        ("listeners.admin.tls", &admin.tls),
    ] {
        if let Some(tls) = tls {
            check_tls(key, tls, read, refuse);
        }
    }
    if main.proxy_protocol == ProxyProtocol::On && config.access.trusted_networks.is_empty() {
        let problem = "needs access.trusted_networks, from which the header is believed";
        refuse("listeners.main.proxy_protocol", problem.into());
    }
}

fn check_tls(key: &str, tls: &Tls, read: ReadFile<'_>, refuse: Refuse<'_>) {
    let mut content = |field: &str, path: &Path| {
        read(path)
            .map_err(|error| refuse(&format!("{key}.{field}"), format!("{path:?}: {error}")))
            .ok()
    };
    let certificate = content("certificate", &tls.certificate);
    let private_key = content("key", &tls.key);
    if let (Some(certificate), Some(private_key)) = (certificate, private_key) {
        let certificate = (tls.certificate.as_path(), certificate.as_slice());
        check_pair(key, certificate, (&tls.key, &private_key), refuse);
    }
}

/// Two files with their contents, of which `key` has `certificate` and `key`: do they fit?
pub(super) fn check_pair(
    key: &str,
    (certificate_file, certificate): (&Path, &[u8]),
    (key_file, private_key): (&Path, &[u8]),
    refuse: Refuse<'_>,
) {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => chain,
        Ok(_) => {
            let problem = format!("{certificate_file:?} has no certificate in PEM");
            return refuse(&format!("{key}.certificate"), problem);
        }
        Err(error) => {
            let problem = format!("{certificate_file:?} is not PEM: {error}");
            return refuse(&format!("{key}.certificate"), problem);
        }
    };
    let private_key = match PrivateKeyDer::from_pem_slice(private_key) {
        Ok(private_key) => private_key,
        Err(error) => {
            let problem = format!("{key_file:?} has no private key in PEM: {error}");
            return refuse(&format!("{key}.key"), problem);
        }
    };
    let provider = aws_lc_rs::default_provider();
    if let Err(error) = CertifiedKey::from_der(chain, private_key, &provider) {
        let problem = format!("{key_file:?} does not go with the certificate: {error}");
        refuse(&format!("{key}.key"), problem);
    }
}

fn check_transports(config: &Config, refuse: Refuse<'_>) {
    let limits = &config.limits;
    let websocket = &config.websocket;
    let mut at_least_one = |key: &str, value: u64| {
        if value == 0 {
            refuse(key, "must be above 0".into());
        }
    };
    at_least_one(
        "limits.handshakes_pending",
        limits.handshakes_pending as u64,
    );
    if limits.handshake_rate > 0 {
        at_least_one("limits.handshake_burst", limits.handshake_burst.into());
    }
    if limits.handshake_rate_per_address > 0 {
        let burst = limits.handshake_burst_per_address;
        at_least_one("limits.handshake_burst_per_address", burst.into());
    }
    if websocket.control_frame_rate > 0 {
        at_least_one(
            "websocket.control_frame_burst",
            websocket.control_frame_burst.into(),
        );
    }
    for (key, size) in [
        (
            "http_stream.max_request_body_size",
            config.http_stream.max_request_body_size,
        ),
        (
            "sse.max_request_body_size",
            config.sse.max_request_body_size,
        ),
        (
            "emulation.max_request_body_size",
            config.emulation.max_request_body_size,
        ),
        (
            "http_api.max_request_body_size",
            config.http_api.max_request_body_size,
        ),
    ] {
        at_least_one(key, size as u64);
    }
    let inflated = websocket.compression.inflated_size_limit;
    if inflated != 0 && inflated < websocket.message_size_limit {
        refuse(
            "websocket.compression.inflated_size_limit",
            "must be 0 or at least websocket.message_size_limit".into(),
        );
    }
    for (key, time) in [
        ("limits.handshake_timeout", limits.handshake_timeout),
        ("websocket.write_timeout", websocket.write_timeout),
    ] {
        check_timer(key, time, refuse);
    }
}

fn check_client(config: &Config, refuse: Refuse<'_>) {
    let client = &config.client.settings;
    for (key, time) in [
        ("client.ping_interval", client.ping_interval),
        ("client.pong_timeout", client.pong_timeout),
        ("client.stale_close_delay", client.stale_close_delay),
        ("client.expired_close_delay", client.expired_close_delay),
        (
            "client.expired_sub_close_delay",
            client.expired_sub_close_delay,
        ),
    ] {
        check_timer(key, time, refuse);
    }
    if client.pong_timeout >= client.ping_interval {
        refuse(
            "client.pong_timeout",
            "must be shorter than client.ping_interval".into(),
        );
    }
    if client.queue_max_size < config.websocket.message_size_limit {
        refuse(
            "client.queue_max_size",
            "must be at least websocket.message_size_limit, or the longest message fits no queue"
                .into(),
        );
    }
    if client.channel_limit == 0 {
        refuse("client.channel_limit", "must be above 0".into());
    }
    if client.command_rate > 0 && client.command_burst == 0 {
        refuse("client.command_burst", "must be above 0".into());
    }
    let personal = &client.subscribe_to_user_personal_channel;
    let namespace = &personal.personal_channel_namespace;
    let is_configured = || {
        config
            .channel
            .namespaces
            .iter()
            .any(|it| it.name == *namespace)
    };
    if personal.enabled && !namespace.is_empty() && !is_configured() {
        refuse(
            "client.subscribe_to_user_personal_channel.personal_channel_namespace",
            format!("{namespace:?} is not among channel.namespaces"),
        );
    }
}

fn check_tokens(config: &Config, read: ReadFile<'_>, refuse: Refuse<'_>) {
    let own = &config.client.subscription_token;
    let sets = auth::KeySets::new();
    let key_set = |path: &str| (!path.is_empty()).then(|| read(Path::new(path)));
    let mut check = |path: &str, settings: &auth::TokenSettings| {
        if let Err(error) = auth::Verifier::new(settings, None, &sets) {
            refuse(&format!("{path}.{}", error.key), error.problem);
        }
        if let Some(Err(error)) = key_set(&settings.jwks_file) {
            let problem = format!("{:?}: {error}", settings.jwks_file);
            refuse(&format!("{path}.jwks_file"), problem);
        }
    };
    check("client.token", &config.client.token);
    check("client.subscription_token", &own.token);
    check("live.token", &config.live.token.token);
    if own.enabled && !own.token.has_keys() {
        refuse(
            "client.subscription_token.enabled",
            "needs a key below client.subscription_token, such as hmac_secret_key".into(),
        );
    }
}

fn check_channels(config: &Config, refuse: Refuse<'_>) {
    if config.channel.max_length == 0 {
        refuse("channel.max_length", "must be above 0".into());
    }
    if let Err(error) = Namespaces::new(&config.channel) {
        refuse(&format!("channel.{}", error.key), error.problem);
    }
}

/// Timers of a wheel with steps of milliseconds can't be finer, nor longer than a year.
fn check_timer(key: &str, time: Duration, refuse: Refuse<'_>) {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
    if time < Duration::from_millis(1) || time > LONGEST {
        refuse(key, "must be at least 1ms and at most a year (366d)".into());
    }
}
