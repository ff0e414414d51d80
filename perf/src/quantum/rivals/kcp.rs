//! KCP in its fastest mode: no congestion control worth the name, an ordered stream.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use lifecycle::CancellationToken;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

use super::Transport;
use super::ordered::{self, OrderedCaller};

/// KCP as tokio_kcp does it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kcp;

impl Transport for Kcp {
    type Caller = OrderedCaller;

    async fn serve(
        &self,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut listener = KcpListener::bind(config(), (address, 0))
            .await
            .context("KCP does not listen")?;
        // Whoever waits may have given up.
        let _ = listening.send(listener.local_addr()?);
        let echo = async {
            let (stream, _) = listener.accept().await?;
            ordered::echo(stream).await
        };
        tokio::select! {
            ended = echo => ended,
            () = stop.cancelled() => Ok(()),
        }
    }

    async fn connect(&self, from: IpAddr, to: SocketAddr) -> anyhow::Result<OrderedCaller> {
        let socket = UdpSocket::bind((from, 0))
            .await
            .context("UDP socket was not bound")?;
        socket.connect(to).await?;
        let stream = KcpStream::connect_with_socket(&config(), socket, to).await?;
        Ok(OrderedCaller::new(stream))
    }
}

fn config() -> KcpConfig {
    KcpConfig {
        nodelay: KcpNoDelayConfig::fastest(),
        wnd_size: (1024, 1024),
        flush_write: true,
        flush_acks_input: true,
        stream: true,
        ..KcpConfig::default()
    }
}
