//! A server on a free port, and a client that speaks just enough HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin::{HttpMetrics, ListenerLimits, Readiness, Settings, State};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake::Fake;

pub(crate) const KEY: &str = "the-api-key";
pub(crate) const TOKEN: &str = "tga_right";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) settings: Arc<arc_swap::ArcSwap<Settings>>,
    pub(crate) readiness: Readiness,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<()>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Settings {
            api_keys: admin::ApiKeys::new([KEY]),
            ..Settings::default()
        })
        .await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::with_limits(settings, ListenerLimits::default()).await
    }

    pub(crate) async fn with_limits(settings: Settings, limits: ListenerLimits) -> Self {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::new(&mut registry);
        let fake = Arc::new(Fake::default());
        let settings = Arc::new(arc_swap::ArcSwap::from_pointee(settings));
        let readiness = Readiness::default();
        let router = admin::router(State {
            control: Arc::clone(&fake),
            settings: Arc::clone(&settings),
            tokens: Arc::new(|token| (token == TOKEN).then(|| "ops".to_owned())),
            readiness: readiness.clone(),
            registry: Arc::new(registry),
            metrics,
            clock: lifecycle::Clock::start(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let served = tokio::spawn(admin::serve(listener, router, limits, shutdown));
        Self {
            address,
            fake,
            settings,
            readiness,
            stop: Some(stop),
            served,
        }
    }

    /// Sends a request as it stands and reads to the end of the connection.
    pub(crate) async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> Answer {
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    /// A call of the server API, with the key.
    pub(crate) async fn call(&self, method: &str, body: &serde_json::Value) -> Answer {
        let key = format!("x-api-key: {KEY}");
        self.send(
            "POST",
            &format!("/api/{method}"),
            &[&key],
            &body.to_string(),
        )
        .await
    }

    /// A request of an operator, with the token.
    pub(crate) async fn operate(&self, method: &str, path: &str, body: &str) -> Answer {
        let token = format!("authorization: Bearer {TOKEN}");
        self.send(method, path, &[&token], body).await
    }

    /// A request of an operator for the version that was seen.
    pub(crate) async fn operate_if(
        &self,
        version: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> Answer {
        let token = format!("authorization: Bearer {TOKEN}");
        let condition = format!("if-match: {version}");
        self.send(method, path, &[&token, &condition], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let read = tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("answer within the deadline");
    read.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
