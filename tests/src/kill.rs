//! The relay under SIGKILL, over and over, against a ledger outside of it.
//!
//! Clients send without waiting for each other, an agent takes what comes, and the gateway
//! between them is killed at random moments and started again in the same folder. What it
//! acknowledged is written to a ledger with a sync of its own. At the end all of it must
//! have reached the agent as it was sent, in the order it was sent in per client and
//! priority, and nothing else. A message may reach the agent twice, with the same id.
//!
//! Which order is promised: a client that lost its connection sends what was not
//! acknowledged once more, in the order of the first time, before anything new. The gateway
//! keeps the order in which it took messages, and what survives a crash is what was taken
//! first. So the first arrivals of one client and priority come in the order of sending.
//!
//! `cargo xtask kill` runs it a thousand times.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

mod agent;
mod chance;
mod client;
mod gateway;
mod ledger;
mod message;
mod plan;
mod scene;
mod verdict;

pub use verdict::Verdict;

use agent::{Agent, Manner};
use chance::Chance;
use client::Client;
use gateway::Gateway;
use ledger::Ledger;
use plan::{Moment, Plan};
use scene::Scene;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Order {
    /// How often the gateway is killed.
    pub kills: u32,
    /// What chance starts from. The moments depend on the machine as well.
    pub seed: u64,
    /// Where everything is kept. It must not exist, and is left there.
    pub folder: PathBuf,
    /// The gateway's executable.
    pub executable: PathBuf,
}

/// Kills as often as ordered, lets everything arrive, and compares.
///
/// `progress` is called after each kill with how many there were.
///
/// # Errors
/// If something did not work out that has to, before there was anything to compare: also if
/// the gateway does not start, or ends by itself.
pub fn run(order: &Order, mut progress: impl FnMut(u32)) -> anyhow::Result<Verdict> {
    std::fs::create_dir_all(&order.folder)?;
    let folder = order.folder.canonicalize()?;
    let scene = Arc::new(Scene::default());
    let ledger = Ledger::start(&folder.join("ledger"), Arc::clone(&scene))?;
    let agent = Agent::start(Arc::clone(&scene), order.seed)?;
    gateway::configure(&folder, agent.address())?;
    let clients = (1..=CLIENTS).map(|number| {
        let chance = Chance::new(order.seed ^ u64::from(number) << 32);
        Client::start(number, chance, Arc::clone(&scene), ledger.entries())
    });
    let clients = clients.collect::<Result<Vec<_>, _>>()?;

    let mut stage = Stage {
        order,
        folder: &folder,
        scene: &scene,
        verdict: Verdict::new(order.seed),
    };
    let mut chance = Chance::new(order.seed);
    for kill in 1..=order.kills {
        let plan = Plan::draw(&mut chance);
        stage
            .round(&plan, &mut chance)
            .with_context(|| format!("kill {kill}, {plan:?}, seed {}", order.seed))?;
        progress(kill);
    }
    let ended = stage.finish(clients);
    let mut verdict = stage.verdict;
    let sent = ended.with_context(|| format!("at the end, seed {}", order.seed))?;
    let entries = ledger.finish()?;
    verdict.compare(&entries, &sent, &scene);
    drop(agent);
    Ok(verdict)
}

/// What the rounds share.
struct Stage<'a> {
    order: &'a Order,
    folder: &'a Path,
    scene: &'a Arc<Scene>,
    verdict: Verdict,
}

impl Stage<'_> {
    /// From a start to a kill.
    fn round(&mut self, plan: &Plan, chance: &mut Chance) -> anyhow::Result<()> {
        self.scene.set_manner(plan.manner);
        self.scene.size_max.store(plan.size_max, Ordering::Relaxed);
        let mut gateway = Gateway::spawn(&self.order.executable, self.folder)?;
        if let Moment::Starting(after) = plan.moment {
            park(after);
            self.verdict.kills_at_start += 1;
            return self.kill(gateway);
        }
        let (address, took) = gateway.wait_listening(PATIENCE)?;
        self.verdict.recoveries.push(took);
        let acked_before = self.scene.acked();
        self.scene.open(address);
        // Where clients wait for an agent that takes nothing, nothing flows.
        let flows = || self.scene.acked() > acked_before || !self.scene.has_room();
        wait("an acknowledgement", &mut gateway, flows)?;
        match plan.moment {
            Moment::Starting(_) => {}
            Moment::Flowing(after) => park(after),
            Moment::Rolling => {
                let rolled = gateway::wait_new_segment(self.folder, ROLL_PATIENCE)?;
                self.verdict.kills_at_roll += u32::from(rolled);
                park(Duration::from_micros(chance.below(3_000)));
            }
        }
        self.kill(gateway)
    }

    fn kill(&mut self, gateway: Gateway) -> anyhow::Result<()> {
        gateway.kill()?;
        self.scene.shut();
        self.verdict.kills += 1;
        Ok(())
    }

    /// Lets everything arrive and stops the gateway as an operator would. What each client
    /// has sent.
    fn finish(&mut self, clients: Vec<Client>) -> anyhow::Result<Vec<client::Sent>> {
        self.scene.set_manner(Manner::Steady);
        let mut gateway = Gateway::spawn(&self.order.executable, self.folder)?;
        let (address, took) = gateway.wait_listening(PATIENCE)?;
        self.verdict.recoveries.push(took);
        self.scene.open(address);
        self.scene.finish();
        wait("the last acknowledgements", &mut gateway, || {
            clients.iter().all(Client::is_finished)
        })?;
        let sent: Vec<_> = clients
            .into_iter()
            .map(Client::join)
            .collect::<Result<_, _>>()?;
        let total: u64 = sent.iter().map(|sent| sent.hashes.len() as u64).sum();
        let mut latest = (self.scene.arrived(), Instant::now());
        while self.scene.arrived() < total && latest.1.elapsed() < STANDSTILL {
            if self.scene.arrived() > latest.0 {
                latest = (self.scene.arrived(), Instant::now());
            }
            park(Duration::from_millis(1));
        }
        // Whether that is all is for the comparison to tell, which names what is missing.
        self.verdict.dead_letters = gateway.metric("tidegate_relay_dead_letters")?;
        self.verdict.corrupt = gateway.metric("tidegate_outbox_corrupt_total")?;
        gateway.stop()?;
        Ok(sent)
    }
}

/// Waits for a condition while the gateway runs.
fn wait(what: &str, gateway: &mut Gateway, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if let Some(status) = gateway.ended()? {
            bail!("gateway ended by itself with {status}");
        }
        ensure!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} for {what} in vain"
        );
        park(Duration::from_millis(1));
    }
    Ok(())
}

/// Lets time pass: the moment of a kill is a time and no condition.
fn park(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if left.is_zero() {
            break;
        }
        std::thread::park_timeout(left);
    }
}

/// Eight clients with three priorities have up to 24 messages with the agent at a time.
const CLIENTS: u16 = 8;
const PATIENCE: Duration = Duration::from_secs(60);
/// When nothing has arrived for so long, nothing will.
const STANDSTILL: Duration = Duration::from_secs(5);
/// How long a round for a new segment may take.
const ROLL_PATIENCE: Duration = Duration::from_millis(1_500);
