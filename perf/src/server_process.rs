//! Servers under test: started here, or running elsewhere and merely named.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::client::Address;
use crate::token;

/// A server that is driven and whose costs are read.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// Where clients connect.
    pub(crate) address: Address,
    /// The listener of operators, where there is one.
    pub(crate) admin: Option<Address>,
    /// Secret its tokens are signed with.
    pub(crate) secret: String,
    started: Option<Started>,
}

/// What Tidegate is configured with, beside what every run has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) secure: Secure,
    pub(crate) ping_interval_seconds: u64,
    /// Whether the playground page is served.
    pub(crate) demo: bool,
}

/// Which listener of Tidegate speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secure {
    None,
    Main,
    Admin,
}

/// A server of somebody else, as named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    name: String,
    secure: bool,
    host: String,
    path: String,
    pid: u32,
}

/// A child process with the folder of its files; both end with this value.
struct Started {
    child: Child,
    folder: TempDir,
}

/// Tidegate's executable: the one given, or one built now.
pub(crate) fn tidegate_executable(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    given.map_or_else(|| build("release"), |path| Ok(path.to_owned()))
}

/// The same, optimised as it is shipped: rivals are measured as they are shipped.
pub(crate) fn shipped_executable(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    given.map_or_else(|| build("dist"), |path| Ok(path.to_owned()))
}

fn build(profile: &str) -> anyhow::Result<PathBuf> {
    // This program lies in <target>/<profile>/.
    let own = std::env::current_exe().context("path of this program is not known")?;
    let target = own
        .ancestors()
        .nth(2)
        .context("this program lies outside a target folder")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let built = Command::new("cargo")
        .args([
            "build",
            "--profile",
            profile,
            "-p",
            "tidegate",
            "--target-dir",
        ])
        .arg(target)
        .arg("--manifest-path")
        .arg(manifest)
        .status()
        .context("cargo was not started")?;
    ensure!(built.success(), "tidegate was not built");
    Ok(target.join(profile).join("tidegate"))
}

impl Server {
    /// Starts Tidegate on free ports with a configuration of its own.
    pub(crate) fn tidegate(executable: &Path, setup: Setup) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("temporary folder was not made")?;
        let configuration = configuration(folder.path(), setup)?;
        let file = folder.path().join("tidegate.yaml");
        fs::write(&file, configuration).context("configuration was not written")?;
        let mut command = Command::new(executable);
        command.arg("-c").arg(&file);
        let mut server = Self::start("tidegate", command, folder, setup.secure == Secure::Main)?;
        let socket = server.listening("admin")?;
        server.admin = Some(Address::new(socket, setup.secure == Secure::Admin)?);
        Ok(server)
    }

    /// Starts Tidegate with a relay; `relay` is the value of that key of its configuration.
    pub(crate) fn relay(executable: &Path, relay: &str) -> anyhow::Result<Self> {
        Self::configured(executable, &format!("relay: {relay}"))
    }

    /// Starts Tidegate with these further lines of configuration.
    pub(crate) fn configured(executable: &Path, more: &str) -> anyhow::Result<Self> {
        let setup = Setup {
            secure: Secure::None,
            ping_interval_seconds: 25,
            demo: false,
        };
        Self::written(executable, |folder| {
            let mut configuration = configuration(folder, setup)?;
            writeln!(configuration, "{more}")?;
            Ok(configuration)
        })
    }

    /// Starts Tidegate with the configuration that is written for a folder; its main listener
    /// and that of operators speak without TLS.
    pub(crate) fn written(
        executable: &Path,
        configuration: impl FnOnce(&Path) -> anyhow::Result<String>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("temporary folder was not made")?;
        let configuration = configuration(folder.path())?;
        let file = folder.path().join("tidegate.yaml");
        fs::write(&file, configuration).context("configuration was not written")?;
        let mut command = Command::new(executable);
        command.arg("-c").arg(&file);
        let mut server = Self::start("tidegate", command, folder, false)?;
        let socket = server.listening("admin")?;
        server.admin = Some(Address::new(socket, false)?);
        Ok(server)
    }

    /// The folder in which a server that was started here keeps what it stores.
    pub(crate) fn data_folder(&self) -> anyhow::Result<PathBuf> {
        let started = self.started.as_ref();
        let started = started.context("a peer's folder is not known")?;
        Ok(started.folder.path().join("data"))
    }

    /// A metric, all its series added up; 0 if there is none.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let admin = self.admin.as_ref().context("the server has no metrics")?;
        let response = testkit::http::get(admin.socket, "/metrics", &[])?;
        ensure!(
            response.status == 200,
            "metrics answered {}",
            response.status
        );
        Ok(sum_of(name, &response.text()))
    }

    /// Starts the reference broadcaster: this program again, so that its memory
    /// and CPU time are its own.
    pub(crate) fn reference(ping_interval_seconds: u64) -> anyhow::Result<Self> {
        Self::reference_named("reference", ping_interval_seconds, &[])
    }

    /// Starts the reference broadcaster in its variant that coalesces writes.
    pub(crate) fn coalescing_reference(ping_interval_seconds: u64) -> anyhow::Result<Self> {
        Self::reference_named(
            "coalescing reference",
            ping_interval_seconds,
            &["--coalesce"],
        )
    }

    fn reference_named(
        name: &str,
        ping_interval_seconds: u64,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let ping_interval = ping_interval_seconds.to_string();
        let mut arguments = vec!["reference", "--ping-interval", &ping_interval];
        arguments.extend(more);
        Self::again(name, &arguments)
    }

    /// Starts this program again as a server, with these arguments.
    pub(crate) fn again(name: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("temporary folder was not made")?;
        let own = std::env::current_exe().context("path of this program is not known")?;
        let mut command = Command::new(own);
        command.args(arguments);
        Self::start(name, command, folder, false)
    }

    /// A running server.
    pub(crate) fn peer(peer: &Peer, secret: &str) -> anyhow::Result<Self> {
        let socket = peer
            .host
            .to_socket_addrs()
            .with_context(|| format!("host {:?} was not resolved", peer.host))?
            .next()
            .with_context(|| format!("host {:?} has no address", peer.host))?;
        let mut address = Address::new(socket, peer.secure)?;
        address.host.clone_from(&peer.host);
        address.path.clone_from(&peer.path);
        Ok(Self {
            name: peer.name.clone(),
            pid: peer.pid,
            address,
            admin: None,
            secret: secret.to_owned(),
            started: None,
        })
    }

    /// Starts a command whose output says where it listens.
    fn start(
        name: &str,
        mut command: Command,
        folder: TempDir,
        secure: bool,
    ) -> anyhow::Result<Self> {
        let path = folder.path().join(LOG);
        let output = File::create(&path).context("log file was not made")?;
        let errors = output.try_clone().context("log file was not shared")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("{name} was not started: {command:?}"))?;
        let mut server = Self {
            name: name.to_owned(),
            pid: child.id(),
            address: Address::new(SocketAddr::from(([127, 0, 0, 1], 0)), secure)?,
            admin: None,
            secret: token::SECRET.to_owned(),
            started: Some(Started { child, folder }),
        };
        let socket = server.listening("main")?;
        server.address = Address::new(socket, secure)?;
        Ok(server)
    }

    /// Waits until the log tells the address of a listener.
    fn listening(&mut self, listener: &str) -> anyhow::Result<SocketAddr> {
        let Self {
            name,
            started: Some(started),
            ..
        } = self
        else {
            bail!("a peer tells no address");
        };
        let path = started.folder.path().join(LOG);
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let log = fs::read_to_string(&path).unwrap_or_default();
            if let Some(socket) = address_of(listener, &log) {
                return Ok(socket);
            }
            if let Some(status) = started
                .child
                .try_wait()
                .context("child was not waited for")?
            {
                bail!("{name} ended with {status}:\n{log}");
            }
            if Instant::now() >= deadline {
                bail!("{name} did not say where it listens within {START_WITHIN:?}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server wrote at level warn or above, at most a few lines.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let Some(started) = &self.started else {
            return Vec::new();
        };
        let log = fs::read_to_string(started.folder.path().join(LOG));
        log.unwrap_or_default()
            .lines()
            .filter(|line| {
                ["\"WARN\"", "\"ERROR\"", "panicked"]
                    .iter()
                    .any(|w| line.contains(w))
            })
            .take(3)
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Whatever fails here, the process is gone already or the next step ends it.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let expected = || format!("peer {text:?} is not name=ws://host:port/path,pid=N");
        let (name, rest) = text.split_once('=').with_context(expected)?;
        let (url, pid) = rest.rsplit_once(",pid=").with_context(expected)?;
        let (scheme, rest) = url.split_once("://").with_context(expected)?;
        let secure = match scheme {
            "ws" => false,
            "wss" => true,
            _ => bail!(expected()),
        };
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        ensure!(host.contains(':'), expected());
        // It becomes part of keys in the JSON line.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        ensure!(!name.is_empty() && name.bytes().all(is_plain), expected());
        Ok(Self {
            name: name.to_owned(),
            secure,
            host: host.to_owned(),
            path: path.to_owned(),
            pid: pid.parse().ok().with_context(expected)?,
        })
    }
}

/// The configuration of a run: everything a benchmark does is allowed, and no
/// rate limit stands between the generator and the server's own pace.
fn configuration(folder: &Path, setup: Setup) -> anyhow::Result<String> {
    let mut main = "address: \"127.0.0.1:0\"".to_owned();
    let mut admin = main.clone();
    if setup.secure != Secure::None {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let signed = rcgen::generate_simple_self_signed(names).context("no certificate made")?;
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&certificate, signed.cert.pem()).context("certificate was not written")?;
        fs::write(&key, signed.signing_key.serialize_pem()).context("key was not written")?;
        let listener = match setup.secure {
            Secure::Admin => &mut admin,
            Secure::Main | Secure::None => &mut main,
        };
        write!(
            listener,
            ", tls: {{ certificate: {certificate:?}, key: {key:?} }}"
        )?;
    }
    let Setup {
        ping_interval_seconds,
        demo,
        ..
    } = setup;
    let secret = token::SECRET;
    let data = folder.join("data");
    Ok(format!(
        "listeners: {{ main: {{ {main} }}, admin: {{ {admin} }} }}\n\
         client: {{ token: {{ hmac_secret_key: \"{secret}\" }}, \
         ping_interval: {ping_interval_seconds}s, command_rate: 0 }}\n\
         channel: {{ without_namespace: {{ allow_subscribe_for_client: true, \
         allow_publish_for_client: true, history_size: 0 }} }}\n\
         limits: {{ handshake_rate: 0, connections_per_address: 0 }}\n\
         demo: {{ enabled: {demo} }}\n\
         data_dir: {data:?}\n"
    ))
}

/// The address of a listener, if the log tells it.
fn address_of(listener: &str, log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let fields = entry.get("fields").unwrap_or(&entry);
        let text = |key: &str| fields.get(key).or_else(|| entry.get(key))?.as_str();
        (text("message") == Some("listening") && text("listener") == Some(listener))
            .then(|| text("address")?.parse().ok())
            .flatten()
    })
}

/// The sum of a metric's series in an exposition.
fn sum_of(name: &str, exposition: &str) -> f64 {
    let values = exposition.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_whole = rest.starts_with([' ', '{']);
        is_whole.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    values.sum()
}

/// Name of the file that a server's output goes to.
const LOG: &str = "output.log";

/// A server that has not bound its ports by then is broken.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A server that has not ended by then, after two signals, is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_read_from_one_argument() {
        let peer: Peer = "other=wss://127.0.0.1:8000/connection/websocket,pid=12"
            .parse()
            .unwrap();
        assert_eq!(
            (peer.name.as_str(), peer.secure, peer.pid),
            ("other", true, 12)
        );
        assert_eq!(
            (peer.host.as_str(), peer.path.as_str()),
            ("127.0.0.1:8000", "/connection/websocket")
        );
        assert!("other=http://127.0.0.1:1/,pid=1".parse::<Peer>().is_err());
        assert!("other=ws://127.0.0.1:1/".parse::<Peer>().is_err());
        assert!("o\"r=ws://127.0.0.1:1/,pid=1".parse::<Peer>().is_err());
    }

    #[test]
    fn series_of_a_metric_are_added_up() {
        let text =
            "# TYPE a_total counter\na_total{b=\"1\"} 2\na_total{b=\"2\"} 3\na_total_2 9\na 1.5\n";
        assert!((sum_of("a_total", text) - 5.0).abs() < f64::EPSILON);
        assert!((sum_of("a", text) - 1.5).abs() < f64::EPSILON);
        assert!(sum_of("b", text).abs() < f64::EPSILON);
    }

    #[test]
    fn listener_is_found_in_either_log_shape() {
        let flat = r#"{"message":"listening","listener":"main","address":"127.0.0.1:81"}"#;
        let nested =
            r#"{"fields":{"message":"listening","listener":"main","address":"127.0.0.1:82"}}"#;
        let admin = r#"{"message":"listening","listener":"admin","address":"127.0.0.1:83"}"#;
        assert_eq!(
            address_of("main", &format!("{admin}\n{flat}"))
                .unwrap()
                .port(),
            81
        );
        assert_eq!(address_of("main", nested).unwrap().port(), 82);
        assert_eq!(address_of("main", admin), None);
    }
}
