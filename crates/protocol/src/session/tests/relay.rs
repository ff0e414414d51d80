//! The channel of the user's own agent, and clients that need no connect command.

use bytes::Bytes;

use super::super::{
    ClientId, Context, Now, Output, Request, Response, Session, Settings, Subscribed, Transport,
    Via,
};
use super::play::settings;
use crate::claims::{ConnectionClaims, ServerSubscription};
use crate::code::ErrorCode;
use crate::codec::Encoding;
use crate::dialect::Dialect;
use crate::settings::{ChannelOptions, ChannelSettings, Namespace, Namespaces};

/// A connected session of `client-1` in a dialect.
struct Scene {
    settings: Settings,
    now: Now,
    session: Session,
    out: Vec<Output>,
}

impl Scene {
    fn new(dialect: Dialect) -> Self {
        let mut settings = settings();
        let options = ChannelOptions {
            relay: true,
            allow_publish_for_client: true,
            ..ChannelOptions::default()
        };
        settings.namespaces = Namespaces::new(&ChannelSettings {
            namespaces: vec![Namespace {
                name: "agent".to_owned(),
                pattern: Some(crate::agent::PATTERN.to_owned()),
                options,
            }],
            ..ChannelSettings::default()
        })
        .unwrap();
        let now = Now {
            mono_ms: 1_000,
            unix_ms: 1_700_000_000_000,
        };
        let claims = ConnectionClaims {
            user: "client-1".to_owned(),
            subs: vec![ServerSubscription {
                channel: "agent.client-1".to_owned(),
                ..ServerSubscription::default()
            }],
            ..ConnectionClaims::default()
        };
        let cx = Context {
            now,
            settings: &settings,
        };
        let session = Session::of_dialect(
            cx,
            dialect,
            ClientId(7),
            Transport::WebSocket,
            Encoding::Json,
            Some(claims),
        );
        let mut scene = Self {
            settings,
            now,
            session,
            out: Vec::new(),
        };
        match dialect {
            Dialect::Centrifuge => scene.frame(r#"{"id":1,"connect":{}}"#),
            Dialect::Stratix | Dialect::Live { .. } => scene.with(Session::begin),
        }
        scene.settle();
        assert!(scene.session.is_connected());
        scene
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Session, Context<'_>, &mut Vec<Output>) -> T) -> T {
        let cx = Context {
            now: self.now,
            settings: &self.settings,
        };
        act(&mut self.session, cx, &mut self.out)
    }

    fn frame(&mut self, frame: &str) {
        self.with(|session, cx, out| session.frame(cx, frame.as_bytes(), out));
    }

    /// Says yes to all that is asked while connecting.
    fn settle(&mut self) {
        while let Some(Output::Request(_)) = self.out.last() {
            let Some(Output::Request(request)) = self.out.pop() else {
                return;
            };
            let response = match request {
                Request::Register { .. } => Response::Registered(true),
                Request::Subscribe(_) => Response::Subscribed(Ok(Subscribed::default())),
                other => panic!("{other:?} was not expected"),
            };
            self.with(|session, cx, out| session.resume(cx, response, out));
        }
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }
}

#[test]
fn publish_and_rpc_on_the_own_agent_are_submitted_and_answered_later() {
    let mut scene = Scene::new(Dialect::Centrifuge);
    scene.take();
    scene.frame(r#"{"id":2,"publish":{"channel":"agent.client-1","data":{"data":"hi"}}}"#);
    scene.frame(r#"{"id":3,"rpc":{"method":"agent.client-1","data":"hi"}}"#);
    let told = scene.take();
    let [
        Output::Submit { via: first, data },
        Output::Submit { via: second, .. },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!((*first, *second), (Via::Publish(2), Via::Rpc(3)));
    assert_eq!(&data[..], br#"{"data":"hi"}"#);
    // The answers come in any order, with other commands between.
    let receipt = Bytes::from_static(br#"{"level":"durable"}"#);
    scene.with(|session, _, out| {
        session.told(Via::Rpc(3), Ok(receipt.clone()), out);
        session.told(Via::Publish(2), Err(ErrorCode::LimitExceeded), out);
    });
    let told = scene.take();
    let [Output::Reply(rpc), Output::Reply(publish)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((rpc.id, &rpc.rpc.as_ref().unwrap().data), (3, &receipt));
    assert_eq!((publish.id, publish.error.is_some()), (2, true));
}

#[test]
fn nobody_speaks_to_the_agent_of_another() {
    let mut scene = Scene::new(Dialect::Centrifuge);
    scene.take();
    for frame in [
        r#"{"id":2,"publish":{"channel":"agent.client-2","data":{"data":"hi"}}}"#,
        r#"{"id":2,"rpc":{"method":"agent.client-2","data":{"data":"hi"}}}"#,
        r#"{"id":2,"subscribe":{"channel":"agent.client-2"}}"#,
        r#"{"id":2,"subscribe":{"channel":"agent.client%2D1"}}"#,
    ] {
        scene.frame(frame);
        let told = scene.take();
        let [Output::Reply(reply)] = &told[..] else {
            panic!("{frame}: {told:?}");
        };
        let code = reply.error.as_ref().map(|error| error.code);
        assert_eq!(code, Some(103), "{frame}");
    }
}

#[test]
fn a_client_known_before_the_upgrade_begins_without_a_reply() {
    let mut scene = Scene::new(Dialect::Stratix);
    assert!(matches!(scene.take()[..], [Output::Begun]));
    assert!(scene.with(|session, _, out| session.admit_message(out)));
    let channels: Vec<&str> = scene
        .session
        .subscriptions()
        .iter()
        .map(|sub| sub.channel.as_str())
        .collect();
    assert_eq!(channels, ["agent.client-1"]);
}

#[test]
fn any_sign_of_life_answers_a_websocket_ping_and_silence_ends_the_connection() {
    let mut scene = Scene::new(Dialect::Stratix);
    scene.take();
    for _ in 0..2 {
        scene.now.mono_ms = scene.session.deadline_ms();
        scene.with(Session::time);
        assert!(matches!(scene.take()[..], [Output::Ping]));
        scene.now.mono_ms += 10;
        scene.with(|session, cx, _| session.heard(cx));
    }
    scene.now.mono_ms = scene.session.deadline_ms();
    scene.with(Session::time);
    scene.now.mono_ms += 30_000;
    scene.with(Session::time);
    let told = scene.take();
    let [Output::Ping, Output::Close(disconnect)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(disconnect.code, 3012);
}

#[test]
fn only_messages_that_are_refused_count_as_commands() {
    let mut scene = Scene::new(Dialect::Stratix);
    scene.take();
    for _ in 0..10_000 {
        assert!(scene.with(|session, _, out| session.admit_message(out)));
    }
    let burst = scene.settings.client.command_burst;
    for _ in 0..=burst {
        scene.with(Session::message_refused);
    }
    assert!(scene.take().is_empty());
    scene.with(Session::message_refused);
    let told = scene.take();
    let [Output::Close(disconnect)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(disconnect.code, 3013);
    assert!(!scene.with(|session, _, out| session.admit_message(out)));
}
