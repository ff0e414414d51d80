//! JetStream as functions: store under a condition, read the last, read all.
//!
//! Reads are direct (ADR-31): any server that holds the stream answers, without a
//! consumer. Each call ends within [`PATIENCE`], and as soon as the connection is lost on
//! which it was made: whether something was stored is unknown then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use lifecycle::Clock;
use serde::Deserialize;
use serde_json::json;
use tracing::{debug, error, warn};

use super::connection::NatsConnection;
use super::figures::{Figures, add};
use super::wire;
use crate::BusError;

/// JetStream of the connection.
#[derive(Debug, Clone)]
pub(super) struct Store {
    connection: NatsConnection,
    clock: Clock,
    figures: Arc<Figures>,
    /// Somebody asked for a stream that nobody has.
    absent: Arc<AtomicBool>,
    /// The second in which a failure was last logged, counted from 1.
    complained: Arc<AtomicU64>,
}

/// A message as a stream holds it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) seq: u64,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
}

/// What storing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It lies there.
    Stored { seq: u64 },
    /// The same message id was stored there before.
    Duplicate { seq: u64 },
    /// Its condition about the subject's last message does not hold.
    Conflict,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Store {
    pub(super) fn new(connection: NatsConnection, clock: Clock, figures: Arc<Figures>) -> Self {
        Self {
            connection,
            clock,
            figures,
            absent: Arc::default(),
            complained: Arc::default(),
        }
    }

    /// Whether a stream was found gone since this was asked last.
    pub(super) fn was_absent(&self) -> bool {
        self.absent.swap(false, Ordering::Relaxed)
    }

    /// Whether a failure may be logged: clients cause as many as they like.
    fn may_complain(&self) -> bool {
        let second = self.clock.mono_ms() / 1_000 + 1;
        self.complained.swap(second, Ordering::Relaxed) != second
    }

    /// Stores a message.
    pub(super) async fn put(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Put, BusError> {
        let request = Request::new().headers(headers).payload(payload);
        let reply = self.request(subject, request).await?;
        let Ok(ack) = serde_json::from_slice::<Ack>(&reply.payload) else {
            error!(subject, "jetstream acknowledged with something unreadable");
            return Err(BusError::Unavailable);
        };
        match ack {
            Ack {
                error: Some(refused),
                ..
            } if CONFLICTS.contains(&refused.err_code) => Ok(Put::Conflict),
            Ack {
                error: Some(refused),
                ..
            } => {
                let ApiError {
                    err_code,
                    description,
                } = refused;
                if self.may_complain() {
                    error!(subject, err_code, description, "jetstream stores nothing");
                }
                Err(BusError::Unavailable)
            }
            Ack {
                seq,
                duplicate: true,
                ..
            } => Ok(Put::Duplicate { seq }),
            Ack { seq, .. } => {
                add(&self.figures.published, 1);
                Ok(Put::Stored { seq })
            }
        }
    }

    /// The last message on a subject.
    pub(super) async fn last(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<Stored>, BusError> {
        self.one(stream, &json!({ "last_by_subj": subject })).await
    }

    /// The message at a sequence.
    pub(super) async fn at(&self, stream: &str, seq: u64) -> Result<Option<Stored>, BusError> {
        self.one(stream, &json!({ "seq": seq })).await
    }

    /// All messages on the subjects that a filter covers, in order.
    pub(super) async fn all(&self, stream: &str, filter: &str) -> Result<Vec<Stored>, BusError> {
        let first = json!({ "seq": 1, "batch": BATCH, "next_by_subj": filter });
        self.on_from(stream, filter, first).await
    }

    /// The messages on the subjects that a filter covers that the stream took from a time on,
    /// in milliseconds since 1970 UTC, in order.
    pub(super) async fn since(
        &self,
        stream: &str,
        filter: &str,
        unix_ms: u64,
    ) -> Result<Vec<Stored>, BusError> {
        let start = moment(unix_ms);
        let first = json!({ "start_time": start, "batch": BATCH, "next_by_subj": filter });
        self.on_from(stream, filter, first).await
    }

    async fn on_from(
        &self,
        stream: &str,
        filter: &str,
        first: serde_json::Value,
    ) -> Result<Vec<Stored>, BusError> {
        let mut found = Vec::new();
        let mut query = first;
        loop {
            let (mut batch, pending) = self.many(stream, &query).await?;
            let Some(last) = batch.last() else { break };
            query = json!({ "seq": last.seq + 1, "batch": BATCH, "next_by_subj": filter });
            found.append(&mut batch);
            if pending == 0 {
                break;
            }
            if found.len() > ALL_MAX {
                warn!(stream, filter, "more messages than are read at once");
                return Err(BusError::LimitExceeded { limit: "read_max" });
            }
        }
        Ok(found)
    }

    /// The last message of each subject that a filter covers; at most 1,024 subjects.
    pub(super) async fn last_of_each(
        &self,
        stream: &str,
        filter: &str,
    ) -> Result<Vec<Stored>, BusError> {
        let query = json!({ "multi_last": [filter] });
        Ok(self.many(stream, &query).await?.0)
    }

    /// Drops what was stored on a subject before a sequence.
    pub(super) async fn drop_before(
        &self,
        stream: &str,
        subject: &str,
        seq: u64,
    ) -> Result<(), BusError> {
        let api = format!("$JS.API.STREAM.PURGE.{stream}");
        let query = json!({ "filter": subject, "seq": seq });
        self.api(&api, &query).await.map(|_| ())
    }

    /// Asks the API; an error of its own is logged.
    pub(super) async fn api(
        &self,
        api: &str,
        query: &serde_json::Value,
    ) -> Result<serde_json::Value, BusError> {
        let payload = if query.is_null() {
            Bytes::new()
        } else {
            query.to_string().into()
        };
        let reply = self.request(api, Request::new().payload(payload)).await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&reply.payload).map_err(|_| BusError::Unavailable)?;
        if let Some(refused) = answer.get("error") {
            error!(api, %refused, "jetstream refused");
            return Err(BusError::Unavailable);
        }
        Ok(answer)
    }

    async fn one(
        &self,
        stream: &str,
        query: &serde_json::Value,
    ) -> Result<Option<Stored>, BusError> {
        let request = Request::new().payload(query.to_string().into());
        let reply = self.request(&direct(stream), request).await?;
        match reply.status {
            None => Ok(stored(reply)),
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(status) => {
                let why = reply.description.unwrap_or_default();
                if self.may_complain() {
                    error!(stream, %status, why, "stream can't be read");
                }
                Err(BusError::Unavailable)
            }
        }
    }

    /// Messages up to the end of the batch, and how many are beyond it.
    async fn many(
        &self,
        stream: &str,
        query: &serde_json::Value,
    ) -> Result<(Vec<Stored>, u64), BusError> {
        let started = self.clock.elapsed();
        let client = self.connection.client();
        let reading = async {
            let inbox = client.new_inbox();
            let subscribed = client.subscribe(inbox.clone()).await;
            let mut replies = subscribed.map_err(|_| BusError::Unavailable)?;
            let payload = query.to_string().into();
            let asked = client.publish_with_reply(direct(stream), inbox, payload);
            asked.await.map_err(|_| BusError::Unavailable)?;
            let (mut found, mut pending) = (Vec::new(), 0);
            while let Some(reply) = replies.next().await {
                match reply.status {
                    None => {
                        let left = wire::number(reply.headers.as_ref(), "Nats-Num-Pending");
                        pending = left.unwrap_or_default();
                        found.extend(stored(reply));
                    }
                    // The end of a batch, or nothing to begin it with.
                    Some(StatusCode::NOT_FOUND) => return Ok((found, 0)),
                    Some(status) if status.as_u16() == 204 => {
                        let left = wire::number(reply.headers.as_ref(), "Nats-Num-Pending");
                        return Ok((found, left.unwrap_or(pending)));
                    }
                    Some(StatusCode::NO_RESPONDERS) => {
                        self.absent.store(true, Ordering::Relaxed);
                        return Err(BusError::Unavailable);
                    }
                    Some(status) => {
                        let why = reply.description.unwrap_or_default();
                        if self.may_complain() {
                            error!(stream, %status, why, "stream can't be read");
                        }
                        return Err(BusError::Unavailable);
                    }
                }
            }
            Err(BusError::Unavailable)
        };
        let lost = self.connection.lost();
        let reading = async {
            tokio::select! {
                read = reading => read,
                () = lost => Err(BusError::Unavailable),
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, reading).await;
        self.figures
            .took(self.clock.elapsed().saturating_sub(started));
        outcome.unwrap_or_else(|_late| {
            if self.may_complain() {
                warn!(stream, "stream was not read in time");
            }
            Err(BusError::Unavailable)
        })
    }

    async fn request(
        &self,
        subject: &str,
        request: Request,
    ) -> Result<async_nats::Message, BusError> {
        let started = self.clock.elapsed();
        let request = request.timeout(None);
        let asking = async {
            // What waits in the client's queue would be sent once the connection is back,
            // after its caller was told that it failed.
            self.connection.usable().await;
            let lost = self.connection.lost();
            tokio::select! {
                reply = self.connection.client().send_request(subject.to_owned(), request) => reply,
                () = lost => Err(RequestErrorKind::Other.into()),
            }
        };
        // The client's own time does not count waiting for room in its queue.
        let outcome = tokio::time::timeout(PATIENCE, asking).await;
        self.figures
            .took(self.clock.elapsed().saturating_sub(started));
        match outcome {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(refused)) => match refused.kind() {
                RequestErrorKind::MaxPayloadExceeded => Err(BusError::LimitExceeded {
                    limit: "max_payload",
                }),
                RequestErrorKind::NoResponders => {
                    if self.may_complain() {
                        error!(subject, "nobody answers: no such stream, or no jetstream");
                    }
                    self.absent.store(true, Ordering::Relaxed);
                    Err(BusError::Unavailable)
                }
                RequestErrorKind::TimedOut
                | RequestErrorKind::InvalidSubject
                | RequestErrorKind::Other => {
                    debug!(subject, error = %refused, "nats request failed");
                    Err(BusError::Unavailable)
                }
            },
            Err(_late) => {
                if self.may_complain() {
                    warn!(subject, "nats did not answer in time");
                }
                Err(BusError::Unavailable)
            }
        }
    }
}

fn direct(stream: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}")
}

/// A moment as JSON of NATS has it (RFC 3339), of milliseconds since 1970 UTC.
fn moment(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the odd day comes last; 400 of them have 146,097 days.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A message that a stream gave or passed on.
pub(super) fn stored(reply: async_nats::Message) -> Option<Stored> {
    let headers = reply.headers.as_ref();
    Some(Stored {
        subject: wire::text(headers, "Nats-Subject")?.to_owned(),
        seq: wire::number(headers, "Nats-Sequence")?,
        headers: reply.headers,
        payload: reply.payload,
    })
}

/// For one question to the servers.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Messages of one answer.
const BATCH: usize = 500;

/// Most messages read for one question.
const ALL_MAX: usize = 100_000;

/// "Wrong last sequence", with and without the right one.
const CONFLICTS: [u64; 2] = [10071, 10164];

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_written_as_everybody_writes_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (unix_ms, text) in cases {
            assert_eq!(moment(unix_ms), text);
        }
    }
}
