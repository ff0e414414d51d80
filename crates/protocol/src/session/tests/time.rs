//! Pings, pongs and what expires.

use super::super::{ClientId, Context, Session, Transport};
use super::play::{Play, play, play_with, settings};
use crate::codec::Encoding;

#[test]
fn first_ping_comes_within_the_second_half_of_the_interval() {
    for id in [
        0,
        1,
        12_499,
        12_500,
        u128::MAX,
        0x1234_5678_9abc_4def_8000_feed_beef_cafe,
    ] {
        let mut play = Play::new(settings(), Transport::WebSocket, None);
        let cx = Context {
            now: play.now,
            settings: &play.settings,
        };
        play.session = Session::new(cx, ClientId(id), Transport::WebSocket, Encoding::Json, None);
        play.frame(br#"{"id":1,"connect":{"token":"user=alice"}}"#);
        assert!(play.session.is_connected());
        let in_ms = play.session.deadline_ms() - play.now.mono_ms;
        assert!((12_500..25_000).contains(&in_ms), "{id}: {in_ms}");
    }
}

#[test]
fn pings_follow_each_other_by_the_interval_whatever_the_pongs_do() {
    let mut play = play("as alice");
    let first_ms = play.session.deadline_ms();
    play.wait_ms(first_ms - play.now.mono_ms);
    assert!(play.take_ping());
    for pong_after_ms in [0, 1, 7_999] {
        let pinged_ms = play.now.mono_ms;
        play.wait_ms(pong_after_ms);
        play.frame(b"{}");
        assert_eq!(play.session.deadline_ms(), pinged_ms + 25_000);
        play.wait_ms(25_000 - pong_after_ms);
        assert!(play.take_ping());
    }
}

#[test]
fn busy_connection_is_pinged_too_and_other_traffic_is_no_pong() {
    play(
        r#"
        as alice
        wait 12507ms
        < {}
        > {"id":2,"rpc":{"method":"ping"}}
        < {"id":2,"rpc":{}}
        wait 7999ms
        > {"id":3,"rpc":{"method":"ping"}}
        < {"id":3,"rpc":{}}
        wait 1ms
        close 3012
        "#,
    );
}

#[test]
fn pong_without_ping_closes() {
    play(
        r#"
        as alice
        > {}
        close 3501
        "#,
    );
    play(
        r#"
        as alice
        wait 12507ms
        < {}
        > {}
        > {}
        close 3501
        "#,
    );
}

#[test]
fn pong_counts_while_a_command_waits() {
    play(
        r#"
        as alice
        wait 12507ms
        < {}
        hold
        > {"id":2,"refresh":{"token":"user=alice"}}
        ask authenticate
        > {}
        wait 10s
        answer
        < {"id":2,"refresh":{"client":"@me","version":"1.0.0"}}
        "#,
    );
}

#[test]
fn pings_and_pongs_can_be_switched_off() {
    let mut play = play_with(
        |settings| settings.client.ping_interval = std::time::Duration::ZERO,
        r#"
        > {"id":1,"connect":{"token":"user=alice"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0"}}
        "#,
    );
    assert_eq!(play.session.deadline_ms(), u64::MAX);
    play.wait_ms(3_600_000);

    play_with(
        |settings| settings.client.pong_timeout = std::time::Duration::ZERO,
        r#"
        > {"id":1,"connect":{"token":"user=alice"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25}}
        wait 12507ms
        < {}
        wait 25s
        < {}
        "#,
    );
}

#[test]
fn connection_that_is_not_refreshed_ends_after_the_grace() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice exp=5"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","expires":true,"ttl":5,"ping":25,"pong":true}}
        wait 20s
        < {}
        > {}
        wait 9999ms
        wait 1ms
        close 3005
        "#,
    );
}

#[test]
fn expiry_follows_the_wall_clock_when_it_steps() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice exp=3600"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","expires":true,"ttl":3600,"ping":25,"pong":true}}
        step 3625s
        # No timer was set for now; the next ping at the latest looks at the clock.
        tick
        close 3005
        "#,
    );
}

#[test]
fn client_side_subscription_ends_after_the_grace_and_the_connection_goes_on() {
    let play = play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"closed:a","token":"user=alice channel=closed:a exp=5"}}
        < {"id":2,"subscribe":{"expires":true,"ttl":5}}
        > {"id":3,"subscribe":{"channel":"open:b"}}
        < {"id":3,"subscribe":{}}
        wait 20s
        < {}
        > {}
        wait 10s
        left closed:a
        < {"push":{"channel":"closed:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        "#,
    );
    assert_eq!(play.session.expiry_s(), u64::MAX);
    assert_eq!(play.session.subscriptions().len(), 1);
}

#[test]
fn each_subscription_has_its_own_grace() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"closed:a","token":"user=alice channel=closed:a exp=1"}}
        < {"id":2,"subscribe":{"expires":true,"ttl":1}}
        > {"id":3,"subscribe":{"channel":"closed:b","token":"user=alice channel=closed:b exp=9"}}
        < {"id":3,"subscribe":{"expires":true,"ttl":9}}
        wait 20s
        < {}
        > {}
        # The first is over; the second has expired as well, but has eight seconds left.
        wait 6s
        left closed:a
        < {"push":{"channel":"closed:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        wait 7999ms
        wait 1ms
        left closed:b
        < {"push":{"channel":"closed:b","unsubscribe":{"code":2501,"reason":"subscription expired"}}}
        "#,
    );
}

#[test]
fn server_side_subscription_that_expires_ends_the_connection() {
    play(
        r#"
        as alice
        api subscribe closed:a exp=1
        < {"push":{"channel":"closed:a","subscribe":{}}}
        wait 20s
        < {}
        > {}
        wait 6s
        close 3006
        "#,
    );
}

#[test]
fn expiry_at_the_end_of_time_is_far_away() {
    let mut play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice exp=9223372036854775807"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","expires":true,"ttl":4294967295,"ping":25,"pong":true}}
        > {"id":2,"subscribe":{"channel":"closed:a","token":"user=alice channel=closed:a exp=9223372036854775807"}}
        < {"id":2,"subscribe":{"expires":true,"ttl":4294967295}}
        tick
        "#,
    );
    play.run("api refresh exp=9223372036854775807\n< {\"push\":{\"refresh\":{\"expires\":true,\"ttl\":4294967295}}}");
}
