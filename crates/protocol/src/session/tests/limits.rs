//! What a session may hold and take.

use super::super::{Settings, Subscription, Waiting};
use super::play::{play, play_with};

fn ten_a_second(settings: &mut Settings) {
    settings.client.command_rate = 10;
    settings.client.command_burst = 3;
}

#[test]
fn frames_that_wait_are_bounded() {
    let mut play = play(
        r#"
        hold
        > {"id":1,"connect":{"token":"user=alice"}}
        ask authenticate
        "#,
    );
    let frame = [b' '; 1_000];
    for _ in 0..4 {
        play.frame(&frame);
    }
    play.run("");
    play.frame(&frame);
    play.run("close 3013");
}

#[test]
fn empty_frames_that_wait_are_bounded_too() {
    let mut play = play(
        r#"
        hold
        > {"id":1,"connect":{"token":"user=alice"}}
        ask authenticate
        "#,
    );
    for _ in 0..4_096 / 16 {
        play.frame(b"");
    }
    play.run("");
    play.frame(b"");
    play.run("close 3013");
}

#[test]
fn commands_above_the_rate_close() {
    let ping = "> {\"id\":2,\"rpc\":{\"method\":\"ping\"}}\n< {\"id\":2,\"rpc\":{}}\n";
    // Connect is a command, and so is the pong.
    let mut play = play_with(ten_a_second, "as alice");
    play.run(&ping.repeat(3));
    play.run("> {\"id\":3,\"rpc\":{\"method\":\"ping\"}}\nclose 3013");

    let mut play = play_with(ten_a_second, "as alice");
    play.run(&ping.repeat(3));
    for _ in 0..50 {
        play.wait_ms(100);
        play.run(ping);
    }
    play.run("> {\"id\":3,\"rpc\":{\"method\":\"ping\"}}\nclose 3013");
}

#[test]
fn commands_of_one_frame_count_each() {
    play_with(
        ten_a_second,
        r#"
        > {"id":1,"connect":{"token":"user=alice"}}
        + {"id":2,"unsubscribe":{"channel":"open:a"}}
        + {"id":3,"unsubscribe":{"channel":"open:a"}}
        + {"id":4,"unsubscribe":{"channel":"open:a"}}
        + {"id":5,"unsubscribe":{"channel":"open:a"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        < {"id":2,"unsubscribe":{}}
        < {"id":3,"unsubscribe":{}}
        < {"id":4,"unsubscribe":{}}
        close 3013
        "#,
    );
}

#[test]
fn rate_of_nothing_is_no_limit() {
    let mut play = play_with(|settings| settings.client.command_rate = 0, "as alice");
    let ping = "> {\"id\":2,\"rpc\":{\"method\":\"ping\"}}\n< {\"id\":2,\"rpc\":{}}\n";
    play.run(&ping.repeat(5_000));
}

#[test]
fn resting_session_holds_what_it_needs_and_no_more() {
    let play = play(
        r#"
        > {"id":1,"connect":{"token":"user=alice"}}
        + {"id":2,"subscribe":{"channel":"open:a"}}
        + {"id":3,"subscribe":{"channel":"open:b"}}
        + {"id":4,"unsubscribe":{"channel":"open:a"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        < {"id":2,"subscribe":{}}
        < {"id":3,"subscribe":{}}
        left open:a
        < {"id":4,"unsubscribe":{}}
        "#,
    );
    assert!(play.session.waiting.is_none());
    assert!(play.session.verified.is_none());
    assert_eq!(play.session.subs.len(), 1);
    assert_eq!(play.session.subs.capacity(), 1);
    assert!(play.session.subs[0].info.is_none());
    assert!(size_of::<super::super::Session>() <= 96);
    assert!(size_of::<Subscription>() <= 40);
    assert!(size_of::<Waiting>() <= 192, "{}", size_of::<Waiting>());
}
