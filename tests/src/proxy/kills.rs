//! The gateway is killed while administrators write; what they were told holds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::{Value, json};
use testkit::{Gateway, PATIENCE, http};

use super::api::{Api, RECORDS, id, record};
use super::origin::Origin;
use super::route;
use super::wire::Wire;
use crate::config::config;

/// What happened, if nothing went wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Changes that were acknowledged.
    pub acknowledged: usize,
    /// Changes under way at a kill that turned out to be made.
    pub made: usize,
    /// Changes under way at a kill that turned out not to be made.
    pub not_made: usize,
}

/// Kills the gateway so many times while routes are written. It fails if a route is not
/// as the last acknowledged change left it, or as the one under way would have; if one is
/// half of both; if its history has a gap; or if something else is served than is stored.
pub fn run(kills: usize) -> anyhow::Result<Outcome> {
    let origin = Origin::start()?;
    let mut gateway = Gateway::start(&config("limits: { handshake_rate: 0 }"))?;
    let api = Api::of(&gateway)?;
    let mut writers: Vec<Writer> = (0..WRITERS).map(|nth| Writer::new(nth, &origin)).collect();
    let mut outcome = Outcome::default();
    for kill in 0..kills {
        let api = api.at(gateway.admin_addr());
        let acknowledged = AtomicUsize::new(0);
        let has_failed = AtomicBool::new(false);
        // Another number each time, so that kills meet all kinds of changes.
        let wanted = 1 + kill * 7 % 23;
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let writing: Vec<_> = writers
                .iter_mut()
                .map(|writer| {
                    let (api, acknowledged, has_failed) = (&api, &acknowledged, &has_failed);
                    scope.spawn(move || {
                        let written = writer.write_until_killed(api, acknowledged);
                        has_failed.fetch_or(written.is_err(), Ordering::Relaxed);
                        written
                    })
                })
                .collect();
            let deadline = Instant::now() + PATIENCE;
            while acknowledged.load(Ordering::Relaxed) < wanted
                && !has_failed.load(Ordering::Relaxed)
                && Instant::now() < deadline
            {
                std::thread::park_timeout(Duration::from_micros(200));
            }
            gateway.kill()?;
            for writing in writing {
                writing.join().map_err(|_| anyhow!("writer panicked"))??;
            }
            Ok(())
        })?;
        outcome.acknowledged += acknowledged.into_inner();
        gateway.start_again()?;
        let api = api.at(gateway.admin_addr());
        let list = api.list()?;
        for writer in &mut writers {
            writer
                .check(&gateway, &api, &list, &mut outcome)
                .with_context(|| format!("after kill {kill}, route {}", writer.path))?;
        }
    }
    Ok(outcome)
}

/// Somebody who writes one route, over and over.
struct Writer {
    path: String,
    upstream: String,
    /// Changes begun.
    count: u64,
    /// The route as it was last acknowledged or found; `None`: there is none.
    known: Option<State>,
    /// The change under way, if there is one.
    under_way: Option<Change>,
}

/// A route: all of it follows from these.
#[derive(Debug, Clone, PartialEq)]
struct State {
    id: String,
    version: u64,
    tag: String,
}

/// A change under way.
#[derive(Debug, Clone)]
enum Change {
    Create(String),
    Patch(String),
    /// To the first version, which has this tag.
    Rollback(String),
    Delete,
}

impl Writer {
    fn new(nth: usize, origin: &Origin) -> Self {
        Self {
            path: format!("/-/w{nth}"),
            upstream: origin.url(),
            count: 0,
            known: None,
            under_way: None,
        }
    }

    fn write_until_killed(&mut self, api: &Api, acknowledged: &AtomicUsize) -> anyhow::Result<()> {
        loop {
            self.count += 1;
            let tag = format!("{} {}", self.path, self.count);
            let change = match (&self.known, self.count % 12) {
                (None, _) => Change::Create(tag),
                (Some(_), 11) => Change::Delete,
                (Some(state), 5) => match api.history(&state.id) {
                    Ok(history) => Change::Rollback(tag_of(&history)?),
                    // Killed meanwhile: nothing is under way.
                    Err(_) => return Ok(()),
                },
                _ => Change::Patch(tag),
            };
            self.under_way = Some(change.clone());
            let response = match self.send(api, &change) {
                Ok(response) => response,
                Err(_killed) => return Ok(()),
            };
            let text = response.text();
            ensure!(
                matches!(response.status, 200 | 204),
                "{change:?} was answered by {} {text}",
                response.status
            );
            self.known = match change {
                Change::Delete => None,
                _ => match response.json() {
                    Ok(record) => Some(self.state_of(&record)?),
                    // Its answer was cut.
                    Err(_killed) => return Ok(()),
                },
            };
            self.under_way = None;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, api: &Api, change: &Change) -> anyhow::Result<http::Response> {
        let id = self.known.as_ref().map_or("", |state| state.id.as_str());
        match change {
            Change::Create(tag) => {
                let body = route(&self.path, &self.upstream, &fields(tag));
                api.call("POST", RECORDS, None, Some(&body))
            }
            Change::Patch(tag) => api.call("PATCH", &record(id), None, Some(&fields(tag))),
            Change::Rollback(_) => {
                let path = format!("/admin/proxies/{id}/rollback");
                api.call("POST", &path, None, Some(&json!({ "version": 1 })))
            }
            Change::Delete => api.call("DELETE", &record(id), None, None),
        }
    }

    /// Compares what is there with what is known.
    fn check(
        &mut self,
        gateway: &Gateway,
        api: &Api,
        list: &Value,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let records = list["items"].as_array().context("no list")?;
        let found = records.iter().find(|record| record["path"] == self.path);
        let found = found.map(|record| self.state_of(record)).transpose()?;
        let is_as_known = found == self.known;
        match self.under_way.take() {
            None => ensure!(is_as_known, "{found:?} instead of {:?}", self.known),
            Some(_) if is_as_known => outcome.not_made += 1,
            Some(change) => {
                ensure!(
                    self.is_made(&change, found.as_ref()),
                    "{found:?}, which is neither {:?} nor what {change:?} makes of it",
                    self.known
                );
                outcome.made += 1;
            }
        }
        let served = Wire::once(
            gateway.main_addr(),
            "GET",
            &format!("{}/x", self.path),
            &[],
            b"",
        )?;
        match &found {
            None => ensure!(served.status == 404, "a route is served that is not there"),
            Some(state) => {
                ensure!(
                    served.status == 200 && served.text().contains(&state.tag),
                    "{state:?} is stored, but {} {} is served",
                    served.status,
                    served.text()
                );
                check_history(&api.history(&state.id)?, state)?;
            }
        }
        self.known = found;
        Ok(())
    }

    fn is_made(&self, change: &Change, found: Option<&State>) -> bool {
        let next = self.known.as_ref().map_or(1, |state| state.version + 1);
        match (change, found) {
            (Change::Delete, None) => true,
            (
                Change::Create(tag) | Change::Patch(tag) | Change::Rollback(tag),
                Some(State {
                    version, tag: has, ..
                }),
            ) => *version == next && has == tag,
            _ => false,
        }
    }

    /// The state of a record, none of whose fields may be from another one.
    fn state_of(&self, record: &Value) -> anyhow::Result<State> {
        let tag = record["name"].as_str().context("record without name")?;
        let expected = fields(tag);
        for field in ["name", "timeout", "headers", "maxConcurrent"] {
            if record[field] != expected[field] {
                bail!("{record} is not whole");
            }
        }
        ensure!(record["path"] == self.path, "{record} has another path");
        Ok(State {
            id: id(record)?,
            version: record["version"].as_u64().context("no version")?,
            tag: tag.to_owned(),
        })
    }
}

/// The fields that go with a tag.
fn fields(tag: &str) -> Value {
    let sum: u32 = tag.bytes().map(u32::from).sum();
    json!({
        "name": tag,
        "timeout": 1 + sum % 200,
        "maxConcurrent": 100 + sum,
        "headers": { "X-Tag": tag },
    })
}

/// The tag of the oldest version.
fn tag_of(history: &[Value]) -> anyhow::Result<String> {
    let first = history.last().context("no history")?;
    ensure!(first["version"] == 1, "history begins with {first}");
    let tag = first["record"]["name"].as_str().context("no name")?;
    Ok(tag.to_owned())
}

/// Each version is there, from the one in force to the first.
fn check_history(history: &[Value], state: &State) -> anyhow::Result<()> {
    let versions: Vec<u64> = history
        .iter()
        .filter_map(|change| change["version"].as_u64())
        .collect();
    let expected: Vec<u64> = (1..=state.version).rev().collect();
    ensure!(
        versions == expected,
        "history of {state:?} has {versions:?}"
    );
    let last = history.first().context("no history")?;
    ensure!(
        last["record"]["name"] == state.tag,
        "{state:?} is not {last}"
    );
    Ok(())
}

const WRITERS: usize = 4;
