//! Which keys of two configurations differ.

use serde_json::Value;

use crate::config::Config;

/// The paths of keys that differ, in alphabetical order; a list is one key.
///
/// Settings are compared as they are printed, and secrets are not printed. Where nothing
/// else tells of a changed secret, the path of what it belongs to stands for it.
pub(super) fn changed_keys(running: &Config, new: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    let printed = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    compare("", &printed(running), &printed(new), &mut changed);
    let (old_client, new_client) = (&running.client, &new.client);
    let with_secrets = [
        ("client.token", old_client.token != new_client.token),
        (
            "client.subscription_token",
            old_client.subscription_token != new_client.subscription_token,
        ),
        ("live.token", running.live.token != new.live.token),
        ("http_api.key", running.http_api.key != new.http_api.key),
        (
            "relay.signatures",
            running.relay.signatures != new.relay.signatures,
        ),
        ("relay.routes", running.relay.routes != new.relay.routes),
    ];
    for (path, differs) in with_secrets {
        if differs && !changed.iter().any(|key| key.starts_with(path)) {
            changed.push(path.to_owned());
        }
    }
    changed.sort();
    changed
}

fn compare(path: &str, running: &Value, new: &Value, changed: &mut Vec<String>) {
    if running == new {
        return;
    }
    let (Value::Object(old_keys), Value::Object(new_keys)) = (running, new) else {
        changed.push(path.to_owned());
        return;
    };
    let added = new_keys.keys().filter(|key| !old_keys.contains_key(*key));
    for key in old_keys.keys().chain(added) {
        let below = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        let value = |keys: &serde_json::Map<String, Value>| keys.get(key).cloned();
        let (old_value, new_value) = (value(old_keys), value(new_keys));
        compare(
            &below,
            &old_value.unwrap_or_default(),
            &new_value.unwrap_or_default(),
            changed,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::changed_keys;
    use crate::config::Config;

    #[track_caller]
    fn assert_changed(running: &str, new: &str, expected: &[&str]) {
        let [running, new] = [running, new].map(|text| Config::parse(text).unwrap());
        assert_eq!(changed_keys(&running, &new), expected);
    }

    #[test]
    fn keys_are_named_to_the_last_step() {
        assert_changed("", "", &[]);
        assert_changed(
            "drain: { rate: 5 }\nlog: { targets: { edge: debug } }",
            "drain: { rate: 6 }\nlog: { targets: { bus: debug } }\naccess: { deny: [ 10.0.0.0/8 ] }",
            &[
                "access.deny",
                "drain.rate",
                "log.targets.bus",
                "log.targets.edge",
            ],
        );
        assert_changed(
            "",
            "channel: { namespaces: [ { name: chat } ] }",
            &["channel.namespaces"],
        );
    }

    #[test]
    fn a_changed_secret_is_told_without_being_shown() {
        assert_changed(
            "client: { token: { hmac_secret_key: the-first-of-the-secrets } }",
            "client: { token: { hmac_secret_key: the-second-of-the-secrets } }",
            &["client.token"],
        );
        assert_changed(
            "http_api: { key: a }",
            "http_api: { key: b }",
            &["http_api.key"],
        );
    }
}
