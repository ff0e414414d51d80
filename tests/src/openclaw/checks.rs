//! What must hold between a client, Tidegate and a real OpenClaw gateway.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Gateway, token};

use super::forwarder::Forwarder;
use super::model::{Model, answer};
use super::process::{OpenClaw, TOKEN};
use crate::config::config;
use crate::stratix::StratixClient;

/// What one check came to.
#[derive(Debug)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Why it does not hold.
    pub failure: Option<String>,
}

/// Runs every check against the OpenClaw gateway in `modules` (a `node_modules` folder), and
/// hands each outcome to `done` as it comes. Without both gateways there are no further checks;
/// otherwise one that fails does not stop the others.
///
/// # Errors
/// If the stub of the model does not start.
pub fn run(modules: &Path, mut done: impl FnMut(&Check)) -> anyhow::Result<Vec<Check>> {
    let mut outcomes = Vec::new();
    let mut check = |name, work: &mut dyn FnMut() -> anyhow::Result<()>| {
        let begun = Instant::now();
        let failure = work().err().map(|error| format!("{error:#}"));
        let took = begun.elapsed();
        let check = Check {
            name,
            took,
            failure,
        };
        done(&check);
        outcomes.push(check);
    };

    let model = Model::start()?;
    let mut started = None;
    check("a real OpenClaw starts", &mut || {
        started = Some(OpenClaw::start(modules, &model)?);
        Ok(())
    });
    let Some(claw) = started else {
        return Ok(outcomes);
    };
    let (mut processes, mut set) = (Some((claw, model)), None);
    check("Tidegate starts with routes to it", &mut || {
        let (claw, model) = processes.take().context("set once")?;
        set = Some(Stage::set(claw, model)?);
        Ok(())
    });
    let Some(mut stage) = set else {
        return Ok(outcomes);
    };
    for (name, work) in CHECKS {
        check(name, &mut || {
            let outcome = work(&mut stage);
            stage.model.release();
            outcome.with_context(|| stage.logs())
        });
    }
    Ok(outcomes)
}

type Work = fn(&mut Stage) -> anyhow::Result<()>;

/// In this order: later ones find the gateways as earlier ones leave them, which is up.
const CHECKS: &[(&str, Work)] = &[
    (
        "a message is durable at once and gets the agent's answer",
        Stage::answered,
    ),
    (
        "a message sent twice runs once, and the order is kept",
        Stage::once_and_in_order,
    ),
    (
        "clients whose ids differ in case do not hear each other",
        Stage::apart,
    ),
    (
        "messages for a busy agent are answered each, in order",
        Stage::busy,
    ),
    (
        "OpenClaw killed with messages in its queue: all are answered",
        Stage::killed_with_a_queue,
    ),
    (
        "OpenClaw killed while its model thinks: the answer comes after it is back",
        Stage::killed_before_the_answer,
    ),
    (
        "OpenClaw killed at its acknowledgement: the message survives",
        Stage::killed_at_the_acknowledgement,
    ),
    (
        "OpenClaw down and Tidegate killed: what was durable is delivered",
        Stage::both_down,
    ),
    (
        "a remote device is paired, and what waited is delivered",
        Stage::paired,
    ),
    (
        "a restart of OpenClaw needs no second pairing",
        Stage::paired_once,
    ),
];

/// The processes that the checks play with.
struct Stage {
    claw: OpenClaw,
    model: Model,
    gateway: Gateway,
    _forwarder: Forwarder,
}

impl Stage {
    fn set(claw: OpenClaw, model: Model) -> anyhow::Result<Self> {
        let forwarder = Forwarder::start(claw.address())?;
        let relay = format!(
            r#"
relay:
  routes:
    - client_id_prefix: "local-"
      agent: "ws://{}/ws"
      protocol: openclaw
      auth: {{ mode: token, secret: "{TOKEN}" }}
    - client_id_prefix: "remote-"
      agent: "ws://{}/ws"
      protocol: openclaw
      auth: {{ mode: token, secret: "{TOKEN}" }}
"#,
            claw.address(),
            forwarder.address()
        );
        let gateway = Gateway::start(&config(&relay))?;
        Ok(Self {
            claw,
            model,
            gateway,
            _forwarder: forwarder,
        })
    }

    fn answered(&mut self) -> anyhow::Result<()> {
        let mut client = self.client("local-1")?;
        client.send("m1", "what is a tide?")?;
        client.wait_ack("m1", "durable", SOON)?;
        client.wait_text(ANSWER, |text| text == answer("what is a tide?"))?;
        Ok(())
    }

    fn once_and_in_order(&mut self) -> anyhow::Result<()> {
        let mut client = self.client("local-2")?;
        for (id, text) in [("m1", "first"), ("m1", "first"), ("m2", "second")] {
            client.send(id, text)?;
            client.wait_ack(id, "durable", SOON)?;
        }
        client.wait_text(ANSWER, |text| text == answer("first"))?;
        client.wait_text(ANSWER, |text| text == answer("second"))?;
        let times = self.model.times_asked("first");
        ensure!(times == 1, "the agent was asked {times} times");
        Ok(())
    }

    fn apart(&mut self) -> anyhow::Result<()> {
        let mut small = self.client("local-case")?;
        let mut large = self.client("local-CASE")?;
        small.send("m1", "in small letters")?;
        small.wait_text(ANSWER, |text| text == answer("in small letters"))?;
        large.send("m1", "in capitals")?;
        large.wait_text(ANSWER, |text| text == answer("in capitals"))?;
        small.send("m2", "small again")?;
        small.wait_text(ANSWER, |text| text == answer("small again"))?;
        let foreign = small.unclaimed().find(|message| {
            message["data"]
                .as_str()
                .is_some_and(|data| data.contains("capitals"))
        });
        ensure!(foreign.is_none(), "a foreign answer came: {foreign:?}");
        Ok(())
    }

    fn busy(&mut self) -> anyhow::Result<()> {
        let mut client = self.client("local-3")?;
        self.queue(
            &mut client,
            ["slow to answer", "in the queue", "last in the queue"],
        )?;
        self.model.release();
        client.wait_text(ANSWER, |text| text == answer("last in the queue"))?;
        let told: Vec<&str> = client
            .unclaimed()
            .filter(|message| message["type"] == 0)
            .filter_map(|message| message["data"].as_str())
            .collect();
        let expected = [answer("slow to answer"), answer("in the queue")];
        ensure!(
            told == expected,
            "the answers before the last were {told:?}"
        );
        Ok(())
    }

    fn killed_with_a_queue(&mut self) -> anyhow::Result<()> {
        let mut client = self.client("local-queue")?;
        let texts = ["asked, then killed", "queued, then killed", "queued last"];
        self.queue(&mut client, texts)?;
        self.claw.kill()?;
        self.model.release();
        self.claw.spawn()?;
        for text in texts {
            client.wait_text(RECOVERY, |answer| answer.contains(text))?;
        }
        Ok(())
    }

    /// Sends `m1`, `m2` and `m3`; OpenClaw has all of them, and its model thinks about the
    /// first one until it is released.
    fn queue(&self, client: &mut StratixClient, texts: [&str; 3]) -> anyhow::Result<()> {
        self.model.hold();
        for (text, id) in texts.into_iter().zip(["m1", "m2", "m3"]) {
            client.send_json(&serde_json::json!({
                "type": 0, "messageId": id, "data": text, "ack": "delivered",
            }))?;
            client.wait_ack(id, "delivered", ANSWER)?;
            if id == "m1" {
                self.model.wait_asked(text, ANSWER)?;
            }
        }
        Ok(())
    }

    fn killed_before_the_answer(&mut self) -> anyhow::Result<()> {
        let mut client = self.client("local-4")?;
        self.model.hold();
        client.send("m1", "asked before the crash")?;
        client.wait_ack("m1", "durable", SOON)?;
        self.model.wait_asked("asked before the crash", ANSWER)?;
        self.claw.kill()?;
        self.model.release();
        self.claw.spawn()?;
        client.wait_text(RECOVERY, |text| text.contains("asked before the crash"))?;
        Ok(())
    }

    fn killed_at_the_acknowledgement(&mut self) -> anyhow::Result<()> {
        let mut client = self.client("local-5")?;
        client.send_json(&serde_json::json!({
            "type": 0, "messageId": "m1", "data": "acknowledged and lost", "ack": "delivered",
        }))?;
        client.wait_ack("m1", "delivered", ANSWER)?;
        self.claw.kill()?;
        self.claw.spawn()?;
        client.wait_text(RECOVERY, |text| text.contains("acknowledged and lost"))?;
        Ok(())
    }

    fn both_down(&mut self) -> anyhow::Result<()> {
        self.claw.kill()?;
        let mut client = self.client("local-6")?;
        for (id, text) in [("m1", "nobody is there"), ("m2", "still nobody")] {
            client.send(id, text)?;
            client.wait_ack(id, "durable", SOON)?;
        }
        let process = i32::try_from(self.gateway.process_id())?;
        let process = Pid::from_raw(process).context("gateway has no process id")?;
        kill_process(process, Signal::KILL)?;
        self.gateway.restart()?;
        let mut client = self.client("local-6")?;
        self.claw.spawn()?;
        client.wait_text(RECOVERY, |text| text.contains("still nobody"))?;
        let (first, second) = (
            self.model.times_asked("nobody is there"),
            self.model.times_asked("still nobody"),
        );
        ensure!(
            first >= 1 && second >= 1,
            "the agent was asked {first} and {second} times"
        );
        Ok(())
    }

    fn paired(&mut self) -> anyhow::Result<()> {
        let mut client = self.client("remote-1")?;
        client.send("m1", "from afar")?;
        client.wait_ack("m1", "durable", SOON)?;
        let request = self.claw.wait_pending(ANSWER)?;
        self.claw.approve(&request)?;
        client.wait_text(RECOVERY, |text| text == answer("from afar"))?;
        Ok(())
    }

    fn paired_once(&mut self) -> anyhow::Result<()> {
        self.claw.restart()?;
        let mut client = self.client("remote-1")?;
        client.send("m2", "from afar again")?;
        client.wait_text(RECOVERY, |text| text == answer("from afar again"))?;
        Ok(())
    }

    fn client(&self, id: &str) -> anyhow::Result<StratixClient> {
        StratixClient::connect(self.gateway.main_addr(), id, &token::user(id)?, "")
    }

    /// What both gateways wrote last.
    fn logs(&self) -> String {
        let text = self.gateway.log().text();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(30)..].join("\n");
        let claw = self.claw.log_end();
        format!("Tidegate wrote last:\n{end}\nOpenClaw wrote last:\n{claw}\nand it failed")
    }
}

/// For what Tidegate does alone.
const SOON: Duration = Duration::from_secs(10);
/// For an answer; the first one after a start takes OpenClaw ten seconds.
const ANSWER: Duration = Duration::from_secs(60);
/// For an answer after a restart, with the waits between tries to connect.
const RECOVERY: Duration = Duration::from_secs(120);
