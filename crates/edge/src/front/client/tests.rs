use std::time::Duration;

use bytes::Bytes;
use http1::{Fields, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::front::socket::{Socket, Stream};

const PATIENCE: Duration = Duration::from_secs(10);

const LIMITS: Limits = Limits {
    head: 8_192,
    fields: 64,
    target: 2_048,
};

/// A client's connection, and the client.
async fn connected() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let early = Bytes::new();
    let stream = Unstalled::new(Stream::Plain(Socket { tcp, early }), PATIENCE);
    (Client::new(stream, Clock::start(), &[]), peer)
}

/// Reads a request and begins it.
async fn begins(client: &mut Client, peer: &mut TcpStream, request: &str) -> RequestHead {
    peer.write_all(request.as_bytes()).await.unwrap();
    client.wakes(10_000).await.unwrap();
    let head = client
        .read_until(10_000, |input| http1::request(input, &LIMITS))
        .await
        .unwrap();
    client.begins(&head, 10_000);
    head
}

async fn chunk(client: &mut Client) -> Result<Chunk, Gone> {
    let chunk = poll_fn(|cx| client.poll_chunk(cx));
    tokio::time::timeout(PATIENCE, chunk).await.unwrap()
}

/// Writes something of the answer; all that the client gets up to its end.
async fn hears_until(client: &mut Client, peer: &mut TcpStream, end: &str) -> String {
    client.out.copied().extend_from_slice(end.as_bytes());
    poll_fn(|cx| client.poll_write(cx)).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) {
        let read = peer.read_buf(&mut heard);
        let count = tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(count > 0, "{heard:?}");
    }
    String::from_utf8(heard).unwrap()
}

const EXPECTING: &str =
    "POST /-/a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn a_body_that_is_held_back_is_asked_for() {
    let (mut client, mut peer) = connected().await;
    begins(&mut client, &mut peer, EXPECTING).await;
    peer.write_all(b"body").await.unwrap();
    assert!(matches!(chunk(&mut client).await, Ok(Chunk::Data(data)) if data == "body"));
    assert!(matches!(chunk(&mut client).await, Ok(Chunk::End(None))));
    assert!(client.answers());
    assert_eq!(
        hears_until(&mut client, &mut peer, "answer").await,
        "HTTP/1.1 100 Continue\r\n\r\nanswer"
    );
    assert!(client.is_ready_for_next().await);
}

#[tokio::test]
async fn nothing_comes_between_the_parts_of_an_answer() {
    let (mut client, mut peer) = connected().await;
    begins(&mut client, &mut peer, EXPECTING).await;
    // The answer came before the body was asked for: whether it still comes is unknown.
    assert!(!client.answers());
    peer.write_all(b"body").await.unwrap();
    assert!(matches!(chunk(&mut client).await, Ok(Chunk::Data(_))));
    client.interim(&interim());
    assert_eq!(
        hears_until(&mut client, &mut peer, "answer").await,
        "answer"
    );
}

fn interim() -> ResponseHead {
    let mut fields = Fields::new();
    for (name, value) in [
        ("link", "</a>"),
        ("connection", "x"),
        ("content-length", "5"),
    ] {
        fields.push(name, value.as_bytes()).unwrap();
    }
    ResponseHead {
        status: 103,
        version: Version::Http11,
        fields,
        framing: Framing::Empty,
        keep_alive: true,
    }
}

#[tokio::test]
async fn an_interim_answer_does_not_wait_for_the_answer() {
    let (mut client, mut peer) = connected().await;
    begins(
        &mut client,
        &mut peer,
        "GET /-/a HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    .await;
    client.interim(&interim());
    poll_fn(|cx| {
        assert!(client.poll_gone(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    assert!(client.is_written());
    assert_eq!(
        hears_until(&mut client, &mut peer, "answer").await,
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nanswer"
    );
}

#[tokio::test]
async fn a_client_of_http_1_0_hears_of_no_interim_answer() {
    let (mut client, mut peer) = connected().await;
    begins(&mut client, &mut peer, "GET /-/a HTTP/1.0\r\n\r\n").await;
    client.interim(&interim());
    assert_eq!(
        hears_until(&mut client, &mut peer, "answer").await,
        "answer"
    );
}

#[tokio::test]
async fn a_short_body_that_nobody_wanted_is_passed_over() {
    let (mut client, mut peer) = connected().await;
    let two = "POST /-/a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
               3\r\nabc\r\n0\r\nx: y\r\n\r\nGET /-/b HTTP/1.1\r\nhost: a\r\n\r\n";
    begins(&mut client, &mut peer, two).await;
    assert!(client.answers() && client.is_ready_for_next().await);
    let next = begins(&mut client, &mut peer, "").await;
    assert_eq!(next.target.path(), "/-/b");
}

#[tokio::test]
async fn a_long_body_that_nobody_wanted_ends_the_connection() {
    let (mut client, mut peer) = connected().await;
    let head = "POST /-/a HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999\r\n\r\n";
    begins(&mut client, &mut peer, head).await;
    assert!(client.answers());
    let body = vec![b'x'; UNWANTED_MAX + 64 * 1_024];
    let (sent, is_ready) = tokio::join!(peer.write_all(&body), client.is_ready_for_next());
    sent.unwrap();
    assert!(!is_ready);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_wanted_is_not_waited_for_for_ever() {
    let (mut client, mut peer) = connected().await;
    let head = "POST /-/a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc";
    begins(&mut client, &mut peer, head).await;
    assert!(client.answers());
    assert!(!client.is_ready_for_next().await);
}

#[tokio::test]
async fn a_client_that_closes_has_left() {
    let (mut client, mut peer) = connected().await;
    begins(
        &mut client,
        &mut peer,
        "GET /-/a HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    .await;
    drop(peer);
    let gone = tokio::time::timeout(PATIENCE, poll_fn(|cx| client.poll_gone(cx)));
    assert_eq!(gone.await.unwrap(), Gone::Left);
    assert!(!client.answers());
}

#[tokio::test]
async fn reading_ahead_has_an_end() {
    let (mut client, mut peer) = connected().await;
    begins(
        &mut client,
        &mut peer,
        "GET /-/a HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    .await;
    let more = vec![b'x'; 4 * AHEAD_MAX];
    let ahead = poll_fn(|cx| {
        assert!(client.poll_gone(cx).is_pending());
        match client.input.len() {
            AHEAD_MAX.. => Poll::Ready(()),
            _ => Poll::Pending,
        }
    });
    tokio::select! {
        ahead = tokio::time::timeout(PATIENCE, ahead) => ahead.unwrap(),
        // Some of it may stay with the client.
        () = async {
            peer.write_all(&more).await.unwrap();
            std::future::pending::<()>().await;
        } => {}
    }
    poll_fn(|cx| {
        assert!(client.poll_gone(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    assert!(client.input.len() < AHEAD_MAX + 2 * http1::BUFFER_SIZE);
}
