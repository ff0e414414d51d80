//! Limits and leftovers: what conformance cannot see from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use protocol::subject::Pattern;

use super::{MemoryBus, MemoryConfig, Stats};
use crate::{
    BusError, HistoryLimit, HistoryPolicy, HistoryQuery, Message, Now, Publish, Published, Sink,
    Suppression,
};

#[test]
fn history_never_takes_more_than_its_memory() {
    let max = 64 * 1024;
    let bus = MemoryBus::new(&MemoryConfig {
        history_bytes_max: max,
        ..config()
    });
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let channel = format!("channel-{}", seed % 40);
        keep(&bus, &channel, (seed >> 32) as usize % 2_000);
        assert!(bus.stats().history_bytes <= max);
    }
    let stats = bus.stats();
    assert!(stats.unkept_total > 0, "{stats:?}");
    assert!(stats.history_bytes > max / 2, "{stats:?}");
    for n in 0..40 {
        bus.remove_history(&Channel::from(format!("channel-{n}")));
    }
    assert_eq!(bus.stats().history_bytes, 0);
}

#[test]
fn channel_short_of_memory_gives_up_its_own_oldest() {
    let bus = MemoryBus::new(&MemoryConfig {
        history_bytes_max: 8_000,
        ..config()
    });
    keep(&bus, "other", 100);
    for _ in 0..100 {
        keep(&bus, "greedy", 1_000);
    }
    let greedy = read(&bus, "greedy");
    assert!((3..8).contains(&greedy.publications.len()));
    assert!(greedy.holds_all_after(greedy.first - 1));
    assert_eq!(greedy.top.offset, 100);
    assert_eq!(
        read(&bus, "other").publications.len(),
        1,
        "others keep theirs"
    );
    assert_eq!(bus.stats().unkept_total, 0);
}

#[test]
fn publication_that_fits_nowhere_is_delivered_but_recovery_is_refused() {
    let bus = MemoryBus::new(&MemoryConfig {
        history_bytes_max: 2_000,
        ..config()
    });
    keep(&bus, "news", 10);
    assert_eq!(
        keep(&bus, "news", 5_000).position.expect("position").offset,
        2
    );
    let history = read(&bus, "news");
    assert!(history.publications.is_empty());
    assert!(!history.holds_all_after(0) && !history.holds_all_after(1));
    assert!(history.holds_all_after(2));
    assert_eq!(bus.stats().unkept_total, 1);
    keep(&bus, "news", 10);
    assert!(
        read(&bus, "news").holds_all_after(2),
        "it goes on from there"
    );
}

#[test]
fn channels_have_a_limit_whoever_opens_them() {
    let bus = MemoryBus::new(&MemoryConfig {
        channels_max: 2,
        ..config()
    });
    let sink = bus.attach(Arc::new(Inbox::default()));
    let refused = BusError::LimitExceeded {
        limit: "channels_max",
    };
    bus.subscribe(sink, &"a".into()).expect("room");
    bus.presence_add(&"b".into(), client("c1")).expect("room");
    assert_eq!(bus.subscribe(sink, &"c".into()), Err(refused));
    assert_eq!(bus.presence_add(&"c".into(), client("c1")), Err(refused));
    assert_eq!(bus.position(NOW, &"c".into(), &POLICY), Err(refused));
    assert_eq!(
        bus.publish(NOW, publish("c", 1, Some(POLICY))),
        Err(refused)
    );
    let passing = bus.publish(NOW, publish("c", 1, None));
    assert!(passing.is_ok(), "nothing need be known about the channel");
    bus.presence_remove(&"b".into(), "c1");
    bus.subscribe(sink, &"c".into()).expect("room again");
    bus.subscribe(sink, &"a".into())
        .expect("known channels stay open");
}

#[test]
fn present_clients_have_a_limit() {
    let bus = MemoryBus::new(&MemoryConfig {
        presence_max: 1,
        ..config()
    });
    bus.presence_add(&"a".into(), client("c1")).expect("room");
    bus.presence_add(&"a".into(), client("c1"))
        .expect("the same one");
    let refused = Err(BusError::LimitExceeded {
        limit: "presence_max",
    });
    assert_eq!(bus.presence_add(&"b".into(), client("c2")), refused);
    assert_eq!(
        bus.stats().channels,
        1,
        "the refused one left no channel behind"
    );
    bus.presence_remove(&"a".into(), "c1");
    bus.presence_add(&"b".into(), client("c2"))
        .expect("room again");
}

#[test]
fn idempotency_keys_have_a_limit() {
    let bus = MemoryBus::new(&MemoryConfig {
        idempotency_bytes_max: 1_000,
        ..config()
    });
    let with_key = |channel, key: String| {
        let key = Some(key);
        bus.publish(
            NOW,
            Publish {
                idempotency_key: key,
                ..publish(channel, 1, Some(POLICY))
            },
        )
    };
    for n in 0..100 {
        with_key("a", format!("key-{n}")).expect("own oldest make room");
    }
    let stats = bus.stats();
    assert!(
        stats.idempotency_bytes <= 1_000 && stats.idempotency_forgotten_total > 80,
        "{stats:?}"
    );
    let newest = with_key("a", "key-99".to_owned()).expect("accepted");
    assert_eq!(newest.suppressed, Some(Suppression::Duplicate));
    let refused = Err(BusError::LimitExceeded {
        limit: "idempotency_bytes_max",
    });
    assert_eq!(with_key("b", "x".repeat(1_000)), refused);
    assert_eq!(
        bus.stats().channels,
        1,
        "the refused one left no channel behind"
    );
    bus.sweep(later(super::IDEMPOTENCY_TTL_MS));
    assert_eq!(bus.stats().idempotency_bytes, 0);
}

#[test]
fn sweep_leaves_nothing_of_what_is_over() {
    let bus = MemoryBus::new(&config());
    let inbox = Arc::new(Inbox::default());
    let sink = bus.attach(inbox);
    for n in 0..1_000 {
        let channel = Channel::from(format!("channel-{n}"));
        let key = Some("key".to_owned());
        let publish = Publish {
            idempotency_key: key,
            ..publish(&channel, 10, Some(POLICY))
        };
        bus.publish(NOW, publish).expect("accepted");
        bus.subscribe(sink, &channel).expect("room");
        bus.presence_add(&channel, client("c1")).expect("room");
        bus.presence_remove(&channel, "c1");
        bus.unsubscribe(sink, &channel);
    }
    bus.sweep(NOW);
    assert_eq!(bus.stats().channels, 1_000);
    bus.sweep(later(POLICY.ttl_ms));
    assert_eq!(
        (bus.stats().channels, bus.stats().history_bytes),
        (1_000, 0)
    );
    bus.sweep(later(POLICY.meta_ttl_ms));
    assert_eq!(
        bus.stats(),
        Stats {
            published_total: 1_000,
            ..Stats::default()
        }
    );
    let capacity: usize = bus
        .shards
        .iter()
        .map(|shard| super::lock(shard).channels.capacity())
        .sum();
    assert!(capacity <= 64 * super::CAPACITY_SPARE, "{capacity}");
}

#[test]
fn stream_that_was_only_looked_at_is_soon_forgotten() {
    let bus = MemoryBus::new(&config());
    bus.position(NOW, &"guess".into(), &POLICY).expect("room");
    bus.sweep(later(POLICY.ttl_ms - 1));
    assert_eq!(bus.stats().channels, 1);
    bus.sweep(later(POLICY.ttl_ms));
    assert_eq!(bus.stats().channels, 0);
}

#[test]
fn lasting_position_outlives_any_sweep() {
    let bus = MemoryBus::new(&config());
    let forever = HistoryPolicy {
        meta_ttl_ms: 0,
        ..POLICY
    };
    let top = bus
        .publish(NOW, publish("a", 1, Some(forever)))
        .expect("accepted")
        .position;
    bus.sweep(later(u64::MAX / 2));
    assert_eq!(
        bus.position(later(u64::MAX / 2), &"a".into(), &forever)
            .ok(),
        top
    );
}

#[test]
fn detaching_gives_back_what_the_sink_held() {
    let bus = MemoryBus::new(&config());
    let sink = bus.attach(Arc::new(Inbox::default()));
    for n in 0..100 {
        bus.subscribe(sink, &Channel::from(format!("channel-{n}")))
            .expect("room");
        let pattern = Pattern::new(&format!("pattern-{n}.>")).expect("a pattern");
        bus.subscribe_pattern(sink, &pattern).expect("room");
    }
    bus.detach(sink);
    assert_eq!(bus.stats(), Stats::default());
}

#[test]
fn what_is_refused_or_dropped_is_counted() {
    let bus = MemoryBus::new(&config());
    let inbox = Arc::new(Inbox::default());
    let sink = bus.attach(Arc::clone(&inbox) as Arc<dyn Sink>);
    bus.subscribe(sink, &"a".into()).expect("room");
    inbox.full.store(true, Ordering::Relaxed);
    assert_eq!(
        bus.publish(NOW, publish("a", 1, Some(POLICY))),
        Err(BusError::Busy)
    );
    bus.publish_join(&"a".into(), client("c1"));
    bus.publish_leave(&"a".into(), client("c1"));
    let expected = Stats {
        channels: 1,
        subscriptions: 1,
        busy_total: 1,
        join_leave_dropped_total: 2,
        ..Stats::default()
    };
    assert_eq!(bus.stats(), expected);
}

#[test]
fn channel_with_subscribers_only_is_small() {
    assert!(
        size_of::<super::Entry>() <= 48,
        "{}",
        size_of::<super::Entry>()
    );
}

const NOW: Now = Now {
    mono_ms: 1_000,
    unix_ms: 1_700_000_000_000,
};
const POLICY: HistoryPolicy = HistoryPolicy {
    size: 100,
    ttl_ms: 600_000,
    meta_ttl_ms: 3_600_000,
};

fn config() -> MemoryConfig {
    MemoryConfig::default()
}

fn later(ms: u64) -> Now {
    Now {
        mono_ms: NOW.mono_ms + ms,
        ..NOW
    }
}

fn publish(channel: &str, bytes: usize, history: Option<HistoryPolicy>) -> Publish {
    Publish {
        history,
        ..Publish::new(channel.into(), Bytes::from(vec![b'x'; bytes]))
    }
}

#[track_caller]
fn keep(bus: &MemoryBus, channel: &str, bytes: usize) -> Published {
    bus.publish(NOW, publish(channel, bytes, Some(POLICY)))
        .expect("accepted")
}

fn read(bus: &MemoryBus, channel: &str) -> crate::History {
    let all = HistoryQuery {
        since: None,
        limit: HistoryLimit::All,
        reverse: false,
    };
    bus.history(NOW, &channel.into(), &POLICY, all)
        .expect("room")
}

fn client(id: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo {
        client: id.to_owned(),
        ..ClientInfo::default()
    })
}

#[derive(Default)]
struct Inbox {
    full: AtomicBool,
}

impl Sink for Inbox {
    fn has_room(&self) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    fn deliver(&self, _: Arc<Message>) {}
}
