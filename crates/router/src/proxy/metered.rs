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
    /// The model has the question and gave no answer so far.
    is_asked: bool,
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
            is_asked: false,
            charge,
            spending,
        }
    }

    /// The model has all of the question and works on it, or has turned it down.
    pub(super) fn asked(&mut self, is_at_work: bool) {
        self.is_asked = is_at_work;
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

    /// The model has begun to speak; what is not a model's answer says nothing else.
    pub(super) fn has_content(&self) -> bool {
        self.meter.as_ref().is_none_or(Meter::has_content)
    }

    /// The answer has said that it is complete, or what went wrong; what is not a model's
    /// answer ends where it ends.
    pub(super) fn is_terminated(&self) -> bool {
        self.meter
            .as_ref()
            .is_none_or(|meter| meter.is_terminated() || meter.has_error())
    }

    /// The last event of an answer that breaks off.
    pub(super) fn error_event(&self, fault: Fault, code: &str, message: &str) -> Bytes {
        in_band::error_event(self.dialect, fault, code, message, !self.at_boundary())
    }

    /// It is over: what was reserved and not used is given back.
    pub(super) fn settle(self) -> Spent {
        let usage = match self.meter {
            Some(meter) => meter.usage(self.ask.input_tokens),
            // Whoever leaves while the model thinks has had it read the question.
            None if self.is_asked => Usage {
                input: self.ask.input_tokens,
                is_estimated: true,
                ..Usage::default()
            },
            // What never got to a model, or was turned down, has used nothing.
            None => Usage::default(),
        };
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
