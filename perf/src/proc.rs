//! What the kernel says about a process and about the machine.

use std::fs;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit};

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident in all.
    pub(crate) rss: u64,
    /// Resident and anonymous: heap and stacks, without the executable's pages.
    pub(crate) anonymous: u64,
}

/// Memory that sockets take in the kernel, both ends and all processes, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kernel {
    /// All slab caches.
    pub(crate) slab: u64,
    /// Pages held by TCP buffers.
    pub(crate) buffers: u64,
}

/// CPU time of the machine since boot, in ticks of all cores together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Machine {
    total: u64,
    idle: u64,
    steal: u64,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or(0);
        Self {
            total: fields.iter().take(8).sum(),
            idle: field(3) + field(4),
            steal: field(7),
        }
    }

    /// Percentage of all CPU time since `self` that the hypervisor gave to others.
    pub(crate) fn steal_percent_since(self) -> f64 {
        let now = Self::now();
        let total = now.total.saturating_sub(self.total).max(1);
        100.0 * now.steal.saturating_sub(self.steal) as f64 / total as f64
    }

    /// Percentage of all CPU time since `self` that went neither to idling nor into
    /// these seconds: what else ran on this machine.
    pub(crate) fn foreign_percent_since(self, known_seconds: f64) -> f64 {
        let now = Self::now();
        let total = now.total.saturating_sub(self.total).max(1) as f64;
        let idle = now.idle.saturating_sub(self.idle) as f64;
        let known = known_seconds * rustix::param::clock_ticks_per_second() as f64;
        (100.0 * (total - idle - known) / total).max(0.0)
    }
}

/// User and system time of all threads of a process so far, in seconds.
/// The kernel counts in ticks, of which there are usually 100 per second.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    cpu_seconds_at(&format!("/proc/{pid}/stat"))
}

/// The same of the calling thread.
pub(crate) fn cpu_seconds_of_thread() -> anyhow::Result<f64> {
    cpu_seconds_at("/proc/thread-self/stat")
}

fn cpu_seconds_at(path: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("{path} was not read"))?;
    // The second field is the command in parentheses and may hold anything.
    let (_, rest) = text
        .rsplit_once(')')
        .with_context(|| format!("{path} has no command"))?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (user, system) = ticks()
        .zip(ticks())
        .with_context(|| format!("{path} has no CPU times"))?;
    Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A process and its children, as they are now.
pub(crate) fn with_children(pid: u32) -> Vec<u32> {
    let is_child = |candidate: &u32| {
        let text = fs::read_to_string(format!("/proc/{candidate}/stat")).unwrap_or_default();
        let parent = text
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        parent == Some(pid)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten();
    let children = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(is_child);
    [pid].into_iter().chain(children).collect()
}

/// Memory of a process.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} was not read"))?;
    Ok(Memory {
        rss: kilobytes(&text, "VmRSS:"),
        anonymous: kilobytes(&text, "RssAnon:"),
    })
}

/// Socket memory of the machine.
pub(crate) fn kernel() -> Kernel {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let pages = sockstat
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .and_then(|line| line.split_once(" mem "))
        .and_then(|(_, pages)| pages.trim().parse::<u64>().ok())
        .unwrap_or(0);
    Kernel {
        slab: kilobytes(&meminfo, "Slab:"),
        buffers: pages * rustix::param::page_size() as u64,
    }
}

/// Raises the limit of open files as far as it goes and returns it. Processes
/// started later inherit it.
pub(crate) fn files_max() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// One line about the machine, for the head of a report.
pub(crate) fn describe() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Linux {}, {cores} cores, {} files per process; generator and servers share them",
        release.trim(),
        files_max(),
    )
}

fn kilobytes(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .map_or(0, |number| number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_cpu_time() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.rss >= memory.anonymous && memory.anonymous > 0);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert_eq!(
            with_children(std::process::id()).first(),
            Some(&std::process::id())
        );
    }
}
