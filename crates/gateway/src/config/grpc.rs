//! Settings of gRPC services that the gateway calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upstream::grpc::{Descriptors, Target};

mod policies;

pub use policies::{CallBreaker, CallConcurrency, CallPolicy, CallRate, CallRetries};

use super::{ReadFile, validate};

/// gRPC services that the gateway calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// The services; `rpc.grpc` binds methods to them by name.
    pub services: Vec<GrpcService>,
    /// Writes two lines for each call of `rpc.grpc` under the log target `calls`: with the
    /// id of the request (`guuid`), which goes to the service as metadata `x-guuid`.
    pub log_calls: bool,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            log_calls: true,
        }
    }
}

/// A gRPC service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcService {
    /// Its name, for `rpc.grpc`, metrics and log.
    pub name: String,
    /// Where it is, one or more: `grpc://host:port` (TCP), `grpcs://host:port` (TLS) or
    /// `quantum://host:port` (Quantum, over UDP). The less loaded of two that are drawn by
    /// chance gets a call.
    pub endpoints: Vec<String>,
    /// Who is trusted, and what is shown. For `quantum://` it stands in for `quantum.tls`.
    #[serde(default)]
    pub tls: PeerTls,
    /// How calls are admitted, tried again and given up.
    #[serde(default)]
    pub policy: CallPolicy,
    /// File with the service's descriptors (`protoc --include_imports
    /// --descriptor_set_out`). Empty means that the service is asked (server reflection).
    #[serde(default)]
    pub descriptors: PathBuf,
    /// Most bytes of a message, either way.
    #[serde(default = "message_size_max")]
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub message_size_max: usize,
    /// How long connecting may take.
    #[serde(default = "connect_timeout", with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub connect_timeout: Duration,
    /// The files, as they were when the configuration was loaded.
    #[serde(skip)]
    #[schemars(skip)]
    pub files: PeerFiles,
}

/// Who is trusted, and what is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeerTls {
    /// File with the certificates of the authorities that are trusted; empty means those of
    /// the system, which Quantum does not take.
    pub ca: PathBuf,
    /// File with our certificate and its chain; empty shows none.
    pub certificate: PathBuf,
    /// File with the key of `certificate`.
    pub key: PathBuf,
    /// The name that is asked for and checked; empty means the host of the endpoint.
    pub server_name: String,
}

/// Contents of the files that a service names. Printing it shows none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PeerFiles(Arc<BTreeMap<PathBuf, Vec<u8>>>);

impl PeerFiles {
    /// The content of a file; `None` if its path is empty.
    pub fn get(&self, path: &Path) -> Option<&Vec<u8>> {
        self.0.get(path)
    }

    /// Reads the files that are named; the error tells which key could not be read.
    pub(super) fn read(
        named: &[(&str, &Path)],
        read: ReadFile<'_>,
        refuse: &mut dyn FnMut(&str, String),
    ) -> Self {
        let mut files = BTreeMap::new();
        for (key, path) in named {
            if path.as_os_str().is_empty() {
                continue;
            }
            match read(path) {
                Ok(content) => {
                    files.insert(path.to_path_buf(), content);
                }
                Err(error) => refuse(key, format!("{}: {error}", path.display())),
            }
        }
        Self(Arc::new(files))
    }
}

impl std::fmt::Debug for PeerFiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl PeerTls {
    /// With the contents of its files.
    pub fn material(&self, files: &PeerFiles) -> upstream::grpc::Tls {
        let identity = files.get(&self.certificate).zip(files.get(&self.key));
        upstream::grpc::Tls {
            ca: files.get(&self.ca).cloned(),
            identity: identity.map(|(certificate, key)| (certificate.clone(), key.clone())),
            server_name: Some(self.server_name.clone()).filter(|name| !name.is_empty()),
        }
    }

    /// Its files with their keys.
    pub(super) fn named<'a>(&'a self, keys: &'a [String; 3]) -> [(&'a str, &'a Path); 3] {
        let [ca, certificate, key] = keys;
        [
            (ca, &self.ca),
            (certificate, &self.certificate),
            (key, &self.key),
        ]
    }

    /// The keys of its files, below that of the map they stand in.
    pub(super) fn keys(path: &str) -> [String; 3] {
        ["ca", "certificate", "key"].map(|key| format!("{path}.{key}"))
    }

    /// Tells each key that is wrong, and why.
    pub(super) fn check(&self, path: &str, refuse: &mut dyn FnMut(&str, String)) {
        if self.certificate.as_os_str().is_empty() != self.key.as_os_str().is_empty() {
            let problem = format!("and {path}.key go together");
            refuse(&format!("{path}.certificate"), problem);
        }
    }

    /// Tells if certificate and key do not fit; for files that could be read.
    pub(super) fn check_files(
        &self,
        path: &str,
        files: &PeerFiles,
        refuse: &mut dyn FnMut(&str, String),
    ) {
        let certificate = files.get(&self.certificate);
        if let Some((certificate, key)) = certificate.zip(files.get(&self.key)) {
            let certificate = (self.certificate.as_path(), certificate.as_slice());
            validate::check_pair(path, certificate, (&self.key, key), refuse);
        }
    }

    /// Authorities, certificate and key are all there, as Quantum wants them.
    pub fn is_mutual(&self) -> bool {
        [&self.ca, &self.certificate, &self.key]
            .iter()
            .all(|path| !path.as_os_str().is_empty())
    }
}

impl GrpcService {
    /// Its endpoints; those that can't be read are left out.
    pub fn targets(&self) -> Vec<Target> {
        let read = |url: &String| Target::parse(url).ok();
        self.endpoints.iter().filter_map(read).collect()
    }

    /// Its descriptors, if they stand in a file that can be read.
    pub fn descriptors(&self) -> Option<Descriptors> {
        let content = self.files.get(&self.descriptors)?;
        Descriptors::read(content).ok()
    }
}

/// Reads the files that services name, and tells each key that is wrong, and why.
/// `has_identity`: there is a `quantum.tls` that services without their own can use.
pub(super) fn settle(
    grpc: &mut Grpc,
    has_identity: bool,
    read: ReadFile<'_>,
    refuse: &mut dyn FnMut(&str, String),
) {
    let mut names = BTreeMap::new();
    for (index, service) in grpc.services.iter_mut().enumerate() {
        let key = |field: &str| format!("grpc.services[{index}].{field}");
        if service.name.trim().is_empty() || service.name.len() > NAME_MAX {
            let problem = format!("must have 1 to {NAME_MAX} characters");
            refuse(&key("name"), problem);
        }
        if let Some(other) = names.insert(service.name.clone(), index) {
            let problem = format!(
                "{:?} is the name of grpc.services[{other}] too",
                service.name
            );
            refuse(&key("name"), problem);
        }
        check_endpoints(service, has_identity, &key, refuse);
        service.tls.check(&key("tls"), refuse);
        if let Err(problem) = service.policy.compile() {
            refuse(&key("policy"), problem);
        }
        if let Err(problem) = service.policy.breaker() {
            refuse(&key("policy.breaker"), problem);
        }
        if service.connect_timeout.is_zero() {
            refuse(&key("connect_timeout"), "must be above 0".to_owned());
        }
        let keys = PeerTls::keys(&key("tls"));
        let descriptors_key = key("descriptors");
        let mut named = service.tls.named(&keys).to_vec();
        named.push((&descriptors_key, &service.descriptors));
        service.files = PeerFiles::read(&named, read, refuse);
        service.tls.check_files(&key("tls"), &service.files, refuse);
        if let Some(content) = service.files.get(&service.descriptors)
            && let Err(error) = Descriptors::read(content)
        {
            let problem = format!("{}: {error}", service.descriptors.display());
            refuse(&descriptors_key, problem);
        }
    }
}

fn check_endpoints(
    service: &GrpcService,
    has_identity: bool,
    key: &dyn Fn(&str) -> String,
    refuse: &mut dyn FnMut(&str, String),
) {
    if service.endpoints.is_empty() || service.endpoints.len() > ENDPOINTS_MAX {
        let problem = format!("must be a list of 1 to {ENDPOINTS_MAX} addresses");
        refuse(&key("endpoints"), problem);
    }
    let mut known = Vec::new();
    for (at, url) in service.endpoints.iter().enumerate() {
        let place = key(&format!("endpoints[{at}]"));
        match Target::parse(url) {
            // Not quoted back: it may hold a password.
            Err(problem) => refuse(&place, problem.to_owned()),
            Ok(target) if known.contains(&target) => {
                refuse(&place, format!("{url:?} is there twice"));
            }
            Ok(target) => {
                let is_quantum = target.transport == upstream::grpc::Transport::Quantum;
                if is_quantum && !has_identity && !service.tls.is_mutual() {
                    let problem = "needs ca, certificate and key, here in tls or for all in \
                                   quantum.tls: both sides of Quantum show who they are";
                    refuse(&place, problem.to_owned());
                }
                known.push(target);
            }
        }
    }
}

fn message_size_max() -> usize {
    4 << 20
}

fn connect_timeout() -> Duration {
    Duration::from_secs(5)
}

const NAME_MAX: usize = 64;
const ENDPOINTS_MAX: usize = 64;

#[cfg(test)]
mod tests;
