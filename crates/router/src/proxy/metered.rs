//! A model's answer as it is counted: what was asked, what was used, who pays.

use std::sync::Arc;

use bytes::Bytes;

use super::ai::in_band::{self, Fault};
use super::ai::{Ask, Meter, Prices, Shape, Usage, micro_cost};
use super::record::{Ai, AiDialect};
use super::spending::{Charge, Spending};

/// One request to a model.
#[derive(Debug)]
pub(super) struct Metered {
    dialect: AiDialect,
    prices: Prices,
    ask: Ask,
    meter: Option<Meter>,
    charge: Option<Charge>,
    spending: Arc<Spending>,
}

/// What a request to a model has come to.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) model: Option<String>,
    pub(super) usage: Usage,
    pub(super) micro_cost: u64,
}

impl Metered {
    pub(super) fn new(ai: &Ai, ask: Ask, charge: Option<Charge>, spending: Arc<Spending>) -> Self {
        Self {
            dialect: ai.dialect,
            prices: Prices::of(ai),
            ask,
            meter: None,
            charge,
            spending,
        }
    }

    /// The answer begins.
    pub(super) fn begins(&mut self, is_event_stream: bool) {
        let shape = if is_event_stream {
            Shape::EventStream
        } else {
            Shape::Json
        };
        self.meter = Some(Meter::new(self.dialect, shape));
    }

    /// A part of the answer passes.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.push(chunk);
        }
    }

    /// Between two events.
    pub(super) fn at_boundary(&self) -> bool {
        self.meter.as_ref().is_none_or(Meter::at_boundary)
    }

    /// The model has begun to speak.
    pub(super) fn has_content(&self) -> bool {
        self.meter.as_ref().is_some_and(Meter::has_content)
    }

    /// The answer has said that it is complete, or what went wrong.
    pub(super) fn is_terminated(&self) -> bool {
        self.meter
            .as_ref()
            .is_some_and(|meter| meter.is_terminated() || meter.has_error())
    }

    /// The last event of an answer that breaks off.
    pub(super) fn error_event(&self, fault: Fault, code: &str, message: &str) -> Bytes {
        in_band::error_event(self.dialect, fault, code, message, !self.at_boundary())
    }

    /// It is over: what was reserved and not used is given back.
    pub(super) fn settle(self) -> Spent {
        // What never got an answer has used nothing.
        let usage = self
            .meter
            .map_or_else(Usage::default, |meter| meter.usage(self.ask.input_tokens));
        let micro_cost = micro_cost(&usage, self.prices);
        if let Some(charge) = self.charge {
            let tokens = usage.input.saturating_add(usage.output);
            self.spending.settle(charge, tokens, micro_cost);
        }
        Spent {
            model: self.ask.model,
            usage,
            micro_cost,
        }
    }
}
