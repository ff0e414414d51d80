//! Windows, buffers, and how many streams may be open.

use super::*;

#[test]
fn nothing_is_opened_before_the_peer_has_spoken() {
    let mut client = Streams::new(Role::Client, LIMITS);
    assert_eq!(client.open(Priority::Unary), Err(OpenError::Blocked));
    client.set_peer(grants(LIMITS));
    assert_eq!(events(&mut client), [StreamEvent::Room]);
    assert_eq!(client.open(Priority::Unary).map(StreamId::get), Ok(1));
    assert_eq!(client.open(Priority::Unary).map(StreamId::get), Ok(3));
    assert!(!client.has_data());
}

#[test]
fn names_of_each_side_are_its_own() {
    let (mut client, mut server) = pair(LIMITS);
    let ours = client.open(Priority::Unary).expect("room");
    let theirs = server.open(Priority::Unary).expect("room");
    assert_eq!((ours.get(), theirs.get()), (1, 2));
    assert_eq!(
        (ours.opener(), theirs.opener()),
        (Role::Client, Role::Server)
    );
    client.write(ours, bytes(1, 0, 1), End::More).expect("open");
    server
        .write(theirs, bytes(2, 0, 1), End::More)
        .expect("open");
    settle(&mut client, &mut server);
    assert_eq!(client.accept(), Some(theirs));
    assert_eq!(client.accept(), None);
    assert_eq!(server.accept(), Some(ours));
}

#[test]
fn names_are_used_up_once() {
    let (mut client, _) = pair(LIMITS);
    client.on_max_streams(1 << 31).expect("allowed");
    client.opened = (1 << 31) - 1;
    assert_eq!(
        client.open(Priority::Unary).map(StreamId::get),
        Ok(u32::MAX)
    );
    assert_eq!(client.open(Priority::Unary), Err(OpenError::Exhausted));
    let (_, mut server) = pair(LIMITS);
    server.on_max_streams(1 << 31).expect("allowed");
    server.opened = (1 << 31) - 2;
    assert_eq!(
        server.open(Priority::Unary).map(StreamId::get),
        Ok(u32::MAX - 1)
    );
    assert_eq!(server.open(Priority::Unary), Err(OpenError::Exhausted));
}

#[test]
fn a_stream_makes_room_for_another_when_both_halves_are_over() {
    let limits = Limits {
        max_streams: 2,
        ..LIMITS
    };
    let (mut client, mut server) = pair(limits);
    let first = client.open(Priority::Unary).expect("room");
    client.open(Priority::Unary).expect("room");
    assert_eq!(client.open(Priority::Unary), Err(OpenError::Blocked));
    client
        .write(first, bytes(1, 0, 1), End::Stream)
        .expect("open");
    settle(&mut client, &mut server);
    server
        .write(first, Bytes::new(), End::Stream)
        .expect("open");
    settle(&mut client, &mut server);
    assert!(!events(&mut client).contains(&StreamEvent::Room));
    read_all(&mut server, first);
    settle(&mut client, &mut server);
    assert!(events(&mut client).contains(&StreamEvent::Room));
    assert!(client.open(Priority::Unary).is_ok());
    assert_eq!(client.open(Priority::Unary), Err(OpenError::Blocked));
}

#[test]
fn opening_a_stream_opens_those_before_it() {
    let (_, mut server) = pair(LIMITS);
    server
        .on_stream(5, 0, bytes(5, 0, 1), false, false)
        .expect("allowed");
    let accepted: Vec<u32> = std::iter::from_fn(|| server.accept())
        .map(StreamId::get)
        .collect();
    assert_eq!(accepted, [1, 3, 5]);
    // Accepting was quicker than the event.
    let opened = |event: &StreamEvent| matches!(event, StreamEvent::Opened(_));
    assert!(!events(&mut server).iter().any(opened));
}

#[test]
fn writing_stops_at_the_buffer_and_goes_on_when_there_is_room() {
    let limits = Limits {
        send_buffer: 1_000,
        ..LIMITS
    };
    let (mut client, mut server) = pair(limits);
    let id = client.open(Priority::Unary).expect("room");
    assert_eq!(
        client.write(id, bytes(1, 0, 1_500), End::Message),
        Ok(1_000)
    );
    assert_eq!(client.write(id, bytes(1, 1_000, 500), End::Message), Ok(0));
    assert_eq!(client.buffered(), 1_000);
    assert_eq!(events(&mut client), []);
    settle(&mut client, &mut server);
    assert_eq!(events(&mut client), [StreamEvent::Writable(id)]);
    assert_eq!(
        client.write(id, bytes(1, 1_000, 500), End::Message),
        Ok(500)
    );
    settle(&mut client, &mut server);
    assert_eq!(events(&mut client), []);
    assert_eq!(read_all(&mut server, id).1, [1_500]);
}

#[test]
fn very_many_small_writes_count_as_a_full_buffer() {
    let (mut client, mut server) = pair(LIMITS);
    let id = client.open(Priority::Unary).expect("room");
    let mut taken = 0;
    while client.write(id, Bytes::from_static(b"x"), End::Message) == Ok(1) {
        taken += 1;
    }
    assert_eq!(taken, 4_096);
    settle(&mut client, &mut server);
    assert_eq!(events(&mut client), [StreamEvent::Writable(id)]);
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    let limits = Limits {
        stream_window: 5_000,
        send_buffer: 10_000,
        ..LIMITS
    };
    let (mut client, mut server) = pair(limits);
    let id = client.open(Priority::Bulk).expect("room");
    assert_eq!(
        client.write(id, bytes(1, 0, 10_000), End::Stream),
        Ok(10_000)
    );
    settle(&mut client, &mut server);
    assert_eq!((client.buffered(), server.buffered()), (5_000, 5_000));
    assert!(client.blocked());
    assert_eq!(read_all(&mut server, id).0.len(), 5_000);
    settle(&mut client, &mut server);
    assert_eq!(
        read_all(&mut server, id),
        (bytes(1, 5_000, 5_000).to_vec(), vec![], true)
    );
}

#[test]
fn news_of_windows_wait_until_half_is_read() {
    let limits = Limits {
        stream_window: 1_000,
        connection_window: 4_000,
        ..LIMITS
    };
    let (mut client, mut server) = pair(limits);
    let id = client.open(Priority::Bulk).expect("room");
    client.write(id, bytes(1, 0, 499), End::More).expect("open");
    settle(&mut client, &mut server);
    read_all(&mut server, id);
    assert!(!server.has_data());
    client.write(id, bytes(1, 499, 1), End::More).expect("open");
    settle(&mut client, &mut server);
    read_all(&mut server, id);
    let part = part(&mut server, ROOM).expect("news");
    assert_eq!(
        frames(&part),
        [Frame::MaxData {
            id: 1,
            limit: 1_500
        }]
    );
}

#[test]
fn windows_grow_while_they_hold_the_peer_back() {
    let limits = Limits {
        stream_window: 1_000,
        connection_window: 1_000,
        ..LIMITS
    };
    let rtt = Duration::from_millis(20);
    let largest = |pace: Duration| {
        let (mut client, mut server) = pair(limits);
        server.set_rtt(rtt);
        let id = client.open(Priority::Bulk).expect("room");
        let mut now = Time::ZERO;
        for _ in 0..200 {
            let _ = client.write(id, bytes(1, 0, 20_000), End::More);
            settle(&mut client, &mut server);
            now = now + pace;
            while server.read(now, id).expect("open").is_some() {}
        }
        let _ = client.write(id, bytes(1, 0, 20_000), End::More);
        settle(&mut client, &mut server);
        server.buffered()
    };
    assert_eq!(largest(rtt), 16_000);
    assert_eq!(largest(rtt * 9), 1_000);
}

#[test]
fn windows_that_are_configured_larger_reach_the_peer() {
    let limits = Limits {
        stream_window: 100,
        connection_window: 100,
        send_buffer: 1_000,
        max_streams: 1,
    };
    let (mut client, mut server) = pair(limits);
    let id = client.open(Priority::Bulk).expect("room");
    client.write(id, bytes(1, 0, 500), End::More).expect("open");
    assert_eq!(client.open(Priority::Bulk), Err(OpenError::Blocked));
    settle(&mut client, &mut server);
    assert_eq!(server.buffered(), 100);
    server.configure(Limits {
        stream_window: 300,
        connection_window: 1_000,
        send_buffer: 1_000,
        max_streams: 5,
    });
    settle(&mut client, &mut server);
    assert_eq!(server.buffered(), 300);
    assert_eq!(client.open(Priority::Bulk).map(StreamId::get), Ok(3));
    // Nothing is taken back.
    server.configure(limits);
    settle(&mut client, &mut server);
    read_all(&mut server, id);
    settle(&mut client, &mut server);
    assert_eq!(server.buffered(), 200);
}

#[test]
fn new_streams_keep_the_window_that_the_handshake_told() {
    let limits = |stream_window| Limits {
        stream_window,
        connection_window: 10_000,
        send_buffer: 1_000,
        max_streams: 5,
    };
    let (mut client, mut server) = pair(limits(400));
    // Smaller: the peer may still use what it was told. Much larger: it is told so.
    for (window, arrives) in [(100, 400), (2_000, 1_000)] {
        server.configure(limits(window));
        let id = client.open(Priority::Bulk).expect("room");
        let data = bytes(id.get(), 0, 1_000);
        client.write(id, data, End::More).expect("open");
        settle(&mut client, &mut server);
        assert_eq!(server.buffered(), arrives);
        assert_eq!(read_all(&mut server, id).0.len(), arrives);
        client.reset(id, 0);
        settle(&mut client, &mut server);
        assert_eq!(read(&mut server, id), Err(ReadError::Reset(0)));
    }
}

#[test]
fn data_of_abandoned_streams_return_to_the_window() {
    let limits = Limits {
        connection_window: 1_000,
        ..LIMITS
    };
    let (mut client, mut server) = pair(limits);
    for round in 0..50 {
        let id = client.open(Priority::Unary).expect("room");
        let taken = client.write(id, bytes(1, 0, 600), End::More);
        assert_eq!(taken, Ok(600), "round {round}");
        let data = part(&mut client, ROOM).expect("data");
        client.reset(id, 7);
        client.stop(id, 7);
        let reset = part(&mut client, ROOM).expect("reset");
        // In both orders.
        let parts = if round % 2 == 0 {
            [&data, &reset]
        } else {
            [&reset, &data]
        };
        for part in parts {
            deliver(part, &mut server).expect("allowed");
        }
        assert_eq!(read(&mut server, id), Err(ReadError::Reset(7)));
        server.reset(id, 7);
        settle(&mut client, &mut server);
        assert!(client.is_empty() && server.is_empty());
        assert_eq!(server.buffered(), 0);
    }
}
