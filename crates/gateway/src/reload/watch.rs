//! Tells when one of some files has changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// The cause that is no event, only the time to look again.
pub(super) const POLL: &str = "poll";

/// Follows files by watching the folders they are in.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    /// `None` if the system would not watch for us; then there is only the poll.
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
}

impl Watch {
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        let watcher = watcher(&files, &changed);
        // A change between the reading of the files and this moment was reported to nobody.
        changed.notify_one();
        Self {
            files,
            watcher,
            changed,
        }
    }

    /// Follows these files from now on.
    pub(super) fn follow(&mut self, files: Vec<PathBuf>) {
        if files != self.files {
            *self = Self::new(files);
        }
    }

    /// Waits until something may have changed, and then until it is quiet. Returns the
    /// cause. Nothing is lost if the future is dropped before it is ready.
    pub(super) async fn changed(&self) -> &'static str {
        if self.files.is_empty() {
            return std::future::pending().await;
        }
        let poll = if self.watcher.is_some() {
            POLL_PERIOD
        } else {
            POLL_PERIOD_ALONE
        };
        if timeout(poll, self.changed.notified()).await.is_err() {
            return POLL;
        }
        // A file is often written in several steps; but whoever writes all the time shall
        // not put the reload off for good.
        for _ in 0..QUIET_TRIES {
            tokio::select! {
                () = sleep(QUIET) => break,
                () = self.changed.notified() => {}
            }
        }
        "file"
    }
}

fn watcher(files: &[PathBuf], changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let names: BTreeSet<OsString> = files
        .iter()
        .filter_map(|file| file.file_name())
        .map(ToOwned::to_owned)
        .collect();
    let notify = Arc::clone(changed);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        match event {
            Ok(event) if !concerns(&event, &names) => {}
            // What the watcher could not follow may have been a change as well.
            Ok(_) | Err(_) => notify.notify_one(),
        }
    });
    let watched = watcher.and_then(|mut watcher| {
        let folders: BTreeSet<&Path> = files.iter().map(|file| folder(file)).collect();
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    match watched {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            warn!(%error, poll = ?POLL_PERIOD_ALONE, "files can't be watched, they are polled instead");
            None
        }
    }
}

/// Reading is no change; and in the same folder others may write what does not concern us.
/// Kubernetes replaces `..data`, through which the files themselves are links.
fn concerns(event: &notify::Event, names: &BTreeSet<OsString>) -> bool {
    let is_ours = |path: &PathBuf| {
        path.file_name()
            .is_none_or(|name| names.contains(name) || name.as_encoded_bytes().starts_with(b".."))
    };
    !matches!(event.kind, EventKind::Access(_))
        && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(is_ours))
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// How long nothing must happen before the files are read.
const QUIET: Duration = Duration::from_millis(200);

/// How many times a further change may put the reading off.
const QUIET_TRIES: u32 = 10;

/// How often files are read again although no change was reported.
const POLL_PERIOD: Duration = Duration::from_secs(60);

/// How often, if changes can't be reported.
const POLL_PERIOD_ALONE: Duration = Duration::from_secs(5);
