//! Connections and streams on real sockets of this machine.

use std::time::Duration;

use crate::pair::{Pair, patience, timely, until};
use bytes::Bytes;
use quantum::codes::close;
use quantum::{Closed, Config, ConnectError, End, Priority, ReadError, WriteError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_comes_back() {
    let pair = Pair::start(Config::default()).await;
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        assert_eq!(client.guuid(), server.guuid());
        assert!(server.peer().is_some());
        tokio::join!(echo_one(&server), async {
            let (mut send, mut recv) = client.open(Priority::Unary).await.unwrap();
            send.write(Bytes::from_static(b"hello"), End::Message)
                .await
                .unwrap();
            let chunk = recv.read().await.unwrap().unwrap();
            assert_eq!((&chunk.data[..], chunk.end), (&b"hello"[..], End::Message));
            send.write(Bytes::new(), End::Stream).await.unwrap();
            assert_eq!(recv.read().await.unwrap().unwrap().end, End::Stream);
            assert_eq!(recv.read().await, Ok(None));
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_data_arrive_whole_on_many_streams() {
    let pair = Pair::start(Config::default()).await;
    let data: Bytes = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((mut send, mut recv)) = server.accept().await {
                tokio::spawn(async move {
                    while let Some(chunk) = recv.read().await.unwrap() {
                        send.write(chunk.data, chunk.end).await.unwrap();
                    }
                });
            }
        });
        let calls = (0..8).map(|_| {
            let (client, data) = (client.clone(), data.clone());
            tokio::spawn(async move {
                let (mut send, mut recv) = client.open(Priority::Bulk).await.unwrap();
                let expected = data.clone();
                let writing = tokio::spawn(async move { send.write(data, End::Stream).await });
                let mut at = 0;
                while let Some(chunk) = recv.read().await.unwrap() {
                    assert_eq!(chunk.data, expected.slice(at..at + chunk.data.len()));
                    at += chunk.data.len();
                }
                writing.await.unwrap().unwrap();
                assert_eq!(at, expected.len());
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        client.close(close::DONE, "");
        serving.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_stream_is_read_and_written_like_any_other() {
    let pair = Pair::start(Config::default()).await;
    timely(async {
        let client = pair.connect().await;
        let (send, recv) = client.open(Priority::Unary).await.unwrap();
        let mut stream = quantum::ByteStream::new(send, recv);
        stream.write_all(b"one line\n").await.unwrap();
        let server = pair.server.accept().await.unwrap();
        let (send, recv) = server.accept().await.unwrap();
        let mut other = quantum::ByteStream::new(send, recv);
        let mut line = [0; 9];
        other.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"one line\n");
        let large = vec![7; 1_000_000];
        let (_, received) = tokio::join!(
            async {
                other.write_all(&large).await.unwrap();
                other.shutdown().await.unwrap();
            },
            async {
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                received
            }
        );
        assert!(received == large);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_half_tells_the_peer() {
    let pair = Pair::start(Config::default()).await;
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        let (mut send, recv) = client.open(Priority::Unary).await.unwrap();
        send.write(Bytes::from_static(b"x"), End::Message)
            .await
            .unwrap();
        let (mut answer, mut question) = server.accept().await.unwrap();
        assert!(question.read().await.unwrap().is_some());
        drop(recv);
        assert_eq!(answer.stopped().await, Some(quantum::ABANDONED));
        let refused = answer.write(Bytes::from_static(b"y"), End::Message).await;
        assert_eq!(refused, Err(WriteError::Stopped(quantum::ABANDONED)));
        drop(send);
        assert_eq!(
            question.read().await,
            Err(ReadError::Reset(quantum::ABANDONED))
        );
    })
    .await;
}

#[tokio::test]
async fn both_sides_hear_why_it_ended() {
    let pair = Pair::start(Config::default()).await;
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        let (_send, mut recv) = client.open(Priority::Unary).await.unwrap();
        server.close(close::APPLICATION + 7, "enough");
        let expected = Closed::There {
            code: close::APPLICATION + 7,
            text: "enough".to_owned(),
        };
        assert_eq!(client.closed().await, expected);
        assert_eq!(recv.read().await, Err(ReadError::Closed(expected)));
        pair.client.drained().await;
        pair.server.drained().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_drops_everything_has_closed() {
    let pair = Pair::start(Config::default()).await;
    timely(async {
        drop(pair.connect().await);
        let server = pair.server.accept().await.unwrap();
        let closed = server.closed().await;
        assert!(matches!(
            closed,
            Closed::There {
                code: close::DONE,
                ..
            }
        ));
    })
    .await;
}

#[tokio::test]
async fn nobody_there_is_a_timeout_and_a_wrong_name_is_told() {
    let config = Config {
        handshake_timeout: Duration::from_millis(300),
        ..Config::default()
    };
    let pair = Pair::start(config).await;
    timely(async {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let nobody = silent.local_addr().unwrap();
        let error = pair.client.connect(nobody, "localhost").await.unwrap_err();
        assert!(
            matches!(
                &error,
                ConnectError::Closed(Closed::HandshakeTimedOut { .. })
            ),
            "{error:?}"
        );
        let there = pair.server.local_addr();
        let error = pair.client.connect(there, "other.example").await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, ConnectError::Closed(Closed::Here { code, .. }) if *code & close::TLS != 0),
            "{error:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_delays_and_does_not_lose() {
    let pair = Pair::lossy(Config::default(), 0.1).await;
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut send, mut recv)) = server.accept().await {
                while let Ok(Some(chunk)) = recv.read().await {
                    send.write(chunk.data, chunk.end).await.unwrap();
                }
            }
        });
        for call in 0..200_u32 {
            let (mut send, mut recv) = client.open(Priority::Unary).await.unwrap();
            let data = Bytes::from(call.to_be_bytes().repeat(250));
            send.write(data.clone(), End::Stream).await.unwrap();
            let mut answer = Vec::new();
            while let Some(chunk) = recv.read().await.unwrap() {
                answer.extend_from_slice(&chunk.data);
            }
            assert!(answer == data, "call {call}");
        }
    })
    .await;
    let figures = pair.client.figures().of(quantum::Role::Client);
    assert!(figures.packets_lost > 0, "{figures:?}");
    assert!(figures.fec_recoveries > 0, "{figures:?}");
    assert!(figures.rtt.count() > 0, "{figures:?}");
}

#[tokio::test]
async fn settings_change_while_connections_live() {
    let off = Config {
        fec_ratio: 0.0,
        ..Config::default()
    };
    let pair = Pair::start(off).await;
    let repairs = || {
        pair.client
            .figures()
            .of(quantum::Role::Client)
            .fec_repair_sent
    };
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        let call = async || {
            let (mut send, _recv) = client.open(Priority::Unary).await.unwrap();
            send.write(Bytes::from_static(&[1; 500]), End::Stream)
                .await
                .unwrap();
            let (_answer, mut question) = server.accept().await.unwrap();
            while question.read().await.unwrap().is_some() {}
        };
        for _ in 0..20 {
            call().await;
        }
        assert_eq!(repairs(), 0);
        pair.client.configure(&Config::default());
        let begun = pair.clock.elapsed();
        while repairs() == 0 {
            call().await;
            assert!(pair.clock.elapsed() - begun < patience());
        }
    })
    .await;
}

#[tokio::test]
async fn the_event_log_tells_the_life_of_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let pair = Pair::with_log(Config::default(), &path).await;
    timely(async {
        let client = pair.connect().await;
        client.close(close::DONE, "tired \"of\" it");
        pair.client.drained().await;
        let text = || std::fs::read_to_string(&path).unwrap();
        until(|| text().contains("\"closed\"")).await;
        let text = text();
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["guuid"], client.guuid().to_string());
        }
        assert!(
            text.contains("\"began\"") && text.contains("\"connected\""),
            "{text}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_spread_over_sockets_and_all_work() {
    let pair = Pair::with_sockets(3).await;
    timely(async {
        let mut connections = Vec::new();
        for _ in 0..12 {
            let client = pair.connect().await;
            let server = pair.server.accept().await.unwrap();
            connections.push((client, server));
        }
        for (client, server) in &connections {
            tokio::join!(echo_one(server), async {
                let (mut send, mut recv) = client.open(Priority::Unary).await.unwrap();
                let text = Bytes::from(client.guuid().to_string());
                send.write(text.clone(), End::Stream).await.unwrap();
                assert_eq!(recv.read().await.unwrap().unwrap().data, text);
            });
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_address_changes_stays_connected() {
    let pair = Pair::lossy(Config::default(), 0.0).await;
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        let (mut send, mut recv) = client.open(Priority::Unary).await.unwrap();
        tokio::spawn({
            let server = server.clone();
            async move { echo_one(&server).await }
        });
        for turn in 0..20_u8 {
            if turn == 10 {
                pair.link().rebind();
            }
            let data = Bytes::from(vec![turn; 100]);
            send.write(data.clone(), End::Message).await.unwrap();
            assert_eq!(recv.read().await.unwrap().unwrap().data, data);
        }
        let before = server.remote();
        let begun = pair.clock.elapsed();
        while server.remote() == before && pair.clock.elapsed() - begun < patience() {
            pair.link().rebind();
            let data = Bytes::from(vec![1; 100]);
            send.write(data, End::Message).await.unwrap();
            recv.read().await.unwrap();
        }
        assert_ne!(server.remote(), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_holds_back_its_writer_only() {
    let config = Config {
        stream_window: 64 << 10,
        send_buffer: 64 << 10,
        ..Config::default()
    };
    let pair = Pair::start(config).await;
    timely(async {
        let client = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        let (mut full, _answers) = client.open(Priority::Bulk).await.unwrap();
        let mut filling =
            tokio::spawn(async move { full.write(vec![1; 4 << 20].into(), End::Stream).await });
        let (_unused, mut unread) = server.accept().await.unwrap();
        let (mut send, mut recv) = client.open(Priority::Unary).await.unwrap();
        tokio::join!(echo_one(&server), async {
            send.write(Bytes::from_static(b"beside"), End::Stream)
                .await
                .unwrap();
            assert_eq!(recv.read().await.unwrap().unwrap().data, "beside");
        });
        let waited = tokio::time::timeout(Duration::from_millis(100), &mut filling).await;
        assert!(
            waited.is_err(),
            "nobody has read, yet everything is written"
        );
        let held = client.stats().memory + server.stats().memory;
        assert!(held < 1 << 20, "{held} bytes are held");
        let mut read = 0;
        while let Some(chunk) = unread.read().await.unwrap() {
            read += chunk.data.len();
        }
        assert_eq!(read, 4 << 20);
        filling.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_has_forgotten_says_so_at_once() {
    let pair = Pair::lossy(Config::default(), 0.0).await;
    timely(async {
        let client = pair.connect().await;
        let fresh = pair.restart_server();
        client.ping();
        assert_eq!(client.closed().await, Closed::Reset);
        // And lets the client in again.
        let again = pair.connect().await;
        assert_eq!(fresh.accept().await.unwrap().guuid(), again.guuid());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_stop_say_goodbye_first() {
    let pair = Pair::start(Config::default()).await;
    let others = lifecycle::Tasks::new();
    timely(async {
        let client = pair.connect_from(&others).await;
        let server = pair.server.accept().await.unwrap();
        assert!(others.stop(patience()).await, "tasks did not end");
        assert!(matches!(client.closed().await, Closed::Here { .. }));
        assert!(matches!(server.closed().await, Closed::There { .. }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_endpoint_lets_its_connections_live() {
    let pair = Pair::start(Config::default()).await;
    let others = lifecycle::Tasks::new();
    timely(async {
        // Its endpoint is gone when this returns.
        let client = pair.connect_from(&others).await;
        let server = pair.server.accept().await.unwrap();
        tokio::join!(echo_one(&server), async {
            let (mut send, mut recv) = client.open(Priority::Unary).await.unwrap();
            send.write(Bytes::from_static(b"still"), End::Stream)
                .await
                .unwrap();
            assert_eq!(recv.read().await.unwrap().unwrap().data, "still");
        });
        assert_eq!(others.running(), 1);
        drop(client);
        until(|| others.running() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_counted_stays_when_connections_end() {
    let pair = Pair::start(Config::default()).await;
    timely(async {
        let figures = pair.server.figures();
        for _ in 0..3 {
            let client = pair.connect().await;
            let server = pair.server.accept().await.unwrap();
            client.close(close::DONE, "");
            server.closed().await;
        }
        pair.server.drained().await;
        let ended = figures.of(quantum::Role::Server);
        assert_eq!((ended.connections, ended.connections_ended), (0, 3));
        assert_eq!(ended.handshake.count(), 3);
        assert!(ended.packets_received >= 6 && ended.packets_sent >= 6);
        assert_eq!((ended.cwnd, ended.inflight), (0, 0));
        assert_eq!(figures.snapshots().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_left_of_a_connection_does_not_touch_the_next() {
    let pair = Pair::start(Config::default()).await;
    timely(async {
        let first = pair.connect().await;
        let left = first.open(Priority::Unary).await.unwrap();
        pair.server.accept().await.unwrap();
        first.close(close::DONE, "");
        pair.client.drained().await;
        let second = pair.connect().await;
        let server = pair.server.accept().await.unwrap();
        drop(left);
        drop(first);
        for _ in 0..3 {
            tokio::join!(echo_one(&server), async {
                let (mut send, mut recv) = second.open(Priority::Unary).await.unwrap();
                send.write(Bytes::from_static(b"x"), End::Stream)
                    .await
                    .unwrap();
                assert_eq!(recv.read().await.unwrap().unwrap().data, "x");
            });
        }
        assert_eq!(
            pair.client.figures().of(quantum::Role::Client).connections,
            1
        );
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_has_a_limit_of_connections() {
    let pair = Pair::with_limit(2).await;
    timely(async {
        let _two = (pair.connect().await, pair.connect().await);
        let there = pair.server.local_addr();
        let error = pair.client.connect(there, "localhost").await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Full { limit: 2 }),
            "{error:?}"
        );
        pair.client.refuse_new();
        let error = pair.client.connect(there, "localhost").await.unwrap_err();
        assert!(matches!(error, ConnectError::EndpointClosed), "{error:?}");
        let error = pair.server.connect(there, "localhost").await.unwrap_err();
        assert!(matches!(error, ConnectError::ServerOnly), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn noise_from_strangers_is_counted_and_answered_with_nothing() {
    let pair = Pair::start(Config::default()).await;
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    for size in [0, 1, 21, 22, 31, 32, 56, 100, 1_200, 9_000] {
        let noise: Vec<u8> = (0..size).map(|at| (at * 7 % 256) as u8).collect();
        stranger.send_to(&noise, pair.server.local_addr()).unwrap();
    }
    timely(async {
        let figures = pair.server.figures();
        let malformed = || {
            let dropped = figures.of(quantum::Role::Server).dropped;
            dropped.iter().find(|it| it.0 == "malformed").unwrap().1
        };
        // The empty one may not be told of by the system.
        until(|| malformed() >= 9).await;
        let server = async { pair.server.accept().await.unwrap() };
        tokio::join!(pair.connect(), server);
    })
    .await;
    assert!(stranger.recv(&mut [0; 16]).is_err());
}

/// Serves one stream.
async fn echo_one(server: &quantum::Connection) {
    let (mut send, mut recv) = server.accept().await.unwrap();
    while let Some(chunk) = recv.read().await.unwrap() {
        send.write(chunk.data, chunk.end).await.unwrap();
    }
}
