use std::collections::BTreeSet;

use super::{ADMIN, SERVER_API};
use crate::router::OPEN_PATHS;
use crate::{api, operator};

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
    assert_eq!(
        documented(ADMIN),
        routes(served.chain(open_admin.into_iter().map(|path| (path, "GET"))))
    );
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
