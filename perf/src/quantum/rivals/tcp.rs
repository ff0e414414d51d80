//! tonic over the kernel's TCP, with a congestion control that is named at both ends.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, ensure};
use futures_util::stream;
use hyper_util::rt::TokioIo;
use lifecycle::CancellationToken;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::service_fn;

use super::Transport;
use crate::quantum::echo::{EchoCaller, EchoClient, EchoServer, Echoes};

/// TCP with this congestion control, by the kernel's name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tcp(pub(crate) &'static str);

impl Transport for Tcp {
    type Caller = EchoCaller<Channel>;

    async fn serve(
        &self,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let listener = listen(address, self.0)?;
        // Whoever waits may have given up.
        let _ = listening.send(listener.local_addr()?);
        let incoming = stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(stream)
            });
            Some((accepted, listener))
        });
        Server::builder()
            // Calls in flight are what an open loop piles up; none shall wait for a stream.
            .max_concurrent_streams(STREAMS_MAX)
            .add_service(EchoServer::new(Echoes))
            .serve_with_incoming_shutdown(incoming, stop.cancelled())
            .await
            .context("echo over TCP ended")
    }

    async fn connect(&self, from: IpAddr, to: SocketAddr) -> anyhow::Result<Self::Caller> {
        let congestion = self.0;
        let connector = service_fn(move |_: Uri| async move {
            let stream = dial(from, to, congestion).await?;
            anyhow::Ok(TokioIo::new(stream))
        });
        let channel = Endpoint::try_from(format!("http://{to}"))?
            .buffer_size(STREAMS_MAX as usize)
            .connect_with_connector(connector)
            .await
            .context("tonic did not connect over TCP")?;
        Ok(EchoCaller(EchoClient::new(channel)))
    }
}

/// Listens with this congestion control, which connections inherit.
pub(crate) fn listen(address: IpAddr, congestion: &str) -> anyhow::Result<TcpListener> {
    let socket = bulk_socket(address, congestion)?;
    socket.listen(16)?;
    TcpListener::from_std(socket.into()).context("TCP does not listen")
}

/// A TCP socket at an address, with this congestion control; does not block.
pub(crate) fn bulk_socket(address: IpAddr, congestion: &str) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket
        .set_tcp_congestion(congestion.as_bytes())
        .with_context(|| format!("the kernel has no congestion control \"{congestion}\""))?;
    let set = socket.tcp_congestion()?;
    ensure!(
        set.starts_with(congestion.as_bytes()),
        "congestion control is {:?}",
        String::from_utf8_lossy(&set)
    );
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(address, 0).into())?;
    Ok(socket)
}

/// Connects with this congestion control.
async fn dial(from: IpAddr, to: SocketAddr, congestion: &str) -> anyhow::Result<TcpStream> {
    let socket = bulk_socket(from, congestion)?;
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(to)
        .await
        .context("TCP did not connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// More than any run has in flight.
const STREAMS_MAX: u32 = 100_000;
