//! Starts couriers, and does what has to be done now and then.

use std::sync::Arc;
use std::time::Duration;

use outbox::Mark;

use super::{Relay, backlog, courier, lock};

pub(super) async fn run(relay: Arc<Relay>) {
    let stopping = relay.tasks.stopping();
    let mut sweep = tokio::time::interval(SWEEP);
    let mut tidy = tokio::time::interval(TIDY);
    let mut logged = (relay.clock.mono_ms(), String::new());
    loop {
        tokio::select! {
            () = relay.steward.notified() => start_tasks(&relay),
            _ = sweep.tick() => {
                relay.sweep();
                relay.log_figures(&mut logged);
            }
            _ = tidy.tick() => relay.retire_idle(relay.clock.mono_ms()),
            () = stopping.cancelled() => return,
        }
    }
}

fn start_tasks(relay: &Arc<Relay>) {
    let lanes = std::mem::take(&mut *lock(&relay.starting));
    for lane in lanes {
        relay
            .tasks
            .spawn("courier", courier::run(Arc::clone(relay), lane));
    }
    if relay.has_new_backlog() {
        relay
            .tasks
            .spawn("answers", backlog::run(Arc::clone(relay)));
    }
}

impl Relay {
    fn sweep(&self) {
        let settings = self.settings.load();
        let now_ms = self.clock.unix_ms();
        lock(&self.history).trim(now_ms, &settings.history);
        let before_ms = now_ms.saturating_sub(settings.dead_retention_ms);
        let expired = lock(&self.dead).expire(before_ms);
        self.forget_letters(&expired);
        for id in lock(&self.runs).expire(self.clock.mono_ms()) {
            self.outbox.mark(id, Mark::Settled);
        }
    }

    /// The seed's line with the main figures, unless it would say what the last one said.
    fn log_figures(&self, logged: &mut (u64, String)) {
        let interval = self.settings.load().log_interval;
        let now_ms = self.clock.mono_ms();
        let (logged_ms, last) = logged;
        let passed = Duration::from_millis(now_ms.saturating_sub(*logged_ms));
        if interval.is_zero() || passed < interval {
            return;
        }
        *logged_ms = now_ms;
        let counters = &self.counters;
        let line = format!(
            "Gateway metrics: connections={}, messagesRcv={}, messagesSent={}, messagesFailed={}",
            self.connections(),
            counters.received.value(),
            counters.delivered.value(),
            counters.failed(),
        );
        if line != *last {
            let gauges = self.gauges();
            tracing::info!(pending = gauges.pending, dead = gauges.dead, "{line}");
            *last = line;
        }
    }
}

/// How often lanes are looked through.
const TIDY: Duration = Duration::from_secs(60);

/// How often histories and dead letters are looked through.
const SWEEP: Duration = Duration::from_secs(1);
