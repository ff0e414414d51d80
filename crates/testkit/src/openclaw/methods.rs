//! What the gateway answers to requests.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::state::{Remembered, State};
use super::{Next, Run};

/// An error to answer with, and why the connection is closed after it, if so.
pub(super) struct Refusal {
    pub(super) error: Value,
    pub(super) close: Option<(u16, &'static str)>,
}

/// What follows from a `chat.send`.
pub(super) struct Sent {
    pub(super) response: Option<Value>,
    pub(super) twice: bool,
    pub(super) drop: bool,
    /// The run to be told about after the response.
    pub(super) run: Option<(String, Ending)>,
}

pub(super) enum Ending {
    Echo(String),
    Failure,
    /// It goes on.
    None {
        session: String,
        /// Behind others of its session.
        waits: bool,
    },
}

fn refusal(code: &str, message: &str, detail: &str) -> Refusal {
    Refusal {
        error: json!({"code": code, "message": message, "details": {"code": detail}}),
        close: Some((1008, "connect refused")),
    }
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

impl State {
    /// The `hello-ok`, or a refusal.
    pub(super) fn connect(
        &mut self,
        params: &Value,
        nonce: &str,
        ts: u64,
    ) -> Result<Value, Refusal> {
        self.ledger.connects.push(params.clone());
        let range = (
            params["minProtocol"].as_u64(),
            params["maxProtocol"].as_u64(),
        );
        if !matches!(range, (Some(min), Some(max)) if min <= 4 && max >= 4) {
            return Err(refusal(
                "INVALID_REQUEST",
                "protocol mismatch",
                "PROTOCOL_MISMATCH",
            ));
        }
        if (text(params, "/client/id"), text(params, "/client/mode"))
            != ("gateway-client", "backend")
        {
            return Err(refusal("INVALID_REQUEST", "invalid connect params", ""));
        }
        let device = text(params, "/device/id").to_owned();
        let device_token = format!("device-token-of-{device}");
        let auth = &params["auth"];
        let secret = self.behaviour.secret.as_deref();
        let shown = ["token", "password", "deviceToken"]
            .iter()
            .find_map(|field| auth[field].as_str());
        let by_device = shown == Some(&device_token) && self.is_approved(&device);
        if secret.is_some() && shown != secret && !by_device {
            return Err(refusal(
                "INVALID_REQUEST",
                "unauthorized",
                "AUTH_TOKEN_MISMATCH",
            ));
        }
        let signed_token = auth["token"].as_str().or(auth["deviceToken"].as_str());
        if !is_signed(params, signed_token.unwrap_or(""), nonce, ts) {
            let detail = "DEVICE_AUTH_SIGNATURE_INVALID";
            return Err(refusal(
                "INVALID_REQUEST",
                "device signature invalid",
                detail,
            ));
        }
        if self.behaviour.pairing && !self.is_approved(&device) {
            let request = self.pend(&device);
            let mut refused = refusal("NOT_PAIRED", "pairing required", "PAIRING_REQUIRED");
            refused.error["details"]["requestId"] = json!(request);
            refused.error["details"]["reason"] = json!("not-paired");
            return Err(refused);
        }
        let wanted = params["scopes"].as_array().cloned().unwrap_or_default();
        let granted = &self.behaviour.scopes;
        let scopes: Vec<_> = granted
            .iter()
            .filter(|scope| wanted.contains(&json!(scope)))
            .collect();
        let tick_ms = u64::try_from(self.behaviour.tick.as_millis()).unwrap_or(30_000);
        self.ledger.greeted += 1;
        Ok(json!({"type": "hello-ok", "protocol": 4,
            "server": {"version": "2026.9.6", "bootId": self.boot_id(), "connId": "c"},
            "features": {"methods": [], "events": []},
            "auth": {"method": "token", "role": "operator", "scopes": scopes,
                "deviceToken": device_token},
            "policy": {"maxPayload": 26_214_400, "maxBufferedBytes": 52_428_800,
                "tickIntervalMs": tick_ms,
                "attachments": {"maxBytes": self.behaviour.attachment_max}}}))
    }

    pub(super) fn chat_send(&mut self, request: &Value) -> Sent {
        let params = &request["params"];
        let key = text(params, "/idempotencyKey").to_owned();
        self.ledger.sends.push(key.clone());
        let refused = |response: Value| Sent {
            response: Some(response),
            twice: false,
            drop: false,
            run: None,
        };
        if let Some(problem) = problem_of(params) {
            return refused(self.error(request, "INVALID_REQUEST", &problem, None));
        }
        let next = self.behaviour.next.pop_front().unwrap_or(Next::Accept);
        match next {
            Next::Busy { after_ms } => {
                let mut response = self.error(request, "UNAVAILABLE", "busy", Some(true));
                if let Some(after) = after_ms {
                    response["error"]["retryAfterMs"] = json!(after);
                }
                return refused(response);
            }
            Next::Invalid => {
                return refused(self.error(request, "INVALID_REQUEST", "refused", None));
            }
            Next::DropBefore => {
                return Sent {
                    response: None,
                    twice: false,
                    drop: true,
                    run: None,
                };
            }
            _ => {}
        }
        let payload = |status: &str| json!({"runId": key, "status": status});
        let session = text(params, "/sessionKey").to_owned();
        let message = text(params, "/message").to_owned();
        let known = self.memory.get(&key).cloned();
        let (response, run) = match known {
            Some(known) if known.text != message || known.session != session => {
                let told = "This message ID was already used for different input.";
                let mut response = self.error(request, "INVALID_REQUEST", told, None);
                response["error"]["details"] = json!({"reason": "chat-request-conflict"});
                return refused(response);
            }
            Some(known) => match known.end {
                None => (ok(request, &payload("in_flight")), None),
                Some((true, _)) => (ok(request, &payload("ok")), None),
                Some((false, said)) => {
                    let mut response = self.error(request, "UNAVAILABLE", &said, Some(true));
                    response["payload"] = json!({"runId": key, "status": "error", "summary": said});
                    (response, None)
                }
            },
            None => {
                let status = if next == Next::InFlight {
                    "in_flight"
                } else {
                    "started"
                };
                let response = ok(request, &payload(status));
                let waits = self.begin(request, &key, next != Next::Unwritten);
                let ending = match next {
                    _ if waits => Ending::None { session, waits },
                    Next::Fail => Ending::Failure,
                    _ if self.behaviour.echoes => Ending::Echo(message),
                    _ => Ending::None { session, waits },
                };
                (response, Some((key.clone(), ending)))
            }
        };
        Sent {
            response: (!matches!(next, Next::DropUnanswered | Next::Silent)).then_some(response),
            twice: next == Next::Twice,
            drop: matches!(next, Next::DropUnanswered | Next::DropAfter),
            run,
        }
    }

    /// Whether the run has to wait.
    fn begin(&mut self, request: &Value, key: &str, write: bool) -> bool {
        let params = &request["params"];
        let session = text(params, "/sessionKey").to_owned();
        let message = text(params, "/message").to_owned();
        let attachments = params["attachments"].as_array().into_iter().flatten();
        let attachments = attachments.map(|one| {
            let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
            (text("mimeType"), text("content"))
        });
        self.ledger.runs.push(Run {
            key: key.to_owned(),
            session: session.clone(),
            text: message.clone(),
            attachments: attachments.collect(),
            traceparent: request["traceparent"].as_str().map(str::to_owned),
            restarts: self.restarts,
        });
        let waits = self.take(key, &session, &message, write);
        let remembered = Remembered {
            session,
            text: message,
            // The real one calls a run that waits ended.
            end: waits.then(|| (true, String::new())),
        };
        self.memory.insert(key.to_owned(), remembered);
        waits
    }

    pub(super) fn agent_wait(&mut self, request: &Value) -> Value {
        let run = text(&request["params"], "/runId");
        let mut waiting = self.work.values().flat_map(|work| work.iter().skip(1));
        if waiting.any(|work| work.key == run) {
            let payload = json!({"runId": run, "status": "pending", "timeoutPhase": "queue"});
            return ok(request, &payload);
        }
        let payload = match self.memory.get(run).map(|known| known.end.as_ref()) {
            Some(Some((true, said))) if said.is_empty() => json!({"runId": run, "status": "ok"}),
            Some(Some((true, said))) => json!({"runId": run, "status": "ok", "endedAt": 1,
                "terminalReply": {"disposition": "visible", "text": said}}),
            Some(Some((false, said))) => {
                json!({"runId": run, "status": "error", "endedAt": 1, "error": said})
            }
            // The real one says the same of a run that goes on and of one that it does not know.
            Some(None) | None => json!({"runId": run, "status": "timeout"}),
        };
        ok(request, &payload)
    }

    pub(super) fn chat_history(&mut self, request: &Value) -> Value {
        let key = text(&request["params"], "/sessionKey").to_lowercase();
        let all = self.transcripts.get(&key).cloned().unwrap_or_default();
        let limit = request["params"]["limit"].as_u64().unwrap_or(100);
        let skip = all
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(100));
        let work = self.work.get(&key);
        let first = work.and_then(|work| work.front());
        let waiting: Vec<Value> = work
            .into_iter()
            .flat_map(|work| work.iter().skip(1))
            .map(|it| json!({"state": "queued", "runId": it.key, "message": {"role": "user"}}))
            .collect();
        let mut payload = json!({"sessionKey": key, "messages": all[skip..], "hasMore": skip > 0,
            "totalMessages": all.len(),
            "pendingInputs": {"items": waiting, "total": waiting.len()},
            "sessionInfo": {"hasActiveRun": first.is_some()}});
        // A run with a name made up is not listed.
        let listed = match first {
            Some(first) if first.run != first.key => None,
            first => Some(
                first
                    .map(|first| &first.key)
                    .into_iter()
                    .collect::<Vec<_>>(),
            ),
        };
        if let Some(listed) = listed {
            payload["sessionInfo"]["activeRunIds"] = json!(listed);
        }
        ok(request, &payload)
    }

    pub(super) fn unknown_method(&mut self, request: &Value) -> Value {
        self.error(request, "FORBIDDEN", "missing scope: operator.admin", None)
    }

    fn error(
        &mut self,
        request: &Value,
        code: &str,
        message: &str,
        retryable: Option<bool>,
    ) -> Value {
        self.ledger.refusals.push(code.to_owned());
        let mut error = json!({"code": code, "message": message});
        if let Some(retryable) = retryable {
            error["retryable"] = json!(retryable);
        }
        json!({"type": "res", "id": request["id"], "ok": false, "error": error})
    }
}

pub(super) fn ok(request: &Value, payload: &Value) -> Value {
    json!({"type": "res", "id": request["id"], "ok": true, "payload": payload})
}

/// What a real gateway would say about these parameters of `chat.send`.
fn problem_of(params: &Value) -> Option<String> {
    let known = [
        "sessionKey",
        "message",
        "idempotencyKey",
        "attachments",
        "queueMode",
    ];
    let Some(fields) = params.as_object() else {
        return Some("params must be object".to_owned());
    };
    if let Some(field) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        return Some(format!("unexpected property '{field}'"));
    }
    if let Some(field) = known[..3].iter().find(|field| !params[**field].is_string()) {
        return Some(format!("must have required property '{field}'"));
    }
    if params["queueMode"] != "followup" {
        return Some("only queueMode followup is played".to_owned());
    }
    let length = text(params, "/sessionKey").chars().count();
    if !(1..=512).contains(&length) {
        return Some(format!("sessionKey of {length} characters"));
    }
    for attachment in params["attachments"].as_array().into_iter().flatten() {
        let content = attachment["content"].as_str().unwrap_or("?");
        if STANDARD.decode(content).is_err() {
            return Some("attachment is not Base64".to_owned());
        }
    }
    None
}

/// The device signs the challenge, by the third or second form of the text.
fn is_signed(params: &Value, token: &str, nonce: &str, ts: u64) -> bool {
    let device = &params["device"];
    let decode = |field: &str| URL_SAFE_NO_PAD.decode(device[field].as_str()?).ok();
    let (Some(key), Some(signature)) = (decode("publicKey"), decode("signature")) else {
        return false;
    };
    let id: String = digest(&SHA256, &key)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let scopes: Vec<&str> = params["scopes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let platform = text(params, "/client/platform").to_lowercase();
    let family = text(params, "/client/deviceFamily").to_lowercase();
    let common = format!(
        "{id}|{}|{}|{}|{}|{ts}|{token}|{nonce}",
        text(params, "/client/id"),
        text(params, "/client/mode"),
        text(params, "/role"),
        scopes.join(","),
    );
    let verifies = |text: String| {
        let key = UnparsedPublicKey::new(&ED25519, &key);
        key.verify(text.as_bytes(), &signature).is_ok()
    };
    let said = device["id"] == id.as_str() && device["nonce"] == nonce;
    said && device["signedAt"] == ts
        && (verifies(format!("v3|{common}|{platform}|{family}"))
            || verifies(format!("v2|{common}")))
}
