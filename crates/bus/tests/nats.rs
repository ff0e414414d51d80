//! The NATS connection against a real server.

use std::time::Duration;

use bus::{NatsConfig, NatsConnection, NatsCredentials, NatsError, NatsState};
use testkit::certificate::Certificate;
use testkit::services::{Nats, NatsOptions};

#[tokio::test]
async fn connection_comes_back_after_a_crash_of_the_server() {
    let mut server = Nats::start_durable().unwrap();
    let connection = NatsConnection::connect(&config(&server.url()))
        .await
        .unwrap();
    assert!(connection.is_connected());
    assert!(connection.server_version().starts_with("2."));

    server.kill().unwrap();
    reach(&connection, NatsState::Disconnected).await;
    server.restart().unwrap();
    reach(&connection, NatsState::Connected).await;
    assert_eq!(connection.losses(), 1);
    connection.client().flush().await.unwrap();

    connection.close(PATIENCE).await;
    reach(&connection, NatsState::Closed).await;
}

#[tokio::test]
async fn wrong_credentials_fail_at_once() {
    let server = guarded("authorization { user: ada, password: right }");
    let with = |password: &str| NatsConfig {
        credentials: NatsCredentials::Password {
            user: "ada".to_owned(),
            password: password.to_owned(),
        },
        ..config(&server.url())
    };
    NatsConnection::connect(&with("right")).await.unwrap();
    let refused = NatsConnection::connect(&with("wrong")).await;
    assert!(matches!(refused, Err(NatsError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn tokens_and_key_pairs_are_accepted() {
    let server = guarded("authorization { token: sesame }");
    let token = NatsConfig {
        credentials: NatsCredentials::Token("sesame".to_owned()),
        ..config(&server.url())
    };
    NatsConnection::connect(&token).await.unwrap();

    // A key pair of no other use.
    let pair = nkeys::KeyPair::new_user();
    let public = pair.public_key();
    let server = guarded(&format!(
        "authorization {{ users: [ {{ nkey: {public} }} ] }}"
    ));
    let seed = NatsConfig {
        credentials: NatsCredentials::Seed(pair.seed().unwrap()),
        ..config(&server.url())
    };
    NatsConnection::connect(&seed).await.unwrap();
}

#[tokio::test]
async fn certificate_is_checked_against_the_given_authority() {
    let certificate = Certificate::for_localhost().unwrap();
    let server = Nats::start(&NatsOptions {
        tls: Some(certificate.clone()),
        ..NatsOptions::default()
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    certificate.write(folder.path()).unwrap();
    let trusting = NatsConfig {
        tls: true,
        ca_file: Some(folder.path().join("certificate.pem")),
        ..config(&server.url())
    };
    NatsConnection::connect(&trusting).await.unwrap();

    let missing = NatsConfig {
        ca_file: Some(folder.path().join("no.pem")),
        ..trusting.clone()
    };
    let refused = NatsConnection::connect(&missing).await;
    assert!(
        matches!(
            refused,
            Err(NatsError::Setting {
                setting: "ca_file",
                ..
            })
        ),
        "{refused:?}"
    );
    let untrusting = NatsConfig {
        ca_file: None,
        connect_within: Duration::from_millis(300),
        ..trusting
    };
    NatsConnection::connect(&untrusting).await.unwrap_err();
}

#[tokio::test]
async fn absent_server_is_reported_after_the_patience() {
    let mut server = Nats::start_durable().unwrap();
    server.kill().unwrap();
    let impatient = NatsConfig {
        connect_within: Duration::from_millis(300),
        ..config(&server.url())
    };
    let refused = NatsConnection::connect(&impatient).await;
    assert!(
        matches!(refused, Err(NatsError::NotReached { .. })),
        "{refused:?}"
    );
}

fn config(url: &str) -> NatsConfig {
    NatsConfig {
        urls: vec![url.to_owned()],
        name: "tidegate".to_owned(),
        credentials: NatsCredentials::None,
        tls: false,
        ca_file: None,
        connect_within: PATIENCE,
    }
}

fn guarded(authorization: &str) -> Nats {
    Nats::start(&NatsOptions {
        more: authorization.to_owned(),
        ..NatsOptions::default()
    })
    .expect("nats-server")
}

async fn reach(connection: &NatsConnection, wanted: NatsState) {
    let mut state = connection.state();
    let reached = state.wait_for(|state| *state == wanted);
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.expect("in time").expect("a sender");
}

const PATIENCE: Duration = Duration::from_secs(20);
