use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Config;

#[track_caller]
fn refused(text: &str, key: &str) {
    let error = Config::parse(text).unwrap_err().to_string();
    assert!(error.contains(key), "{key} is not in: {error}");
}

const ECHO: &str = "grpc: { services: [ { name: echo, endpoints: [ \"grpc://a:1\" ] } ] }";

#[test]
fn a_service_and_a_method_of_it() {
    let text = format!(
        "{ECHO}\nrpc: {{ grpc: [ {{ method: say, service: echo, call: echo.v1.Echo/Say }} ] }}"
    );
    let config = Config::parse(&text).unwrap();
    let method = &config.rpc.grpc[0];
    assert_eq!(method.path(), "/echo.v1.Echo/Say");
    assert_eq!(method.timeout.as_secs(), 5);
    assert_eq!(
        config.grpc.services[0].targets()[0].to_string(),
        "grpc://a:1"
    );
}

#[test]
fn mistakes_are_told_with_their_key() {
    let service = |rest: &str| format!("grpc: {{ services: [ {{ {rest} }} ] }}");
    refused(
        &service("name: a, endpoints: []"),
        "grpc.services[0].endpoints",
    );
    refused(
        &service("name: '', endpoints: [ \"grpc://a:1\" ]"),
        "grpc.services[0].name",
    );
    for url in ["http://a:1", "grpc://a", "grpc://u:p@a:1"] {
        let text = service(&format!("name: a, endpoints: [ \"{url}\" ]"));
        refused(&text, "grpc.services[0].endpoints[0]");
    }
    refused(
        &service("name: a, endpoints: [ \"quantum://a:1\" ]"),
        "needs ca, certificate and key",
    );
    refused(
        &service("name: a, endpoints: [ \"grpcs://a:1\" ], tls: { ca: absent.pem }"),
        "grpc.services[0].tls.ca",
    );
    refused(
        &service("name: a, endpoints: [ \"grpc://a:1\" ], policy: { retries: { budget: 2 } }"),
        "grpc.services[0].policy",
    );
    refused(
        &service("name: a, endpoints: [ \"grpc://a:1\" ], descriptors: absent.pb"),
        "grpc.services[0].descriptors",
    );
    let method = |rest: &str| format!("{ECHO}\nrpc: {{ grpc: [ {{ method: m, {rest} }} ] }}");
    refused(
        &method("service: other, call: a.B/C"),
        "rpc.grpc[0].service",
    );
    refused(&method("service: echo, call: a.B"), "rpc.grpc[0].call");
    refused(
        &method("service: echo, call: a.B/C, metadata: { x-guuid: a }"),
        "rpc.grpc[0].metadata",
    );
    refused(
        &method("service: echo, call: a.B/C, user_metadata: User"),
        "rpc.grpc[0].user_metadata",
    );
    let ping =
        format!("{ECHO}\nrpc: {{ grpc: [ {{ method: ping, service: echo, call: a.B/C }} ] }}");
    refused(&ping, "rpc.grpc[0].method");
}

#[test]
fn a_key_of_another_certificate_is_told_before_anything_is_called() {
    let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (ours, other) = (made("a"), made("b"));
    let load = |key: &rcgen::KeyPair| {
        let tls = "{ ca: c.pem, certificate: c.pem, key: k.pem }";
        let text = format!("quantum: {{ tls: {tls} }}");
        let read = |asked: &Path| match asked.to_str() {
            Some("c.pem") => Ok(ours.cert.pem().into_bytes()),
            Some("k.pem") => Ok(key.serialize_pem().into_bytes()),
            _ => Ok(text.clone().into_bytes()),
        };
        let file = Path::new("tidegate.yaml");
        crate::config::load(Some(file), &BTreeMap::new(), &read)
    };
    load(&ours.signing_key).unwrap();
    let refused = load(&other.signing_key).unwrap_err().to_string();
    assert!(refused.contains("quantum.tls.key: "), "{refused}");
}

#[test]
fn a_route_over_quantum_needs_an_identity() {
    refused(
        "proxy: { routes: [ { path: /a, upstream: \"http://a:1\" }, \
         { path: /b, upstreams: [ \"Quantum://b:1\" ] } ] }",
        "proxy.routes[1].upstreams: needs ca, certificate and key in quantum.tls",
    );
}

#[test]
fn the_keys_of_quantum_may_have_hyphens() {
    let text = "quantum: { fec-ratio: 0.1, bbr-startup-gain: 2, max-cwnd: 100, fec_mode: block }";
    let config = Config::parse(text).unwrap().quantum;
    assert!((config.fec_ratio - 0.1).abs() < 1e-9);
    assert_eq!(config.max_cwnd, 100);
    refused(
        "quantum: { fec-ratio: 0.1, fec_ratio: 0.1 }",
        "quantum.fec-ratio",
    );
    let twice = Config::parse("quantum: { fec-ratio: 0.1, fec_ratio: 0.1 }").unwrap_err();
    assert!(!twice.to_string().contains("unknown key"), "{twice}");
    refused("quantum: { fec-ratio: 2 }", "quantum.fec_ratio");
    refused("quantum: { max-cwnd: 1 }", "quantum.max_cwnd");
    refused("quantum: { tls: { ca: a.pem } }", "quantum.tls");
}
