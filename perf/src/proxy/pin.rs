//! Which core a process runs on: the subject has one, everybody else the other.

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two cores of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// The subject's.
    pub(crate) subject: usize,
    /// The generator's and the origin's.
    pub(crate) others: usize,
}

impl Cores {
    /// The first two that this process may run on.
    pub(crate) fn pick() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("allowed cores are not known")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let mut next = || cores.next().context("two cores are needed");
        Ok(Self {
            subject: next()?,
            others: next()?,
        })
    }
}

/// Runs `start` with this thread on `core`, so that a process started there stays there with
/// all its threads; the thread goes back to `after`.
pub(crate) fn started_on<T>(
    core: usize,
    after: usize,
    start: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    stay_on(core)?;
    let started = start();
    stay_on(after)?;
    started
}

/// Keeps this thread on a core.
pub(crate) fn stay_on(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("thread was not pinned to core {core}"))
}
