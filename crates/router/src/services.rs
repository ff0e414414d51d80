//! Native rpc methods that gRPC services answer.
//!
//! ```text
//! session ─► Services::call ─► JSON → Protobuf ─► upstream::grpc::Service ─► answer, or the
//!            binding, GUUID     by the schema      policy, endpoints         code of an error
//! ```
//!
//! Each call gets an id of its own, the GUUID: it goes along as metadata `x-guuid`, it is the id
//! of the trace that the call begins (`traceparent`), and it stands in the line that is logged
//! here and, if the service does likewise, there. What a service says of its inside stays in
//! the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bus::Answer;
use bytes::Bytes;
use http::uri::PathAndQuery;
use lifecycle::Clock;
use protocol::code::ErrorCode;
use protocol::codec::Encoding;
use protocol::message;
use tracing::{debug, info};
use upstream::grpc::{Call, Code, Failure, JsonFailure, MetadataMap, SchemaError, Service};
use uuid::Uuid;

/// A method that is bound to a service.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The method that clients call.
    pub method: Arc<str>,
    /// Who answers.
    pub service: Service,
    /// `/package.Service/Method`.
    pub path: PathAndQuery,
    /// How messages look to clients.
    pub form: Form,
    /// How long a call may take with all its tries.
    pub timeout: Duration,
    /// Doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// Clients hear the service's own words.
    pub pass_messages: bool,
    /// Goes with each call.
    pub metadata: MetadataMap,
    /// The metadata key under which the service is told who calls; none is told nothing.
    pub user_key: Option<MetadataKey>,
}

/// A metadata key whose values are text.
pub type MetadataKey = upstream::grpc::MetadataKey;

/// How messages look to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON, translated by the service's schema.
    Json,
    /// Protobuf as it stands; from clients that speak JSON as `{"base64":"…"}`.
    Protobuf,
}

/// The methods, ready to be called. Counts go on when it is replaced.
#[derive(Debug)]
pub struct Services {
    bindings: HashMap<Arc<str>, Bound>,
    clock: Clock,
    /// A line for each call.
    logs: bool,
}

#[derive(Debug)]
struct Bound {
    binding: Arc<Binding>,
    figures: Arc<CallFigures>,
}

/// What was counted of one method; each only rises.
#[derive(Debug, Default)]
pub struct CallFigures {
    by_code: [AtomicU64; CODES],
    refused: AtomicU64,
    micros: AtomicU64,
}

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The user; empty for an anonymous one.
    pub user: &'a str,
    /// How its messages are encoded.
    pub encoding: Encoding,
}

impl Services {
    /// The methods. `before` is what they replace, whose counts go on.
    pub fn new(bindings: Vec<Binding>, before: Option<&Self>, logs: bool, clock: Clock) -> Self {
        let bindings = bindings.into_iter().map(|binding| {
            let known = before.and_then(|before| before.bindings.get(&binding.method));
            let bound = Bound {
                figures: known.map_or_else(Arc::default, |known| Arc::clone(&known.figures)),
                binding: Arc::new(binding),
            };
            (Arc::clone(&bound.binding.method), bound)
        });
        Self {
            bindings: bindings.collect(),
            clock,
            logs,
        }
    }

    /// Calls a method. The answer comes later; dropping it cancels the call.
    pub fn call(
        &self,
        method: &str,
        who: Who<'_>,
        data: Bytes,
    ) -> Answer<Result<Bytes, message::Error>> {
        let Some(bound) = self.bindings.get(method) else {
            // It was unbound while the question was on its way.
            return Answer::Now(Err(ErrorCode::MethodNotFound.to_error()));
        };
        let data = match bound.binding.form {
            Form::Json => data,
            Form::Protobuf => match unwrapped(data, who.encoding) {
                Ok(data) => data,
                Err(error) => {
                    bound.figures.refused.fetch_add(1, Ordering::Relaxed);
                    return Answer::Now(Err(error));
                }
            },
        };
        let (binding, figures) = (Arc::clone(&bound.binding), Arc::clone(&bound.figures));
        let (clock, logs) = (self.clock, self.logs);
        let guuid = Uuid::new_v4();
        let call = call_of(&binding, who.user, guuid);
        Answer::Later(Box::pin(async move {
            let begun = clock.elapsed();
            if logs {
                info!(
                    target: LOG_TARGET,
                    guuid = %guuid,
                    component = COMPONENT,
                    action = "request_received",
                    method = &*binding.method,
                    service = binding.service.name(),
                    call = binding.path.path(),
                );
            }
            let answer = match binding.form {
                Form::Json => binding.service.call_json(&call, &data).await,
                Form::Protobuf => {
                    let answer = binding.service.call(&call, data).await;
                    answer.map_err(JsonFailure::Call)
                }
            };
            let took = clock.elapsed().saturating_sub(begun);
            figures.note(&answer, took);
            if logs {
                let code = answer.as_ref().map_or_else(code_of, |_| Code::Ok);
                info!(
                    target: LOG_TARGET,
                    guuid = %guuid,
                    component = COMPONENT,
                    action = "response_sent",
                    method = &*binding.method,
                    status = i32::from(code),
                    took_us = took.as_micros() as u64,
                    error = answer.as_ref().err().filter(|it| is_ours(it)).map(tracing::field::display),
                );
            }
            answer.map_err(|failure| error_of(&failure, binding.pass_messages))
        }))
    }

    /// The methods and what was counted of each.
    pub fn figures(&self) -> impl Iterator<Item = (&Binding, &CallFigures)> {
        self.bindings
            .values()
            .map(|bound| (&*bound.binding, &*bound.figures))
    }
}

impl CallFigures {
    /// Calls by gRPC status, in its order.
    pub fn by_code(&self) -> [u64; CODES] {
        std::array::from_fn(|index| {
            self.by_code
                .get(index)
                .map_or(0, |count| count.load(Ordering::Relaxed))
        })
    }

    /// Calls whose data did not fit and that went nowhere.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How long all calls took together, in microseconds.
    pub fn micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }

    fn note(&self, answer: &Result<Bytes, JsonFailure>, took: Duration) {
        let code = match answer {
            Ok(_) => Code::Ok,
            Err(JsonFailure::Schema(SchemaError::Request(_))) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(failure) => code_of(failure),
        };
        let index = usize::try_from(i32::from(code)).unwrap_or_default();
        if let Some(count) = self.by_code.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(took, Ordering::Relaxed);
    }
}

/// What goes upstream with the message.
fn call_of(binding: &Binding, user: &str, guuid: Uuid) -> Call {
    let mut metadata = binding.metadata.clone();
    let mut put = |key: MetadataKey, value: &str| match value.parse() {
        Ok(value) => {
            metadata.insert(key, value);
        }
        // A name beyond ASCII has no place in a header.
        Err(_) => debug!(%guuid, "value can't be said in metadata"),
    };
    put(MetadataKey::from_static(GUUID_KEY), &guuid.to_string());
    // Not recorded by anybody: whoever traces decides for itself.
    let span = guuid.as_u64_pair().1 | 1;
    let parent = format!("00-{}-{span:016x}-00", guuid.simple());
    put(MetadataKey::from_static("traceparent"), &parent);
    if let Some(key) = &binding.user_key {
        put(key.clone(), user);
    }
    Call {
        path: binding.path.clone(),
        metadata,
        idempotent: binding.idempotent,
        timeout: Some(binding.timeout),
    }
}

/// Protobuf of a client that has only JSON to say it in.
fn unwrapped(data: Bytes, encoding: Encoding) -> Result<Bytes, message::Error> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped {
        base64: String,
    }
    if encoding == Encoding::Protobuf || data.is_empty() {
        return Ok(data);
    }
    let wrapped = serde_json::from_slice::<Wrapped>(&data);
    let bytes = wrapped.ok().and_then(|it| STANDARD.decode(it.base64).ok());
    bytes.map(Bytes::from).ok_or_else(|| {
        ErrorCode::BadRequest.with("this method takes Protobuf, in JSON as {\"base64\":\"…\"}")
    })
}

/// A failure for operators. One that quotes the client's data is for the client alone.
fn is_ours(failure: &JsonFailure) -> bool {
    !matches!(failure, JsonFailure::Schema(SchemaError::Request(_)))
}

fn code_of(failure: &JsonFailure) -> Code {
    match failure {
        JsonFailure::Schema(SchemaError::Request(_)) => Code::InvalidArgument,
        JsonFailure::Schema(SchemaError::Answer(_) | SchemaError::Descriptors(_)) => Code::Internal,
        JsonFailure::Schema(SchemaError::NoMethod(_) | SchemaError::Streams(_)) => {
            Code::Unimplemented
        }
        JsonFailure::Schema(SchemaError::Reflection(_)) => Code::Unavailable,
        JsonFailure::Call(failure) => failure.code,
    }
}

/// What the client is told: of its own mistake all, of the service's inside nothing.
fn error_of(failure: &JsonFailure, pass_messages: bool) -> message::Error {
    let code = match failure {
        JsonFailure::Schema(SchemaError::Request(problem)) => {
            return ErrorCode::BadRequest.with(problem);
        }
        JsonFailure::Call(Failure {
            refusal: Some(policy::Refusal::Rate { .. }),
            ..
        }) => return ErrorCode::TooManyRequests.to_error(),
        failure => code_of(failure),
    };
    let code = ErrorCode::of_service(u8::try_from(i32::from(code)).unwrap_or_default());
    match failure {
        JsonFailure::Call(Failure {
            said: Some(words), ..
        }) if pass_messages && !words.is_empty() => code.with(
            words
                .get(..words.floor_char_boundary(WORDS_MAX))
                .unwrap_or_default(),
        ),
        _ => code.to_error(),
    }
}

/// The log target of the line for each call.
pub const LOG_TARGET: &str = "calls";

/// What the gateway is called in the line for each call (seed).
pub(crate) const COMPONENT: &str = "api-gateway";

/// The metadata key of a call's id.
pub const GUUID_KEY: &str = "x-guuid";

/// gRPC statuses, 0 to 16.
pub const CODES: usize = 17;

/// Bytes of a service's words that are passed on.
const WORDS_MAX: usize = 256;
