//! Beginning and end of streams, by agreement and otherwise.

use super::*;

fn open(client: &mut Streams, server: &mut Streams) -> StreamId {
    let id = client.open(Priority::Unary).expect("room");
    client
        .write(id, bytes(1, 0, 10), End::Message)
        .expect("open");
    settle(client, server);
    assert_eq!(server.accept(), Some(id));
    events(server);
    id
}

#[test]
fn a_call_leaves_nothing_behind() {
    let (mut client, mut server) = pair(LIMITS);
    let id = client.open(Priority::Unary).expect("room");
    client
        .write(id, bytes(1, 0, 1_000), End::Stream)
        .expect("open");
    assert_eq!(
        client.write(id, Bytes::new(), End::More),
        Err(WriteError::Closed)
    );
    settle(&mut client, &mut server);
    assert_eq!(
        events(&mut server),
        [StreamEvent::Opened(id), StreamEvent::Readable(id)]
    );
    assert_eq!(
        read_all(&mut server, id),
        (bytes(1, 0, 1_000).to_vec(), vec![], true)
    );
    assert_eq!(read(&mut server, id), Err(ReadError::Closed));
    assert_eq!(server.len(), 1);
    server
        .write(id, bytes(1, 0, 500), End::Stream)
        .expect("open");
    settle(&mut client, &mut server);
    assert!(server.is_empty());
    assert_eq!(events(&mut client), [StreamEvent::Readable(id)]);
    read_all(&mut client, id);
    assert!(client.is_empty());
    assert_eq!(client.buffered() + server.buffered(), 0);
    assert_eq!(
        client.write(id, Bytes::new(), End::Stream),
        Err(WriteError::Closed)
    );
    assert_eq!(read(&mut client, id), Err(ReadError::Closed));
}

#[test]
fn events_do_not_pile_up() {
    let (mut client, mut server) = pair(LIMITS);
    let id = open(&mut client, &mut server);
    for at in 1..100 {
        client
            .write(id, bytes(1, at * 10, 10), End::Message)
            .expect("open");
        settle(&mut client, &mut server);
    }
    assert_eq!(events(&mut server), [StreamEvent::Readable(id)]);
    client
        .write(id, bytes(1, 1_000, 10), End::Message)
        .expect("open");
    settle(&mut client, &mut server);
    read_all(&mut server, id);
    assert_eq!(events(&mut server), [], "it is read already");
}

#[test]
fn a_reset_reaches_the_reader_once() {
    let (mut client, mut server) = pair(LIMITS);
    let id = open(&mut client, &mut server);
    client.write(id, bytes(1, 10, 10), End::More).expect("open");
    client.reset(id, 42);
    assert_eq!(client.buffered(), 0);
    assert_eq!(
        client.write(id, Bytes::new(), End::More),
        Err(WriteError::Closed)
    );
    settle(&mut client, &mut server);
    assert_eq!(
        events(&mut server),
        [StreamEvent::Reset(id, 42), StreamEvent::Readable(id)]
    );
    assert_eq!(server.buffered(), 0);
    assert_eq!(read(&mut server, id), Err(ReadError::Reset(42)));
    assert_eq!(read(&mut server, id), Err(ReadError::Closed));
    server.reset(id, 0);
    assert!(server.is_empty());
    settle(&mut client, &mut server);
    assert_eq!(read(&mut client, id), Err(ReadError::Reset(0)));
    assert!(client.is_empty());
}

#[test]
fn a_stop_reaches_the_writer_and_is_answered_with_a_reset() {
    let (mut client, mut server) = pair(LIMITS);
    let id = open(&mut client, &mut server);
    server.stop(id, 9);
    assert_eq!(read(&mut server, id), Err(ReadError::Closed));
    let stop = part(&mut server, ROOM).expect("stop");
    assert_eq!(frames(&stop), [Frame::Stop { id: 1, code: 9 }]);
    client.write(id, bytes(1, 10, 10), End::More).expect("open");
    deliver(&stop, &mut client).expect("fine");
    assert_eq!(client.buffered(), 0);
    assert_eq!(events(&mut client), [StreamEvent::Stopped(id, 9)]);
    assert_eq!(
        client.write(id, Bytes::new(), End::More),
        Err(WriteError::Stopped(9))
    );
    assert_eq!(
        client.write(id, Bytes::new(), End::More),
        Err(WriteError::Closed)
    );
    let reset = part(&mut client, ROOM).expect("reset");
    assert_eq!(frames(&reset), [Frame::Reset { id: 1, code: 9 }]);
    deliver(&reset, &mut server).expect("fine");
    assert_eq!(events(&mut server), []);
    server.write(id, Bytes::new(), End::Stream).expect("open");
    settle(&mut client, &mut server);
    assert!(server.is_empty());
    read_all(&mut client, id);
    assert!(client.is_empty());
}

#[test]
fn reset_and_stop_may_cross() {
    let (mut client, mut server) = pair(LIMITS);
    let id = open(&mut client, &mut server);
    client
        .write(id, bytes(1, 10, 100), End::More)
        .expect("open");
    client.reset(id, 1);
    client.stop(id, 1);
    server.reset(id, 2);
    server.stop(id, 2);
    assert!(client.is_empty() && server.is_empty());
    settle(&mut client, &mut server);
    assert!(client.is_empty() && server.is_empty());
    assert_eq!((events(&mut client), events(&mut server)), (vec![], vec![]));
}

#[test]
fn a_stop_after_the_end_was_written_drops_what_is_left() {
    let (mut client, mut server) = pair(LIMITS);
    let id = open(&mut client, &mut server);
    server.stop(id, 3);
    client
        .write(id, bytes(1, 10, 100), End::Stream)
        .expect("open");
    let stop = part(&mut server, ROOM).expect("stop");
    deliver(&stop, &mut client).expect("fine");
    assert_eq!(client.buffered(), 0);
    settle(&mut client, &mut server);
    server.write(id, Bytes::new(), End::Stream).expect("open");
    settle(&mut client, &mut server);
    read_all(&mut client, id);
    assert!(client.is_empty() && server.is_empty());
}

#[test]
fn a_stream_that_has_arrived_whole_is_neither_reset_nor_stopped() {
    let (mut client, mut server) = pair(LIMITS);
    let id = client.open(Priority::Unary).expect("room");
    client
        .write(id, bytes(1, 0, 10), End::Stream)
        .expect("open");
    settle(&mut client, &mut server);
    server.on_reset(id.get(), 5).expect("allowed");
    assert_eq!(server.buffered(), 10);
    server.stop(id, 5);
    assert!(!server.has_data());
    assert_eq!(server.buffered(), 0);
}

#[test]
fn a_reset_may_come_first() {
    let (_, mut server) = pair(LIMITS);
    server.on_reset(3, 8).expect("allowed");
    let first = server.accept().expect("opened by the second");
    let second = server.accept().expect("reset");
    assert_eq!((first.get(), second.get()), (1, 3));
    assert_eq!(read(&mut server, second), Err(ReadError::Reset(8)));
    assert_eq!(read(&mut server, first), Ok(None));
}

#[test]
fn a_closed_connection_says_so() {
    let (mut client, mut server) = pair(LIMITS);
    let id = open(&mut client, &mut server);
    client
        .write(id, bytes(1, 10, 100), End::More)
        .expect("open");
    client.close();
    assert_eq!(client.open(Priority::Unary), Err(OpenError::Closed));
    assert_eq!(
        client.write(id, Bytes::new(), End::More),
        Err(WriteError::Closed)
    );
    assert_eq!(read(&mut client, id), Err(ReadError::Closed));
    assert_eq!((client.buffered(), client.len()), (0, 0));
    assert!(!client.has_data() && client.poll().is_none() && client.accept().is_none());
    assert_eq!(client.on_stream(2, 0, Bytes::new(), true, false), Ok(()));
    assert!(client.is_empty());
}

#[test]
fn a_million_streams_leave_nothing_behind() {
    let (mut client, mut server) = pair(LIMITS);
    let request = bytes(1, 0, 100);
    for _ in 0..1_000_000 {
        let id = client.open(Priority::Unary).expect("room");
        client
            .write(id, request.clone(), End::Stream)
            .expect("open");
        while let Some(part) = part(&mut client, ROOM) {
            deliver(&part, &mut server).expect("fine");
        }
        // Nobody asks for events.
        server.accept().expect("opened");
        assert_eq!(
            read(&mut server, id).expect("open").map(|it| it.end),
            Some(End::Stream)
        );
        server
            .write(id, request.clone(), End::Stream)
            .expect("open");
        while let Some(part) = part(&mut server, ROOM) {
            deliver(&part, &mut client).expect("fine");
        }
        read(&mut client, id).expect("open");
    }
    for side in [&client, &server] {
        assert_eq!((side.len(), side.buffered(), side.control.len()), (0, 0, 0));
        assert!(side.streams.capacity() < 256);
        assert!(side.events.len() < 256);
    }
}

#[test]
fn cancelled_calls_leave_nothing_behind() {
    let (mut client, mut server) = pair(LIMITS);
    let mut chance = Random::new(5);
    for _ in 0..50_000 {
        let id = client.open(Priority::Bulk).expect("room");
        client.write(id, bytes(1, 0, 50), End::More).expect("open");
        if chance.below(2) == 0 {
            settle(&mut client, &mut server);
        }
        client.reset(id, 1);
        client.stop(id, 1);
        settle(&mut client, &mut server);
        let id = server.accept().expect("opened");
        if chance.below(2) == 0 {
            let _ = server.write(id, bytes(1, 0, 50), End::Stream);
        }
        server.reset(id, 1);
        server.stop(id, 1);
        settle(&mut client, &mut server);
    }
    for side in [&client, &server] {
        assert_eq!((side.len(), side.buffered(), side.control.len()), (0, 0, 0));
        assert!(!side.has_data());
        assert!(side.streams.capacity() < 256);
        assert!(side.events.len() < 256);
    }
}
