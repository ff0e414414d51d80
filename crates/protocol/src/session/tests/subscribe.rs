//! Subscribing: the checks in their order, permission, tokens and what is granted.

use super::play::{play, play_with};

#[test]
fn empty_channel_closes() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{}}
        close 3501
        "#,
    );
}

#[test]
fn checks_come_in_the_order_of_the_contract() {
    let long = format!("nowhere:{}", "x".repeat(248));
    let script = format!(
        r#"
        as alice
        > {{"id":2,"subscribe":{{"channel":"{long}"}}}}
        < {{"id":2,"error":{{"code":107,"message":"bad request"}}}}
        > {{"id":3,"subscribe":{{"channel":"open:a"}}}}
        < {{"id":3,"subscribe":{{}}}}
        # Subscribed already comes before the limit, the limit before the name.
        > {{"id":4,"subscribe":{{"channel":"open:a"}}}}
        < {{"id":4,"error":{{"code":105,"message":"already subscribed"}}}}
        > {{"id":5,"subscribe":{{"channel":"nowhere:a"}}}}
        < {{"id":5,"error":{{"code":106,"message":"limit exceeded"}}}}
        > {{"id":6,"unsubscribe":{{"channel":"open:a"}}}}
        left open:a
        < {{"id":6,"unsubscribe":{{}}}}
        > {{"id":7,"subscribe":{{"channel":"nowhere:a"}}}}
        < {{"id":7,"error":{{"code":102,"message":"unknown channel"}}}}
        # The name is checked before the permission.
        > {{"id":8,"subscribe":{{"channel":"closed:ä"}}}}
        < {{"id":8,"error":{{"code":107,"message":"bad request"}}}}
        > {{"id":9,"subscribe":{{"channel":"closed:a"}}}}
        < {{"id":9,"error":{{"code":103,"message":"permission denied"}}}}
        "#
    );
    play_with(|settings| settings.client.channel_limit = 1, &script);
}

#[test]
fn longest_name_is_accepted_and_one_byte_more_is_not() {
    let longest = "x".repeat(255);
    let script = format!(
        r#"
        as alice
        > {{"id":2,"subscribe":{{"channel":"{longest}"}}}}
        < {{"id":2,"subscribe":{{}}}}
        # The name is judged before the number of channels.
        > {{"id":3,"subscribe":{{"channel":"{longest}x"}}}}
        < {{"id":3,"error":{{"code":107,"message":"bad request"}}}}
        > {{"id":4,"publish":{{"channel":"{longest}x","data":1}}}}
        < {{"id":4,"error":{{"code":107,"message":"bad request"}}}}
        > {{"id":5,"presence":{{"channel":"{longest}x"}}}}
        < {{"id":5,"error":{{"code":107,"message":"bad request"}}}}
        "#
    );
    play_with(|settings| settings.client.channel_limit = 1, &script);
}

#[test]
fn channel_regex_replaces_the_ascii_rule() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"letters:abc"}}
        < {"id":2,"subscribe":{}}
        > {"id":3,"subscribe":{"channel":"letters:a1"}}
        < {"id":3,"error":{"code":107,"message":"bad request"}}
        "#,
    );
}

#[test]
fn what_is_not_offered_is_refused() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"open:a","type":1}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"subscribe":{"channel":"open:a","type":4}}
        < {"id":3,"error":{"code":108,"message":"not available"}}
        > {"id":4,"subscribe":{"channel":"open:a","tf":{}}}
        < {"id":4,"error":{"code":107,"message":"bad request"}}
        > {"id":5,"subscribe":{"channel":"open:a","delta":"fossil","flag":1}}
        < {"id":5,"subscribe":{}}
        > {"id":6,"subscribe":{"channel":"open:b","delta":"other"}}
        close 3501
        "#,
    );
}

#[test]
fn private_channel_needs_a_token() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"$open:a"}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"subscribe":{"channel":"$open:a","token":"user=alice channel=$open:a"}}
        < {"id":3,"subscribe":{}}
        "#,
    );
}

#[test]
fn user_limited_channel_admits_the_listed() {
    play(
        r##"
        as alice
        > {"id":2,"subscribe":{"channel":"users:a#bob,alice"}}
        < {"id":2,"subscribe":{}}
        > {"id":3,"subscribe":{"channel":"users:a#bob"}}
        < {"id":3,"error":{"code":103,"message":"permission denied"}}
        > {"id":4,"subscribe":{"channel":"users:a#alice#bob"}}
        < {"id":4,"error":{"code":103,"message":"permission denied"}}
        > {"id":5,"subscribe":{"channel":"users:a"}}
        < {"id":5,"subscribe":{}}
        # With the option off nobody is listed.
        > {"id":6,"subscribe":{"channel":"open:a#alice"}}
        < {"id":6,"error":{"code":103,"message":"permission denied"}}
        # A token decides alone.
        > {"id":7,"subscribe":{"channel":"users:a#bob","token":"user=alice channel=users:a#bob"}}
        < {"id":7,"subscribe":{}}
        # Only what stands behind the last mark is the list.
        > {"id":8,"subscribe":{"channel":"users:a#bob#alice"}}
        < {"id":8,"subscribe":{}}
        "##,
    );
}

#[test]
fn nobody_is_never_listed() {
    play(
        r##"
        as anonymous
        > {"id":2,"subscribe":{"channel":"users:a#"}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"subscribe":{"channel":"users:a#bob,"}}
        < {"id":3,"error":{"code":103,"message":"permission denied"}}
        "##,
    );
}

#[test]
fn anonymous_client_needs_the_permission_in_addition() {
    play(
        r#"
        as anonymous
        > {"id":2,"subscribe":{"channel":"clients:a"}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"subscribe":{"channel":"open:a"}}
        < {"id":3,"subscribe":{}}
        > {"id":4,"subscribe":{"channel":"closed:a","token":"user= channel=closed:a"}}
        < {"id":4,"subscribe":{}}
        "#,
    );
}

#[test]
fn token_grants_data_info_and_options() {
    let play = play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"chat:a","token":"user=alice channel=chat:a client=@me info=1 data=2"}}
        asked chat:a presence
        < {"id":2,"subscribe":{"data":2}}
        join chat:a {"user":"alice","client":"@me","chan_info":1}
        > {"id":3,"subscribe":{"channel":"chat:b","token":"user=alice channel=chat:b presence=off join_leave=off"}}
        asked chat:b
        < {"id":3,"subscribe":{}}
        > {"id":4,"subscribe":{"channel":"closed:a","token":"user=alice channel=closed:a presence=on force_push_join_leave=on join_leave=on"}}
        asked closed:a pushes presence
        < {"id":4,"subscribe":{}}
        join closed:a {"user":"alice","client":"@me"}
        > {"id":5,"subscribe":{"channel":"kept:a","token":"user=alice channel=kept:a force_recovery=on"}}
        asked kept:a positioned
        < {"id":5,"subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch"}}
        > {"id":6,"subscribe":{"channel":"kept:b","token":"user=alice channel=kept:b force_positioning=on"}}
        asked kept:b positioned
        < {"id":6,"subscribe":{"positioned":true,"epoch":"epoch"}}
        > {"id":7,"subscribe":{"channel":"forced:a","token":"user=alice channel=forced:a force_recovery=off"}}
        asked forced:a
        < {"id":7,"subscribe":{}}
        "#,
    );
    assert_eq!(play.session.subscriptions().len(), 6);
}

#[test]
fn bad_subscription_tokens_have_their_codes() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"open:a","token":"expired"}}
        < {"id":2,"error":{"code":109,"message":"token expired"}}
        > {"id":3,"subscribe":{"channel":"open:a","token":"invalid"}}
        < {"id":3,"error":{"code":103,"message":"permission denied"}}
        > {"id":4,"subscribe":{"channel":"open:a","token":"revoked"}}
        < {"id":4,"error":{"code":103,"message":"permission denied"}}
        > {"id":5,"subscribe":{"channel":"open:a","token":"unavailable"}}
        < {"id":5,"error":{"code":100,"message":"internal server error","temporary":true}}
        > {"id":6,"subscribe":{"channel":"open:a","token":"user=alice"}}
        < {"id":6,"error":{"code":103,"message":"permission denied"}}
        > {"id":7,"subscribe":{"channel":"open:a","token":"user=alice channel=open:a exp=0"}}
        < {"id":7,"error":{"code":109,"message":"token expired"}}
        "#,
    );
}

#[test]
fn token_of_another_user_channel_or_client_closes() {
    for token in [
        "user=bob channel=open:a",
        "channel=open:a",
        "user=alice channel=open:b",
        "user=alice channel=open:a client=8",
    ] {
        play(&format!(
            r#"
            as alice
            > {{"id":2,"subscribe":{{"channel":"open:a","token":"{token}"}}}}
            close 3500
            "#
        ));
    }
}

#[test]
fn position_is_granted_on_request_where_it_is_allowed() {
    play(
        r#"
        as alice
        stream news:a 4
        > {"id":2,"subscribe":{"channel":"news:a"}}
        asked news:a
        < {"id":2,"subscribe":{}}
        > {"id":3,"subscribe":{"channel":"news:b","positioned":true}}
        asked news:b positioned
        < {"id":3,"subscribe":{"positioned":true,"epoch":"epoch"}}
        stream news:c 4
        > {"id":4,"subscribe":{"channel":"news:c","recoverable":true}}
        asked news:c positioned
        < {"id":4,"subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch","offset":4}}
        > {"id":5,"subscribe":{"channel":"placed:a","positioned":true,"recoverable":true}}
        asked placed:a positioned
        < {"id":5,"subscribe":{"positioned":true,"epoch":"epoch"}}
        > {"id":6,"subscribe":{"channel":"kept:a","positioned":true,"recoverable":true}}
        asked kept:a
        < {"id":6,"subscribe":{}}
        > {"id":7,"subscribe":{"channel":"open:a","positioned":true,"recoverable":true}}
        asked open:a
        < {"id":7,"subscribe":{}}
        > {"id":8,"subscribe":{"channel":"forced:a"}}
        asked forced:a positioned
        < {"id":8,"subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch"}}
        "#,
    );
}

#[test]
fn joins_and_leaves_are_pushed_where_asked_for_or_forced() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"chat:a"}}
        asked chat:a presence
        < {"id":2,"subscribe":{}}
        join chat:a {"user":"alice","client":"@me"}
        > {"id":3,"subscribe":{"channel":"chat:b","join_leave":true}}
        asked chat:b pushes presence
        < {"id":3,"subscribe":{}}
        join chat:b {"user":"alice","client":"@me"}
        > {"id":4,"subscribe":{"channel":"room:a"}}
        asked room:a pushes presence
        < {"id":4,"subscribe":{}}
        join room:a {"user":"alice","client":"@me"}
        > {"id":5,"subscribe":{"channel":"open:a","join_leave":true}}
        asked open:a
        < {"id":5,"subscribe":{}}
        > {"id":6,"unsubscribe":{"channel":"chat:a"}}
        leave chat:a
        < {"id":6,"unsubscribe":{}}
        # Who may not read presence does not get it by pushes either.
        > {"id":7,"subscribe":{"channel":"wild:a","join_leave":true}}
        asked wild:a positioned presence
        < {"id":7,"subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch"}}
        join wild:a {"user":"alice","client":"@me"}
        "#,
    );
}

#[test]
fn bus_that_refuses_leaves_nothing_behind() {
    let play = play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"open:busy"}}
        < {"id":2,"error":{"code":111,"message":"too many requests","temporary":true}}
        "#,
    );
    assert!(play.session.subscriptions().is_empty());
}

#[test]
fn pattern_is_subscribed_without_position_and_presence() {
    let play = play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"wild:a.*","recover":true,"offset":4,"join_leave":true}}
        asked wild:a.* wildcard
        < {"id":2,"subscribe":{}}
        > {"id":3,"subscribe":{"channel":"wild:a.b"}}
        asked wild:a.b positioned presence
        < {"id":3,"subscribe":{"recoverable":true,"positioned":true,"epoch":"epoch"}}
        join wild:a.b {"user":"alice","client":"@me"}
        # Nobody publishes into a pattern.
        > {"id":4,"publish":{"channel":"wild:a.*","data":1}}
        < {"id":4,"error":{"code":107,"message":"bad request"}}
        # Where patterns are not offered, it is a name like any other.
        > {"id":5,"subscribe":{"channel":"open:a.*"}}
        asked open:a.*
        < {"id":5,"subscribe":{}}
        "#,
    );
    let wildcards = play
        .session
        .subscriptions()
        .iter()
        .filter(|sub| sub.is_wildcard());
    assert_eq!(wildcards.count(), 1);
}

#[test]
fn pattern_stays_within_what_the_client_may_see() {
    play(
        r#"
        as alice
        # Neither a namespace nor the first token is open.
        > {"id":2,"subscribe":{"channel":"*.a"}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"subscribe":{"channel":">"}}
        < {"id":3,"error":{"code":103,"message":"permission denied"}}
        # Some of these belong to the namespace of "ticks.*.last", some do not.
        > {"id":4,"subscribe":{"channel":"ticks.>"}}
        < {"id":4,"error":{"code":103,"message":"permission denied"}}
        > {"id":5,"subscribe":{"channel":"ticks.eur.*"}}
        < {"id":5,"error":{"code":103,"message":"permission denied"}}
        > {"id":6,"subscribe":{"channel":"ticks.*.last"}}
        asked ticks.*.last wildcard
        < {"id":6,"subscribe":{}}
        > {"id":7,"subscribe":{"channel":"ticks.*"}}
        asked ticks.* wildcard
        < {"id":7,"subscribe":{}}
        "#,
    );
}

#[test]
fn server_side_pattern_stays_server_side() {
    let play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice channels=wild:a.*"}}
        asked wild:a.* wildcard
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"wild:a.*":{}}}}
        "#,
    );
    let sub = &play.session.subscriptions()[0];
    assert!(sub.is_wildcard() && sub.is_server_side());
}
