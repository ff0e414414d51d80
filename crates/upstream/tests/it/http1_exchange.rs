//! Requests and answers over HTTP/1.1.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use http1::{Chunk, Fields, Framing, Gone, Inflow, RequestHead, ResponseHead, Target, Version};
use testkit::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use upstream::http_service::{Exchange, ExchangeError};

use crate::http_server::{Bench, origin};

/// A client's side, written beforehand.
#[derive(Default)]
struct Client {
    parts: VecDeque<Chunk>,
    asked: usize,
    is_gone: bool,
    interims: Vec<u16>,
}

impl Inflow for Client {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        self.asked += 1;
        self.parts
            .pop_front()
            .map_or(Poll::Pending, |part| Poll::Ready(Ok(part)))
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

fn asks(method: Method, framing: Framing, expects_continue: bool) -> RequestHead {
    RequestHead {
        method,
        target: Target::new(Bytes::from_static(b"/x")).unwrap(),
        authority: Bytes::from_static(b"up.test"),
        version: Version::Http11,
        fields: Fields::new(),
        framing,
        keep_alive: true,
        expects_continue,
        upgrade: None,
    }
}

/// An exchange, and the server's end of its connection.
async fn begun(bench: &Bench, head: &RequestHead) -> (Exchange, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Arc::new(origin(listener.local_addr().unwrap()));
    let (link, accepted) = tokio::join!(bench.pool.take(&origin, false), listener.accept());
    (Exchange::new(link.unwrap(), head), accepted.unwrap().0)
}

async fn head_of(
    exchange: &mut Exchange,
    client: &mut Client,
) -> Result<ResponseHead, ExchangeError> {
    let head = poll_fn(|cx| exchange.poll_head(cx, client));
    tokio::time::timeout(PATIENCE, head).await.unwrap()
}

/// The rest of the answer.
async fn body_of(exchange: &mut Exchange, client: &mut Client) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    loop {
        let chunk = poll_fn(|cx| exchange.poll_chunk(cx, client));
        match tokio::time::timeout(PATIENCE, chunk).await.unwrap()? {
            Chunk::Data(data) => body.extend(data),
            Chunk::End(_) => return Ok(body),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_leave_is_not_sent_after_the_answer() {
    let bench = Bench::new();
    let head = asks(Method::POST, Framing::Length(4), true);
    let (mut exchange, mut server) = begun(&bench, &head).await;
    let mut client = Client {
        parts: [Chunk::Data("body".into()), Chunk::End(None)].into(),
        ..Client::default()
    };
    let early = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\n";
    server.write_all(early).await.unwrap();
    let answer = head_of(&mut exchange, &mut client).await.unwrap();
    assert_eq!((answer.status, &*client.interims), (401, &[103][..]));
    assert!(exchange.is_sent());
    server.write_all(b"no").await.unwrap();
    assert_eq!(body_of(&mut exchange, &mut client).await.unwrap(), b"no");
    assert_eq!(client.asked, 0);
    // The server may wait for the body: the connection carries nothing else.
    bench.until(|figures| figures.open == 0).await;
    let mut seen = Vec::new();
    server.read_to_end(&mut seen).await.unwrap();
    assert!(seen.ends_with(b"\r\n\r\n"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_behind_an_answer_ends_its_connection() {
    let bench = Bench::new();
    let head = asks(Method::GET, Framing::Empty, false);
    let mut client = Client::default();
    let (mut exchange, mut server) = begun(&bench, &head).await;
    let two = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n";
    server.write_all(two).await.unwrap();
    assert_eq!(
        head_of(&mut exchange, &mut client).await.unwrap().status,
        200
    );
    assert_eq!(body_of(&mut exchange, &mut client).await.unwrap(), b"ok");
    bench.until(|figures| figures.open == 0).await;

    let (mut exchange, mut server) = begun(&bench, &head).await;
    server
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await
        .unwrap();
    head_of(&mut exchange, &mut client).await.unwrap();
    body_of(&mut exchange, &mut client).await.unwrap();
    bench
        .until(|figures| figures.open == 1 && figures.idle == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_noticed_while_the_upstream_takes_nothing() {
    let bench = Bench::new();
    let head = asks(Method::POST, Framing::Chunked, false);
    let (mut exchange, _server) = begun(&bench, &head).await;
    let part = Bytes::from(vec![b'x'; 1 << 20]);
    let mut client = Client {
        parts: (0..64).map(|_| Chunk::Data(part.clone())).collect(),
        is_gone: true,
        ..Client::default()
    };
    let error = head_of(&mut exchange, &mut client).await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::Client(Gone::Left)),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_goes_to_a_server_that_succeeds_without_giving_leave() {
    let bench = Bench::new();
    let head = asks(Method::POST, Framing::Length(4), true);
    let (mut exchange, mut server) = begun(&bench, &head).await;
    let mut client = Client {
        parts: [Chunk::Data("body".into()), Chunk::End(None)].into(),
        ..Client::default()
    };
    let early = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
    server.write_all(early).await.unwrap();
    head_of(&mut exchange, &mut client).await.unwrap();
    let echo = async {
        let mut seen = Vec::new();
        while !seen.ends_with(b"body") {
            assert!(server.read_buf(&mut seen).await.unwrap() > 0);
        }
        server.write_all(b"body").await.unwrap();
    };
    let (body, ()) = tokio::join!(body_of(&mut exchange, &mut client), echo);
    assert_eq!(body.unwrap(), b"body");
}
