//! The relay, from client to agent and back.
//!
//! Three commands share what is here: [`echo`] has messages go to an agent and come back at a
//! constant rate, [`agents`] has ten thousand agents dialled when they are needed, [`backlog`]
//! lets messages pile up for an agent that is away. Agents and clients speak through raw
//! sockets, so that they cost little of the cores that they share with the gateway.

mod agent;
pub(crate) mod agents;
pub(crate) mod backlog;
mod clients;
pub(crate) mod echo;

pub(crate) use agent::{Agent, Manner};

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;

use crate::outbox::{data_folder, is_memory};
use crate::proc::{self, Machine};
use crate::report::{Void, say};
use crate::server_process::{Server, tidegate_executable};

/// What all three commands take.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Where the gateway stores: a folder on the disk that is to be measured. Default: beside
    /// this program.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Tidegate's executable; without it `cargo build --release -p tidegate` makes one.
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
}

impl Place {
    /// Says what is measured where; the executable.
    fn prepare(&self, void: &mut Void) -> anyhow::Result<PathBuf> {
        say(&proc::describe());
        proc::files_max();
        let folder = data_folder(self.folder.as_deref())?;
        say(&format!("records are stored in {}", folder.display()));
        if tempfile::env::override_temp_dir(&folder).is_err() {
            anyhow::bail!("temporary folders are elsewhere already");
        }
        void.when(is_memory(&folder)?, || {
            format!("{} is not on a disk", folder.display())
        });
        tidegate_executable(self.tidegate.as_deref())
    }
}

/// What the outbox has spent on syncs so far.
#[derive(Debug, Clone, Copy)]
struct Syncs {
    count: f64,
    seconds: f64,
}

impl Syncs {
    fn of(server: &Server) -> anyhow::Result<Self> {
        Ok(Self {
            count: server.metric("tidegate_outbox_syncs_total")?,
            seconds: server.metric("tidegate_outbox_sync_seconds_total")?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            count: self.count - before.count,
            seconds: self.seconds - before.seconds,
        }
    }

    fn mean_ms(self) -> f64 {
        1_000.0 * self.seconds / self.count.max(1.0)
    }
}

fn void_of_machine(void: &mut Void, machine: Machine) {
    let steal = machine.steal_percent_since();
    void.when(steal > 2.0, || {
        format!("{steal:.1} % of CPU time was stolen")
    });
}

fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

/// Files below a folder.
fn files_below(folder: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("folder {} was not read", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        count += match entry.file_type()?.is_dir() {
            true => files_below(&entry.path())?,
            false => 1,
        };
    }
    Ok(count)
}

/// Open descriptors of a process.
fn descriptors(pid: u32) -> anyhow::Result<usize> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).context("descriptors were not read")?;
    Ok(open.count())
}
