//! Configurations that the tests start from.

use testkit::token::SECRET;

/// Ports chosen by the system, one HMAC key, and an open, recoverable namespace `room`.
/// `extra` holds further top-level keys.
pub fn config(extra: &str) -> String {
    with_client_keys("", extra)
}

/// Like [`config`], with further lines below `client`: at four spaces they belong to
/// `client.token`, at two to `client` itself.
pub fn with_client_keys(keys: &str, extra: &str) -> String {
    format!(
        r#"
listeners:
  main: {{ address: "127.0.0.1:0" }}
  admin: {{ address: "127.0.0.1:0" }}
demo: {{ enabled: false }}
client:
  token:
    hmac_secret_key: "{SECRET}"
{keys}
channel:
  namespaces:
    - name: room
      allow_subscribe_for_client: true
      allow_publish_for_client: true
      allow_history_for_client: true
      allow_presence_for_client: true
      presence: true
      history_size: 1000
      history_ttl: 10m
      force_recovery: true
{extra}
"#
    )
}
