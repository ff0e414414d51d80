//! A configuration is read again, checked, compared, and taken whole or refused whole.
//!
//! Reasons to read it again: SIGHUP, a request of an administrator, and a change of one of
//! the files that took part. What is watched is the *folders* of these files, because editors
//! and Kubernetes replace files instead of writing to them. A slow poll stands behind it,
//! for file systems that report nothing.
//!
//! What must hold: while the configuration is wrong, or the callback refuses it, everything
//! stays as it was, and the log says why.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lifecycle::{CancellationToken, Hangups};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::config::{Config, ConfigErrors, Loaded};
use crate::demo::{self, DemoError};

mod changes;
mod watch;

use watch::{POLL, Watch};

/// Where the configuration comes from, so that it can be read again.
#[derive(Clone)]
pub struct Source {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The process's environment at its start.
    pub environment: Vec<(String, String)>,
}

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// It is right, but the demo can't be prepared.
    #[error(transparent)]
    Demo(#[from] DemoError),
}

impl Source {
    /// Reads the configuration and adds what the demo needs.
    pub fn load(&self) -> Result<Loaded, LoadError> {
        let mut loaded = Config::load(self.file.as_deref(), self.environment.iter().cloned())?;
        demo::prepare(&mut loaded.config)?;
        Ok(loaded)
    }
}

/// What came of reading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Neither the settings nor the files they name have changed.
    Unchanged,
    /// The new configuration is in force.
    Applied {
        /// Keys whose new value is in force, and files whose new content is.
        changed: Vec<String>,
        /// Keys that differ but keep their value until the next start.
        kept: Vec<&'static str>,
    },
    /// The old configuration stays; the text says why.
    Refused(String),
}

/// Keeps the running configuration up to date.
pub struct Reloader {
    source: Source,
    running: Arc<Config>,
    files: BTreeMap<PathBuf, u64>,
    /// Keys that differ from the file until the next start.
    kept: Vec<&'static str>,
    requests: mpsc::Receiver<oneshot::Sender<Outcome>>,
    handle: ReloadHandle,
}

/// Asks for a reload from elsewhere. Clones ask the same reloader.
#[derive(Debug, Clone)]
pub struct ReloadHandle(mpsc::Sender<oneshot::Sender<Outcome>>);

impl ReloadHandle {
    /// Has the configuration read again, and says what came of it; `None` while the process
    /// stops.
    pub async fn reload(&self) -> Option<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        outcome.await.ok()
    }
}

impl Reloader {
    /// Starts from what is running.
    pub fn new(source: Source, loaded: Loaded) -> Self {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let Loaded { config, files } = loaded;
        let handle = ReloadHandle(sender);
        Self {
            source,
            running: Arc::new(config),
            files,
            kept: Vec::new(),
            requests,
            handle,
        }
    }

    /// For those who may ask for a reload.
    pub fn handle(&self) -> ReloadHandle {
        self.handle.clone()
    }

    /// The configuration in force.
    pub fn running(&self) -> Arc<Config> {
        Arc::clone(&self.running)
    }

    /// Reloads whenever there is reason to, until told to stop.
    ///
    /// `apply` takes the new configuration over, whole, or changes nothing and says why. It
    /// also runs when only the content of certificates has changed. `observe` is told of
    /// each outcome, for metrics.
    pub async fn run(
        mut self,
        mut hangups: Hangups,
        stopping: CancellationToken,
        mut apply: impl FnMut(Arc<Config>) -> Result<(), String> + Send,
        mut observe: impl FnMut(&Outcome) + Send,
    ) {
        let mut watch = Watch::new(self.watched());
        let mut last = Outcome::Unchanged;
        loop {
            let (cause, reply) = tokio::select! {
                () = stopping.cancelled() => return,
                () = hangups.next() => ("signal", None),
                Some(reply) = self.requests.recv() => ("request", Some(reply)),
                cause = watch.changed() => (cause, None),
            };
            let outcome = self.reload(&mut apply);
            // A file that stays wrong is not news each time the poll looks at it.
            if cause != POLL || outcome != last {
                if matches!((&last, &outcome), (Outcome::Refused(_), Outcome::Unchanged)) {
                    info!(cause, "configuration is again the one in force");
                }
                log(&outcome, cause);
                observe(&outcome);
            }
            last.clone_from(&outcome);
            watch.follow(self.watched());
            if let Some(reply) = reply {
                // Whoever asked may have gone away meanwhile.
                let _ = reply.send(outcome);
            }
        }
    }

    /// Reads, checks, compares and applies, once.
    pub fn reload(
        &mut self,
        apply: &mut (impl FnMut(Arc<Config>) -> Result<(), String> + ?Sized),
    ) -> Outcome {
        let Loaded { mut config, files } = match self.source.load() {
            Ok(loaded) => loaded,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let kept = keep_fixed(&self.running, &mut config);
        let content_changed = self.named_files(&files) != self.named_files(&self.files);
        if config == *self.running && !content_changed {
            self.files = files;
            // Told once, not each time the file is looked at.
            if kept == self.kept {
                return Outcome::Unchanged;
            }
            self.kept.clone_from(&kept);
            let changed = Vec::new();
            return Outcome::Applied { changed, kept };
        }
        let mut changed = changes::changed_keys(&self.running, &config);
        changed.extend(self.renewed(&files));
        let config = Arc::new(config);
        if let Err(reason) = apply(Arc::clone(&config)) {
            return Outcome::Refused(reason);
        }
        self.running = config;
        self.files = files;
        self.kept.clone_from(&kept);
        Outcome::Applied { changed, kept }
    }

    /// Files whose content matters beyond what was read into the settings. The
    /// configuration file itself is compared as settings: a comment is no change.
    fn named_files(&self, files: &BTreeMap<PathBuf, u64>) -> BTreeMap<PathBuf, u64> {
        let is_other = |path: &PathBuf| Some(path) != self.source.file.as_ref();
        files
            .iter()
            .filter(|(path, _)| is_other(path))
            .map(|(path, print)| (path.clone(), *print))
            .collect()
    }

    /// Named files that were read before and have another content now.
    fn renewed(&self, files: &BTreeMap<PathBuf, u64>) -> Vec<String> {
        let before = self.named_files(&self.files);
        let is_renewed =
            |(path, print): &(&PathBuf, &u64)| before.get(*path).is_some_and(|old| old != *print);
        files
            .iter()
            .filter(is_renewed)
            .map(|(path, _)| path.display().to_string())
            .collect()
    }

    fn watched(&self) -> Vec<PathBuf> {
        let mut watched: Vec<_> = self.files.keys().cloned().collect();
        watched.extend(
            self.source
                .file
                .iter()
                .filter(|file| !self.files.contains_key(*file))
                .cloned(),
        );
        watched
    }
}

/// Says what came of it.
fn log(outcome: &Outcome, cause: &'static str) {
    match outcome {
        // A poll or a stray event of the file system that finds nothing is no news.
        Outcome::Unchanged if matches!(cause, "signal" | "request") => {
            info!(cause, "configuration is unchanged");
        }
        Outcome::Unchanged => {}
        Outcome::Applied { changed, kept } => {
            info!(
                cause,
                changed = changed.join(", "),
                "configuration reloaded"
            );
            for key in kept {
                warn!(
                    key,
                    "key was changed but keeps its value until the next start"
                );
            }
        }
        Outcome::Refused(reason) => {
            error!(
                cause,
                reason, "configuration was refused, the old one stays"
            );
        }
    }
}

/// Whether a key keeps its value until the next start.
pub(crate) fn is_fixed(key: &str) -> bool {
    FIXED.iter().any(|fixed| {
        key.strip_prefix(fixed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Names keys that can't be changed while running, and puts their running values into a new
/// configuration.
macro_rules! fixed {
    ($($first:ident $(. $rest:ident)*),+ $(,)?) => {
        const FIXED: &[&str] = &[$(concat!(stringify!($first) $(, ".", stringify!($rest))*)),+];

        /// Keeps what can't be changed; returns the keys that differed.
        fn keep_fixed(running: &Config, new: &mut Config) -> Vec<&'static str> {
            let mut differing = Vec::new();
            $(
                if new.$first$(.$rest)* != running.$first$(.$rest)* {
                    new.$first$(.$rest)*.clone_from(&running.$first$(.$rest)*);
                    differing.push(concat!(stringify!($first) $(, ".", stringify!($rest))*));
                }
            )+
            differing
        }
    };
}

fixed!(
    data_dir,
    workers,
    log.format,
    listeners.main.address,
    listeners.main.tls,
    listeners.main.proxy_protocol,
    listeners.admin.address,
    listeners.admin.tls,
    listeners.relay.address,
    listeners.live.address,
    limits.handshakes_pending,
    websocket.compression.level,
    websocket.compression.min_size,
    bus,
    live.enabled,
    market,
    feature_flags,
    relay.enabled,
    relay.auth,
    relay.buffer,
    relay.breaker,
    relay.dedup_window,
    relay.dedup_max,
    relay.message_size_max,
    relay.history,
    relay.connections_max,
    relay.ping_interval,
    relay.pong_timeout,
    relay.queue,
    relay.metrics_log_interval,
    store,
    proxy.enabled,
    proxy.pool,
    proxy.access_log,
    proxy.keep_alive,
    proxy.body_timeout,
    proxy.http2,
    quantum.tls,
    quantum.event_log,
);

/// Requests for a reload that may wait; more wait outside.
const REQUESTS_MAX: usize = 8;

#[cfg(test)]
mod tests;
