//! The proxies that are driven: Tidegate, nginx, HAProxy, one thread each on the same core,
//! set up alike.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::origin::Origin;
use super::pin::{Cores, started_on};
use super::rivals::{self, Rival};
use crate::proc;
use crate::server_process::Server;

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    Tidegate,
    Nginx,
    Haproxy,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

/// Where proxies are started from and what they forward to.
pub(super) struct Place {
    pub(super) cores: Cores,
    pub(super) executable: PathBuf,
}

/// What a proxy forwards to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origins {
    /// What [`PATH`] leads to.
    pub(super) http1: SocketAddr,
    /// What [`PATH_HTTP2`] leads to.
    pub(super) http2: Option<SocketAddr>,
}

impl Origins {
    pub(super) fn of(http1: &Origin, http2: Option<&Origin>) -> Self {
        Self {
            http1: http1.address,
            http2: http2.map(|origin| origin.address),
        }
    }
}

/// A proxy that runs.
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    /// With all its processes.
    pids: Vec<u32>,
    process: Process,
}

/// Ends with this value.
enum Process {
    Tidegate(Server),
    Rival(Rival),
}

impl Subject {
    /// Starts a proxy on its core.
    pub(super) fn start(kind: Kind, place: &Place, origins: Origins) -> anyhow::Result<Self> {
        let Cores { subject, others } = place.cores;
        let process = started_on(subject, others, || {
            Ok(match kind {
                Kind::Tidegate => Process::Tidegate(tidegate(&place.executable, origins)?),
                Kind::Nginx => Process::Rival(rivals::nginx(origins)?),
                Kind::Haproxy => Process::Rival(rivals::haproxy(origins)?),
            })
        })?;
        let (pid, address) = match &process {
            Process::Tidegate(server) => (server.pid, server.address.socket),
            Process::Rival(rival) => (rival.pid, rival.address),
        };
        Ok(Self {
            kind,
            address,
            pids: proc::with_children(pid),
            process,
        })
    }

    /// User and system time so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|&pid| proc::cpu_seconds(pid)).sum()
    }

    /// Resident memory, in bytes.
    pub(super) fn rss(&self) -> anyhow::Result<u64> {
        let memories = self.pids.iter().map(|&pid| proc::memory(pid));
        memories.map(|memory| Ok(memory?.rss)).sum()
    }

    /// What it wrote that somebody should know.
    pub(super) fn warnings(&self) -> Vec<String> {
        match &self.process {
            Process::Tidegate(server) => server.warnings(),
            Process::Rival(rival) => rival.warnings(),
        }
    }
}

fn tidegate(executable: &Path, origins: Origins) -> anyhow::Result<Server> {
    let route = |path: &str, origin: SocketAddr, versions: &str| {
        format!(
            "  - {{ path: {path}, upstream: \"http://{origin}\", upstreamHttp: \"{versions}\", \
             accessRule: \"true\", allowPrivate: true, stripPath: true }}\n"
        )
    };
    // As many connections kept as nginx is told to keep; as many of HTTP/2 as all streams need.
    let mut more = format!(
        "workers: 1\nproxy:\n pool: {{ idle: 1024, idle_per_host: 1024, http2_per_host: 16 }}\n routes:\n{}",
        route(PATH, origins.http1, "1.1")
    );
    if let Some(origin) = origins.http2 {
        more.push_str(&route(PATH_HTTP2, origin, "2"));
    }
    Server::configured(executable, &more)
}

/// Leads to the origin for HTTP/1.1.
pub(super) const PATH: &str = "/-/bench";

/// Leads to the origin for HTTP/2.
pub(super) const PATH_HTTP2: &str = "/-/bench2";
