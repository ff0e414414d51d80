//! Small servers to connect to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::PATIENCE;
use testkit::certificate::Certificate;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use upstream::http_service::{
    Http1Link, Link, Origin, Pool, PoolFigures, PoolSettings, Scheme, Stream, TlsTerms, Versions,
};

/// A server that answers each request of HTTP/1.1 with `ok`.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Closes all connections that are open.
    pub(crate) close: Arc<Notify>,
    /// Says something unasked on all connections that are open.
    pub(crate) blurt: Arc<Notify>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    pub(crate) async fn start_tls(certificate: &Certificate, alpn: &[&str]) -> Self {
        Self::serve(Some(acceptor(certificate, alpn))).await
    }

    async fn serve(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            close: Arc::default(),
            blurt: Arc::default(),
        };
        let (accepted, close, blurt) = (
            Arc::clone(&server.accepted),
            Arc::clone(&server.close),
            Arc::clone(&server.blurt),
        );
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (close, blurt) = (Arc::clone(&close), Arc::clone(&blurt));
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(tls) = acceptor.accept(tcp).await {
                                answer(tls, &close, &blurt).await;
                            }
                        }
                        None => answer(tcp, &close, &blurt).await,
                    }
                });
            }
        });
        server
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, close: &Notify, blurt: &Notify) {
    let mut received = Vec::new();
    loop {
        tokio::select! {
            read = stream.read_buf(&mut received) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                if received.ends_with(b"\r\n\r\n") {
                    received.clear();
                    stream.write_all(ANSWER).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
            () = close.notified() => {
                stream.shutdown().await.unwrap();
                return;
            }
            () = blurt.notified() => stream.write_all(b"HTTP/1.1 408 \r\n\r\n").await.unwrap(),
        }
    }
}

/// A server of HTTP/2 that leaves its requests open until it is told to answer.
pub(crate) struct Server2 {
    pub(crate) address: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Lets all open connections go away gracefully.
    pub(crate) leave: Arc<Notify>,
}

impl Server2 {
    pub(crate) async fn start(streams_max: u32, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            leave: Arc::default(),
        };
        let (accepted, leave) = (Arc::clone(&server.accepted), Arc::clone(&server.leave));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (tls, leave) = (tls.clone(), Arc::clone(&leave));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            serve2(tls.accept(tcp).await.unwrap(), streams_max, &leave).await;
                        }
                        None => serve2(tcp, streams_max, &leave).await,
                    }
                });
            }
        });
        server
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve2(stream: impl AsyncRead + AsyncWrite + Unpin, streams_max: u32, leave: &Notify) {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(streams_max)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let mut open = Vec::new();
    loop {
        tokio::select! {
            request = connection.accept() => match request {
                Some(Ok((request, mut respond))) => {
                    let is_quick = request.uri().path() == "/quick";
                    let answer = http::Response::new(());
                    let stream = respond.send_response(answer, is_quick).unwrap();
                    open.push((request, respond, stream));
                }
                _ => return,
            },
            () = leave.notified() => connection.graceful_shutdown(),
        }
    }
}

pub(crate) fn acceptor(certificate: &Certificate, alpn: &[&str]) -> TlsAcceptor {
    let leaf = CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A plain origin that may be private.
pub(crate) fn origin(address: SocketAddr) -> Origin {
    Origin {
        scheme: Scheme::Http,
        host: address.ip().to_string(),
        port: address.port(),
        authority: address.to_string(),
        versions: Versions::Negotiated,
        allow_private: true,
        tls: TlsTerms::default(),
        dial_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(90),
    }
}

/// An origin behind TLS that trusts this certificate.
pub(crate) fn sealed(address: SocketAddr, certificate: &Certificate) -> Origin {
    Origin {
        scheme: Scheme::Https,
        host: "localhost".into(),
        tls: TlsTerms {
            roots: Some(certificate.certificate.clone()),
            server_name: None,
        },
        ..origin(address)
    }
}

/// A pool and the group of its tasks.
pub(crate) struct Bench {
    pub(crate) pool: Pool,
    pub(crate) tasks: Tasks,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut PoolSettings)) -> Self {
        let mut settings = PoolSettings::default();
        change(&mut settings);
        let tasks = Tasks::new();
        let pool = Pool::new(settings, Clock::start(), tasks.clone());
        Self { pool, tasks }
    }

    pub(crate) async fn take(&self, origin: &Arc<Origin>) -> Http1Link {
        http1(self.pool.take(origin, false).await.unwrap())
    }

    /// Waits until the figures are as described.
    #[track_caller]
    pub(crate) fn until(
        &self,
        is_so: impl Fn(&PoolFigures) -> bool,
    ) -> impl Future<Output = PoolFigures> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let figures = self.pool.figures();
                if is_so(&figures) {
                    return figures;
                }
                assert!(Instant::now() < deadline, "at {caller}: {figures:?}");
                tokio::task::yield_now().await;
            }
        }
    }
}

pub(crate) fn http1(link: Link) -> Http1Link {
    match link {
        Link::Http1(link) => link,
        Link::Http2(link) => panic!("{link:?}"),
        Link::Quantum(link) => panic!("{link:?}"),
    }
}

/// One request and its answer.
pub(crate) async fn ask(link: &mut Http1Link) {
    link.stream.write_all(REQUEST).await.unwrap();
    link.stream.flush().await.unwrap();
    let mut answer = vec![0; ANSWER.len()];
    link.stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, ANSWER);
}

/// The port on our side, which tells connections apart.
pub(crate) fn port(link: &Http1Link) -> u16 {
    let tcp: &TcpStream = match &link.stream {
        Stream::Plain(tcp) => tcp,
        Stream::Tls(tls) => tls.get_ref().0,
    };
    tcp.local_addr().unwrap().port()
}

pub(crate) fn count(counts: &[(&str, u64)], name: &str) -> u64 {
    let found = counts.iter().find(|(known, _)| *known == name);
    found.expect("a name that is counted").1
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
