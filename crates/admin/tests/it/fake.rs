//! A gateway that writes down what it is asked and answers from a script.

mod console;
mod proxies;
mod relay;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use admin::control::{
    Connection, ConnectionDetail, ConnectionFilter, Control, History, HistoryQuery, Node, Operator,
    Page, PresenceStats, Publication, PublishOptions, RefreshOptions, Reloaded, Revocation,
    RevocationExpiry, RevocationRequest, RevokedSubject, Selector, SubscribeOptions,
};
use admin::{ApiError, OperatorError};
use bytes::Bytes;
use console::FakeConsole;
use protocol::code::Disconnect;
use protocol::message::{ClientInfo, StreamPosition};
use proxies::FakeProxies;
use relay::FakeRelay;

#[derive(Default)]
pub(crate) struct Fake {
    calls: Mutex<Vec<String>>,
    revoked: Mutex<Vec<Revocation>>,
    relay: Mutex<Option<FakeRelay>>,
    proxies: Mutex<Option<FakeProxies>>,
    console: FakeConsole,
}

impl Fake {
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// From now on there is a relay, with so many dead letters.
    pub(crate) fn turn_relay_on(&self, letters: u64) {
        *self.relay.lock().unwrap() = Some(FakeRelay::with_letters(letters));
    }

    /// From now on there is an HTTP proxy, without records.
    pub(crate) fn turn_proxy_on(&self) -> FakeProxies {
        let proxies = FakeProxies::default();
        *self.proxies.lock().unwrap() = Some(proxies.clone());
        proxies
    }

    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }

    /// Channels are named for what happens in them.
    fn fate(channel: &str) -> Result<(), ApiError> {
        match channel {
            "gone:x" => Err(ApiError::UnknownChannel),
            "off" => Err(ApiError::NotAvailable),
            "old" => Err(ApiError::UnrecoverablePosition),
            "taken" => Err(ApiError::Conflict),
            "broken" => Err(ApiError::Internal),
            "panic" => panic!("the test asked for it"),
            _ => Ok(()),
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Control for Fake {
    async fn publish(
        &self,
        channel: &str,
        data: Bytes,
        options: PublishOptions,
    ) -> Result<Option<StreamPosition>, ApiError> {
        // Lets others go first, so that order is not an accident.
        tokio::task::yield_now().await;
        Self::fate(channel)?;
        let key = options.idempotency_key.unwrap_or_default();
        self.note(format!("publish {channel} {} {key}", text(&data)));
        let kept = !options.skip_history && channel.starts_with("kept");
        Ok(kept.then(|| StreamPosition {
            offset: 7,
            epoch: "abcd".to_owned(),
        }))
    }

    async fn subscribe(
        &self,
        selector: Selector,
        channel: &str,
        options: SubscribeOptions,
    ) -> Result<(), ApiError> {
        self.note(format!(
            "subscribe {selector:?} {channel} {}",
            text(&options.info)
        ));
        Self::fate(channel)
    }

    async fn unsubscribe(&self, selector: Selector, channel: &str) -> Result<(), ApiError> {
        self.note(format!("unsubscribe {} {channel}", selector.user));
        Self::fate(channel)
    }

    async fn disconnect(
        &self,
        selector: Selector,
        whitelist: Vec<String>,
        disconnect: Disconnect,
    ) -> Result<(), ApiError> {
        let Disconnect { code, reason } = disconnect;
        self.note(format!(
            "disconnect {} {whitelist:?} {code} {reason}",
            selector.user
        ));
        Ok(())
    }

    async fn refresh(&self, selector: Selector, options: RefreshOptions) -> Result<(), ApiError> {
        self.note(format!("refresh {} {options:?}", selector.user));
        Ok(())
    }

    async fn presence(&self, channel: &str) -> Result<BTreeMap<String, ClientInfo>, ApiError> {
        Self::fate(channel)?;
        let info = ClientInfo {
            user: "u7".to_owned(),
            client: "c1".to_owned(),
            conn_info: Bytes::from_static(br#"{"a":1}"#),
            chan_info: Bytes::from_static(&[0xff]),
        };
        Ok(BTreeMap::from([("c1".to_owned(), info)]))
    }

    async fn presence_stats(&self, channel: &str) -> Result<PresenceStats, ApiError> {
        Self::fate(channel)?;
        Ok(PresenceStats {
            clients: 3,
            users: 2,
        })
    }

    async fn history(&self, channel: &str, query: HistoryQuery) -> Result<History, ApiError> {
        self.note(format!("history {channel} {query:?}"));
        Self::fate(channel)?;
        let publication = Publication {
            data: Bytes::from_static(br#"{"n":41}"#),
            info: Some(ClientInfo {
                user: "u7".to_owned(),
                ..ClientInfo::default()
            }),
            offset: 41,
            tags: BTreeMap::from([("kind".to_owned(), "x".to_owned())]),
        };
        let plain = Publication {
            data: Bytes::from_static(&[1, 2]),
            offset: 42,
            ..Publication::default()
        };
        let top = StreamPosition {
            offset: 42,
            epoch: "abcd".to_owned(),
        };
        Ok(History {
            publications: vec![publication, plain],
            top,
        })
    }

    async fn history_remove(&self, channel: &str) -> Result<(), ApiError> {
        self.note(format!("history_remove {channel}"));
        Self::fate(channel)
    }

    async fn channels(&self, pattern: &str) -> Result<BTreeMap<String, u64>, ApiError> {
        self.note(format!("channels {pattern}"));
        Ok(BTreeMap::from([("chat:hall".to_owned(), 2)]))
    }

    async fn info(&self) -> Result<Vec<Node>, ApiError> {
        let uptime = Duration::from_millis(61_500);
        Ok(vec![Node {
            uid: "n".to_owned(),
            clients: 4,
            uptime,
            ..Node::default()
        }])
    }
}

impl Operator for Fake {
    type Relay = FakeRelay;
    type Proxies = FakeProxies;
    type Console = FakeConsole;

    fn console(&self) -> FakeConsole {
        self.console.clone()
    }

    fn proxies(&self) -> Option<FakeProxies> {
        self.proxies.lock().unwrap().clone()
    }

    fn relay(&self) -> Option<FakeRelay> {
        self.relay.lock().unwrap().clone()
    }

    async fn connections(
        &self,
        filter: ConnectionFilter,
        page: Page,
    ) -> Result<Vec<Connection>, OperatorError> {
        let all = (0..250).map(|index| connection(&format!("c{index:03}")));
        let after = page.after.unwrap_or_default();
        let matching = all.filter(|connection| {
            let search = filter.search.as_deref().unwrap_or_default();
            connection.client > after
                && connection.client.contains(search)
                && filter
                    .user
                    .as_ref()
                    .is_none_or(|user| *user == connection.user)
        });
        Ok(matching.take(page.limit).collect())
    }

    async fn connection(&self, client: &str) -> Result<Option<ConnectionDetail>, OperatorError> {
        Ok((client == "c001").then(|| ConnectionDetail {
            connection: connection("c001"),
            expires_at: None,
            channels: vec!["chat:hall".to_owned()],
        }))
    }

    async fn close(&self, client: &str, disconnect: Disconnect) -> Result<bool, OperatorError> {
        let Disconnect { code, reason } = disconnect;
        self.note(format!("close {client} {code} {reason}"));
        Ok(client == "c001")
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, OperatorError> {
        Ok(self.revoked.lock().unwrap().clone())
    }

    async fn revoke(&self, request: RevocationRequest) -> Result<Revocation, OperatorError> {
        self.note(format!("revoke {} {:?}", request.subject, request.expiry));
        let expires_at = match request.expiry {
            RevocationExpiry::Default => 9_000,
            RevocationExpiry::In(duration) => duration.as_secs().saturating_add(1_000),
            RevocationExpiry::At(at) if at < 1_000 => {
                return Err(OperatorError::Refused(
                    "expires_at is in the past".to_owned(),
                ));
            }
            RevocationExpiry::At(at) => at,
        };
        let issued_before = matches!(request.subject, RevokedSubject::User(_)).then_some(1_000);
        let RevocationRequest {
            subject, reason, ..
        } = request;
        let revocation = Revocation {
            subject,
            issued_before,
            expires_at,
            reason,
        };
        self.revoked.lock().unwrap().push(revocation.clone());
        Ok(revocation)
    }

    async fn reinstate(&self, subject: RevokedSubject) -> Result<bool, OperatorError> {
        let mut revoked = self.revoked.lock().unwrap();
        let before = revoked.len();
        revoked.retain(|revocation| revocation.subject != subject);
        Ok(revoked.len() < before)
    }

    async fn reload(&self) -> Result<Reloaded, OperatorError> {
        let reloads = self.calls().iter().filter(|call| *call == "reload").count();
        self.note("reload");
        match reloads {
            0 => Ok(Reloaded {
                changed: vec!["limits".to_owned()],
                restart_needed: vec![],
            }),
            _ => Err(OperatorError::Refused("line 3: unknown key".to_owned())),
        }
    }

    async fn drain(&self) -> Result<(), OperatorError> {
        self.note("drain");
        Ok(())
    }

    async fn config(&self) -> Result<serde_json::Value, OperatorError> {
        Ok(serde_json::json!({"workers": 2, "http_api": {"key": "(redacted)"}}))
    }
}

fn connection(client: &str) -> Connection {
    Connection {
        client: client.to_owned(),
        user: if client == "c200" {
            "eve".to_owned()
        } else {
            String::new()
        },
        address: "192.0.2.1".parse().unwrap(),
        transport: "websocket",
        encoding: "json",
        dialect: "centrifuge",
        connected_at: 1_700_000_000,
        channels: 1,
        queue_bytes: 0,
    }
}
