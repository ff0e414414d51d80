//! A worker with real sockets, and what must not disturb it.
#![expect(
    clippy::disallowed_methods,
    reason = "the test reads the time to bound its waits"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use auth::revocation::{Revocation, Revoked};
use auth::{KeySets, Revocations, TokenSettings, Verifier};
use bus::{MemoryBus, MemoryConfig};
use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use prometheus_client::registry::Registry;
use protocol::channel::Channel;
use protocol::claims::ConnectionClaims;
use protocol::code::Disconnect;
use protocol::codec::Encoding;
use protocol::dialect::Dialect;
use protocol::message::ClientInfo;
use protocol::session::{Operation, Settings, SubscribeAsk, Transport};
use protocol::settings::{ChannelOptions, ChannelSettings, ClientSettings, Namespaces};
use router::{Flavor, Framing};
use tokio::runtime::Runtime;
use websocket::{Limits, OpCode};

use super::arrival::{Arrival, Socket};
use super::connection::{Connection, Own};
use super::inbox::Mail;
use super::pipe::Pipe;
use super::{Select, Worker};
use crate::door::Door;
use crate::fleet::{Crew, Fleet};
use crate::live::{Addresses, Door as DoorSettings, Fixed, Http, Live, WebSocket};
use crate::metrics::Metrics;

mod live_dialect;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// RFC 6455 11.8.
const CLOSE: u8 = 8;

#[test]
fn a_resting_connection_is_small() {
    let bytes = size_of::<Connection>();
    println!("{bytes} bytes per connection in the slab");
    assert!(bytes <= 248, "{bytes} bytes");
}

#[test]
fn a_resting_connection_holds_no_queue() {
    let bench = Bench::start();
    let mut clients: Vec<Client> = (0..20).map(|_| bench.connect("ann")).collect();
    for client in &mut clients {
        client.subscribe("news");
    }
    bench.publish("news", r#"{"n":1}"#);
    for client in &mut clients {
        client.sees(r#""data":{"n":1}"#);
    }
    let queues = bench.on_worker(|worker| {
        worker
            .connections
            .iter()
            .filter(|(_, connection)| connection.queue.is_some())
            .count()
    });
    assert_eq!(queues, 0);
}

#[test]
fn a_panic_ends_one_session_only() {
    let bench = Bench::start();
    let mut clients: Vec<Client> = (0..3).map(|_| bench.connect("ann")).collect();
    for client in &mut clients {
        client.subscribe("news");
    }
    bench.on_worker(|worker| {
        let first = worker
            .connections
            .iter()
            .next()
            .map(|(slot, _)| slot)
            .unwrap();
        worker.guarded(first, |worker| {
            // As it is while a read is handled.
            let _lent = std::mem::take(&mut worker.read_buffer);
            panic!("a defect");
        });
    });
    clients[0].sees_the_end();
    clients[1].send(r#"{"id":9,"publish":{"channel":"news","data":{"n":1}}}"#);
    for client in &mut clients[1..] {
        client.sees(r#""data":{"n":1}"#);
    }
    assert_eq!(bench.metrics.session_panics.get(), 1);
    assert_eq!(bench.door.connections(), 2);
}

#[test]
fn a_panic_beside_the_sessions_ends_none() {
    let bench = Bench::start();
    let mut client = bench.connect("ann");
    bench.post(|_| panic!("a defect"));
    client.subscribe("news");
    assert_eq!(bench.metrics.worker_panics.get(), 1);
    assert!(!bench.fleet.failed().is_cancelled());
}

#[test]
fn publications_go_out_before_the_close_frame_and_none_behind_it() {
    let bench = Bench::start();
    let mut client = bench.connect("ann");
    client.subscribe("news");
    let mut other = bench.connect("bob");
    // While the worker is held up, a publication and a disconnect pile up.
    let (release, held) = sync_channel::<()>(0);
    let (holding, is_held) = sync_channel::<()>(0);
    bench.post(move |_| {
        holding.send(()).unwrap();
        held.recv().unwrap();
    });
    is_held.recv().unwrap();
    bench.publish("news", r#"{"n":7}"#);
    let disconnect = Operation::Disconnect(Disconnect::SHUTDOWN);
    bench.fleet.operate("ann", &Select::default(), &disconnect);
    bench.publish("news", r#"{"n":8}"#);
    release.send(()).unwrap();
    client.sees(r#""data":{"n":7}"#);
    let (opcode, payload) = client.frame().expect("a close frame");
    assert_eq!(
        (opcode, &payload[..2]),
        (CLOSE, &3001_u16.to_be_bytes()[..])
    );
    assert_eq!(client.frame(), None);
    other.subscribe("news");
}

#[test]
fn an_http_client_that_left_early_leaves_nothing_behind() {
    let bench = Bench::start();
    let inbox = bench.fleet.pick().unwrap();
    let (pipe, body, key) = Pipe::new(Arc::clone(&inbox));
    drop(body);
    let arrival = Arrival {
        socket: Socket::Http { pipe, key },
        flavor: Flavor {
            dialect: Dialect::Centrifuge,
            encoding: Encoding::Json,
            framing: Framing::Stream,
        },
        transport: Transport::Emulated { session: 1 },
        verified: Some(claims("ann")),
        own: None,
        deflate: None,
        early: Bytes::from_static(br#"{"id":1,"connect":{}}"#),
        address: Ipv4Addr::LOCALHOST.into(),
        pass: bench.pass(),
    };
    Fleet::send(&inbox, arrival);
    assert_eq!(bench.on_worker(|worker| worker.connections.len()), 0);
    assert_eq!(bench.door.connections(), 0);
}

#[test]
fn anonymous_connections_are_found_without_being_listed() {
    let bench = Bench::start();
    let mut nobody = bench.connect("");
    let mut somebody = bench.connect("ann");
    let disconnect = Operation::Disconnect(Disconnect::FORCE_DISCONNECT);
    bench.fleet.operate("", &Select::default(), &disconnect);
    nobody.sees_the_end();
    somebody.subscribe("news");
    assert_eq!(bench.fleet.users(), 1);
}

#[test]
fn whoever_was_revoked_before_connecting_stays_out() {
    let bench = Bench::start();
    let mut client = bench.arrive("mallory");
    let revoked = Revocation {
        revoked: Revoked::User {
            user: "mallory".to_owned(),
            issued_before: u64::MAX,
        },
        expires_at: u64::MAX,
        reason: None,
    };
    bench.revocations.add(revoked, 1).unwrap();
    client.send(r#"{"id":1,"connect":{}}"#);
    let (opcode, payload) = client.frame().expect("a close frame");
    assert_eq!(
        (opcode, &payload[..2]),
        (CLOSE, &3500_u16.to_be_bytes()[..])
    );
}

#[test]
fn a_bus_that_answers_a_closing_connection_leaves_nobody_present() {
    let bench = Bench::start();
    let mut client = bench.connect("ann");
    let disconnect = Operation::Disconnect(Disconnect::FORCE_DISCONNECT);
    bench.fleet.operate("ann", &Select::default(), &disconnect);
    let (opcode, _) = client.frame().expect("a close frame");
    assert_eq!(opcode, CLOSE);
    // The client has not closed its side, so the connection is there still.
    let channel = Channel::new("news");
    let info = Arc::new(ClientInfo {
        client: "c".to_owned(),
        ..ClientInfo::default()
    });
    bench.bus.presence_add(&channel, Arc::clone(&info)).unwrap();
    let ask = SubscribeAsk {
        channel: channel.clone(),
        wildcard: false,
        positioned: false,
        join_leave_pushes: false,
        presence: Some(info),
        recover: None,
        options: Arc::default(),
        recovery_max: 0,
    };
    bench.on_worker(move |worker| {
        let (slot, _) = worker.connections.iter().next().unwrap();
        let key = worker.connections.key(slot).unwrap();
        worker.entered(key, &ask, Ok(None));
    });
    assert!(bench.bus.presence(&channel).is_empty());
}

#[test]
fn a_close_code_of_the_client_makes_no_series() {
    let bench = Bench::start();
    let mut client = bench.connect("ann");
    client.send_frame(OpCode::Close, &4321_u16.to_be_bytes());
    client.sees_the_end();
    assert!(!bench.exposition().contains("4321"));
}

#[test]
fn a_drain_is_paced_and_reaches_everybody() {
    let bench = Bench::start();
    let mut clients: Vec<Client> = (0..30).map(|_| bench.connect("ann")).collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        // Clients answer the close frame by ending, as SDKs do.
        scope.spawn(|| clients.iter_mut().for_each(Client::sees_the_end));
        bench
            .runtime
            .block_on(bench.fleet.drain(bench.clock, 100, PATIENCE));
    });
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(180),
        "{took:?} for 30 clients at 100 per second"
    );
    assert_eq!(bench.door.connections(), 0);
}

/// A worker and what it needs.
struct Bench {
    runtime: Runtime,
    fleet: Arc<Fleet>,
    bus: Arc<MemoryBus>,
    door: Arc<Door>,
    current: crate::live::Current,
    metrics: Arc<Metrics>,
    registry: Registry,
    revocations: Arc<Revocations>,
    clock: Clock,
}

impl Bench {
    fn start() -> Self {
        let runtime = lifecycle::background_runtime(1).unwrap();
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::new(&mut registry));
        let (bus, door) = (
            Arc::new(MemoryBus::new(&MemoryConfig::default())),
            Arc::default(),
        );
        let current = Arc::new(ArcSwap::from_pointee(live()));
        let revocations = Arc::new(Revocations::open(None).unwrap());
        let clock = Clock::start();
        let entered = runtime.enter();
        let fleet = Fleet::start(Crew {
            relay: None,
            bus: bus::Bus::Memory(Arc::clone(&bus)),
            current: Arc::clone(&current),
            fixed: Fixed {
                workers: 1,
                handshakes_pending: 1,
                deflate_level: 1,
                deflate_min: 0,
            },
            tasks: Tasks::new(),
            revocations: Arc::clone(&revocations),
            clock,
            door: Arc::clone(&door),
            metrics: Arc::clone(&metrics),
        })
        .unwrap();
        drop(entered);
        Self {
            runtime,
            fleet,
            bus,
            door,
            current,
            metrics,
            registry,
            revocations,
            clock,
        }
    }

    fn post(&self, task: impl FnOnce(&mut Worker) + Send + 'static) {
        self.fleet.pick().unwrap().post(Mail::Task(Box::new(task)));
    }

    /// Does something on the worker's thread and waits for it.
    fn on_worker<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = sync_channel(1);
        self.post(move |worker| sender.send(task(worker)).unwrap());
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    fn pass(&self) -> crate::door::Pass {
        let address = Ipv4Addr::LOCALHOST.into();
        self.door
            .admit(&self.current.load(), address, self.clock.mono_ms())
            .unwrap()
    }

    /// A client after the upgrade, whose token was checked in it.
    fn arrive(&self, user: &str) -> Client {
        self.arrive_as(Dialect::Centrifuge, claims(user), None)
    }

    fn arrive_as(
        &self,
        dialect: Dialect,
        claims: ConnectionClaims,
        own: Option<Box<Own>>,
    ) -> Client {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let arrival = Arrival {
            socket: Socket::Tcp(accepted),
            flavor: Flavor {
                dialect,
                encoding: Encoding::Json,
                framing: Framing::WebSocket { deflate_bits: None },
            },
            transport: Transport::WebSocket,
            verified: Some(claims),
            own,
            deflate: None,
            early: Bytes::new(),
            address: Ipv4Addr::LOCALHOST.into(),
            pass: self.pass(),
        };
        Fleet::send(&self.fleet.pick().unwrap(), arrival);
        Client { socket }
    }

    fn connect(&self, user: &str) -> Client {
        let mut client = self.arrive(user);
        client.send(r#"{"id":1,"connect":{}}"#);
        client.sees(r#""connect":{"#);
        client
    }

    fn publish(&self, channel: &str, data: &str) {
        let data = Bytes::copy_from_slice(data.as_bytes());
        let publish = bus::Publish::new(Channel::new(channel), data);
        let now = bus::Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        };
        self.bus.publish(now, publish).unwrap();
    }

    fn exposition(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.runtime.block_on(self.fleet.stop(&Tasks::new()));
    }
}

fn claims(user: &str) -> ConnectionClaims {
    ConnectionClaims {
        user: user.to_owned(),
        ..ConnectionClaims::default()
    }
}

/// Settings under which any channel may be used by anybody.
fn live() -> Live {
    let options = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        ..ChannelOptions::default()
    };
    let channels = ChannelSettings {
        without_namespace: options,
        ..ChannelSettings::default()
    };
    let verifier = Verifier::new(&TokenSettings::default(), None, &KeySets::new()).unwrap();
    Live {
        proxy: Http {
            keep_alive: PATIENCE,
            body_patience_ms: 10_000,
            http2: None,
        },
        relay: None,
        live_data: None,
        services: Arc::new(router::services::Services::new(
            Vec::new(),
            None,
            false,
            Clock::start(),
        )),
        session: Settings {
            stratix_pulse: protocol::dialect::Pulse {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(30),
            },
            client: ClientSettings::default(),
            namespaces: Namespaces::new(&channels).unwrap(),
            rpc_ping: false,
            calls: protocol::calls::Calls::default(),
            backlog_max: 256 * 1024,
            live_subjects: protocol::subjects::Subjects::new(&["xy.>"]).unwrap_or_default(),
            version: "1",
            node: "n".to_owned(),
        },
        origins: Box::new(|_| true),
        addresses: Addresses::default(),
        door: DoorSettings {
            handshake_timeout: PATIENCE,
            ..DoorSettings::default()
        },
        websocket: WebSocket {
            enabled: true,
            limits: Limits::default(),
            deflate: None,
            write_timeout: Duration::from_secs(1),
            control_frame_rate: 0,
            control_frame_burst: 0,
            unsent_max: 0,
        },
        http_stream_body_max: None,
        sse_body_max: None,
        emulation_body_max: 0,
        verifier: Arc::new(verifier),
        flags: Arc::new(|_, _| None),
        demo: None,
    }
}

struct Client {
    socket: TcpStream,
}

impl Client {
    fn send(&mut self, text: &str) {
        self.send_frame(OpCode::Text, text.as_bytes());
    }

    fn send_frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let mut frame = Vec::new();
        websocket::encode_frame(&mut frame, opcode, true, false, Some([1, 2, 3, 4]), payload);
        self.socket.write_all(&frame).unwrap();
    }

    #[track_caller]
    fn subscribe(&mut self, channel: &str) {
        self.send(&format!(
            r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#
        ));
        self.sees(r#""subscribe":{"#);
    }

    /// Waits for a message that contains `text`.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        loop {
            let (_, payload) = self.frame().expect("the connection is open");
            if String::from_utf8_lossy(&payload).contains(text) {
                return;
            }
        }
    }

    /// Waits until nothing more comes.
    #[track_caller]
    fn sees_the_end(&mut self) {
        while self.frame().is_some() {}
        self.socket.shutdown(std::net::Shutdown::Both).ok();
    }

    /// The next frame, its opcode and payload; `None` at the end.
    #[track_caller]
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        match self.socket.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("nothing came: {error}"),
        }
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.socket.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.socket.read_exact(&mut length).unwrap();
                usize::try_from(u64::from_be_bytes(length)).unwrap()
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).unwrap();
        Some((head[0] & 0x0F, payload))
    }
}
