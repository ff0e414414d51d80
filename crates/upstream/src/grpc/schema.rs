//! Between JSON and Protobuf, as the ProtoJSON mapping has it.
//!
//! Descriptors come from a file, or from the service itself. What the service said is kept; it
//! is asked again once something says that another version of it may be running: it does not
//! know the method, or its connection was lost.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use lifecycle::Clock;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions,
};
use tokio::sync::Semaphore;

use super::{Channel, reflection};

/// Why JSON and Protobuf can't be brought together.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SchemaError {
    /// The descriptor file can't be read.
    #[error("descriptors can't be read: {0}")]
    Descriptors(String),
    /// The service could not be asked, or its answer is of no use.
    #[error("service could not be asked for its schema: {0}")]
    Reflection(String),
    /// There is no such method.
    #[error("there is no method {0}")]
    NoMethod(String),
    /// It is not unary.
    #[error("method {0} streams; only unary methods can be called")]
    Streams(String),
    /// The JSON does not fit the method's request; the text names the field.
    #[error("{0}")]
    Request(String),
    /// The service's answer does not fit its schema.
    #[error("answer does not fit its schema: {0}")]
    Answer(String),
}

/// Descriptors from a file.
#[derive(Debug, Clone)]
pub struct Descriptors(DescriptorPool);

/// The methods of one service, as far as they are known.
#[derive(Debug)]
pub struct Schema {
    clock: Clock,
    fixed: Option<Descriptors>,
    asked: Mutex<Asked>,
    turn: Semaphore,
}

#[derive(Debug, Default)]
struct Asked {
    /// By the full name of the gRPC service.
    known: Vec<Known>,
    /// What failed, and until when that is believed.
    failed: Option<(SchemaError, Duration)>,
}

#[derive(Debug)]
struct Known {
    service: Box<str>,
    pool: DescriptorPool,
    since: Duration,
    is_stale: bool,
}

impl Descriptors {
    /// Reads a file descriptor set (`protoc --include_imports --descriptor_set_out`).
    ///
    /// # Errors
    ///
    /// If it is none, or a file that it needs is missing.
    pub fn read(bytes: &[u8]) -> Result<Self, SchemaError> {
        DescriptorPool::decode(bytes)
            .map(Self)
            .map_err(|error| SchemaError::Descriptors(error.to_string()))
    }

    /// Whether the method of this path (`/package.Service/Method`) is there and unary.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub fn check(&self, path: &str) -> Result<(), SchemaError> {
        method(&self.0, path).map(drop)
    }
}

impl Schema {
    /// With descriptors from a file, or else by asking the service.
    pub fn new(fixed: Option<Descriptors>, clock: Clock) -> Self {
        Self {
            clock,
            fixed,
            asked: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// Another version of the service may be running.
    pub(super) fn doubt(&self) {
        let now = self.clock.elapsed();
        for known in &mut self.lock().known {
            // A schema that has just been asked for is not in doubt, or every call would ask.
            known.is_stale |= now.saturating_sub(known.since) >= DOUBT_AFTER;
        }
    }

    /// The method of a path, if that takes no question.
    pub(super) fn known(
        &self,
        path: &PathAndQuery,
    ) -> Option<Result<MethodDescriptor, SchemaError>> {
        let path = path.path();
        if let Some(Descriptors(pool)) = &self.fixed {
            return Some(method(pool, path));
        }
        match service_of(path) {
            Ok(service) => self.look(service, path, false),
            Err(error) => Some(Err(error)),
        }
    }

    /// The method of a path. One question at a time is asked, for at most [`ASK_WITHIN`];
    /// where an endpoint has no answer, the next one is asked.
    pub(super) async fn method(
        &self,
        channels: &[Channel],
        path: &PathAndQuery,
    ) -> Result<MethodDescriptor, SchemaError> {
        if let Some(found) = self.known(path) {
            return found;
        }
        let path = path.path();
        let service = service_of(path)?;
        let Ok(_turn) = self.turn.acquire().await else {
            return Err(SchemaError::Reflection(
                "the gateway is stopping".to_owned(),
            ));
        };
        if let Some(found) = self.look(service, path, false) {
            return found;
        }
        // What was known before is better than a call that waits.
        let within = match self.look(service, path, true) {
            Some(_) => ASK_AGAIN_WITHIN,
            None => ASK_WITHIN,
        };
        let asked = tokio::time::timeout(within, ask(channels, service)).await;
        let answer = asked.unwrap_or_else(|_elapsed| {
            Err(SchemaError::Reflection("no answer in time".to_owned()))
        });
        let now = self.clock.elapsed();
        let outcome = match answer {
            Ok(pool) => {
                let mut asked = self.lock();
                asked.failed = None;
                asked.known.retain(|known| *known.service != *service);
                if asked.known.len() >= SERVICES_MAX {
                    asked.known.remove(0);
                }
                asked.known.push(Known {
                    service: service.into(),
                    pool,
                    since: now,
                    is_stale: false,
                });
                Ok(())
            }
            Err(error) => {
                self.lock().failed = Some((error.clone(), now + BELIEVED));
                Err(error)
            }
        };
        // What was known before is better than nothing.
        match (self.look(service, path, true), outcome) {
            (Some(found), _) => found,
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(SchemaError::NoMethod(path.to_owned())),
        }
    }

    /// What is known of a method; `None` if the service has to be asked.
    fn look(
        &self,
        service: &str,
        path: &str,
        even_stale: bool,
    ) -> Option<Result<MethodDescriptor, SchemaError>> {
        let now = self.clock.elapsed();
        let asked = self.lock();
        let is_failing = asked.failed.as_ref().filter(|(_, until)| now < *until);
        let known = asked.known.iter().find(|known| *known.service == *service);
        match (known, is_failing) {
            (Some(known), _) if even_stale || is_failing.is_some() || !known.is_stale => {
                Some(method(&known.pool, path))
            }
            (None, Some((error, _))) => Some(Err(error.clone())),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks one endpoint after the other.
async fn ask(channels: &[Channel], service: &str) -> Result<DescriptorPool, SchemaError> {
    let mut last = SchemaError::Reflection("service has no endpoint".to_owned());
    for channel in channels.iter().take(ASKED_MAX) {
        let answer = reflection::files(channel, service).await.and_then(|files| {
            DescriptorPool::from_file_descriptor_set(files)
                .map_err(|error| SchemaError::Reflection(format!("its files don't fit: {error}")))
        });
        match answer {
            Ok(pool) => return Ok(pool),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The request of a method, from JSON; nothing stands for an empty object.
///
/// # Errors
///
/// [`SchemaError::Request`], which names the field.
pub(super) fn encode(method: &MethodDescriptor, json: &[u8]) -> Result<Bytes, SchemaError> {
    let json = if json.trim_ascii().is_empty() {
        b"{}"
    } else {
        json
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(method.input(), tracked, &options)
        .map_err(|error| {
            let path = track.path().to_string();
            SchemaError::Request(match path.as_str() {
                "." => error.to_string(),
                path => format!("{path}: {error}"),
            })
        })?;
    deserializer
        .end()
        .map_err(|error| SchemaError::Request(error.to_string()))?;
    Ok(message.encode_to_vec().into())
}

/// An answer as JSON.
///
/// # Errors
///
/// [`SchemaError::Answer`].
pub(super) fn decode(method: &MethodDescriptor, message: Bytes) -> Result<Bytes, SchemaError> {
    let refuse = |error: &dyn std::fmt::Display| SchemaError::Answer(error.to_string());
    let message =
        DynamicMessage::decode(method.output(), message).map_err(|error| refuse(&error))?;
    let mut json = Vec::new();
    message
        .serialize_with_options(
            &mut serde_json::Serializer::new(&mut json),
            &SerializeOptions::new(),
        )
        .map_err(|error| refuse(&error))?;
    Ok(json.into())
}

fn method(pool: &DescriptorPool, path: &str) -> Result<MethodDescriptor, SchemaError> {
    let no_method = || SchemaError::NoMethod(path.to_owned());
    let service = pool
        .get_service_by_name(service_of(path)?)
        .ok_or_else(no_method)?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let method = service
        .methods()
        .find(|method| method.name() == name)
        .ok_or_else(no_method)?;
    if method.is_client_streaming() || method.is_server_streaming() {
        return Err(SchemaError::Streams(path.to_owned()));
    }
    Ok(method)
}

fn service_of(path: &str) -> Result<&str, SchemaError> {
    path.strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .map(|(service, _)| service)
        .ok_or_else(|| SchemaError::NoMethod(path.to_owned()))
}

/// How long a service may take to say what it consists of.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// How long it may take if an older answer is known.
const ASK_AGAIN_WITHIN: Duration = Duration::from_millis(250);

/// Endpoints that are asked.
const ASKED_MAX: usize = 3;

/// How long a failure to ask is believed, so that calls do not ask one after the other.
const BELIEVED: Duration = Duration::from_secs(1);

/// How old a schema must be before it is doubted.
const DOUBT_AFTER: Duration = Duration::from_secs(1);

/// gRPC services of one target that are remembered.
const SERVICES_MAX: usize = 64;

#[cfg(test)]
mod tests;
