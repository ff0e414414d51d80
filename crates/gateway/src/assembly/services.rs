//! gRPC services and the methods that are bound to them.

use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::Clock;
use router::services::{Binding, Form, MetadataKey, Services};
use upstream::grpc::{MetadataMap, Service, Settings};

use super::chain;
use crate::config::{Config, GrpcMethod, GrpcService, MessageForm};

/// The services that there are. What a reload does not change goes on with its connections,
/// breakers and counts.
#[derive(Clone, Default)]
pub(super) struct Keeper(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    services: Vec<(GrpcService, Service)>,
    bound: Option<Arc<Services>>,
}

impl Keeper {
    /// Makes the services and binds the methods, as they are configured.
    ///
    /// # Errors
    ///
    /// Which service can't be made, and why. What there was stays.
    pub(super) fn build(&self, config: &Config, clock: Clock) -> Result<Arc<Services>, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut services = Vec::with_capacity(config.grpc.services.len());
        for wanted in &config.grpc.services {
            let known = kept.services.iter().find(|(known, _)| known == wanted);
            let service = match known {
                Some((_, service)) => service.clone(),
                None => make(wanted, clock)?,
            };
            services.push((wanted.clone(), service));
        }
        let bindings = config.rpc.grpc.iter().filter_map(|method| {
            let service = services
                .iter()
                .find(|(known, _)| known.name == method.service);
            service.map(|(_, service)| bind(method, service.clone()))
        });
        let bindings = bindings.collect::<Result<Vec<_>, _>>()?;
        let log = config.grpc.log_calls;
        let bound = Arc::new(Services::new(bindings, kept.bound.as_deref(), log, clock));
        *kept = Kept {
            services,
            bound: Some(Arc::clone(&bound)),
        };
        Ok(bound)
    }

    /// The services, for metrics.
    pub(super) fn services(&self) -> Vec<Service> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.services
            .iter()
            .map(|(_, service)| service.clone())
            .collect()
    }

    /// The methods, for metrics.
    pub(super) fn bound(&self) -> Option<Arc<Services>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bound.clone()
    }
}

fn make(wanted: &GrpcService, clock: Clock) -> Result<Service, String> {
    let refuse = |problem: String| format!("grpc.services {:?}: {problem}", wanted.name);
    let settings = Settings {
        name: wanted.name.as_str().into(),
        targets: wanted.targets(),
        tls: wanted.tls.material(&wanted.files),
        policy: wanted.policy.compile().map_err(refuse)?,
        breaker: wanted.policy.breaker().map_err(refuse)?,
        descriptors: wanted.descriptors(),
        message_max: wanted.message_size_max,
        connect_within: wanted.connect_timeout,
    };
    Service::new(settings, clock, seed()).map_err(|error| refuse(chain(&error)))
}

fn bind(method: &GrpcMethod, service: Service) -> Result<Binding, String> {
    let refuse = |what: &str| format!("rpc.grpc {:?}: {what}", method.method);
    let mut metadata = MetadataMap::new();
    for (key, value) in &method.metadata {
        let key = key_of(key).ok_or_else(|| refuse("metadata key can't be used"))?;
        let value = value
            .parse()
            .map_err(|_| refuse("metadata can't be used"))?;
        metadata.insert(key, value);
    }
    let user_key = match method.user_metadata.as_str() {
        "" => None,
        key => Some(key_of(key).ok_or_else(|| refuse("user_metadata can't be used"))?),
    };
    Ok(Binding {
        method: method.method.as_str().into(),
        service,
        path: method
            .path()
            .parse()
            .map_err(|_| refuse("call can't be used"))?,
        form: match method.form {
            MessageForm::Json => Form::Json,
            MessageForm::Protobuf => Form::Protobuf,
        },
        timeout: method.timeout,
        idempotent: method.idempotent,
        pass_messages: method.pass_messages,
        metadata,
        user_key,
    })
}

fn key_of(key: &str) -> Option<MetadataKey> {
    MetadataKey::from_bytes(key.as_bytes()).ok()
}

/// Different in each process, or gateways would choose and come back together.
fn seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}
