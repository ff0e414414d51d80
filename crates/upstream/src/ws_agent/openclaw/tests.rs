//! The peer against captured frames and against frames made up.

mod conversation;
mod disorder;
mod handshake;
mod lost;
mod queue;
mod replay;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Peer;
use crate::ws_agent::identity::Identity;
use crate::ws_agent::peer::{HoldReason, Input, Now, Output};
use crate::ws_agent::{
    AgentAuth, Answer, AnswerKind, DataEncoding, Delivery, DeliveryBody, Outcome, Secret, Target,
};

const URL: &str = "ws://127.0.0.1:18789";
const NONCE: &str = "63506a52-037b-4bfd-b09f-732286bc7a07";

/// A peer and everything that it said, with a clock that stands still unless moved.
struct Talk {
    peer: Peer,
    identity: Arc<Identity>,
    now_ms: u64,
}

/// What one input led to.
#[derive(Debug)]
struct Said(Vec<Output>);

fn target() -> Target {
    Target {
        url: URL.into(),
        peer: crate::ws_agent::Peer::OpenClaw,
        auth: AgentAuth::Token(Secret::new("tidegate-probe-token")),
        tls_fingerprint: None,
        agent_id: "main".into(),
        deltas: false,
        data_encoding: DataEncoding::Auto,
        dial_timeout: Duration::from_secs(10),
        try_timeout: Duration::from_secs(30),
        in_flight: 100,
        idle_timeout: Duration::ZERO,
        acks: false,
    }
}

pub(super) fn delivery(client: &str, message_id: &str, text: &str) -> Delivery {
    Delivery {
        client: client.into(),
        message_id: message_id.into(),
        body: DeliveryBody::Text(text.into()),
        content_type: "".into(),
        at_ms: 0,
        check_first: false,
        traceparent: None,
        compressed: false,
    }
}

fn challenge() -> Value {
    json!({"type": "event", "event": "connect.challenge",
        "payload": {"nonce": NONCE, "ts": 1_795_191_257_554_u64}})
}

fn hello(boot: &str) -> Value {
    json!({"type": "res", "id": "1", "ok": true, "payload": {
        "type": "hello-ok", "protocol": 4,
        "server": {"version": "2026.9.6", "bootId": boot},
        "auth": {"role": "operator", "scopes": ["operator.read", "operator.write"]},
        "policy": {"maxPayload": 26_214_400, "tickIntervalMs": 30_000,
            "attachments": {"maxBytes": 19_464_192}}}})
}

fn ok(id: &str, payload: &Value) -> Value {
    json!({"type": "res", "id": id, "ok": true, "payload": payload})
}

fn refused(id: &str, error: &Value) -> Value {
    json!({"type": "res", "id": id, "ok": false, "error": error})
}

fn chat(seq: u64, run: &str, session: &str, state: &str, text: &str) -> Value {
    json!({"type": "event", "event": "chat", "seq": seq, "payload": {
        "runId": run, "sessionKey": session, "state": state,
        "message": {"role": "assistant", "content": [{"type": "text", "text": text}]}}})
}

impl Talk {
    fn new(target: Target) -> Self {
        let identity = Arc::new(Identity::ephemeral().unwrap());
        Self {
            peer: Peer::new(Arc::new(target), identity.clone()),
            identity,
            now_ms: 1_000,
        }
    }

    /// Through the handshake with a gateway of this life.
    fn open(boot: &str) -> Self {
        let mut talk = Self::new(target());
        talk.reopen(boot);
        talk
    }

    fn reopen(&mut self, boot: &str) -> Said {
        assert!(self.input(Input::Opened).0.is_empty());
        self.hears(&challenge());
        let said = self.hears(&hello(boot));
        assert!(said.0.iter().any(|it| matches!(it, Output::Ready)));
        said
    }

    fn input(&mut self, input: Input<'_>) -> Said {
        let mut out = Vec::new();
        let now = Now {
            mono_ms: self.now_ms,
            unix_ms: 1_795_191_257_000,
        };
        self.peer.handle(now, input, &mut out);
        Said(out)
    }

    fn hears(&mut self, frame: &Value) -> Said {
        self.input(Input::Frame(frame.to_string().as_bytes()))
    }

    fn sends(&mut self, tag: u64, delivery: Delivery) -> Said {
        let delivery = Arc::new(delivery);
        self.input(Input::Send { tag, delivery })
    }

    fn lost(&mut self) -> Said {
        self.input(Input::Closed {
            code: None,
            reason: "reset".to_owned(),
        })
    }

    fn waits(&mut self, ms: u64) -> Said {
        self.now_ms += ms;
        self.input(Input::Time)
    }
}

impl Said {
    fn frames(&self) -> Vec<Value> {
        self.0
            .iter()
            .filter_map(|output| match output {
                Output::Frame(text) => Some(serde_json::from_str(text).unwrap()),
                _ => None,
            })
            .collect()
    }

    /// The only frame.
    fn frame(&self) -> Value {
        let frames = self.frames();
        assert_eq!(frames.len(), 1, "{self:?}");
        frames[0].clone()
    }

    fn methods(&self) -> Vec<String> {
        self.frames()
            .iter()
            .map(|frame| frame["method"].as_str().unwrap().to_owned())
            .collect()
    }

    fn answers(&self) -> Vec<Answer> {
        self.0
            .iter()
            .filter_map(|output| match output {
                Output::Answer(answer) => Some(answer.clone()),
                _ => None,
            })
            .collect()
    }

    fn outcomes(&self) -> Vec<(u64, Outcome)> {
        self.0
            .iter()
            .filter_map(|output| match output {
                Output::Outcome { tag, outcome } => Some((*tag, outcome.clone())),
                _ => None,
            })
            .collect()
    }

    fn hold(&self) -> Option<(Duration, HoldReason, &str)> {
        self.0.iter().find_map(|output| match output {
            Output::Hold { wait, reason, text } => Some((*wait, *reason, text.as_str())),
            _ => None,
        })
    }

    fn close(&self) -> Option<u16> {
        self.0.iter().find_map(|output| match output {
            Output::Close { code, .. } => Some(*code),
            _ => None,
        })
    }

    fn is_silent(&self) -> bool {
        self.0.is_empty()
    }
}

fn answer(client: &str, run: &str, kind: AnswerKind, text: &str) -> Answer {
    let (suffix, message_id) = (
        match kind {
            AnswerKind::Delta => "delta",
            AnswerKind::Aborted => "aborted",
            AnswerKind::Failed => "failed",
            _ => "final",
        },
        run.strip_prefix(&format!("{client}:")).unwrap_or_default(),
    );
    Answer {
        client: client.into(),
        message_id: format!("{run}#{suffix}").into(),
        in_reply_to: message_id.into(),
        kind,
        data: text.into(),
        content_type: "text/plain".into(),
    }
}
