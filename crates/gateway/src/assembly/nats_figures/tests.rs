use std::sync::Arc;

use bus::{Bus, MemoryBus, MemoryConfig, NatsStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use super::{NatsFigures, encode};

#[derive(Debug)]
struct Fixed(NatsStats);

impl Collector for Fixed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        encode(&mut encoder, &self.0)
    }
}

fn rendered(collector: Box<dyn Collector>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(collector);
    admin::metrics::render(&registry).unwrap()
}

#[test]
fn latencies_are_added_up_by_bound() {
    let text = rendered(Box::new(Fixed(NatsStats {
        latency_counts: [3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1],
        latency_sum_us: 1_500_500,
        reconnects_total: 2,
        storms_total: 1,
        refused_total: 4,
        dropped_total: 5,
        ..NatsStats::default()
    })));
    for line in [
        "nats_req_latency_bucket{le=\"1.0\"} 3\n",
        "nats_req_latency_bucket{le=\"5.0\"} 5\n",
        "nats_req_latency_bucket{le=\"1000.0\"} 5\n",
        "nats_req_latency_bucket{le=\"+Inf\"} 6\n",
        "nats_req_latency_count 6\n",
        "nats_req_latency_sum 1500.5\n",
        "xy_nats_reconnects_total 2\n",
        "xy_sub_storms_total 1\n",
        "\nbackpressure_events 9\n",
        "tidegate_nats_connected 0.0\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn the_names_of_the_contract_are_there_without_nats() {
    let bus = Bus::Memory(Arc::new(MemoryBus::new(&MemoryConfig::default())));
    let text = rendered(Box::new(NatsFigures::of(&bus)));
    assert!(text.contains("nats_req_latency_count 0"), "{text}");
    assert!(text.contains("xy_nats_reconnects_total 0"), "{text}");
    assert!(!text.contains("tidegate_nats_"), "{text}");
}
