//! Live data as it is run: gateways and an aggregator on one NATS server that knows them by
//! credentials of their own and speaks TLS.

pub mod follower;
pub mod market;
pub mod operator;

use std::path::Path;

use anyhow::{Context, ensure};
use api::Message as _;
use api::xy::md::v1::{SnapshotBatch, TickBatch};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testkit::certificate::Certificate;
use testkit::services::{Accounts, Nats, NatsOptions, Permissions};
use testkit::{Client, Gateway};

use crate::config::config;
use market::Market;

/// A NATS server, and whoever may use it.
#[derive(Debug)]
pub struct Scene {
    /// The server; tests restart and reconfigure it.
    pub nats: Nats,
    equipment: Equipment,
}

/// What somebody needs who may use the server.
#[derive(Debug)]
pub struct Equipment {
    accounts: Accounts,
    certificate: Certificate,
}

impl Scene {
    /// Starts the server: JetStream, accounts, TLS.
    pub fn start() -> anyhow::Result<Self> {
        let (equipment, nats) = Equipment::with_server()?;
        Ok(Self { nats, equipment })
    }

    /// Starts a gateway with the credentials of one. `extra` holds further top-level keys,
    /// and before them, at two spaces, such of `live`.
    pub fn gateway(&self, extra: &str) -> anyhow::Result<Gateway> {
        let text = self.gateway_config(extra);
        Gateway::start_with(&text, |folder| self.equipment.gateway(folder))
    }

    /// Starts a gateway with these credentials.
    pub fn gateway_with(&self, extra: &str, credentials: &str) -> anyhow::Result<Gateway> {
        let text = self.gateway_config(extra);
        Gateway::start_with(&text, |folder| self.equipment.put(folder, credentials))
    }

    /// Starts an aggregator with the credentials of one. `market` holds keys of that
    /// section, at two spaces.
    pub fn market(&self, market: &str) -> anyhow::Result<Market> {
        let text = format!(
            "data_dir: ./data\nlisteners:\n  admin: {{ address: \"127.0.0.1:0\" }}\n\
             {}    # The gateways make the streams.\n    create: false\nmarket:\n{market}\n",
            bus(&self.nats),
        );
        Market::start(&text, |folder| self.equipment.aggregator(folder))
    }

    /// What the server's configuration says about accounts.
    pub fn accounts(&self) -> anyhow::Result<String> {
        self.equipment.accounts.server_config()
    }

    fn gateway_config(&self, extra: &str) -> String {
        config(&format!("{NAMESPACES}{}{SETTINGS}{extra}", bus(&self.nats)))
    }
}

impl Equipment {
    /// Starts a server with JetStream, accounts and TLS.
    pub fn with_server() -> anyhow::Result<(Self, Nats)> {
        let accounts = Accounts::new();
        let certificate = Certificate::for_localhost()?;
        let nats = Nats::start(&NatsOptions {
            jetstream: true,
            tls: Some(certificate.clone()),
            more: accounts.server_config()?,
            ..NatsOptions::default()
        })?;
        let equipment = Self {
            accounts,
            certificate,
        };
        Ok((equipment, nats))
    }

    /// Puts what a gateway needs into its folder: `certificate.pem` and `nats.creds`.
    pub fn gateway(&self, folder: &Path) -> anyhow::Result<()> {
        let permissions = Permissions::gateway("tidegate");
        self.put(folder, &self.accounts.credentials("gateway", &permissions)?)
    }

    /// Puts what an aggregator needs into its folder, under the same names.
    pub fn aggregator(&self, folder: &Path) -> anyhow::Result<()> {
        let permissions = Permissions::aggregator("tidegate");
        self.put(
            folder,
            &self.accounts.credentials("aggregator", &permissions)?,
        )
    }

    fn put(&self, folder: &Path, credentials: &str) -> anyhow::Result<()> {
        self.certificate.write(folder)?;
        std::fs::write(folder.join(CREDENTIALS), credentials)?;
        Ok(())
    }
}

/// Asks the aggregator for a snapshot of a group.
pub fn on_demand(client: &mut Client, group: &str) -> anyhow::Result<SnapshotBatch> {
    let ask = json!({ "method": "md.snapshot", "data": { "group": group } });
    let answer = client.request("rpc", ask)?;
    let text = answer["data"]["base64"]
        .as_str()
        .with_context(|| format!("no snapshot in {answer}"))?;
    snapshot(&STANDARD.decode(text)?)
}

/// Credentials of a gateway that another operator has signed.
pub fn foreign_credentials() -> anyhow::Result<String> {
    Accounts::new().credentials("gateway", &Permissions::gateway("tidegate"))
}

/// Reads what lies on `xy.md.tick.{group}`.
pub fn ticks(payload: &[u8]) -> anyhow::Result<TickBatch> {
    TickBatch::decode(payload).context("no batch of ticks")
}

/// Reads what lies on `xy.md.snapshot.{group}`.
pub fn snapshot(payload: &[u8]) -> anyhow::Result<SnapshotBatch> {
    SnapshotBatch::decode(payload).context("no snapshot")
}

/// Takes a payload with its subject apart, as the envelope of live data has them.
pub fn opened(frame: &[u8]) -> anyhow::Result<(&str, &[u8])> {
    let (length, rest) = frame.split_at_checked(2).context("no envelope")?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    ensure!(length <= rest.len(), "the subject is cut");
    let (subject, payload) = rest.split_at(length);
    Ok((std::str::from_utf8(subject)?, payload))
}

fn bus(nats: &Nats) -> String {
    format!(
        r#"
bus:
  kind: nats
  nats:
    urls: ["{}"]
    tls: true
    ca_file: certificate.pem
    credentials_file: {CREDENTIALS}
    connect_within: 20s
"#,
        nats.url()
    )
}

const CREDENTIALS: &str = "nats.creds";

/// Market data, flags, and something of which only the latest value matters.
const NAMESPACES: &str = r#"
    - name: md
      pattern: "xy.md.>"
      presence: true
      slow_client: conflate
      allow_subscribe_for_client: true
      allow_wildcard_subscribe: true
      allow_publish_for_client: true
      allow_history_for_client: true
      allow_presence_for_client: true
    - name: flags
      pattern: xy.flags
      history_size: 1
      history_ttl: 24h
      force_recovery: true
      force_recovery_mode: cache
      auto_cache_recover: true
      allow_subscribe_for_client: true
    - name: latest
      slow_client: conflate
      allow_subscribe_for_client: true
      allow_publish_for_client: true
"#;

/// The call for snapshots, a key for backends, and the dialect of live data.
const SETTINGS: &str = r#"
rpc:
  requests:
    - method: md.snapshot
      subject: "xy.md.req.snapshot.{group}"
      channel: "xy.md.snapshot.{group}"
http_api: { key: "an API key for tests" }
live:
  enabled: true
  subjects: ["xy.md.>", "xy.exec.health", "xy.flags"]
"#;
