//! What the log says about operators, and what it must not say.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::http::{KEY, Server, TOKEN};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// One change of each kind, and two that do not happen.
async fn change_routes(server: &Server) {
    server.fake.turn_proxy_on();
    let records = "/api/collections/_proxies/records";
    server.operate("POST", records, r#"{"path":"/-/a"}"#).await;
    server.operate("POST", records, r#"{"path":"/-/a"}"#).await;
    let record = format!("{records}/record000000001");
    server.operate("PATCH", &record, r#"{"name":"b"}"#).await;
    server
        .operate(
            "POST",
            "/admin/proxies/record000000001/rollback",
            r#"{"version":1}"#,
        )
        .await;
    server.operate("DELETE", &record, "").await;
    server.operate("DELETE", &record, "").await;
    let secret = "/admin/secrets/X";
    server
        .operate("PUT", secret, r#"{"value":"canary-of-a-secret"}"#)
        .await;
    server.operate("DELETE", secret, "").await;
}

// The runtime of a test has one thread, so the server logs on the test's own.
#[tokio::test]
async fn each_change_leaves_a_line_with_its_author_and_no_secret_is_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::start().await;
    server.operate("POST", "/admin/reload", "").await;
    server.operate("POST", "/admin/reload", "").await;
    server.operate("POST", "/admin/drain", "").await;
    server
        .operate("DELETE", "/admin/connections/c001", "")
        .await;
    server
        .operate(
            "POST",
            "/admin/revocations",
            r#"{"user":"eve\n","reason":"left"}"#,
        )
        .await;
    server
        .operate("DELETE", "/admin/revocations?user=eve%0A", "")
        .await;
    server.fake.turn_relay_on(3);
    let letters = "/admin/relay/dead-letters";
    server
        .operate("POST", &format!("{letters}/replay"), "")
        .await;
    server.operate("DELETE", &format!("{letters}/3"), "").await;
    server.operate("DELETE", &format!("{letters}/9"), "").await;
    change_routes(&server).await;
    server.operate("GET", "/admin/config", "").await;
    server
        .send("POST", "/api/info", &["x-api-key: canary-wrong-key"], "")
        .await;
    server
        .send("POST", "/api/info?api_key=canary-wrong-key", &[], "")
        .await;
    server
        .send("POST", &format!("/api/info?api_key={KEY}"), &[], "")
        .await;
    server
        .send(
            "GET",
            "/admin/config",
            &["authorization: Bearer canary-wrong-token"],
            "",
        )
        .await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON value per line"))
        .collect();
    let audited: Vec<_> = lines
        .iter()
        .filter(|line| line["target"] == "audit")
        .map(|line| {
            assert_eq!(line["level"], "INFO");
            assert_eq!(line["fields"]["actor"], "ops");
            let field = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
            (field("action"), field("subject"), field("error"))
        })
        .collect();
    let expected = [
        ("reload", "", ""),
        ("reload", "", "line 3: unknown key"),
        ("drain", "", ""),
        ("close connection", "c001", ""),
        ("revoke", r#"user "eve\n", because "left""#, ""),
        ("reinstate", r#"user "eve\n""#, ""),
        ("replay dead letter", "1", ""),
        ("replay dead letter", "2", ""),
        ("replay dead letter", "3", "no route"),
        ("discard dead letter", "3", ""),
        ("create proxy", "record000000001 /-/a", ""),
        ("create proxy", "", "path is taken by another record"),
        ("update proxy", "record000000001", ""),
        ("roll proxy back", "record000000001 to 1", ""),
        ("delete proxy", "record000000001", ""),
        ("set secret", "X of global", ""),
        ("delete secret", "X of global", ""),
    ];
    assert_eq!(
        audited,
        expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
    );
    for secret in [TOKEN, KEY, "canary"] {
        assert!(!text.contains(secret), "{secret:?} was logged");
    }
}
