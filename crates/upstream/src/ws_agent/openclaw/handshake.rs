//! From the challenge to the greeting, and every way not to get there.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tracing::info;

use super::frame::{self, Failure, Frame, Hello};
use super::{Limits, Peer, Phase, Purpose, millis, retry_after};
use crate::ws_agent::peer::{DeviceToken, HoldReason, Now, Output};
use crate::ws_agent::{AgentAuth, Target};

const CLIENT_ID: &str = "gateway-client";
const CLIENT_MODE: &str = "backend";
const PRODUCT: &str = "tidegate";
const ROLE: &str = "operator";
const SCOPES: [&str; 2] = ["operator.read", "operator.write"];
const NEEDED_SCOPE: &str = "operator.write";

/// Until an operator has approved the device we ask again so often.
const PAIRING_POLL: Duration = Duration::from_secs(15);
/// After a refusal that only an operator can lift.
const REFUSED: Duration = Duration::from_secs(60);
/// The gateway's lock-out after too many failures.
const RATE_LIMITED: Duration = Duration::from_secs(300);
/// Before a second try in another way.
const OTHER_WAY: Duration = Duration::from_millis(250);

/// Longest text for operators, in bytes: most of it is what the gateway says.
const HOLD_TEXT_MAX: usize = 1_000;

/// Longest device token that is kept, in bytes.
const DEVICE_TOKEN_MAX: usize = 4_096;

/// Which text a device signs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Signature {
    /// With platform and device family.
    #[default]
    V3,
    /// Without.
    V2,
}

/// How we present ourselves to this gateway, learnt from its refusals.
#[derive(Debug, Default)]
pub(super) struct Standing {
    signature: Signature,
    /// This signature was accepted once.
    signature_known: bool,
    /// Show the stored device token instead of the secret, once.
    device_token: bool,
    /// That was tried.
    device_token_tried: bool,
    /// A refusal has already told how long to stay away.
    held: bool,
}

/// What a device signs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) device_id: &'a str,
    pub(super) client_id: &'a str,
    pub(super) client_mode: &'a str,
    pub(super) role: &'a str,
    pub(super) scopes: &'a [&'a str],
    pub(super) signed_at_ms: u64,
    pub(super) token: &'a str,
    pub(super) nonce: &'a str,
    pub(super) platform: &'a str,
    pub(super) device_family: &'a str,
}

impl Signed<'_> {
    pub(super) fn text(&self, signature: Signature) -> String {
        let version = match signature {
            Signature::V3 => "v3",
            Signature::V2 => "v2",
        };
        let signed_at = self.signed_at_ms.to_string();
        let scopes = self.scopes.join(",");
        let platform = self.platform.to_lowercase();
        let family = self.device_family.to_lowercase();
        let mut parts = vec![
            version,
            self.device_id,
            self.client_id,
            self.client_mode,
            self.role,
            &scopes,
            &signed_at,
            self.token,
            self.nonce,
        ];
        if signature == Signature::V3 {
            parts.extend([platform.as_str(), family.as_str()]);
        }
        parts.join("|")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connect<'a> {
    min_protocol: u32,
    max_protocol: u32,
    client: Client<'a>,
    role: &'a str,
    scopes: [&'a str; 2],
    caps: [&'a str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Auth<'a>>,
    device: Device<'a>,
    user_agent: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client<'a> {
    id: &'a str,
    display_name: &'a str,
    version: &'a str,
    platform: &'a str,
    mode: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Auth<'a> {
    Token(&'a str),
    Password(&'a str),
    DeviceToken(&'a str),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device<'a> {
    id: &'a str,
    public_key: &'a str,
    signature: &'a str,
    signed_at: u64,
    nonce: &'a str,
}

impl Peer {
    pub(super) fn challenged(&mut self, now: Now, frame: &Frame<'_>, out: &mut Vec<Output>) {
        let Phase::Challenge { until_ms } = self.phase else {
            return;
        };
        self.standing.held = false;
        let challenge: frame::Challenge = frame::payload(frame.payload);
        let nonce = challenge.nonce.unwrap_or_default();
        let signed_at = challenge.ts.unwrap_or(now.unix_ms);
        let target = self.target.clone();
        let stored = self.identity.device_token(&target.url, ROLE);
        let shown = match (&target.auth, &stored) {
            (_, Some(token)) if self.standing.device_token => Some(Auth::DeviceToken(token)),
            (AgentAuth::Token(secret), _) => Some(Auth::Token(secret.reveal())),
            (AgentAuth::Password(secret), _) => Some(Auth::Password(secret.reveal())),
            (AgentAuth::None, Some(token)) => Some(Auth::DeviceToken(token)),
            (AgentAuth::None, None) => None,
        };
        let identity = self.identity.clone();
        let signed = Signed {
            device_id: identity.device_id(),
            client_id: CLIENT_ID,
            client_mode: CLIENT_MODE,
            role: ROLE,
            scopes: &SCOPES,
            signed_at_ms: signed_at,
            token: match shown {
                Some(Auth::Token(token) | Auth::DeviceToken(token)) => token,
                Some(Auth::Password(_)) | None => "",
            },
            nonce: &nonce,
            platform: std::env::consts::OS,
            device_family: "",
        };
        let signature = identity.sign(&signed.text(self.standing.signature));
        let version = env!("CARGO_PKG_VERSION");
        let connect = Connect {
            min_protocol: 3,
            max_protocol: 4,
            client: Client {
                id: CLIENT_ID,
                display_name: PRODUCT,
                version,
                platform: std::env::consts::OS,
                mode: CLIENT_MODE,
            },
            role: ROLE,
            scopes: SCOPES,
            caps: [],
            auth: shown,
            device: Device {
                id: identity.device_id(),
                public_key: identity.public_key(),
                signature: &signature,
                signed_at,
                nonce: &nonce,
            },
            user_agent: &format!("{PRODUCT}/{version}"),
        };
        self.phase = Phase::Connect { until_ms };
        self.call(until_ms, ("connect", &connect), Purpose::Connect, out);
    }

    pub(super) fn connected(
        &mut self,
        now: Now,
        payload: Option<&RawValue>,
        failure: Option<Failure>,
        out: &mut Vec<Output>,
    ) {
        if !matches!(self.phase, Phase::Connect { .. }) {
            return;
        }
        match failure {
            Some(failure) => self.refused(&failure, out),
            None => self.greeted_with(now, &frame::payload(payload), out),
        }
    }

    fn greeted_with(&mut self, now: Now, hello: &Hello, out: &mut Vec<Output>) {
        let granted = hello.auth.as_ref();
        // Whoever names no scopes is older than them.
        if let Some(scopes) = granted.and_then(|granted| granted.scopes.as_deref())
            && !scopes.iter().any(|scope| scope == NEEDED_SCOPE)
        {
            let text = format!(
                "the gateway grants [{}] but not {NEEDED_SCOPE}: it knows this connection \
                 neither as local nor by an approved device; check the secret, and approve \
                 device {} with `openclaw devices list` and `openclaw devices approve`",
                scopes.join(", "),
                self.identity.device_id(),
            );
            self.hold(REFUSED, HoldReason::Scopes, text, out);
            self.leave(1000, "the scopes granted are not enough", out);
            return;
        }
        self.limits = limits(hello);
        self.standing.signature_known = true;
        self.standing.device_token = false;
        self.standing.device_token_tried = false;
        if let Some(granted) = granted
            && let Some(token) = &granted.device_token
            && token.len() <= DEVICE_TOKEN_MAX
        {
            out.push(Output::StoreDevice(DeviceToken {
                url: self.target.url.clone(),
                role: ROLE,
                token: token.clone(),
                scopes: granted.scopes.clone().unwrap_or_default(),
            }));
        }
        let snapshot = hello.snapshot.as_ref();
        self.main_session = snapshot
            .and_then(|snapshot| snapshot.session_defaults.as_ref())
            .and_then(|defaults| defaults.main_session_key.as_deref())
            .map(Into::into);
        let server = hello.server.as_ref();
        self.boot = server
            .and_then(|server| server.boot_id.as_deref())
            .map(Into::into);
        let version = server.and_then(|server| server.version.as_deref());
        info!(
            url = %self.target.url,
            version = version.unwrap_or("unknown"),
            protocol = hello.protocol.unwrap_or_default(),
            "OpenClaw gateway greets"
        );
        self.phase = Phase::Open;
        out.push(Output::Ready);
        self.catch_up(now, out);
    }

    fn refused(&mut self, failure: &Failure, out: &mut Vec<Output>) {
        let what = failure.text();
        let busy = failure.code() == "UNAVAILABLE" || failure.retryable == Some(true);
        match failure.detail() {
            "PAIRING_REQUIRED" => self.hold_for_pairing(failure, out),
            "AUTH_RATE_LIMITED" => {
                let wait = retry_after(failure).unwrap_or_default().max(RATE_LIMITED);
                self.hold(wait, HoldReason::RateLimited, what, out);
            }
            "AUTH_TOKEN_MISMATCH" | "AUTH_PASSWORD_MISMATCH" if self.may_show_device_token() => {
                self.standing.device_token = true;
                self.standing.device_token_tried = true;
                self.hold(OTHER_WAY, HoldReason::Retry, what, out);
            }
            "DEVICE_AUTH_SIGNATURE_INVALID"
                if self.standing.signature == Signature::V3 && !self.standing.signature_known =>
            {
                self.standing.signature = Signature::V2;
                self.hold(OTHER_WAY, HoldReason::Retry, what, out);
            }
            "PROTOCOL_MISMATCH" => {
                let text = format!("{what}; we speak protocol 3 to 4");
                self.hold(REFUSED, HoldReason::Protocol, text, out);
            }
            _ if busy => {
                let wait = retry_after(failure).unwrap_or(Duration::from_secs(1));
                let wait = wait.clamp(Duration::from_millis(100), REFUSED);
                self.hold(wait, HoldReason::Busy, what, out);
            }
            _ if failure.code() == "NOT_PAIRED" => self.hold_for_pairing(failure, out),
            detail => {
                self.standing.signature = Signature::V3;
                self.standing.signature_known = false;
                self.standing.device_token = false;
                let auth = detail.starts_with("AUTH_") || detail.starts_with("DEVICE_AUTH_");
                let reason = if auth || failure.code().starts_with("AUTH_") {
                    HoldReason::Credentials
                } else {
                    HoldReason::Protocol
                };
                self.hold(REFUSED, reason, what, out);
            }
        }
        self.leave(1000, "connect was refused", out);
    }

    fn hold_for_pairing(&mut self, failure: &Failure, out: &mut Vec<Output>) {
        let details = failure.details.as_ref();
        let request = details.and_then(|details| details.request_id.as_deref());
        let reason = details.and_then(|details| details.reason.as_deref());
        let device = self.identity.device_id();
        let what = failure.text();
        let reason = reason.unwrap_or("not-paired");
        let text = match request {
            Some(request) => format!(
                "{what} ({reason}); on the gateway's host run `openclaw devices approve \
                 {request}` to approve device {device}"
            ),
            None => format!(
                "{what} ({reason}); on the gateway's host run `openclaw devices list` and \
                 approve device {device}"
            ),
        };
        self.hold(PAIRING_POLL, HoldReason::Pairing, text, out);
    }

    /// The stored token may be shown once, where nobody on the way can read it.
    fn may_show_device_token(&self) -> bool {
        !self.standing.device_token_tried
            && !self.standing.device_token
            && trusted_path(&self.target)
            && self.identity.device_token(&self.target.url, ROLE).is_some()
    }

    fn hold(
        &mut self,
        wait: Duration,
        reason: HoldReason,
        mut text: String,
        out: &mut Vec<Output>,
    ) {
        self.standing.held = true;
        frame::cut(&mut text, HOLD_TEXT_MAX);
        out.push(Output::Hold { wait, reason, text });
    }

    /// Some refusals are told by the close code only.
    pub(super) fn refused_by_close(
        &mut self,
        code: Option<u16>,
        reason: &str,
        out: &mut Vec<Output>,
    ) {
        let shaking_hands = matches!(self.phase, Phase::Challenge { .. } | Phase::Connect { .. });
        if self.standing.held {
            self.standing.held = false;
            return;
        }
        let mut text = format!("the gateway closed the connection: {reason}");
        frame::cut(&mut text, 500);
        match code {
            Some(1013) => self.hold(Duration::from_secs(5), HoldReason::Busy, text, out),
            Some(1002 | 1008) if shaking_hands => {
                self.hold(REFUSED, HoldReason::Protocol, text, out);
            }
            _ => {}
        }
        self.standing.held = false;
    }
}

fn limits(hello: &Hello) -> Limits {
    let usual = Limits::default();
    let Some(policy) = &hello.policy else {
        return usual;
    };
    let attachments = policy.attachments.as_ref();
    Limits {
        payload: policy.max_payload.unwrap_or(usual.payload),
        attachment: attachments
            .and_then(|attachments| attachments.max_bytes)
            .unwrap_or(usual.attachment),
        // A nonsensical interval must neither end connections at once nor never.
        tick_ms: policy
            .tick_interval_ms
            .unwrap_or(usual.tick_ms)
            .clamp(1_000, millis(RATE_LIMITED)),
    }
}

/// The connection stays on this host, or its certificate is pinned.
fn trusted_path(target: &Target) -> bool {
    let Some((scheme, rest)) = target.url.split_once("://") else {
        return false;
    };
    if scheme == "wss" && target.tls_fingerprint.is_some() {
        return true;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}
