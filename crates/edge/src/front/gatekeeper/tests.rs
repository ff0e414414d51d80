use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::front::socket::{Socket, Stream};

const PATIENCE: Duration = Duration::from_secs(10);

const LIMITS: Limits = Limits {
    head: 8_192,
    fields: 64,
    target: 8_192,
};

const FIRST: &[u8] = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n";
const PROXIED: &[u8] = b"GET /-/a HTTP/1.1\r\nhost: a\r\n\r\n";

async fn gate(busy: &Arc<Busy>) -> (Gatekeeper, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let early = Bytes::new();
    let stream = Unstalled::new(Stream::Plain(Socket { tcp, early }), PATIENCE);
    let gate = Gatekeeper::new(stream, BytesMut::new(), LIMITS, true, Arc::clone(busy));
    (gate, peer)
}

async fn read(gate: &mut Gatekeeper) -> io::Result<Vec<u8>> {
    let mut read = vec![0; 64 * 1_024];
    let reading = tokio::time::timeout(PATIENCE, gate.read(&mut read));
    let count = reading.await.unwrap()?;
    read.truncate(count);
    Ok(read)
}

#[test]
fn a_head_without_an_end_is_refused_whatever_stands_before_it() {
    for before in ["", "\r\n", "\r\n\r\n"] {
        let mut input = format!("{before}GET / HTTP/1.1\r\nx: ").into_bytes();
        input.resize(LIMITS.head + before.len() - 1, b'x');
        assert!(matches!(examine(&input, &LIMITS), Ok(None)), "{before:?}");
        input.resize(10 * LIMITS.head, b'x');
        let examined = examine(&input, &LIMITS).map(|_| ());
        assert_eq!(examined, Err(Reject::TooLarge), "{before:?}");
    }
}

#[tokio::test]
async fn a_request_for_the_proxy_ends_the_turn_once_the_answer_has_gone() {
    let busy = Arc::new(Busy::default());
    let (mut gate, mut peer) = gate(&busy).await;
    peer.write_all(&[FIRST, PROXIED].concat()).await.unwrap();
    assert_eq!(read(&mut gate).await.unwrap(), FIRST);
    let answering = busy.begin();
    let (end, ()) = tokio::join!(read(&mut gate), async {
        tokio::task::yield_now().await;
        drop(answering);
    });
    assert_eq!(end.unwrap(), b"");
    let (_, input, stop) = gate.into_parts();
    assert_eq!((&*input, stop), (PROXIED, Some(Stop::Proxied)));
}

#[tokio::test]
async fn a_body_is_passed_on_up_to_its_end() {
    let busy = Arc::new(Busy::default());
    let (mut gate, mut peer) = gate(&busy).await;
    let with_body = b"POST /emulation HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                      3\r\nabc\r\n0\r\n\r\n";
    peer.write_all(&[with_body, PROXIED].concat())
        .await
        .unwrap();
    let mut passed = Vec::new();
    loop {
        let part = read(&mut gate).await.unwrap();
        if part.is_empty() {
            break;
        }
        passed.extend(part);
    }
    assert_eq!(passed, with_body);
    let (_, input, stop) = gate.into_parts();
    assert_eq!((&*input, stop), (PROXIED, Some(Stop::Proxied)));
}

#[tokio::test]
async fn a_malformed_body_fails_at_once_though_its_answer_is_under_way() {
    let busy = Arc::new(Busy::default());
    let (mut gate, mut peer) = gate(&busy).await;
    let head = b"POST /emulation HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    peer.write_all(&[&head[..], b"zz\r\n"].concat())
        .await
        .unwrap();
    assert_eq!(read(&mut gate).await.unwrap(), head);
    let _answering = busy.begin();
    let error = read(&mut gate).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
