//! What a well-behaved client sees.

use e2e::config::{config, with_client_keys};
use serde_json::json;
use testkit::{Client, ClientError, Gateway, token};

#[test]
fn publication_reaches_the_others_with_its_position() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let mut anna = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    let mut ben = Client::connect(gateway.main_addr(), &token::user("ben")?)?;
    let subscribed = ben.subscribe("room:1")?;
    assert_eq!(subscribed["recoverable"], true);
    for n in 1..=3 {
        anna.publish("room:1", &json!({ "n": n }))?;
        let publication = ben.next_publication("room:1")?;
        assert_eq!(publication["data"], json!({ "n": n }));
        assert_eq!(publication["offset"], n);
        assert_eq!(publication["info"]["user"], "anna");
    }
    Ok(())
}

#[test]
fn what_was_missed_is_recovered_and_another_epoch_is_refused() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let mut anna = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    let mut ben = Client::connect(gateway.main_addr(), &token::user("ben")?)?;
    let subscribed = ben.subscribe("room:1")?;
    let epoch = subscribed["epoch"].as_str().unwrap_or_default().to_owned();
    drop(ben);
    for n in 1..=3 {
        anna.publish("room:1", &json!(n))?;
    }
    let mut ben = Client::connect(gateway.main_addr(), &token::user("ben")?)?;
    let recovered = ben.recover("room:1", &epoch, 1)?;
    assert_eq!(recovered["recovered"], true);
    let missed: Vec<_> = recovered["publications"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(
        missed
            .iter()
            .map(|missed| &missed["data"])
            .collect::<Vec<_>>(),
        [2, 3]
    );
    let mut carl = Client::connect(gateway.main_addr(), &token::user("carl")?)?;
    let refused = carl.recover("room:1", "abcdefgh", 1)?;
    assert_eq!(refused["was_recovering"], true);
    assert!(
        refused
            .get("recovered")
            .is_none_or(|recovered| recovered == false)
    );
    assert_eq!(
        (&refused["epoch"], &refused["offset"]),
        (&json!(epoch), &json!(3))
    );
    Ok(())
}

#[test]
fn every_kind_of_signature_is_accepted_with_its_own_key() -> anyhow::Result<()> {
    let pairs = [
        token::Pair::rs256()?,
        token::Pair::es256()?,
        token::Pair::eddsa()?,
    ];
    let names = ["rsa_public_key", "ecdsa_public_key", "ed25519_public_key"];
    let mut keys = String::new();
    for (name, pair) in names.iter().zip(&pairs) {
        let pem = pair.public_pem().replace('\n', "\n      ");
        keys.push_str(&format!("    {name}: |\n      {pem}\n"));
    }
    let gateway = Gateway::start(&with_client_keys(&keys, ""))?;
    for pair in &pairs {
        let token = pair.sign(&token::claims("anna"))?;
        Client::connect(gateway.main_addr(), &token)?;
    }
    let stranger = token::Pair::es256()?.sign(&token::claims("anna"))?;
    let refused = Client::connect(gateway.main_addr(), &stranger);
    let Err(ClientError::Closed(close)) = refused else {
        panic!("a stranger's key")
    };
    assert_eq!(close.code, Some(3500));
    Ok(())
}

#[test]
fn restarted_gateway_has_another_stream_and_says_so() -> anyhow::Result<()> {
    let mut gateway = Gateway::start(&config(""))?;
    let token = token::user("anna")?;
    let mut anna = Client::connect(gateway.main_addr(), &token)?;
    let subscribed = anna.subscribe("room:1")?;
    let epoch = subscribed["epoch"].as_str().unwrap_or_default().to_owned();
    anna.publish("room:1", &json!("before"))?;
    gateway.restart()?;
    let mut anna = Client::connect(gateway.main_addr(), &token)?;
    let answer = anna.recover("room:1", &epoch, 1)?;
    assert!(
        answer
            .get("recovered")
            .is_none_or(|recovered| recovered == false),
        "{answer}"
    );
    assert_ne!(answer["epoch"], epoch);
    anna.publish("room:1", &json!("after"))?;
    assert_eq!(anna.next_publication("room:1")?["offset"], 1);
    Ok(())
}

#[test]
fn wildcard_subscriber_gets_every_channel_it_covers_once() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(
        r"
    - name: ticks
      pattern: ticks.>
      allow_subscribe_for_client: true
      allow_publish_for_client: true
      allow_wildcard_subscribe: true",
    ))?;
    let token = token::user("anna")?;
    let mut wild = Client::connect(gateway.main_addr(), &token)?;
    let mut publisher = Client::connect(gateway.main_addr(), &token)?;
    wild.subscribe("ticks.*.eur")?;
    wild.subscribe("ticks.gold.eur")?;
    let published = [
        "ticks.gold.usd",
        "ticks.gold.eur",
        "ticks.tin.eur",
        "ticks.end.eur",
    ];
    for channel in published {
        publisher.publish(channel, &json!(channel))?;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&(json!("ticks.*.eur"), json!("ticks.end.eur"))) {
        let push = wild.next_push(testkit::PATIENCE)?;
        seen.push((push["channel"].clone(), push["pub"]["data"].clone()));
    }
    // One push for each subscription that covers the channel, and nothing of another.
    let wanted = [
        ("ticks.gold.eur", "ticks.gold.eur"),
        ("ticks.*.eur", "ticks.gold.eur"),
        ("ticks.*.eur", "ticks.tin.eur"),
        ("ticks.*.eur", "ticks.end.eur"),
    ];
    assert_eq!(
        seen,
        wanted.map(|(push, data)| (json!(push), json!(data))),
        "{seen:?}"
    );
    Ok(())
}
