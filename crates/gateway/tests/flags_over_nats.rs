//! Feature flags of two gateways on one NATS: whoever changes them, both have the same.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "the tests own their tasks, and a panic is how they fail"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Message as _;
use api::xy::flags::v1::FeatureFlags;
use bus::{
    Bus, HistoryLimit, HistoryPolicy, HistoryQuery, NatsBus, NatsBusConfig, NatsConfig,
    NatsConnection, NatsCredentials, Now,
};
use gateway::flags::{Change, ChangeError, Desk, Flag, Keeper, Place, Setup};
use lifecycle::{Clock, Tasks};
use protocol::channel::Channel;
use testkit::services::Nats;

const DEADLINE: Duration = Duration::from_secs(20);

const POLICY: HistoryPolicy = HistoryPolicy {
    size: 1,
    ttl_ms: 3_600_000,
    meta_ttl_ms: 0,
};

struct Gateway {
    bus: Bus,
    desk: Desk,
    tasks: Tasks,
}

impl Gateway {
    async fn start(server: &Nats, node: &str) -> Self {
        let server = NatsConfig {
            urls: vec![server.url()],
            name: node.to_owned(),
            credentials: NatsCredentials::None,
            tls: false,
            ca_file: None,
            connect_within: DEADLINE,
        };
        let connection = NatsConnection::connect(&server);
        let config = NatsBusConfig {
            node: node.to_owned(),
            ..NatsBusConfig::default()
        };
        let tasks = Tasks::new();
        let bus = NatsBus::open(connection.await.unwrap(), &config, &tasks).await;
        let bus = Bus::Nats(bus.unwrap());
        let setup = Setup {
            bus: bus.clone(),
            channel: Channel::new("xy.flags"),
            policy: Box::new(|| Some(POLICY)),
            place: Place::Bus(bus.clone()),
            clock: Clock::start(),
            tasks: tasks.clone(),
        };
        let (desk, keeper) = Keeper::open(setup).await.unwrap();
        tasks.spawn("feature flags", keeper.run(tasks.stopping()));
        Self { bus, desk, tasks }
    }

    async fn set(
        &self,
        name: &str,
        percentage: u8,
        expected: Option<u64>,
    ) -> Result<u64, ChangeError> {
        let flag = Flag {
            enabled: true,
            percentage: Some(percentage),
        };
        let change = Change::Merge(BTreeMap::from([(name.to_owned(), Some(flag))]));
        let changed = self.desk.change(change, expected).await?;
        Ok(changed.state.version)
    }

    async fn comes_to(&self, version: u64) {
        let waiting = async {
            while self.desk.flags().state().version < version {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, waiting).await;
        waited.expect("what the other has set");
        assert_eq!(self.desk.flags().state().version, version);
    }

    /// What a client that comes now is given, once it is that version.
    async fn tells(&self, version: u64) -> FeatureFlags {
        let query = HistoryQuery {
            since: None,
            limit: HistoryLimit::All,
            reverse: true,
        };
        let now = Now {
            mono_ms: 0,
            unix_ms: 0,
        };
        let channel = Channel::new("xy.flags");
        let reading = async {
            loop {
                let found = self.bus.history(now, &channel, &POLICY, query).await;
                let found = found.unwrap().publications;
                let told = found.first().and_then(|it| it.publication());
                let told = told.map(|it| FeatureFlags::decode(it.data.clone()).unwrap());
                if let Some(told) = told.filter(|told| told.version == version) {
                    return told;
                }
            }
        };
        tokio::time::timeout(DEADLINE, reading)
            .await
            .expect("a publication")
    }

    async fn end(self) {
        assert!(self.tasks.stop(DEADLINE).await);
    }
}

#[tokio::test]
async fn a_flag_set_at_one_gateway_is_on_at_the_other_and_outlives_both() {
    let server = Nats::start_durable().unwrap();
    let one = Gateway::start(&server, "one").await;
    let two = Gateway::start(&server, "two").await;
    assert_eq!(one.set("canary", 100, Some(1)).await.unwrap(), 2);
    two.comes_to(2).await;
    assert!(two.desk.flags().is_on("canary", "anybody"));
    assert!(two.tells(2).await.flags["canary"]);
    assert_eq!(two.set("canary", 0, Some(2)).await.unwrap(), 3);
    one.comes_to(3).await;
    assert!(!one.desk.flags().is_on("canary", "anybody"));
    one.end().await;
    two.end().await;
    let later = Gateway::start(&server, "later").await;
    assert_eq!(later.desk.flags().state().version, 3);
    assert_eq!(later.tells(3).await.rollouts["canary"], 0);
    later.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_change_at_once_none_is_lost_and_one_is_told() {
    let server = Nats::start_durable().unwrap();
    let one = Arc::new(Gateway::start(&server, "one").await);
    let two = Arc::new(Gateway::start(&server, "two").await);
    // Both have seen version 1: one of them comes too late.
    let (first, second) = tokio::join!(one.set("a", 1, Some(1)), two.set("b", 2, Some(1)));
    let outcomes = [first, second];
    assert_eq!(
        outcomes.iter().filter(|it| it.is_ok()).count(),
        1,
        "{outcomes:?}"
    );
    let refused = outcomes.into_iter().find_map(Result::err);
    assert!(matches!(refused, Some(ChangeError::Version(state)) if state.version == 2));
    // Whoever expects no version is not told, but adds to what is there.
    let changing = |gateway: &Arc<Gateway>, name: &'static str| {
        let gateway = Arc::clone(gateway);
        tokio::spawn(async move {
            for percentage in 1..=10 {
                let name = format!("{name}{percentage}");
                gateway.set(&name, percentage, None).await.unwrap();
            }
        })
    };
    let (left, right) = tokio::join!(changing(&one, "x"), changing(&two, "y"));
    left.unwrap();
    right.unwrap();
    for gateway in [&one, &two] {
        gateway.comes_to(22).await;
        assert_eq!(gateway.desk.flags().state().flags.len(), 21);
    }
    assert_eq!(one.desk.flags().state(), two.desk.flags().state());
    assert_eq!(one.tells(22).await.rollouts.len(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_that_the_bus_has_lost_are_kept_again() {
    let server = Nats::start_durable().unwrap();
    let one = Gateway::start(&server, "one").await;
    let two = Gateway::start(&server, "two").await;
    for version in 2..5 {
        one.set("canary", 100, None).await.unwrap();
        two.comes_to(version).await;
    }
    let Bus::Nats(nats) = &one.bus else {
        unreachable!("it was opened over NATS")
    };
    let client = nats.connection().client();
    let deleted = client.request("$JS.API.STREAM.DELETE.KV_TIDEGATE_STATE", "".into());
    deleted.await.unwrap();
    let changing = async {
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        while two.set("other", 100, Some(4)).await.is_err() {
            tries.tick().await;
        }
    };
    let changed = tokio::time::timeout(DEADLINE, changing).await;
    changed.expect("a bus that keeps again");
    one.comes_to(5).await;
    for gateway in [&one, &two] {
        for name in ["canary", "other"] {
            assert!(gateway.desk.flags().is_on(name, "anybody"), "{name}");
        }
    }
    let later = Gateway::start(&server, "later").await;
    assert_eq!(later.desk.flags().state().version, 5);
}
