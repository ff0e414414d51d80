//! A gateway's side of the bus over NATS, for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::{
    Bus, BusError, Epoch, History, HistoryLimit, HistoryPolicy, HistoryQuery, Message, NatsBus,
    NatsBusConfig, NatsBusError, NatsConfig, NatsConnection, NatsCredentials, NatsStats, Now,
    Position, Publish, Sink, SinkId,
};
use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use protocol::message::ClientInfo;
use protocol::subject::Pattern;
use testkit::services::{Nats, NatsOptions};
use tokio::sync::mpsc;

/// A gateway of a cluster.
pub(crate) struct Gateway {
    pub(crate) bus: Bus,
}

/// A receiver that the test reads.
pub(crate) struct Inbox {
    pub(crate) id: SinkId,
    messages: mpsc::Receiver<Arc<Message>>,
}

struct Entrance(mpsc::Sender<Arc<Message>>);

impl Gateway {
    pub(crate) async fn on(server: &Nats, node: &str) -> Self {
        Self::with(server, &config(node)).await
    }

    pub(crate) async fn with(server: &Nats, config: &NatsBusConfig) -> Self {
        let bus = open(server, config).await.expect("a bus");
        Self {
            bus: Bus::Nats(bus),
        }
    }

    pub(crate) fn nats(&self) -> &Arc<NatsBus> {
        let Bus::Nats(bus) = &self.bus else {
            unreachable!("a gateway of these tests is over NATS");
        };
        bus
    }

    pub(crate) fn stats(&self) -> NatsStats {
        self.nats().nats_stats()
    }

    pub(crate) fn inbox(&self) -> Inbox {
        self.inbox_of(10_000)
    }

    pub(crate) fn inbox_of(&self, room: usize) -> Inbox {
        let (sender, messages) = mpsc::channel(room);
        let id = self.bus.attach(Arc::new(Entrance(sender)));
        Inbox { id, messages }
    }

    pub(crate) async fn subscribe(&self, inbox: &Inbox, channel: &str) {
        let subscribed = self.bus.subscribe(inbox.id, &channel.into());
        within(subscribed.into_future()).await.expect("subscribed");
    }

    pub(crate) async fn publish(&self, channel: &str, text: &str) {
        let publish = Publish::new(channel.into(), Bytes::copy_from_slice(text.as_bytes()));
        self.bus.publish(now(), publish).await.expect("accepted");
    }

    pub(crate) async fn try_keep(&self, channel: &str, text: &str) -> Result<Position, BusError> {
        let publish = Publish {
            history: Some(POLICY),
            ..Publish::new(channel.into(), Bytes::copy_from_slice(text.as_bytes()))
        };
        let published = self.bus.publish(now(), publish).await?;
        Ok(published.position.expect("a position"))
    }

    pub(crate) async fn keep(&self, channel: &str, text: &str) -> Position {
        self.try_keep(channel, text).await.expect("accepted")
    }

    pub(crate) async fn history(&self, channel: &str, limit: HistoryLimit) -> History {
        let query = HistoryQuery {
            since: None,
            limit,
            reverse: false,
        };
        let policy = HistoryPolicy {
            size: 500,
            ..POLICY
        };
        let history = self.bus.history(now(), &channel.into(), &policy, query);
        history.await.expect("answered")
    }
}

impl Inbox {
    pub(crate) async fn next(&mut self) -> Arc<Message> {
        within(self.messages.recv()).await.expect("a bus")
    }

    pub(crate) async fn text(&mut self) -> String {
        let message = self.next().await;
        let publication = message.publication().expect("a publication");
        format!(
            "{}={}",
            message.channel,
            String::from_utf8_lossy(&publication.data)
        )
    }
}

impl Sink for Entrance {
    fn has_room(&self) -> bool {
        self.0.capacity() > 0
    }

    fn deliver(&self, message: Arc<Message>) {
        // A test that is over does not read.
        drop(self.0.try_send(message));
    }
}

pub(crate) fn server() -> Nats {
    let options = NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    };
    Nats::start(&options).expect("nats-server")
}

pub(crate) async fn connect(url: &str) -> NatsConnection {
    NatsConnection::connect(&connection(url, None))
        .await
        .expect("connected")
}

/// How to connect, with a credentials file if one is given.
pub(crate) fn connection(url: &str, credentials: Option<PathBuf>) -> NatsConfig {
    NatsConfig {
        urls: vec![url.to_owned()],
        name: "test".to_owned(),
        credentials: credentials.map_or(NatsCredentials::None, NatsCredentials::File),
        tls: false,
        ca_file: None,
        connect_within: PATIENCE,
    }
}

pub(crate) async fn open(
    server: &Nats,
    config: &NatsBusConfig,
) -> Result<Arc<NatsBus>, NatsBusError> {
    let connection = connect(&server.url()).await;
    NatsBus::open(connection, config, &Tasks::new()).await
}

pub(crate) fn config(node: &str) -> NatsBusConfig {
    NatsBusConfig {
        node: node.to_owned(),
        subjects: vec![pattern("xy.>")],
        // The server reserves it, and the machine may have little.
        history_bytes_max: 16 << 20,
        ..NatsBusConfig::default()
    }
}

/// Waits for a condition.
pub(crate) async fn soon<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let holds = async {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while !condition().await {
            looks.tick().await;
        }
    };
    within(holds).await;
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.expect("in time")
}

pub(crate) fn now() -> Now {
    let clock = Clock::start();
    Now {
        mono_ms: clock.mono_ms(),
        unix_ms: clock.unix_ms(),
    }
}

pub(crate) fn at(offset: u64) -> Position {
    Position {
        offset,
        epoch: Epoch::from_random(7),
    }
}

pub(crate) fn client(user: &str, id: &str) -> Arc<ClientInfo> {
    let info = ClientInfo {
        user: user.to_owned(),
        client: id.to_owned(),
        conn_info: Bytes::from_static(b"{\"name\":\"\xc3\xbc\"}"),
        ..ClientInfo::default()
    };
    Arc::new(info)
}

pub(crate) fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect(text)
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const POLICY: HistoryPolicy = HistoryPolicy {
    size: 500,
    ttl_ms: 600_000,
    meta_ttl_ms: 3_600_000,
};
