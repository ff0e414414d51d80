//! The relay at work: a gateway, two agents, two clients.
//!
//! ```text
//! cargo run --release -p e2e --example relay
//! ```
//!
//! It prints each message, its acknowledgement and its answer. One agent is away for a
//! moment; what is sent to it meanwhile is kept by the gateway and delivered later.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod agent;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::stratix::StratixClient;
use testkit::{Gateway, token};

use agent::Agent;

const CONFIG: &str = include_str!("tidegate.yaml");
const SECRET: &str = "the secret of an example, known to all";
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    build()?;
    let _echo = Agent::start("echo agent", 8021, str::to_owned)?;
    let upper = Agent::start("upper agent", 8022, str::to_uppercase)?;
    let gateway = Gateway::start(CONFIG).context("gateway did not start; is a port taken?")?;
    println!("the gateway listens on {}\n", gateway.main_addr());

    let mut near = Client::connect(&gateway, "client-7")?;
    near.ask("m1", "hello")?;
    near.hear("hello")?;

    let mut far = Client::connect(&gateway, "client-2007")?;
    far.ask("m1", "good morning")?;
    far.hear("GOOD MORNING")?;

    println!("\nthe upper agent goes away");
    drop(upper);
    far.ask("m2", "are you there?")?;
    far.ask("m3", "take your time")?;
    println!("both messages are on the gateway's disk; others go on meanwhile");
    near.ask("m2", "still here")?;
    near.hear("still here")?;

    println!("\nthe upper agent comes back");
    let _upper = Agent::start("upper agent", 8022, str::to_uppercase)?;
    far.hear("ARE YOU THERE?")?;
    far.hear("TAKE YOUR TIME")?;
    println!("\nnothing was lost, and the order was kept");
    Ok(())
}

/// A client that says what it does.
struct Client {
    name: &'static str,
    connection: StratixClient,
}

impl Client {
    /// Connects with a token whose subject is the client's id.
    fn connect(gateway: &Gateway, name: &'static str) -> anyhow::Result<Self> {
        let token = token::hs256(SECRET.as_bytes(), &token::claims(name))?;
        let connection = StratixClient::connect(gateway.main_addr(), name, &token, "")?;
        println!("{name:<12} is connected");
        Ok(Self { name, connection })
    }

    /// Sends a message, and waits until the gateway says that it is safe.
    fn ask(&mut self, id: &str, text: &str) -> anyhow::Result<()> {
        println!("{:<12} sends {id} {text:?}", self.name);
        self.connection.send(id, text)?;
        self.connection.wait_ack(id, "durable", PATIENCE)?;
        println!("{:<12} knows that {id} is durable", self.name);
        Ok(())
    }

    /// Waits for the next answer.
    fn hear(&mut self, expected: &str) -> anyhow::Result<()> {
        let text = self.connection.wait_text(PATIENCE, |_| true)?;
        println!("{:<12} hears {text:?}", self.name);
        ensure!(text == expected, "{text:?} came instead of {expected:?}");
        Ok(())
    }
}

/// Builds the gateway beside this example, unless that is up to date.
fn build() -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--package", "tidegate"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    ensure!(cargo.status()?.success(), "gateway does not build");
    Ok(())
}
