//! What a field is that was left out.

use super::{Ai, AiDialect, Breaker, Budget, Queue, Timeouts};

impl Timeouts {
    /// The seed's.
    pub const DEFAULT: Self = Self {
        dial: 2.0,
        response_header: 30.0,
        idle: 90.0,
        first_byte: 0.0,
        gap: 0.0,
        total: 0.0,
    };

    /// For models: an answer that does not stream may be silent for minutes, one that streams
    /// may last for hours but not pause for long.
    pub const AI: Self = Self {
        dial: 2.0,
        response_header: 600.0,
        idle: 90.0,
        first_byte: 180.0,
        gap: 120.0,
        total: 14_400.0,
    };
}

impl Queue {
    /// How long a request waits, unless told otherwise.
    pub const TIMEOUT: f64 = 5.0;
}

impl Breaker {
    /// The seed's, and ten seconds until all requests are sent again.
    pub const DEFAULT: Self = Self {
        enabled: false,
        failure_threshold: 5,
        recovery_timeout: 30.0,
        half_open_requests: 1,
        failure_rate: None,
        ramp: 10.0,
    };
}

impl Default for Ai {
    /// No prices, no limits, 4096 tokens reserved for an answer.
    fn default() -> Self {
        Self {
            dialect: AiDialect::OpenAi,
            heartbeat: 0.0,
            input_price: 0.0,
            output_price: 0.0,
            output_reserve: 4_096,
            budget: Budget::default(),
        }
    }
}
