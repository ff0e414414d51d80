//! Tasks and threads with a name and an owner.

use std::future::Future;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// A group of tasks that stop together. Clones share the group.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// A thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("thread {name:?} could not be started")]
pub struct ThreadError {
    name: String,
    source: std::io::Error,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task under a name. It should end soon after [`Tasks::stopping`] fires.
    #[expect(clippy::disallowed_methods, reason = "this is the place that spawns")]
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(
            self.tracker
                .track_future(task)
                .instrument(tracing::debug_span!("task", name)),
        );
    }

    /// Runs something that blocks for a while, on the runtime's bounded pool.
    #[expect(clippy::disallowed_methods, reason = "this is the place that spawns")]
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.tracker
            .track_future(tokio::task::spawn_blocking(work))
            .await
            .ok()
    }

    /// Fires when the group is asked to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Asks the tasks to stop and waits for them; `false` if some were still running
    /// when the grace was over.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_ok()
    }
}

/// Starts a named thread.
pub fn thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| ThreadError {
            name: name.to_owned(),
            source,
        })
}

/// The runtime for what is not the data path: handshakes, token checks, the admin
/// face. On Linux its threads yield to the workers (nice 5), so that a flood of
/// handshakes does not move the fan-out's latency.
pub fn background_runtime(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .max_blocking_threads(8)
        .thread_name("tidegate-io")
        .on_thread_start(yield_to_workers)
        .enable_all()
        .build()
}

fn yield_to_workers() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 5) {
        tracing::debug!(%error, "thread priority was not lowered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_end_when_asked_to() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("polite", async move { stopping.cancelled().await });
        assert_eq!(tasks.running(), 1);
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_reported() {
        let tasks = Tasks::new();
        tasks.spawn("stubborn", std::future::pending());
        assert!(!tasks.stop(Duration::from_secs(5)).await);
    }
}
