//! What fails, and how that is told: to clients, in the log, in metrics.

use std::time::{Duration, Instant};

use e2e::desk::{self, Desk, Options, Way, orders};
use serde_json::{Value, json};
use testkit::{Client, Gateway, PATIENCE, token};

use super::{anna, before, config, refusal, say, service, settings};

/// A service that fails is left alone at once, and soon asked again.
fn touchy() -> Value {
    json!({ "policy": {
        "timeout": "2s",
        "retries": { "attempts": 0 },
        "breaker": { "failures": 3, "open": "500ms", "open_max": "500ms" },
    } })
}

/// Asks until there are answers again, which a breaker that has closed lets through by and by.
fn wait_answered(client: &mut Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut in_a_row = 0;
    while in_a_row < 3 {
        match say(client, &json!({ "text": "again" })) {
            Ok(_) => in_a_row += 1,
            Err(error) => {
                anyhow::ensure!(Instant::now() < deadline, "still: {error}");
                in_a_row = 0;
            }
        }
    }
    Ok(())
}

#[test]
fn a_killed_service_is_unavailable_then_left_alone_and_comes_back() -> anyhow::Result<()> {
    let mut desk = Desk::start()?;
    for way in [Way::Tcp, Way::Quantum] {
        let gateway = before(&desk, way, &touchy())?;
        let mut anna = anna(&gateway)?;
        say(&mut anna, &json!({ "text": "before" }))?;
        let mark = desk.log().mark();
        let hold = json!({ "method": "desk.say", "data": { "text": orders::HOLD } });
        // The calls of one client are made one after the other.
        let mut holding = Vec::new();
        for number in 0..10 {
            let user = token::user(&format!("user-{number}"))?;
            let mut client = Client::connect(gateway.main_addr(), &user)?;
            client.send_command("rpc", hold.clone())?;
            holding.push(client);
        }
        desk.log().wait_for(mark, PATIENCE, |line| {
            line["action"] == "request_received" && line["call"] == "Say"
        })?;
        desk.kill()?;
        for client in &mut holding {
            let reply = client.next_reply(PATIENCE)?;
            let code = reply["error"]["code"].as_u64().unwrap_or_default();
            // Over UDP nobody says that the peer is gone: the deadline may come first.
            assert!(matches!(code, 1_014 | 1_004), "{way:?}: {reply}");
            assert_eq!(reply["error"]["temporary"], true, "{reply}");
        }
        for _ in 0..5 {
            let (code, message) = refusal(say(&mut anna, &json!({ "text": "a" })))?;
            assert!(matches!(code, 1_014 | 1_004), "{way:?}: {code} {message}");
        }
        gateway.wait_metric(
            "tidegate_service_breaker_opened_total{service=\"desk\"}",
            |it| it >= 1.0,
        )?;
        desk.start_again()?;
        wait_answered(&mut anna).unwrap();
    }
    Ok(())
}

#[test]
fn a_service_that_comes_later_is_found() -> anyhow::Result<()> {
    let mut desk = Desk::start()?;
    desk.kill()?;
    for way in [Way::Tcp, Way::Quantum] {
        let gateway = before(&desk, way, &touchy())?;
        let mut anna = anna(&gateway)?;
        let (code, message) = refusal(say(&mut anna, &json!({ "text": "a" })))?;
        assert_eq!(code, 1_014, "{way:?}: {message}");
        desk.start_again()?;
        wait_answered(&mut anna)?;
        desk.kill()?;
    }
    Ok(())
}

#[test]
fn the_other_endpoint_answers_while_one_is_away() -> anyhow::Result<()> {
    let mut first = Desk::start()?;
    let second = Desk::start()?;
    // One authority can't vouch for both, so one of them is reached over TCP.
    let both = json!({
        "endpoints": [first.url(Way::Quantum), second.url(Way::Tcp)],
        // A call that was sent and has no answer goes to the other.
        "policy": { "try_timeout": "500ms" },
    });
    let method = json!({
        "method": "desk.say", "service": "desk", "call": super::SAY, "idempotent": true,
    });
    let more = json!({ "rpc": { "grpc": [method] } });
    let service = service(&first, Way::Quantum, &both);
    let gateway = Gateway::start(&config(&settings(&[service], &more)))?;
    let mut anna = anna(&gateway)?;
    let mark = first.log().mark();
    let deadline = Instant::now() + PATIENCE;
    while first.log().mark() == mark {
        anyhow::ensure!(Instant::now() < deadline, "the first is never asked");
        say(&mut anna, &json!({ "text": "both are there" }))?;
    }
    first.kill()?;
    let mark = second.log().mark();
    for _ in 0..30 {
        let begun = Instant::now();
        say(&mut anna, &json!({ "text": "one is there" }))?;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "an answer took {took:?}");
    }
    // Each answered call was logged by whoever answered; the lines are on their way.
    let deadline = Instant::now() + PATIENCE;
    while second.log().mark() < mark + 30 {
        anyhow::ensure!(Instant::now() < deadline, "{}", second.log().text());
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn who_is_not_trusted_is_not_called_and_the_log_says_why() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let folder = tempfile::tempdir()?;
    let stranger = desk::tls(&desk::stranger(&folder.path().join("keys"))?);
    let own = desk.tls();
    let with = |ca: &Value, identity: &Value| {
        json!({ "tls": {
            "ca": ca["ca"],
            "certificate": identity["certificate"],
            "key": identity["key"],
            "server_name": "localhost",
        } })
    };
    let wrong_name = json!({ "tls": { "server_name": "elsewhere.example" } });
    for (what, tls) in [
        ("authority that did not sign", with(&stranger, &own)),
        ("certificate of a stranger", with(&own, &stranger)),
        ("another name", wrong_name),
    ] {
        let mut settings_of = touchy();
        super::merge(&mut settings_of, &tls);
        let gateway = before(&desk, Way::Quantum, &settings_of)?;
        let mut anna = anna(&gateway)?;
        let mark = desk.log().mark();
        let (code, message) = refusal(say(&mut anna, &json!({ "text": "a" })))?;
        assert_eq!(code, 1_014, "{what}: {message}");
        assert_eq!(message, "service: unavailable", "{what}");
        let said = gateway.log().wait_for(0, PATIENCE, |line| {
            let text = line.to_string();
            line["level"] == "WARN" && text.contains("not reached") && text.contains("ertificate")
        })?;
        assert!(!said.to_string().contains("PRIVATE"), "{said}");
        assert_eq!(desk.log().mark(), mark, "{what}: {}", desk.log().text());
    }
    Ok(())
}

#[test]
fn mistakes_in_the_configuration_are_told_with_file_key_and_value() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let tls = desk.tls();
    let quantum = |more: Value| json!({ "quantum": more });
    let with = |more: Value| service(&desk, Way::Quantum, &more);
    let cases = [
        (
            settings(&[], &quantum(json!({ "fec-ratio": 1.5 }))),
            "quantum.fec_ratio",
            "1.5",
        ),
        (
            settings(&[], &quantum(json!({ "max-cwnd": 1 }))),
            "quantum.max_cwnd",
            "1",
        ),
        (
            settings(&[], &quantum(json!({ "bbr-startup-gain": 9 }))),
            "quantum.bbr_startup_gain",
            "9",
        ),
        (
            settings(&[], &quantum(json!({ "fec_mode": "magic" }))),
            "quantum.fec_mode",
            "magic",
        ),
        (
            settings(&[], &quantum(json!({ "tls": { "ca": tls["ca"] } }))),
            "quantum.tls",
            "certificate",
        ),
        (
            settings(&[with(json!({ "endpoints": ["udp://a:1"] }))], &json!({})),
            "grpc.services[0].endpoints[0]",
            "quantum://host:port",
        ),
        (
            settings(
                &[with(json!({ "tls": { "ca": "/nowhere/ca.pem" } }))],
                &json!({}),
            ),
            "grpc.services[0].tls.ca",
            "/nowhere/ca.pem",
        ),
        (
            settings(
                &[with(json!({ "descriptors": "/nowhere/desk.pb" }))],
                &json!({}),
            ),
            "grpc.services[0].descriptors",
            "/nowhere/desk.pb",
        ),
        (
            settings(&[with(json!({ "name": "other" }))], &json!({})),
            "rpc.grpc[0].service",
            "desk",
        ),
    ];
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tidegate.yaml");
    for (text, key, value) in cases {
        std::fs::write(&path, config(&text))?;
        let output = std::process::Command::new(testkit::gateway::executable()?)
            .args(["check", "-c"])
            .arg(&path)
            .current_dir(folder.path())
            .output()?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!output.status.success(), "{key}: {said}");
        for part in ["tidegate.yaml", key, value] {
            assert!(said.contains(part), "{key}: {part} is not in: {said}");
        }
        assert!(
            Gateway::start(&config(&text)).is_err(),
            "{key} was accepted"
        );
    }
    Ok(())
}

#[test]
fn descriptors_in_a_file_stand_for_a_service_that_does_not_tell() -> anyhow::Result<()> {
    let desk = Desk::start_with(Options::default())?;
    let descriptors = json!({ "descriptors": "desk.binpb" });
    let text = config(&settings(
        &[service(&desk, Way::Quantum, &descriptors)],
        &json!({}),
    ));
    let gateway = Gateway::start_with(&text, |folder| {
        Ok(std::fs::write(
            folder.join("desk.binpb"),
            desk::DESCRIPTORS,
        )?)
    })?;
    let mut anna = anna(&gateway)?;
    assert_eq!(say(&mut anna, &json!({ "text": "a" }))?["text"], "a");
    // A call that the file does not have is known to be wrong before anybody calls.
    let wrong = text.replace("DeskService/Say", "DeskService/Yas");
    let path = gateway.folder().join("wrong.yaml");
    std::fs::write(&path, wrong)?;
    let told = std::process::Command::new(testkit::gateway::executable()?)
        .args(["check", "-c", "wrong.yaml"])
        .current_dir(gateway.folder())
        .output()?;
    let said =
        String::from_utf8_lossy(&told.stderr).into_owned() + &String::from_utf8_lossy(&told.stdout);
    assert!(
        !told.status.success() && said.contains("rpc.grpc[0].call"),
        "{said}"
    );
    Ok(())
}
