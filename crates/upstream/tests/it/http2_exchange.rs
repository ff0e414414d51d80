//! Requests and answers over HTTP/2.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request, Response};
use http1::{
    Chunk, Fields, Framing, Gone, Inflow, Known, RequestHead, ResponseHead, Target, Version,
};
use testkit::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use upstream::http_service::{Exchange, ExchangeError, Link, Origin, Versions};

use crate::http_server::{Bench, origin};

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A server that hands its requests to the test.
struct Server {
    address: SocketAddr,
    asked: mpsc::Receiver<Asked>,
}

impl Server {
    async fn start(window: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tx, asked) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let tx = tx.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::Builder::new()
                        .initial_window_size(window)
                        .handshake::<_, Bytes>(tcp)
                        .await
                        .unwrap();
                    while let Some(Ok(asked)) = connection.accept().await {
                        tx.send(asked).await.unwrap();
                    }
                });
            }
        });
        Self { address, asked }
    }

    async fn next(&mut self) -> Asked {
        let next = self.asked.recv();
        tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap()
    }
}

/// A client's side, written beforehand.
#[derive(Default)]
struct Client {
    parts: VecDeque<Result<Chunk, Gone>>,
    is_gone: bool,
    taken: usize,
    interims: Vec<u16>,
}

impl Client {
    fn with(parts: impl IntoIterator<Item = Chunk>) -> Self {
        Self {
            parts: parts.into_iter().map(Ok).collect(),
            ..Self::default()
        }
    }
}

impl Inflow for Client {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        let Some(part) = self.parts.pop_front() else {
            return Poll::Pending;
        };
        if let Ok(Chunk::Data(data)) = &part {
            self.taken += data.len();
        }
        Poll::Ready(part)
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<Gone> {
        match self.is_gone {
            true => Poll::Ready(Gone::Left),
            false => Poll::Pending,
        }
    }

    fn poll_deadline(&mut self, _: &mut Context<'_>, _: u64) -> Poll<()> {
        Poll::Pending
    }

    fn interim(&mut self, head: &ResponseHead) {
        self.interims.push(head.status);
    }
}

struct Talk {
    bench: Bench,
    origin: Arc<Origin>,
}

impl Talk {
    fn with(address: SocketAddr) -> Self {
        let origin = Arc::new(Origin {
            versions: Versions::Http2,
            ..origin(address)
        });
        Self {
            bench: Bench::new(),
            origin,
        }
    }

    async fn begin(&self, head: &RequestHead) -> Exchange {
        let link = self.bench.pool.take(&self.origin, false).await.unwrap();
        assert!(matches!(link, Link::Http2(_)));
        Exchange::new(link, head)
    }
}

fn get(target: &'static str) -> RequestHead {
    RequestHead {
        method: Method::GET,
        target: Target::new(Bytes::from_static(target.as_bytes())).unwrap(),
        authority: Bytes::from_static(b"up.test:81"),
        version: Version::Http11,
        fields: Fields::new(),
        framing: Framing::Empty,
        keep_alive: true,
        expects_continue: false,
        upgrade: None,
    }
}

fn post(framing: Framing) -> RequestHead {
    RequestHead {
        method: Method::POST,
        framing,
        ..get("/")
    }
}

async fn head_of(
    exchange: &mut Exchange,
    client: &mut Client,
) -> Result<ResponseHead, ExchangeError> {
    let head = std::future::poll_fn(|cx| exchange.poll_head(cx, client));
    tokio::time::timeout(PATIENCE, head).await.unwrap()
}

async fn part_of(exchange: &mut Exchange, client: &mut Client) -> Result<Chunk, ExchangeError> {
    let part = std::future::poll_fn(|cx| exchange.poll_chunk(cx, client));
    tokio::time::timeout(PATIENCE, part).await.unwrap()
}

async fn body_of(exchange: &mut Exchange, client: &mut Client) -> (Vec<u8>, Option<Box<Fields>>) {
    let mut body = Vec::new();
    loop {
        match part_of(exchange, client).await.unwrap() {
            Chunk::Data(data) => body.extend_from_slice(&data),
            Chunk::End(trailers) => return (body, trailers),
        }
    }
}

#[tokio::test]
async fn head_body_and_trailers_come_back() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut head = get("/a/b?c=d");
    head.fields.push("X-Mixed", b"Case").unwrap();
    head.fields.push("authorization", b"secret").unwrap();
    head.fields.push("host", b"other.test").unwrap();
    head.fields.push("te", b"gzip, trailers").unwrap();
    head.fields.push("connection", b"close").unwrap();
    let mut exchange = talk.begin(&head).await;
    assert!(exchange.is_sent());
    let serve = async {
        let (request, mut respond) = server.next().await;
        assert_eq!(request.uri(), "http://up.test:81/a/b?c=d");
        assert_eq!(request.headers()["x-mixed"], "Case");
        assert_eq!(request.headers()["authorization"], "secret");
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers().len(), 3);
        assert!(request.body().is_end_stream());
        let answer = Response::builder().status(203).header("x-answer", "yes");
        let mut stream = respond
            .send_response(answer.body(()).unwrap(), false)
            .unwrap();
        stream.send_data("hello ".into(), false).unwrap();
        stream.send_data("world".into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    };
    let mut client = Client::default();
    let (answer, ()) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.version), (203, Version::Http2));
    assert_eq!(answer.framing, Framing::Chunked);
    assert_eq!(answer.fields.get_named("x-answer"), Some(&b"yes"[..]));
    let (body, trailers) = body_of(&mut exchange, &mut client).await;
    assert_eq!(body, b"hello world");
    assert_eq!(trailers.unwrap().get_named("X-Sum"), Some(&b"7"[..]));
}

#[tokio::test]
async fn an_answer_without_a_body_is_over_with_its_head() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut client = Client::default();
    for (method, length) in [(Method::GET, "0"), (Method::HEAD, "11")] {
        let head = RequestHead { method, ..get("/") };
        let mut exchange = talk.begin(&head).await;
        let serve = async {
            let (_, mut respond) = server.next().await;
            let answer = Response::builder().header("content-length", length);
            let answer = answer.body(()).unwrap();
            respond.send_response(answer, true).unwrap();
        };
        let (answer, ()) = tokio::join!(head_of(&mut exchange, &mut client), serve);
        let answer = answer.unwrap();
        assert_eq!(answer.framing, Framing::Empty);
        assert_eq!(
            answer.fields.get(Known::ContentLength),
            Some(length.as_bytes())
        );
        let end = part_of(&mut exchange, &mut client).await;
        assert!(matches!(end, Ok(Chunk::End(None))), "{end:?}");
    }
}

#[tokio::test]
async fn a_body_goes_as_fast_as_the_server_takes_it() {
    let mut server = Server::start(1_000).await;
    let talk = Talk::with(server.address);
    let mut head = post(Framing::Length(4_000));
    head.expects_continue = false;
    let mut client = Client::with(
        (0..4)
            .map(|_| Chunk::Data(vec![7; 1_000].into()))
            .chain([Chunk::End(None)]),
    );
    let mut exchange = talk.begin(&head).await;
    let serve = async {
        let (request, mut respond) = server.next().await;
        assert_eq!(request.headers()["content-length"], "4000");
        respond.send_response(Response::new(()), true).unwrap();
        request.into_body()
    };
    // The window of the first moment is larger; the server's own counts from its settings.
    let (answer, mut body) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    assert_eq!(answer.unwrap().framing, Framing::Empty);
    drop(exchange);
    while let Some(Ok(_)) = body.data().await {}

    // Now the settings are known.
    let mut client = Client::with(
        (0..4)
            .map(|_| Chunk::Data(vec![7; 1_000].into()))
            .chain([Chunk::End(None)]),
    );
    let mut exchange = talk.begin(&head).await;
    let mut waiting = Box::pin(head_of(&mut exchange, &mut client));
    let (request, mut respond) = tokio::select! {
        asked = server.next() => asked,
        answer = &mut waiting => panic!("{answer:?}"),
    };
    let mut body = request.into_body();
    let first = tokio::select! {
        part = body.data() => part.unwrap().unwrap(),
        answer = &mut waiting => panic!("{answer:?}"),
    };
    assert_eq!(first.len(), 1_000);
    // The window is used up.
    let more = async {
        tokio::select! {
            part = body.data() => panic!("{part:?}"),
            answer = &mut waiting => panic!("{answer:?}"),
        }
    };
    let more = tokio::time::timeout(Duration::from_millis(20), more).await;
    assert!(more.is_err());
    body.flow_control().release_capacity(1_000).unwrap();
    let drain = async {
        let mut received = 1_000;
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            received += part.len();
            body.flow_control().release_capacity(part.len()).unwrap();
        }
        respond.send_response(Response::new(()), true).unwrap();
        received
    };
    let (answer, received) = tokio::join!(waiting, drain);
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(received, 4_000);
    assert_eq!(client.taken, 4_000);
}

#[tokio::test]
async fn trailers_of_a_request_are_sent() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut trailers = Fields::new();
    trailers.push("X-Sum", b"9").unwrap();
    let mut client = Client::with([
        Chunk::Data("abc".into()),
        Chunk::End(Some(Box::new(trailers))),
    ]);
    let mut exchange = talk.begin(&post(Framing::Chunked)).await;
    let serve = async {
        let (request, mut respond) = server.next().await;
        assert!(!request.headers().contains_key("content-length"));
        let mut body = request.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "abc");
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "9");
        respond.send_response(Response::new(()), true).unwrap();
    };
    let (answer, ()) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    assert_eq!(answer.unwrap().status, 200);
    assert!(exchange.is_sent());
}

#[tokio::test]
async fn an_unread_answer_is_not_sent_beyond_its_window() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut client = Client::default();
    let mut exchange = talk.begin(&get("/")).await;
    let serve = async {
        let (_, mut respond) = server.next().await;
        respond.send_response(Response::new(()), false).unwrap()
    };
    let (answer, mut stream) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    answer.unwrap();
    let total = 600 * 1024;
    let mut sent = 0;
    let mut read = 0;
    let mut is_blocked = false;
    while sent < total {
        stream.reserve_capacity(16 * 1024);
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx));
        match tokio::time::timeout(Duration::from_millis(50), room).await {
            Ok(room) => {
                let room = room.unwrap().unwrap().min(total - sent);
                sent += room;
                stream
                    .send_data(vec![1; room].into(), sent == total)
                    .unwrap();
            }
            Err(_) => {
                is_blocked = true;
                assert!(sent - read <= 256 * 1024, "{sent} {read}");
                while read < sent {
                    match part_of(&mut exchange, &mut client).await.unwrap() {
                        Chunk::Data(data) => read += data.len(),
                        Chunk::End(_) => panic!("too early"),
                    }
                }
            }
        }
    }
    assert!(is_blocked);
    assert_eq!(
        read + body_of(&mut exchange, &mut client).await.0.len(),
        total
    );
}

#[tokio::test]
async fn dropping_an_exchange_resets_its_stream() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut client = Client::default();
    for is_answered in [false, true] {
        let mut exchange = talk.begin(&get("/")).await;
        let (_, mut respond) = server.next().await;
        let mut stream = None;
        if is_answered {
            stream = Some(respond.send_response(Response::new(()), false).unwrap());
            head_of(&mut exchange, &mut client).await.unwrap();
        }
        drop(exchange);
        let reset = std::future::poll_fn(|cx| match &mut stream {
            Some(stream) => stream.poll_reset(cx),
            None => respond.poll_reset(cx),
        });
        let reset = tokio::time::timeout(PATIENCE, reset).await.unwrap();
        assert_eq!(reset.unwrap(), Reason::CANCEL);
    }
    // The connection stands, and carries the next.
    assert_eq!(talk.bench.pool.figures().connects, 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_exchange() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut client = Client {
        is_gone: true,
        ..Client::default()
    };
    let mut exchange = talk.begin(&get("/")).await;
    let ended = head_of(&mut exchange, &mut client).await;
    assert!(matches!(ended, Err(ExchangeError::Client(Gone::Left))));

    let mut client = Client::default();
    client.parts.push_back(Ok(Chunk::Data("a".into())));
    client.parts.push_back(Err(Gone::TooSlow));
    let mut exchange = talk.begin(&post(Framing::Chunked)).await;
    let ended = head_of(&mut exchange, &mut client).await;
    assert!(matches!(ended, Err(ExchangeError::Client(Gone::TooSlow))));
    drop(exchange);
    server.next().await;
}

#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut client = Client::default();
    let mut exchange = talk.begin(&get("/")).await;
    let serve = async {
        let (_, mut respond) = server.next().await;
        respond.send_reset(Reason::REFUSED_STREAM);
    };
    let (answer, ()) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    let error = answer.unwrap_err();
    assert!(matches!(error, ExchangeError::NotProcessed), "{error:?}");
    assert!(error.is_unprocessed());
    assert!(!exchange.may_be_stale());
}

#[tokio::test]
async fn a_stream_that_the_server_breaks_off_may_have_been_processed() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut client = Client::default();
    let mut exchange = talk.begin(&get("/")).await;
    let serve = async {
        let (_, mut respond) = server.next().await;
        respond.send_reset(Reason::INTERNAL_ERROR);
    };
    let (answer, ()) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    let error = answer.unwrap_err();
    assert!(matches!(error, ExchangeError::Reset(_)), "{error:?}");
    assert!(!error.is_unprocessed());

    let mut exchange = talk.begin(&get("/")).await;
    let serve = async {
        let (_, mut respond) = server.next().await;
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data("begun".into(), false).unwrap();
        stream
    };
    let (answer, mut stream) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    answer.unwrap();
    let part = part_of(&mut exchange, &mut client).await;
    assert!(matches!(part, Ok(Chunk::Data(_))), "{part:?}");
    stream.send_reset(Reason::INTERNAL_ERROR);
    let part = part_of(&mut exchange, &mut client).await;
    assert!(matches!(part, Err(ExchangeError::Reset(_))), "{part:?}");
}

#[tokio::test]
async fn an_early_answer_is_read_although_the_body_is_not_wanted() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut client = Client::with([Chunk::Data("a".into())]);
    let mut exchange = talk.begin(&post(Framing::Chunked)).await;
    let serve = async {
        let (request, mut respond) = server.next().await;
        let answer = Response::builder().status(413).body(()).unwrap();
        let mut stream = respond.send_response(answer, false).unwrap();
        stream.send_data("too large".into(), true).unwrap();
        // It then resets the stream, without an error.
        drop(request);
    };
    let (answer, ()) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    assert_eq!(answer.unwrap().status, 413);
    assert_eq!(body_of(&mut exchange, &mut client).await.0, b"too large");
}

#[tokio::test]
async fn a_body_is_held_back_until_the_server_wants_it() {
    let mut server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let mut head = post(Framing::Length(3));
    head.expects_continue = true;
    let mut client = Client::with([Chunk::Data("abc".into()), Chunk::End(None)]);
    let mut exchange = talk.begin(&head).await;
    let serve = async {
        let (request, mut respond) = server.next().await;
        assert_eq!(request.headers()["expect"], "100-continue");
        for status in [103, 100] {
            let interim = Response::builder().status(status).body(()).unwrap();
            respond.send_informational(interim).unwrap();
        }
        let mut body = request.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "abc");
        respond.send_response(Response::new(()), true).unwrap();
    };
    let (answer, ()) = tokio::join!(head_of(&mut exchange, &mut client), serve);
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(client.interims, [103]);
}

#[tokio::test]
async fn another_protocol_can_not_be_asked_for() {
    let server = Server::start(65_535).await;
    let talk = Talk::with(server.address);
    let head = RequestHead {
        upgrade: Some("websocket".into()),
        ..get("/")
    };
    let mut exchange = talk.begin(&head).await;
    let refused = head_of(&mut exchange, &mut Client::default()).await;
    assert!(
        matches!(refused, Err(ExchangeError::Unspeakable(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_that_goes_away_before_a_request_has_not_processed_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let talk = Talk::with(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(SETTINGS).await.unwrap();
        read_until_headers(&mut tcp).await;
        // Goes away; the last stream it has begun with is 0.
        tcp.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let mut rest = Vec::new();
        drop(tcp.read_to_end(&mut rest).await);
    });
    let mut exchange = talk.begin(&get("/")).await;
    let answer = head_of(&mut exchange, &mut Client::default()).await;
    assert!(
        matches!(answer, Err(ExchangeError::NotProcessed)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_connection_that_was_lost_while_it_rested_may_be_stale() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let talk = Talk::with(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(SETTINGS).await.unwrap();
        read_until_headers(&mut tcp).await;
        // Status 200, without a body, for stream 1.
        tcp.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88])
            .await
            .unwrap();
        read_until_headers(&mut tcp).await;
    });
    let mut client = Client::default();
    let mut exchange = talk.begin(&get("/")).await;
    assert_eq!(
        head_of(&mut exchange, &mut client).await.unwrap().status,
        200
    );
    assert!(!exchange.may_be_stale());
    let mut exchange = talk.begin(&get("/")).await;
    let lost = head_of(&mut exchange, &mut client).await.unwrap_err();
    assert!(matches!(lost, ExchangeError::Io(_)), "{lost:?}");
    assert!(exchange.may_be_stale());
    assert!(!lost.is_unprocessed());
    talk.bench.until(|figures| figures.http2 == 0).await;
}

/// A server's empty settings and the acknowledgement of ours.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];

/// Reads frames until one of type HEADERS is complete.
async fn read_until_headers(tcp: &mut tokio::net::TcpStream) {
    let mut first = [0; 9];
    loop {
        tcp.read_exact(&mut first).await.unwrap();
        if first.starts_with(b"PRI * HTT") {
            tcp.read_exact(&mut [0; 15]).await.unwrap();
            continue;
        }
        let length =
            usize::from(first[0]) << 16 | usize::from(first[1]) << 8 | usize::from(first[2]);
        tcp.read_exact(&mut vec![0; length]).await.unwrap();
        if first[3] == 1 {
            return;
        }
    }
}
