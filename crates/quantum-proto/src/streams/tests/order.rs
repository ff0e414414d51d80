//! Whose data leave first, and how messages share packets.

use super::*;

/// Ids of the STREAM frames of a source part.
fn ids(part: &Bytes) -> Vec<u32> {
    let id = |frame: &Frame| match frame {
        Frame::Stream { id, .. } => Some(*id),
        _ => None,
    };
    frames(part).iter().filter_map(id).collect()
}

/// One stream of `len` bytes per priority, in that order.
fn with(priorities: &[Priority], len: usize) -> (Streams, Vec<StreamId>) {
    let (mut client, _) = pair(LIMITS);
    let opened = priorities.iter().map(|priority| {
        let id = client.open(*priority).expect("room");
        let data = bytes(id.get(), 0, len);
        assert_eq!(client.write(id, data, End::Stream), Ok(len));
        id
    });
    let opened = opened.collect();
    (client, opened)
}

#[test]
fn higher_classes_leave_first() {
    use Priority::{Bulk, Control, ServerStream, Unary};
    let (mut client, id) = with(&[Bulk, ServerStream, Unary, Control], 100);
    let part = part(&mut client, ROOM).expect("data");
    let order: Vec<u32> = id.iter().rev().map(|id| id.get()).collect();
    assert_eq!(ids(&part), order);
}

#[test]
fn a_higher_class_goes_before_a_transfer_under_way() {
    let (mut client, id) = with(&[Priority::Bulk], 50_000);
    part(&mut client, ROOM).expect("data");
    let urgent = client.open(Priority::Control).expect("room");
    client
        .write(urgent, bytes(3, 0, 10), End::Stream)
        .expect("open");
    let part = part(&mut client, ROOM).expect("data");
    assert_eq!(ids(&part), [urgent.get(), id[0].get()]);
}

#[test]
fn a_stream_that_changes_its_class_changes_its_place() {
    let (mut client, id) = with(&[Priority::Bulk, Priority::Unary], 5_000);
    client.set_priority(id[0], Priority::Control);
    assert_eq!(ids(&part(&mut client, ROOM).expect("data")), [id[0].get()]);
    client.set_priority(id[0], Priority::Bulk);
    assert_eq!(ids(&part(&mut client, ROOM).expect("data")), [id[1].get()]);
}

#[test]
fn streams_of_a_class_take_turns_of_a_packet() {
    let (mut client, id) = with(&[Priority::Bulk; 3], 20_000);
    let mut bytes_of = [0_usize; 3];
    for _ in 0..30 {
        let part = part(&mut client, ROOM).expect("data");
        for frame in frames(&part) {
            if let Frame::Stream { id: of, data, .. } = frame {
                let index = id.iter().position(|id| id.get() == of).expect("known");
                bytes_of[index] += data.len();
            }
        }
    }
    let least = bytes_of.iter().min().expect("three");
    let most = bytes_of.iter().max().expect("three");
    assert!(most - least <= ROOM, "{bytes_of:?}");
}

#[test]
fn small_messages_share_a_packet() {
    let (mut client, id) = with(&[Priority::Unary; 8], 50);
    let mut out = BytesMut::new();
    let filled = client.fill(&mut out, ROOM);
    assert!(filled.pushes && filled.alone);
    assert_eq!(out.len(), id.len() * (STREAM_HEAD + 50));
    assert!(!client.has_data());
}

#[test]
fn a_packet_is_alone_if_it_holds_whole_messages_and_nothing_follows() {
    let (mut client, _) = with(&[Priority::Unary], 2_000);
    let mut out = BytesMut::new();
    let first = client.fill(&mut out, ROOM);
    assert!(!first.pushes && !first.alone);
    let rest = client.fill(&mut out, ROOM);
    assert!(rest.pushes && !rest.alone, "a message of two packets");
    let (mut client, _) = with(&[Priority::Unary; 2], 1_000);
    let first = client.fill(&mut out, ROOM);
    assert!(first.pushes && !first.alone, "another message follows");
}

#[test]
fn no_crumbs_are_cut_off_for_the_end_of_a_packet() {
    let (mut client, id) = with(&[Priority::Unary; 2], 1_100);
    // The first leaves 34 bytes, which is too little to begin the second.
    assert_eq!(ids(&part(&mut client, ROOM).expect("data")), [id[0].get()]);
    let second = part(&mut client, ROOM).expect("data");
    assert_eq!(second.len(), STREAM_HEAD + 1_100);
}

#[test]
fn marks_go_out_although_the_window_is_used_up() {
    let limits = Limits {
        connection_window: 100,
        ..LIMITS
    };
    let (mut client, mut server) = pair(limits);
    let full = client.open(Priority::Unary).expect("room");
    let other = client.open(Priority::Bulk).expect("room");
    client
        .write(other, bytes(3, 0, 50), End::More)
        .expect("open");
    settle(&mut client, &mut server);
    client
        .write(full, bytes(1, 0, 80), End::Stream)
        .expect("open");
    settle(&mut client, &mut server);
    assert!(client.blocked());
    client
        .write(other, Bytes::new(), End::Stream)
        .expect("open");
    assert!(client.has_data() && !client.blocked());
    settle(&mut client, &mut server);
    assert_eq!(
        read_all(&mut server, other),
        (bytes(3, 0, 50).to_vec(), vec![], true)
    );
    settle(&mut client, &mut server);
    assert_eq!(
        read_all(&mut server, full),
        (bytes(1, 0, 80).to_vec(), vec![], true)
    );
}

#[test]
fn messages_keep_their_ends() {
    let (mut client, mut server) = pair(LIMITS);
    let id = client.open(Priority::Unary).expect("room");
    let mut write = |data: &'static [u8], end| {
        let taken = client.write(id, Bytes::from_static(data), end);
        assert_eq!(taken, Ok(data.len()));
    };
    write(b"", End::Message);
    write(b"one", End::Message);
    write(b"", End::Message);
    write(b"tw", End::More);
    write(b"o", End::More);
    write(b"", End::Message);
    write(b"three", End::Stream);
    settle(&mut client, &mut server);
    let heard = read_all(&mut server, id);
    assert_eq!(heard, (b"onetwothree".to_vec(), vec![3, 6], true));
}

#[test]
fn an_end_without_data_is_not_overtaken_by_what_follows() {
    let (mut client, mut server) = pair(LIMITS);
    let id = client.open(Priority::Unary).expect("room");
    client.write(id, bytes(1, 0, 3), End::More).expect("open");
    deliver(&part(&mut client, ROOM).expect("data"), &mut server).expect("fine");
    client.write(id, Bytes::new(), End::Message).expect("open");
    part(&mut client, ROOM).expect("is lost");
    client
        .write(id, bytes(1, 3, 3), End::Message)
        .expect("open");
    deliver(&part(&mut client, ROOM).expect("data"), &mut server).expect("fine");
    assert_eq!(read_all(&mut server, id).1, [3, 6]);
    client.write(id, bytes(1, 6, 1), End::More).expect("open");
    deliver(&part(&mut client, ROOM).expect("data"), &mut server).expect("fine");
    assert_eq!(read_all(&mut server, id).1, [] as [usize; 0]);
    client.write(id, Bytes::new(), End::Message).expect("open");
    part(&mut client, ROOM).expect("is lost");
    client.write(id, Bytes::new(), End::Stream).expect("open");
    deliver(&part(&mut client, ROOM).expect("data"), &mut server).expect("fine");
    assert_eq!(read_all(&mut server, id), (vec![], vec![0], true));
}
