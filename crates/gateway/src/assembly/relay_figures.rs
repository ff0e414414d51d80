//! What the relay says of itself when somebody asks for the metrics.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, OnceLock};

use admin::control::RelaySummary;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use router::relay::{LaneGlimpse, Relay};

use super::control::relay;

/// Agents that have a series of their own, those with the most waiting. There may be a
/// hundred thousand agents, and a series for each would be too many.
const AGENTS_SHOWN: usize = 50;

/// Reads what relay and outbox know about themselves.
#[derive(Clone, Default)]
pub(super) struct RelayFigures {
    relay: Arc<OnceLock<Arc<Relay>>>,
}

/// Every figure once, at zero, for the reference.
#[derive(Debug)]
pub(super) struct Sample;

type Rows<T, const N: usize> = [(&'static str, &'static str, T); N];

impl RelayFigures {
    /// From now on this relay is shown; without one there are no figures.
    pub(super) fn show(&self, relay: &Arc<Relay>) {
        self.relay.get_or_init(|| Arc::clone(relay));
    }
}

impl std::fmt::Debug for RelayFigures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RelayFigures")
            .finish_non_exhaustive()
    }
}

impl Collector for RelayFigures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        match self.relay.get() {
            Some(relay) => encode(encoder, &relay::summary(relay), &deepest(relay.lanes())),
            None => Ok(()),
        }
    }
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let agent = ("wss://agent.example/".to_owned(), 0);
        encode(encoder, &RelaySummary::default(), &[agent])
    }
}

/// The agents with the most waiting and how much that is, the deepest first; none of those
/// for which nothing waits.
fn deepest(lanes: Vec<LaneGlimpse>) -> Vec<(String, u64)> {
    let mut depths: BTreeMap<String, u64> = BTreeMap::new();
    for lane in lanes.iter().filter(|lane| lane.depth > 0) {
        // Lanes whose URLs differ in the query only have one series.
        *depths
            .entry(relay::shown_url(&lane.url).to_owned())
            .or_default() += lane.depth as u64;
    }
    let mut depths: Vec<(String, u64)> = depths.into_iter().collect();
    depths.sort_by_key(|(_, depth)| std::cmp::Reverse(*depth));
    depths.truncate(AGENTS_SHOWN);
    depths
}

fn encode(
    mut encoder: DescriptorEncoder<'_>,
    summary: &RelaySummary,
    deepest: &[(String, u64)],
) -> Result<(), Error> {
    for (name, help, value) in message_counters(summary) {
        let value = ConstCounter::new(value);
        value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    }
    for (name, help, value) in other_counters(summary) {
        let value = ConstCounter::new(value);
        value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    }
    for (name, help, value) in gauges(summary) {
        let value = ConstGauge::new(whole(value));
        value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    for (name, help, value) in times(summary) {
        let value = ConstGauge::new(value);
        value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    let seconds = ConstCounter::new(summary.outbox.sync_seconds);
    seconds.encode(encoder.encode_descriptor(
        "tidegate_outbox_sync_seconds",
        "Time spent in syncs of the outbox",
        None,
        MetricType::Counter,
    )?)?;
    by_reason(
        &mut encoder,
        "tidegate_relay_refused",
        "Messages that were not taken, by reason",
        refused(summary),
    )?;
    by_reason(
        &mut encoder,
        "tidegate_relay_dead",
        "Messages that were given up and became dead letters, by reason",
        dead(summary),
    )?;
    by_agent(&mut encoder, deepest)
}

fn by_reason<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    reasons: [(&'static str, u64); N],
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, value) in reasons {
        let labels = [("reason", reason)];
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn by_agent(encoder: &mut DescriptorEncoder<'_>, deepest: &[(String, u64)]) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(
        "tidegate_relay_agent_queue_depth",
        "Messages that wait for an agent or are on their way, by the agent's URL without its \
         query; only the 50 agents with the most, and none for which nothing waits",
        None,
        MetricType::Gauge,
    )?;
    for (agent, depth) in deepest {
        let labels = [("agent", agent.as_str())];
        ConstGauge::new(whole(*depth)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn refused(summary: &RelaySummary) -> [(&'static str, u64); 6] {
    let refused = &summary.messages.refused;
    [
        ("route", refused.route),
        ("rate", refused.rate),
        ("invalid", refused.invalid),
        ("signature", refused.signature),
        ("full", refused.full),
        ("failed", refused.failed),
    ]
}

fn dead(summary: &RelaySummary) -> [(&'static str, u64); 4] {
    let dead = &summary.messages.dead;
    [
        ("refused", dead.refused),
        ("exhausted", dead.exhausted),
        ("dropped", dead.dropped),
        ("unroutable", dead.unroutable),
    ]
}

fn message_counters(summary: &RelaySummary) -> Rows<u64, 13> {
    let messages = &summary.messages;
    [
        (
            "tidegate_relay_received",
            "Messages sent by clients to agents, whatever became of them",
            messages.received,
        ),
        (
            "tidegate_relay_received_bytes",
            "Bytes of the payloads of messages sent by clients",
            messages.received_bytes,
        ),
        (
            "tidegate_relay_accepted",
            "Messages taken and appended to the outbox",
            messages.accepted,
        ),
        (
            "tidegate_relay_durable",
            "Messages safe in the outbox",
            messages.durable,
        ),
        (
            "tidegate_relay_duplicate",
            "Messages sent again within the window and not taken again",
            messages.duplicate,
        ),
        (
            "tidegate_relay_attempted",
            "Tries to deliver a message that left this process",
            messages.attempted,
        ),
        (
            "tidegate_relay_retried",
            "Tries after the first of a message",
            messages.retried,
        ),
        (
            "tidegate_relay_delivered",
            "Messages that their agent has acknowledged",
            messages.delivered,
        ),
        (
            "tidegate_relay_delivered_bytes",
            "Bytes of the payloads of messages that their agent has acknowledged",
            messages.delivered_bytes,
        ),
        (
            "tidegate_relay_replayed",
            "Dead letters that an operator sent on their way again",
            messages.replayed,
        ),
        (
            "tidegate_relay_forgotten",
            "Dead letters forgotten by an operator, by age or by number",
            messages.forgotten,
        ),
        (
            "tidegate_relay_recovered",
            "Records found unsettled in the outbox at the start",
            messages.recovered,
        ),
        (
            "tidegate_relay_client_connections",
            "Clients of the relay's own dialect that have connected",
            summary.clients.connections,
        ),
    ]
}

fn other_counters(summary: &RelaySummary) -> Rows<u64, 9> {
    let (answers, outbox) = (&summary.answers, &summary.outbox);
    [
        (
            "tidegate_relay_answers",
            "Answers of agents passed to clients, partial ones included",
            answers.passed,
        ),
        (
            "tidegate_relay_answer_bytes",
            "Bytes of answers passed to clients",
            answers.passed_bytes,
        ),
        (
            "tidegate_relay_answers_dropped",
            "Answers dropped because their client was too slow",
            answers.dropped,
        ),
        (
            "tidegate_relay_answers_repeated",
            "Answers that had been told before",
            answers.repeated,
        ),
        (
            "tidegate_relay_answers_foreign",
            "Answers for clients that are not the agent's",
            answers.foreign,
        ),
        (
            "tidegate_outbox_appended",
            "Records made safe",
            outbox.appended,
        ),
        ("tidegate_outbox_settled", "Records settled", outbox.settled),
        ("tidegate_outbox_syncs", "Syncs of the outbox", outbox.syncs),
        (
            "tidegate_outbox_corrupt",
            "Records of the outbox found damaged",
            outbox.corrupt,
        ),
    ]
}

fn gauges(summary: &RelaySummary) -> Rows<u64, 14> {
    let RelaySummary {
        held,
        agents,
        outbox,
        ..
    } = summary;
    [
        (
            "tidegate_relay_clients",
            "Clients of the relay's own dialect that are connected",
            summary.clients.connected,
        ),
        (
            "tidegate_relay_pending",
            "Messages taken and neither delivered nor given up",
            held.pending,
        ),
        (
            "tidegate_relay_held_bytes",
            "Memory of messages that wait",
            held.bytes,
        ),
        (
            "tidegate_relay_dead_letters",
            "Dead letters kept",
            held.dead_letters,
        ),
        (
            "tidegate_relay_remembered",
            "Messages remembered so that they are not taken twice",
            held.remembered,
        ),
        (
            "tidegate_relay_history_messages",
            "Messages kept for clients that come back",
            held.history_messages,
        ),
        (
            "tidegate_relay_queue_depth_max",
            "Most messages that wait for one agent",
            held.queue_depth_max,
        ),
        (
            "tidegate_relay_agents",
            "Agents that have a connection or a place for one",
            agents.known,
        ),
        (
            "tidegate_relay_agents_up",
            "Agents that are connected",
            agents.up,
        ),
        (
            "tidegate_relay_agents_waiting",
            "Agents whose connection waits for a place or for its time",
            agents.waiting,
        ),
        (
            "tidegate_relay_in_flight",
            "Messages sent to agents that have no outcome yet",
            agents.in_flight,
        ),
        (
            "tidegate_outbox_unsettled",
            "Records that are not settled, dead letters included",
            outbox.unsettled,
        ),
        (
            "tidegate_outbox_bytes",
            "Disk space of the outbox; 0 if it is in a broker",
            outbox.bytes,
        ),
        (
            "tidegate_outbox_failed",
            "1 if the outbox has failed and takes nothing until a restart, else 0",
            u64::from(outbox.failed.is_some()),
        ),
    ]
}

fn times(summary: &RelaySummary) -> Rows<f64, 2> {
    [
        (
            "tidegate_relay_oldest_unsettled_age_seconds",
            "Age of the oldest message that is neither delivered nor given up; 0 if there is \
             none",
            summary.held.oldest_seconds,
        ),
        (
            "tidegate_outbox_sync_p99_seconds",
            "Time of a sync at the 99th percentile of the last few thousand",
            summary.outbox.sync_p99_seconds,
        ),
    ]
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Given(RelaySummary, Vec<(String, u64)>);

    impl Collector for Given {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
            encode(encoder, &self.0, &self.1)
        }
    }

    #[test]
    fn each_figure_stands_under_its_name() {
        let mut summary = RelaySummary::default();
        summary.messages.delivered = 7;
        summary.messages.refused.rate = 2;
        summary.messages.dead.exhausted = 3;
        summary.held.oldest_seconds = 1.5;
        summary.outbox.sync_seconds = 0.25;
        summary.outbox.failed = Some("no space".to_owned());
        let agent = (r#"ws://one/"x"#.to_owned(), 9);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Given(summary, vec![agent])));
        let text = admin::metrics::render(&registry).unwrap();
        for line in [
            "tidegate_relay_delivered_total 7",
            "tidegate_relay_refused_total{reason=\"rate\"} 2",
            "tidegate_relay_refused_total{reason=\"signature\"} 0",
            "tidegate_relay_dead_total{reason=\"exhausted\"} 3",
            "tidegate_relay_oldest_unsettled_age_seconds 1.5",
            "tidegate_relay_agent_queue_depth{agent=\"ws://one/\\\"x\"} 9",
            "tidegate_outbox_sync_seconds_total 0.25",
            "tidegate_outbox_failed 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn without_a_relay_there_are_no_figures() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(RelayFigures::default()));
        let text = admin::metrics::render(&registry).unwrap();
        assert!(!text.contains("tidegate_"), "{text}");
    }
}
