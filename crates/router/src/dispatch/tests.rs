use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{Answer, Bus, MemoryBus, MemoryConfig, Message, Now, Sink, SinkId};
use protocol::channel::Channel;
use protocol::code::ErrorCode;
use protocol::codec::Encoding;
use protocol::message::{ClientInfo, StreamPosition};
use protocol::session::{
    ClientId, Context, HistoryAsk, Output, Recover, Request, Response, Session, Settings,
    SubscribeAsk, Subscribed, Transport,
};
use protocol::settings::{
    ChannelOptions, ChannelSettings, ClientSettings, Namespaces, RecoveryMode, ResolvedOptions,
    SlowClientPolicy,
};
use websocket::Deflater;

use super::entering::Held;
use super::{Router, Subscriber, Subscribing};
use crate::fanout::Receiver;
use crate::frame::{Flavor, Frame, Framing, WrapError};

#[test]
fn sink_is_registered_for_the_first_and_removed_with_the_last() {
    let mut node = Node::new();
    let ask = ask("news", &plain());
    for slot in 0..3 {
        node.subscribe(slot, &ask).unwrap();
        assert_eq!(node.bus.stats().subscriptions, 1);
    }
    node.publish("news", &plain());
    assert_eq!(node.heard(), ["0 news", "1 news", "2 news"]);
    assert_eq!(
        node.router
            .channels()
            .map(|(_, count)| count)
            .collect::<Vec<_>>(),
        [3]
    );
    for slot in 0..3 {
        assert_eq!(node.bus.stats().subscriptions, 1);
        node.router.leave_channel(&Channel::new("news"), slot);
    }
    assert_eq!(node.bus.stats().subscriptions, 0);
    assert_eq!(node.bus.stats().channels, 0);
    node.publish("news", &plain());
    assert!(node.heard().is_empty());
}

#[test]
fn position_is_the_top_and_what_came_before_it_is_not_repeated() {
    let mut node = Node::new();
    let options = history(10);
    // The channel is known here already, so that its messages wait in the inbox.
    node.subscribe(0, &ask("news", &options)).unwrap();
    for _ in 0..3 {
        node.publish("news", &options);
    }
    let positioned = SubscribeAsk {
        positioned: true,
        ..ask("news", &options)
    };
    let found = node.subscribe(1, &positioned).unwrap();
    assert_eq!(found.top.unwrap().offset, 3);
    assert!(found.publications.is_empty());
    node.publish("news", &options);
    assert_eq!(
        node.heard(),
        ["0 news", "0 news", "0 news", "0 news", "1 news"]
    );
}

#[test]
fn recovery_reads_one_more_than_the_limit() {
    let mut node = Node::new();
    let options = history(10);
    for _ in 0..6 {
        node.publish("news", &options);
    }
    let read = |node: &mut Node, offset, recovery_max| {
        let since = StreamPosition {
            offset,
            epoch: String::new(),
        };
        let recover = Some(Recover {
            since,
            mode: RecoveryMode::Stream,
        });
        let ask = SubscribeAsk {
            positioned: true,
            recover,
            recovery_max,
            ..ask("news", &options)
        };
        let found = node.subscribe(0, &ask).unwrap();
        node.router.leave_channel(&Channel::new("news"), 0);
        let offsets: Vec<u64> = found
            .publications
            .iter()
            .map(|publication| publication.offset)
            .collect();
        (found.top.unwrap().offset, offsets)
    };
    assert_eq!(read(&mut node, 2, 4), (6, vec![3, 4, 5, 6]));
    assert_eq!(read(&mut node, 2, 2), (6, vec![3, 4, 5]));
    assert_eq!(read(&mut node, 6, 2), (6, vec![]));
    assert_eq!(read(&mut node, 60, 2), (6, vec![]));
}

#[test]
fn cache_reads_the_latest() {
    let mut node = Node::new();
    let options = history(10);
    for _ in 0..3 {
        node.publish("news", &options);
    }
    let recover = Some(Recover {
        since: StreamPosition::default(),
        mode: RecoveryMode::Cache,
    });
    let ask = SubscribeAsk {
        positioned: true,
        recover,
        ..ask("news", &options)
    };
    let found = node.subscribe(0, &ask).unwrap();
    assert_eq!(
        found
            .publications
            .iter()
            .map(|p| p.offset)
            .collect::<Vec<_>>(),
        [3]
    );
    // What the reply has told counts as given.
    node.publish("news", &options);
    assert_eq!(node.heard(), ["0 news"]);
}

#[test]
fn stream_made_anew_is_a_gap() {
    let mut node = Node::new();
    let options = resolved(ChannelOptions {
        history_size: 10,
        history_ttl: Duration::from_secs(1),
        history_meta_ttl: Duration::from_secs(2),
        ..ChannelOptions::default()
    });
    node.publish("news", &options);
    let positioned = SubscribeAsk {
        positioned: true,
        ..ask("news", &options)
    };
    let before = node.subscribe(0, &positioned).unwrap().top.unwrap();
    node.now.mono_ms += 120_000;
    node.bus.sweep(node.now);
    node.publish("news", &options);
    let after = node.subscribe(1, &positioned).unwrap().top.unwrap();
    assert_ne!(before.epoch, after.epoch);
    assert_eq!(node.heard(), ["0 gap news"]);
}

#[test]
fn presence_comes_with_the_subscription_and_goes_with_it() {
    let mut node = Node::new();
    let mut session = node.session();
    let sub = {
        node.frame(&mut session, r#"{"id":2,"subscribe":{"channel":"chat:a"}}"#);
        let channel = Channel::new("chat:a");
        let present = now(node.router.presence(&channel)).unwrap().presence;
        let info = &present[&session.client().to_string()];
        assert_eq!(info.user, "");
        let stats = now(node.router.presence_stats(&channel)).unwrap();
        assert_eq!((stats.num_clients, stats.num_users), (1, 1));
        session.subscriptions()[0].clone()
    };
    node.router.leave(0, session.client(), &sub);
    let present = now(node.router.presence(&Channel::new("chat:a"))).unwrap();
    assert!(present.presence.is_empty());
    assert_eq!(node.bus.stats().channels, 0);
}

#[test]
fn pattern_is_registered_once_and_hears_of_covered_channels() {
    let mut node = Node::new();
    let ask = SubscribeAsk {
        wildcard: true,
        ..ask("wild:a.*", &plain())
    };
    assert!(node.subscribe(0, &ask).unwrap().top.is_none());
    node.subscribe(1, &ask).unwrap();
    assert_eq!(node.bus.stats().patterns, 1);
    node.publish("wild:a.b", &plain());
    node.publish("wild:a", &plain());
    assert_eq!(node.heard(), ["0 wild:a.*", "1 wild:a.*"]);

    let mut session = node.session();
    node.frame(
        &mut session,
        r#"{"id":2,"subscribe":{"channel":"wild:a.*"}}"#,
    );
    let sub = session.subscriptions()[0].clone();
    assert!(sub.is_wildcard());
    for slot in 0..2 {
        assert_eq!(node.bus.stats().patterns, 1);
        node.router.leave(slot, session.client(), &sub);
    }
    assert_eq!(node.bus.stats().patterns, 0);

    let not_a_pattern = SubscribeAsk {
        channel: Channel::new("a..b"),
        ..ask
    };
    assert_eq!(
        node.subscribe(0, &not_a_pattern).unwrap_err(),
        ErrorCode::BadRequest
    );
}

#[test]
fn subscribing_that_fails_leaves_nothing_behind() {
    let options = history(10);
    let info = Arc::new(ClientInfo {
        client: "c".to_owned(),
        ..ClientInfo::default()
    });
    for (config, presence) in [
        (
            MemoryConfig {
                channels_max: 0,
                ..MemoryConfig::default()
            },
            None,
        ),
        (
            MemoryConfig {
                presence_max: 0,
                ..MemoryConfig::default()
            },
            Some(info),
        ),
    ] {
        let mut node = Node::with(&config);
        let ask = SubscribeAsk {
            presence,
            ..ask("news", &options)
        };
        assert_eq!(
            node.subscribe(0, &ask).unwrap_err(),
            ErrorCode::LimitExceeded
        );
        assert_eq!(node.router.channels().count(), 0);
        let stats = node.bus.stats();
        assert_eq!(
            (stats.channels, stats.subscriptions, stats.presence),
            (0, 0, 0)
        );
    }
    let mut node = Node::with(&MemoryConfig {
        patterns_max: 0,
        ..MemoryConfig::default()
    });
    let ask = SubscribeAsk {
        wildcard: true,
        ..ask("wild:a.*", &plain())
    };
    assert_eq!(
        node.subscribe(0, &ask).unwrap_err(),
        ErrorCode::LimitExceeded
    );
    node.publish("wild:a.b", &plain());
    assert!(node.heard().is_empty());
}

#[test]
fn publication_without_room_is_refused_whole() {
    let mut node = Node::new();
    node.subscribe(0, &ask("news", &plain())).unwrap();
    node.inbox.is_full.store(true, Ordering::Relaxed);
    let result = node.router.publish(
        node.now,
        Channel::new("news"),
        "0".into(),
        Arc::default(),
        &plain().options,
    );
    assert_eq!(now(result).unwrap_err(), ErrorCode::TooManyRequests);
    assert!(node.heard().is_empty());
}

#[test]
fn history_answers_as_asked() {
    let mut node = Node::new();
    let options = history(10);
    for _ in 0..4 {
        node.publish("news", &options);
    }
    let epoch = node
        .subscribe(
            0,
            &SubscribeAsk {
                positioned: true,
                ..ask("news", &options)
            },
        )
        .unwrap()
        .top
        .unwrap()
        .epoch;
    let read = |since: Option<(u64, &str)>, limit, reverse| {
        let since = since.map(|(offset, epoch)| StreamPosition {
            offset,
            epoch: epoch.to_owned(),
        });
        let channel = Channel::new("news");
        let ask = HistoryAsk {
            channel,
            options: Arc::clone(&options),
            since,
            limit,
            reverse,
        };
        let found = now(node.router.history(node.now, &ask))?;
        assert_eq!((found.offset, &found.epoch), (4, &epoch));
        Ok(found
            .publications
            .iter()
            .map(|publication| publication.offset)
            .collect())
    };
    let ok = |offsets: &[u64]| Ok::<Vec<u64>, ErrorCode>(offsets.to_vec());
    assert_eq!(read(None, 0, false), ok(&[]));
    assert_eq!(read(None, 2, false), ok(&[1, 2]));
    assert_eq!(read(None, 2, true), ok(&[4, 3]));
    assert_eq!(read(Some((2, &epoch)), 9, false), ok(&[3, 4]));
    assert_eq!(read(Some((2, "")), 9, true), ok(&[1]));
    assert_eq!(
        read(Some((2, "other")), 9, false),
        Err(ErrorCode::UnrecoverablePosition)
    );

    let without = HistoryAsk {
        channel: Channel::new("news"),
        options: plain(),
        since: None,
        limit: 1,
        reverse: false,
    };
    assert_eq!(
        now(node.router.history(node.now, &without)),
        Err(ErrorCode::NotAvailable)
    );
}

#[test]
fn joins_and_leaves_go_over_the_bus_in_order() {
    let mut node = Node::new();
    let pushes = SubscribeAsk {
        join_leave_pushes: true,
        ..ask("news", &plain())
    };
    node.subscribe(0, &pushes).unwrap();
    node.subscribe(1, &ask("news", &plain())).unwrap();
    let channel = Channel::new("news");
    node.router.join(&channel, Arc::default());
    node.publish("news", &plain());
    node.router.announce_leave(&channel, Arc::default());
    assert_eq!(node.heard(), ["0 news", "0 news", "1 news", "0 news"]);
}

/// A worker's router on a bus of its own.
struct Node {
    bus: Arc<MemoryBus>,
    inbox: Arc<Inbox>,
    router: Router,
    now: Now,
    settings: Settings,
}

#[derive(Default)]
struct Inbox {
    messages: Mutex<VecDeque<Arc<Message>>>,
    is_full: AtomicBool,
}

impl Sink for Inbox {
    fn has_room(&self) -> bool {
        !self.is_full.load(Ordering::Relaxed)
    }

    fn deliver(&self, message: Arc<Message>) {
        self.messages.lock().unwrap().push_back(message);
    }
}

impl Node {
    fn new() -> Self {
        Self::with(&MemoryConfig::default())
    }

    fn with(config: &MemoryConfig) -> Self {
        let bus = Arc::new(MemoryBus::new(config));
        let inbox = Arc::<Inbox>::default();
        let sink: SinkId = bus.attach(Arc::clone(&inbox) as Arc<dyn Sink>);
        let router = Router::new(Bus::Memory(Arc::clone(&bus)), sink, Deflater::new(6), 64);
        let now = Now {
            mono_ms: 1_000,
            unix_ms: 1_700_000_000_000,
        };
        Self {
            bus,
            inbox,
            router,
            now,
            settings: settings(),
        }
    }

    fn subscribe(&mut self, slot: u32, ask: &SubscribeAsk) -> Result<Subscribed, ErrorCode> {
        let who = Subscriber {
            slot,
            client: ClientId(u128::from(slot)),
            flavor: FLAVOR,
        };
        done(self.router.subscribe(self.now, who, ask))
    }

    fn publish(&self, channel: &str, options: &ResolvedOptions) {
        now(self.router.publish(
            self.now,
            Channel::new(channel),
            "0".into(),
            Arc::default(),
            &options.options,
        ))
        .unwrap();
    }

    /// What waits in the inbox, spread: slot and channel of each push, by message and slot.
    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        let messages = std::mem::take(&mut *self.inbox.messages.lock().unwrap());
        for message in messages {
            let mut recorder = Recorder::default();
            self.router.deliver(&message, &mut recorder);
            recorder.0.sort();
            heard.extend(recorder.0);
        }
        heard
    }

    /// A connected session in slot 0, to get subscriptions from.
    fn session(&mut self) -> Session {
        let cx = Context {
            now: self.now,
            settings: &self.settings,
        };
        let client = ClientId(0);
        let mut session = Session::new(cx, client, Transport::WebSocket, Encoding::Json, None);
        self.frame(&mut session, r#"{"id":1,"connect":{}}"#);
        assert!(session.is_connected());
        session
    }

    fn frame(&mut self, session: &mut Session, frame: &str) {
        let mut out = Vec::new();
        let cx = Context {
            now: self.now,
            settings: &self.settings,
        };
        session.frame(cx, frame.as_bytes(), &mut out);
        while let Some(Output::Request(request)) = out.pop() {
            let response = match request {
                Request::Register { .. } => Response::Registered(true),
                Request::Subscribe(ask) => {
                    let who = Subscriber {
                        slot: 0,
                        client: session.client(),
                        flavor: FLAVOR,
                    };
                    Response::Subscribed(done(self.router.subscribe(self.now, who, &ask)))
                }
                other => panic!("{other:?} was not expected"),
            };
            let cx = Context {
                now: self.now,
                settings: &self.settings,
            };
            session.resume(cx, response, &mut out);
        }
    }
}

#[test]
fn what_comes_before_the_bus_has_answered_is_held_back_and_told_once() {
    let mut node = Node::new();
    let options = history(10);
    node.publish("news", &options);
    let ask = SubscribeAsk {
        positioned: true,
        ..ask("news", &options)
    };
    let who = Subscriber {
        slot: 7,
        client: ClientId(7),
        flavor: FLAVOR,
    };
    node.subscribe(7, &ask).unwrap();
    // As it stands while a bus elsewhere is asked.
    node.router.fanout.set_waiting(&ask.channel, false, 7, true);
    node.router.held.insert(7, Held::new(&ask));
    node.publish("news", &options);
    let query = bus::HistoryQuery {
        since: None,
        limit: bus::HistoryLimit::PositionOnly,
        reverse: false,
    };
    let channel = Channel::new("news");
    let policy = super::policy(&options.options).unwrap();
    let found = node.bus.history(node.now, &channel, &policy, query);
    node.publish("news", &options);
    assert!(node.heard().is_empty(), "nothing before the answer");
    let (answer, held) = node.router.settle(who, &ask, found.map(Some));
    assert_eq!(answer.unwrap().top.unwrap().offset, 2);
    let mut recorder = Recorder::default();
    node.router.release(7, &ask, &held, &mut recorder);
    // The second lies before the top that the client was told.
    assert_eq!(recorder.0, ["7 news"]);
    node.publish("news", &options);
    assert_eq!(node.heard(), ["7 news"]);
}

#[test]
fn whoever_subscribes_anew_gets_nothing_that_was_held_back_before_nor_of_others() {
    let mut node = Node::new();
    let secret = ask("secret", &plain());
    let ask = ask("news", &plain());
    let who = Subscriber {
        slot: 7,
        client: ClientId(7),
        flavor: FLAVOR,
    };
    let wait = |node: &mut Node| {
        node.subscribe(7, &ask).unwrap();
        node.router.fanout.set_waiting(&ask.channel, false, 7, true);
        node.router.held.insert(7, Held::new(&ask));
    };
    node.subscribe(1, &secret).unwrap();
    wait(&mut node);
    node.publish("news", &plain());
    assert!(node.heard().is_empty());
    let (_, held) = node.router.settle(who, &ask, Ok(None));
    assert_eq!(held.len(), 1);
    // The client has sent more: to leave, and to come again. A bus elsewhere is asked anew.
    node.router.leave_channel(&ask.channel, 7);
    wait(&mut node);
    let mut recorder = Recorder::default();
    node.router.release(7, &ask, &held, &mut recorder);
    assert!(recorder.0.is_empty(), "{:?}", recorder.0);
    node.publish("secret", &plain());
    assert_eq!(node.heard(), ["1 secret"]);
    let (_, held) = node.router.settle(who, &ask, Ok(None));
    assert!(held.is_empty(), "{held:?}");
}

#[test]
fn nothing_older_comes_after_the_latest_that_the_answer_tells() {
    let mut node = Node::new();
    let options = history(10);
    let ask = SubscribeAsk {
        recover: Some(Recover {
            since: StreamPosition::default(),
            mode: RecoveryMode::Cache,
        }),
        ..ask("news", &options)
    };
    let who = Subscriber {
        slot: 7,
        client: ClientId(7),
        flavor: FLAVOR,
    };
    node.subscribe(7, &ask).unwrap();
    node.router.fanout.set_waiting(&ask.channel, false, 7, true);
    node.router.held.insert(7, Held::new(&ask));
    for _ in 0..2 {
        node.publish("news", &options);
    }
    let query = bus::HistoryQuery {
        since: None,
        limit: bus::HistoryLimit::AtMost(1),
        reverse: true,
    };
    let policy = super::policy(&options.options).unwrap();
    let found = node
        .bus
        .history(node.now, &ask.channel, &policy, query)
        .map(Some);
    node.publish("news", &options);
    assert!(node.heard().is_empty());
    let (answer, held) = node.router.settle(who, &ask, found);
    assert_eq!(answer.unwrap().publications[0].offset, 2);
    let offset = |message: &Arc<Message>| message.publication()?.position.map(|at| at.offset);
    assert_eq!(held.iter().map(offset).collect::<Vec<_>>(), [Some(3)]);
}

#[test]
fn a_session_that_ends_before_the_bus_has_answered_leaves_nothing() {
    let mut node = Node::new();
    let ask = ask("news", &plain());
    node.subscribe(7, &ask).unwrap();
    node.router.held.insert(7, Held::new(&ask));
    assert!(node.router.awaits(7));
    node.router.abandon(7);
    assert!(!node.router.awaits(7));
    assert_eq!(node.bus.stats().subscriptions, 0);
    assert!(node.router.held.is_empty());
}

#[test]
fn a_slot_that_is_purged_gets_nothing_and_others_go_on() {
    let mut node = Node::new();
    let news = ask("news", &plain());
    let pattern = SubscribeAsk {
        wildcard: true,
        ..ask("wild:a.*", &plain())
    };
    for slot in [7, 8] {
        node.subscribe(slot, &news).unwrap();
    }
    node.subscribe(7, &pattern).unwrap();
    node.subscribe(7, &ask("other", &plain())).unwrap();
    node.router.held.insert(7, Held::new(&news));
    node.router.purge(7);
    assert!(!node.router.awaits(7));
    for channel in ["news", "wild:a.b", "other"] {
        node.publish(channel, &plain());
    }
    assert_eq!(node.heard(), ["8 news"]);
    let stats = node.bus.stats();
    assert_eq!((stats.subscriptions, stats.patterns), (1, 0));
}

#[test]
fn whoever_is_behind_the_top_of_the_stream_is_told_of_a_gap() {
    let mut node = Node::new();
    let options = history(10);
    let positioned = SubscribeAsk {
        positioned: true,
        ..ask("news", &options)
    };
    node.publish("news", &options);
    let top = node.subscribe(0, &positioned).unwrap().top.unwrap();
    node.subscribe(1, &ask("news", &options)).unwrap();
    let mut tell = |offset| {
        let position = bus::Position {
            offset,
            epoch: bus::Epoch::parse(&top.epoch).unwrap(),
        };
        let message = Arc::new(Message {
            channel: Channel::new("news"),
            kind: bus::Kind::Top(position),
        });
        let mut recorder = Recorder::default();
        node.router.deliver(&message, &mut recorder);
        recorder.0
    };
    assert!(tell(1).is_empty());
    assert_eq!(tell(2), ["0 gap news"], "only who counts positions");
}

/// The bus within the process answers at once.
fn now<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Now(answer) => answer,
        Answer::Later(_) => panic!("an answer that comes later"),
    }
}

fn done(subscribing: Subscribing) -> Result<Subscribed, ErrorCode> {
    match subscribing {
        Subscribing::Done(answer) => answer,
        Subscribing::Later(_) => panic!("an answer that comes later"),
    }
}

#[derive(Default)]
struct Recorder(Vec<String>);

impl Receiver for Recorder {
    fn frame(&mut self, slot: u32, frame: &Arc<Frame>, _: SlowClientPolicy, _: bool) {
        self.0.push(format!("{slot} {}", frame.channel));
    }

    fn gap(&mut self, slot: u32, channel: &Channel) {
        self.0.push(format!("{slot} gap {channel}"));
    }

    fn misfit(&mut self, slot: u32, _: WrapError) {
        self.0.push(format!("{slot} misfit"));
    }
}

fn settings() -> Settings {
    let channels = serde_json::json!({
        "namespaces": [
            {"name": "chat", "presence": true, "allow_subscribe_for_client": true,
                "allow_subscribe_for_anonymous": true},
            {"name": "wild", "allow_wildcard_subscribe": true, "allow_subscribe_for_client": true,
                "allow_subscribe_for_anonymous": true},
        ],
    });
    let channels: ChannelSettings = serde_json::from_value(channels).unwrap();
    Settings {
        stratix_pulse: protocol::dialect::Pulse {
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
        },
        client: ClientSettings {
            allow_anonymous_connect_without_token: true,
            ..ClientSettings::default()
        },
        namespaces: Namespaces::new(&channels).unwrap(),
        rpc_ping: false,
        calls: protocol::calls::Calls::default(),
        backlog_max: 1_024,
        live_subjects: protocol::subjects::Subjects::default(),
        version: "1",
        node: String::new(),
    }
}

fn ask(channel: &str, options: &Arc<ResolvedOptions>) -> SubscribeAsk {
    SubscribeAsk {
        channel: Channel::new(channel),
        wildcard: false,
        positioned: false,
        join_leave_pushes: false,
        presence: None,
        recover: None,
        options: Arc::clone(options),
        recovery_max: 300,
    }
}

fn plain() -> Arc<ResolvedOptions> {
    Arc::default()
}

fn history(size: usize) -> Arc<ResolvedOptions> {
    resolved(ChannelOptions {
        history_size: size,
        history_ttl: Duration::from_secs(60),
        history_meta_ttl: Duration::from_secs(600),
        ..ChannelOptions::default()
    })
}

fn resolved(options: ChannelOptions) -> Arc<ResolvedOptions> {
    Arc::new(ResolvedOptions {
        options,
        regex: None,
    })
}

const FLAVOR: Flavor = Flavor {
    dialect: protocol::dialect::Dialect::Centrifuge,
    encoding: Encoding::Json,
    framing: Framing::Stream,
};
