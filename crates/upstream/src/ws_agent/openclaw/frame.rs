//! Frames of the gateway protocol: lenient to read, exact to write.
//!
//! What the gateway sends is read field by field: one that is missing or of another type is
//! as if it were absent, and unknown ones are skipped. Only a frame that is not JSON is an error.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::keys::unnamed;

/// A frame of the gateway.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Frame<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) ok: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub(super) seq: Option<u64>,
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    #[serde(deserialize_with = "lenient")]
    pub(super) error: Option<Failure>,
}

/// Reads a frame; `None` if it is JSON but no frame.
///
/// # Errors
///
/// Says where it stops being JSON.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>, serde_json::Error> {
    match serde_json::from_slice(bytes) {
        Ok(frame) => Ok(Some(frame)),
        Err(_) => serde_json::from_slice::<IgnoredAny>(bytes).map(|_| None),
    }
}

/// Reads what is in a payload, as far as it is there.
pub(super) fn payload<T: DeserializeOwned + Default>(payload: Option<&RawValue>) -> T {
    payload
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

/// A field that counts as absent if it has another type.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let raw = Option::<&RawValue>::deserialize(deserializer)?;
    Ok(raw.and_then(|raw| serde_json::from_str(raw.get()).ok()))
}

/// The `error` of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Failure {
    #[serde(deserialize_with = "lenient")]
    pub(super) code: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) message: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) details: Option<Details>,
    #[serde(deserialize_with = "lenient")]
    pub(super) retryable: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub(super) retry_after_ms: Option<u64>,
}

impl Failure {
    pub(super) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    pub(super) fn detail(&self) -> &str {
        let details = self.details.as_ref();
        details
            .and_then(|details| details.code.as_deref())
            .unwrap_or_default()
    }

    /// For operators: code, detail and message, of bounded length.
    pub(super) fn text(&self) -> String {
        let mut text = self.code().to_owned();
        if !self.detail().is_empty() {
            text.push('/');
            text.push_str(self.detail());
        }
        if let Some(message) = &self.message {
            text.push_str(": ");
            text.push_str(message);
        }
        cut(&mut text, 500);
        text
    }
}

/// Shortens to at most `most` bytes, between characters.
pub(super) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

/// The `details` of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Details {
    #[serde(deserialize_with = "lenient")]
    pub(super) code: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) reason: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) request_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) retry_after_ms: Option<u64>,
}

/// The payload of `connect.challenge`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Challenge {
    #[serde(deserialize_with = "lenient")]
    pub(super) nonce: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) ts: Option<u64>,
}

/// The payload of `hello-ok`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hello {
    #[serde(deserialize_with = "lenient")]
    pub(super) protocol: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) server: Option<Server>,
    #[serde(deserialize_with = "lenient")]
    pub(super) auth: Option<Granted>,
    #[serde(deserialize_with = "lenient")]
    pub(super) policy: Option<Policy>,
    #[serde(deserialize_with = "lenient")]
    pub(super) snapshot: Option<Snapshot>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Snapshot {
    #[serde(deserialize_with = "lenient")]
    pub(super) session_defaults: Option<SessionDefaults>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SessionDefaults {
    #[serde(deserialize_with = "lenient")]
    pub(super) main_session_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Server {
    #[serde(deserialize_with = "lenient")]
    pub(super) version: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) boot_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Granted {
    #[serde(deserialize_with = "lenient")]
    pub(super) scopes: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) device_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Policy {
    #[serde(deserialize_with = "lenient")]
    pub(super) max_payload: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) tick_interval_ms: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) attachments: Option<AttachmentPolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AttachmentPolicy {
    #[serde(deserialize_with = "lenient")]
    pub(super) max_bytes: Option<u64>,
}

/// The payload of `shutdown`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Shutdown {
    #[serde(deserialize_with = "lenient")]
    pub(super) restart_expected_ms: Option<u64>,
}

/// The payload of a `chat` event.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Chat {
    #[serde(deserialize_with = "lenient")]
    pub(super) run_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) session_key: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) state: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) delta_text: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) replace: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub(super) message: Option<Message>,
    #[serde(deserialize_with = "lenient")]
    pub(super) error_message: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) error_kind: Option<String>,
}

/// What stands in the answers of `chat.send` and `agent.wait`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RunState {
    #[serde(deserialize_with = "lenient")]
    pub(super) status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) ended_at: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) terminal_reply: Option<TerminalReply>,
    #[serde(deserialize_with = "lenient")]
    pub(super) error: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) summary: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) stop_reason: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) aborted: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TerminalReply {
    #[serde(deserialize_with = "lenient")]
    pub(super) text: Option<String>,
}

/// The answer of `chat.history`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct History {
    #[serde(deserialize_with = "lenient")]
    pub(super) messages: Option<Vec<Message>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) pending_inputs: Option<PendingInputs>,
    #[serde(deserialize_with = "lenient")]
    pub(super) session_info: Option<SessionInfo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PendingInputs {
    #[serde(deserialize_with = "lenient")]
    pub(super) items: Option<Vec<Message>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SessionInfo {
    #[serde(deserialize_with = "lenient")]
    pub(super) has_active_run: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub(super) active_run_ids: Option<Vec<String>>,
}

/// A message of a transcript or an event. Unlike the others it may be anything, so that one
/// strange message does not hide the rest.
#[derive(Debug, Default)]
pub(super) struct Message {
    fields: MessageFields,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MessageFields {
    #[serde(deserialize_with = "lenient")]
    role: Option<String>,
    #[serde(deserialize_with = "lenient")]
    state: Option<String>,
    #[serde(deserialize_with = "lenient")]
    content: Option<Content>,
    #[serde(deserialize_with = "lenient")]
    idempotency_key: Option<String>,
    #[serde(deserialize_with = "lenient")]
    run_id: Option<String>,
    #[serde(rename = "__openclaw", deserialize_with = "lenient")]
    origin: Option<Origin>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Origin {
    #[serde(deserialize_with = "lenient")]
    idempotency_key: Option<String>,
    #[serde(deserialize_with = "lenient")]
    run_id: Option<String>,
}

/// The text of a message, its parts joined.
#[derive(Debug, Default)]
struct Content(String);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let fields = serde_json::from_str(raw.get()).unwrap_or_default();
        Ok(Self { fields })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Part {
            #[serde(rename = "type", deserialize_with = "lenient")]
            kind: Option<String>,
            #[serde(deserialize_with = "lenient")]
            text: Option<String>,
        }
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if let Ok(text) = serde_json::from_str(raw) {
            return Ok(Self(text));
        }
        let parts: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
        let mut text = String::new();
        for part in parts {
            let part: Part = serde_json::from_str(part.get()).unwrap_or_default();
            if part.kind.as_deref() == Some("text") {
                text.push_str(part.text.as_deref().unwrap_or_default());
            }
        }
        Ok(Self(text))
    }
}

impl Message {
    pub(super) fn role(&self) -> &str {
        self.fields.role.as_deref().unwrap_or_default()
    }

    pub(super) fn text(&self) -> &str {
        let content = self.fields.content.as_ref();
        content
            .map(|content| content.0.as_str())
            .unwrap_or_default()
    }

    /// The run that it is marked with.
    pub(super) fn run_id(&self) -> Option<&str> {
        let origin = self.fields.origin.as_ref();
        let named = origin.and_then(|origin| origin.run_id.as_deref());
        self.fields.run_id.as_deref().or(named)
    }

    /// It waited in the queue of a gateway that was killed, and will never run.
    pub(super) fn is_interrupted(&self) -> bool {
        self.fields.state.as_deref() == Some("interrupted")
    }

    /// The gateway's own prompt, by which it makes the agent go on after a restart: what
    /// follows it still answers the message before. Keys of clients hold a colon, its own
    /// are bare ids.
    pub(super) fn is_continuation(&self) -> bool {
        let origin = self.fields.origin.as_ref();
        let named = origin.and_then(|origin| origin.idempotency_key.as_deref());
        let key = self.fields.idempotency_key.as_deref().or(named);
        let stem = key.and_then(|key| key.strip_suffix(":user"));
        self.role() == "user"
            && self.text().starts_with("[System] ")
            && stem.is_some_and(|stem| !stem.contains(':'))
    }

    /// It is marked as belonging to this run, under whatever name.
    pub(super) fn belongs_to(&self, run: &str) -> bool {
        self.name_of(run).is_some()
    }

    /// The number of the run's name that it is marked with: by run id, or by an idempotency key
    /// made from it.
    pub(super) fn name_of(&self, run: &str) -> Option<u8> {
        let origin = self.fields.origin.as_ref();
        let runs = [
            self.fields.run_id.as_deref(),
            origin.and_then(|origin| origin.run_id.as_deref()),
        ];
        let keys = [
            self.fields.idempotency_key.as_deref(),
            origin.and_then(|origin| origin.idempotency_key.as_deref()),
        ];
        let named = |text: &str, ends: &[&str]| {
            let (number, rest) = unnamed(text, run)?;
            ends.contains(&rest).then_some(number)
        };
        let by_run = runs.into_iter().flatten().find_map(|it| named(it, &[""]));
        by_run.or_else(|| {
            let ends = ["", ":user", ":assistant"];
            keys.into_iter().flatten().find_map(|it| named(it, &ends))
        })
    }
}

/// A request.
#[derive(Debug, Serialize)]
struct Request<'a, P> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    method: &'static str,
    params: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

/// Writes a request frame.
pub(super) fn request<P: Serialize>(
    id: u64,
    method: &'static str,
    params: &P,
    traceparent: Option<&str>,
) -> String {
    let request = Request {
        kind: "req",
        id: id.to_string(),
        method,
        params,
        traceparent,
    };
    // Parameters are structs of strings, numbers and lists, which always serialise.
    serde_json::to_string(&request).unwrap_or_default()
}

/// Parameters of `chat.send`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChatSend<'a> {
    pub(super) session_key: &'a str,
    pub(super) message: &'a str,
    pub(super) idempotency_key: &'a str,
    pub(super) queue_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attachments: Option<[Attachment<'a>; 1]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attachment<'a> {
    pub(super) mime_type: &'a str,
    pub(super) file_name: &'a str,
    pub(super) content: String,
}

/// Parameters of `agent.wait`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentWait<'a> {
    pub(super) run_id: &'a str,
    pub(super) timeout_ms: u64,
}

/// Parameters of `chat.history`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChatHistory<'a> {
    pub(super) session_key: &'a str,
    pub(super) limit: u32,
}
