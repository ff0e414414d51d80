//! What tokens cost, in whole numbers.

use super::super::record::Ai;
use super::Usage;

/// Prices of a route. A price of one unit per million tokens is one millionth of the
/// unit per token; the prices here are a million times finer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prices {
    input: u64,
    output: u64,
}

impl Prices {
    /// Prices in units per million tokens. Negative ones and nonsense count as zero.
    pub fn new(input: f64, output: f64) -> Self {
        Self {
            input: fine(input),
            output: fine(output),
        }
    }

    /// Those of a record.
    pub fn of(ai: &Ai) -> Self {
        Self::new(ai.input_price, ai.output_price)
    }
}

/// The cost in millionths of the prices' unit, rounded up. Tokens from or for the
/// upstream's cache are charged as any other input.
pub fn micro_cost(usage: &Usage, prices: Prices) -> u64 {
    let input = u128::from(usage.input) * u128::from(prices.input);
    let output = u128::from(usage.output) * u128::from(prices.output);
    let fine = input.saturating_add(output);
    u64::try_from(fine.div_ceil(FINE)).unwrap_or(u64::MAX)
}

fn fine(price: f64) -> u64 {
    // The cast saturates, and takes what is no number as zero.
    (price * FINE as f64).round() as u64
}

const FINE: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_exact_and_rounded_up() {
        let prices = Prices::new(2.5, 10.0);
        let usage = |input, output| Usage {
            input,
            output,
            ..Usage::default()
        };
        assert_eq!(micro_cost(&usage(1_000_000, 1_000_000), prices), 12_500_000);
        assert_eq!(micro_cost(&usage(1, 0), prices), 3);
        assert_eq!(micro_cost(&usage(0, 0), prices), 0);
        let cheap = Prices::new(0.000_001, 0.0);
        assert_eq!(micro_cost(&usage(1_000_000, 0), cheap), 1);
        assert_eq!(micro_cost(&usage(1, 0), cheap), 1);
        assert_eq!(Prices::new(-1.0, f64::NAN), Prices::default());
        let dear = Prices::new(f64::INFINITY, f64::INFINITY);
        assert_eq!(micro_cost(&usage(u64::MAX, u64::MAX), dear), u64::MAX);
    }
}
