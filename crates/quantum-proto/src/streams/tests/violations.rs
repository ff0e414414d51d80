//! Each rule that a peer can break, and what it may do that looks like it.

use super::*;

fn server() -> Streams {
    let limits = Limits {
        stream_window: 100,
        connection_window: 150,
        send_buffer: 1_000,
        max_streams: 3,
    };
    let mut server = Streams::new(Role::Server, limits);
    server.set_peer(grants(limits));
    server
}

fn code(result: Result<(), Violation>) -> u32 {
    result.expect_err("a violation").code
}

#[test]
fn data_beyond_the_window_of_a_stream_are_a_violation() {
    let mut server = server();
    assert_eq!(
        server.on_stream(1, 0, bytes(1, 0, 100), false, false),
        Ok(())
    );
    let more = server.on_stream(1, 100, bytes(1, 100, 1), false, false);
    assert_eq!(code(more), close::FLOW_CONTROL);
    let far = server.on_stream(3, 101, Bytes::new(), true, false);
    assert_eq!(code(far), close::FLOW_CONTROL);
}

#[test]
fn data_beyond_the_window_of_the_connection_are_a_violation() {
    let mut server = server();
    assert_eq!(
        server.on_stream(1, 0, bytes(1, 0, 100), false, false),
        Ok(())
    );
    assert_eq!(
        server.on_stream(3, 50, bytes(3, 50, 50), false, false),
        Ok(())
    );
    // What is known already takes nothing.
    assert_eq!(
        server.on_stream(1, 0, bytes(1, 0, 100), false, false),
        Ok(())
    );
    let more = server.on_stream(5, 0, bytes(5, 0, 1), false, false);
    assert_eq!(code(more), close::FLOW_CONTROL);
}

#[test]
fn an_end_that_moves_is_a_violation() {
    let mut server = server();
    assert_eq!(server.on_stream(1, 0, bytes(1, 0, 10), true, false), Ok(()));
    assert_eq!(server.on_stream(1, 0, bytes(1, 0, 10), true, false), Ok(()));
    let longer = server.on_stream(1, 10, bytes(1, 10, 1), false, false);
    assert_eq!(code(longer), close::FINAL_SIZE);
    let shorter = server.on_stream(1, 0, bytes(1, 0, 9), true, false);
    assert_eq!(code(shorter), close::FINAL_SIZE);
    assert_eq!(
        server.on_stream(3, 20, bytes(3, 20, 5), false, false),
        Ok(())
    );
    let before = server.on_stream(3, 0, bytes(3, 0, 24), true, false);
    assert_eq!(code(before), close::FINAL_SIZE);
}

#[test]
fn streams_beyond_the_limit_are_a_violation() {
    for mut speak in [
        (|server, id| server.on_stream(id, 0, Bytes::new(), false, false))
            as fn(&mut Streams, u32) -> Result<(), Violation>,
        |server, id| server.on_max_data(id, 1),
        |server, id| server.on_reset(id, 1),
        |server, id| server.on_stop(id, 1),
    ] {
        let speak = &mut speak;
        let mut server = server();
        assert_eq!(speak(&mut server, 5), Ok(()));
        assert_eq!(server.len(), 3);
        assert_eq!(code(speak(&mut server, 7)), close::STREAM_LIMIT);
        // Ours, but never opened.
        assert_eq!(code(speak(&mut server, 2)), close::STREAM_STATE);
    }
}

#[test]
fn the_connection_is_no_stream() {
    let mut server = server();
    let data = server.on_stream(0, 0, Bytes::new(), true, false);
    assert_eq!(code(data), close::STREAM_STATE);
    assert_eq!(code(server.on_reset(0, 1)), close::STREAM_STATE);
    assert_eq!(code(server.on_stop(0, 1)), close::STREAM_STATE);
    assert_eq!(server.on_max_data(0, 1), Ok(()));
}

#[test]
fn offsets_beyond_64_bits_are_a_violation() {
    let mut server = server();
    let data = server.on_stream(1, u64::MAX, bytes(1, 0, 1), false, false);
    assert_eq!(code(data), close::FRAME);
}

#[test]
fn more_streams_than_have_names_are_a_violation() {
    let mut server = server();
    assert_eq!(server.on_max_streams(1 << 31), Ok(()));
    let more = server.on_max_streams((1 << 31) + 1);
    assert_eq!(code(more), close::STREAM_LIMIT);
}

#[test]
fn crumbs_out_of_order_are_a_violation_before_they_cost_much() {
    let limits = Limits {
        stream_window: 1 << 20,
        connection_window: 1 << 20,
        ..LIMITS
    };
    let mut server = Streams::new(Role::Server, limits);
    let broken = (1..1 << 19)
        .map(|index| server.on_stream(1, index * 2, bytes(1, 0, 1), false, false))
        .position(|result| result.is_err());
    assert_eq!(broken, Some(receiving::ISLANDS_MAX));
}

#[test]
fn unread_messages_without_end_are_a_violation() {
    let limits = Limits {
        stream_window: 1 << 20,
        connection_window: 1 << 20,
        ..LIMITS
    };
    let mut server = Streams::new(Role::Server, limits);
    let broken = (0..1 << 20)
        .map(|index| server.on_stream(1, index, bytes(1, 0, 1), false, true))
        .position(|result| result.is_err());
    assert_eq!(broken, Some(receiving::MARKS_MAX));
}

#[test]
fn frames_for_streams_that_are_gone_are_ignored() {
    let (mut client, mut server) = pair(LIMITS);
    let id = client.open(Priority::Unary).expect("room");
    client
        .write(id, bytes(1, 0, 10), End::Stream)
        .expect("open");
    settle(&mut client, &mut server);
    server.write(id, Bytes::new(), End::Stream).expect("open");
    read_all(&mut server, id);
    settle(&mut client, &mut server);
    read_all(&mut client, id);
    assert!(client.is_empty() && server.is_empty());
    for side in [&mut client, &mut server] {
        assert_eq!(
            side.on_stream(id.get(), 0, bytes(1, 0, 10), false, true),
            Ok(())
        );
        assert_eq!(side.on_max_data(id.get(), 1 << 40), Ok(()));
        assert_eq!(side.on_reset(id.get(), 1), Ok(()));
        assert_eq!(side.on_stop(id.get(), 1), Ok(()));
        assert!(side.is_empty());
        assert_eq!(side.buffered(), 0);
    }
}
