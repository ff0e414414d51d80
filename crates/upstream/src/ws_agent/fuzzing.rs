//! Peers under arbitrary input, for tests and fuzz targets; not for the gateway.
#![expect(clippy::panic, reason = "a broken promise is reported by a panic")]

mod links;

pub use links::{agent_url, stratix_frames};

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::identity::Identity;
use super::openclaw::Peer;
use super::peer::{Input, Now, Output};
use super::{AgentAuth, DataEncoding, Delivery, DeliveryBody, Secret, Target};

/// Lines that stand for something that the link does; any other line is a frame.
const OPENED: &[u8] = b"opened";
const CLOSED: &[u8] = b"closed";
const SEND: &[u8] = b"send";
const CHECK: &[u8] = b"check";
const FORGET: &[u8] = b"forget";
const TIME: &[u8] = b"time";

/// A conversation with an `OpenClaw` gateway whose frames are the lines of `script`. Panics if
/// a promise of the peer is broken: every delivery has at most one outcome and exactly one when
/// the connection is gone, what it remembers does not outgrow what happened, close reasons fit
/// their frame.
pub fn openclaw_frames(script: &[u8]) {
    static IDENTITY: OnceLock<Option<Arc<Identity>>> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| Identity::ephemeral().ok().map(Arc::new));
    let Some(identity) = identity else {
        panic!("no key");
    };
    let mut talk = Talk {
        peer: Peer::new(Arc::new(target()), identity.clone()),
        now_ms: 1,
        tag: 0,
        waiting: HashSet::new(),
        steps: 0,
    };
    talk.step(OPENED);
    for line in script.split(|byte| *byte == b'\n').take(1_000) {
        talk.step(line);
    }
    talk.step(CLOSED);
    assert!(talk.waiting.is_empty(), "deliveries without an outcome");
}

fn target() -> Target {
    Target {
        url: "ws://127.0.0.1:18789".into(),
        peer: super::Peer::OpenClaw,
        auth: AgentAuth::Token(Secret::new("token")),
        tls_fingerprint: None,
        agent_id: "main".into(),
        deltas: true,
        data_encoding: DataEncoding::Auto,
        dial_timeout: Duration::from_secs(10),
        try_timeout: Duration::from_secs(10),
        in_flight: 10,
        idle_timeout: Duration::ZERO,
        acks: false,
    }
}

struct Talk {
    peer: Peer,
    now_ms: u64,
    tag: u64,
    waiting: HashSet<u64>,
    steps: usize,
}

impl Talk {
    fn step(&mut self, line: &[u8]) {
        self.steps += 1;
        let mut out = Vec::new();
        let now = Now {
            mono_ms: self.now_ms,
            unix_ms: self.now_ms,
        };
        let input = match line {
            OPENED => Input::Opened,
            CLOSED => Input::Closed {
                code: Some(1012),
                reason: "service restart".to_owned(),
            },
            SEND | CHECK => {
                self.tag += 1;
                self.waiting.insert(self.tag);
                let delivery = Arc::new(delivery(self.tag, line == CHECK));
                let tag = self.tag;
                Input::Send { tag, delivery }
            }
            FORGET => {
                self.waiting.remove(&self.tag);
                Input::Forget { tag: self.tag }
            }
            TIME => {
                self.now_ms = self.peer.deadline_ms().min(self.now_ms + 100_000);
                let now = Now {
                    mono_ms: self.now_ms,
                    unix_ms: self.now_ms,
                };
                self.peer.handle(now, Input::Time, &mut out);
                self.check(out);
                return;
            }
            frame => Input::Frame(frame),
        };
        self.peer.handle(now, input, &mut out);
        self.check(out);
    }

    fn check(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Outcome { tag, .. } => {
                    assert!(self.waiting.remove(&tag), "second outcome of {tag}");
                }
                Output::Close { reason, .. } => assert!(reason.len() <= 123, "{reason}"),
                Output::Frame(text) => {
                    assert!(text.starts_with(r#"{"type":"req","id":""#), "{text}");
                }
                Output::Watched { .. } => panic!("nothing needs to be watched"),
                Output::Ready | Output::Answer(_) | Output::Hold { .. } => {}
                Output::StoreDevice(_) => {}
            }
        }
        let remembered = self.peer.remembered();
        assert!(
            remembered <= 8 * self.steps,
            "{remembered} things remembered"
        );
    }
}

/// Messages of few clients, some of which share a session key but for its case.
fn delivery(number: u64, check_first: bool) -> Delivery {
    let clients = ["main", "Main", "a:b", "agent-1795191257567"];
    let client = clients[usize::try_from(number % 4).unwrap_or_default()];
    Delivery {
        client: client.into(),
        message_id: format!("m{}", number % 3).into(),
        body: DeliveryBody::Text("hello".into()),
        content_type: "".into(),
        at_ms: 0,
        check_first,
        traceparent: None,
        compressed: false,
    }
}
