//! A service: its endpoints, its policy, its schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use lifecycle::Clock;
use policy::{BreakerSettings, Deadline, Policy};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request};

use super::endpoints::{EndpointLook, Endpoints, Picked};
use super::schema::{self, Descriptors, Schema, SchemaError};
use super::{Channel, ChannelError, Failure, Fault, Target, Tls, unary};
use crate::guard::{CallOptions, Classify as _, Guard, GuardState, Try};
use crate::quantum_peer::Peers;

/// What a service is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name in the log and in metrics.
    pub name: Arc<str>,
    /// Its endpoints; at least one.
    pub targets: Vec<Target>,
    /// Who is trusted, and what is shown.
    pub tls: Tls,
    /// Slots, rate, tries, deadlines. Its breaker is not used: each endpoint has its own.
    pub policy: Policy,
    /// The breaker of each endpoint; `None` is none.
    pub breaker: Option<BreakerSettings>,
    /// Descriptors; `None` asks the service.
    pub descriptors: Option<Descriptors>,
    /// Most bytes of a message, either way.
    pub message_max: usize,
    /// How long connecting may take; over Quantum its own setting counts.
    pub connect_within: Duration,
    /// What calls to `quantum://` come from.
    pub peers: Option<Peers>,
}

/// A service. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Service(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    guard: Guard,
    endpoints: Arc<Endpoints>,
    schema: Schema,
    message_max: usize,
    clock: Clock,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: PathAndQuery,
    /// Goes with each try.
    pub metadata: MetadataMap,
    /// Doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// How long it may take with all its tries, beside the policy's own limit.
    pub timeout: Option<Duration>,
}

/// A service can't be made of what was configured.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// One of its endpoints.
    #[error("endpoint {target} can't be used")]
    Endpoint {
        /// Which.
        target: String,
        /// Why.
        source: ChannelError,
    },
}

impl Service {
    /// A service; nothing is connected yet. `seed` makes its chance.
    ///
    /// # Errors
    ///
    /// If an endpoint can't be used as it is configured.
    pub fn new(settings: Settings, clock: Clock, seed: u64) -> Result<Self, ServiceError> {
        let Settings {
            name,
            targets,
            tls,
            policy,
            breaker,
            descriptors,
            message_max,
            connect_within,
            peers,
        } = settings;
        let channel =
            |target: Target| match Channel::new(&target, &tls, connect_within, peers.as_ref()) {
                Ok(channel) => Ok((target, channel)),
                Err(source) => Err(ServiceError::Endpoint {
                    target: target.to_string(),
                    source,
                }),
            };
        let channels = targets.into_iter().map(channel).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Shared {
            guard: Guard::new(name, policy, clock, seed),
            endpoints: Arc::new(Endpoints::new(channels, breaker.as_ref(), clock, seed)),
            schema: Schema::new(descriptors, clock),
            message_max,
            clock,
        })))
    }

    /// Makes a call whose message is Protobuf, and so is its answer.
    ///
    /// # Errors
    ///
    /// If there is no answer, or the service's status is not `OK`.
    pub async fn call(&self, call: &Call, message: Bytes) -> Result<Bytes, Failure> {
        let shared = &*self.0;
        let clock = shared.clock;
        let last = AtomicUsize::new(usize::MAX);
        let options = CallOptions {
            idempotent: call.idempotent,
            deadline: Deadline::after(clock.mono_ms(), call.timeout),
            ..CallOptions::default()
        };
        let answer = shared
            .guard
            .call(options, |attempt| {
                let (last, message) = (&last, message.clone());
                async move { shared.one_try(call, attempt, message, last).await }
            })
            .await;
        answer.map_err(|error| {
            let failure = Failure::from(error);
            if matches!(failure.code, Code::Unimplemented | Code::Unavailable) {
                shared.schema.doubt();
            }
            failure
        })
    }

    /// Makes a call whose message is JSON, and so is its answer.
    ///
    /// # Errors
    ///
    /// As [`Service::call`]; and `INVALID_ARGUMENT` without the service having been asked if
    /// the JSON does not fit, in words that name the field.
    pub async fn call_json(&self, call: &Call, json: &[u8]) -> Result<Bytes, JsonFailure> {
        let shared = &*self.0;
        let begun = shared.clock.elapsed();
        let method = shared.method(&call.path).await?;
        let message = schema::encode(&method, json)?;
        if message.len() > shared.message_max {
            let most = shared.message_max;
            let problem = format!("message is longer than {most} bytes");
            return Err(SchemaError::Request(problem).into());
        }
        // What the question for the schema took is part of the call's time.
        let waited = shared.clock.elapsed().saturating_sub(begun);
        let timeout = call.timeout.map(|all| all.saturating_sub(waited));
        let call = Call {
            timeout,
            ..call.clone()
        };
        let answer = self.call(&call, message).await?;
        Ok(schema::decode(&method, answer)?)
    }

    /// Slots, queue and what was refused.
    pub fn guard_state(&self) -> GuardState {
        self.0.guard.state()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.guard.name()
    }

    /// Its endpoints.
    pub fn endpoints(&self) -> Vec<EndpointLook> {
        self.0.endpoints.look()
    }
}

/// Why a call in JSON brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum JsonFailure {
    /// JSON and schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The call.
    #[error("{}", .0.text)]
    Call(Failure),
}

impl From<Failure> for JsonFailure {
    fn from(failure: Failure) -> Self {
        Self::Call(failure)
    }
}

impl Shared {
    async fn one_try(
        &self,
        call: &Call,
        attempt: Try,
        message: Bytes,
        last: &AtomicUsize,
    ) -> Result<Bytes, Fault> {
        let avoid = Some(last.load(Ordering::Relaxed)).filter(|index| *index != usize::MAX);
        let picked = self.endpoints.pick(avoid, attempt.deadline);
        let mut picked = picked.map_err(Fault::NoEndpoint)?;
        last.store(picked.index(), Ordering::Relaxed);
        let Some(endpoint) = picked.endpoint() else {
            return Err(Fault::NotSent("service has no endpoint".to_owned()));
        };
        let channel = endpoint.channel.clone();
        let mut request = Request::new(message);
        *request.metadata_mut() = call.metadata.clone();
        if let Some(left) = attempt.deadline.remaining(self.clock.mono_ms()) {
            request.set_timeout(left);
        }
        let answered = unary::call(&channel, call.path.clone(), request, self.message_max).await;
        settled(&mut picked, answered.map_err(|status| Fault::of(&status)))
    }

    async fn method(
        &self,
        path: &PathAndQuery,
    ) -> Result<prost_reflect::MethodDescriptor, SchemaError> {
        if let Some(found) = self.schema.known(path) {
            return found;
        }
        // Whoever takes calls is asked first; the question says nothing about its health.
        let first = self.endpoints.pick(None, Deadline::NEVER).ok();
        let first = first.map_or(0, |picked| picked.index());
        let list = self.endpoints.list();
        let in_turn = (0..list.len()).filter_map(|at| list.get((first + at) % list.len()));
        let channels: Vec<Channel> = in_turn.map(|one| one.channel.clone()).collect();
        self.schema.method(&channels, path).await
    }
}

fn settled(picked: &mut Picked, answered: Result<Bytes, Fault>) -> Result<Bytes, Fault> {
    match &answered {
        Ok(_) => picked.settle(policy::Verdict::Success, None),
        Err(fault) => picked.settle(fault.verdict(), fault.class().after()),
    }
    answered
}
