//! Feature flags: set at one gateway, in force at all.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, ensure};
use api::Message as _;
use api::xy::flags::v1::FeatureFlags;
use e2e::live_client::LiveClient;
use e2e::live_data::Scene;
use e2e::live_data::operator::Administrator;
use serde_json::{Value, json};
use testkit::{Gateway, PATIENCE, http, token};

const PATH: &str = "/admin/feature-flags";

#[test]
fn flags_set_at_one_gateway_are_pushed_to_clients_of_the_other() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let (here, mut there) = (scene.gateway("")?, scene.gateway("")?);
    let (ops_here, ops_there) = (Administrator::of(&here)?, Administrator::of(&there)?);
    let mut client = subscriber(&there)?;

    let put = json!({ "flags": { "chart.depth": true, "chart.new": { "enabled": true, "percentage": 25 } } });
    let answer = ops_here.send(&here, "PUT", PATH, &put)?;
    ensure!(answer.status == 200, "{}", answer.text());
    let version = answer.json()?["version"].as_u64().context("no version")?;
    let pushed = pushed(&mut client, version)?;
    assert_eq!(pushed.flags.get("chart.depth"), Some(&true));
    assert_ne!(pushed.flags.get("chart.new"), Some(&true));
    assert_eq!(
        pushed.rollouts,
        BTreeMap::from([("chart.new".to_owned(), 25)])
    );
    wait_flags(&there, &ops_there, &answer.json()?)?;

    // Who comes later gets what holds, and so does who comes back.
    assert_eq!(read(&subscriber(&there)?.payload()?)?, pushed);
    there.restart()?;
    assert_eq!(read(&subscriber(&there)?.payload()?)?, pushed);
    wait_flags(&there, &ops_there, &answer.json()?)?;

    // A share is of the same users at whichever gateway, and grows around them.
    let in_a_quarter = share("chart.new", 25);
    let in_a_half = share("chart.new", 50);
    assert!(in_a_quarter.iter().all(|user| in_a_half.contains(user)));
    assert!(
        (200..300).contains(&in_a_quarter.len()),
        "{}",
        in_a_quarter.len()
    );
    Ok(())
}

#[test]
fn of_two_operators_the_slower_is_told() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateways = [scene.gateway("")?, scene.gateway("")?];
    let operators = [
        Administrator::of(&gateways[0])?,
        Administrator::of(&gateways[1])?,
    ];
    let first = operators[0].send(
        &gateways[0],
        "PUT",
        PATH,
        &json!({ "flags": { "a": true } }),
    )?;
    ensure!(first.status == 200, "{}", first.text());
    let first = first.json()?;
    wait_flags(&gateways[1], &operators[1], &first)?;
    let change = |n: usize, flag: &str| {
        let body = json!({ "flags": { flag: true }, "version": first["version"] });
        operators[n].send(&gateways[n], "POST", PATH, &body)
    };
    let second = change(1, "b")?;
    ensure!(second.status == 200, "{}", second.text());
    // The gateway may not have heard of it yet; the flags know.
    let late = change(0, "c")?;
    assert_eq!(late.status, 409, "{}", late.text());
    assert_eq!(late.json()?["version"], second.json()?["version"]);
    assert_eq!(late.json()?["flags"], json!({ "a": true, "b": true }));

    // And only administrators have a say at all.
    for authorization in ["Bearer wrong", ""] {
        let headers = [("Authorization", authorization)];
        let answer = http::get(gateways[0].admin_addr(), PATH, &headers)?;
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    Ok(())
}

fn subscriber(gateway: &Gateway) -> anyhow::Result<LiveClient> {
    let mut client = LiveClient::connect(gateway.main_addr(), &token::user("ann")?, "")?;
    client.send(&json!({ "type": "subscribe", "subjects": ["xy.flags"] }))?;
    Ok(client)
}

/// The flags of that version, once they are pushed.
fn pushed(client: &mut LiveClient, version: u64) -> anyhow::Result<FeatureFlags> {
    loop {
        let flags = read(&client.payload()?)?;
        ensure!(flags.version <= version, "{flags:?} is of the future");
        if flags.version == version {
            return Ok(flags);
        }
    }
}

fn read(payload: &[u8]) -> anyhow::Result<FeatureFlags> {
    FeatureFlags::decode(payload).context("no flags")
}

fn wait_flags(gateway: &Gateway, ops: &Administrator, expected: &Value) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ops.get(gateway, PATH)?;
        ensure!(answer.status == 200, "{}", answer.text());
        let flags = answer.json()?;
        if flags == *expected {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{expected} was expected: {flags}"
        );
    }
}

/// Which of a thousand users a share holds, as the contract has it.
fn share(flag: &str, percent: u64) -> Vec<String> {
    let is_in = |user: &String| {
        let text = format!("{flag}\n{user}");
        let mut hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
        hash = hash.wrapping_mul(0xc2b2_ae35);
        hash ^= hash >> 16;
        (u64::from(hash) * 100) >> 32 < percent
    };
    (0..1_000)
        .map(|n| format!("user-{n}"))
        .filter(is_in)
        .collect()
}
