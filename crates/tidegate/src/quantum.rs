//! `tidegate quantum`: for people who want to see whether Quantum works between two machines.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gateway::config::Config;
use gateway::reload::Source;
use lifecycle::{Clock, Tasks};
use quantum::grpc::{Channel, Target, TargetError};
use quantum::identity::{Identity, IdentityError, Wanted};
use quantum::tls::{ClientTls, IdentityFiles};
use quantum::{Closed, ConnectError, Endpoint, EndpointConfig};

mod bench;
mod echo;
mod ping;

#[derive(Debug, Subcommand)]
pub(crate) enum Quantum {
    /// Connect to a server and make a small call every second: handshake, round trips, losses,
    /// repairs
    ///
    /// Any server of gRPC over Quantum will do: one that does not know the call says so, and
    /// that is an answer. The exit status is 1 if none came.
    Ping(ping::Ping),
    /// Measure calls per second and their latency against `tidegate quantum echo`
    Bench(bench::Bench),
    /// Serve calls that are answered with their own message
    Echo(echo::Echo),
    /// Make an authority, and certificates of it for a server and a client, for a first start
    Keys(Keys),
}

/// Which server, and who we are to it.
#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// The server: host and UDP port
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    address: String,
    /// The name that its certificate must have; its host if left out
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// A folder made by `tidegate quantum keys`; without it the files of `quantum.tls` in the
    /// configuration are used
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Show no certificate: for servers that let everybody in
    #[arg(long)]
    anonymous: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Where the files are written; if one of them is there, nothing is written
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// A name or address of the server; may be given several times
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    names: Vec<String>,
    /// The client's name in its certificate
    #[arg(long, value_name = "URI", default_value = "spiffe://tidegate/gateway")]
    client: String,
    /// How many days the certificates are good for
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

/// Does what was asked for.
pub(crate) fn run(command: Quantum, source: &Source) -> Result<()> {
    match command {
        Quantum::Ping(ping) => within(|tasks, clock| ping.run(source, tasks, clock)),
        Quantum::Bench(bench) => within(|tasks, clock| bench.run(source, tasks, clock)),
        Quantum::Echo(echo) => within(|tasks, clock| echo.run(source, tasks, clock)),
        Quantum::Keys(keys) => keys.run(),
    }
}

/// Runs something within a runtime, and gives its tasks a moment to say goodbye.
fn within<Doing: Future<Output = Result<()>>>(
    run: impl FnOnce(Tasks, Clock) -> Doing,
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = lifecycle::background_runtime(threads).context("no runtime could be started")?;
    let tasks = Tasks::new();
    let done = runtime.block_on(async {
        let done = run(tasks.clone(), Clock::start()).await;
        tasks.stop(GOODBYE).await;
        done
    });
    runtime.shutdown_timeout(GOODBYE);
    done
}

impl Keys {
    fn run(self) -> Result<()> {
        let wanted = Wanted {
            server_names: self.names,
            client_uri: self.client,
            now: SystemTime::UNIX_EPOCH + Duration::from_millis(Clock::start().unix_ms()),
            lifetime: Duration::from_secs(u64::from(self.days) * 86_400),
        };
        let folder = self.folder.display();
        let files = match Identity::generate(&self.folder, &wanted) {
            Err(IdentityError::Write { path, source }) if source.kind() == ALREADY => {
                anyhow::bail!(
                    "no keys were made: {} is there already, and is kept; name another folder",
                    path.display()
                );
            }
            made => made.with_context(|| format!("no keys were made in {folder}"))?,
        };
        say(&format!(
            "authority    {}\nserver       {} and {}\nclient       {} and {}\n\
             \n\
             for the gateway:\n\
             \n\
             quantum:\n  tls:\n    ca: {}\n    certificate: {}\n    key: {}\n",
            files.authority.display(),
            files.server.chain.display(),
            files.server.key.display(),
            files.client.chain.display(),
            files.client.key.display(),
            files.authority.display(),
            files.client.chain.display(),
            files.client.key.display(),
        ))
    }
}

impl Peer {
    /// What carries calls to the server, and the endpoint it comes from.
    fn channel(&self, source: &Source, tasks: &Tasks, clock: Clock) -> Result<(Endpoint, Channel)> {
        let (authority, identity) = self.identity(source)?;
        let identity = identity.filter(|_| !self.anonymous);
        let tls = ClientTls::load(&authority, identity.as_ref()).context("certificates")?;
        let config = || EndpointConfig::new("tidegate").with_client(tls.clone());
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let endpoint = Endpoint::bind(both, config(), tasks, clock).or_else(|_| {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            Endpoint::bind(v4, config(), tasks, clock)
        });
        let endpoint = endpoint.context("no socket could be bound")?;
        let mut target = Target::new(self.address.as_str());
        if let Some(name) = &self.server_name {
            target.server_name.clone_from(name);
        }
        let channel = Channel::new(endpoint.clone(), target, tasks.clone());
        Ok((endpoint, channel))
    }

    /// The authority's file, and ours.
    fn identity(&self, source: &Source) -> Result<(PathBuf, Option<IdentityFiles>)> {
        if let Some(folder) = &self.keys {
            let files = Identity::in_folder(folder);
            return Ok((files.authority, Some(files.client)));
        }
        let environment = source.environment.iter().cloned();
        let loaded = Config::load(source.file.as_deref(), environment)?;
        let tls = loaded.config.quantum.tls;
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        anyhow::ensure!(
            is_set(&tls.ca),
            "there are no keys: give --keys DIR, made by `tidegate quantum keys`, or a \
             configuration (-c FILE) with quantum.tls"
        );
        let identity = is_set(&tls.certificate).then_some(IdentityFiles {
            chain: tls.certificate,
            key: tls.key,
        });
        Ok((tls.ca, identity))
    }
}

/// Host and port, as they are in a configuration or by themselves.
fn address(text: &str) -> Result<String, &'static str> {
    let address = text.strip_prefix("quantum://").unwrap_or(text);
    let (host, port) = address.rsplit_once(':').ok_or(NO_ADDRESS)?;
    let is_whole = !host.is_empty() && (!host.contains(':') || host.starts_with('['));
    match port.parse::<u16>() {
        Ok(1..) if is_whole => Ok(address.to_owned()),
        _ => Err(NO_ADDRESS),
    }
}

/// No connection was made. To nobody's answer is added what to look at.
fn unreached(error: TargetError, address: &str) -> anyhow::Error {
    let is_silent = matches!(
        &error,
        TargetError::Connect(ConnectError::Closed(Closed::HandshakeTimedOut { .. }))
    );
    let error = anyhow::Error::new(error).context(address.to_owned());
    match is_silent {
        true => anyhow::anyhow!(
            "{error:#}\ndoes a server of Quantum listen at {address}, and is UDP let through both \
             ways?"
        ),
        false => error,
    }
}

/// The span as people read it.
fn shown(span: Duration) -> String {
    format!("{:.3} ms", span.as_secs_f64() * 1e3)
}

/// A reader that has seen enough (`| head`) is no failure.
fn say(text: &str) -> Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output can't be written to")
        }
        _ => Ok(()),
    }
}

const ALREADY: io::ErrorKind = io::ErrorKind::AlreadyExists;
const NO_ADDRESS: &str = "expected host:port, such as localhost:9090 or [::1]:9090";

/// How long connections may take to end.
const GOODBYE: Duration = Duration::from_secs(1);
