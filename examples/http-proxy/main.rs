//! The HTTP proxy at work: a gateway, two services, a model.
//!
//! ```text
//! cargo run --release -p e2e --example http-proxy
//! ```
//!
//! It makes a route through the API, sends traffic, takes one service away and brings it
//! back, reads a model's answer as it streams, and changes routes meanwhile. With the
//! argument `upstreams` it only runs the services and the model, for `by-hand.sh`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "an example lives by the wall clock"
)]

mod upstreams;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::proxy::api::{Api, id};
use e2e::proxy::wire::Wire;
use serde_json::{Value, json};
use testkit::Gateway;

use upstreams::{MODEL, ONE, TWO, model, service, url};

const CONFIG: &str = include_str!("tidegate.yaml");
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("upstreams") {
        return run_upstreams();
    }
    build()?;
    let one = service("one", ONE)?;
    let _two = service("two", TWO)?;
    let model = model(MODEL)?;
    let gateway = Gateway::start(CONFIG).context("gateway did not start; is a port taken?")?;
    println!("the gateway listens on {}", gateway.main_addr());
    let api = Api::of(&gateway)?;
    api.put_secret("MODEL_KEY", "sk-example")?;
    let scene = Scene { gateway, api };

    let route = scene.make_route()?;
    scene.send(40, "both are well")?;

    println!("\nservice one is taken away");
    drop(one);
    scene.send(40, "a request that met it is sent to the other")?;
    scene.show_breakers(&route)?;

    println!("\nservice one comes back");
    let one = service("one", ONE)?;
    scene.watch_recovery(&route)?;

    scene.read_answer(&model, &route)?;

    println!("\nthe route is deleted");
    scene.api.delete(&route)?;
    println!("  /-/services is answered with {}", scene.ask()?.0);
    drop(one);
    Ok(())
}

struct Scene {
    gateway: Gateway,
    api: Api,
}

impl Scene {
    /// Makes a route, and says what the gateway says about it.
    fn make_route(&self) -> anyhow::Result<String> {
        println!("\na route is made through the API");
        println!("  before, /-/services is answered with {}", self.ask()?.0);
        let made = self.api.create(&json!({
            "path": "/services",
            "name": "services",
            "upstreams": [url(ONE), url(TWO)],
            "accessRule": "true",
            "allowPrivate": true,
            "circuitBreaker": {
                "enabled": true,
                "failureThreshold": 3,
                "recoveryTimeout": 1,
                "ramp": 3,
            },
        }))?;
        println!(
            "  it is {} with the path {}, version {}",
            made["id"], made["path"], made["version"]
        );
        println!("  now it is answered with {}", self.ask()?.0);
        id(&made)
    }

    /// Status and text of an answer.
    fn ask(&self) -> anyhow::Result<(u16, String)> {
        let main = self.gateway.main_addr();
        let response = Wire::once(main, "GET", "/-/services/hello", &[], b"")?;
        Ok((response.status, response.text()))
    }

    /// Sends requests, all of which must be answered; how many the first service got.
    fn send(&self, count: u32, remark: &str) -> anyhow::Result<u32> {
        let mut by_one = 0;
        for _ in 0..count {
            let (status, text) = self.ask()?;
            ensure!(status == 200, "a request was answered with {status} {text}");
            by_one += u32::from(text.contains("one"));
        }
        println!(
            "  {count} requests: one answers {by_one}, two {} ({remark})",
            count - by_one
        );
        Ok(by_one)
    }

    fn breakers(&self, route: &str) -> anyhow::Result<Value> {
        let path = format!("/admin/proxies/{route}/explain?path=/-/services/hello");
        let mut told = self.api.call("GET", &path, None, None)?.json()?;
        Ok(told["upstreams"].take())
    }

    fn show_breakers(&self, route: &str) -> anyhow::Result<()> {
        let upstreams = self.breakers(route)?;
        for upstream in upstreams.as_array().context("no upstreams")? {
            println!(
                "  breaker of {} is {}",
                upstream["url"], upstream["breaker"]
            );
        }
        Ok(())
    }

    /// Sends requests until both services have their share again.
    fn watch_recovery(&self, route: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let at = begun.elapsed();
            let remark = format!("{:.1} s later", at.as_secs_f64());
            let by_one = self.send(40, &remark)?;
            if by_one >= 15 {
                break;
            }
            ensure!(at < PATIENCE, "service one does not get its share");
            std::thread::park_timeout(Duration::from_millis(500));
        }
        self.show_breakers(route)
    }

    /// Reads a model's answer as it comes, and changes routes meanwhile.
    fn read_answer(&self, model: &e2e::proxy::origin::Origin, route: &str) -> anyhow::Result<()> {
        println!("\na model answers, word by word");
        model.hold();
        let body = json!({
            "model": "stub",
            "stream": true,
            "messages": [{ "role": "user", "content": "what is it?" }],
        });
        let mut wire = Wire::connect(self.gateway.main_addr())?;
        let path = "/-/model/v1/chat/completions";
        wire.ask("POST", path, &[], body.to_string().as_bytes())?;
        let head = wire.head()?;
        ensure!(head.status() == 200, "the model was answered by {head:?}");
        let begun = Instant::now();
        let mut words = 0;
        while let Some(event) = wire.event()? {
            let at = begun.elapsed().as_millis();
            let Some(data) = event.strip_prefix("data: ") else {
                println!("  {at:>5} ms  {event}");
                continue;
            };
            let Ok(data) = serde_json::from_str::<Value>(data) else {
                println!("  {at:>5} ms  {data}");
                continue;
            };
            if let Some(word) = data["choices"][0]["delta"]["content"].as_str() {
                println!("  {at:>5} ms  {word:?}");
                words += 1;
            } else if data["usage"].is_object() {
                println!("  {at:>5} ms  usage {}", data["usage"]);
            }
            if words == 2 && self.change_meanwhile(route).map(|()| true)? {
                words += 1;
                model.release();
            }
        }
        let tokens = self
            .gateway
            .wait_metric("tidegate_proxy_output_tokens_total", |tokens| tokens > 0.0)?;
        let cost = self.gateway.metric("tidegate_proxy_cost_total")?;
        println!("  the gateway has counted {tokens} tokens of output, cost {cost:.6}");
        Ok(())
    }

    /// Changes a route while the answer is under way.
    fn change_meanwhile(&self, route: &str) -> anyhow::Result<()> {
        println!("\n  meanwhile the route to the services changes");
        let changed = self.api.patch(route, &json!({ "upstreams": [url(TWO)] }))?;
        let version = changed["version"].as_u64().context("no version")?;
        self.send(10, &format!("version {version}: only two is left"))?;
        self.api.rollback(route, version - 1)?;
        self.send(10, &format!("back to version {}", version - 1))?;
        println!("  and the answer goes on\n");
        Ok(())
    }
}

/// Runs until somebody ends it.
fn run_upstreams() -> anyhow::Result<()> {
    let _running = (service("one", ONE)?, service("two", TWO)?, model(MODEL)?);
    for (name, port) in [("one", ONE), ("two", TWO), ("model", MODEL)] {
        println!("{name} is at {}", url(port));
    }
    loop {
        std::thread::park();
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
