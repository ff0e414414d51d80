//! Messages that pile up for an agent that is away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::config::with_client_keys;
use e2e::stratix::StratixClient;
use testkit::stratix_agent::{Behaviour, Ledger, StratixAgent};
use testkit::{Gateway, token};

/// Messages that pile up, and bytes of each: more than the gateway holds in memory.
const MESSAGES: usize = 20_000;
const SIZE: usize = 8 * 1024;

/// Clients they come from; each sends so many before it waits for the acknowledgements.
const CLIENTS: usize = 10;
const BURST: usize = 20;

/// What the gateway holds of waiting messages at most, whatever their number.
const HELD_MAX: f64 = 64.0 * 1024.0 * 1024.0;

/// For one acknowledgement.
const ACK_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn backlog_of_an_absent_agent_lies_on_disk_and_drains_in_order_beside_new_traffic()
-> anyhow::Result<()> {
    let absent = StratixAgent::start(Behaviour {
        acks: true,
        refusal: Some((503, "away".to_owned())),
        ..Behaviour::default()
    })?;
    let present = StratixAgent::start(Behaviour {
        acks: true,
        ..Behaviour::default()
    })?;
    let (absent_url, present_url) = (absent.url("/absent"), present.url("/present"));
    let routes = format!(
        r#"
relay:
  rate: {{ per_client: {{ rate: 0 }} }}
  history: {{ per_client: 0 }}
  routes:
    - {{ client_id_prefix: "late-", agent: "{absent_url}", protocol: stratix, acks: true }}
    - {{ client_id_prefix: "other-", agent: "{present_url}", protocol: stratix, acks: true }}
"#
    );
    let gateway = Gateway::start(&with_client_keys("  command_rate: 0", &routes))?;
    let connect = |client: &str| {
        StratixClient::connect(gateway.main_addr(), client, &token::user(client)?, "")
    };
    let mut late = (0..CLIENTS)
        .map(|number| connect(&format!("late-{number}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut other = connect("other-1")?;
    let text = "x".repeat(SIZE);
    // What the first messages bring in is not what messages cost.
    other.send("warm", &text)?;
    other.wait_ack("warm", "durable", ACK_WITHIN)?;

    let before = resident(&gateway)?;
    let per_client = MESSAGES / CLIENTS;
    for first in (0..per_client).step_by(BURST) {
        for client in &mut late {
            for number in first..first + BURST {
                client.send(&number.to_string(), &text)?;
            }
        }
        for client in &mut late {
            for number in first..first + BURST {
                client.wait_ack(&number.to_string(), "durable", ACK_WITHIN)?;
            }
        }
    }
    let grown = resident(&gateway)?.saturating_sub(before);
    let in_all = (MESSAGES * SIZE) as u64;
    assert!(
        grown < in_all && grown < 150 << 20,
        "memory rose by {grown} bytes for {in_all} bytes of messages"
    );
    assert!(gateway.metric("tidegate_relay_held_bytes")? <= HELD_MAX);
    assert!(gateway.metric("tidegate_outbox_bytes")? >= in_all as f64);
    assert!(gateway.metric("tidegate_relay_pending")? >= MESSAGES as f64);

    absent.behave(|behaviour| behaviour.refusal = None);
    // The gateway tries again when its pause is over; then everything comes at once.
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut beside = 0;
    while gateway.metric("tidegate_relay_pending")? > 0.0 {
        ensure!(Instant::now() < deadline, "the backlog did not drain");
        for _ in 0..5 {
            let id = format!("beside-{beside}");
            other.send(&id, "new")?;
            other.wait_ack(&id, "durable", ACK_WITHIN)?;
            beside += 1;
        }
    }
    assert!(beside >= 20, "only {beside} messages went beside");
    present.wait("the other agent had all", |ledger| {
        ledger.received.len() == beside + 1
    })?;
    absent.wait("the agent had all", |ledger| {
        ledger.received.len() == MESSAGES
    })?;
    in_order(&absent.ledger(), per_client)?;
    Ok(())
}

/// Every client's messages came once each and in the order of sending.
fn in_order(ledger: &Ledger, per_client: usize) -> anyhow::Result<()> {
    let mut next: HashMap<&str, usize> = HashMap::new();
    for received in &ledger.received {
        let client = received.client.as_str();
        let expected = next.entry(client).or_default();
        let number: usize = received.message_id.parse()?;
        ensure!(
            number == *expected,
            "client {client}: {number} came instead of {expected}"
        );
        *expected += 1;
    }
    ensure!(next.len() == CLIENTS && next.values().all(|count| *count == per_client));
    Ok(())
}

/// Resident memory of the gateway, in bytes.
fn resident(gateway: &Gateway) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process_id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("status tells no memory")?.trim().parse()?;
    Ok(kib * 1_024)
}
