use std::collections::BTreeSet;

use super::{ADMIN, SERVER_API};
use crate::control::{
    BusOverview, DeadLetter, FlagState, Overview, ProxyAccess, ProxyEndpoint, ProxyExplanation,
    ProxyLimiter, ProxyOverview, ProxyRouteMatch, RelayAgent, RelayOverview, RelayRoute, RelayRule,
    RelaySummary,
};
use crate::router::OPEN_PATHS;
use crate::{api, operator, records};

fn documented(document: &str) -> BTreeSet<(String, String)> {
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            routes.insert((path.clone(), method.to_uppercase()));
        }
    }
    routes
}

fn routes<'a>(served: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<(String, String)> {
    served
        .into_iter()
        .map(|(path, method)| (path.to_owned(), method.to_owned()))
        .collect()
}

#[test]
fn every_route_is_documented_and_every_documented_route_exists() {
    let (open_api, open_admin): (Vec<&str>, Vec<&str>) = OPEN_PATHS
        .into_iter()
        .partition(|path| path.starts_with("/api"));
    let served = api::paths().map(|path| (path, "POST"));
    assert_eq!(
        documented(SERVER_API),
        routes(served.chain(open_api.into_iter().map(|path| (path, "GET"))))
    );
    let served = operator::Endpoint::ALL
        .into_iter()
        .map(|endpoint| (endpoint.path(), endpoint.method()));
    let records = records::Endpoint::ALL
        .into_iter()
        .map(|endpoint| (endpoint.path(), endpoint.method()));
    let served = served.chain(records);
    assert_eq!(
        documented(ADMIN),
        routes(served.chain(open_admin.into_iter().map(|path| (path, "GET"))))
    );
}

/// Fields of an answer that its schema does not have, and the other way round.
fn differences(schema: &serde_json::Value, answer: &serde_json::Value, path: &str) -> Vec<String> {
    let (Some(documented), Some(fields)) = (schema["properties"].as_object(), answer.as_object())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in fields {
        match documented.get(name) {
            Some(schema) => found.extend(differences(schema, value, &format!("{path}.{name}"))),
            None => found.push(format!("{path}.{name} is not documented")),
        }
    }
    let required = schema["required"].as_array().expect("fields are required");
    let missing = required
        .iter()
        .filter_map(|name| name.as_str())
        .filter(|name| !fields.contains_key(*name))
        .map(|name| format!("{path}.{name} is not there"));
    found.extend(missing);
    found
}

#[test]
fn what_is_said_about_the_relay_has_the_documented_fields() {
    let document: serde_json::Value = serde_json::from_str(ADMIN).unwrap();
    let agent = RelayAgent {
        retry_after_ms: Some(1),
        ..RelayAgent::default()
    };
    let answers = [
        (
            "RelaySummary",
            serde_json::to_value(RelaySummary::default()),
        ),
        ("RelayAgent", serde_json::to_value(agent)),
        ("RelayRoute", serde_json::to_value(RelayRoute::default())),
        ("RelayRule", serde_json::to_value(RelayRule::default())),
        ("DeadLetter", serde_json::to_value(DeadLetter::default())),
    ];
    for (name, answer) in answers {
        let schema = &document["components"]["schemas"][name];
        let found = differences(schema, &answer.unwrap(), name);
        assert!(schema.is_object() && found.is_empty(), "{found:#?}");
    }
}

#[test]
fn what_is_said_about_the_proxy_has_the_documented_fields() {
    let document: serde_json::Value = serde_json::from_str(ADMIN).unwrap();
    let endpoint = ProxyEndpoint {
        retry_after_ms: Some(1),
        ..ProxyEndpoint::default()
    };
    let explanation = ProxyExplanation {
        access: Some(ProxyAccess::default()),
        limiter: Some(ProxyLimiter::default()),
        ..ProxyExplanation::default()
    };
    let answers = [
        ("ProxyExplanation", serde_json::to_value(explanation)),
        ("ProxyAccess", serde_json::to_value(ProxyAccess::default())),
        (
            "ProxyLimiter",
            serde_json::to_value(ProxyLimiter::default()),
        ),
        ("ProxyEndpoint", serde_json::to_value(endpoint)),
        (
            "ProxyRouteMatch",
            serde_json::to_value(ProxyRouteMatch::default()),
        ),
    ];
    for (name, answer) in answers {
        let schema = &document["components"]["schemas"][name];
        let found = differences(schema, &answer.unwrap(), name);
        assert!(schema.is_object() && found.is_empty(), "{found:#?}");
    }
}

#[test]
fn what_is_said_at_a_glance_has_the_documented_fields() {
    let document: serde_json::Value = serde_json::from_str(ADMIN).unwrap();
    let answers = [
        ("Overview", serde_json::to_value(Overview::default())),
        ("BusOverview", serde_json::to_value(BusOverview::default())),
        (
            "RelayOverview",
            serde_json::to_value(RelayOverview::default()),
        ),
        (
            "ProxyOverview",
            serde_json::to_value(ProxyOverview::default()),
        ),
        ("FlagState", serde_json::to_value(FlagState::default())),
    ];
    for (name, answer) in answers {
        let schema = &document["components"]["schemas"][name];
        let found = differences(schema, &answer.unwrap(), name);
        assert!(schema.is_object() && found.is_empty(), "{found:#?}");
    }
}

#[test]
fn every_reference_in_the_documents_leads_somewhere() {
    for document in [SERVER_API, ADMIN] {
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        let mut waiting = vec![&document];
        let mut followed = 0;
        while let Some(value) = waiting.pop() {
            if let Some(reference) = value.get("$ref").and_then(serde_json::Value::as_str) {
                let pointer = reference
                    .strip_prefix('#')
                    .expect("references stay in the document");
                assert!(
                    document.pointer(pointer).is_some(),
                    "{reference} leads nowhere"
                );
                followed += 1;
            }
            match value {
                serde_json::Value::Array(items) => waiting.extend(items),
                serde_json::Value::Object(fields) => waiting.extend(fields.values()),
                _ => {}
            }
        }
        assert!(followed > 0);
    }
}
