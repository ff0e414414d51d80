//! Connect: who gets in, as whom, and with what.

use serde_json::json;

use super::super::{Context, Output, Request, Settings, Subscription, Transport};
use super::play::{Play, play, play_with, settings, welcome};
use crate::claims::{ConnectionClaims, ServerSubscription};

fn anonymous_allowed(settings: &mut Settings) {
    settings.client.allow_anonymous_connect_without_token = true;
}

fn personal_channels(settings: &mut Settings) {
    settings.client.subscribe_to_user_personal_channel.enabled = true;
}

#[test]
fn token_names_the_user() {
    let play = play(
        r#"
        > {"id":3,"connect":{"token":"user=alice info={} exp=never","name":"js","version":"5"}}
        < {"id":3,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        "#,
    );
    let identity = play.session.identity().unwrap();
    assert_eq!(&*identity.user, "alice");
    assert_eq!(identity.info, "{}");
    assert!(play.session.is_connected());
}

#[test]
fn expiring_token_tells_when_to_refresh() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice exp=60"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","expires":true,"ttl":60,"ping":25,"pong":true}}
        "#,
    );
}

#[test]
fn expired_token_is_an_error_and_then_nothing_is_accepted() {
    play(
        r#"
        > {"id":1,"connect":{"token":"expired"}}
        < {"id":1,"error":{"code":109,"message":"token expired"}}
        > {"id":2,"connect":{"token":"user=alice"}}
        close 3501
        > {"id":3,"rpc":{"method":"ping"}}
        "#,
    );
}

#[test]
fn refused_client_that_stays_is_stale() {
    play(
        r#"
        > {"id":1,"connect":{"token":"expired"}}
        < {"id":1,"error":{"code":109,"message":"token expired"}}
        wait 10s
        close 3502
        "#,
    );
}

#[test]
fn expiry_already_past_is_error_110() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice exp=0"}}
        < {"id":1,"error":{"code":110,"message":"expired"}}
        "#,
    );
}

#[test]
fn invalid_or_revoked_token_closes() {
    for token in ["invalid", "revoked"] {
        let mut play = Play::new(settings(), Transport::WebSocket, None);
        play.frame(
            json!({"id": 1, "connect": {"token": token}})
                .to_string()
                .as_bytes(),
        );
        play.run("close 3500");
    }
}

#[test]
fn keys_out_of_reach_are_a_temporary_error() {
    play(
        r#"
        > {"id":1,"connect":{"token":"unavailable"}}
        < {"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}
        "#,
    );
}

#[test]
fn client_without_token_is_refused_unless_allowed() {
    play(
        r#"
        > {"id":1,"connect":{}}
        close 3501
        "#,
    );
    let play = play_with(
        anonymous_allowed,
        r#"
        > {"id":1,"connect":{}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        "#,
    );
    assert_eq!(&*play.session.identity().unwrap().user, "");
}

#[test]
fn token_without_user_may_be_disallowed() {
    let disallowed = |settings: &mut Settings| {
        anonymous_allowed(settings);
        settings.client.disallow_anonymous_connection_tokens = true;
    };
    play_with(
        disallowed,
        r#"
        > {"id":1,"connect":{"token":"user="}}
        close 3507
        "#,
    );
    // The other way to be anonymous has a switch of its own.
    play_with(
        disallowed,
        r#"
        > {"id":1,"connect":{}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        "#,
    );
}

#[test]
fn connect_comes_first_and_once() {
    for first in [
        r#"{"id":1,"subscribe":{"channel":"open:a"}}"#,
        r#"{"id":1,"publish":{"channel":"open:a","data":1}}"#,
        r#"{"send":{"data":1}}"#,
        "{}",
    ] {
        let mut play = Play::new(settings(), Transport::WebSocket, None);
        play.frame(first.as_bytes());
        play.run("close 3501");
    }
    play(
        r#"
        as alice
        > {"id":2,"connect":{"token":"user=alice"}}
        close 3501
        "#,
    );
}

#[test]
fn commands_behind_connect_in_one_frame_wait_for_it() {
    play(
        r#"
        hold
        > {"id":1,"connect":{"token":"user=alice"}}
        + {"id":2,"subscribe":{"channel":"open:a"}}
        + {"id":3,"rpc":{"method":"ping"}}
        ask authenticate
        > {"id":4,"subscribe":{"channel":"open:a"}}
        > {"id":5,"unsubscribe":{"channel":"open:a"}}
        + {"id":6,"unsubscribe":{"channel":"open:a"}}
        answer
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        < {"id":2,"subscribe":{}}
        < {"id":3,"rpc":{}}
        < {"id":4,"error":{"code":105,"message":"already subscribed"}}
        left open:a
        < {"id":5,"unsubscribe":{}}
        < {"id":6,"unsubscribe":{}}
        "#,
    );
}

#[test]
fn frames_that_wait_stay_apart() {
    // Two halves of a command are two malformed frames, and an empty one is one too.
    for second in [r#"{"id":2,"#, ""] {
        let mut play = Play::new(settings(), Transport::WebSocket, None);
        play.run(
            r#"
            hold
            > {"id":1,"connect":{"token":"user=alice"}}
            ask authenticate
            "#,
        );
        play.frame(second.as_bytes());
        play.frame(br#""rpc":{"method":"ping"}}"#);
        play.run(
            r#"
            answer
            < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
            close 3501
            "#,
        );
    }
}

#[test]
fn stale_client_is_closed_even_while_its_token_is_checked() {
    play(
        r#"
        wait 9999ms
        wait 1ms
        close 3502
        "#,
    );
    play(
        r#"
        hold
        > {"id":1,"connect":{"token":"user=alice"}}
        ask authenticate
        wait 10s
        close 3502
        answer
        "#,
    );
}

#[test]
fn server_side_subscriptions_come_with_the_reply() {
    let play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice channels=chat:a,closed:b,chat:a"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"chat:a":{},"closed:b":{}}}}
        join chat:a {"user":"alice","client":"@me"}
        > {"id":2,"subscribe":{"channel":"chat:a"}}
        < {"id":2,"error":{"code":105,"message":"already subscribed"}}
        "#,
    );
    assert_eq!(
        play.session.subscriptions().len(),
        2,
        "a channel named twice is one"
    );
    assert!(
        play.session
            .subscriptions()
            .iter()
            .all(Subscription::is_server_side)
    );
}

#[test]
fn known_positions_of_server_side_channels_are_recovered() {
    play(
        r#"
        stream forced:a 3
        > {"id":1,"connect":{"token":"user=alice channels=forced:a","subs":{"forced:a":{"recover":true,"epoch":"epoch","offset":2}}}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"forced:a":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"epoch","offset":2,"publications":[{"data":0,"offset":3}]}}}}
        "#,
    );
    // A known channel without "recover" is only named.
    play(
        r#"
        stream forced:a 3
        > {"id":1,"connect":{"token":"user=alice channels=forced:a","subs":{"forced:a":{"epoch":"epoch","offset":2}}}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"forced:a":{"recoverable":true,"positioned":true,"epoch":"epoch","offset":3}}}}
        "#,
    );
}

#[test]
fn only_the_owner_of_a_personal_channel_closes_its_other_connections() {
    for (enabled, single_connection, user, wanted) in [
        (true, true, "alice", true),
        (true, false, "alice", false),
        (false, true, "alice", false),
        // All anonymous clients have the same name, and none is another's.
        (true, true, "", false),
    ] {
        let mut settings = settings();
        let personal = &mut settings.client.subscribe_to_user_personal_channel;
        (personal.enabled, personal.single_connection) = (enabled, single_connection);
        let claims = ConnectionClaims {
            user: user.to_owned(),
            ..ConnectionClaims::default()
        };
        let mut play = Play::new(settings, Transport::WebSocket, Some(claims));
        let cx = Context {
            now: play.now,
            settings: &play.settings,
        };
        let mut out = Vec::new();
        let connect = br#"{"id":1,"connect":{}}"#;
        play.session.frame(cx, connect, &mut out);
        let asked = out.iter().find_map(|output| match output {
            Output::Request(Request::Register { single_connection }) => Some(*single_connection),
            _ => None,
        });
        assert_eq!(
            asked,
            Some(wanted),
            "{enabled} {single_connection} {user:?}"
        );
    }
}

#[test]
fn channels_named_in_connect_are_taken_if_admitted_and_else_ignored() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice","subs":{"open:a":{},"closed:b":{},"$open:c":{},"letters:1":{},"ticks.>":{}}}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"open:a":{}}}}
        "#,
    );
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice","subs":{"nowhere:a":{}}}}
        close 3501
        "#,
    );
}

#[test]
fn unknown_namespace_in_the_token_is_error_102_and_nothing_is_kept() {
    let play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice channels=chat:a,nowhere:b"}}
        left chat:a
        < {"id":1,"error":{"code":102,"message":"unknown channel"}}
        > {"id":2,"rpc":{"method":"ping"}}
        close 3501
        "#,
    );
    assert!(play.session.subscriptions().is_empty());
}

#[test]
fn bus_that_refuses_a_server_side_channel_refuses_the_connect() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice channels=open:a,open:busy"}}
        left open:a
        < {"id":1,"error":{"code":111,"message":"too many requests","temporary":true}}
        "#,
    );
}

#[test]
fn too_many_server_side_channels_close() {
    let two = |settings: &mut Settings| settings.client.channel_limit = 2;
    play_with(
        two,
        r#"
        > {"id":1,"connect":{"token":"user=alice channels=open:a,open:b,open:c"}}
        close 3505
        "#,
    );
    // A stranger's list is refused before its token is looked at.
    play_with(
        two,
        r#"
        > {"id":1,"connect":{"token":"invalid","subs":{"open:a":{},"open:b":{},"open:c":{}}}}
        close 3505
        "#,
    );
}

#[test]
fn personal_channel_is_joined_by_name_only() {
    play_with(
        personal_channels,
        r##"
        > {"id":1,"connect":{"token":"user=alice"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"#alice":{}}}}
        "##,
    );
    play_with(
        |settings| {
            personal_channels(settings);
            settings
                .client
                .subscribe_to_user_personal_channel
                .personal_channel_namespace = "users".to_owned();
        },
        r##"
        > {"id":1,"connect":{"token":"user=alice channels=users:#alice"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"users:#alice":{}}}}
        "##,
    );
    play_with(personal_channels, "as anonymous");
}

#[test]
fn token_that_came_before_connect_counts_if_connect_has_none() {
    let claims = ConnectionClaims {
        user: "bob".to_owned(),
        subs: vec![ServerSubscription {
            channel: "open:a".to_owned(),
            ..Default::default()
        }],
        ..ConnectionClaims::default()
    };
    let mut play = Play::new(settings(), Transport::WebSocket, Some(claims.clone()));
    play.run(
        r#"
        > {"id":1,"connect":{}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"open:a":{}}}}
        "#,
    );
    assert_eq!(&*play.session.identity().unwrap().user, "bob");

    let mut play = Play::new(settings(), Transport::WebSocket, Some(claims));
    play.run("as alice");
    assert_eq!(&*play.session.identity().unwrap().user, "alice");
}

#[test]
fn emulated_session_learns_its_secret_and_node() {
    let mut play = Play::new(settings(), Transport::Emulated { session: 5 }, None);
    play.frame(br#"{"id":1,"connect":{"token":"user=alice"}}"#);
    let mut wanted = welcome();
    wanted["connect"]["session"] = json!("00000000-0000-0000-0000-000000000005");
    wanted["connect"]["node"] = json!("node");
    play.expect_reply(&wanted);
    assert_eq!(play.session.transport(), Transport::Emulated { session: 5 });
}

#[test]
fn server_time_is_told_if_configured() {
    play_with(
        |settings| settings.client.connect_include_server_time = true,
        r#"
        > {"id":1,"connect":{"token":"user=alice"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"time":1700000000000}}
        "#,
    );
}
