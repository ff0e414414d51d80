//! Publications as fast as they are taken.
//!
//! The generator keeps a window of publications under way: sent, but not yet
//! acknowledged or not yet received by all subscribers. So nothing overflows on
//! either server, nothing is lost, and each publication counts. The window is
//! refilled when it is half empty, one write each time: a server that can
//! coalesce what it has at hand gets the chance, whichever it is.

use std::time::{Duration, Instant};

use super::{CHANNEL, Options, Side};
use crate::client::{Engine, Progress};
use crate::proc;
use crate::report::Void;

/// What one turn of a server came to.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) deliveries: u64,
    pub(super) seconds: f64,
    /// Of the server.
    pub(super) cpu_seconds: f64,
    /// Percentage of one core.
    pub(super) generator_percent: f64,
}

pub(super) fn run(
    engine: &mut Engine,
    side: &mut Side,
    options: &Options,
    duration: Duration,
    void: &mut Void,
) -> anyhow::Result<Leg> {
    let mut window = Window::open(engine, side);
    window.publish_for(engine, side, options, WARM_UP)?;

    let own = std::process::id();
    let (cpu, own_cpu) = (proc::cpu_seconds(side.server.pid)?, proc::cpu_seconds(own)?);
    let pushes = engine.tally(side.group).pushes;
    let started = Instant::now();
    window.publish_for(engine, side, options, duration)?;
    let seconds = started.elapsed().as_secs_f64();
    let deliveries = engine.tally(side.group).pushes - pushes;
    let cpu_seconds = proc::cpu_seconds(side.server.pid)? - cpu;
    let generator_percent = 100.0 * (proc::cpu_seconds(own)? - own_cpu) / seconds;

    let wanted = window.published * side.subscribers;
    let drained = engine.turn_until(DRAIN_WITHIN, |engine| {
        engine.tally(side.group).pushes - window.pushes_before >= wanted
    })?;
    void.when(!drained, || {
        let received = engine.tally(side.group).pushes - window.pushes_before;
        format!(
            "{}: {} of {wanted} deliveries did not come",
            side.server.name,
            wanted - received
        )
    });
    void.when(cpu_seconds < 0.5, || {
        format!(
            "{}: {cpu_seconds:.2} CPU-seconds are too few to divide by",
            side.server.name
        )
    });
    Ok(Leg {
        deliveries,
        seconds,
        cpu_seconds,
        generator_percent,
    })
}

/// Publications under way.
struct Window {
    published: u64,
    pushes_before: u64,
    acknowledged_before: u64,
}

impl Window {
    fn open(engine: &mut Engine, side: &Side) -> Self {
        engine.keep_progress(side.group, side.subscribers);
        let tally = engine.tally(side.group);
        Self {
            published: 0,
            pushes_before: tally.pushes,
            acknowledged_before: tally.acknowledged + tally.refused,
        }
    }

    fn publish_for(
        &mut self,
        engine: &mut Engine,
        side: &mut Side,
        options: &Options,
        duration: Duration,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut frames = Vec::new();
        while started.elapsed() < duration {
            let under_way = self.under_way(engine, side);
            if under_way <= options.window / 2 {
                frames.clear();
                for _ in under_way..options.window {
                    let now = engine.nanos();
                    side.publication(&mut frames, CHANNEL, options.size, now);
                }
                self.published += options.window - under_way;
                engine.send(side.publishers[0], &frames);
            }
            engine.turn(Duration::from_millis(20))?;
        }
        Ok(())
    }

    fn under_way(&self, engine: &Engine, side: &Side) -> u64 {
        let tally = engine.tally(side.group);
        let received = tally.progress.as_ref().map_or(0, Progress::complete);
        let answered = tally.acknowledged + tally.refused - self.acknowledged_before;
        self.published - received.min(answered).min(self.published)
    }
}

/// Before each measurement: caches, queues and congestion windows get to their working size.
const WARM_UP: Duration = Duration::from_secs(1);

const DRAIN_WITHIN: Duration = Duration::from_secs(10);
