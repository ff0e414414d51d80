use bus::{NatsBus, NatsBusConfig, NatsConfig, NatsConnection, NatsCredentials};
use testkit::services::{Nats, NatsOptions};

use super::*;

struct Gateway {
    shared: SharedRevocations,
}

impl Gateway {
    /// One that knows of these, and follows the others.
    async fn start(server: &Nats, node: &str, known: Vec<Revocation>) -> Self {
        let server = NatsConfig {
            urls: vec![server.url()],
            name: node.to_owned(),
            credentials: NatsCredentials::None,
            tls: false,
            ca_file: None,
            connect_within: DEADLINE,
        };
        let connection = NatsConnection::connect(&server).await.unwrap();
        let config = NatsBusConfig {
            node: node.to_owned(),
            history_bytes_max: 16 << 20,
            ..NatsBusConfig::default()
        };
        let tasks = Tasks::new();
        let bus = NatsBus::open(connection, &config, &tasks).await.unwrap();
        let shared = SharedRevocations {
            bus: Bus::Nats(bus),
            own: Arc::new(Revocations::open(None).unwrap()),
            clock: Clock::start(),
            tasks: tasks.clone(),
        };
        shared.own.add_all(known, 0).unwrap();
        let (following, stopping) = (shared.clone(), tasks.stopping());
        tasks.spawn("revocations", async move {
            tokio::select! {
                () = following.follow() => {}
                () = stopping.cancelled() => {}
            }
        });
        Self { shared }
    }

    async fn revoke(&self, revocation: &Revocation) {
        self.shared.own.add(revocation.clone(), 0).unwrap();
        self.shared.keep(revocation).await.unwrap();
    }

    async fn reinstate(&self, revocation: &Revocation) {
        self.shared.own.remove(&revocation.revoked).unwrap();
        let expires_at = revocation.expires_at;
        let told = self.shared.forget(&revocation.revoked, expires_at).await;
        told.unwrap();
    }

    async fn comes_to_know(&self, names: &[&Revocation]) {
        let knows_them = async {
            let mut looks = tokio::time::interval(Duration::from_millis(10));
            while !names.iter().all(|it| self.shared.own.covers(it))
                || self.shared.own.len() != names.len()
            {
                looks.tick().await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, knows_them).await;
        assert!(waited.is_ok(), "known are {:?}", self.shared.own.list());
    }
}

fn server() -> Nats {
    let options = NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    };
    Nats::start(&options).unwrap()
}

fn token(id: &str) -> Revocation {
    Revocation {
        revoked: Revoked::Token {
            token_id: id.to_owned(),
        },
        expires_at: Clock::start().unix_ms() / 1_000 + 3_600,
        reason: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_revokes_all_do_and_whoever_comes() {
    let server = server();
    let (own, told) = (token("own"), token("told"));
    let one = Gateway::start(&server, "one", vec![own.clone()]).await;
    let two = Gateway::start(&server, "two", Vec::new()).await;
    two.comes_to_know(&[&own]).await;
    two.revoke(&told).await;
    one.comes_to_know(&[&own, &told]).await;
    let three = Gateway::start(&server, "three", Vec::new()).await;
    three.comes_to_know(&[&own, &told]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_is_not_brought_along_by_who_was_away() {
    let server = server();
    let (back, stays) = (token("back"), token("stays"));
    let one = Gateway::start(&server, "one", Vec::new()).await;
    one.revoke(&back).await;
    one.revoke(&stays).await;
    one.reinstate(&back).await;
    let known = vec![back.clone(), stays.clone()];
    let two = Gateway::start(&server, "two", known).await;
    two.comes_to_know(&[&stays]).await;
    // Whatever the other tells comes before this.
    let last = token("last");
    two.revoke(&last).await;
    one.comes_to_know(&[&stays, &last]).await;
}

#[test]
fn the_key_of_a_revocation_tells_what_is_revoked() {
    for revoked in [
        Revoked::User {
            user: "a.b*c".to_owned(),
            issued_before: 0,
        },
        Revoked::Token {
            token_id: "é".to_owned(),
        },
    ] {
        assert_eq!(revoked_of(&key_of(&revoked)), Some(revoked));
    }
    assert_eq!(revoked_of("revocations.user.***"), None);
    assert_eq!(revoked_of("other.user.YQ"), None);
}

const DEADLINE: Duration = Duration::from_secs(20);
