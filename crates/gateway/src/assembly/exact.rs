//! Figures under names that somebody else has chosen.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A name, what it says, and how much it is.
pub(super) type Row<T> = (&'static str, &'static str, T);

/// A counter; `_total` is added to its name.
pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, value): Row<u64>,
) -> Result<(), Error> {
    let value = ConstCounter::new(value);
    value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// A gauge.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, value): Row<f64>,
) -> Result<(), Error> {
    let value = ConstGauge::new(value);
    value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// A counter whose name is to stand as it is. `OpenMetrics` wants `_total` behind the name
/// of a counter; what has no type may have any name, and is rated and summed all the same.
pub(super) fn bare_counter(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, value): Row<u64>,
) -> Result<(), Error> {
    let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    value.encode(encoder.encode_descriptor(name, help, None, MetricType::Unknown)?)
}
