//! The one NATS connection of the process.
//!
//! Whoever needs NATS shares it: one set of credentials, one reconnect policy, one place
//! that logs what happens to it. Once made it reconnects for ever; what is published
//! meanwhile waits in a bounded queue and fails by its caller's deadline.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use tokio::sync::{broadcast, watch};
use tracing::{debug, error, info, warn};

/// How to reach NATS.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// Addresses of servers of one cluster, `nats://host:4222` or `tls://host:4222`; at
    /// least one. Others that these announce are used as well.
    pub urls: Vec<String>,
    /// The connection's name in the server's monitoring.
    pub name: String,
    /// Who we are.
    pub credentials: NatsCredentials,
    /// Speaks TLS even if the URL does not ask for it. Servers are checked against the
    /// system's roots, or against `ca_file` alone if there is one.
    pub tls: bool,
    /// Certificates (PEM) of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long the first connection is tried for.
    pub connect_within: Duration,
}

/// Who we are to the server.
#[derive(Clone, Default)]
pub enum NatsCredentials {
    /// Nobody.
    #[default]
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// A file with a user token and its key, as the operator's tools write it.
    File(PathBuf),
    /// The seed of a user's key pair (`SU…`).
    Seed(String),
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsState {
    /// Usable.
    Connected,
    /// Lost; reconnecting.
    Disconnected,
    /// Closed by us, for good.
    Closed,
}

/// Why NATS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// A setting is wrong.
    #[error("NATS setting {setting} can't be used: {why}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The server does not accept our credentials or we do not accept its certificate.
    #[error("NATS server refused the connection or was refused")]
    Refused(#[source] async_nats::ConnectError),
    /// No server answered in time.
    #[error("no NATS server was reached within {within:?}")]
    NotReached {
        /// How long it was tried.
        within: Duration,
        /// What the last try met.
        #[source]
        last: async_nats::ConnectError,
    },
}

/// The connection. Clones share it.
#[derive(Clone)]
pub struct NatsConnection {
    client: Client,
    events: Arc<Events>,
}

struct Events {
    state: watch::Sender<NatsState>,
    losses: AtomicU64,
    failures: AtomicU64,
    drops: AtomicU64,
    denials: broadcast::Sender<Arc<str>>,
}

impl NatsConnection {
    /// Connects, trying for [`NatsConfig::connect_within`]. What no patience can mend (wrong
    /// settings, refused credentials, an untrusted certificate) fails at once.
    pub async fn connect(config: &NatsConfig) -> Result<Self, NatsError> {
        let addresses = addresses(&config.urls)?;
        let events = Arc::new(Events {
            state: watch::Sender::new(NatsState::Disconnected),
            losses: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            denials: broadcast::Sender::new(DENIALS),
        });
        let mut attempt = 0;
        let mut last = None;
        let connecting = async {
            loop {
                attempt += 1;
                let options = options(config, &events).await?;
                match options.connect(addresses.as_slice()).await {
                    Ok(client) => return Ok(client),
                    Err(error) if is_final(error.kind()) => return Err(NatsError::Refused(error)),
                    Err(error) => {
                        debug!(%error, attempt, "nats connection failed");
                        last = Some(error);
                    }
                }
                tokio::time::sleep(backoff(attempt)).await;
            }
        };
        let outcome = tokio::time::timeout(config.connect_within, connecting).await;
        let client = outcome.unwrap_or_else(|_late| {
            let timed_out = || async_nats::ConnectError::new(ConnectErrorKind::TimedOut);
            Err(NatsError::NotReached {
                within: config.connect_within,
                last: last.unwrap_or_else(timed_out),
            })
        })?;
        // The event of the connection may come later than its success.
        events.state.send_replace(NatsState::Connected);
        let server = client.server_info();
        info!(
            server = server.server_name,
            version = server.version,
            "nats connected"
        );
        Ok(Self { client, events })
    }

    /// For whoever speaks to NATS. Nobody may drain or reconfigure it but this type.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it is usable at the moment.
    pub fn is_connected(&self) -> bool {
        *self.events.state.borrow() == NatsState::Connected
    }

    /// Where it stands, and each change.
    pub fn state(&self) -> watch::Receiver<NatsState> {
        self.events.state.subscribe()
    }

    /// How often it was lost.
    pub fn losses(&self) -> u64 {
        self.events.losses.load(Ordering::Relaxed)
    }

    /// Wakes whoever watches the state: what the servers hold is to be read again.
    pub(crate) fn refresh(&self) {
        self.events.state.send_modify(|_same| {});
    }

    /// Ends when the connection is usable, at once if it is, or closed for good.
    pub(crate) async fn usable(&self) {
        let mut state = self.events.state.subscribe();
        let _sender_is_ours = state
            .wait_for(|state| *state != NatsState::Disconnected)
            .await;
    }

    /// Ends when the connection is lost, if it is from now on: what was asked before is not
    /// answered then.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.events.state.subscribe();
        let events = Arc::clone(&self.events);
        let before = events.losses.load(Ordering::Relaxed);
        async move {
            while events.losses.load(Ordering::Relaxed) == before {
                if state.changed().await.is_err() {
                    break;
                }
            }
        }
    }

    /// How often it could not be made again at once: no server, or one that refuses us.
    pub fn failures(&self) -> u64 {
        self.events.failures.load(Ordering::Relaxed)
    }

    /// How many messages came while as many of their subscription waited to be read as there
    /// is room for, and are lost.
    pub fn drops(&self) -> u64 {
        self.events.drops.load(Ordering::Relaxed)
    }

    /// What the server says of subjects that it does not allow us.
    pub(crate) fn denials(&self) -> broadcast::Receiver<Arc<str>> {
        self.events.denials.subscribe()
    }

    /// Version of the server connected to last.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// Sends what is queued, waits at most `grace` for that, and closes.
    pub async fn close(&self, grace: Duration) {
        let mut state = self.state();
        let drained = async {
            self.client.drain().await.ok()?;
            let closed = state.wait_for(|state| *state == NatsState::Closed);
            closed.await.ok().map(|_| ())
        };
        if !matches!(tokio::time::timeout(grace, drained).await, Ok(Some(()))) {
            warn!("nats connection was not closed in time");
        }
    }
}

impl fmt::Debug for NatsConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = *self.events.state.borrow();
        formatter
            .debug_tuple("NatsConnection")
            .field(&state)
            .finish()
    }
}

impl fmt::Debug for NatsCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::Password { user, .. } => write!(formatter, "Password({user:?}, …)"),
            Self::Token(_) => formatter.write_str("Token(…)"),
            Self::File(path) => write!(formatter, "File({path:?})"),
            Self::Seed(_) => formatter.write_str("Seed(…)"),
        }
    }
}

impl Events {
    fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                let before = self.state.send_replace(NatsState::Connected);
                if before == NatsState::Disconnected && self.losses.load(Ordering::Relaxed) > 0 {
                    info!("nats reconnected");
                }
            }
            Event::Disconnected => {
                self.losses.fetch_add(1, Ordering::Relaxed);
                self.state.send_replace(NatsState::Disconnected);
                warn!("nats connection lost");
            }
            Event::Closed => {
                self.state.send_replace(NatsState::Closed);
                info!("nats connection closed");
            }
            Event::LameDuckMode => info!("nats server is about to stop"),
            Event::Draining => debug!("nats connection drains"),
            Event::SlowConsumer(subscription) => {
                let dropped = self.drops.fetch_add(1, Ordering::Relaxed) + 1;
                // One line per message would make it worse.
                if dropped.is_power_of_two() {
                    warn!(
                        subscription,
                        dropped, "nats messages dropped: a subscription is behind"
                    );
                }
            }
            Event::ServerError(ServerError::Other(text))
                if text.starts_with("Permissions Violation") =>
            {
                error!(text, "nats does not allow something to these credentials");
                // Nobody may be listening.
                drop(self.denials.send(text.as_str().into()));
            }
            Event::ServerError(error) => warn!(%error, "nats server reported an error"),
            Event::ClientError(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                warn!(%error, "nats connection failed");
            }
        }
    }
}

fn addresses(urls: &[String]) -> Result<Vec<ServerAddr>, NatsError> {
    let setting = |why: String| NatsError::Setting {
        setting: "urls",
        why,
    };
    if urls.is_empty() {
        return Err(setting("no address is given".to_owned()));
    }
    let parse = |url: &String| {
        let parsed = url.parse::<ServerAddr>();
        parsed.map_err(|error| setting(format!("{url:?}: {error}")))
    };
    let addresses: Vec<_> = urls.iter().map(parse).collect::<Result<_, _>>()?;
    // They would end up in logs with the URL.
    if addresses.iter().any(ServerAddr::has_user_pass) {
        return Err(setting(
            "credentials do not belong into an address".to_owned(),
        ));
    }
    Ok(addresses)
}

async fn options(config: &NatsConfig, events: &Arc<Events>) -> Result<ConnectOptions, NatsError> {
    let noted = Arc::clone(events);
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .require_tls(config.tls)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .client_capacity(QUEUE)
        .subscription_capacity(UNREAD)
        .max_reconnects(None)
        .reconnect_delay_callback(backoff)
        .event_callback(move |event| {
            noted.note(&event);
            std::future::ready(())
        });
    if let Some(file) = &config.ca_file {
        // The library would look at it only while connecting and call it an I/O error.
        tokio::fs::metadata(file)
            .await
            .map_err(|error| NatsError::Setting {
                setting: "ca_file",
                why: format!("{}: {error}", file.display()),
            })?;
        options = options.add_root_certificates(file.clone());
    }
    options = match config.credentials.clone() {
        NatsCredentials::None => options,
        NatsCredentials::Password { user, password } => options.user_and_password(user, password),
        NatsCredentials::Token(token) => options.token(token),
        NatsCredentials::Seed(seed) => options.nkey(seed),
        NatsCredentials::File(file) => {
            let opened = options.credentials_file(&file).await;
            opened.map_err(|error| NatsError::Setting {
                setting: "credentials file",
                why: format!("{}: {error}", file.display()),
            })?
        }
    };
    Ok(options)
}

fn is_final(kind: ConnectErrorKind) -> bool {
    match kind {
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls => true,
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => false,
    }
}

/// Doubles from 100 ms to 2 s, since clients wait for as long after an outage; half of each
/// is chance, so that a fleet does not come back in step.
fn backoff(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let full = BACKOFF_MIN
        .saturating_mul(2_u32.saturating_pow(doublings.min(16)))
        .min(BACKOFF_MAX);
    // Without chance the delay is merely longer.
    let mut chance = [255];
    if getrandom::fill(&mut chance).is_err() {
        debug!("no random numbers for the reconnect delay");
    }
    full / 2 + full / 2 * u32::from(chance[0]) / 255
}

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// For TCP, TLS and the greetings of one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that does not answer two of these is gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Messages of one subscription that wait to be read; more are dropped and counted.
const UNREAD: usize = 16_384;

/// Refusals that wait to be noticed; the oldest go first.
const DENIALS: usize = 256;

/// Commands that wait to be written; whoever sends more waits.
const QUEUE: usize = 4096;

#[cfg(test)]
mod tests;
