//! Streams and buckets: found, or made, and never changed once they are there.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{ContextBuilder, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{self, DiscardPolicy, Republish, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use protocol::subject::Pattern;
use tracing::{info, warn};

use super::names::Names;
use super::store::PATIENCE;
use super::{NatsBusConfig, NatsBusError, StreamStorage};
use crate::Epoch;

/// A stream of others, as it was found.
#[derive(Debug, Clone)]
pub(super) struct Foreign {
    pub(super) name: String,
    pub(super) subjects: Vec<Pattern>,
    /// Where a subject stands on which nothing was published.
    pub(super) epoch: Epoch,
}

/// Finds or makes all that the configuration speaks of.
pub(super) async fn provision(
    client: &Client,
    config: &NatsBusConfig,
    names: &Names,
) -> Result<Vec<Foreign>, NatsBusError> {
    if !config.keep && config.streams.is_empty() {
        return Ok(Vec::new());
    }
    let context = ContextBuilder::new()
        .timeout(PATIENCE)
        .build(client.clone());
    if !client.server_info().jetstream && context.query_account().await.is_err() {
        return Err(NatsBusError::JetStreamOff);
    }
    if config.keep {
        for wanted in [
            history(config, names),
            bucket(config, &names.presence_bucket, PRESENCE_AGE),
            state(config, names),
        ] {
            find_or_make(&context, config.create, wanted).await?;
        }
    }
    let mut foreign = Vec::new();
    for wanted in &config.streams {
        let found = others(&context, config, wanted).await?;
        let created = found.created.unix_timestamp_nanos().to_string();
        foreign.push(Foreign {
            name: wanted.name.clone(),
            subjects: wanted.subjects.clone(),
            epoch: super::wire::derived_epoch(&[&wanted.name, &created]),
        });
    }
    Ok(foreign)
}

fn history(config: &NatsBusConfig, names: &Names) -> stream::Config {
    let (source, destination) = names.republished();
    stream::Config {
        name: names.history_stream.clone(),
        description: Some("publications of Tidegate channels with history".to_owned()),
        subjects: vec![source.clone()],
        republish: Some(Republish {
            source,
            destination,
            headers_only: false,
        }),
        max_messages_per_subject: i64::try_from(config.history_max).unwrap_or(i64::MAX),
        max_bytes: i64::try_from(config.history_bytes_max).unwrap_or(i64::MAX),
        duplicate_window: IDEMPOTENCY_WINDOW,
        allow_message_ttl: true,
        ..ours(config, storage(config.history_storage))
    }
}

/// A bucket as other clients of NATS would make it, so that they can read it.
fn bucket(config: &NatsBusConfig, name: &str, max_age: Duration) -> stream::Config {
    let lasting = max_age.is_zero();
    stream::Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        // As the server puts it; otherwise it would seem to be set up otherwise.
        max_bytes: -1,
        max_age,
        allow_rollup: true,
        deny_delete: true,
        allow_message_ttl: lasting,
        ..ours(
            config,
            if lasting {
                StorageType::File
            } else {
                StorageType::Memory
            },
        )
    }
}

/// The bucket of state, which passes on what it accepts.
fn state(config: &NatsBusConfig, names: &Names) -> stream::Config {
    let source = names.state_below("");
    stream::Config {
        republish: Some(Republish {
            destination: names.state_told(&source),
            source,
            headers_only: false,
        }),
        ..bucket(config, &names.state_bucket, Duration::ZERO)
    }
}

fn ours(config: &NatsBusConfig, storage: StorageType) -> stream::Config {
    stream::Config {
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        allow_direct: true,
        storage,
        num_replicas: config.replicas,
        ..stream::Config::default()
    }
}

fn storage(storage: StreamStorage) -> StorageType {
    match storage {
        StreamStorage::File => StorageType::File,
        StreamStorage::Memory => StorageType::Memory,
    }
}

/// A stream over subjects of others. Without a size it is made as large as allowed first,
/// which tells what the server has free, and then cut to a tenth of that.
async fn others(
    context: &Context,
    config: &NatsBusConfig,
    wanted: &super::StreamConfig,
) -> Result<stream::Info, NatsBusError> {
    let subjects = wanted.subjects.iter().map(ToString::to_string).collect();
    let mut stream = stream::Config {
        name: wanted.name.clone(),
        subjects,
        max_age: wanted.max_age,
        max_messages_per_subject: i64::try_from(wanted.max_per_subject)
            .ok()
            .filter(|max| *max > 0)
            .unwrap_or(-1),
        max_bytes: i64::try_from(wanted.max_bytes).unwrap_or(i64::MAX),
        ..ours(config, storage(wanted.storage))
    };
    if wanted.max_bytes > 0 {
        return find_or_make(context, config.create, stream).await;
    }
    let mut room = SIZE_CEILING * 10;
    loop {
        stream.max_bytes = room;
        match find_or_make(context, config.create, stream.clone()).await {
            Err(NatsBusError::NoRoom { .. }) if room > SIZE_LEAST => room /= 2,
            // It was there before, with a size of somebody's choice.
            Ok(found) if found.config.max_bytes != room => return Ok(found),
            Ok(_) => break,
            Err(error) => return Err(error),
        }
    }
    stream.max_bytes = (room / 10).min(SIZE_CEILING);
    let updated = context.update_stream(&stream).await;
    let info = updated.map_err(|error| failed(&stream.name, &error))?;
    info!(
        stream = stream.name,
        mib = stream.max_bytes >> 20,
        "stream sized to a tenth of what the server has free, at most 200 GiB"
    );
    Ok(info)
}

async fn find_or_make(
    context: &Context,
    create: bool,
    wanted: stream::Config,
) -> Result<stream::Info, NatsBusError> {
    let name = wanted.name.clone();
    match context.get_stream(&name).await {
        Ok(found) => {
            let found = found.cached_info().clone();
            for difference in differences(&wanted, &found.config) {
                warn!(
                    stream = name,
                    difference, "stream is set up otherwise; it is left so"
                );
            }
            check_use(&wanted, &found.config)?;
            return Ok(found);
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            GetStreamErrorKind::JetStream(_)
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::InvalidStreamName
            | GetStreamErrorKind::Request => return Err(failed(&name, &error)),
        },
    }
    if !create {
        return Err(NatsBusError::StreamAbsent { stream: name });
    }
    match context.create_stream(wanted.clone()).await {
        Ok(made) => {
            info!(stream = name, "stream created");
            Ok(made.cached_info().clone())
        }
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(refused) if is_no_room(refused.error_code()) => {
                Err(NatsBusError::NoRoom {
                    stream: name,
                    why: refused.to_string(),
                })
            }
            // Another gateway may have made it just now.
            _ => match context.get_stream(&name).await {
                Ok(found) => Ok(found.cached_info().clone()),
                Err(_) => Err(failed(&name, &error)),
            },
        },
    }
}

fn is_no_room(code: ErrorCode) -> bool {
    [
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::INSUFFICIENT_RESOURCES,
    ]
    .contains(&code)
}

fn failed(stream: &str, error: &(dyn std::error::Error + 'static)) -> NatsBusError {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        why = format!("{why}: {inner}");
        source = inner.source();
    }
    NatsBusError::StreamFailed {
        stream: stream.to_owned(),
        why,
    }
}

/// What only costs, or keeps more or less than wanted.
fn differences(wanted: &stream::Config, found: &stream::Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut note = |what: &str, wanted: String, found: String| {
        if wanted != found {
            differences.push(format!("{what} is {found}, not {wanted}"));
        }
    };
    note(
        "subjects",
        format!("{:?}", wanted.subjects),
        format!("{:?}", found.subjects),
    );
    note(
        "max_age",
        format!("{:?}", wanted.max_age),
        format!("{:?}", found.max_age),
    );
    if wanted.max_bytes != SIZE_CEILING * 10 {
        note(
            "max_bytes",
            wanted.max_bytes.to_string(),
            found.max_bytes.to_string(),
        );
    }
    note(
        "messages per subject",
        wanted.max_messages_per_subject.to_string(),
        found.max_messages_per_subject.to_string(),
    );
    note(
        "storage",
        format!("{:?}", wanted.storage),
        format!("{:?}", found.storage),
    );
    note(
        "replicas",
        wanted.num_replicas.to_string(),
        found.num_replicas.to_string(),
    );
    differences
}

/// What it can't be used without.
fn check_use(wanted: &stream::Config, found: &stream::Config) -> Result<(), NatsBusError> {
    let target = |config: &stream::Config| {
        let republish = config.republish.as_ref();
        republish.map(|to| (to.source.clone(), to.destination.clone()))
    };
    let why = if !found.allow_direct {
        "it does not allow direct reads"
    } else if wanted.allow_message_ttl && !found.allow_message_ttl {
        "it does not allow a time to live per message"
    } else if target(wanted).is_some() && target(wanted) != target(found) {
        "it does not pass messages on to where subscribers listen"
    } else {
        return Ok(());
    };
    Err(NatsBusError::StreamFailed {
        stream: wanted.name.clone(),
        why: why.to_owned(),
    })
}

/// How long an entry of presence lives unless renewed.
const PRESENCE_AGE: Duration = Duration::from_secs(60);

/// How long an idempotency key is remembered (contract centrifuge 11.14).
pub(super) const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Largest size of a stream that nobody gave a size, in bytes (decision live-data L16).
const SIZE_CEILING: i64 = 200 << 30;

/// Smallest room that is tried for.
const SIZE_LEAST: i64 = 64 << 20;
