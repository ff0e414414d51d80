//! What agents say, and who hears it.

use serde_json::json;
use tempfile::tempdir;
use testkit::openclaw::{Behaviour as Habits, FakeGateway};
use testkit::stratix_agent::{Behaviour, StratixAgent};
use upstream::ws_agent::{AgentAuth, Peer, Secret, Target};

use crate::scene::{Scene, settings, table, target, until};

fn echoing() -> StratixAgent {
    StratixAgent::start(Behaviour {
        acks: true,
        echoes: true,
        ..Behaviour::default()
    })
    .unwrap()
}

#[test]
fn an_answer_is_published_on_the_channel_of_its_client_and_remembered() {
    let (folder, agent) = (tempdir().unwrap(), echoing());
    let scene = Scene::start(
        folder.path(),
        settings(table(&[("", target(&agent.url("/a")))])),
    );
    scene.send_safely("client 1", "m1", "hello");
    until("an answer", || !scene.heard.all().is_empty());
    let (channel, answer) = scene.heard.all().remove(0);
    assert_eq!(channel, "agent.client%201");
    assert_eq!(answer["type"], 0);
    assert_eq!(answer["clientId"], "client 1");
    assert_eq!(answer["messageId"], "re-m1");
    assert_eq!(answer["data"], "hello");
    assert_eq!(answer["state"], "final");
    let history = scene.relay.history("client 1", None, 100);
    let ids: Vec<&str> = history.iter().map(|one| &*one.message_id).collect();
    assert_eq!(ids, ["m1", "re-m1"]);
    let after = scene.relay.history("client 1", Some("m1"), 100);
    assert_eq!(after.len(), 1);
    scene.stop();
}

#[test]
fn an_agent_speaks_to_its_own_clients_only_and_says_nothing_twice() {
    let folder = tempdir().unwrap();
    let (own, other) = (echoing(), echoing());
    let rules = table(&[
        ("own-", target(&own.url("/a"))),
        ("other-", target(&other.url("/b"))),
    ]);
    let scene = Scene::start(folder.path(), settings(rules));
    scene.send_safely("own-1", "m1", "hello");
    scene.send_safely("other-1", "m1", "hello");
    until("both answers", || scene.heard.all().len() == 2);
    let say = |client: &str, id: &str| {
        let message = json!({"type": 0, "clientId": client, "messageId": id, "data": "psst"});
        own.say("/a", &message).unwrap();
    };
    say("other-1", "x1");
    say("nobody", "x2");
    say("own-1", "re-m1");
    say("own-1", "x3");
    until("the last answer", || {
        scene
            .heard
            .all()
            .iter()
            .any(|(_, one)| one["messageId"] == "x3")
    });
    assert_eq!(scene.heard.all().len(), 3);
    assert_eq!(scene.relay.counters().answers_foreign.value(), 2);
    assert_eq!(scene.relay.counters().answers_repeated.value(), 1);
    scene.stop();
}

#[test]
fn an_answer_given_while_we_were_away_is_fetched_and_its_message_not_sent_again() {
    let folder = tempdir().unwrap();
    let gateway = FakeGateway::start(Habits {
        echoes: false,
        ..Habits::default()
    })
    .unwrap();
    let openclaw = Target {
        peer: Peer::OpenClaw,
        auth: Habits::default().secret.map_or(AgentAuth::None, |secret| {
            AgentAuth::Token(Secret::new(secret))
        }),
        ..target(&gateway.url())
    };
    let rules = || settings(table(&[("", openclaw.clone())]));
    let scene = Scene::start(folder.path(), rules());
    scene.send_safely("c", "slow", "think hard");
    scene.send_safely("d", "quick", "say yes");
    until("both are acknowledged", || {
        scene.relay.counters().delivered.value() == 2
    });
    gateway.finish("d:quick", "yes").unwrap();
    until("the first answer", || scene.heard.all().len() == 1);
    let gauges = scene.relay.gauges();
    assert_eq!((gauges.pending, gauges.unanswered), (0, 1));
    scene.stop();
    gateway.finish("c:slow", "forty-two").unwrap();
    let scene = Scene::start(folder.path(), rules());
    until("the second answer", || !scene.heard.all().is_empty());
    let (_, answer) = scene.heard.all().remove(0);
    assert_eq!(answer["data"], "forty-two");
    assert_eq!(answer["inReplyTo"], "slow");
    let sends = gateway.ledger().sends;
    assert_eq!(sends.len(), 2, "each went once: {sends:?}");
    until("nothing is left", || scene.relay.gauges().unanswered == 0);
    scene.stop();
    let scene = Scene::start(folder.path(), rules());
    assert_eq!(scene.relay.counters().recovered.value(), 0);
    scene.stop();
}
