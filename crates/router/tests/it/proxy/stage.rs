//! A proxy, upstreams that do as they are told, and a client.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http1::{Chunk, Gone, Inflow, Known, Limits, ResponseHead};
use lifecycle::{Clock, Tasks};
use router::proxy::{
    Answer, Asked, Body, Caller, FiguresSnapshot, Installed, Origin, Proxy, Record, Route, Sources,
    Spending,
};
use serde_json::{Value, json};
use testkit::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use upstream::http_service::{Pool, PoolSettings};

/// What an upstream does with a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Does {
    /// Says this, and reads on.
    Says(&'static str),
    /// Says this, and closes.
    SaysAndCloses(&'static str),
    /// Closes without a word.
    Closes,
    /// Says nothing more, and notes when the other side leaves.
    Waits,
    /// Says this, and nothing more.
    SaysAndWaits(&'static str),
}

pub(crate) const OK: Does = Does::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
pub(crate) const BUSY: Does =
    Does::Says("HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy");

/// An upstream on a port of its own.
pub(crate) struct Upstream {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    pub(crate) left: Arc<AtomicUsize>,
    changed: watch::Receiver<u64>,
}

impl Upstream {
    /// Does these things with its requests, the last one with all that follow.
    pub(crate) async fn start(script: &[Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let left: Arc<AtomicUsize> = Arc::default();
        let (news, changed) = watch::channel(0);
        let script: Arc<[Does]> = script.into();
        let shared = (Arc::clone(&requests), Arc::clone(&left));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, left) = shared.clone();
                let (script, news) = (Arc::clone(&script), news.clone());
                tokio::spawn(async move {
                    serve(stream, &script, &requests, &left, &news).await;
                    news.send_modify(|changes| *changes += 1);
                });
            }
        });
        Self {
            url,
            requests,
            left,
            changed,
        }
    }

    /// One that nobody listens at.
    pub(crate) async fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.clone();
        let wait = async {
            while !is_so(self) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &[Does],
    requests: &Mutex<Vec<String>>,
    left: &AtomicUsize,
    news: &watch::Sender<u64>,
) {
    let mut received = Vec::new();
    loop {
        let Some(request) = next(&mut stream, &mut received).await else {
            return;
        };
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        news.send_modify(|changes| *changes += 1);
        let does = script.get(number).or(script.last()).copied().unwrap_or(OK);
        let said = match does {
            Does::Says(said) | Does::SaysAndCloses(said) | Does::SaysAndWaits(said) => said,
            Does::Closes => return,
            Does::Waits => "",
        };
        if stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
        match does {
            Does::Waits | Does::SaysAndWaits(_) => {
                while matches!(stream.read_buf(&mut received).await, Ok(1..)) {}
                left.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Does::SaysAndCloses(_) | Does::Closes => return,
            Does::Says(_) => {}
        }
    }
}

async fn next(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(received).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .split("\r\n")
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            let all = end + 4 + length;
            if received.len() >= all {
                received.drain(..all);
                return Some(text[..all].to_owned());
            }
        }
        if !matches!(stream.read_buf(received).await, Ok(1..)) {
            return None;
        }
    }
}

/// The client's side of a request.
#[derive(Default)]
pub(crate) struct Client {
    parts: Vec<&'static str>,
    /// It leaves once this says so.
    leaves: Option<watch::Receiver<bool>>,
    leaving: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    alarm: Option<(u64, Pin<Box<Sleep>>)>,
    clock: Option<Clock>,
}

impl Client {
    pub(crate) fn with(mut self, parts: &[&'static str]) -> Self {
        self.parts = parts.to_vec();
        self
    }
}

impl Inflow for Client {
    fn poll_chunk(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        if self.parts.is_empty() {
            return Poll::Ready(Ok(Chunk::End(None)));
        }
        let part = self.parts.remove(0);
        Poll::Ready(Ok(Chunk::Data(Bytes::from_static(part.as_bytes()))))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if let Some(mut leaves) = self.leaves.take() {
            self.leaving = Some(Box::pin(async move {
                leaves.wait_for(|leaves| *leaves).await.unwrap();
            }));
        }
        match &mut self.leaving {
            Some(leaving) => leaving.as_mut().poll(cx).map(|()| Gone::Left),
            None => Poll::Pending,
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()> {
        let now = self.clock.unwrap().mono_ms();
        if now >= at {
            return Poll::Ready(());
        }
        if self
            .alarm
            .as_ref()
            .is_none_or(|(rings, _)| at < *rings || *rings <= now)
        {
            let wait = Duration::from_millis(at - now);
            self.alarm = Some((
                at,
                Box::pin(tokio::time::sleep_until(Instant::now() + wait)),
            ));
        }
        if let Some((_, alarm)) = &mut self.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            // It rang a little early or for another one: look again.
            cx.waker().wake_by_ref();
            self.alarm = None;
        }
        Poll::Pending
    }

    fn interim(&mut self, _head: &ResponseHead) {}
}

/// An answer as the client has it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// It did not come to its end.
    pub(crate) is_cut: bool,
    answer: Vec<(String, String)>,
}

impl Got {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.answer.iter();
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

pub(crate) struct Stage {
    pub(crate) proxy: Arc<Proxy>,
    clock: Clock,
    _tasks: Tasks,
}

struct NoSources;

impl Sources for NoSources {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn secret(&self, _: &str) -> Option<String> {
        None
    }
}

impl Stage {
    /// A route `/-/a` to these upstreams, with other fields than the usual ones.
    pub(crate) fn new(upstreams: &[&str], more: Value) -> Self {
        let (clock, tasks) = (Clock::start(), Tasks::new());
        let pool = Pool::new(PoolSettings::default(), clock, tasks.clone());
        let spending = Arc::new(Spending::new(clock));
        let proxy = Arc::new(Proxy::new(clock, pool, spending, 1, 7));
        let stage = Self {
            proxy,
            clock,
            _tasks: tasks,
        };
        stage.install(upstreams, more);
        stage
    }

    pub(crate) fn install(&self, upstreams: &[&str], more: Value) {
        let mut record = json!({
            "path": "/-/a", "upstreams": upstreams, "accessRule": "true", "allowPrivate": true,
        });
        let fields = record.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let record = Record::read(&record).unwrap();
        let id = "a".to_owned();
        let problems = self
            .proxy
            .install(vec![Installed { id, record }], &NoSources);
        assert!(problems.is_empty(), "{problems:?}");
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        self.proxy.route("a").unwrap()
    }

    pub(crate) fn figures(&self) -> FiguresSnapshot {
        self.route().figures().snapshot()
    }

    pub(crate) fn client(&self, parts: &[&'static str]) -> Client {
        Client {
            parts: parts.to_vec(),
            clock: Some(self.clock),
            ..Client::default()
        }
    }

    /// A client that leaves as soon as it is told to.
    pub(crate) fn restless(&self) -> (Client, watch::Sender<bool>) {
        let (tell, leaves) = watch::channel(false);
        let client = Client {
            leaves: Some(leaves),
            ..self.client(&[])
        };
        (client, tell)
    }

    pub(crate) async fn get(&self) -> Got {
        self.ask("GET", "", &mut self.client(&[])).await
    }

    pub(crate) async fn post(&self, body: &'static str) -> Got {
        let length = format!("content-length: {}\r\n", body.len());
        self.ask("POST", &length, &mut self.client(&[body])).await
    }

    pub(crate) async fn begin(&self, method: &str, fields: &str, client: &mut Client) -> Answer {
        let text = format!("{method} /-/a/x?y=1 HTTP/1.1\r\nhost: gate.example\r\n{fields}\r\n");
        let limits = Limits {
            head: 8_192,
            fields: 64,
            target: 2_048,
        };
        let head = http1::request(&mut BytesMut::from(text.as_str()), &limits);
        let asked = Asked {
            head: head.unwrap().unwrap(),
            from: Origin {
                peer: [192, 0, 2, 1].into(),
                client: [192, 0, 2, 1].into(),
                is_trusted: false,
                is_tls: false,
            },
            caller: Caller::Guest,
            has_our_token: false,
        };
        let route = self.proxy.find("/-/a/x").unwrap();
        let answer = self.proxy.answer(&route, asked, client);
        tokio::time::timeout(PATIENCE, answer).await.unwrap()
    }

    pub(crate) async fn ask(&self, method: &str, fields: &str, client: &mut Client) -> Got {
        let answer = self.begin(method, fields, client).await;
        let reading = read(answer, client);
        tokio::time::timeout(PATIENCE, reading).await.unwrap()
    }

    /// Waits until the figures are as described.
    pub(crate) async fn until(&self, is_so: impl Fn(&FiguresSnapshot) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.figures()) {
            assert!(Instant::now() < deadline, "{:?}", self.figures());
            tokio::task::yield_now().await;
        }
    }
}

async fn read(answer: Answer, client: &mut Client) -> Got {
    let fields = answer.fields.iter();
    let mut got = Got {
        status: answer.status,
        text: String::new(),
        is_cut: false,
        answer: fields
            .map(|field| {
                let value = String::from_utf8_lossy(field.value).into_owned();
                (field.name().to_owned(), value)
            })
            .collect(),
    };
    debug_assert!(answer.fields.get(Known::TransferEncoding).is_none());
    match answer.body {
        Body::Empty | Body::Tunnel(_) => {}
        Body::Full(text) => got.text = String::from_utf8(text.to_vec()).unwrap(),
        Body::Stream(mut streaming) => loop {
            match poll_fn(|cx| streaming.poll_chunk(cx, client)).await {
                Ok(Chunk::Data(data)) => got.text.push_str(str::from_utf8(&data).unwrap()),
                Ok(Chunk::End(_)) => return got,
                Err(_) => {
                    got.is_cut = true;
                    return got;
                }
            }
        },
    }
    got
}
