//! quinn, a bidirectional stream per call, without gRPC: what it adds would only slow it down.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use lifecycle::CancellationToken;
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use rcgen::CertifiedKey;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;

use super::Transport;
use crate::quantum::load::Caller;

/// quinn with one of its congestion controls, and the identity of its server.
pub(crate) struct Quinn {
    is_bbr: bool,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Quinn {
    pub(crate) fn new(is_bbr: bool) -> anyhow::Result<Self> {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([NAME.to_owned()]).context("no certificate")?;
        Ok(Self {
            is_bbr,
            certificate: cert.der().clone(),
            key: PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()),
        })
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let control: Arc<dyn ControllerFactory + Send + Sync> = match self.is_bbr {
            true => Arc::new(BbrConfig::default()),
            false => Arc::new(CubicConfig::default()),
        };
        let mut transport = TransportConfig::default();
        transport
            .congestion_controller_factory(control)
            // Calls in flight are what an open loop piles up; none shall wait for a stream.
            .max_concurrent_bidi_streams(VarInt::from_u32(100_000));
        Arc::new(transport)
    }
}

impl Transport for Quinn {
    type Caller = QuinnCaller;

    async fn serve(
        &self,
        address: IpAddr,
        listening: oneshot::Sender<SocketAddr>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(self.transport());
        let endpoint = endpoint(address, Some(config))?;
        // Whoever waits may have given up.
        let _ = listening.send(endpoint.local_addr()?);
        let incoming = async { endpoint.accept().await?.await.ok() };
        let connection = tokio::select! {
            incoming = incoming => incoming.context("nobody connected over QUIC")?,
            () = stop.cancelled() => return Ok(()),
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                streams = connection.accept_bi() => {
                    let Ok((mut send, mut receive)) = streams else { return Ok(()) };
                    // A call that breaks off is missed by its caller.
                    tokio::task::spawn(async move {
                        let body = receive.read_to_end(BODY_MAX).await?;
                        send.write_all(&body).await?;
                        send.finish()?;
                        anyhow::Ok(())
                    });
                }
            }
        }
    }

    async fn connect(&self, from: IpAddr, to: SocketAddr) -> anyhow::Result<QuinnCaller> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(self.transport());
        let endpoint = endpoint(from, None)?;
        let connection = endpoint
            .connect_with(config, to, NAME)?
            .await
            .context("quinn did not connect")?;
        Ok(QuinnCaller {
            connection,
            _endpoint: endpoint,
        })
    }
}

/// A connection and the endpoint that it needs.
pub(crate) struct QuinnCaller {
    connection: Connection,
    _endpoint: Endpoint,
}

impl Caller for QuinnCaller {
    async fn call(&self, body: Bytes) -> anyhow::Result<()> {
        let length = body.len();
        let (mut send, mut receive) = self.connection.open_bi().await?;
        send.write_chunk(body).await?;
        send.finish()?;
        let answer = receive.read_to_end(BODY_MAX).await?;
        anyhow::ensure!(answer.len() == length, "an answer is not what was sent");
        Ok(())
    }
}

fn endpoint(address: IpAddr, server: Option<ServerConfig>) -> anyhow::Result<Endpoint> {
    let socket = UdpSocket::bind((address, 0)).context("UDP socket was not bound")?;
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new(EndpointConfig::default(), server, socket, runtime)
        .context("quinn's endpoint was not made")
}

const NAME: &str = "echo";

/// More than any body here.
const BODY_MAX: usize = 1 << 20;
