//! What a token's `subjects` leave of what the namespaces allow.

use super::play::{play, play_with};

const DENIED: &str = r#""error":{"code":103,"message":"permission denied"}"#;

#[test]
fn subscribe_is_held_against_the_token() {
    let mut play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice subjects=xy.md.tick.a,xy.ref.>,chat:a"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        > {"id":2,"subscribe":{"channel":"xy.md.tick.a"}}
        < {"id":2,"subscribe":{}}
        > {"id":3,"subscribe":{"channel":"xy.ref.a.b"}}
        < {"id":3,"subscribe":{}}
        > {"id":4,"subscribe":{"channel":"xy.ref.*.b"}}
        < {"id":4,"subscribe":{}}
        > {"id":5,"subscribe":{"channel":"xy.ref.>"}}
        < {"id":5,"subscribe":{}}
        > {"id":6,"subscribe":{"channel":"chat:a"}}
        < {"id":6,"subscribe":{}}
        join chat:a {"user":"alice","client":"@me"}
        "#,
    );
    for channel in ["xy.md.tick.b", "xy.md.tick.*", "xy.>", "chat:b", "open:a"] {
        play.run(&format!(
            "> {{\"id\":9,\"subscribe\":{{\"channel\":\"{channel}\"}}}}\n< {{\"id\":9,{DENIED}}}"
        ));
    }
}

#[test]
fn a_token_without_any_subject_allows_nothing() {
    play(&format!(
        r#"
        > {{"id":1,"connect":{{"token":"user=alice subjects="}}}}
        < {{"id":1,"connect":{{"client":"@me","version":"1.0.0","ping":25,"pong":true}}}}
        > {{"id":2,"subscribe":{{"channel":"open:a"}}}}
        < {{"id":2,{DENIED}}}
        "#
    ));
}

#[test]
fn a_subscription_token_does_not_extend_the_connection_token() {
    play(&format!(
        r#"
        > {{"id":1,"connect":{{"token":"user=alice subjects=open:a"}}}}
        < {{"id":1,"connect":{{"client":"@me","version":"1.0.0","ping":25,"pong":true}}}}
        > {{"id":2,"subscribe":{{"channel":"closed:a","token":"user=alice channel=closed:a"}}}}
        < {{"id":2,{DENIED}}}
        "#
    ));
}

#[test]
fn nothing_is_asked_of_the_bus_for_what_the_token_forbids() {
    // A request would show as an answer: all of these are allowed by their namespaces.
    let mut play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice subjects=open:a"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        "#,
    );
    for command in [
        r#""subscribe":{"channel":"news:a"}"#,
        r#""history":{"channel":"news:a","limit":1}"#,
        r#""presence":{"channel":"chat:a"}"#,
        r#""presence_stats":{"channel":"chat:a"}"#,
        r#""publish":{"channel":"clients:a","data":1}"#,
    ] {
        play.run(&format!(
            "> {{\"id\":9,{command}}}\n< {{\"id\":9,{DENIED}}}"
        ));
    }
}

#[test]
fn a_call_is_held_against_the_token_by_its_channel() {
    let call = crate::calls::CallSettings {
        method: "md.snapshot".into(),
        subject: "req.snapshot.{group}".into(),
        channel: "ticks.{group}.last".into(),
    };
    play_with(
        |settings| settings.calls = crate::calls::Calls::new(&[call]).unwrap(),
        &format!(
            r#"
            > {{"id":1,"connect":{{"token":"user=alice subjects=ticks.a.last"}}}}
            < {{"id":1,"connect":{{"client":"@me","version":"1.0.0","ping":25,"pong":true}}}}
            > {{"id":2,"rpc":{{"method":"md.snapshot","data":{{"group":"a"}}}}}}
            < {{"id":2,"rpc":{{"data":"req.snapshot.a"}}}}
            > {{"id":3,"rpc":{{"method":"md.snapshot","data":{{"group":"b"}}}}}}
            < {{"id":3,{DENIED}}}
            "#
        ),
    );
}

#[test]
fn server_side_subscriptions_are_held_against_the_token() {
    play(&format!(
        r#"
        > {{"id":1,"connect":{{"token":"user=alice channels=open:a,open:b subjects=open:a"}}}}
        left open:a
        < {{"id":1,{DENIED}}}
        "#
    ));
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice subjects=open:a","subs":{"open:a":{},"open:b":{}}}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"open:a":{}}}}
        api subscribe open:c
        "#,
    );
}

#[test]
fn the_personal_channel_is_left_out_where_the_token_forbids_it() {
    let enable = |settings: &mut super::super::Settings| {
        settings.client.subscribe_to_user_personal_channel.enabled = true;
    };
    play_with(
        enable,
        r##"
        > {"id":1,"connect":{"token":"user=alice subjects=open:a"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        "##,
    );
    play_with(
        enable,
        r##"
        > {"id":1,"connect":{"token":"user=alice subjects=#alice"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"#alice":{}}}}
        "##,
    );
}

#[test]
fn a_refresh_with_other_subjects_applies_at_once() {
    play(&format!(
        r#"
        > {{"id":1,"connect":{{"token":"user=alice"}}}}
        < {{"id":1,"connect":{{"client":"@me","version":"1.0.0","ping":25,"pong":true}}}}
        > {{"id":2,"subscribe":{{"channel":"open:a"}}}}
        < {{"id":2,"subscribe":{{}}}}
        > {{"id":3,"subscribe":{{"channel":"chat:a"}}}}
        < {{"id":3,"subscribe":{{}}}}
        join chat:a {{"user":"alice","client":"@me"}}
        > {{"id":4,"subscribe":{{"channel":"xy.md.>"}}}}
        < {{"id":4,"subscribe":{{}}}}
        > {{"id":5,"refresh":{{"token":"user=alice subjects=open:a,xy.md.*"}}}}
        leave chat:a
        < {{"push":{{"channel":"chat:a","unsubscribe":{{"code":2000,"reason":"server unsubscribe"}}}}}}
        left xy.md.>
        < {{"push":{{"channel":"xy.md.>","unsubscribe":{{"code":2000,"reason":"server unsubscribe"}}}}}}
        < {{"id":5,"refresh":{{"client":"@me","version":"1.0.0"}}}}
        > {{"id":6,"subscribe":{{"channel":"xy.md.>"}}}}
        < {{"id":6,{DENIED}}}
        > {{"id":7,"refresh":{{"token":"user=alice"}}}}
        < {{"id":7,"refresh":{{"client":"@me","version":"1.0.0"}}}}
        > {{"id":8,"subscribe":{{"channel":"xy.md.>"}}}}
        < {{"id":8,"subscribe":{{}}}}
        "#
    ));
}
