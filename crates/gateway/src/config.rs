//! The configuration: one YAML file, overrides from the environment, checked as a whole.
//!
//! Loading goes in steps, each of which reports all it finds:
//!
//! 1. the file becomes a tree in which every value knows its line and column
//!    ([`document`]);
//! 2. variables `TIDEGATE_…` are laid over it ([`environment`]);
//! 3. what a `route.json` sets is laid below it ([`crate::route_json`]);
//! 4. keys and types are compared with the tree of keys, which follows from the settings'
//!    types ([`shape`], [`check`]);
//! 5. the settings are read, secrets are fetched from where they refer to;
//! 6. what a type can't say is checked: relations between keys, files that must be there
//!    ([`validate`]).
//!
//! Nothing is written and no address is resolved, so `tidegate check` can run anywhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth::settings::{Reference, Resolver, Secret};

use crate::route_json;

mod bus;
mod check;
mod document;
mod environment;
mod error;
mod feature_flags;
mod grpc;
mod listen;
mod live;
mod nats;
mod proxy;
mod quantum;
pub mod reference;
mod relay;
mod rpc;
mod settings;
mod shape;
mod store;
mod validate;

pub use bus::{Bus, BusKind, MemoryBus, NatsBus, NatsHistory, NatsStream, StreamStorage};
pub use environment::FILE_VARIABLE;
pub use error::{ConfigError, ConfigErrors, Place};
pub use feature_flags::FeatureFlags;
pub use grpc::{
    CallBreaker, CallConcurrency, CallPolicy, CallRate, CallRetries, Grpc, GrpcService, PeerFiles,
    PeerTls,
};
pub use listen::{
    Access, AdminListener, Listeners, LiveListener, MainListener, Network, NetworkError,
    OriginError, OriginRule, ProxyProtocol, RelayListener, Tls,
};
pub use live::{Live, LiveToken};
pub use nats::NatsServer;
pub use proxy::{AccessLog, FileRoutes, Proxy, ProxyHttp2, ProxyPool, Variables, WrittenRoute};
pub use quantum::{FecMode, Quantum};
pub use relay::{
    Ack, AgentAuth, AgentProtocol, AgentRate, AuthMode, Breaker, Buffer, BufferKind, ClientAuth,
    ClientRate, DataEncoding, History, NatsBuffer, Overflow, Rates, RedisBuffer, Relay, Retries,
    Route, Sync, Table,
};
pub(crate) use rpc::calls;
pub use rpc::{GrpcMethod, MessageForm, Rpc, RpcPing};
pub use settings::{
    Admin, Client, Compression, Config, Demo, Drain, Emulation, ErrorMode, HttpApi, HttpStream,
    Level, Limits, Log, LogFormat, Sse, SubscriptionToken, WebSocket,
};
pub use store::Store;

/// A configuration that was accepted, and what it was made of.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings, every question settled.
    pub config: Config,
    /// The files that took part: the configuration, certificates, keys, secrets; each with
    /// a fingerprint of its content. Two equal lists mean nothing changed on disk.
    pub files: BTreeMap<PathBuf, u64>,
}

/// Reads a file; in tests and fuzzing it is not the disk that answers.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

impl Config {
    /// Reads and checks the configuration: the file if there is one, and the process's
    /// environment (all of it: secrets may refer to any variable).
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let files = RefCell::new(BTreeMap::new());
        let read = |path: &Path| {
            let content = std::fs::read(path)?;
            files
                .borrow_mut()
                .insert(path.to_owned(), fingerprint(&content));
            Ok(content)
        };
        let config = load(file, &environment.into_iter().collect(), &read)?;
        Ok(Loaded {
            config,
            files: files.into_inner(),
        })
    }

    /// Reads and checks a configuration that is at hand as text. Files it names count as
    /// missing, so this touches nothing outside.
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        let path = Path::new("tidegate.yaml");
        let read = |asked: &Path| match asked == path {
            true => Ok(text.as_bytes().to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        load(Some(path), &BTreeMap::new(), &read)
    }

    /// The settings as a YAML file, secrets redacted.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("settings are plain data")
    }
}

/// The paths of all keys outside lists and tables.
#[cfg(test)]
pub(crate) fn key_paths() -> Vec<String> {
    shape::root()
        .leaves()
        .into_iter()
        .map(|(path, _)| path.join("."))
        .collect()
}

fn load(
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
    read: ReadFile<'_>,
) -> Result<Config, ConfigErrors> {
    let refuse = |errors| ConfigErrors::new(file.map(Path::to_owned), errors);
    let mut root = match file {
        Some(file) => read_document(file, read).map_err(|error| refuse(vec![error]))?,
        None => document::Node::empty(),
    };
    let mut errors = quantum::respell(&mut root);
    errors.extend(environment::overlay(&mut root, environment));
    let route_file = match read_route_file(&mut root, read) {
        Ok(route_file) => route_file,
        Err(error) => {
            errors.push(error);
            None
        }
    };
    errors.extend(check::check(&mut root));
    if !errors.is_empty() {
        return Err(refuse(errors));
    }
    let mut config: Config = serde_path_to_error::deserialize(root.to_json()).map_err(|error| {
        let key = error.path().to_string();
        refuse(vec![ConfigError::new(
            root.place_of(&key),
            key,
            error.inner().to_string(),
        )])
    })?;
    settle_demo(&mut config, file);
    let locate =
        |(key, problem): (String, String)| ConfigError::new(root.place_of(&key), key, problem);
    let withheld = RefCell::new(BTreeSet::new());
    let resolver = |reference: Reference<'_>| {
        if let Reference::Environment(name) = reference {
            withheld.borrow_mut().insert(name.to_owned());
        }
        resolve(reference, environment, read)
    };
    let mut problems = resolve_secrets(&mut config, &resolver);
    if problems.is_empty() {
        problems = settle_services(&mut config, read);
        problems.extend(validate::problems(&config, read));
        let demo = config.demo.is_on();
        let content = route_file.as_deref().map(|it| (it, fingerprint(it)));
        let resolve = |secret: &mut Secret| secret.resolve(&resolver);
        let relay = relay::settle(&mut config.relay, content, demo, &resolve);
        problems.extend(relay);
        problems.extend(proxy::settle(&mut config.proxy));
        problems.extend(quantum::routes_without_identity(&config));
    }
    config.proxy.variables = Variables::new(environment, &withheld.borrow());
    match problems.is_empty() {
        true => Ok(config),
        false => Err(refuse(problems.into_iter().map(locate).collect())),
    }
}

/// Reads what services and their transport need of files.
fn settle_services(config: &mut Config, read: ReadFile<'_>) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, problem: String| problems.push((key.to_owned(), problem));
    quantum::settle(&mut config.quantum, read, &mut refuse);
    let has_identity = config.quantum.tls.is_mutual();
    grpc::settle(&mut config.grpc, has_identity, read, &mut refuse);
    problems
}

fn read_document(file: &Path, read: ReadFile<'_>) -> Result<document::Node, ConfigError> {
    let about_file = |problem: String| ConfigError::new(Place::Default, "", problem);
    let content = read(file).map_err(|error| about_file(format!("can't be read: {error}")))?;
    if content.len() > FILE_BYTES_MAX {
        return Err(about_file(format!(
            "is {} bytes long; expected at most {FILE_BYTES_MAX}",
            content.len()
        )));
    }
    let text = String::from_utf8(content)
        .map_err(|error| about_file(format!("is not UTF-8: {}", error.utf8_error())))?;
    document::parse(&text).map_err(|error| ConfigError::new(error.place, "", error.problem))
}

/// The demo is on by itself only where nobody else can reach it: no file, loopback only.
/// What it shows is on with it.
fn settle_demo(config: &mut Config, file: Option<&Path>) {
    let listeners = &config.listeners;
    let loopback =
        listeners.main.address.ip().is_loopback() && listeners.admin.address.ip().is_loopback();
    config
        .demo
        .enabled
        .get_or_insert(file.is_none() && loopback);
    let has_listener = config.listeners.live.address.is_some();
    let demo = config.demo.is_on();
    config.live.enabled.get_or_insert(has_listener || demo);
    // Over NATS there may be an aggregator already, and its groups are its own.
    let alone = config.bus.kind == BusKind::Memory;
    config.market.enabled.get_or_insert(demo && alone);
}

/// Reads the file of `relay.routes_file`, if there is one, and lays what it sets below
/// what is written here.
fn read_route_file(
    root: &mut document::Node,
    read: ReadFile<'_>,
) -> Result<Option<Vec<u8>>, ConfigError> {
    const KEY: &str = "relay.routes_file";
    let path = match root.get(&["relay", "routes_file"]) {
        Some(document::Value::Text(path)) if !path.is_empty() => path.clone(),
        _ => return Ok(None),
    };
    let refuse =
        |problem: String| ConfigError::new(root.place_of(KEY), KEY, format!("{path:?}: {problem}"));
    let content = read(Path::new(&path)).map_err(|error| refuse(error.to_string()))?;
    if content.len() > route_json::FILE_BYTES_MAX {
        let (size, max) = (content.len(), route_json::FILE_BYTES_MAX);
        return Err(refuse(format!(
            "is {size} bytes long; expected at most {max}"
        )));
    }
    let settings = route_json::settings(&content).map_err(|error| refuse(error.to_string()))?;
    for setting in settings {
        if root.get(setting.path).is_some() {
            continue;
        }
        let place = Place::RouteFile(Arc::from(format!("{path}: {}", setting.from)));
        let keys: Vec<_> = setting.path.iter().map(|step| (*step).to_owned()).collect();
        root.put(&keys, document::Node::of(setting.value, place));
    }
    Ok(Some(content))
}

fn fingerprint(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

fn resolve(
    reference: Reference<'_>,
    environment: &BTreeMap<String, String>,
    read: ReadFile<'_>,
) -> Result<String, String> {
    match reference {
        Reference::Environment(name) => environment
            .get(name)
            .cloned()
            .ok_or_else(|| "there is no such environment variable".to_owned()),
        Reference::File(path) => {
            let content = read(Path::new(path)).map_err(|error| error.to_string())?;
            String::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())
        }
    }
}

fn resolve_secrets(config: &mut Config, resolver: Resolver<'_>) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let client = &mut config.client;
    if let Err(error) = client.token.resolve(resolver) {
        problems.push((format!("client.token.{}", error.key), error.problem));
    }
    if let Err(error) = client.subscription_token.token.resolve(resolver) {
        problems.push((
            format!("client.subscription_token.{}", error.key),
            error.problem,
        ));
    }
    if let Err(error) = config.live.token.token.resolve(resolver) {
        problems.push((format!("live.token.{}", error.key), error.problem));
    }
    for (key, secret) in config.bus.secrets() {
        if let Err(problem) = secret.resolve(resolver) {
            problems.push((key, problem));
        }
    }
    if let Err(problem) = config.http_api.key.resolve(resolver) {
        problems.push(("http_api.key".to_owned(), problem));
    }
    for (key, secret) in config.store.secrets() {
        if let Err(problem) = secret.resolve(resolver) {
            problems.push((key.to_owned(), problem));
        }
    }
    for (key, secret) in config.relay.secrets() {
        if let Err(problem) = secret.resolve(resolver) {
            problems.push((key, problem));
        }
    }
    problems
}

/// Longest configuration file in bytes; longer ones are a mistake.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
