//! The connection, and what is asked over it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    Pipeline, RedisError, RedisResult, Value, cmd, from_redis_value,
};
use bytes::Bytes;
use tracing::{error, info, warn};

use super::{Config, OpenError};
use crate::envelope;
use crate::note::Note;
use crate::recovered::Recovered;

/// The connection to one stream.
pub(super) struct Link {
    client: Client,
    stream: String,
    notes: String,
    group: String,
    consumer: String,
    current: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    /// Connects, trying for a while, and checks what the server promises.
    pub(super) async fn open(config: &Config) -> Result<Self, OpenError> {
        let link = Self {
            client: Client::open(connection_info(config).map_err(OpenError::Url)?)
                .map_err(OpenError::Url)?,
            stream: config.stream.clone(),
            notes: format!("{}:notes", config.stream),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
            current: Mutex::new(None),
        };
        let mut last = None;
        let connecting = async {
            while let Err(error) = link.connection().await {
                last = Some(error);
                tokio::time::sleep(RETRY_FIRST).await;
            }
        };
        let connected = tokio::time::timeout(config.connect_within, connecting).await;
        if connected.is_err() {
            let unanswered = || RedisError::from((ErrorKind::Io, "no answer"));
            return Err(OpenError::NotReached {
                within: config.connect_within,
                last: last.unwrap_or_else(unanswered),
            });
        }
        link.check().await?;
        Ok(link)
    }

    /// The id of the last entry ever added.
    pub(super) async fn top(&self) -> RedisResult<u64> {
        let about: Value = self
            .ask(cmd("XINFO").arg("STREAM").arg(&self.stream))
            .await?;
        let id = field(&about, "last-generated-id").and_then(text);
        let seq = id
            .as_deref()
            .and_then(|id| id.split('-').next()?.parse().ok());
        seq.ok_or_else(|| (ErrorKind::Parse, "stream without last id").into())
    }

    /// What is stored at an id.
    pub(super) async fn get(&self, seq: u64) -> RedisResult<Option<Bytes>> {
        let id = format!("{seq}-0");
        let mut range = cmd("XRANGE");
        let found: Value = self.ask(range.arg(&self.stream).arg(&id).arg(&id)).await?;
        Ok(entries(&found)
            .into_iter()
            .next()
            .and_then(|(_, envelope)| envelope))
    }

    /// Adds the command that stores a record.
    pub(super) fn add(&self, pipeline: &mut Pipeline, seq: u64, envelope: &[u8]) {
        let id = format!("{seq}-0");
        let add = pipeline.cmd("XADD").arg(&self.stream).arg(id);
        add.arg("r").arg(envelope);
    }

    /// Adds the commands that forget records, and the notes of those that have any.
    pub(super) fn forget(&self, pipeline: &mut Pipeline, seqs: &[u64], noted: &[u64]) {
        if !seqs.is_empty() {
            let ids: Vec<String> = seqs.iter().map(|seq| format!("{seq}-0")).collect();
            pipeline
                .cmd("XACK")
                .arg(&self.stream)
                .arg(&self.group)
                .arg(&ids);
            pipeline.cmd("XDEL").arg(&self.stream).arg(&ids);
        }
        if !noted.is_empty() {
            pipeline.cmd("HDEL").arg(&self.notes).arg(noted);
        }
    }

    /// Adds the command that notes something.
    pub(super) fn note(&self, pipeline: &mut Pipeline, seq: u64, note: &Note) {
        pipeline
            .cmd("HSET")
            .arg(&self.notes)
            .arg(seq)
            .arg(note.to_text());
    }

    /// Sends a batch. The outcome of each command, or why the outcome of all is unknown.
    pub(super) async fn send(
        &self,
        pipeline: &mut Pipeline,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut connection = self.connection().await?;
        let outcome = pipeline.ignore_errors().query_async(&mut connection).await;
        outcome.inspect_err(|_| self.disconnect())
    }

    /// The connection, made if there is none.
    pub(super) async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let current = self.lock().clone();
        if let Some(connection) = current {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let connection = connecting.await?;
        *self.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// Claims and returns everything that is unsettled.
    pub(super) async fn recover(&self) -> Result<Recovered, OpenError> {
        let refused = |what| move |error| OpenError::Refused { what, error };
        let mut create = cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&self.stream)
            .arg(&self.group)
            .arg("0");
        match self.ask::<Value>(create.arg("MKSTREAM")).await {
            Err(error) if error.code() != Some("BUSYGROUP") => {
                return Err(refused("make the consumer group")(error));
            }
            Ok(_) | Err(_) => {}
        }
        let top = self.top().await.map_err(refused("describe the stream"))?;
        let mut notes: HashMap<u64, String> = self
            .ask(cmd("HGETALL").arg(&self.notes))
            .await
            .map_err(refused("read the notes"))?;
        let mut recovered = Recovered {
            top,
            entries: Vec::new(),
            damaged: 0,
        };
        let claimed = refused("hand over unsettled records");
        let mut from = "0-0".to_owned();
        loop {
            let mut claim = cmd("XAUTOCLAIM");
            claim.arg(&self.stream).arg(&self.group).arg(&self.consumer);
            claim.arg(0).arg(&from).arg("COUNT").arg(AT_ONCE);
            let answer: Value = self.ask(&claim).await.map_err(claimed)?;
            let Value::Array(parts) = answer else { break };
            let found = parts.get(1).map(entries).unwrap_or_default();
            take_in(&mut recovered, found, &mut notes);
            from = parts.first().and_then(text).unwrap_or_default();
            if from == "0-0" || from.is_empty() {
                break;
            }
        }
        loop {
            let mut read = cmd("XREADGROUP");
            read.arg("GROUP").arg(&self.group).arg(&self.consumer);
            read.arg("COUNT")
                .arg(AT_ONCE)
                .arg("STREAMS")
                .arg(&self.stream)
                .arg(">");
            let answer: Value = self.ask(&read).await.map_err(claimed)?;
            let fresh = match &answer {
                Value::Map(streams) => streams.first().map(|(_, found)| entries(found)),
                Value::Array(streams) => match streams.first() {
                    Some(Value::Array(stream)) => stream.get(1).map(entries),
                    _ => None,
                },
                _ => None,
            };
            let Some(fresh) = fresh.filter(|fresh| !fresh.is_empty()) else {
                break;
            };
            take_in(&mut recovered, fresh, &mut notes);
        }
        recovered.entries.sort_by_key(|entry| entry.id);
        // A crash between two commands leaves notes of records that are gone.
        if !notes.is_empty() {
            let orphans: Vec<u64> = notes.into_keys().collect();
            let forgotten = self
                .ask::<Value>(cmd("HDEL").arg(&self.notes).arg(orphans))
                .await;
            forgotten.map_err(refused("forget notes"))?;
        }
        Ok(recovered)
    }

    /// Version and durability settings, as far as the server tells.
    async fn check(&self) -> Result<(), OpenError> {
        let refused = |error| OpenError::Refused {
            what: "describe itself",
            error,
        };
        let about: String = self.ask(cmd("INFO").arg("server")).await.map_err(refused)?;
        let version = about
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"));
        let version = version.unwrap_or("0").trim();
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        if major.unwrap_or(0) < 7 {
            return Err(OpenError::TooOld {
                found: version.to_owned(),
            });
        }
        info!(version, "redis connected");
        for (setting, wanted, consequence) in WANTED {
            let mut get = cmd("CONFIG");
            let answer: RedisResult<Value> = self.ask(get.arg("GET").arg(setting)).await;
            match answer
                .as_ref()
                .ok()
                .and_then(|answer| field(answer, setting))
                .and_then(text)
            {
                Some(found) if found == *wanted => {}
                Some(found) => {
                    warn!(
                        setting,
                        found, wanted, "redis setting is too weak: {consequence}"
                    );
                }
                None => warn!(
                    setting,
                    wanted, "redis setting could not be checked: {consequence}"
                ),
            }
        }
        Ok(())
    }

    async fn ask<T: ::redis::FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let answer: RedisResult<Value> = command.query_async(&mut connection).await;
        let answer = answer.inspect_err(|error| {
            if error.is_unrecoverable_error() || error.is_timeout() {
                self.disconnect();
            }
        })?;
        Ok(from_redis_value(answer)?)
    }

    fn disconnect(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in what was read from the stream.
fn take_in(
    recovered: &mut Recovered,
    found: Vec<(String, Option<Bytes>)>,
    notes: &mut HashMap<u64, String>,
) {
    for (id, envelope) in found {
        // Deleted entries may still be pending; their contents are gone.
        let Some(envelope) = envelope else { continue };
        let Some(seq) = id.strip_suffix("-0").and_then(|seq| seq.parse().ok()) else {
            recovered.damaged += 1;
            error!(id, "entry in redis has an id that is not ours");
            continue;
        };
        let note = notes.remove(&seq);
        recovered.add(seq, envelope::open(&envelope), note.as_deref());
    }
}

fn connection_info(config: &Config) -> RedisResult<ConnectionInfo> {
    let info = config.url.as_str().into_connection_info()?;
    let mut settings = info.redis_settings().clone();
    if let Some(user) = &config.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}

/// Ids and envelopes of a list of entries; without envelope where the contents are gone.
fn entries(value: &Value) -> Vec<(String, Option<Bytes>)> {
    let Value::Array(list) = value else {
        return Vec::new();
    };
    let one = |entry: &Value| {
        let Value::Array(parts) = entry else {
            return None;
        };
        let envelope = match parts.get(1) {
            Some(Value::Array(fields)) => match fields.get(1) {
                Some(Value::BulkString(bytes)) => Some(Bytes::copy_from_slice(bytes)),
                _ => None,
            },
            _ => None,
        };
        Some((text(parts.first()?)?, envelope))
    };
    list.iter().filter_map(one).collect()
}

/// A value by its name, in either shape that Redis gives maps.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .find(|(key, _)| text(key).as_deref() == Some(name))
            .map(|(_, value)| value),
        Value::Array(flat) => flat
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some(name))
            .map(|pair| &pair[1]),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// Settings an outbox relies on, and what follows from others.
const WANTED: &[(&str, &str, &str)] = &[
    (
        "appendonly",
        "yes",
        "acknowledged records are lost when redis ends",
    ),
    (
        "appendfsync",
        "always",
        "records acknowledged during the last second are lost with the machine",
    ),
    (
        "maxmemory-policy",
        "noeviction",
        "redis may drop the outbox when memory is short",
    ),
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A batch that is not answered by then has an unknown outcome.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

const RETRY_FIRST: Duration = Duration::from_millis(200);

/// Entries read in one go when a stream is opened.
const AT_ONCE: usize = 256;
