//! Leaving: clients are told to come back, at the configured pace, and do so elsewhere.

use std::time::{Duration, Instant};

use e2e::config::config;
use e2e::drain::{Size, to_another_instance};
use testkit::{Client, Gateway, PATIENCE, http, token};

#[test]
fn drained_clients_come_back_on_the_other_instance_and_are_told_the_truth() -> anyhow::Result<()> {
    to_another_instance(Size {
        clients: 300,
        rate: 150,
        grace_s: 10,
    })
    .map(drop)
}

#[test]
fn draining_gateway_is_not_ready_and_takes_nobody_new() -> anyhow::Result<()> {
    let mut gateway = Gateway::start(&config("drain: { grace: 10s, rate: 1, delay: 2s }"))?;
    let token = token::user("anna")?;
    let mut client = Client::connect(gateway.main_addr(), &token)?;
    let mark = gateway.log().mark();
    gateway.terminate()?;
    gateway.log().wait_for(mark, PATIENCE, |line| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.contains("drain"))
    })?;
    gateway.wait_status("/readyz", 503)?;
    assert_eq!(
        http::get(gateway.admin_addr(), "/healthz", &[])?.status,
        200
    );
    assert_eq!(client.wait_close(PATIENCE)?.code, Some(3001));
    assert!(Client::connect(gateway.main_addr(), &token).is_err());
    assert!(gateway.wait_exit(PATIENCE)?.success());
    Ok(())
}

#[test]
fn second_signal_ends_at_once() -> anyhow::Result<()> {
    let mut gateway = Gateway::start(&config("drain: { grace: 60s, rate: 1, delay: 30s }"))?;
    let client = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    let mark = gateway.log().mark();
    gateway.terminate()?;
    gateway.log().wait_for(mark, PATIENCE, |line| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.contains("drain"))
    })?;
    let begun = Instant::now();
    gateway.terminate()?;
    gateway.wait_exit(PATIENCE)?;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begun.elapsed()
    );
    drop(client);
    Ok(())
}

/// Two processes on one port would split the clients between two buses.
#[test]
fn port_of_another_gateway_is_refused() -> anyhow::Result<()> {
    let first = Gateway::start(&config(""))?;
    let address = format!("main: {{ address: \"{}\" }}", first.main_addr());
    let second = config("").replace("main: { address: \"127.0.0.1:0\" }", &address);
    assert!(second.contains(&address));
    let error = Gateway::start(&second)
        .map(drop)
        .expect_err("the port is taken");
    assert!(
        format!("{error:#}").contains("could not be bound"),
        "{error:#}"
    );
    Ok(())
}
