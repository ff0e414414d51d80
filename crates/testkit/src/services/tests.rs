use std::net::TcpStream;

use super::{Nats, NatsOptions, Postgres, Redis};

#[test]
fn servers_come_back_at_the_same_place() {
    let mut redis = Redis::start().unwrap();
    let mut nats = Nats::start_durable().unwrap();
    let mut postgres = Postgres::start().unwrap();
    let addresses = [redis.address(), nats.address(), postgres.address()];
    redis.kill().unwrap();
    nats.kill().unwrap();
    postgres.kill().unwrap();
    assert!(addresses.iter().all(|at| TcpStream::connect(at).is_err()));
    redis.restart().unwrap();
    nats.restart().unwrap();
    postgres.restart().unwrap();
    assert_eq!(
        addresses,
        [redis.address(), nats.address(), postgres.address()]
    );
    drop((redis, nats, postgres));
    assert!(addresses.iter().all(|at| TcpStream::connect(at).is_err()));
}

#[test]
fn server_that_cannot_start_shows_its_log() {
    let refused = Nats::start(&NatsOptions {
        more: "no_such_setting: {".to_owned(),
        ..NatsOptions::default()
    });
    let complaint = format!("{:#}", refused.unwrap_err());
    assert!(complaint.contains("Parse error"), "{complaint}");
}
