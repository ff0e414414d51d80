//! What a session asks, answered from maps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::super::{Now, Published, Request, Response, SubscribeAsk, Subscribed};
use super::{ME, fields, moment};
use crate::claims::{
    ConnectionClaims, Overrides, ServerSubscription, SubscriptionClaims, TokenError,
};
use crate::code::ErrorCode;
use crate::message::{
    ClientInfo, HistoryResult, PresenceResult, PresenceStatsResult, Publication, StreamPosition,
};
use crate::settings::RecoveryMode;
use crate::subjects::Subjects;

/// Streams, presence and tokens, kept as simply as can be.
#[derive(Default)]
pub(super) struct Bus {
    streams: BTreeMap<String, Stream>,
    present: BTreeMap<String, ClientInfo>,
    asked: Option<SubscribeAsk>,
    pub(super) published: Vec<(String, String, Value)>,
}

pub(super) struct Stream {
    pub(super) epoch: String,
    pub(super) top: u64,
    pub(super) publications: Vec<Publication>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            epoch: "epoch".to_owned(),
            top: 0,
            publications: Vec::new(),
        }
    }
}

impl Stream {
    pub(super) fn publish(&mut self, publication: Publication) {
        self.top += 1;
        self.publications.push(Publication {
            offset: self.top,
            ..publication
        });
    }

    fn position(&self) -> StreamPosition {
        StreamPosition {
            offset: self.top,
            epoch: self.epoch.clone(),
        }
    }
}

impl Bus {
    pub(super) fn stream(&mut self, channel: &str) -> &mut Stream {
        self.streams.entry(channel.to_owned()).or_default()
    }

    #[track_caller]
    pub(super) fn check_ask(&self, channel: &str, flags: &[&str]) {
        let ask = self.asked.as_ref().expect("a subscription was asked for");
        assert_eq!(ask.channel.as_str(), channel);
        let found: Vec<&str> = [
            ("wildcard", ask.wildcard),
            ("positioned", ask.positioned),
            ("pushes", ask.join_leave_pushes),
            ("presence", ask.presence.is_some()),
            ("recover", ask.recover.is_some()),
        ]
        .iter()
        .filter_map(|(flag, on)| on.then_some(*flag))
        .collect();
        assert_eq!(found, flags, "{channel}");
    }

    pub(super) fn answer(&mut self, request: Request, now: Now) -> Response {
        match request {
            Request::Authenticate { token } => {
                Response::Authenticated(refused(&token).map(|()| connection(&token, now)))
            }
            Request::AuthorizeSubscription { token } => Response::SubscriptionAuthorized(
                refused(&token).map(|()| subscription(&token, now)),
            ),
            Request::Register { .. } => Response::Registered(true),
            Request::Subscribe(ask) => Response::Subscribed(self.subscribe(ask)),
            Request::Publish {
                channel,
                data,
                info,
                options,
            } => {
                if channel.contains("busy") {
                    return Response::Published(Err(ErrorCode::TooManyRequests));
                }
                if options.options.has_history() {
                    let data = data.clone();
                    self.stream(&channel).publish(Publication {
                        data,
                        ..Publication::default()
                    });
                }
                self.published.push((
                    channel.to_string(),
                    String::from_utf8_lossy(&data).into_owned(),
                    serde_json::to_value(info.as_ref()).unwrap(),
                ));
                Response::Published(Ok(Published))
            }
            Request::Call { subject, data } => {
                let said = String::from_utf8_lossy(&data);
                Response::Called(Ok(match said.contains("bytes") {
                    true => vec![0, 255].into(),
                    false => format!("\"{subject}\"").into(),
                }))
            }
            Request::CallService { method, data } => {
                let said = String::from_utf8_lossy(&data);
                Response::Called(match said.contains("wrong") {
                    true => Err(ErrorCode::ServiceNotFound.with("no such thing")),
                    false => Ok(format!(r#"{{"by":"{method}","asked":{said}}}"#).into()),
                })
            }
            Request::History(ask) => {
                let stream = self.stream(&ask.channel);
                let since = ask.since.map_or(0, |since| since.offset);
                let newer = stream
                    .publications
                    .iter()
                    .filter(|kept| kept.offset > since);
                let publications = newer.take(ask.limit).cloned().collect();
                let StreamPosition { offset, epoch } = stream.position();
                Response::History(Ok(HistoryResult {
                    publications,
                    epoch,
                    offset,
                }))
            }
            Request::Presence { .. } => Response::Presence(Ok(PresenceResult {
                presence: self.present.clone(),
            })),
            Request::PresenceStats { .. } => Response::PresenceStats(Ok(PresenceStatsResult {
                num_clients: u32::try_from(self.present.len()).unwrap(),
                num_users: 1,
            })),
        }
    }

    fn subscribe(&mut self, ask: SubscribeAsk) -> Result<Subscribed, ErrorCode> {
        if ask.channel.contains("busy") {
            return Err(ErrorCode::TooManyRequests);
        }
        if let Some(info) = &ask.presence {
            self.present
                .insert(info.client.clone(), info.as_ref().clone());
        }
        let mut found = Subscribed::default();
        if ask.positioned || ask.recover.is_some() {
            let stream = self.stream(&ask.channel);
            found.top = Some(stream.position());
            if let Some(recover) = &ask.recover {
                let kept = stream.publications.iter();
                found.publications = match recover.mode {
                    RecoveryMode::Stream => kept
                        .filter(|publication| publication.offset > recover.since.offset)
                        .take(ask.recovery_max + 1)
                        .cloned()
                        .collect(),
                    RecoveryMode::Cache => kept.last().cloned().into_iter().collect(),
                };
            }
        }
        self.asked = Some(ask);
        Ok(found)
    }
}

fn refused(token: &str) -> Result<(), TokenError> {
    match token {
        "expired" => Err(TokenError::Expired),
        "invalid" => Err(TokenError::Invalid("so it says".to_owned())),
        "revoked" => Err(TokenError::Revoked),
        "unavailable" => Err(TokenError::Unavailable("so it says".to_owned())),
        _ => Ok(()),
    }
}

fn connection(token: &str, now: Now) -> ConnectionClaims {
    let fields = fields(token);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let channels = fields
        .get("channels")
        .map(|list| list.split(','))
        .into_iter()
        .flatten();
    ConnectionClaims {
        user: field("user"),
        expires_at: fields.get("exp").map(|ahead| moment(ahead, now)),
        info: field("info").into(),
        subs: channels
            .map(|channel| ServerSubscription {
                channel: channel.to_owned(),
                ..ServerSubscription::default()
            })
            .collect(),
        subjects: fields.get("subjects").map(|list| {
            let patterns: Vec<&str> = list.split(',').filter(|text| !text.is_empty()).collect();
            Subjects::new(&patterns).unwrap()
        }),
        ..ConnectionClaims::default()
    }
}

fn subscription(token: &str, now: Now) -> SubscriptionClaims {
    let fields = fields(token);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let switch = |name: &str| fields.get(name).map(|value| value == "on");
    SubscriptionClaims {
        user: field("user"),
        channel: field("channel"),
        client: fields
            .get("client")
            .map(|id| id.replace("@me", &ME.to_string())),
        expires_at: fields.get("exp").map(|ahead| moment(ahead, now)),
        info: field("info").into(),
        data: field("data").into(),
        overrides: Overrides {
            presence: switch("presence"),
            join_leave: switch("join_leave"),
            force_push_join_leave: switch("force_push_join_leave"),
            force_positioning: switch("force_positioning"),
            force_recovery: switch("force_recovery"),
        },
        ..SubscriptionClaims::default()
    }
}
