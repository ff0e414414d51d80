//! An instance leaves; its clients go to another one.

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use serde_json::json;
use testkit::client::ClientError;
use testkit::crowd::Progress;
use testkit::{Client, Crowd, Gateway, PATIENCE, token};

use crate::config::config;

/// How large the scenario is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Clients that must move.
    pub clients: usize,
    /// Closes per second, as configured (`drain.rate`).
    pub rate: u32,
    /// Time for all of it, as configured (`drain.grace`).
    pub grace_s: u64,
}

/// What happened, if nothing went wrong.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// From SIGTERM until the last client was back and subscribed on the other instance.
    pub took: Duration,
    /// Most closes that a client had seen beyond what the rate allows by then.
    pub closes_ahead_max: f64,
}

/// Runs the scenario. It fails if a client is closed with another code than 3001, is not
/// back within the grace, is told that it recovered what the other instance cannot know,
/// or misses what is published there; or if the closes come faster than configured.
pub fn to_another_instance(size: Size) -> anyhow::Result<Outcome> {
    let Size {
        clients,
        rate,
        grace_s,
    } = size;
    let extra =
        format!("drain: {{ grace: {grace_s}s, rate: {rate} }}\nlimits: {{ handshake_rate: 0 }}");
    let grace = Duration::from_secs(grace_s);
    let mut first = Gateway::start(&config(&extra))?;
    let second = Gateway::start(&config(&extra))?;
    let token = token::user("anna")?;
    let mut epoch = String::new();
    let mut crowd = Crowd::gather(clients, |_| {
        let mut client = Client::connect(first.main_addr(), &token)?;
        let subscribed = client.subscribe(CHANNEL)?;
        epoch = subscribed["epoch"].as_str().unwrap_or_default().to_owned();
        Ok(client)
    })?;
    crowd.members[0].publish(CHANNEL, &json!("before"))?;

    let begun = Instant::now();
    first.terminate()?;
    let mut closes: Vec<Duration> = Vec::new();
    let mut moved = vec![false; clients];
    crowd.run(grace, |index, client| {
        let Some(close) = client.close().filter(|_| !moved[index]) else {
            return Ok(Progress::More);
        };
        if close.code != Some(3001) || close.reason.is_empty() {
            return Err(anyhow!("client {index} was closed with {close:?}").into());
        }
        closes.push(begun.elapsed());
        *client = Client::connect(second.main_addr(), &token)?;
        resubscribe(client, &epoch)?;
        moved[index] = true;
        match closes.len() == clients {
            true => Ok(Progress::Enough),
            false => Ok(Progress::More),
        }
    })?;
    let took = begun.elapsed();
    ensure!(
        first.wait_exit(grace)?.success(),
        "drained instance ended with an error"
    );
    everybody_receives(&mut crowd)?;

    let outcome = Outcome {
        took,
        closes_ahead_max: most_ahead(&closes, rate),
    };
    // A slice of half a second may come at once. A reader that lags sees closes late, never
    // early, so that a busy machine does not fail this.
    ensure!(
        outcome.closes_ahead_max < f64::from(rate) / 2.0,
        "closes are not paced: {outcome:?}"
    );
    Ok(outcome)
}

/// Another instance with a bus of its own holds another stream, and must say so.
fn resubscribe(client: &mut Client, epoch: &str) -> Result<(), ClientError> {
    let answer = client.recover(CHANNEL, epoch, 1)?;
    let is_honest = answer["was_recovering"] == true
        && answer
            .get("recovered")
            .is_none_or(|recovered| recovered == false)
        && answer["epoch"] != epoch;
    match is_honest {
        true => Ok(()),
        false => Err(anyhow!("recovery on another instance was answered by {answer}").into()),
    }
}

fn everybody_receives(crowd: &mut Crowd) -> anyhow::Result<()> {
    crowd.members[0].publish(CHANNEL, &json!("after"))?;
    let mut received = vec![false; crowd.members.len()];
    let mut missing = received.len();
    crowd.run(PATIENCE, |index, client| {
        while let Some(push) = client.take_push() {
            if push["pub"]["data"] == "after" && !received[index] {
                received[index] = true;
                missing -= 1;
            }
        }
        match missing {
            0 => Ok(Progress::Enough),
            _ => Ok(Progress::More),
        }
    })
}

/// How far the closes, in order, ran ahead of a steady `rate` from the start.
fn most_ahead(closes: &[Duration], rate: u32) -> f64 {
    closes
        .iter()
        .zip(1_u32..)
        .map(|(at, nth)| f64::from(nth) - f64::from(rate) * at.as_secs_f64())
        .fold(0.0, f64::max)
}

const CHANNEL: &str = "room:drain";
