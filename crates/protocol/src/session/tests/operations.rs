//! What the server does to a session.

use super::super::Operation;
use super::play::{play, play_with};

#[test]
fn api_subscribes_and_unsubscribes() {
    play(
        r#"
        as alice
        api subscribe chat:a info=1 data=2
        asked chat:a presence
        < {"push":{"channel":"chat:a","subscribe":{"data":2}}}
        join chat:a {"user":"alice","client":"@me","chan_info":1}
        # Subscribed already is what was wanted.
        api subscribe chat:a
        api unsubscribe chat:a
        leave chat:a
        < {"push":{"channel":"chat:a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        api unsubscribe chat:a
        "#,
    );
}

#[test]
fn api_subscription_is_given_what_was_missed() {
    play(
        r#"
        as alice
        stream forced:a 3
        api subscribe forced:a since=epoch/1
        < {"push":{"channel":"forced:a","subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch","offset":1}}}
        < {"push":{"channel":"forced:a","pub":{"data":0,"offset":2}}}
        < {"push":{"channel":"forced:a","pub":{"data":0,"offset":3}}}
        stream forced:b 2
        # It can't be recovered: the client learns the top and nothing else.
        api subscribe forced:b since=other/1
        < {"push":{"channel":"forced:b","subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch","offset":2}}}
        "#,
    );
}

#[test]
fn api_subscription_that_can_not_be_is_not() {
    play(
        r#"
        as alice
        api subscribe nowhere:a
        api subscribe open:busy
        "#,
    );
    play_with(
        |settings| settings.client.channel_limit = 1,
        r#"
        as alice
        api subscribe open:a
        < {"push":{"channel":"open:a","subscribe":{}}}
        api subscribe open:b
        close 3505
        "#,
    );
}

#[test]
fn api_refresh_moves_the_expiry() {
    let play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice exp=30"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","expires":true,"ttl":30,"ping":25,"pong":true}}
        api refresh exp=60 info=1
        < {"push":{"refresh":{"expires":true,"ttl":60}}}
        api refresh
        < {"push":{"refresh":{"expires":true,"ttl":60}}}
        > {"id":2,"publish":{"channel":"clients:a","data":0}}
        < {"id":2,"publish":{}}
        published clients:a 0 {"user":"alice","client":"@me","conn_info":1}
        # Within its grace it still expires: a time to live of 0 would mean "never".
        api refresh exp=0
        < {"push":{"refresh":{"expires":true,"ttl":1}}}
        api refresh exp=never
        < {"push":{"refresh":{}}}
        "#,
    );
    assert_eq!(play.session.expiry_s(), u64::MAX);
    let mut play = play;
    play.run("api refresh expired\nclose 3005");
}

#[test]
fn api_disconnects_whatever_the_session_does() {
    play(
        r#"
        api disconnect
        close 3503
        "#,
    );
    play(
        r#"
        hold
        > {"id":1,"connect":{"token":"user=alice"}}
        ask authenticate
        api disconnect
        close 3503
        answer
        "#,
    );
}

#[test]
fn gap_ends_a_client_side_subscription_and_else_the_connection() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"forced:a"}}
        < {"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch"}}
        gap forced:a
        left forced:a
        < {"push":{"channel":"forced:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}
        gap forced:a
        api subscribe forced:b
        < {"push":{"channel":"forced:b","subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch"}}}
        gap forced:b
        close 3010
        "#,
    );
}

#[test]
fn operations_wait_for_the_answer_and_go_before_later_commands() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"open:a"}}
        < {"id":2,"subscribe":{}}
        hold
        > {"id":3,"publish":{"channel":"open:a","data":1}}
        + {"id":4,"unsubscribe":{"channel":"open:b"}}
        ask publish
        api subscribe open:b
        api unsubscribe open:a
        answer
        < {"id":3,"publish":{}}
        < {"push":{"channel":"open:b","subscribe":{}}}
        left open:a
        < {"push":{"channel":"open:a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}
        left open:b
        < {"id":4,"unsubscribe":{}}
        "#,
    );
}

#[test]
fn operation_that_asks_keeps_what_waits_behind_it() {
    play(
        r#"
        as alice
        hold
        > {"id":3,"publish":{"channel":"open:a","data":1}}
        + {"id":4,"rpc":{"method":"ping"}}
        ask publish
        api subscribe open:b
        api subscribe open:c
        > {"id":5,"rpc":{"method":"ping"}}
        answer
        < {"id":3,"publish":{}}
        < {"push":{"channel":"open:b","subscribe":{}}}
        < {"push":{"channel":"open:c","subscribe":{}}}
        < {"id":4,"rpc":{}}
        < {"id":5,"rpc":{}}
        "#,
    );
}

#[test]
fn operation_during_connect_follows_the_reply() {
    play(
        r#"
        hold
        > {"id":1,"connect":{"token":"user=alice"}}
        ask authenticate
        api subscribe open:a
        answer
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        < {"push":{"channel":"open:a","subscribe":{}}}
        "#,
    );
}

#[test]
fn operations_that_wait_are_bounded_and_a_gap_counts_once() {
    let mut play = play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"forced:a"}}
        < {"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch"}}
        hold
        > {"id":3,"publish":{"channel":"open:a","data":1}}
        ask publish
        "#,
    );
    for _ in 0..1_000 {
        play.operate(Operation::InsufficientState {
            channel: "forced:a".into(),
        });
    }
    for n in 0..63 {
        play.run(&format!("api unsubscribe open:{n}"));
    }
    play.run("api unsubscribe open:a\nclose 3010");
}

#[test]
fn operation_on_a_session_that_is_not_connected_does_nothing() {
    play(
        r#"
        api subscribe open:a
        api unsubscribe open:a
        gap open:a
        api refresh expired
        "#,
    );
}

#[test]
fn end_hands_over_what_is_to_be_left() {
    let mut play = play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"chat:a"}}
        < {"id":2,"subscribe":{}}
        join chat:a {"user":"alice","client":"@me"}
        > {"id":3,"subscribe":{"channel":"open:b"}}
        < {"id":3,"subscribe":{}}
        "#,
    );
    let left: Vec<(String, bool, bool)> = play
        .session
        .end()
        .iter()
        .map(|sub| {
            (
                sub.channel.to_string(),
                sub.announces_leave(),
                sub.has_presence(),
            )
        })
        .collect();
    assert_eq!(
        left,
        [
            ("chat:a".to_owned(), true, true),
            ("open:b".to_owned(), false, false)
        ]
    );
    assert!(!play.session.is_connected());
    assert!(play.session.end().is_empty());
    play.run("> {\"id\":4,\"rpc\":{\"method\":\"ping\"}}\ntick\napi disconnect");
}

#[test]
fn joins_of_a_connect_that_fails_are_never_said() {
    let mut play = play(
        r#"
        hold
        > {"id":1,"connect":{"token":"user=alice channels=chat:a,chat:b"}}
        ask authenticate
        "#,
    );
    play.run("hold");
    play.answer_and_hold();
    play.run("ask register");
    play.answer_and_hold();
    play.run("ask subscribe");
    play.answer_and_hold();
    play.run("ask subscribe\napi disconnect\nclose 3503");
    let left = play.session.end();
    assert_eq!(left.len(), 1);
    assert!(!left[0].announces_leave() && left[0].has_presence());
}
