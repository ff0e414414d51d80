//! How a NATS server is reached: one set of keys for all who need one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use auth::settings::Secret;
use bus::{NatsConfig, NatsCredentials};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A NATS server or cluster, and who we are to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NatsServer {
    /// `nats://host:port` or `tls://host:port`, one or more of the same cluster; without
    /// user and password.
    pub urls: Vec<String>,
    /// User.
    pub user: String,
    /// Password of `user`.
    pub password: Secret,
    /// Token.
    pub token: Secret,
    /// Seed of a user's key pair (`SU…`).
    pub seed: Secret,
    /// Credentials file (user token and key), as the operator's tools write it; empty
    /// means none.
    pub credentials_file: PathBuf,
    /// Speaks TLS even if the URL does not ask for it.
    pub tls: bool,
    /// File with the certificates of the authorities that are trusted; empty means those
    /// of the system.
    pub ca_file: PathBuf,
}

impl NatsServer {
    /// What the connection is made of. `name` is shown in the server's monitoring; `within`
    /// is the time for the first connection.
    pub fn connection(&self, name: &str, within: Duration) -> NatsConfig {
        NatsConfig {
            urls: self.urls.clone(),
            name: name.to_owned(),
            credentials: self.credentials(),
            tls: self.tls,
            ca_file: Some(self.ca_file.clone()).filter(|file| !file.as_os_str().is_empty()),
            connect_within: within,
        }
    }

    fn credentials(&self) -> NatsCredentials {
        if !self.credentials_file.as_os_str().is_empty() {
            NatsCredentials::File(self.credentials_file.clone())
        } else if let Some(seed) = revealed(&self.seed) {
            NatsCredentials::Seed(seed)
        } else if let Some(token) = revealed(&self.token) {
            NatsCredentials::Token(token)
        } else if !self.user.is_empty() {
            NatsCredentials::Password {
                user: self.user.clone(),
                password: revealed(&self.password).unwrap_or_default(),
            }
        } else {
            NatsCredentials::None
        }
    }

    /// Addresses beyond this machine that are spoken to without TLS. Servers that these
    /// announce later are not among them.
    pub fn plain_urls(&self) -> Vec<&str> {
        let is_plain = |url: &&str| !self.tls && url.starts_with("nats://") && !is_loopback(url);
        self.urls
            .iter()
            .map(String::as_str)
            .filter(is_plain)
            .collect()
    }

    /// The secrets, each with its key; `path` is that of the map they stand in.
    pub(super) fn secrets(&mut self, path: &str) -> [(String, &mut Secret); 3] {
        [
            (format!("{path}.password"), &mut self.password),
            (format!("{path}.token"), &mut self.token),
            (format!("{path}.seed"), &mut self.seed),
        ]
    }

    /// Tells each key that is wrong, and why.
    pub(super) fn check(&self, path: &str, refuse: &mut dyn FnMut(&str, String)) {
        if self.urls.is_empty() {
            let problem = "is empty; expected nats://host:port, one or more";
            refuse(&format!("{path}.urls"), problem.into());
        }
        for (index, url) in self.urls.iter().enumerate() {
            if let Some(problem) = url_problem(url, &["nats://", "tls://"]) {
                refuse(&format!("{path}.urls[{index}]"), problem);
            }
        }
        if self.user.is_empty() != self.password.is_empty() {
            let problem = format!("and {path}.password go together");
            refuse(&format!("{path}.user"), problem);
        }
        let ways = [
            !self.user.is_empty(),
            !self.token.is_empty(),
            !self.seed.is_empty(),
            !self.credentials_file.as_os_str().is_empty(),
        ];
        if ways.iter().filter(|used| **used).count() > 1 {
            let problem =
                "has several credentials; expected one of user, token, seed, credentials_file";
            refuse(path, problem.into());
        }
    }
}

/// What is wrong with the URL of a server. Not quoted back: it may hold a password.
pub(super) fn url_problem(url: &str, schemes: &[&str]) -> Option<String> {
    let expected = schemes.join("host:port or ");
    let Some(rest) = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        return Some(format!(
            "is no address of a server; expected {expected}host:port"
        ));
    };
    if rest.contains('@') {
        return Some("has user or password in it; there are keys for them".to_owned());
    }
    let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic());
    if rest.is_empty() || rest.starts_with(['/', ':']) || !is_plain {
        return Some(format!("has no host; expected {expected}host:port"));
    }
    None
}

/// Whether a name can be that of a stream: it becomes a token of subjects and a file.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Longest name of a stream in bytes; servers warn of longer ones.
const NAME_MAX: usize = 32;

fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

fn revealed(secret: &Secret) -> Option<String> {
    let text = secret.reveal().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}
