//! Who may pass, and what others are told (`contracts`: http-proxy 5.2, 5.3).

use e2e::proxy::api::Api;
use e2e::proxy::origin::Origin;
use e2e::proxy::{gateway, route};
use serde_json::{Value, json};
use testkit::token;

use super::{before, get};

#[test]
fn each_rule_lets_the_right_ones_pass() -> anyhow::Result<()> {
    const USERS: &str = "@request.auth.id != ''";
    const GUESTS: &str = "@request.auth.id = ''";
    let origin = Origin::start()?;
    let rule = |path: &str, rule: &str| route(path, &origin.url(), &json!({ "accessRule": rule }));
    let routes = json!([
        rule("/-/administrators", ""),
        rule("/-/everybody", "true"),
        rule("/-/nobody", "false"),
        rule("/-/users", USERS),
        rule("/-/guests", GUESTS),
    ]);
    let gateway = gateway(&routes, &json!({}))?;
    let api = Api::of(&gateway)?;
    let user = format!("Bearer {}", token::user("anna")?);
    let administrator = format!("Bearer {}", api.token());
    let forged = format!("Bearer {}", token::unsigned("none", &token::claims("anna")));
    // Guest, user, administrator, and one whose token is worth nothing.
    for (path, expected) in [
        ("/-/administrators", [401, 403, 200, 401]),
        ("/-/everybody", [200, 200, 200, 200]),
        ("/-/nobody", [403, 403, 403, 403]),
        ("/-/users", [401, 200, 200, 401]),
        ("/-/guests", [200, 403, 403, 200]),
    ] {
        let callers = ["", &user, &administrator, &forged];
        for (caller, status) in callers.iter().zip(expected) {
            let headers = [("Authorization", *caller)];
            let headers = if caller.is_empty() { &[][..] } else { &headers };
            let response = get(&gateway, path, headers)?;
            assert_eq!(response.status, status, "{path} for {caller:?}");
            match status {
                401 => assert_eq!(
                    response.text(),
                    r#"{"data":{},"message":"Authentication required.","status":401}"#
                ),
                403 => assert_eq!(
                    response.text(),
                    r#"{"data":{},"message":"Access denied.","status":403}"#
                ),
                _ => {}
            }
        }
    }
    let response = get(&gateway, "/-/nowhere", &[])?;
    assert_eq!(response.status, 404);
    assert_eq!(
        response.text(),
        r#"{"data":{},"message":"No matching proxy found.","status":404}"#
    );
    assert_eq!(response.header("content-type"), Some("application/json"));
    Ok(())
}

#[test]
fn templates_are_filled_in_and_our_tokens_stay_here() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let headers = json!({
        "X-Env": "env {env.CARGO_PKG_NAME}",
        "Authorization": "Bearer {secret.MODEL_KEY}",
        "X-User": "@request.auth.id",
        "X-Plan": "{auth.plan}",
        "X-Level": "{auth.level}",
        "X-Empty": "{auth.nothing}",
    });
    let gateway = before(&origin, &json!({ "headers": headers }))?;
    let api = Api::of(&gateway)?;
    // Until the secret is there, nothing at all is injected.
    let told = get(&gateway, "/-/a", &[])?.json()?;
    assert_eq!(seen(&told, "x-env"), None);
    api.put_secret("MODEL_KEY", "canary-model-key")?;
    let claims = json!({
        "sub": "anna", "plan": "gold", "level": 7, "exp": token::unix_s() + 600,
    });
    let user = token::hs256(token::SECRET.as_bytes(), &claims)?;
    let bearer = format!("Bearer {user}");
    let told = get(&gateway, "/-/a", &[("Authorization", &bearer)])?.json()?;
    assert_eq!(seen(&told, "x-env"), Some("env e2e"));
    assert_eq!(
        seen(&told, "authorization"),
        Some("Bearer canary-model-key")
    );
    assert_eq!(seen(&told, "x-user"), Some("anna"));
    assert_eq!(seen(&told, "x-plan"), Some("gold"));
    assert_eq!(seen(&told, "x-level"), Some("7"));
    assert_eq!(seen(&told, "x-empty"), None);
    assert!(!told.to_string().contains(&user), "{told}");
    // A guest has no id; the rest is the same.
    let told = get(&gateway, "/-/a", &[("X-User", "forged")])?.json()?;
    assert_eq!(
        seen(&told, "authorization"),
        Some("Bearer canary-model-key")
    );
    Ok(())
}

#[test]
fn somebody_elses_token_is_passed_on() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let told = get(&gateway, "/-/a", &[("Authorization", "Bearer sk-theirs")])?.json()?;
    assert_eq!(seen(&told, "authorization"), Some("Bearer sk-theirs"));
    let ours = format!("Bearer {}", token::user("anna")?);
    let told = get(&gateway, "/-/a", &[("Authorization", &ours)])?.json()?;
    assert_eq!(seen(&told, "authorization"), None);
    // Where SDKs of models put it.
    let told = get(&gateway, "/-/a", &[("X-Api-Key", "sk-theirs")])?.json()?;
    assert_eq!(seen(&told, "x-api-key"), Some("sk-theirs"));
    let told = get(&gateway, "/-/a", &[("X-Api-Key", &token::user("anna")?)])?.json()?;
    assert_eq!(seen(&told, "x-api-key"), None);
    Ok(())
}

#[test]
fn addresses_inside_are_out_of_reach_unless_a_route_allows_them() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let port = origin.address().port();
    let closed = json!({ "allowPrivate": false });
    let metadata = json!({});
    let routes = json!([
        route("/-/address", &origin.url(), &closed),
        route("/-/name", &format!("http://localhost:{port}"), &closed),
        route(
            "/-/mapped",
            &format!("http://[::ffff:127.0.0.1]:{port}"),
            &closed
        ),
        route("/-/metadata", "http://169.254.169.254", &metadata),
        route("/-/hidden", "http://[::ffff:169.254.169.254]", &metadata),
    ]);
    let gateway = gateway(&routes, &json!({}))?;
    for path in [
        "/-/address",
        "/-/name",
        "/-/mapped",
        "/-/metadata",
        "/-/hidden",
    ] {
        let response = get(&gateway, path, &[])?;
        assert_eq!(response.status, 502, "{path}: {}", response.text());
        assert_eq!(response.json()?["error"], "Upstream Unavailable");
    }
    assert_eq!(origin.seen().connections, 0);
    Ok(())
}

fn seen<'a>(told: &'a Value, name: &str) -> Option<&'a str> {
    let fields = told["headers"].as_array()?;
    let field = fields.iter().find(|field| field[0] == name)?;
    field[1].as_str()
}
