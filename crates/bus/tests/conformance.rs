//! What every bus must do, whatever carries it.
//!
//! The cases speak to a [`Peer`] only. Another bus passes the same file by giving a
//! constructor to [`each`]; nothing here knows when a delivery is synchronous, so
//! receivers wait for it with a deadline.
#![expect(
    clippy::print_stdout,
    reason = "a failed case says on which bus it ran"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bus::{
    Answer, Bus, BusError, Epoch, History, HistoryLimit, HistoryPolicy, HistoryQuery, Kind,
    MemoryBus, MemoryConfig, Message, NatsBus, NatsBusConfig, NatsConfig, NatsConnection,
    NatsCredentials, Now, Position, PresenceStats, Publish, Published, Sink, SinkId, Suppression,
};
use bytes::Bytes;
use lifecycle::Tasks;
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use protocol::subject::Pattern;
use testkit::services::{Nats, NatsOptions};
use tokio::runtime::Runtime;

/// Runs a case on every bus.
fn each(case: impl Fn(&Peer)) {
    in_memory(&case);
    println!("bus: nats");
    case(&Peer::over_nats());
}

/// Runs a case of the bus in memory: one that turns the clock, or about room, which is
/// promised otherwise over NATS.
fn in_memory(case: impl Fn(&Peer)) {
    println!("bus: memory");
    case(&Peer::in_memory());
}

#[test]
fn subscriber_gets_what_is_published_on_its_channel_only() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "news");
        peer.publish(0, "news", "one");
        peer.publish(0, "other", "two");
        peer.publish(0, "news", "three");
        assert_eq!(sink.texts(2), ["news=one", "news=three"]);
        peer.unsubscribe(&sink, "news");
        peer.publish(0, "news", "four");
        peer.subscribe(&sink, "end");
        peer.publish(0, "end", "five");
        assert_eq!(sink.texts(1), ["end=five"]);
    });
}

#[test]
fn subscribing_twice_delivers_once() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "news");
        peer.subscribe(&sink, "news");
        peer.publish(0, "news", "one");
        peer.publish(0, "news", "two");
        assert_eq!(sink.texts(2), ["news=one", "news=two"]);
    });
}

#[test]
fn publication_carries_everything_it_was_given() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "news");
        let tags = BTreeMap::from([("kind".to_owned(), "note".to_owned())]);
        let publish = Publish {
            info: Some(client("anna", "c1")),
            tags: Some(Box::new(tags.clone())),
            history: Some(POLICY),
            ..peer.publication("news", "one")
        };
        let position = peer.publish_all(7_000, publish).expect("accepted").position;
        let messages = sink.take(1);
        let publication = messages[0].publication().expect("a publication");
        assert_eq!(publication.data, "one");
        assert_eq!(publication.info.as_deref().expect("info").user, "anna");
        assert_eq!(publication.tags.as_deref(), Some(&tags));
        assert_eq!(publication.position, position);
        assert_eq!(publication.time_ms, unix_ms(7_000));
    });
}

#[test]
fn pattern_gets_publications_of_all_channels_it_covers() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe_pattern(&sink, "market.*.eur");
        peer.subscribe_pattern(&sink, "log.>");
        for channel in [
            "market.gold.eur",
            "market.gold.usd",
            "market.eur",
            "log",
            "log.a.b",
        ] {
            peer.publish(0, channel, "x");
        }
        assert_eq!(sink.texts(2), ["market.gold.eur=x", "log.a.b=x"]);
        peer.unsubscribe_pattern(&sink, "log.>");
        peer.publish(0, "log.a.b", "gone");
        peer.publish(0, "market.tin.eur", "still");
        assert_eq!(sink.texts(1), ["market.tin.eur=still"]);
    });
}

#[test]
fn sink_with_channel_and_patterns_gets_a_message_once() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "a.b");
        for pattern in ["a.*", "a.>", ">"] {
            peer.subscribe_pattern(&sink, pattern);
        }
        peer.publish(0, "a.b", "one");
        peer.publish(0, "a.b", "two");
        assert_eq!(sink.texts(2), ["a.b=one", "a.b=two"]);
        peer.unsubscribe(&sink, "a.b");
        peer.publish(0, "a.b", "three");
        peer.publish(0, "a.c", "four");
        assert_eq!(sink.texts(2), ["a.b=three", "a.c=four"]);
    });
}

#[test]
fn join_and_leave_reach_subscribers_but_not_patterns() {
    each(|peer| {
        let (direct, wild) = (peer.sink(), peer.sink());
        peer.subscribe(&direct, "room");
        peer.subscribe_pattern(&wild, ">");
        peer.bus.publish_join(&"room".into(), client("anna", "c1"));
        peer.bus.publish_leave(&"room".into(), client("anna", "c1"));
        peer.publish(0, "room", "end");
        assert_eq!(direct.texts(3), ["room+c1", "room-c1", "room=end"]);
        assert_eq!(wild.texts(1), ["room=end"]);
    });
}

#[test]
fn offsets_rise_by_one_from_one_in_one_epoch() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "news");
        let start = peer.position(0, "news");
        assert_eq!(start.offset, 0);
        for offset in 1..=5 {
            let position = peer
                .keep(0, "news", "x")
                .position
                .expect("history has positions");
            assert_eq!(
                position,
                Position {
                    offset,
                    epoch: start.epoch
                }
            );
        }
        assert_eq!(sink.offsets(5), [1, 2, 3, 4, 5]);
        assert_eq!(peer.position(0, "news").offset, 5);
        assert_ne!(peer.position(0, "other").epoch, start.epoch);
    });
}

#[test]
fn publication_without_history_has_no_position_and_moves_none() {
    each(|peer| {
        peer.keep(0, "news", "kept");
        assert_eq!(peer.publish(0, "news", "passing").position, None);
        assert_eq!(peer.position(0, "news").offset, 1);
        assert_eq!(texts(&peer.history(0, "news", ALL)), ["kept"]);
    });
}

#[test]
fn history_is_read_from_either_end_and_beyond_an_offset() {
    each(|peer| {
        for text in ["1", "2", "3", "4", "5"] {
            peer.keep(0, "news", text);
        }
        let read = |since, limit, reverse| {
            texts(&peer.history(
                0,
                "news",
                HistoryQuery {
                    since,
                    limit,
                    reverse,
                },
            ))
            .join("")
        };
        assert_eq!(read(None, HistoryLimit::PositionOnly, false), "");
        assert_eq!(read(None, HistoryLimit::All, false), "12345");
        assert_eq!(read(None, HistoryLimit::AtMost(2), false), "12");
        assert_eq!(read(Some(0), HistoryLimit::All, false), "12345");
        assert_eq!(read(Some(3), HistoryLimit::All, false), "45");
        assert_eq!(read(Some(3), HistoryLimit::AtMost(1), false), "4");
        assert_eq!(read(Some(5), HistoryLimit::All, false), "");
        assert_eq!(read(Some(u64::MAX), HistoryLimit::All, false), "");
        assert_eq!(read(None, HistoryLimit::All, true), "54321");
        assert_eq!(read(None, HistoryLimit::AtMost(2), true), "54");
        assert_eq!(read(Some(3), HistoryLimit::All, true), "21");
        assert_eq!(read(Some(1), HistoryLimit::All, true), "");
        assert_eq!(read(Some(u64::MAX), HistoryLimit::AtMost(1), true), "5");
    });
}

#[test]
fn history_keeps_the_newest_up_to_its_size() {
    each(|peer| {
        for text in ["1", "2", "3", "4", "5", "6", "7"] {
            peer.keep(0, "news", text);
        }
        let history = peer.history(0, "news", ALL);
        assert_eq!(texts(&history), ["3", "4", "5", "6", "7"]);
        assert_eq!((history.first, history.top.offset), (3, 7));
        assert!(!history.holds_all_after(1), "2 is gone");
        assert!(history.holds_all_after(2));
        assert!(history.holds_all_after(7));
        assert!(!history.holds_all_after(8), "8 is ahead of the stream");
        assert!(!history.holds_all_after(u64::MAX));
    });
}

#[test]
fn history_forgets_each_publication_at_its_age() {
    each(|peer| {
        peer.keep(0, "news", "1");
        peer.keep(TTL - 10, "news", "2");
        assert_eq!(texts(&peer.history(TTL - 1, "news", ALL)), ["1", "2"]);
        let history = peer.history(TTL, "news", ALL);
        assert_eq!(texts(&history), ["2"]);
        assert!(history.holds_all_after(1));
        assert!(!history.holds_all_after(0));
        let history = peer.history(2 * TTL - 10, "news", ALL);
        assert_eq!(
            (history.first, history.top.offset),
            (3, 2),
            "nothing held, top stays"
        );
        assert!(history.holds_all_after(2));
        assert_eq!(
            peer.keep(2 * TTL, "news", "3")
                .position
                .expect("position")
                .offset,
            3
        );
    });
}

#[test]
fn stream_is_recreated_with_a_new_epoch_after_its_meta_ttl() {
    in_memory(|peer| {
        let before = peer.keep(0, "news", "1").position.expect("position");
        assert_eq!(peer.position(META_TTL - 1, "news"), before);
        // That was a use: the time counts from there.
        assert_eq!(peer.position(2 * META_TTL - 2, "news"), before);
        let after = peer
            .keep(4 * META_TTL, "news", "2")
            .position
            .expect("position");
        assert_eq!(after.offset, 1);
        assert_ne!(after.epoch, before.epoch);
    });
}

#[test]
fn removed_history_leaves_the_position() {
    each(|peer| {
        let top = peer.keep(0, "news", "1").position.expect("position");
        for channel in ["news", "nothing"] {
            let removed = peer.bus.remove_history(&channel.into());
            peer.wait(removed).expect("removed");
        }
        let history = peer.history(0, "news", ALL);
        assert_eq!((history.publications.len(), history.top), (0, top));
        assert!(!history.holds_all_after(0));
        assert_eq!(
            peer.keep(0, "news", "2").position.expect("position").offset,
            2
        );
    });
}

#[test]
fn repeated_key_publishes_once_and_repeats_the_answer() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "a");
        peer.subscribe(&sink, "b");
        let with_key = |channel, history| Publish {
            idempotency_key: Some("k".to_owned()),
            history,
            ..peer.publication(channel, "x")
        };
        let first = peer
            .publish_all(0, with_key("a", Some(POLICY)))
            .expect("accepted");
        assert_eq!(first.suppressed, None);
        peer.keep(0, "a", "y");
        let again = peer
            .publish_all(5 * MINUTE - 1, with_key("a", Some(POLICY)))
            .expect("accepted");
        assert_eq!(
            again,
            Published {
                suppressed: Some(Suppression::Duplicate),
                ..first
            }
        );
        // Keys are per channel, and work without history.
        for suppressed in [None, Some(Suppression::Duplicate)] {
            let other = peer.publish_all(0, with_key("b", None)).expect("accepted");
            assert_eq!(
                other,
                Published {
                    position: None,
                    suppressed
                }
            );
        }
        assert_eq!(sink.texts(3), ["a=x", "a=y", "b=x"]);
    });
}

#[test]
fn key_is_forgotten_after_five_minutes() {
    in_memory(|peer| {
        let with_key = || Publish {
            idempotency_key: Some("k".to_owned()),
            ..peer.kept("a", "x")
        };
        for (now_ms, suppressed) in [
            (0, None),
            (5 * MINUTE - 1, Some(Suppression::Duplicate)),
            (5 * MINUTE, None),
        ] {
            let published = peer.publish_all(now_ms, with_key()).expect("accepted");
            assert_eq!(published.suppressed, suppressed);
        }
    });
}

#[test]
fn version_that_is_not_newer_is_not_published() {
    each(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "doc");
        let publish = |version, epoch: &str| {
            let publish = Publish {
                version,
                version_epoch: epoch.to_owned(),
                history: Some(POLICY),
                ..peer.publication("doc", &format!("v{version}{epoch}"))
            };
            peer.publish_all(0, publish).expect("accepted").suppressed
        };
        assert_eq!(publish(5, ""), None);
        assert_eq!(publish(5, ""), Some(Suppression::Outdated));
        assert_eq!(publish(4, ""), Some(Suppression::Outdated));
        assert_eq!(publish(0, ""), None, "unversioned always passes");
        assert_eq!(publish(6, "e"), None);
        assert_eq!(publish(6, "e"), Some(Suppression::Outdated));
        assert_eq!(publish(1, "f"), None, "another epoch starts anew");
        assert_eq!(sink.texts(4), ["doc=v5", "doc=v0", "doc=v6e", "doc=v1f"]);
        assert_eq!(peer.position(0, "doc").offset, 4);
    });
}

#[test]
fn receiver_without_room_refuses_the_publication_whole() {
    in_memory(|peer| {
        let (full, other) = (peer.sink(), peer.sink());
        peer.subscribe(&full, "news");
        peer.subscribe(&other, "news");
        full.room(0);
        let refused = peer.publish_all(0, peer.kept("news", "lost"));
        assert_eq!(refused, Err(BusError::Busy));
        peer.bus.publish_join(&"news".into(), client("anna", "c1"));
        full.room(usize::MAX);
        peer.keep(0, "news", "one");
        assert_eq!(full.texts(1), ["news=one"]);
        assert_eq!(other.texts(2), ["news+c1", "news=one"]);
        assert_eq!(
            peer.position(0, "news").offset,
            1,
            "the refused one took no offset"
        );
    });
}

#[test]
fn pattern_receiver_without_room_refuses_as_well() {
    in_memory(|peer| {
        let full = peer.sink();
        peer.subscribe_pattern(&full, "news.>");
        full.room(0);
        assert_eq!(
            peer.publish_all(0, peer.kept("news.a", "lost")),
            Err(BusError::Busy)
        );
        assert!(peer.publish_all(0, peer.kept("olds.a", "fine")).is_ok());
    });
}

#[test]
fn presence_knows_clients_and_users() {
    each(|peer| {
        let room: Channel = "room".into();
        let add = |user, id| {
            let added = peer.bus.presence_add(&room, client(user, id));
            peer.wait(added).expect("room");
        };
        let stats = || peer.wait(peer.bus.presence_stats(&room)).expect("answered");
        let list = || peer.wait(peer.bus.presence(&room)).expect("answered");
        assert_eq!(stats(), PresenceStats::default());
        add("anna", "c1");
        add("anna", "c2");
        add("ben", "c3");
        add("ben", "c3");
        assert_eq!(
            stats(),
            PresenceStats {
                clients: 3,
                users: 2
            }
        );
        let mut ids: Vec<_> = list().iter().map(|info| info.client.clone()).collect();
        ids.sort();
        assert_eq!(ids, ["c1", "c2", "c3"]);
        peer.bus.presence_remove(&room, "c1");
        peer.bus.presence_remove(&room, "c1");
        assert_eq!(
            stats(),
            PresenceStats {
                clients: 2,
                users: 2
            }
        );
        add("ben", "c2");
        assert_eq!(
            stats(),
            PresenceStats {
                clients: 2,
                users: 1
            },
            "what is known is replaced"
        );
        peer.bus.presence_remove(&room, "c2");
        peer.bus.presence_remove(&room, "c3");
        assert_eq!(stats(), PresenceStats::default());
        assert!(list().is_empty());
    });
}

#[test]
fn channels_are_those_with_subscribers() {
    in_memory(|peer| {
        let sink = peer.sink();
        peer.subscribe(&sink, "a");
        peer.subscribe(&sink, "b");
        peer.keep(0, "c", "x");
        peer.unsubscribe(&sink, "b");
        let Bus::Memory(bus) = &peer.bus else {
            panic!("not in memory");
        };
        assert_eq!(bus.channels(), [Channel::new("a")]);
    });
}

#[test]
fn detached_sink_gets_nothing_and_subscribes_to_nothing() {
    each(|peer| {
        let (gone, other) = (peer.sink(), peer.sink());
        for sink in [&gone, &other] {
            peer.subscribe(sink, "a.b");
            peer.subscribe_pattern(sink, "a.>");
        }
        peer.bus.detach(gone.id);
        peer.publish(0, "a.b", "x");
        assert_eq!(other.texts(1), ["a.b=x"]);
        assert_eq!(gone.recorder.len(), 0);
        let again = peer.bus.subscribe(gone.id, &"a.b".into());
        assert_eq!(peer.wait(again), Err(BusError::SinkDetached));
    });
}

#[test]
fn publishers_at_once_leave_every_sink_contiguous_offsets_in_one_order() {
    const THREADS: usize = 4;
    each(|peer| {
        let each = peer.many(2_000);
        let sinks: Vec<_> = (0..3).map(|_| peer.sink()).collect();
        for sink in &sinks {
            peer.subscribe(sink, "busy.channel");
            peer.subscribe_pattern(sink, "busy.*");
        }
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for n in 0..each {
                        peer.keep(0, "busy.channel", &format!("{thread}:{n}"));
                        // Others' channels in between change nothing.
                        peer.publish(0, "elsewhere", "x");
                    }
                });
            }
            // Somebody comes and goes meanwhile.
            scope.spawn(|| {
                let visitor = peer.sink();
                for _ in 0..200 {
                    peer.subscribe(&visitor, "busy.channel");
                    peer.unsubscribe(&visitor, "busy.channel");
                }
                let offsets = visitor.recorder.seen_offsets();
                assert!(
                    offsets.is_sorted(),
                    "in order, with gaps while away: {offsets:?}"
                );
            });
        });
        let total = THREADS * each;
        let expected: Vec<u64> = (1..=total as u64).collect();
        let orders: Vec<_> = sinks.iter().map(|sink| sink.take(total)).collect();
        for order in &orders {
            assert_eq!(offsets(order), expected);
            let same = order
                .iter()
                .zip(&orders[0])
                .all(|(a, b)| text(a) == text(b));
            assert!(same, "every sink sees the same order");
        }
        // And each publisher's own order is kept.
        for thread in 0..THREADS {
            let own: Vec<usize> = orders[0]
                .iter()
                .filter_map(|message| {
                    let text = text(message);
                    let (by, n) = text.rsplit_once('=')?.1.split_once(':')?;
                    (by == thread.to_string()).then(|| n.parse().expect("a number"))
                })
                .collect();
            assert_eq!(own, (0..each).collect::<Vec<_>>());
        }
    });
}

#[test]
fn subscribing_then_reading_history_misses_nothing() {
    each(|peer| {
        let count = peer.many(3_000) as u64;
        let policy = HistoryPolicy {
            size: count as usize,
            ..POLICY
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..count {
                    let publish = Publish {
                        history: Some(policy),
                        ..peer.publication("news", "x")
                    };
                    peer.publish_all(0, publish).expect("accepted");
                }
            });
            for _ in 0..3 {
                scope.spawn(|| {
                    let sink = peer.sink();
                    peer.subscribe(&sink, "news");
                    let history = peer.bus.history(at(0), &"news".into(), &policy, ALL);
                    let history = peer.wait(history).expect("room");
                    assert!(history.holds_all_after(0));
                    let mut seen = offsets(&history.publications);
                    let top = history.top.offset;
                    assert_eq!(seen.len() as u64, top);
                    sink.recorder.wait_until(|messages| {
                        messages.last().is_some_and(|last| offset(last) == count) || top == count
                    });
                    seen.extend(sink.recorder.seen_offsets().iter().filter(|n| **n > top));
                    assert_eq!(seen, (1..=count).collect::<Vec<_>>());
                });
            }
        });
    });
}

#[test]
fn positions_have_readable_epochs() {
    each(|peer| {
        let epoch = peer.position(0, "news").epoch;
        assert_eq!(Epoch::parse(epoch.as_str()), Some(epoch));
        assert!(
            epoch
                .as_str()
                .bytes()
                .all(|letter| letter.is_ascii_alphabetic())
        );
    });
}

const PATIENCE: Duration = Duration::from_secs(20);
const MINUTE: u64 = 60_000;
const TTL: u64 = 10 * MINUTE;
const META_TTL: u64 = 60 * MINUTE;
const POLICY: HistoryPolicy = HistoryPolicy {
    size: 5,
    ttl_ms: TTL,
    meta_ttl_ms: META_TTL,
};
const ALL: HistoryQuery = HistoryQuery {
    since: None,
    limit: HistoryLimit::All,
    reverse: false,
};

/// A bus, and how the cases speak to it.
struct Peer {
    bus: Bus,
    runtime: Runtime,
    _server: Option<Nats>,
}

impl Peer {
    fn in_memory() -> Self {
        Self {
            bus: Bus::Memory(MemoryBus::new(&MemoryConfig::default()).into()),
            runtime: Runtime::new().expect("a runtime"),
            _server: None,
        }
    }

    fn over_nats() -> Self {
        let options = NatsOptions {
            jetstream: true,
            ..NatsOptions::default()
        };
        let server = Nats::start(&options).expect("nats-server");
        let runtime = Runtime::new().expect("a runtime");
        let connection = NatsConfig {
            urls: vec![server.url()],
            name: "conformance".to_owned(),
            credentials: NatsCredentials::None,
            tls: false,
            ca_file: None,
            connect_within: PATIENCE,
        };
        let config = NatsBusConfig {
            node: "one".to_owned(),
            history_max: 5_000,
            // The server reserves it, and the machine may have little.
            history_bytes_max: 16 << 20,
            ..NatsBusConfig::default()
        };
        let bus = runtime.block_on(async {
            let connection = NatsConnection::connect(&connection).await;
            NatsBus::open(connection.expect("connected"), &config, &Tasks::new()).await
        });
        Self {
            bus: Bus::Nats(bus.expect("a bus")),
            runtime,
            _server: Some(server),
        }
    }

    /// Waits for an answer.
    fn wait<T>(&self, answer: Answer<T>) -> T {
        match answer {
            Answer::Now(value) => value,
            Answer::Later(later) => self.runtime.block_on(later),
        }
    }

    /// So many, or what a network does in the same time.
    fn many(&self, in_memory: usize) -> usize {
        in_memory / if self.bus.is_remote() { 10 } else { 1 }
    }

    fn sink(&self) -> TestSink {
        let recorder = Arc::new(Recorder::default());
        recorder.room.store(usize::MAX, Ordering::Relaxed);
        let id = self.bus.attach(Arc::clone(&recorder) as Arc<dyn Sink>);
        TestSink { id, recorder }
    }

    fn subscribe(&self, sink: &TestSink, channel: &str) {
        let subscribed = self.bus.subscribe(sink.id, &channel.into());
        self.wait(subscribed).expect("room");
    }

    fn unsubscribe(&self, sink: &TestSink, channel: &str) {
        self.bus.unsubscribe(sink.id, &channel.into());
    }

    fn subscribe_pattern(&self, sink: &TestSink, pattern: &str) {
        let pattern = Pattern::new(pattern).expect(pattern);
        let subscribed = self.bus.subscribe_pattern(sink.id, &pattern);
        self.wait(subscribed).expect("room");
    }

    fn unsubscribe_pattern(&self, sink: &TestSink, pattern: &str) {
        self.bus
            .unsubscribe_pattern(sink.id, &Pattern::new(pattern).expect(pattern));
    }

    fn publication(&self, channel: &str, text: &str) -> Publish {
        Publish::new(channel.into(), Bytes::copy_from_slice(text.as_bytes()))
    }

    fn kept(&self, channel: &str, text: &str) -> Publish {
        Publish {
            history: Some(POLICY),
            ..self.publication(channel, text)
        }
    }

    fn publish_all(&self, now_ms: u64, publish: Publish) -> Result<Published, BusError> {
        self.wait(self.bus.publish(at(now_ms), publish))
    }

    #[track_caller]
    fn publish(&self, now_ms: u64, channel: &str, text: &str) -> Published {
        self.publish_all(now_ms, self.publication(channel, text))
            .expect("accepted")
    }

    #[track_caller]
    fn keep(&self, now_ms: u64, channel: &str, text: &str) -> Published {
        self.publish_all(now_ms, self.kept(channel, text))
            .expect("accepted")
    }

    fn position(&self, now_ms: u64, channel: &str) -> Position {
        let query = HistoryQuery {
            limit: HistoryLimit::PositionOnly,
            ..ALL
        };
        self.history(now_ms, channel, query).top
    }

    fn history(&self, now_ms: u64, channel: &str, query: HistoryQuery) -> History {
        let history = self
            .bus
            .history(at(now_ms), &channel.into(), &POLICY, query);
        self.wait(history).expect("room")
    }
}

struct TestSink {
    id: SinkId,
    recorder: Arc<Recorder>,
}

impl TestSink {
    fn room(&self, messages: usize) {
        self.recorder.room.store(messages, Ordering::Relaxed);
    }

    /// Takes what has come, which must be exactly so many.
    #[track_caller]
    fn take(&self, count: usize) -> Vec<Arc<Message>> {
        self.recorder.wait_until(|messages| messages.len() >= count);
        let messages = std::mem::take(&mut *self.recorder.messages.lock().expect("no panic"));
        assert_eq!(messages.len(), count, "{messages:?}");
        messages
    }

    #[track_caller]
    fn texts(&self, count: usize) -> Vec<String> {
        self.take(count)
            .iter()
            .map(|message| text(message))
            .collect()
    }

    #[track_caller]
    fn offsets(&self, count: usize) -> Vec<u64> {
        offsets(&self.take(count))
    }
}

#[derive(Default)]
struct Recorder {
    room: AtomicUsize,
    messages: Mutex<Vec<Arc<Message>>>,
    came: Condvar,
}

impl Recorder {
    fn len(&self) -> usize {
        self.messages.lock().expect("no panic").len()
    }

    fn seen_offsets(&self) -> Vec<u64> {
        offsets(&self.messages.lock().expect("no panic"))
    }

    #[track_caller]
    fn wait_until(&self, enough: impl Fn(&[Arc<Message>]) -> bool) {
        let messages = self.messages.lock().expect("no panic");
        let (messages, waited) = self
            .came
            .wait_timeout_while(messages, Duration::from_secs(10), |messages| {
                !enough(messages)
            })
            .expect("no panic");
        assert!(!waited.timed_out(), "only {} messages came", messages.len());
    }
}

impl Sink for Recorder {
    fn has_room(&self) -> bool {
        self.len() < self.room.load(Ordering::Relaxed)
    }

    fn deliver(&self, message: Arc<Message>) {
        self.messages.lock().expect("no panic").push(message);
        self.came.notify_all();
    }
}

fn at(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        unix_ms: unix_ms(mono_ms),
    }
}

/// The wall clock stands elsewhere, so that mixing the two up shows.
fn unix_ms(mono_ms: u64) -> u64 {
    1_700_000_000_000 + mono_ms
}

fn client(user: &str, id: &str) -> Arc<ClientInfo> {
    let info = ClientInfo {
        user: user.to_owned(),
        client: id.to_owned(),
        ..ClientInfo::default()
    };
    Arc::new(info)
}

fn text(message: &Message) -> String {
    let channel = &message.channel;
    match &message.kind {
        Kind::Publication(publication) => {
            format!("{channel}={}", String::from_utf8_lossy(&publication.data))
        }
        Kind::Join(info) => format!("{channel}+{}", info.client),
        Kind::Leave(info) => format!("{channel}-{}", info.client),
        Kind::Top(position) => format!("{channel}@{}", position.offset),
    }
}

fn texts(history: &History) -> Vec<String> {
    let data = |message: &Arc<Message>| {
        let publication = message.publication().expect("history holds publications");
        String::from_utf8_lossy(&publication.data).into_owned()
    };
    history.publications.iter().map(data).collect()
}

fn offset(message: &Message) -> u64 {
    message
        .publication()
        .and_then(|publication| publication.position)
        .expect("a position")
        .offset
}

fn offsets(messages: &[Arc<Message>]) -> Vec<u64> {
    messages.iter().map(|message| offset(message)).collect()
}
