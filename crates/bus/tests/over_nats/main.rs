//! Several gateways on one NATS server.
#![expect(
    clippy::disallowed_methods,
    reason = "the test owns its tasks and clock"
)]

mod accounts;
mod peer;

use std::time::Duration;

use bus::{
    Answer, Bus, BusError, Emit, HistoryLimit, Keep, Kind, NatsBus, NatsBusConfig, NatsBusError,
    PresenceStats, Publish, StreamConfig, StreamStorage, Suppression,
};
use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use peer::{Gateway, POLICY, at, client, config, connect, now, pattern, server, soon, within};
use testkit::services::{Nats, NatsOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_hear_each_other() {
    let server = server();
    let (one, two) = (
        Gateway::on(&server, "one").await,
        Gateway::on(&server, "two").await,
    );
    let mut inbox = two.inbox();
    two.subscribe(&inbox, "a b").await;
    let mut tap = two.bus.tap(&pattern(">"), 8).await.unwrap();
    one.bus.publish_join(&"a b".into(), client("anna", "c1"));
    one.publish("a b", "hello").await;
    let joined = inbox.next().await;
    assert!(matches!(&joined.kind, Kind::Join(info) if info.user == "anna"));
    assert_eq!(inbox.text().await, "a b=hello");
    let heard = within(tap.next()).await.unwrap();
    assert_eq!(heard.channel, "a b");

    let room = "room".into();
    one.bus
        .presence_add(&room, client("anna", "c1"))
        .await
        .unwrap();
    two.bus
        .presence_add(&room, client("anna", "c2"))
        .await
        .unwrap();
    for gateway in [&one, &two] {
        soon(|| async {
            let stats = gateway.bus.presence_stats(&room).await.unwrap();
            stats
                == PresenceStats {
                    clients: 2,
                    users: 1,
                }
        })
        .await;
    }
    one.bus.presence_remove(&room, "c1");
    soon(|| async { two.bus.presence(&room).await.unwrap().len() == 1 }).await;
    assert_eq!(one.bus.presence(&room).await.unwrap()[0].client, "c2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_comes_by_many_subscriptions_is_heard_once() {
    let server = server();
    let one = Gateway::on(&server, "one").await;
    let (mut inbox, mut other) = (one.inbox(), one.inbox());
    let patterns = [">", "xy.>", "xy.md.*", "*.md.>", "news.*"].map(pattern);
    for wanted in &patterns {
        for inbox in [&inbox, &other] {
            let subscribed = one.bus.subscribe_pattern(inbox.id, wanted);
            within(subscribed.into_future()).await.unwrap();
        }
    }
    one.subscribe(&inbox, "xy.md.a").await;
    one.subscribe(&inbox, "news.a").await;
    // A pattern without a wildcard is the same subject as a channel.
    let mut tap = one.bus.tap(&pattern("xy.md.a"), 64).await.unwrap();
    for wanted in patterns.iter().map(Some).chain([None]) {
        for (channel, text) in [("xy.md.a", "1"), ("news.a", "2"), ("xy.md.b", "3")] {
            one.publish(channel, text).await;
        }
        let expected = [("xy.md.a", "1"), ("news.a", "2"), ("xy.md.b", "3")];
        // Order holds per channel only.
        for inbox in [&mut inbox, &mut other] {
            let mut heard = [inbox.text().await, inbox.text().await, inbox.text().await];
            heard.sort();
            let mut all = expected.map(|(channel, text)| format!("{channel}={text}"));
            all.sort();
            assert_eq!(heard, all);
        }
        // The last patterns that cover it stay: `>` goes last.
        if let Some(wanted) = wanted.filter(|wanted| wanted.as_str() != ">") {
            for inbox in [&inbox, &other] {
                one.bus.unsubscribe_pattern(inbox.id, wanted);
            }
        }
        assert_eq!(within(tap.next()).await.unwrap().channel, "xy.md.a");
        assert!(tap.try_next().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_crowd_is_read_in_parts() {
    let server = server();
    let one = Gateway::on(&server, "one").await;
    let two = Gateway::on(&server, "two").await;
    for n in 0..1_234 {
        let info = client(&format!("user {}", n % 100), &format!("c{n}"));
        one.bus.presence_add(&"room".into(), info).await.unwrap();
        let elsewhere = client("anna", &format!("e{n}"));
        two.bus
            .presence_add(&"room.b".into(), elsewhere)
            .await
            .unwrap();
    }
    let everybody = PresenceStats {
        clients: 1_234,
        users: 100,
    };
    soon(|| async { two.bus.presence_stats(&"room".into()).await == Ok(everybody) }).await;
    assert_eq!(one.stats().refused_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_on_both_make_one_order_without_a_gap() {
    const EACH: usize = 60;
    let server = server();
    let gateways = [
        Gateway::on(&server, "one").await,
        Gateway::on(&server, "two").await,
    ];
    let mut inboxes = Vec::new();
    for gateway in &gateways {
        let inbox = gateway.inbox();
        gateway.subscribe(&inbox, "busy").await;
        inboxes.push(inbox);
    }
    let publishing: Vec<_> = gateways
        .iter()
        .flat_map(|gateway| [gateway, gateway])
        .map(|gateway| {
            let bus = gateway.bus.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    let publish = || Publish {
                        history: Some(bus::HistoryPolicy {
                            size: 500,
                            ..POLICY
                        }),
                        ..Publish::new("busy".into(), n.to_string().into())
                    };
                    // Who loses too many races is told so, and tries again.
                    while bus.publish(now(), publish()).await == Err(BusError::Busy) {}
                }
            })
        })
        .collect();
    for publisher in publishing {
        publisher.await.unwrap();
    }
    let mut orders = Vec::new();
    for inbox in &mut inboxes {
        let mut order = Vec::new();
        for offset in 1..=4 * EACH as u64 {
            let message = inbox.next().await;
            let publication = message.publication().unwrap();
            assert_eq!(publication.position.unwrap().offset, offset);
            order.push((publication.position, publication.data.clone()));
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    let history = gateways[1].history("busy", HistoryLimit::All).await;
    assert_eq!(history.publications.len(), 4 * EACH);
    assert!(history.holds_all_after(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_outlive_the_server_and_are_told_after_reconnecting() {
    let mut server = server();
    let (one, two) = (
        Gateway::on(&server, "one").await,
        Gateway::on(&server, "two").await,
    );
    let mut inbox = two.inbox();
    two.subscribe(&inbox, "news").await;
    let first = one.keep("news", "1").await;
    assert_eq!(inbox.text().await, "news=1");
    one.bus
        .presence_add(&"news".into(), client("anna", "c1"))
        .await
        .unwrap();

    server.kill().unwrap();
    soon(|| async { !two.stats().connected && !one.stats().connected }).await;
    server.restart().unwrap();
    soon(|| async { two.stats().reconnects_total == 1 && one.stats().connected }).await;
    let top = inbox.next().await;
    assert!(
        matches!(top.kind, Kind::Top(top) if top == first),
        "{top:?}"
    );
    // The first try may meet a connection that is not quite there.
    soon(|| async { one.try_keep("news", "2").await.is_ok() }).await;
    let second = inbox.next().await.publication().unwrap().position.unwrap();
    assert_eq!((second.offset, second.epoch), (2, first.epoch));
    // What the server kept in memory is noted again.
    soon(|| async {
        two.bus
            .presence(&"news".into())
            .await
            .is_ok_and(|all| all.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_goes_on_across_a_crash_of_the_server() {
    let mut server = server();
    let one = Gateway::on(&server, "one").await;
    let two = Gateway::on(&server, "two").await;
    let bus = one.bus.clone();
    let (tell, mut told) = tokio::sync::mpsc::channel(10_000);
    let publishing = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while !tell.is_closed() {
            let publish = Publish {
                history: Some(POLICY),
                ..Publish::new("news".into(), "x".into())
            };
            let clock = Clock::start();
            let published = bus.publish(now(), publish).await;
            longest = longest.max(clock.elapsed());
            if let Ok(published) = published {
                let _ = tell.send(published.position.unwrap()).await;
            }
        }
        longest
    });
    let first = within(told.recv()).await.unwrap();
    server.kill().unwrap();
    soon(|| async { !one.stats().connected && !two.stats().connected }).await;
    server.restart().unwrap();
    soon(|| async { one.stats().reconnects_total == 1 && two.stats().connected }).await;
    let mut last = first;
    while !told.is_empty() {
        last = told.recv().await.unwrap();
    }
    // One that was not on its way when the server came back.
    for _ in 0..3 {
        let next = within(told.recv()).await.unwrap();
        assert!(next.offset > last.offset && next.epoch == first.epoch);
        last = next;
    }
    drop(told);
    let longest = within(publishing).await.unwrap();
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    let history = two.history("news", HistoryLimit::All).await;
    assert!(history.top.offset >= last.offset);
    let kept = history.publications.len() as u64;
    assert_eq!(history.first + kept, history.top.offset + 1, "no gap");
    assert!(kept == history.top.offset || kept >= 400, "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_while_away_is_not_stored_when_back() {
    let mut server = server();
    let one = Gateway::on(&server, "one").await;
    one.keep("news", "1").await;
    server.kill().unwrap();
    soon(|| async { !one.stats().connected }).await;
    assert!(one.try_keep("news", "2").await.is_err());
    server.restart().unwrap();
    soon(|| async { one.stats().connected && one.try_keep("news", "3").await.is_ok() }).await;
    let history = one.history("news", HistoryLimit::All).await;
    assert_eq!((history.top.offset, history.publications.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_while_away_shows_by_the_top() {
    let mut server = server();
    let one = Gateway::on(&server, "one").await;
    let mut inbox = one.inbox();
    one.subscribe(&inbox, "news").await;
    let first = one.keep("news", "1").await;
    assert_eq!(inbox.text().await, "news=1");
    server.kill().unwrap();
    soon(|| async { !one.stats().connected }).await;
    server.restart().unwrap();
    // Stored by somebody else, without passing by here: as if it came while away.
    let other = connect(&server.url()).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Tidegate-Offset", "2");
    headers.insert("Tidegate-Epoch", first.epoch.as_str());
    let subject = "tidegate.history.news";
    let stored = other
        .client()
        .request_with_headers(subject, headers, "2".into());
    let ack = stored.await.unwrap();
    assert!(
        !String::from_utf8_lossy(&ack.payload).contains("error"),
        "{ack:?}"
    );
    let mut seen = Vec::new();
    loop {
        let message = inbox.next().await;
        if let Kind::Top(top) = message.kind {
            assert_eq!(top.epoch, first.epoch);
            seen.push(top.offset);
            break;
        }
    }
    // Whether it was stored before the reading or came by itself depends on who was first.
    assert!(seen == [2] || seen == [1], "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_that_was_emptied_behind_our_back_has_a_new_epoch() {
    let server = server();
    let one = Gateway::on(&server, "one").await;
    let before = one.keep("news", "1").await;
    let purged = one
        .nats()
        .connection()
        .client()
        .request("$JS.API.STREAM.PURGE.TIDEGATE_HISTORY", Bytes::new());
    purged.await.unwrap();
    let after = one.keep("news", "2").await;
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
    let history = one.history("news", HistoryLimit::All).await;
    assert_eq!((history.top, history.publications.len()), (after, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_were_deleted_behind_our_back_are_made_again() {
    let server = server();
    let (one, two) = (
        Gateway::on(&server, "one").await,
        Gateway::on(&server, "two").await,
    );
    let before = one.keep("news", "1").await;
    let here = one.bus.presence_add(&"news".into(), client("u", "here"));
    within(here.into_future()).await.unwrap();
    for stream in ["TIDEGATE_HISTORY", "KV_TIDEGATE_PRESENCE"] {
        let client = one.nats().connection().client();
        let deleted = client.request(format!("$JS.API.STREAM.DELETE.{stream}"), Bytes::new());
        deleted.await.unwrap();
    }
    soon(async || one.try_keep("news", "2").await.is_ok()).await;
    let after = one.keep("news", "3").await;
    assert_eq!(after.offset, 2);
    assert_ne!(after.epoch, before.epoch);
    let news = "news".into();
    soon(async || {
        two.bus
            .presence(&news)
            .await
            .is_ok_and(|seen| seen.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_is_sent_before_the_end() {
    let server = server();
    let (two, tasks) = (Gateway::on(&server, "two").await, Tasks::new());
    let connection = connect(&server.url()).await;
    let one = NatsBus::open(connection, &config("one"), &tasks).await;
    let one = Bus::Nats(one.unwrap());
    let mut inbox = two.inbox();
    two.subscribe(&inbox, "news").await;
    for number in 0..1_000 {
        let publish = Publish::new("news".into(), Bytes::from(format!("{number}")));
        one.publish(now(), publish).await.unwrap();
    }
    assert!(tasks.stop(peer::PATIENCE).await);
    let Bus::Nats(nats) = &one else {
        unreachable!("it was opened over NATS")
    };
    nats.connection().close(peer::PATIENCE).await;
    for number in 0..1_000 {
        assert_eq!(inbox.text().await, format!("news={number}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interest_lingers_and_ends() {
    let server = server();
    let config = NatsBusConfig {
        linger: Duration::from_millis(300),
        ..config("one")
    };
    let one = Gateway::with(&server, &config).await;
    let inbox = one.inbox();
    one.subscribe(&inbox, "news").await;
    one.bus.unsubscribe(inbox.id, &"news".into());
    assert_eq!(one.stats().interests, 1);
    let again = one.bus.subscribe(inbox.id, &"news".into());
    assert!(matches!(again, Answer::Now(Ok(()))), "{again:?}");
    one.bus.detach(inbox.id);
    soon(|| async { one.stats().interests == 0 }).await;
    let other = one.inbox();
    let anew = one.bus.subscribe(other.id, &"news".into());
    assert!(matches!(anew, Answer::Later(_)), "{anew:?}");
    anew.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscriptions_share_round_trips_and_count_as_a_storm() {
    let server = server();
    let one = Gateway::on(&server, "one").await;
    let inbox = one.inbox();
    let names: Vec<_> = (0..2_000).map(|n| format!("c.{n}")).collect();
    let answers: Vec<_> = names
        .iter()
        .map(|name| {
            one.bus
                .subscribe(inbox.id, &name.as_str().into())
                .into_future()
        })
        .collect();
    for answer in answers {
        within(answer).await.unwrap();
    }
    assert_eq!(one.stats().interests, 2_000);
    soon(|| async { one.stats().storms_total >= 1 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_versions_hold_across_gateways() {
    let server = server();
    let (one, two) = (
        Gateway::on(&server, "one").await,
        Gateway::on(&server, "two").await,
    );
    let keyed = |history| Publish {
        idempotency_key: Some("k y\r\n".to_owned()),
        history,
        ..Publish::new("a".into(), "x".into())
    };
    let first = one.bus.publish(now(), keyed(Some(POLICY))).await.unwrap();
    one.keep("a", "y").await;
    let again = two.bus.publish(now(), keyed(Some(POLICY))).await.unwrap();
    assert_eq!(again.suppressed, Some(Suppression::Duplicate));
    assert_eq!(again.position, first.position);
    let fresh = one.bus.publish(now(), keyed(None)).await.unwrap();
    let again = two.bus.publish(now(), keyed(None)).await.unwrap();
    assert_eq!(
        (fresh.suppressed, again.suppressed),
        (None, Some(Suppression::Duplicate))
    );

    let versioned = |version| Publish {
        version,
        version_epoch: "e".to_owned(),
        history: Some(POLICY),
        ..Publish::new("doc".into(), "x".into())
    };
    assert_eq!(
        one.bus
            .publish(now(), versioned(5))
            .await
            .unwrap()
            .suppressed,
        None
    );
    one.keep("doc", "unversioned").await;
    let late = two.bus.publish(now(), versioned(5)).await.unwrap();
    assert_eq!(late.suppressed, Some(Suppression::Outdated));
    assert_eq!(late.position.unwrap().offset, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emitted_messages_reach_sinks_and_are_kept_by_streams() {
    let server = server();
    let config = NatsBusConfig {
        streams: vec![stream("XY_MD_SNAPSHOT", "xy.md.snapshot.>")],
        ..config("one")
    };
    let (market, gateway) = (
        Gateway::with(&server, &config).await,
        Gateway::with(
            &server,
            &NatsBusConfig {
                node: "two".to_owned(),
                ..config.clone()
            },
        )
        .await,
    );
    let channel = "xy.md.snapshot.g00";
    let nothing = gateway.history(channel, HistoryLimit::All).await;
    assert_eq!((nothing.top.offset, nothing.publications.len()), (0, 0));
    let other = market.history(channel, HistoryLimit::PositionOnly).await;
    assert_eq!(nothing.top, other.top, "the same for all");

    let mut inbox = gateway.inbox();
    gateway.subscribe(&inbox, channel).await;
    for (offset, text) in [(1, "one"), (2, "two")] {
        let emit = Emit {
            channel: channel.into(),
            data: text.into(),
            position: Some(at(offset)),
            keep: true,
        };
        market.bus.emit(now(), emit).unwrap();
        assert_eq!(inbox.text().await, format!("{channel}={text}"));
    }
    let history = gateway.history(channel, HistoryLimit::All).await;
    assert_eq!(
        (history.top, history.first, history.publications.len()),
        (at(2), 2, 1)
    );
    let latest = gateway.bus.latest(&pattern("xy.md.*.g00")).await.unwrap();
    assert_eq!(latest[0].channel, channel);
    assert_eq!(latest[0].publication().unwrap().data, "two");
    assert!(
        gateway
            .bus
            .latest(&pattern("xy.md.tick.>"))
            .await
            .unwrap()
            .is_empty()
    );

    // Somebody without headers publishes as well.
    let client = market.nats().connection().client().clone();
    client
        .publish("xy.md.tick.g00", "raw".into())
        .await
        .unwrap();
    gateway.subscribe(&inbox, "xy.md.tick.g00").await;
    client
        .publish("xy.md.tick.g00", "raw".into())
        .await
        .unwrap();
    let raw = inbox.next().await;
    assert_eq!(raw.publication().unwrap().position, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_by_another_process() {
    let server = server();
    let (market, gateway) = (
        Gateway::on(&server, "one").await,
        Gateway::on(&server, "two").await,
    );
    let ask = |within| {
        gateway
            .bus
            .request(&"xy.md.req.g00".into(), "q".into(), within)
    };
    assert_eq!(ask(LONG).await, Err(BusError::NoResponder));
    let mut requests = market.bus.serve(&pattern("xy.md.req.>"), 8).await.unwrap();
    tokio::spawn(async move {
        requests.next().await.unwrap().respond("answer".into());
        requests.next().await.unwrap().refuse("no\r\nway");
        drop(requests.next().await);
        let held = requests.next().await;
        requests.next().await;
        drop(held);
    });
    assert_eq!(ask(LONG).await, Ok(Bytes::from("answer")));
    assert_eq!(ask(LONG).await, Err(BusError::Refused));
    assert_eq!(ask(LONG).await, Err(BusError::Refused), "dropped");
    assert_eq!(
        ask(Duration::from_millis(100)).await,
        Err(BusError::Unavailable)
    );
    assert!(gateway.stats().latency_counts.iter().sum::<u64>() >= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_and_state_go_to_all() {
    let server = server();
    let (one, two) = (
        Gateway::on(&server, "one").await,
        Gateway::on(&server, "two").await,
    );
    let mut own = one.bus.told().await.unwrap();
    let mut other = two.bus.told().await.unwrap();
    one.bus.tell_all("disconnect", "anna".into()).unwrap();
    two.bus.tell_all("revoke", "ben".into()).unwrap();
    let word = within(other.next()).await.unwrap();
    assert_eq!(
        (&*word.from, &*word.kind, &word.body[..]),
        ("one", "disconnect", &b"anna"[..])
    );
    let word = within(own.next()).await.unwrap();
    assert_eq!((&*word.from, &*word.kind), ("two", "revoke"), "not its own");

    let keep = |key: &str, value: Option<&'static str>, after| Keep {
        key: key.to_owned(),
        value: value.map(Bytes::from),
        ttl: None,
        after,
    };
    let first = one
        .bus
        .keep(keep("flags.all", Some("1"), Some(0)))
        .await
        .unwrap();
    let refused = two.bus.keep(keep("flags.all", Some("2"), Some(0))).await;
    assert_eq!(refused, Err(BusError::Outdated));
    let mut watch = two.bus.watch_kept("flags").await.unwrap();
    let there = within(watch.next()).await.unwrap().unwrap();
    assert_eq!((there.value, there.revision), (Some("1".into()), first));
    one.bus
        .keep(keep("revoked.x", Some("y"), None))
        .await
        .unwrap();
    let second = one
        .bus
        .keep(keep("flags.all", Some("3"), Some(first)))
        .await
        .unwrap();
    let changed = within(watch.next()).await.unwrap().unwrap();
    assert_eq!(
        (&*changed.key, changed.value),
        ("flags.all", Some("3".into()))
    );
    assert_eq!(changed.revision, second);
    one.bus.keep(keep("flags.all", None, None)).await.unwrap();
    assert_eq!(within(watch.next()).await.unwrap().unwrap().value, None);
    let left = two.bus.kept("").await.unwrap();
    let left: Vec<_> = left
        .iter()
        .map(|it| (&*it.key, it.value.is_some()))
        .collect();
    assert_eq!(left, [("revoked.x", true), ("flags.all", false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_made_once_and_left_as_they_are() {
    let server = server();
    let unsized_stream = StreamConfig {
        max_bytes: 0,
        ..stream("XY_MD_TICK", "xy.md.tick.>")
    };
    let config = NatsBusConfig {
        streams: vec![unsized_stream],
        ..config("one")
    };
    let one = Gateway::with(&server, &config).await;
    let info = || async {
        let client = one.nats().connection().client();
        let reply = client
            .request("$JS.API.STREAM.INFO.XY_MD_TICK", Bytes::new())
            .await
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&reply.payload).unwrap()["config"].clone()
    };
    let made = info().await;
    let bytes = made["max_bytes"].as_u64().unwrap();
    assert!((6 << 20..=200 << 30).contains(&bytes), "{bytes}");
    let mut changed = config.clone();
    changed.streams[0].max_bytes = 1 << 20;
    changed.streams[0].max_age = Duration::from_secs(9);
    changed.create = false;
    Gateway::with(&server, &changed).await;
    assert_eq!(info().await, made);

    changed.streams.push(stream("XY_AUDIT", "xy.audit.>"));
    let absent = peer::open(&server, &changed).await;
    let absent = absent.unwrap_err();
    assert!(matches!(&absent, NatsBusError::StreamAbsent { stream } if stream == "XY_AUDIT"));
    assert!(absent.to_string().contains("XY_AUDIT"), "{absent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_without_jetstream_is_named_or_not_needed() {
    let server = Nats::start(&NatsOptions::default()).unwrap();
    let refused = peer::open(&server, &config("one")).await.unwrap_err();
    assert!(matches!(refused, NatsBusError::JetStreamOff), "{refused:?}");
    let without = NatsBusConfig {
        keep: false,
        ..config("one")
    };
    let one = Gateway::with(&server, &without).await;
    let mut inbox = one.inbox();
    one.subscribe(&inbox, "news").await;
    one.publish("news", "hello").await;
    assert_eq!(inbox.text().await, "news=hello");
    assert_eq!(one.try_keep("news", "1").await, Err(BusError::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receiver_without_room_misses_it_and_the_others_do_not() {
    let server = server();
    let one = Gateway::on(&server, "one").await;
    let (full, mut free) = (one.inbox_of(1), one.inbox());
    one.subscribe(&full, "news").await;
    one.subscribe(&free, "news").await;
    for text in ["1", "2", "3"] {
        one.publish("news", text).await;
    }
    for text in ["1", "2", "3"] {
        assert_eq!(free.text().await, format!("news={text}"));
    }
    assert_eq!(one.stats().dropped_total, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_the_server_would_not_take_is_refused() {
    let server = server();
    let one = Gateway::on(&server, "one").await;
    let large = Bytes::from(vec![0; 2 << 20]);
    for history in [None, Some(POLICY)] {
        let publish = Publish {
            history,
            ..Publish::new("a".into(), large.clone())
        };
        let refused = one.bus.publish(now(), publish).await;
        assert_eq!(
            refused,
            Err(BusError::LimitExceeded {
                limit: "max_payload"
            })
        );
    }
}

fn stream(name: &str, subject: &str) -> StreamConfig {
    StreamConfig {
        name: name.to_owned(),
        subjects: vec![pattern(subject)],
        max_age: Duration::from_secs(3_600),
        max_bytes: 1 << 20,
        max_per_subject: 1,
        storage: StreamStorage::File,
    }
}

const LONG: Duration = Duration::from_secs(10);
