//! What a resting connection holds on the heap, in a process that really serves it:
//! a socket accepted by the front, upgraded, authenticated by a token, at rest in a
//! worker.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not be set up has failed"
)]
#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]
#![expect(
    clippy::disallowed_methods,
    reason = "the test reads the time to bound its waits"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use auth::mint::{Mint, hs256};
use auth::{KeySets, Revocations, Secret, TokenSettings, Verifier};
use bus::{Bus, MemoryBus, MemoryConfig};
use edge::door::Door;
use edge::fleet::{Crew, Fleet};
use edge::front::{self, Front};
use edge::live::{Addresses, Door as DoorSettings, Fixed, Http, Live, WebSocket};
use edge::metrics::Metrics;
use lifecycle::{CancellationToken, Clock, Tasks};
use prometheus_client::registry::Registry;
use protocol::session::Settings;
use protocol::settings::{ChannelOptions, ChannelSettings, ClientSettings, Namespaces};
use websocket::{Limits, OpCode};

/// Enough for what is shared to disappear in the average.
const CONNECTIONS: usize = 1_000;

/// Connections before those that are counted.
const WARM: usize = 32;

/// Bytes on the heap per authenticated connection.
const BARE_BYTES_MAX: usize = 700;

/// As before, with one subscription each, to a channel of all.
const SUBSCRIBED_BYTES_MAX: usize = 900;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

const SECRET: &str = "a secret of more than thirty-two bytes";

/// The system's allocator, which also counts what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn a_resting_connection_holds_little() {
    let runtime = lifecycle::background_runtime(1).unwrap();
    let tasks = Tasks::new();
    let stop = CancellationToken::new();
    let (fleet, address) = runtime.block_on(async { serve(&tasks, &stop) });

    // What is set up once is not counted; what grows with connections is.
    let warm: Vec<Client> = (0..WARM)
        .map(|index| Client::connect(address, index))
        .collect();
    drop(warm);
    settle(|| fleet.connection_count() == 0);

    let before = at_rest();
    let mut clients: Vec<Client> = Vec::with_capacity(CONNECTIONS);
    let own = CONNECTIONS * size_of::<Client>();
    clients.extend((0..CONNECTIONS).map(|index| Client::connect(address, index)));
    let bare = at_rest().saturating_sub(before + own) / CONNECTIONS;
    println!("{bare} bytes on the heap per bare connection");

    for client in &mut clients {
        client.send(r#"{"id":2,"subscribe":{"channel":"news"}}"#);
        assert!(client.receive().contains(r#""subscribe":{"#));
    }
    let subscribed = at_rest().saturating_sub(before + own) / CONNECTIONS;
    println!("{subscribed} bytes on the heap per connection with a subscription");

    // Traffic leaves nothing behind: queues and what waits are given back.
    for round in 0..3 {
        clients[0].send(r#"{"id":3,"publish":{"channel":"news","data":{"round":1}}}"#);
        for (index, client) in clients.iter_mut().enumerate() {
            let messages = if index == 0 { 2 } else { 1 };
            let received: Vec<String> = (0..messages).map(|_| client.receive()).collect();
            assert!(
                received.iter().any(|text| text.contains("round")),
                "round {round}"
            );
        }
    }
    let afterwards = at_rest().saturating_sub(before + own) / CONNECTIONS;
    println!("{afterwards} bytes on the heap per connection after traffic");

    assert!(bare <= BARE_BYTES_MAX, "{bare} bytes bare");
    assert!(
        subscribed <= SUBSCRIBED_BYTES_MAX,
        "{subscribed} bytes subscribed"
    );
    // The worker may keep emptied queues for the next; that is bounded, not per connection.
    assert!(
        afterwards <= SUBSCRIBED_BYTES_MAX + SPARE_BYTES_MAX,
        "{afterwards} bytes afterwards"
    );
    stop.cancel();
    drop(clients);
    runtime.block_on(fleet.stop(&tasks));
}

/// Bytes in use once they do not change any more.
fn at_rest() -> usize {
    let mut last = usize::MAX;
    let mut since = Instant::now();
    settle(|| {
        let now = IN_USE.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(300)
    });
    last
}

/// Waits for a condition.
#[track_caller]
fn settle(mut is_met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_met() {
        assert!(began.elapsed() < PATIENCE, "it did not come to rest");
        std::thread::yield_now();
    }
}

fn serve(tasks: &Tasks, stop: &CancellationToken) -> (Arc<Fleet>, SocketAddr) {
    let metrics = Arc::new(Metrics::new(&mut Registry::default()));
    let door = Arc::new(Door::default());
    let current = Arc::new(ArcSwap::from_pointee(live()));
    let clock = Clock::start();
    let fleet = Fleet::start(Crew {
        relay: None,
        bus: Bus::Memory(Arc::new(MemoryBus::new(&MemoryConfig::default()))),
        current: Arc::clone(&current),
        fixed: Fixed {
            workers: 1,
            handshakes_pending: 64,
            deflate_level: 1,
            deflate_min: 0,
        },
        tasks: tasks.clone(),
        revocations: Arc::new(Revocations::open(None).unwrap()),
        clock,
        door: Arc::clone(&door),
        metrics: Arc::clone(&metrics),
    })
    .unwrap();
    let listener = front::bind((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front {
        relay: None,
        proxy: None,
        superuser: Arc::new(|_| None),
        root: None,
        fleet: Arc::clone(&fleet),
        current,
        door,
        metrics,
        clock,
        tasks: tasks.clone(),
        tls: None,
        proxy_protocol: false,
        handshakes_pending: 64,
    };
    tasks.spawn("front", Arc::new(front).serve(vec![listener], stop.clone()));
    (fleet, address)
}

fn live() -> Live {
    let options = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        ..ChannelOptions::default()
    };
    let channels = ChannelSettings {
        without_namespace: options,
        ..ChannelSettings::default()
    };
    let tokens = TokenSettings {
        hmac_secret_key: Secret::new(SECRET),
        ..TokenSettings::default()
    };
    Live {
        relay: None,
        live_data: None,
        services: Arc::new(router::services::Services::new(
            Vec::new(),
            None,
            false,
            Clock::start(),
        )),
        proxy: Http {
            keep_alive: PATIENCE,
            body_patience_ms: 1_000,
            http2: None,
        },
        session: Settings {
            stratix_pulse: protocol::dialect::Pulse {
                interval: Duration::ZERO,
                timeout: Duration::ZERO,
            },
            client: ClientSettings::default(),
            namespaces: Namespaces::new(&channels).unwrap(),
            rpc_ping: false,
            calls: protocol::calls::Calls::default(),
            backlog_max: 256 * 1024,
            live_subjects: protocol::subjects::Subjects::default(),
            version: "1",
            node: "n".to_owned(),
        },
        origins: Box::new(|_| true),
        addresses: Addresses::default(),
        door: DoorSettings {
            handshake_timeout: PATIENCE,
            headers: 32,
            header_size: 8_192,
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
        verifier: Arc::new(Verifier::new(&tokens, None, &KeySets::new()).unwrap()),
        flags: Arc::new(|_, _| None),
        demo: None,
    }
}

/// A client without anything on the heap.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr, index: usize) -> Self {
        let sub = format!("user-{index:010}");
        let claims = Mint {
            sub,
            exp: Some(4_000_000_000),
            ..Mint::default()
        };
        let token = hs256(SECRET.as_bytes(), &claims);
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        let mut client = Self(socket);
        client.send(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        let reply = client.receive();
        assert!(reply.contains(r#""connect":{"#), "{reply}");
        client
    }

    fn send(&mut self, text: &str) {
        let (mut frame, mask) = (Vec::new(), Some([1, 2, 3, 4]));
        websocket::encode_frame(&mut frame, OpCode::Text, true, false, mask, text.as_bytes());
        self.0.write_all(&frame).unwrap();
    }

    /// The next message that is not a ping.
    #[track_caller]
    fn receive(&mut self) -> String {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).unwrap();
            let length = match head[1] {
                126 => {
                    let mut length = [0; 2];
                    self.0.read_exact(&mut length).unwrap();
                    u16::from_be_bytes(length)
                }
                127 => panic!("no message is that long"),
                length => length.into(),
            };
            let mut payload = vec![0; length.into()];
            self.0.read_exact(&mut payload).unwrap();
            let text = String::from_utf8(payload).unwrap();
            if text == "{}" {
                self.send("{}");
            } else {
                return text;
            }
        }
    }
}

/// Bytes per connection of [`CONNECTIONS`] that emptied queues may keep.
const SPARE_BYTES_MAX: usize = 600;
