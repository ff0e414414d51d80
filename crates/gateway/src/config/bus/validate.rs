//! What the types of the bus's settings can't say.

use std::collections::HashSet;
use std::time::Duration;

use protocol::settings::ChannelSettings;
use protocol::subject::Pattern;

use super::super::nats::is_name;
use super::{Bus, BusKind, NatsBus, NatsStream};

/// Tells each key that is wrong, and why. What NATS needs is asked only where it is used.
pub(in super::super) fn check(
    bus: &Bus,
    channel: &ChannelSettings,
    refuse: &mut dyn FnMut(&str, String),
) {
    let nats = &bus.nats;
    if !(Duration::from_secs(1)..=HOUR).contains(&nats.connect_within) {
        let problem = "must be at least 1s and at most 1h";
        refuse("bus.nats.connect_within", problem.into());
    }
    if nats.linger > HOUR {
        refuse("bus.nats.linger", "must be at most 1h".into());
    }
    check_names(nats, refuse);
    if bus.kind == BusKind::Nats {
        nats.server.check("bus.nats", refuse);
        check_privacy(nats, refuse);
        check_history(nats, channel, refuse);
    }
}

fn check_names(nats: &NatsBus, refuse: &mut dyn FnMut(&str, String)) {
    let is_token = |text: &str| is_name(text) && !text.starts_with(['-', '_']);
    if !is_token(&nats.prefix) {
        refuse(
            "bus.nats.prefix",
            "must have 1 to 32 letters, digits, - and _, and begin with a letter or digit".into(),
        );
    }
    let own = Pattern::new(&format!("{}.>", nats.prefix));
    let mut verbatim: Vec<Pattern> = Vec::new();
    for (index, text) in nats.subjects.iter().enumerate() {
        let key = format!("bus.nats.subjects[{index}]");
        match (Pattern::new(text), &own) {
            (Err(error), _) => refuse(&key, format!("{text:?}: {error}; {EXPECTED}")),
            (Ok(pattern), Ok(own)) if pattern.overlaps(own) => refuse(
                &key,
                format!("{text:?} covers subjects below bus.nats.prefix, which are the gateways'"),
            ),
            (Ok(pattern), _) if is_of_server(&pattern) => {
                refuse(&key, format!("{text:?} covers subjects of the server"));
            }
            (Ok(pattern), _) => {
                if let Some(other) = verbatim.iter().find(|other| other.overlaps(&pattern)) {
                    let problem = format!("{text:?} overlaps with {:?}", other.as_str());
                    refuse(&key, problem);
                }
                verbatim.push(pattern);
            }
        }
    }
    let mut names = HashSet::new();
    let mut taken: Vec<(Pattern, &str)> = Vec::new();
    for (index, stream) in nats.streams.iter().enumerate() {
        let path = format!("bus.nats.streams[{index}]");
        if !names.insert(&stream.name) {
            let problem = format!("{:?} is there twice", stream.name);
            refuse(&format!("{path}.name"), problem);
        }
        check_stream(stream, &path, &mut taken, refuse);
    }
}

fn check_stream<'a>(
    stream: &'a NatsStream,
    path: &str,
    taken: &mut Vec<(Pattern, &'a str)>,
    refuse: &mut dyn FnMut(&str, String),
) {
    if !is_name(&stream.name) {
        refuse(
            &format!("{path}.name"),
            "must have 1 to 32 letters, digits, - and _".into(),
        );
    }
    if stream.subjects.is_empty() {
        let problem = "is empty; expected one pattern or more";
        refuse(&format!("{path}.subjects"), problem.into());
    }
    for (index, text) in stream.subjects.iter().enumerate() {
        let key = format!("{path}.subjects[{index}]");
        match Pattern::new(text) {
            Err(error) => refuse(&key, format!("{text:?}: {error}; {EXPECTED}")),
            Ok(pattern) => {
                if is_of_server(&pattern) {
                    refuse(&key, format!("{text:?} covers subjects of the server"));
                }
                // A server takes a subject into one stream only.
                let other = taken.iter().find(|(other, _)| other.overlaps(&pattern));
                if let Some((other, name)) = other {
                    let problem = format!(
                        "{text:?} overlaps with {:?} of stream {name}",
                        other.as_str()
                    );
                    refuse(&key, problem);
                }
                taken.push((pattern, &stream.name));
            }
        }
    }
    if stream.max_age > YEARS {
        let problem = "must be at most ten years (3660d)";
        refuse(&format!("{path}.max_age"), problem.into());
    }
}

/// Market data and presence are nobody else's business, and whoever can write on the wire
/// is a publisher.
fn check_privacy(nats: &NatsBus, refuse: &mut dyn FnMut(&str, String)) {
    if nats.insecure {
        return;
    }
    // One with a password in it is refused as such, and not quoted.
    let is_quotable = |url: &&str| !url.contains('@');
    if let Some(url) = nats.server.plain_urls().into_iter().find(is_quotable) {
        let problem = format!(
            "{url} is beyond this machine and has no TLS; expected tls://, bus.nats.tls, or \
             bus.nats.insecure"
        );
        refuse("bus.nats.urls", problem);
    }
}

fn check_history(nats: &NatsBus, channel: &ChannelSettings, refuse: &mut dyn FnMut(&str, String)) {
    let own = &channel.without_namespace;
    let named = channel.namespaces.iter().map(|it| &it.options);
    let largest = std::iter::once(own)
        .chain(named)
        .map(|options| options.history_size as u64)
        .max()
        .unwrap_or(0);
    if largest > nats.history.size_max {
        let problem = format!(
            "must be at least {largest}, the largest history_size of channel and its namespaces"
        );
        refuse("bus.nats.history.size_max", problem);
    }
}

/// Requests to JetStream, answers to requests, the server's own events.
fn is_of_server(pattern: &Pattern) -> bool {
    let first = pattern.as_str().split('.').next().unwrap_or_default();
    matches!(first, "*" | ">" | "_INBOX") || first.starts_with('$')
}

const EXPECTED: &str = "expected a pattern such as xy.md.> or xy.md.tick.*";
const HOUR: Duration = Duration::from_secs(3_600);
const YEARS: Duration = Duration::from_secs(3_660 * 86_400);
