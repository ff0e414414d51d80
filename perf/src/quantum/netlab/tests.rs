use std::time::{Duration, Instant};

use super::link::Loss;
use super::*;

fn shape() -> Shape {
    Shape {
        rtt: Duration::from_millis(20),
        rate: 100_000_000,
        queue_bdp: 2.0,
        loss: Loss::Independent(0.0),
    }
}

#[test]
fn datagrams_go_there_and_back_in_a_round_trip() {
    let (ends, ports) = sockets("as asked".to_owned()).unwrap();
    let relay = Relay::start(&shape(), 1, ports).unwrap();
    go_there_and_back(&Lab { ends, relay });
}

#[test]
fn namespaces_are_as_far_apart_as_sockets() {
    // Where namespaces are not allowed this is the test above once more.
    go_there_and_back(&Lab::new(&shape(), 1).unwrap());
}

fn go_there_and_back(lab: &Lab) {
    std::thread::scope(|scope| {
        let (told, address) = std::sync::mpsc::sync_channel(1);
        scope.spawn(move || {
            lab.enter(End::Far).unwrap();
            let socket = UdpSocket::bind((lab.address(End::Far), 0)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            told.send(socket.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 2000];
            for _ in 0..ROUNDS {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        scope.spawn(move || {
            lab.enter(End::Near).unwrap();
            let socket = UdpSocket::bind((lab.address(End::Near), 0)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            socket.connect(lab.dial(address.recv().unwrap())).unwrap();
            lab.mark();
            let mut least = Duration::MAX;
            for _ in 0..ROUNDS {
                let started = Instant::now();
                socket.send(&[7; 1000]).unwrap();
                let mut buffer = [0; 2000];
                assert_eq!(socket.recv(&mut buffer).unwrap(), 1000);
                least = least.min(started.elapsed());
            }
            assert!(least >= Duration::from_millis(20), "{least:?}");
            // A machine that is busy adds to it, but not each time.
            assert!(least < Duration::from_millis(23), "{least:?}");
            for counts in lab.counts() {
                assert_eq!((counts.packets, counts.bytes), (ROUNDS, ROUNDS * 1028));
            }
        });
    });
}

const ROUNDS: u64 = 20;
