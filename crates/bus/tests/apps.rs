//! The bus as programs beside the sessions use it.
#![expect(
    clippy::disallowed_methods,
    reason = "the test owns its tasks and clock"
)]

use std::time::Duration;

use bus::{
    Bus, BusError, Emit, Epoch, HistoryLimit, HistoryPolicy, HistoryQuery, MemoryBus, MemoryConfig,
    Now, Position,
};
use bytes::Bytes;
use protocol::channel::Channel;
use protocol::subject::Pattern;

fn memory() -> Bus {
    Bus::Memory(MemoryBus::new(&MemoryConfig::default()).into())
}

#[tokio::test]
async fn tap_hears_what_is_emitted_and_counts_what_it_had_no_room_for() {
    let bus = memory();
    let mut tap = bus.tap(&pattern("xy.md.>"), 2).await.unwrap();
    for (offset, text) in [(1, "one"), (2, "two"), (3, "three")] {
        bus.emit(NOW, emit("xy.md.tick.g00", text, Some(at(offset))))
            .unwrap();
    }
    let first = tap.next().await.unwrap();
    assert_eq!(first.channel, "xy.md.tick.g00");
    let publication = first.publication().unwrap();
    assert_eq!(
        (&publication.data[..], publication.position),
        (&b"one"[..], Some(at(1)))
    );
    assert_eq!(tap.try_next().unwrap().publication().unwrap().data, "two");
    assert!(tap.try_next().is_none());
    assert_eq!(tap.dropped(), 1);
    drop(tap);
    assert_eq!(bus.stats().patterns, 0);
}

#[tokio::test]
async fn last_emitted_message_is_found_and_is_the_history() {
    let bus = memory();
    for (channel, offset) in [("a.x", 7), ("a.y", 8), ("b.x", 9)] {
        bus.emit(NOW, emit(channel, "old", Some(at(offset - 1))))
            .unwrap();
        bus.emit(NOW, emit(channel, channel, Some(at(offset))))
            .unwrap();
    }
    let mut found: Vec<_> = bus
        .latest(&pattern("a.*"))
        .await
        .unwrap()
        .iter()
        .map(|message| message.publication().unwrap().data.clone())
        .collect();
    found.sort();
    assert_eq!(found, ["a.x", "a.y"]);

    let read = |since| HistoryQuery {
        since,
        limit: HistoryLimit::All,
        reverse: false,
    };
    let channel: Channel = "a.x".into();
    let history = bus
        .history(NOW, &channel, &POLICY, read(Some(6)))
        .await
        .unwrap();
    assert_eq!(
        (history.top, history.first, history.publications.len()),
        (at(7), 7, 1)
    );
    assert!(history.holds_all_after(6));
    assert!(!history.holds_all_after(5));
    let history = bus
        .history(NOW, &channel, &POLICY, read(Some(7)))
        .await
        .unwrap();
    assert!(history.publications.is_empty());
}

#[tokio::test]
async fn request_gets_the_answer_of_whoever_serves() {
    let bus = memory();
    let subject: Channel = SUBJECT.into();
    let ask = || bus.request(&subject, "q".into(), Duration::from_secs(5));
    assert_eq!(ask().await, Err(BusError::NoResponder));
    let mut requests = bus.serve(&pattern("xy.md.req.>"), 4).await.unwrap();
    tokio::spawn(async move {
        for n in 0..3 {
            let asked = requests.next().await.unwrap();
            assert_eq!((&*asked.subject, &asked.data[..]), (SUBJECT, &b"q"[..]));
            match n {
                0 => asked.respond("a".into()),
                1 => asked.refuse("not now"),
                _ => drop(asked),
            }
        }
    });
    assert_eq!(ask().await, Ok(Bytes::from("a")));
    assert_eq!(ask().await, Err(BusError::Refused));
    assert_eq!(ask().await, Err(BusError::Refused), "dropped");
}

#[tokio::test(start_paused = true)]
async fn request_that_nobody_takes_up_ends_in_time() {
    let bus = memory();
    let _requests = bus.serve(&pattern("a"), 1).await.unwrap();
    let waiting = bus.request(&"a".into(), "".into(), Duration::from_secs(1));
    assert_eq!(
        bus.request(&"a".into(), "".into(), Duration::from_secs(1))
            .await,
        Err(BusError::Busy)
    );
    assert_eq!(waiting.await, Err(BusError::Unavailable));
}

const SUBJECT: &str = "xy.md.req.snapshot.g00";

fn emit(channel: &str, text: &str, position: Option<Position>) -> Emit {
    Emit {
        channel: channel.into(),
        data: Bytes::copy_from_slice(text.as_bytes()),
        position,
        keep: true,
    }
}

fn at(offset: u64) -> Position {
    Position {
        offset,
        epoch: Epoch::from_random(1),
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect(text)
}

const NOW: Now = Now {
    mono_ms: 5,
    unix_ms: 1_700_000_000_000,
};

const POLICY: HistoryPolicy = HistoryPolicy {
    size: 5,
    ttl_ms: 60_000,
    meta_ttl_ms: 0,
};
