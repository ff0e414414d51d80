//! Plays a script against a session. One line is one step; all that the session says
//! must be consumed by the lines behind the one that caused it, in order.
//!
//! ```text
//! as alice               connects with the token "user=alice" and expects the plain reply
//! > {…}                  a frame of the client; lines "+ {…}" add commands to it
//! < {…}                  a reply or push; @me stands for the client's id
//! close 3501             the session ends
//! join c / leave c       a join or a leave is published; "left c": left without a word
//! hold … ask publish … answer   the next request is kept, and answered later
//! wait 25s / step 25s    both clocks go on, timers firing / only the wall clock jumps
//! stream c 3 / lose c    somebody publishes three times / the stream is made anew
//! asked c positioned …   what the last subscribing asked of the bus
//! published c 1 {…}      what was published last, and by whom
//! api … / gap c          an operation
//! ```
//!
//! Tokens are texts such as `user=alice exp=60 channels=a,b`; `expired`, `invalid`,
//! `revoked` and `unavailable` are refused as they say.

mod bus;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use self::bus::{Bus, Stream};
use super::super::{
    ClientId, Context, Now, Operation, Output, Request, ServerSubscribe, Session, Settings,
    Transport,
};
use crate::claims::{ConnectionClaims, Overrides};
use crate::code::{Disconnect, UnsubscribeCode};
use crate::codec::{Encoding, encode_reply};
use crate::dialect::Pulse;
use crate::message::{Publication, StreamPosition};
use crate::settings::{ChannelSettings, ClientSettings, Namespaces};

/// Plays a script with the usual settings.
#[track_caller]
pub(super) fn play(script: &str) -> Play {
    play_with(|_| (), script)
}

/// Plays a script with settings of its own.
#[track_caller]
pub(super) fn play_with(change: impl FnOnce(&mut Settings), script: &str) -> Play {
    let mut settings = settings();
    change(&mut settings);
    let mut play = Play::new(settings, Transport::WebSocket, None);
    play.run(script);
    play
}

/// A session and what surrounds it.
pub(super) struct Play {
    pub(super) session: Session,
    pub(super) settings: Settings,
    pub(super) now: Now,
    bus: Bus,
    holds: bool,
    held: Option<Request>,
    said: VecDeque<Said>,
}

/// What a session has said and no line has consumed.
#[derive(Debug, PartialEq)]
enum Said {
    Reply(Value),
    Ask(&'static str),
    Join(String, Value),
    Leave(String, bool),
    Close(u16),
}

impl Play {
    pub(super) fn new(
        settings: Settings,
        transport: Transport,
        verified: Option<ConnectionClaims>,
    ) -> Self {
        let now = Now {
            mono_ms: 5_000,
            unix_ms: 1_700_000_000_000,
        };
        let cx = Context {
            now,
            settings: &settings,
        };
        let session = Session::new(cx, ME, transport, Encoding::Json, verified);
        Self {
            session,
            settings,
            now,
            bus: Bus::default(),
            holds: false,
            held: None,
            said: VecDeque::new(),
        }
    }

    /// Plays on.
    #[track_caller]
    pub(super) fn run(&mut self, script: &str) {
        let mut frame: Option<String> = None;
        for line in script.lines().map(str::trim) {
            if let Some(more) = line.strip_prefix("+ ") {
                let frame = frame.as_mut().expect("a frame before its continuation");
                frame.push('\n');
                frame.push_str(more);
                continue;
            }
            if let Some(frame) = frame.take() {
                self.frame(frame.as_bytes());
            }
            match line.strip_prefix('>') {
                Some(first) => {
                    self.quiet(line);
                    frame = Some(first.trim().to_owned());
                }
                None if line.is_empty() || line.starts_with('#') => {}
                None => self.line(line),
            }
        }
        if let Some(frame) = frame {
            self.frame(frame.as_bytes());
        }
        self.quiet("end of script");
    }

    /// Gives the session a frame.
    pub(super) fn frame(&mut self, frame: &[u8]) {
        self.step(|session, cx, out| session.frame(cx, frame, out));
    }

    /// The next thing said is this reply.
    #[track_caller]
    pub(super) fn expect_reply(&mut self, wanted: &Value) {
        assert_eq!(self.said.pop_front(), Some(Said::Reply(wanted.clone())));
    }

    /// Whether a ping is the next thing said; consumes it.
    pub(super) fn take_ping(&mut self) -> bool {
        let is_ping = self.said.front() == Some(&Said::Reply(json!({})));
        if is_ping {
            self.said.pop_front();
        }
        is_ping
    }

    /// Lets both clocks go on; timers fire when they are due.
    pub(super) fn wait_ms(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        loop {
            let expiry_in = match self.session.expiry_s() {
                u64::MAX => u64::MAX,
                at_s => (at_s * 1_000).saturating_sub(self.now.unix_ms),
            };
            let due_ms = self
                .session
                .deadline_ms()
                .min(self.now.mono_ms.saturating_add(expiry_in));
            let is_over = due_ms > end_ms || self.said.contains_close();
            let next_ms = if is_over {
                end_ms
            } else {
                due_ms.max(self.now.mono_ms)
            };
            self.now.unix_ms += next_ms - self.now.mono_ms;
            self.now.mono_ms = next_ms;
            if is_over {
                return;
            }
            self.step(Session::time);
            // Otherwise it would ring for ever, here and in its owner.
            assert!(
                self.said.contains_close() || self.session.deadline_ms() > self.now.mono_ms,
                "the alarm has rung and is not set anew"
            );
        }
    }

    #[track_caller]
    fn line(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (verb, &words[..]) {
            ("<", _) => self.consume(line, Said::Reply(value(rest))),
            ("close", [code]) => self.consume(line, Said::Close(code.parse().unwrap())),
            ("ask", [kind]) => {
                let Some(Said::Ask(asked)) = self.said.pop_front() else {
                    panic!("{line}: nothing was asked");
                };
                assert_eq!(asked, *kind);
            }
            ("join", [channel, info]) => {
                self.consume(line, Said::Join((*channel).to_owned(), value(info)));
            }
            ("leave", [channel]) => self.consume(line, Said::Leave((*channel).to_owned(), true)),
            ("left", [channel]) => self.consume(line, Said::Leave((*channel).to_owned(), false)),
            ("asked", [channel, flags @ ..]) => self.bus.check_ask(channel, flags),
            ("published", [channel, data, info]) => {
                let (known, sent, by) = self.bus.published.last().expect("a publication");
                assert_eq!(known, channel);
                assert_eq!(sent, data);
                assert_eq!(*by, value(info));
            }
            _ => {
                self.quiet(line);
                self.action(line, verb, &words);
            }
        }
    }

    #[track_caller]
    fn action(&mut self, line: &str, verb: &str, words: &[&str]) {
        match (verb, words) {
            ("as", [user]) => {
                let user = if *user == "anonymous" { "" } else { user };
                let command = json!({"id": 1, "connect": {"token": format!("user={user}")}});
                self.frame(command.to_string().as_bytes());
                self.expect_reply(&welcome());
            }
            ("hold", []) => self.holds = true,
            ("answer", []) => {
                self.holds = false;
                let request = self.held.take().expect("a request is held");
                let response = self.bus.answer(request, self.now);
                self.step(|session, cx, out| session.resume(cx, response, out));
            }
            ("wait", [span]) => self.wait_ms(millis(span)),
            ("step", [span]) => {
                self.now.unix_ms += millis(span);
            }
            ("tick", []) => self.step(Session::time),
            ("stream", [channel, count]) => {
                for _ in 0..count.parse().unwrap() {
                    self.bus.stream(channel).publish(Publication {
                        data: "0".into(),
                        ..Publication::default()
                    });
                }
            }
            ("forget", [channel]) => self.bus.stream(channel).publications.clear(),
            ("lose", [channel]) => {
                *self.bus.stream(channel) = Stream {
                    epoch: "other".to_owned(),
                    ..Stream::default()
                };
            }
            ("gap", [channel]) => {
                self.operate(Operation::InsufficientState {
                    channel: (*channel).into(),
                });
            }
            ("api", [method, arguments @ ..]) => {
                let operation = operation(method, arguments, self.now);
                self.operate(operation);
            }
            _ => panic!("no such line: {line}"),
        }
    }

    /// Answers the request that is held, and holds the next.
    pub(super) fn answer_and_hold(&mut self) {
        let request = self.held.take().expect("a request is held");
        let response = self.bus.answer(request, self.now);
        self.step(|session, cx, out| session.resume(cx, response, out));
    }

    pub(super) fn operate(&mut self, operation: Operation) {
        self.step(|session, cx, out| session.operate(cx, operation, out));
    }

    /// Calls the session and carries out what it says, until it asks nothing more.
    fn step(&mut self, call: impl FnOnce(&mut Session, Context<'_>, &mut Vec<Output>)) {
        let cx = Context {
            now: self.now,
            settings: &self.settings,
        };
        let mut out = Vec::new();
        call(&mut self.session, cx, &mut out);
        while let Some(request) = take_request(&mut self.said, out) {
            out = Vec::new();
            if self.holds {
                self.said.push_back(Said::Ask(kind(&request)));
                self.held = Some(request);
                return;
            }
            let response = self.bus.answer(request, self.now);
            self.session.resume(cx, response, &mut out);
        }
    }

    #[track_caller]
    fn consume(&mut self, line: &str, wanted: Said) {
        let said = self.said.pop_front();
        assert_eq!(said.as_ref(), Some(&wanted), "{line}");
    }

    #[track_caller]
    fn quiet(&self, line: &str) {
        assert!(
            self.said.is_empty(),
            "before {line}: the session said {:?}",
            self.said
        );
    }
}

/// Settings with a namespace for each rule.
pub(super) fn settings() -> Settings {
    let channels = json!({
        "without_namespace": {"allow_subscribe_for_client": true, "allow_wildcard_subscribe": true},
        "namespaces": [
            {"name": "closed"},
            {"name": "open", "allow_subscribe_for_client": true,
                "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true,
                "allow_publish_for_anonymous": true},
            {"name": "clients", "allow_subscribe_for_client": true,
                "allow_publish_for_client": true},
            {"name": "users", "allow_user_limited_channels": true,
                "allow_subscribe_for_client": true},
            {"name": "news", "allow_subscribe_for_client": true, "history_size": 10,
                "history_ttl": "1m", "allow_recovery": true, "allow_history_for_client": true},
            {"name": "kept", "allow_subscribe_for_client": true, "history_size": 10,
                "history_ttl": "1m", "allow_history_for_subscriber": true},
            {"name": "placed", "allow_subscribe_for_client": true, "history_size": 10,
                "history_ttl": "1m", "allow_positioning": true},
            {"name": "forced", "allow_subscribe_for_client": true, "history_size": 10,
                "history_ttl": "1m", "force_recovery": true},
            {"name": "cache", "allow_subscribe_for_client": true, "history_size": 10,
                "history_ttl": "1m", "force_recovery": true, "force_recovery_mode": "cache",
                "auto_cache_recover": true},
            {"name": "chat", "allow_subscribe_for_client": true, "presence": true,
                "join_leave": true, "allow_presence_for_client": true,
                "allow_publish_for_subscriber": true},
            {"name": "room", "allow_subscribe_for_client": true, "presence": true,
                "join_leave": true, "force_push_join_leave": true,
                "allow_presence_for_subscriber": true},
            {"name": "json", "allow_publish_for_client": true,
                "publication_data_format": "json"},
            {"name": "object", "allow_publish_for_client": true,
                "publication_data_format": "json_object"},
            {"name": "binary", "allow_publish_for_client": true,
                "publication_data_format": "binary"},
            {"name": "letters", "allow_subscribe_for_client": true, "channel_regex": "^[a-z]+$"},
            {"name": "wild", "allow_subscribe_for_client": true, "presence": true,
                "join_leave": true, "history_size": 10, "history_ttl": "1m",
                "force_recovery": true, "allow_wildcard_subscribe": true,
                "allow_publish_for_client": true},
            {"name": "ticks", "pattern": "ticks.*.last", "allow_subscribe_for_client": true,
                "allow_wildcard_subscribe": true},
        ],
    });
    let channels: ChannelSettings = serde_json::from_value(channels).unwrap();
    Settings {
        client: ClientSettings::default(),
        namespaces: Namespaces::new(&channels).unwrap(),
        rpc_ping: true,
        calls: crate::calls::Calls::default(),
        backlog_max: 4_096,
        stratix_pulse: Pulse {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
        },
        live_subjects: crate::subjects::Subjects::new(&["xy.md.>", "news.*"]).unwrap(),
        version: "1.0.0",
        node: "node".to_owned(),
    }
}

/// The reply to a connect command with nothing special about it.
pub(super) fn welcome() -> Value {
    value(r#"{"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}"#)
}

/// The client's id in all scripts.
pub(super) const ME: ClientId = ClientId(7);

trait Ended {
    fn contains_close(&self) -> bool;
}

impl Ended for VecDeque<Said> {
    fn contains_close(&self) -> bool {
        self.iter().any(|said| matches!(said, Said::Close(_)))
    }
}

fn take_request(said: &mut VecDeque<Said>, out: Vec<Output>) -> Option<Request> {
    let mut request = None;
    for output in out {
        assert!(request.is_none(), "a request is the last output of a call");
        match output {
            Output::Reply(reply) => {
                let mut text = Vec::new();
                encode_reply(Encoding::Json, &reply, &mut text).unwrap();
                said.push_back(Said::Reply(serde_json::from_slice(&text).unwrap()));
            }
            Output::Request(asked) => request = Some(asked),
            Output::Ping => said.push_back(Said::Ask("ping")),
            Output::Begun => said.push_back(Said::Ask("begun")),
            Output::Submit { .. } => said.push_back(Said::Ask("submit")),
            Output::Join { channel, info } => {
                let info = serde_json::to_value(info.as_ref()).unwrap();
                said.push_back(Said::Join(channel.to_string(), info));
            }
            Output::Leave(sub) => {
                said.push_back(Said::Leave(sub.channel.to_string(), sub.announces_leave()));
            }
            Output::Close(disconnect) => said.push_back(Said::Close(disconnect.code)),
        }
    }
    request
}

fn kind(request: &Request) -> &'static str {
    match request {
        Request::Authenticate { .. } => "authenticate",
        Request::AuthorizeSubscription { .. } => "authorize",
        Request::Register { .. } => "register",
        Request::Subscribe(_) => "subscribe",
        Request::Publish { .. } => "publish",
        Request::Call { .. } => "call",
        Request::CallService { .. } => "call-service",
        Request::History(_) => "history",
        Request::Presence { .. } => "presence",
        Request::PresenceStats { .. } => "presence-stats",
    }
}

#[track_caller]
fn value(text: &str) -> Value {
    let text = text.replace("@me", &ME.to_string());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Reads `90s`, `1500ms` or `1h`.
#[track_caller]
fn millis(span: &str) -> u64 {
    let number = span.trim_end_matches(char::is_alphabetic);
    let unit_ms = match &span[number.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        unit => panic!("no such unit: {unit}"),
    };
    number.parse::<u64>().unwrap() * unit_ms
}

#[track_caller]
fn operation(method: &str, arguments: &[&str], now: Now) -> Operation {
    let fields = fields(&arguments.join(" "));
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let moment = |name: &str| fields.get(name).map(|ahead| moment(ahead, now));
    match (method, arguments) {
        ("subscribe", [channel, ..]) => {
            let recover_since = fields.get("since").map(|since| {
                let (epoch, offset) = since.split_once('/').unwrap();
                StreamPosition {
                    offset: offset.parse().unwrap(),
                    epoch: epoch.to_owned(),
                }
            });
            Operation::Subscribe(Box::new(ServerSubscribe {
                channel: (*channel).to_owned(),
                info: field("info").into(),
                data: field("data").into(),
                overrides: Overrides::default(),
                recover_since,
                expires_at: moment("exp").unwrap_or(0),
            }))
        }
        ("unsubscribe", [channel]) => Operation::Unsubscribe {
            channel: (*channel).into(),
            code: UnsubscribeCode::SERVER_UNSUBSCRIBE,
        },
        ("refresh", _) => Operation::Refresh {
            expired: fields.contains_key("expired"),
            expires_at: moment("exp"),
            info: fields.get("info").map(|info| info.clone().into()),
        },
        ("disconnect", []) => Operation::Disconnect(Disconnect::FORCE_DISCONNECT),
        _ => panic!("no such operation: {method}"),
    }
}

/// Reads `key=value` words.
fn fields(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// So many seconds ahead, or `never`.
fn moment(ahead: &str, now: Now) -> u64 {
    match ahead {
        "never" => 0,
        ahead => now.unix_s().saturating_add_signed(ahead.parse().unwrap()),
    }
}
