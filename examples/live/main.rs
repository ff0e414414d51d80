//! Live data over NATS: a server with accounts and TLS, the aggregator, two gateways.
//!
//! ```text
//! cargo run --release -p e2e --example live
//! ```
//!
//! It prints what to open and runs until it is stopped. With `-- --check` it looks itself,
//! on ports of the system's choice: ticks through both gateways, then one gateway is killed
//! and its clients go on at the other.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "an example lives by the wall clock"
)]

mod check;

use std::process::Command;

use anyhow::{Context, ensure};
use e2e::live_data::Equipment;
use e2e::live_data::market::Market;
use testkit::Gateway;
use testkit::services::Nats;

const GATEWAY: &str = include_str!("nats.yaml");
const MARKET: &str = include_str!("market.yaml");
const SECRET: &str = "the secret of an example, known to all";

/// Everything that runs; it ends with this value.
struct Scene {
    nats: Nats,
    gateways: [Gateway; 2],
    _market: Market,
}

fn main() -> anyhow::Result<()> {
    let is_check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => anyhow::bail!("{other:?} is not known; the one argument is --check"),
    };
    build()?;
    let scene = Scene::start(is_check)?;
    if is_check {
        return check::run(scene);
    }
    scene.tell()?;
    wait_until_stopped()
}

impl Scene {
    fn start(is_check: bool) -> anyhow::Result<Self> {
        let (equipment, nats) = Equipment::with_server()?;
        println!("nats-server listens on {}", nats.address());
        let ports = |first: &str, second: &str| match is_check {
            true => [":0".to_owned(), ":0".to_owned()],
            false => [first.to_owned(), second.to_owned()],
        };
        let gateway = |main: &str, admin: &str| {
            let [main, admin] = ports(main, admin);
            let text = edited(
                GATEWAY,
                &nats,
                &[
                    (":8000", &main),
                    (":8001", &admin),
                    ("market: { enabled: true }", "market: { enabled: false }"),
                ],
            )?;
            let started = Gateway::start_with(&text, |folder| equipment.gateway(folder));
            let gateway = started.context("gateway did not start; is a port taken?")?;
            println!("a gateway listens on {}", gateway.main_addr());
            anyhow::Ok(gateway)
        };
        let gateways = [gateway(":8000", ":8001")?, gateway(":8010", ":8011")?];
        let [admin, _] = ports(":8090", "");
        let text = edited(MARKET, &nats, &[(":8090", &admin)])?;
        let market = Market::start(&text, |folder| equipment.aggregator(folder))?;
        println!("the aggregator runs");
        Ok(Self {
            nats,
            gateways,
            _market: market,
        })
    }

    fn tell(&self) -> anyhow::Result<()> {
        for gateway in &self.gateways {
            let (main, admin) = (gateway.main_addr(), gateway.admin_addr());
            let token = gateway.command(&["admin-token", "--name", "tour"])?;
            println!("\nmarket screen  http://{main}/market/");
            println!("playground     http://{main}/");
            println!("console        http://{admin}/console/, token {token}");
            println!("metrics        http://{admin}/metrics");
        }
        println!("\nwhat is said in one playground is heard in the other");
        println!("Ctrl-C ends it all");
        Ok(())
    }
}

/// The file as it is read with this server: guarded, and on a port of the system's choice.
fn edited(text: &str, nats: &Nats, further: &[(&str, &str)]) -> anyhow::Result<String> {
    let url = nats.url();
    let guarded = [
        ("nats://127.0.0.1:4222", url.as_str()),
        ("#tls:", "tls:"),
        ("#ca_file:", "ca_file:"),
        ("#credentials_file:", "credentials_file:"),
    ];
    let mut text = text.to_owned();
    for (part, replacement) in guarded.iter().chain(further) {
        ensure!(text.contains(part), "no {part:?} in the configuration");
        text = text.replace(part, replacement);
    }
    Ok(text)
}

fn wait_until_stopped() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        lifecycle::Stops::listen()?.next().await;
        anyhow::Ok(())
    })
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
