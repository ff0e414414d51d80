//! The HTTP proxy: its store, its routes as they change, what callers have spent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use lifecycle::{Clock, Tasks};
use policy::{Amount, SpendWindow, Spent};
use router::proxy::{AccessLog, Destination, Installed, Proxy, Record, Sources, Spending};
use store::{Row, SpendingRow, Store, StoreError};
use tokio::sync::watch;
use tracing::{error, info, warn};
use upstream::http_service::{Pool, PoolSettings};
use upstream::quantum_peer::Peers;

use super::control::proxies::file_id;
use super::{AssemblyError, chain};
use crate::config::{Config, Variables};

/// How long until what failed with the store is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often what callers have spent is written down. What is spent in between is
/// forgotten if the process is killed.
const SPENDING_EVERY: Duration = Duration::from_secs(2);

/// How often what other gateways have written down is read: every so many writes.
const SPENDING_READ_EVERY: u32 = 10;

/// Rows of spending in one write.
const SPENDING_ROWS: usize = 500;

/// Sums of months that are over are kept for so long, for whoever wants to look.
const SPENDING_KEPT: Duration = Duration::from_secs(100 * 24 * 3_600);

/// The proxy, running.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) proxy: Arc<Proxy>,
    pub(super) store: Store,
    config: Arc<ArcSwap<Config>>,
    /// Rises with each reload.
    reloads: watch::Sender<u64>,
    /// The store's revision whose routes are in force.
    installed: watch::Sender<u64>,
}

/// Opens the store and puts its routes into force.
pub(super) async fn start(
    config: &Arc<ArcSwap<Config>>,
    clock: Clock,
    tasks: &Tasks,
    threads: usize,
    peers: Option<Peers>,
) -> Result<Option<Running>, AssemblyError> {
    let now = config.load_full();
    if !now.proxy.enabled {
        return Ok(None);
    }
    let data = |error: StoreError| AssemblyError::Data(chain(&error));
    let location = now.store.location(&now.data_dir).map_err(data)?;
    let keys = match now.store.keys().map_err(data)? {
        Some(keys) => keys,
        None => {
            let file = now.store.key_file(&now.data_dir);
            let file = file.unwrap_or_else(|| now.data_dir.join("store.key"));
            store::Keys::load_or_create(&file).map_err(data)?
        }
    };
    let store = Store::open(&location, Some(keys), tasks)
        .await
        .map_err(|error| AssemblyError::Data(format!("store {location}: {}", chain(&error))))?;
    let pool = &now.proxy.pool;
    let pool = Pool::with_quantum(
        PoolSettings {
            idle_max: pool.idle,
            idle_per_origin_max: pool.idle_per_host,
            http2_per_origin_max: pool.http2_per_host,
            lifetime_max: pool.lifetime,
            ..PoolSettings::default()
        },
        clock,
        tasks.clone(),
        peers,
    );
    let spending = Arc::new(Spending::new(clock));
    let seed = seed();
    let proxy = Arc::new(Proxy::new(clock, pool, spending, threads, seed));
    let running = Running {
        proxy,
        store,
        config: Arc::clone(config),
        reloads: watch::Sender::new(0),
        installed: watch::Sender::new(0),
    };
    running.proxy.note_calls(now.grpc.log_calls);
    running.apply_log(&now).map_err(AssemblyError::Settings)?;
    // The first routes are there before the first request.
    running.install().await.map_err(data)?;
    running.read_spending(clock).await.map_err(data)?;
    Ok(Some(running))
}

impl Running {
    /// Follows the store and the configuration until the group stops.
    pub(super) fn spawn(&self, tasks: &Tasks, clock: Clock) {
        let (running, stopping) = (self.clone(), tasks.stopping());
        tasks.spawn("proxy routes", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = running.follow() => {}
            }
        });
        let (running, stopping) = (self.clone(), tasks.stopping());
        tasks.spawn("proxy spending", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = running.keep_spending(clock) => {}
            }
            running.write_spending().await;
            running.store.close().await;
        });
    }

    /// The revision of the store whose routes are in force, as it changes.
    pub(super) fn installed(&self) -> watch::Receiver<u64> {
        self.installed.subscribe()
    }

    /// Takes over a new configuration, which is in force already.
    pub(super) fn reconfigure(&self, config: &Config) {
        if let Err(error) = self.apply_log(config) {
            error!(error, "access log is not written");
        }
        self.proxy.note_calls(config.grpc.log_calls);
        self.reloads.send_modify(|reloads| *reloads += 1);
    }

    fn apply_log(&self, config: &Config) -> Result<(), String> {
        let wanted = &config.proxy.access_log;
        if !wanted.enabled {
            self.proxy.log_to(None);
            return Ok(());
        }
        let destination = if wanted.path.as_os_str().is_empty() {
            Destination::Stdout
        } else {
            Destination::File(wanted.path.clone())
        };
        // With the same destination it goes on: what it has counted stays, and a file that was
        // moved away is made anew.
        if let Some(log) = self
            .proxy
            .log()
            .filter(|log| *log.destination() == destination)
        {
            log.reopen();
            return Ok(());
        }
        let log = AccessLog::start(destination).map_err(|error| chain(&error))?;
        self.proxy.log_to(Some(Arc::new(log)));
        Ok(())
    }

    async fn follow(&self) {
        let mut changes = self.store.changes();
        let mut reloads = self.reloads.subscribe();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                reloaded = reloads.changed() => if reloaded.is_err() { return },
            }
            while let Err(error) = self.install().await {
                warn!(
                    error = chain(&error),
                    "routes could not be read, the old ones stay"
                );
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Puts the routes of file and store into force.
    async fn install(&self) -> Result<(), StoreError> {
        let config = self.config.load_full();
        let snapshot = self.store.snapshot().await?;
        let secrets = match self.store.all_secrets().await {
            Ok(secrets) => secrets,
            // Routes without secrets are better than none.
            Err(error @ StoreError::Sealing(_)) => {
                error!(error = chain(&error), "secrets can't be read");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let sources = Known {
            variables: config.proxy.variables.clone(),
            secrets: secrets
                .into_iter()
                .filter(|secret| secret.environment == store::GLOBAL)
                .filter_map(|secret| match secret.value {
                    Ok(value) => Some((secret.name, value.reveal().to_owned())),
                    Err(error) => {
                        error!(
                            secret = secret.name,
                            error = chain(&error),
                            "secret can't be read"
                        );
                        None
                    }
                })
                .collect(),
        };
        let declared = config.proxy.file_routes.records();
        let mut records: Vec<Installed> = declared
            .iter()
            .map(|record| Installed {
                id: file_id(&record.path),
                record: record.clone(),
            })
            .collect();
        for row in snapshot.rows {
            if declared.iter().any(|record| record.path == row.path) {
                warn!(
                    path = row.path,
                    "route of the store is hidden by one of the configuration"
                );
                continue;
            }
            let (id, path) = (row.id.clone(), row.path.clone());
            match readable(row) {
                Ok(record) => records.push(record),
                Err(problem) => {
                    let known = self.proxy.route(&id);
                    let becomes = match &known {
                        Some(_) => "it stays as it was",
                        None => "it is left out",
                    };
                    warn!(id, path, problem, becomes, "route can't be read");
                    records.extend(known.map(|known| Installed {
                        id,
                        record: Record::clone(&known.record),
                    }));
                }
            }
        }
        let count = records.len();
        for problem in self.proxy.install(records, &sources) {
            warn!(%problem, "route is left out");
        }
        info!(
            routes = count,
            revision = snapshot.revision,
            "routes are in force"
        );
        self.installed.send_replace(snapshot.revision);
        Ok(())
    }

    async fn keep_spending(&self, clock: Clock) {
        for round in 1_u32.. {
            tokio::time::sleep(SPENDING_EVERY).await;
            self.write_spending().await;
            if round.is_multiple_of(SPENDING_READ_EVERY)
                && let Err(error) = self.read_spending(clock).await
            {
                warn!(error = chain(&error), "spending could not be read");
            }
        }
    }

    async fn write_spending(&self) {
        let spending = self.proxy.spending();
        loop {
            let rows = spending.export(SPENDING_ROWS);
            if rows.is_empty() {
                return;
            }
            let written: Vec<SpendingRow> = rows
                .iter()
                .map(|row| SpendingRow {
                    identity: row.key.to_string(),
                    window_kind: row.window.as_str().to_owned(),
                    window_start_ms: row.start_ms,
                    tokens: row.amount.tokens,
                    micro_cost: row.amount.micro_cost,
                })
                .collect();
            if let Err(error) = self.store.add_spending(&written).await {
                warn!(
                    error = chain(&error),
                    "spending could not be written, and will be"
                );
                spending.restore(rows);
                return;
            }
        }
    }

    async fn read_spending(&self, clock: Clock) -> Result<(), StoreError> {
        const LONGEST_MONTH: Duration = Duration::from_secs(31 * 24 * 3_600);
        let ago = |span: Duration| {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            clock.unix_ms().saturating_sub(span)
        };
        let rows = self.store.spending(ago(LONGEST_MONTH)).await?;
        self.proxy
            .spending()
            .import(rows.into_iter().filter_map(|row| {
                Some(Spent {
                    key: row.identity.into(),
                    window: SpendWindow::parse(&row.window_kind)?,
                    start_ms: row.window_start_ms,
                    amount: Amount {
                        tokens: row.tokens,
                        micro_cost: row.micro_cost,
                    },
                })
            }));
        self.store.forget_spending(ago(SPENDING_KEPT)).await?;
        Ok(())
    }
}

/// The record of a row, or what is wrong with it, whoever wrote it.
fn readable(row: Row) -> Result<Installed, String> {
    let value = serde_json::from_str(&row.document).map_err(|error| error.to_string())?;
    match Record::read(&value) {
        Ok(record) => Ok(Installed { id: row.id, record }),
        Err(problems) => {
            let problems: Vec<String> = problems
                .iter()
                .map(|problem| format!("{}: {}", problem.field, problem.message))
                .collect();
            Err(problems.join("; "))
        }
    }
}

/// Where templates take their values from.
struct Known {
    variables: Variables,
    secrets: HashMap<String, String>,
}

impl Sources for Known {
    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(str::to_owned)
    }

    fn secret(&self, name: &str) -> Option<String> {
        self.secrets.get(name).cloned()
    }
}

/// Different in each process, or gateways would choose and come back together.
fn seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}
