//! Who carries the calls: each a server and a client of the same echo, one connection.

mod kcp;
mod ordered;
mod quinn;
mod tcp;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use lifecycle::CancellationToken;
use tokio::sync::oneshot;

pub(crate) use self::kcp::Kcp;
pub(crate) use self::quinn::Quinn;
pub(crate) use self::tcp::{Tcp, bulk_socket, listen};
use super::load::Caller;

/// A transport with an echo behind it. Both functions run on the thread, and so in the network
/// namespace, whose sockets they may use.
pub(crate) trait Transport: Sync {
    type Caller: Caller;

    /// Serves at an address of this end, which it tells, until it is stopped.
    fn serve(
        &self,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>>;

    /// Connects from an address of this end.
    fn connect(
        &self,
        from: IpAddr,
        to: SocketAddr,
    ) -> impl Future<Output = anyhow::Result<Self::Caller>>;
}

/// The transports that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// tonic over Quantum, a stream per call.
    Quantum,
    /// Quantum, a bare stream per call, as quinn has it; only if asked for.
    QuantumBare,
    /// tonic over TCP with CUBIC.
    TcpCubic,
    /// tonic over TCP with BBR.
    TcpBbr,
    /// quinn with CUBIC, a stream per call.
    QuinnCubic,
    /// quinn with BBR, a stream per call.
    QuinnBbr,
    /// KCP in its fastest mode, one stream.
    Kcp,
}

impl Kind {
    /// Ours first.
    pub(crate) const ALL: &[Self] = &[
        Self::Quantum,
        Self::TcpCubic,
        Self::TcpBbr,
        Self::QuinnCubic,
        Self::QuinnBbr,
        Self::Kcp,
    ];

    /// What the figures are about.
    pub(crate) const OURS: Self = Self::Quantum;

    /// In the order of the last line.
    pub(crate) const RIVALS: [Self; 5] = [
        Self::TcpCubic,
        Self::TcpBbr,
        Self::QuinnBbr,
        Self::Kcp,
        Self::QuinnCubic,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quantum => "quantum",
            Self::QuantumBare => "quantum_bare",
            Self::TcpCubic => "tcp_cubic",
            Self::TcpBbr => "tcp_bbr",
            Self::QuinnCubic => "quinn_cubic",
            Self::QuinnBbr => "quinn_bbr",
            Self::Kcp => "kcp",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Quantum | Self::QuantumBare)
    }

    /// Whether a link of datagrams carries it.
    pub(crate) fn is_datagrams(self) -> bool {
        !matches!(self, Self::TcpCubic | Self::TcpBbr)
    }
}
