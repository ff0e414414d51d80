use serde_json::{Value, json};

use super::{ChannelSettings, Namespaces};

/// Namespaces from the `channel` section of a configuration, or the key that is wrong with it.
fn namespaces(channel: Value) -> Result<Namespaces, String> {
    let settings: ChannelSettings = serde_json::from_value(channel).unwrap();
    Namespaces::new(&settings).map_err(|error| error.key)
}

#[test]
fn settings_without_sense_are_refused_by_key() {
    let one = |options: Value| {
        let mut namespace = json!({ "name": "chat" });
        namespace
            .as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        json!({ "namespaces": [namespace] })
    };
    let cases = [
        (one(json!({ "name": "c" })), "namespaces[0].name"),
        (one(json!({ "name": "a b" })), "namespaces[0].name"),
        (
            json!({ "namespaces": [{ "name": "chat" }, { "name": "chat" }] }),
            "namespaces[1].name",
        ),
        (one(json!({ "pattern": "a..b" })), "namespaces[0].pattern"),
        (
            one(json!({ "channel_regex": "(" })),
            "namespaces[0].channel_regex",
        ),
        (
            one(json!({ "history_ttl": "2h", "history_meta_ttl": "1h" })),
            "namespaces[0].history_meta_ttl",
        ),
        (
            one(json!({ "force_recovery": true, "history_size": 1 })),
            "namespaces[0].force_recovery",
        ),
        (
            one(
                json!({ "force_recovery": true, "history_size": 1, "history_ttl": "1s",
                "auto_cache_recover": true }),
            ),
            "namespaces[0].auto_cache_recover",
        ),
        (
            json!({ "without_namespace": { "force_recovery": true } }),
            "without_namespace.force_recovery",
        ),
    ];
    for (channel, key) in cases {
        assert_eq!(
            namespaces(channel.clone()).err().as_deref(),
            Some(key),
            "{channel}"
        );
    }
    assert!(
        namespaces(one(
            json!({ "history_ttl": "1h", "history_meta_ttl": "1h" })
        ))
        .is_ok()
    );
}

#[test]
fn channel_belongs_to_the_namespace_it_names_or_to_the_first_pattern_that_covers_it() {
    let namespaces = namespaces(json!({
        "max_length": 7,
        "history_meta_ttl": "3h",
        "without_namespace": { "history_size": 1 },
        "namespaces": [
            { "name": "chat", "history_size": 2, "history_meta_ttl": "1h" },
            { "name": "last", "history_size": 3, "pattern": "ticks.*.last" },
            { "name": "ticks", "history_size": 4, "pattern": "ticks.>" },
        ],
    }))
    .unwrap();
    let size = |channel: &str| {
        let resolved = namespaces.resolve(channel);
        resolved.map(|resolved| resolved.options.history_size)
    };
    for (channel, wanted) in [
        ("plain", Some(1)),
        ("chat:a", Some(2)),
        ("$chat:a", Some(2)),
        ("chat:a:b", Some(2)),
        ("nowhere:a", None),
        (":a", None),
        ("ticks.a.last", Some(3)),
        ("ticks.a", Some(4)),
        // Whoever names a namespace is in no other.
        ("chat:ticks.a", Some(2)),
        ("ticks:a.last", Some(4)),
    ] {
        assert_eq!(size(channel), wanted, "{channel}");
    }
    assert_eq!(namespaces.max_length(), 7);
    let meta_hours = |channel: &str| {
        let resolved = namespaces.resolve(channel);
        resolved.map(|resolved| resolved.options.history_meta_ttl.as_secs() / 3_600)
    };
    assert_eq!(
        (meta_hours("chat:a"), meta_hours("plain")),
        (Some(1), Some(3))
    );
}
