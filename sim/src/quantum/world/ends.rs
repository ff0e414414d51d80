//! How a run has to end.

use std::time::Duration;

use quantum_proto::Time;
use quantum_proto::codes::close;
use quantum_proto::connection::Closed;
use quantum_proto::streams::Role;

use super::{Kind, World};
use crate::quantum::failure::{Held, check};

/// Rests of timers and of what is under way.
const REST: Duration = Duration::from_secs(20);

/// Probes of the path's size in a row, each given up after a long while on slow paths.
const FLIGHT: Duration = Duration::from_secs(90);

impl World {
    pub(super) fn play_to_the_end(&mut self) -> Held {
        match self.scenario.kind {
            Kind::Honest => {
                self.finish_traffic()?;
                self.come_to_rest()?;
                self.close_in_order()?;
            }
            Kind::Broken | Kind::Dark => self.wait_for_the_end()?,
            Kind::Restart => {
                self.wait_for_the_end()?;
                // A copy of a first packet may have begun another connection in its place.
                for pair in self.pairs.iter().filter(|it| !it.has_twin) {
                    let closed = pair.client.as_ref().map(|it| &it.closed);
                    let noticed = closed == Some(&Some(Closed::Reset));
                    check("restart-is-noticed", noticed, || {
                        format!("the client ended with {closed:?}")
                    })?;
                }
            }
            Kind::Lie(_) => self.find_the_liar()?,
        }
        self.add_up();
        Ok(())
    }

    /// After the network has healed everything arrives within a bound.
    fn finish_traffic(&mut self) -> Held {
        let until = self.scenario.healed_at + self.patience();
        let done = self.run_until(until, |world| {
            world.script.is_empty() && world.pairs.iter().all(|it| it.traffic.is_done())
        })?;
        for (index, pair) in self.pairs.iter().enumerate() {
            let closed = [&pair.client, &pair.server].map(|it| it.as_ref().map(|it| &it.closed));
            let alive = closed.iter().all(|it| matches!(it, Some(None)));
            check("connections-live", alive, || {
                format!("pair {index}: {closed:?}{}", pair.traffic.unfinished())
            })?;
        }
        check("everything-arrives-in-time", done, || {
            let pairs = self.pairs.iter().enumerate();
            let texts: Vec<String> = pairs
                .map(|(index, pair)| {
                    let stats = [&pair.client, &pair.server]
                        .map(|it| it.as_ref().map(|it| it.connection.stats()));
                    format!("pair {index}: {}\n{stats:?}", pair.traffic.unfinished())
                })
                .collect();
            texts.join("\n")
        })
    }

    /// How long everything may take on a network that is well.
    fn patience(&self) -> Duration {
        let plans = self.scenario.pairs.iter();
        let needed = plans.map(|plan| {
            let [there, back] = plan.profiles.map(super::super::scenario::healed);
            let rate = there.rate.min(back.rate);
            let rtt = (there.delay + back.delay).as_secs_f64()
                + there.queue / there.rate
                + back.queue / back.rate;
            let windows = [plan.config, self.scenario.server].map(|it| {
                it.stream_window
                    .min(it.connection_window)
                    .min(it.max_cwnd * 1_200)
                    .min(it.packet_window * 1_000)
                    .min(it.send_buffer)
            });
            let window = f64::from(windows[0].min(windows[1])).min(4_000.0);
            let volume = plan.volume as f64;
            // Streams one after the other, each with some round trips, where few may be open.
            let turns = plan.plans.len() as f64 * 6.0;
            volume / rate * 3.0 + (volume / window * 3.0 + turns) * rtt
        });
        REST + Duration::from_secs_f64(needed.fold(0.0, f64::max))
    }

    /// When nothing is left to do nothing is in flight, no stream is left, and every packet has
    /// been accounted for.
    fn come_to_rest(&mut self) -> Held {
        let until = self.now + FLIGHT;
        let rests = self.run_until(until, |world| {
            world.nodes().all(|it| it.connection.stats().inflight == 0)
        })?;
        check("flights-end", rests, || {
            let stats: Vec<_> = self.nodes().map(|it| it.connection.stats()).collect();
            format!("{stats:?}")
        })?;
        for pair in &mut self.pairs {
            for node in pair.client.iter_mut().chain(&mut pair.server) {
                node.check_losses(&pair.wire)?;
                let streams = node.connection.streams_mut().len();
                check("streams-are-forgotten", streams == 0, || {
                    format!("{:?} has {streams} streams", node.role)
                })?;
                let memory = node.connection.stats().memory;
                check("memory-is-given-back", memory <= 160 << 10, || {
                    format!("{:?} holds {memory} bytes", node.role)
                })?;
            }
        }
        Ok(())
    }

    /// One side closes; the other one hears it; both fall silent.
    fn close_in_order(&mut self) -> Held {
        // Who has moved without a word is not found.
        for index in 0..self.pairs.len() {
            self.touch(index, Role::Client, |node| node.connection.ping());
        }
        let until = self.now + REST;
        self.run_until(until, |world| {
            world.nodes().all(|it| it.connection.stats().inflight == 0)
        })?;
        let now = self.now;
        let closer = self.chance.pick(&[Role::Client, Role::Server]);
        let code = close::APPLICATION + self.chance.below(1_000) as u32;
        for index in 0..self.pairs.len() {
            self.touch(index, closer, |node| {
                node.connection.close(now, code, "done");
            });
        }
        self.drain(now + Duration::from_secs(6))?;
        let text = || "done".to_owned();
        for pair in &self.pairs {
            for node in pair.client.iter().chain(&pair.server) {
                let expected = if node.role == closer {
                    Closed::Here { code, text: text() }
                } else {
                    Closed::There { code, text: text() }
                };
                check(
                    "close-is-heard",
                    node.closed == Some(expected.clone()),
                    || {
                        format!(
                            "{:?} ended with {:?}, not {expected:?}",
                            node.role, node.closed
                        )
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Whatever happens, both sides notice.
    fn wait_for_the_end(&mut self) -> Held {
        let until = self.scenario.healed_at + Duration::from_secs(70);
        self.run_until(until, |world| {
            world.script.is_empty()
                && world
                    .nodes()
                    .all(|it| it.closed.is_some() && it.connection.is_drained())
        })?;
        self.drain(until + Duration::from_secs(10))
    }

    /// Whoever was lied to has closed with the right code, or has at least not suffered.
    fn find_the_liar(&mut self) -> Held {
        let until = self.scenario.healed_at + REST;
        self.run_until(until, |world| world.script.is_empty())?;
        let until = self.now + Duration::from_secs(2);
        self.run_until(until, |_| false)?;
        let Some((index, role, lie)) = self.lied else {
            return Ok(());
        };
        let Some((code, oracle)) = lie.answer() else {
            return Ok(());
        };
        let pair = &self.pairs[index];
        let node = match role {
            Role::Client => &pair.client,
            Role::Server => &pair.server,
        };
        let closed = node.as_ref().map(|it| &it.closed);
        let right = matches!(closed, Some(Some(Closed::Here { code: with, .. })) if *with == code);
        check(oracle, right, || {
            format!("{role:?} was told {lie:?} and answered with {closed:?}, not with code {code}")
        })
    }

    fn drain(&mut self, until: Time) -> Held {
        let drained = self.run_until(until, |world| {
            world.nodes().all(|it| it.connection.is_drained())
        })?;
        check("connections-come-to-an-end", drained, || {
            let nodes = self.nodes().filter(|it| !it.connection.is_drained());
            let texts: Vec<String> = nodes
                .map(|it| format!("{:?} {:?} {:?}", it.role, it.closed, it.connection.stats()))
                .collect();
            texts.join("\n")
        })?;
        for node in self.nodes() {
            check("ends-are-told", node.closed.is_some(), || {
                format!("{:?} is drained and did not say so", node.role)
            })?;
        }
        Ok(())
    }

    fn add_up(&mut self) {
        let figures = &mut self.figures;
        for pair in &self.pairs {
            for node in pair.client.iter().chain(&pair.server) {
                let stats = node.connection.stats();
                figures.packets_lost += stats.packets_lost;
                figures.spurious += stats.spurious;
                figures.retransmissions += stats.retransmissions;
                figures.repairs += stats.fec_repairs_sent;
                figures.recoveries += stats.fec_recoveries;
                figures.replays_refused += stats.dropped_replayed;
                figures.key_updates += pair.wire.keys.generation(node.role) as u64;
            }
            figures.streams += pair.traffic.len() as u64;
            figures.bytes += pair.traffic.bytes_read;
            figures.recoveries_checked += pair.wire.recovered;
            figures.pieces += pair.wire.pieces;
        }
    }
}
