//! How much memory there is, and how much of it is used.

use std::path::Path;

/// Share of what is offered that is used where nothing is configured.
const SHARE: f64 = 0.8;

/// Four fifths of what the machine or the control group offers, in bytes; 0 (no limit)
/// where that can't be told.
pub(super) fn default_limit() -> u64 {
    let offered = offered(&|path| std::fs::read_to_string(path).ok());
    (offered.unwrap_or(0) as f64 * SHARE) as u64
}

/// Memory of this process that is resident, in bytes; 0 where that can't be told.
pub(super) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").ok();
    status.and_then(|text| kib(&text, "VmRSS:")).unwrap_or(0)
}

/// Processor time that this process has used, in seconds; 0 where that can't be told.
pub(super) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    ticks(&stat).map_or(0.0, |ticks| ticks as f64 / TICKS_PER_SECOND)
}

/// Time in user and system mode: the 14th and 15th field. The second, the name, may have
/// anything in it, but it ends with the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(str::parse);
    let (user, system): (u64, u64) = (fields.next()?.ok()?, fields.next()?.ok()?);
    user.checked_add(system)
}

/// What Linux counts processor time in towards programs, on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The least of the machine's memory and the limits of all control groups around this
/// process: a limit further up holds for everything below it.
fn offered(read: Read<'_>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| kib(&text, "MemTotal:"));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| group_limits(line, read));
    machine.into_iter().chain(limits).min()
}

/// The limits of one line of `/proc/self/cgroup`, `ID:CONTROLLERS:PATH`. In a container
/// the path may be that of the host, of which only the root is mounted.
fn group_limits(line: &str, read: Read<'_>) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    Path::new(group.trim_start_matches('/'))
        .ancestors()
        .filter_map(|group| read(&Path::new(root).join(group).join(file)))
        .filter_map(|text| text.trim().parse().ok())
        .collect()
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::{offered, ticks};

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 9 1 2";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks(""), None);
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[track_caller]
    fn assert_offered(files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &std::path::Path| {
            let path = path.to_str()?.trim_end_matches('/');
            let found = files.iter().find(|(name, _)| *name == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(offered(&read), expected);
    }

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:    8 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_tightest_group_counts() {
        assert_offered(&[MACHINE], Some(8_192));
        let unlimited = ("/sys/fs/cgroup/memory.max", "max\n");
        let container = ("/proc/self/cgroup", "0::/\n");
        assert_offered(&[MACHINE, container, unlimited], Some(8_192));
        let limited = ("/sys/fs/cgroup/memory.max", "4096\n");
        assert_offered(&[MACHINE, container, limited], Some(4_096));
        let nested = ("/proc/self/cgroup", "0::/pod/box\n");
        let pod = ("/sys/fs/cgroup/pod/memory.max", "2048\n");
        let inner = ("/sys/fs/cgroup/pod/box/memory.max", "max\n");
        assert_offered(&[MACHINE, nested, limited, pod, inner], Some(2_048));
        assert_offered(&[], None);
    }

    #[test]
    fn the_first_version_of_groups_is_understood() {
        let groups = (
            "/proc/self/cgroup",
            "12:cpu,cpuacct:/box\n9:memory:/box\n0::/\n",
        );
        let limit = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1024\n");
        assert_offered(&[MACHINE, groups, limit], Some(1_024));
    }
}
