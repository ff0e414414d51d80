//! A client's session under any sequence of frames, answers, operations and time.
//!
//! The input is a program: each line starts with a letter that says what happens, see
//! [`Machine::line`]. Whatever it does, the session keeps what its documentation promises.

use protocol::channel::Channel;
use protocol::claims::{ConnectionClaims, ServerSubscription, SubscriptionClaims, TokenError};
use protocol::code::{Disconnect, ErrorCode, UnsubscribeCode};
use protocol::codec::{Encoding, commands};
use protocol::message::Publication;
use protocol::message::{HistoryResult, PresenceResult, PresenceStatsResult, StreamPosition};
use protocol::session::{
    ClientId, Context, Now, Operation, Output, Published, Request, Response, ServerSubscribe,
    Session, Settings, Subscribed, Transport, Via,
};
use protocol::settings::{ChannelOptions, ChannelSettings, ClientSettings, Namespace, Namespaces};

/// Lines of a program; the first byte of the input chooses the settings.
pub fn operations(data: &[u8]) {
    let Some((&choice, program)) = data.split_first() else {
        return;
    };
    let mut machine = Machine::new(choice);
    for line in program.split(|byte| *byte == b'\n') {
        machine.line(line);
    }
    machine.finish();
}

/// A session and what its owner knows about it.
struct Machine {
    session: Session,
    settings: Settings,
    now: Now,
    /// The request under way.
    asked: Option<Request>,
    is_closed: bool,
    /// The last id of a command made up here.
    id: u32,
    /// Ids of commands that came and were not answered.
    ids: Vec<u32>,
    /// Channels whose join was said and whose leave was not.
    joined: Vec<Channel>,
    /// Messages for the agent that were not answered.
    submitted: Vec<Via>,
}

impl Machine {
    fn new(choice: u8) -> Self {
        let settings = settings(choice);
        let now = Now {
            mono_ms: 1_000,
            unix_ms: 1_700_000_000_000,
        };
        let transport = if choice & 1 == 0 {
            Transport::WebSocket
        } else {
            Transport::Emulated { session: 1 }
        };
        let cx = Context {
            now,
            settings: &settings,
        };
        let session = Session::new(cx, ClientId(7), transport, Encoding::Json, None);
        Self {
            session,
            settings,
            now,
            asked: None,
            is_closed: false,
            id: 0,
            ids: Vec::new(),
            joined: Vec::new(),
            submitted: Vec::new(),
        }
    }

    /// `f…` a frame, in which `|` separates commands; `a<n>` the request's answer, of which
    /// `n` chooses; `t<n>` time passes, timers firing at its end; `w<n>` the wall clock jumps;
    /// `o<n>…` an operation on the channel that follows; any other letter a command that is
    /// well-formed, on a channel that `n` chooses.
    fn line(&mut self, line: &[u8]) {
        let Some((&verb, rest)) = line.split_first() else {
            return;
        };
        let (&number, tail) = rest.split_first().unwrap_or((&0, &[]));
        match verb {
            b'f' => {
                let frame: Vec<u8> = rest
                    .iter()
                    .map(|&byte| if byte == b'|' { b'\n' } else { byte })
                    .collect();
                self.frame(&frame);
            }
            b'a' => {
                if let Some(request) = self.asked.take() {
                    let response = answer(request, number, self.now);
                    self.step(|session, cx, out| session.resume(cx, response, out));
                } else if let Some(via) = self.submitted.pop() {
                    let told = match number % 2 {
                        0 => Ok(b"{}".to_vec().into()),
                        _ => Err(ErrorCode::LimitExceeded),
                    };
                    self.step(|session, _, out| session.told(via, told, out));
                }
            }
            b't' => {
                let passed_ms = u64::from(number) * 500;
                self.now.mono_ms += passed_ms;
                self.now.unix_ms += passed_ms;
                self.step(Session::time);
                if !self.is_closed {
                    assert!(
                        self.session.deadline_ms() > self.now.mono_ms,
                        "the alarm is ahead"
                    );
                    assert!(
                        self.session.expiry_s() > self.now.unix_s(),
                        "the expiry is ahead"
                    );
                }
            }
            b'w' => {
                let shift_ms = (i64::from(number) - 64) * 1_000;
                self.now.unix_ms = self.now.unix_ms.saturating_add_signed(shift_ms);
            }
            b'o' => {
                let operation = operation(number, &String::from_utf8_lossy(tail), self.now);
                self.step(|session, cx, out| session.operate(cx, operation, out));
            }
            _ => {
                self.id += 1;
                self.frame(command(verb, number, self.id).as_bytes());
            }
        }
    }

    fn frame(&mut self, frame: &[u8]) {
        let read = commands(Encoding::Json, frame).map_while(Result::ok);
        self.ids
            .extend(read.map(|command| command.id).filter(|&id| id > 0));
        self.step(|session, cx, out| session.frame(cx, frame, out));
    }

    fn step(&mut self, call: impl FnOnce(&mut Session, Context<'_>, &mut Vec<Output>)) {
        let cx = Context {
            now: self.now,
            settings: &self.settings,
        };
        let mut out = Vec::new();
        call(&mut self.session, cx, &mut out);
        if self.is_closed {
            assert!(out.is_empty(), "nothing is said after the close");
        }
        for output in out {
            assert!(!self.is_closed, "the close is the last output");
            match output {
                Output::Request(request) => {
                    let known = self.asked.replace(request);
                    assert!(known.is_none(), "one request at a time");
                }
                Output::Reply(reply) if reply.id != 0 => {
                    let known = self.ids.iter().position(|id| *id == reply.id);
                    let index = known.expect("a reply carries the id of a command");
                    self.ids.remove(index);
                }
                Output::Reply(reply) => assert!(
                    reply.push.is_some() || reply == protocol::message::Reply::default(),
                    "without id it is a push or a ping"
                ),
                Output::Ping => panic!("only Stratix sessions ping by frames"),
                Output::Begun => panic!("only Stratix sessions begin without a command"),
                Output::Submit { via, .. } => self.submitted.push(via),
                Output::Join { channel, .. } => self.joined.push(channel),
                Output::Leave(sub) => {
                    self.left(&sub.channel, sub.announces_leave());
                }
                Output::Close(_) => {
                    self.is_closed = true;
                    self.asked = None;
                }
            }
        }
        let subs = self.session.subscriptions();
        for (index, sub) in subs.iter().enumerate() {
            assert!(
                !subs[..index]
                    .iter()
                    .any(|other| other.channel == sub.channel)
            );
        }
        if self.is_closed {
            assert!(!self.session.is_connected());
        } else {
            assert!(subs.len() <= self.settings.client.channel_limit);
        }
    }

    /// A leave is published exactly if the join was.
    fn left(&mut self, channel: &Channel, announced: bool) {
        let known = self.joined.iter().position(|joined| joined == channel);
        assert_eq!(known.is_some(), announced, "{channel}");
        if let Some(index) = known {
            self.joined.swap_remove(index);
        }
    }

    fn finish(mut self) {
        for sub in self.session.end() {
            self.left(&sub.channel, sub.announces_leave());
        }
        assert!(self.joined.is_empty(), "every join has its leave");
        self.is_closed = true;
        self.step(|session, cx, out| session.frame(cx, b"{}", out));
        self.step(Session::time);
    }
}

/// A command that a client might send.
fn command(kind: u8, number: u8, id: u32) -> String {
    let channel = ["a", "b", "closed:c", "d.*", "#alice", "nowhere:x"][usize::from(number) % 6];
    let offset = number / 2;
    let request = match kind % 16 {
        0 => r#""connect":{"token":"alice"}"#.to_owned(),
        1 => format!(r#""connect":{{"token":"alice {channel} b"}}"#),
        2 => format!(r#""connect":{{"subs":{{"{channel}":{{"recover":true}}}}}}"#),
        3 | 4 => format!(r#""subscribe":{{"channel":"{channel}"}}"#),
        5 => format!(r#""subscribe":{{"channel":"{channel}","token":"alice {channel}"}}"#),
        6 => format!(
            r#""subscribe":{{"channel":"{channel}","recover":true,"recoverable":true,"offset":{offset},"flag":{number}}}"#
        ),
        7 => format!(r#""unsubscribe":{{"channel":"{channel}"}}"#),
        8 => format!(r#""publish":{{"channel":"{channel}","data":{number}}}"#),
        9 => format!(r#""history":{{"channel":"{channel}","limit":{number}}}"#),
        10 => format!(r#""presence":{{"channel":"{channel}"}}"#),
        11 => format!(r#""presence_stats":{{"channel":"{channel}"}}"#),
        12 => r#""rpc":{"method":"ping"}"#.to_owned(),
        13 => format!(r#""refresh":{{"token":"alice {channel}"}}"#),
        14 => format!(r#""sub_refresh":{{"channel":"{channel}","token":"alice {channel}"}}"#),
        _ => return "{}".to_owned(),
    };
    format!(r#"{{"id":{id},{request}}}"#)
}

/// An answer of the request's kind; for some numbers of another.
fn answer(request: Request, number: u8, now: Now) -> Response {
    let refused = match number % 8 {
        1 => Some(ErrorCode::TooManyRequests),
        2 => Some(ErrorCode::Internal),
        _ => None,
    };
    if number == b'!' {
        return Response::Registered(true);
    }
    match request {
        Request::Authenticate { token } => Response::Authenticated(refusal(number).map_or_else(
            || {
                let mut words = token.split(' ').map(str::to_owned);
                Ok(ConnectionClaims {
                    user: words.next().unwrap_or_default(),
                    expires_at: expiry(number, now),
                    subs: words
                        .map(|channel| ServerSubscription {
                            channel,
                            ..Default::default()
                        })
                        .collect(),
                    ..ConnectionClaims::default()
                })
            },
            Err,
        )),
        Request::AuthorizeSubscription { token } => {
            Response::SubscriptionAuthorized(refusal(number).map_or_else(
                || {
                    let (user, channel) = token.split_once(' ').unwrap_or_default();
                    Ok(SubscriptionClaims {
                        user: user.to_owned(),
                        channel: channel.to_owned(),
                        expires_at: expiry(number, now),
                        ..SubscriptionClaims::default()
                    })
                },
                Err,
            ))
        }
        Request::Register { .. } => Response::Registered(number != b'0'),
        Request::Subscribe(ask) => Response::Subscribed(refused.map_or_else(
            || {
                let top = u64::from(number);
                let since = ask.recover.map_or(top, |recover| recover.since.offset);
                Ok(Subscribed {
                    top: Some(StreamPosition {
                        offset: top,
                        epoch: "epoch".to_owned(),
                    }),
                    publications: (since.saturating_add(1)..=top)
                        .skip(usize::from(number & 1))
                        .map(|offset| Publication {
                            offset,
                            ..Publication::default()
                        })
                        .collect(),
                })
            },
            Err,
        )),
        Request::Publish { .. } => Response::Published(refused.map_or(Ok(Published), Err)),
        Request::Call { data, .. } | Request::CallService { data, .. } => {
            let refused = refused.map(ErrorCode::to_error);
            Response::Called(refused.map_or(Ok(data.clone()), Err))
        }
        Request::History(_) => Response::History(refused.map_or(Ok(HistoryResult::default()), Err)),
        Request::Presence { .. } => {
            Response::Presence(refused.map_or(Ok(PresenceResult::default()), Err))
        }
        Request::PresenceStats { .. } => {
            Response::PresenceStats(refused.map_or(Ok(PresenceStatsResult::default()), Err))
        }
    }
}

fn refusal(number: u8) -> Option<TokenError> {
    match number % 16 {
        1 => Some(TokenError::Expired),
        2 => Some(TokenError::Revoked),
        3 => Some(TokenError::Invalid(String::new())),
        4 => Some(TokenError::Unavailable(String::new())),
        _ => None,
    }
}

/// Never, soon, or at the end of time.
fn expiry(number: u8, now: Now) -> Option<u64> {
    match number % 4 {
        0 => None,
        3 if number > 200 => Some(u64::MAX),
        _ => Some(now.unix_s().saturating_add(u64::from(number) / 8)),
    }
}

fn operation(number: u8, channel: &str, now: Now) -> Operation {
    match number % 8 {
        0 | 1 => Operation::Subscribe(Box::new(ServerSubscribe {
            channel: channel.to_owned(),
            expires_at: expiry(number, now).unwrap_or(0),
            recover_since: (number > 64).then(StreamPosition::default),
            ..ServerSubscribe::default()
        })),
        2 | 3 => Operation::Unsubscribe {
            channel: channel.into(),
            code: UnsubscribeCode::SERVER_UNSUBSCRIBE,
        },
        4 | 5 => Operation::InsufficientState {
            channel: channel.into(),
        },
        6 => Operation::Refresh {
            expired: number == 254,
            expires_at: expiry(number / 8, now),
            info: None,
        },
        _ => Operation::Disconnect(Disconnect::FORCE_DISCONNECT),
    }
}

fn settings(choice: u8) -> Settings {
    let open = ChannelOptions {
        presence: true,
        join_leave: true,
        history_size: 10,
        history_ttl: std::time::Duration::from_secs(60),
        allow_positioning: choice & 2 != 0,
        allow_recovery: choice & 4 != 0,
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_history_for_client: true,
        allow_presence_for_subscriber: true,
        allow_wildcard_subscribe: true,
        ..ChannelOptions::default()
    };
    let channels = ChannelSettings {
        namespaces: vec![
            Namespace {
                name: "closed".to_owned(),
                pattern: Some("c.>".to_owned()),
                options: ChannelOptions::default(),
            },
            Namespace {
                name: "agents".to_owned(),
                pattern: Some("agent.>".to_owned()),
                options: ChannelOptions {
                    relay: choice & 64 != 0,
                    ..open.clone()
                },
            },
        ],
        without_namespace: open,
        ..ChannelSettings::default()
    };
    Settings {
        client: ClientSettings {
            channel_limit: 4,
            command_rate: u32::from(choice & 8),
            command_burst: 4,
            allow_anonymous_connect_without_token: choice & 16 != 0,
            subscribe_to_user_personal_channel: protocol::settings::PersonalChannelSettings {
                enabled: choice & 32 != 0,
                ..Default::default()
            },
            ..ClientSettings::default()
        },
        namespaces: Namespaces::new(&channels).expect("the settings make sense"),
        rpc_ping: true,
        calls: protocol::calls::Calls::default(),
        backlog_max: 512,
        stratix_pulse: protocol::dialect::Pulse {
            interval: std::time::Duration::from_secs(30),
            timeout: std::time::Duration::from_secs(10),
        },
        live_subjects: protocol::subjects::Subjects::new(&["xy.>"]).unwrap_or_default(),
        version: "1",
        node: "n".to_owned(),
    }
}
