use std::time::Duration;

use super::*;

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn a_batch_arrives_whole_and_in_order() {
    let sender = bind_group(local(), 1).unwrap().remove(0);
    let receiver = bind_group(local(), 1).unwrap().remove(0);
    let outgoing = Outgoing {
        to: receiver.local_addr().unwrap(),
        from: None,
        segment: Some(1_200),
        ecn: true,
    };
    let count = sender.max_segments().min(8);
    let contents: Vec<u8> = (0..count).flat_map(|n| vec![n as u8; 1_200]).collect();
    std::future::poll_fn(|cx| sender.poll_send(cx, &outgoing, &contents))
        .await
        .unwrap();

    let mut inbound = Inbound::new();
    let mut seen = Vec::new();
    while seen.len() < count {
        let read = std::future::poll_fn(|cx| receiver.poll_recv(cx, &mut inbound));
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .unwrap()
            .unwrap();
        for (arrival, bytes) in inbound.arrivals() {
            assert_eq!(arrival.from, sender.local_addr().unwrap());
            seen.extend(bytes.chunks(arrival.stride).map(|datagram| {
                assert_eq!(datagram.len(), 1_200);
                datagram[0]
            }));
        }
    }
    let expected: Vec<u8> = (0..count as u8).collect();
    assert_eq!(seen, expected);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn datagrams_reach_the_socket_of_their_guuid() {
    let sockets = bind_group(local(), 3).unwrap();
    if sockets.len() < 3 {
        return; // The kernel does not let us attach the program.
    }
    let to = sockets[0].local_addr().unwrap();
    let sender = bind_group(local(), 1).unwrap().remove(0);
    for last in 0..30_u8 {
        let mut datagram = [0_u8; 64];
        datagram[21] = last;
        let outgoing = Outgoing {
            to,
            from: None,
            segment: None,
            ecn: false,
        };
        std::future::poll_fn(|cx| sender.poll_send(cx, &outgoing, &datagram))
            .await
            .unwrap();
        let lane = lane_of(&datagram, 3);
        let mut inbound = Inbound::new();
        let read = std::future::poll_fn(|cx| sockets[lane].poll_recv(cx, &mut inbound));
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .unwrap()
            .unwrap();
        let (_, bytes) = inbound.arrivals().next().unwrap();
        assert_eq!(bytes[21], last);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_group_does_not_join_another() {
    let sockets = bind_group(local(), 2).unwrap();
    let taken = sockets[0].local_addr().unwrap();
    let error = bind_group(taken, 2).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    drop(sockets);
    bind_group(taken, 2).unwrap();
}
