//! What the demo adds to a configuration: namespaces, a call, and a secret to sign tokens.
//!
//! The secret is made at the first start and kept in the data folder, so that tokens minted
//! by one process (`tidegate token`) are good for another.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use auth::Secret;
use protocol::calls::CallSettings;
use protocol::settings::{ChannelOptions, Namespace, RecoveryMode, SlowClientPolicy};

use crate::config::Config;

/// The demo's namespace; its channels are `demo:…`.
pub const NAMESPACE: &str = "demo";

/// The demo's secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The file could not be read or made.
    #[error("{} can't be used for the demo's secret: {cause}; data_dir must be a folder that can be written to", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened; in the message already, so it is no `source`.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold the demo's secret: expected 64 hexadecimal digits; without the file a new one is made", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
    },
}

/// Adds what the demo needs, if it is on: its namespaces unless there are others of the
/// same name or pattern, the call for snapshots unless there is one, and a secret for
/// connection tokens unless one is configured.
pub fn prepare(config: &mut Config) -> Result<(), DemoError> {
    if !config.demo.is_on() {
        return Ok(());
    }
    if config.client.token.hmac_secret_key.is_empty() {
        config.client.token.hmac_secret_key = Secret::new(secret(&config.data_dir)?);
    }
    let namespaces = &mut config.channel.namespaces;
    for own in [chat(), market_data(), flags(&config.feature_flags.channel)] {
        let is_other = |other: &Namespace| {
            other.name != own.name && (own.pattern.is_none() || other.pattern != own.pattern)
        };
        if namespaces.iter().all(is_other) {
            namespaces.push(own);
        }
    }
    let requests = &mut config.rpc.requests;
    if requests.iter().all(|other| other.method != SNAPSHOT_METHOD) {
        requests.push(CallSettings {
            method: SNAPSHOT_METHOD.to_owned(),
            subject: "xy.md.req.snapshot.{group}".to_owned(),
            channel: "xy.md.snapshot.{group}".to_owned(),
        });
    }
    Ok(())
}

/// What clients call for a snapshot before the next one is due.
const SNAPSHOT_METHOD: &str = "md.snapshot";

/// Market data: only the latest value counts, and a page may show all of it.
fn market_data() -> Namespace {
    Namespace {
        name: "market-data".to_owned(),
        pattern: Some("xy.md.>".to_owned()),
        options: ChannelOptions {
            allow_subscribe_for_client: true,
            allow_wildcard_subscribe: true,
            slow_client: SlowClientPolicy::Conflate,
            ..ChannelOptions::default()
        },
    }
}

/// Feature flags: whoever comes gets the present state.
fn flags(channel: &str) -> Namespace {
    Namespace {
        name: "feature-flags".to_owned(),
        pattern: Some(channel.to_owned()),
        options: ChannelOptions {
            history_size: 1,
            // The state of now, however long ago it was set.
            history_ttl: FOR_EVER,
            history_meta_ttl: FOR_EVER,
            force_recovery: true,
            force_recovery_mode: RecoveryMode::Cache,
            auto_cache_recover: true,
            allow_subscribe_for_client: true,
            slow_client: SlowClientPolicy::Conflate,
            ..ChannelOptions::default()
        },
    }
}

const FOR_EVER: Duration = Duration::from_secs(3_650 * 86_400);

fn chat() -> Namespace {
    Namespace {
        name: NAMESPACE.to_owned(),
        pattern: None,
        options: ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            history_size: 100,
            history_ttl: Duration::from_secs(3600),
            force_recovery: true,
            allow_subscribe_for_client: true,
            allow_publish_for_client: true,
            allow_history_for_client: true,
            allow_presence_for_client: true,
            ..ChannelOptions::default()
        },
    }
}

/// Reads the secret, or makes one that only the owner may read.
fn secret(data_dir: &Path) -> Result<String, DemoError> {
    let path = data_dir.join("demo-secret");
    let refuse = |cause| DemoError::File {
        path: path.clone(),
        cause,
    };
    let made = make_folder(data_dir).and_then(|()| make_secret(&path));
    match made {
        Ok(secret) => return Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refuse(error)),
    }
    let text = std::fs::read_to_string(&path).map_err(refuse)?;
    let text = text.trim_end();
    match text.len() == 2 * SECRET_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_owned()),
        false => Err(DemoError::Content { path }),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The file appears whole or not at all: another process may start at the same moment.
fn make_secret(path: &Path) -> io::Result<String> {
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    // A link, unlike a rename, does not replace what another process has put there.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    linked.map(|()| secret)
}

const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::{DemoError, prepare};
    use crate::config::Config;

    fn demo(folder: &std::path::Path) -> Config {
        let mut config = Config::parse("demo: { enabled: true }").unwrap();
        config.data_dir = folder.join("data");
        config
    }

    #[test]
    fn the_secret_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (demo(folder.path()), demo(folder.path()));
        prepare(&mut first).unwrap();
        prepare(&mut second).unwrap();
        assert_eq!(first, second);
        assert_eq!(
            first.client.token.hmac_secret_key.reveal().unwrap().len(),
            64
        );
        assert!(
            first
                .channel
                .namespaces
                .iter()
                .any(|namespace| namespace.name == "demo")
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &str| {
                std::fs::metadata(folder.path().join(path))
                    .unwrap()
                    .permissions()
                    .mode()
                    & 0o777
            };
            assert_eq!((mode("data"), mode("data/demo-secret")), (0o700, 0o600));
        }
        assert_eq!(
            std::fs::read_dir(folder.path().join("data"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn what_is_configured_stays() {
        let folder = tempfile::tempdir().unwrap();
        let text = "demo: { enabled: true }\nclient: { token: { hmac_secret_key: 0123456789abcdef-x } }\n\
                    channel: { namespaces: [ { name: demo }, { name: feature-flags }, { name: prices, pattern: \"xy.md.>\" } ] }\n\
                    rpc: { requests: [ { method: md.snapshot, subject: s, channel: c } ] }\n";
        let mut config = Config::parse(text).unwrap();
        config.data_dir = folder.path().join("never-made");
        let before = config.clone();
        prepare(&mut config).unwrap();
        assert_eq!(config, before);
        assert!(!config.data_dir.exists());
    }

    #[test]
    fn a_damaged_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = demo(folder.path());
        std::fs::create_dir(&config.data_dir).unwrap();
        std::fs::write(config.data_dir.join("demo-secret"), "short").unwrap();
        assert!(matches!(
            prepare(&mut config),
            Err(DemoError::Content { .. })
        ));
    }
}
