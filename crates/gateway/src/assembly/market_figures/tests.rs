use prometheus_client::registry::Registry;

use super::{MarketFigures, Sample};

#[test]
fn the_names_of_the_contract_stand_as_they_are() {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Sample));
    let text = admin::metrics::render(&registry).unwrap();
    for line in [
        "\nticks_out 0\n",
        "\nsnapshots_out 0\n",
        "\nsrc_ingest_rate 0.0\n",
        "\nsrc_gap 0\n",
        "\nreorder_count 0\n",
        "\nheartbeat_age 0.0\n",
        "\ninvalid_ticks{reason=\"",
        "\ntidegate_market_ticks_in_total 0\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn without_an_aggregator_there_are_no_figures() {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(MarketFigures::default()));
    assert_eq!(admin::metrics::render(&registry).unwrap(), "# EOF\n");
}
