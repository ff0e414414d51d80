//! Gateways and others with credentials that allow no more than they need.

use std::path::PathBuf;
use std::time::Duration;

use crate::peer::{Gateway, PATIENCE, at, client, config, connection, now, pattern, soon, within};
use bus::{
    Bus, BusError, Emit, HistoryLimit, NatsBus, NatsBusConfig, NatsConfig, NatsConnection,
    NatsError, NatsState, StreamConfig, StreamStorage,
};
use lifecycle::Tasks;
use tempfile::TempDir;
use testkit::certificate::Certificate;
use testkit::services::{Accounts, Nats, NatsOptions, Permissions};

/// A server that speaks TLS and knows one operator.
struct Guarded {
    server: Nats,
    accounts: Accounts,
    folder: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_does_its_own_and_no_more() {
    let guarded = Guarded::start();
    let market = guarded.gateway("market", Permissions::aggregator("tidegate"), |config| {
        config.keep = false;
    });
    let gateway = guarded.gateway("gateway", Permissions::gateway("tidegate"), |config| {
        config.streams = vec![snapshots()];
    });
    let (market, gateway) = (market.await, gateway.await);

    let mut inbox = gateway.inbox();
    gateway.subscribe(&inbox, "xy.md.snapshot.a").await;
    market
        .bus
        .emit(now(), emit("xy.md.snapshot.a"))
        .expect("room");
    assert_eq!(inbox.text().await, "xy.md.snapshot.a=x");
    let mut requests = market
        .bus
        .serve(&pattern("xy.md.req.>"), 8)
        .await
        .expect("served");
    let asking = gateway
        .bus
        .request(&"xy.md.req.a".into(), "q".into(), PATIENCE);
    let answering = async {
        requests
            .next()
            .await
            .expect("a question")
            .respond("a".into());
    };
    let (answer, ()) = tokio::join!(asking.into_future(), answering);
    assert_eq!(answer, Ok("a".into()));

    // All that a gateway does besides.
    gateway.subscribe(&inbox, "news").await;
    let first = gateway.keep("news", "1").await;
    assert_eq!(inbox.text().await, "news=1");
    assert_eq!(gateway.history("news", HistoryLimit::All).await.top, first);
    gateway
        .bus
        .remove_history(&"news".into())
        .await
        .expect("removed");
    gateway
        .bus
        .presence_add(&"news".into(), client("anna", "c1"))
        .await
        .expect("noted");
    assert_eq!(
        gateway
            .bus
            .presence(&"news".into())
            .await
            .expect("read")
            .len(),
        1
    );
    gateway.bus.told().await.expect("heard");
    gateway.bus.watch_kept("flags").await.expect("watched");
    assert_eq!(
        gateway.stats().denied_total,
        0,
        "nothing of that was refused"
    );

    // And what it may not.
    gateway
        .bus
        .emit(now(), emit("xy.md.snapshot.a"))
        .expect("queued");
    let mut denials = 0;
    soon(|| async { gateway.stats().denied_total > 0 }).await;
    denials += gateway.stats().denied_total;
    let refused = gateway.bus.subscribe(inbox.id, &"xy.src.tick.v.s".into());
    assert_eq!(within(refused.into_future()).await, Err(BusError::Denied));
    assert!(gateway.stats().denied_total > denials);
    let refused = market.bus.told().await;
    assert_eq!(refused.err(), Some(BusError::Denied));
    let last = gateway.history("xy.md.snapshot.a", HistoryLimit::All).await;
    assert_eq!(
        last.top,
        at(1),
        "what the aggregator said is what stands there"
    );
}

#[tokio::test]
async fn credentials_of_another_operator_are_refused_at_once() {
    let guarded = Guarded::start();
    let other = Accounts::new();
    let text = other
        .credentials("gateway", &Permissions::gateway("tidegate"))
        .expect("signed");
    let refused = NatsConnection::connect(&guarded.connection("other", &text)).await;
    assert!(matches!(refused, Err(NatsError::Refused(_))), "{refused:?}");
    let nobody = NatsConfig {
        tls: true,
        ca_file: Some(guarded.folder.path().join("certificate.pem")),
        ..connection(&guarded.server.url(), None)
    };
    let refused = NatsConnection::connect(&nobody).await;
    assert!(matches!(refused, Err(NatsError::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_withdrawn_are_tried_again() {
    let users = |password: &str| format!("authorization {{ user: ada, password: {password} }}");
    let mut server = Nats::start(&NatsOptions {
        more: users("right"),
        ..NatsOptions::default()
    })
    .expect("nats-server");
    let ada = NatsConfig {
        credentials: bus::NatsCredentials::Password {
            user: "ada".to_owned(),
            password: "right".to_owned(),
        },
        ..connection(&server.url(), None)
    };
    let connection = NatsConnection::connect(&ada).await.expect("connected");
    let without = NatsBusConfig {
        keep: false,
        ..config("one")
    };
    let bus = NatsBus::open(connection, &without, &Tasks::new())
        .await
        .expect("a bus");
    let gateway = Gateway {
        bus: Bus::Nats(bus),
    };
    let mut state = gateway.nats().connection().state();
    server
        .reconfigure(&users("right"), &users("other"))
        .expect("written");
    server.restart().expect("restarted");
    let lost = state.wait_for(|state| *state == NatsState::Disconnected);
    within(lost).await.expect("a sender");
    soon(|| async { gateway.nats().connection().failures() > 0 }).await;
    server
        .reconfigure(&users("other"), &users("right"))
        .expect("written");
    server.restart().expect("restarted");
    let back = state.wait_for(|state| *state == NatsState::Connected);
    within(back).await.expect("a sender");
}

impl Guarded {
    fn start() -> Self {
        let (accounts, folder) = (Accounts::new(), tempfile::tempdir().expect("a folder"));
        let certificate = Certificate::for_localhost().expect("a certificate");
        certificate.write(folder.path()).expect("written");
        let server = Nats::start(&NatsOptions {
            jetstream: true,
            tls: Some(certificate),
            more: accounts.server_config().expect("signed"),
            ..NatsOptions::default()
        });
        Self {
            server: server.expect("nats-server"),
            accounts,
            folder,
        }
    }

    fn connection(&self, name: &str, credentials: &str) -> NatsConfig {
        let path: PathBuf = self.folder.path().join(format!("{name}.creds"));
        std::fs::write(&path, credentials).expect("written");
        NatsConfig {
            tls: true,
            ca_file: Some(self.folder.path().join("certificate.pem")),
            ..connection(&self.server.url(), Some(path))
        }
    }

    async fn gateway(
        &self,
        name: &str,
        permissions: Permissions,
        change: impl Fn(&mut NatsBusConfig),
    ) -> Gateway {
        let credentials = self
            .accounts
            .credentials(name, &permissions)
            .expect("signed");
        let connection = self.connection(name, &credentials);
        let connection = NatsConnection::connect(&connection)
            .await
            .expect("connected");
        let mut config = config(name);
        change(&mut config);
        let bus = NatsBus::open(connection, &config, &Tasks::new()).await;
        Gateway {
            bus: Bus::Nats(bus.expect("a bus")),
        }
    }
}

fn emit(channel: &str) -> Emit {
    Emit {
        channel: channel.into(),
        data: "x".into(),
        position: Some(at(1)),
        keep: true,
    }
}

fn snapshots() -> StreamConfig {
    StreamConfig {
        name: "XY_MD_SNAPSHOT".to_owned(),
        subjects: vec![pattern("xy.md.snapshot.>")],
        max_age: Duration::from_secs(3_600),
        max_bytes: 1 << 20,
        max_per_subject: 1,
        storage: StreamStorage::Memory,
    }
}
