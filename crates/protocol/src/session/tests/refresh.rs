//! New tokens for connections and subscriptions.

use super::play::play;

#[test]
fn refresh_prolongs_the_connection_and_replaces_its_info() {
    let play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice exp=30 info=1"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","expires":true,"ttl":30,"ping":25,"pong":true}}
        > {"id":2,"refresh":{"token":"user=alice exp=90 info=2"}}
        < {"id":2,"refresh":{"client":"@me","version":"1.0.0","expires":true,"ttl":90}}
        > {"id":3,"publish":{"channel":"clients:a","data":0}}
        < {"id":3,"publish":{}}
        published clients:a 0 {"user":"alice","client":"@me","conn_info":2}
        > {"id":4,"refresh":{"token":"user=alice"}}
        < {"id":4,"refresh":{"client":"@me","version":"1.0.0"}}
        "#,
    );
    assert_eq!(play.session.expiry_s(), u64::MAX);
}

#[test]
fn refresh_that_fails_closes_with_what_the_client_should_do() {
    for (token, code) in [
        ("", 3501),
        ("expired", 3005),
        ("user=alice exp=0", 3005),
        ("invalid", 3500),
        ("revoked", 3500),
        ("user=bob", 3500),
        ("user=alice channels=open:a", 3010),
    ] {
        let mut play = play("as alice");
        play.run(&format!(
            "> {{\"id\":2,\"refresh\":{{\"token\":\"{token}\"}}}}\nclose {code}"
        ));
    }
}

#[test]
fn refresh_may_be_tried_again_when_keys_are_out_of_reach() {
    play(
        r#"
        as alice
        > {"id":2,"refresh":{"token":"unavailable"}}
        < {"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}
        > {"id":3,"refresh":{"token":"user=alice"}}
        < {"id":3,"refresh":{"client":"@me","version":"1.0.0"}}
        "#,
    );
}

#[test]
fn refresh_with_the_same_server_side_channels_goes_on() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice channels=open:a,open:b"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true,"subs":{"open:a":{},"open:b":{}}}}
        # A subscription of the API is not the token's business, but a lost one is.
        api subscribe open:c
        < {"push":{"channel":"open:c","subscribe":{}}}
        > {"id":2,"refresh":{"token":"user=alice channels=open:b,open:a,open:a"}}
        < {"id":2,"refresh":{"client":"@me","version":"1.0.0"}}
        > {"id":3,"refresh":{"token":"user=alice channels=open:a,open:c"}}
        close 3010
        "#,
    );
}

#[test]
fn sub_refresh_prolongs_the_subscription() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"chat:a","token":"user=alice channel=chat:a exp=10"}}
        < {"id":2,"subscribe":{"expires":true,"ttl":10}}
        join chat:a {"user":"alice","client":"@me"}
        > {"id":3,"sub_refresh":{"channel":"chat:a","token":"user=alice channel=chat:a exp=60 info=1"}}
        < {"id":3,"sub_refresh":{"expires":true,"ttl":60}}
        > {"id":4,"publish":{"channel":"chat:a","data":0}}
        < {"id":4,"publish":{}}
        published chat:a 0 {"user":"alice","client":"@me","chan_info":1}
        > {"id":5,"sub_refresh":{"channel":"chat:a","token":"user=alice channel=chat:a"}}
        < {"id":5,"sub_refresh":{}}
        "#,
    );
}

#[test]
fn sub_refresh_may_bring_the_expiry_forward() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"open:a","token":"user=alice channel=open:a exp=600"}}
        < {"id":2,"subscribe":{"expires":true,"ttl":600}}
        > {"id":3,"sub_refresh":{"channel":"open:a","token":"user=alice channel=open:a exp=5"}}
        < {"id":3,"sub_refresh":{"expires":true,"ttl":5}}
        wait 20s
        < {}
        > {}
        wait 10s
        left open:a
        < {"push":{"channel":"open:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        "#,
    );
}

#[test]
fn expired_token_in_sub_refresh_makes_the_client_subscribe_anew() {
    for token in ["expired", "user=alice channel=chat:a exp=0"] {
        let mut play = play(
            r#"
            as alice
            > {"id":2,"subscribe":{"channel":"chat:a","token":"user=alice channel=chat:a exp=10"}}
            < {"id":2,"subscribe":{"expires":true,"ttl":10}}
            join chat:a {"user":"alice","client":"@me"}
            "#,
        );
        play.run(&format!(
            r#"
            > {{"id":3,"sub_refresh":{{"channel":"chat:a","token":"{token}"}}}}
            leave chat:a
            < {{"push":{{"channel":"chat:a","unsubscribe":{{"code":2501,"reason":"subscription expired"}}}}}}
            < {{"id":3,"sub_refresh":{{}}}}
            "#
        ));
        assert_eq!(play.session.expiry_s(), u64::MAX);
    }
}

#[test]
fn sub_refresh_that_makes_no_sense_is_refused() {
    play(
        r#"
        as alice
        > {"id":2,"sub_refresh":{"channel":"open:a","token":"user=alice channel=open:a"}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"subscribe":{"channel":"open:a"}}
        < {"id":3,"subscribe":{}}
        > {"id":4,"sub_refresh":{"channel":"open:a"}}
        < {"id":4,"error":{"code":107,"message":"bad request"}}
        > {"id":5,"sub_refresh":{"channel":"open:a","token":"unavailable"}}
        < {"id":5,"error":{"code":100,"message":"internal server error","temporary":true}}
        > {"id":6,"sub_refresh":{}}
        close 3501
        "#,
    );
    for token in [
        "invalid",
        "revoked",
        "user=bob channel=open:a",
        "user=alice channel=open:b",
        "user=alice",
        "user=alice channel=open:a client=8",
    ] {
        let mut play = play(
            r#"
            as alice
            > {"id":2,"subscribe":{"channel":"open:a"}}
            < {"id":2,"subscribe":{}}
            "#,
        );
        let command = format!(r#"{{"channel":"open:a","token":"{token}"}}"#);
        play.run(&format!(
            "> {{\"id\":3,\"sub_refresh\":{command}}}\nclose 3500"
        ));
    }
}

#[test]
fn server_side_subscription_is_not_the_client_s_to_refresh() {
    play(
        r#"
        as alice
        api subscribe open:a
        < {"push":{"channel":"open:a","subscribe":{}}}
        > {"id":2,"sub_refresh":{"channel":"open:a","token":"user=alice channel=open:a"}}
        close 3501
        "#,
    );
}

#[test]
fn subscription_that_expires_while_its_token_is_checked_stays_ended() {
    let play = play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"open:a","token":"user=alice channel=open:a exp=1"}}
        < {"id":2,"subscribe":{"expires":true,"ttl":1}}
        wait 20s
        < {}
        > {}
        hold
        > {"id":3,"sub_refresh":{"channel":"open:a","token":"user=alice channel=open:a exp=60"}}
        ask authorize
        wait 6s
        left open:a
        < {"push":{"channel":"open:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        answer
        < {"id":3,"error":{"code":103,"message":"permission denied"}}
        "#,
    );
    assert!(play.session.subscriptions().is_empty());
}
