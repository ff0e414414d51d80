//! Publish, unsubscribe, history, presence, rpc, send.

use super::play::{play, play_with};

#[test]
fn publication_carries_who_published() {
    play(
        r#"
        > {"id":1,"connect":{"token":"user=alice info=5"}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        > {"id":2,"publish":{"channel":"clients:a","data":{"n":1}}}
        < {"id":2,"publish":{}}
        published clients:a {"n":1} {"user":"alice","client":"@me","conn_info":5}
        > {"id":3,"subscribe":{"channel":"chat:a","token":"user=alice channel=chat:a info=6"}}
        < {"id":3,"subscribe":{}}
        join chat:a {"user":"alice","client":"@me","conn_info":5,"chan_info":6}
        > {"id":4,"publish":{"channel":"chat:a","data":2}}
        < {"id":4,"publish":{}}
        published chat:a 2 {"user":"alice","client":"@me","conn_info":5,"chan_info":6}
        "#,
    );
}

#[test]
fn publishing_needs_permission_for_client_subscriber_or_anonymous() {
    play(
        r#"
        as alice
        > {"id":2,"publish":{"channel":"closed:a","data":1}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"publish":{"channel":"chat:a","data":1}}
        < {"id":3,"error":{"code":103,"message":"permission denied"}}
        > {"id":4,"subscribe":{"channel":"chat:a"}}
        < {"id":4,"subscribe":{}}
        join chat:a {"user":"alice","client":"@me"}
        > {"id":5,"publish":{"channel":"chat:a","data":1}}
        < {"id":5,"publish":{}}
        > {"id":6,"publish":{"channel":"nowhere:a","data":1}}
        < {"id":6,"error":{"code":102,"message":"unknown channel"}}
        > {"id":7,"publish":{"channel":"clients:busy","data":1}}
        < {"id":7,"error":{"code":111,"message":"too many requests","temporary":true}}
        > {"id":8,"publish":{"data":1}}
        close 3501
        "#,
    );
    play(
        r#"
        as anonymous
        > {"id":2,"publish":{"channel":"clients:a","data":1}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"publish":{"channel":"open:a","data":1}}
        < {"id":3,"publish":{}}
        "#,
    );
}

#[test]
fn payload_must_be_of_the_namespace_s_format() {
    play(
        r#"
        as alice
        # Anything but nothing; and the data is judged before the permission.
        > {"id":2,"publish":{"channel":"clients:a"}}
        < {"id":2,"error":{"code":107,"message":"bad request"}}
        > {"id":3,"publish":{"channel":"closed:a"}}
        < {"id":3,"error":{"code":107,"message":"bad request"}}
        > {"id":4,"publish":{"channel":"clients:a","data":null}}
        < {"id":4,"publish":{}}
        > {"id":5,"publish":{"channel":"json:a","data":[1]}}
        < {"id":5,"publish":{}}
        > {"id":6,"publish":{"channel":"json:a"}}
        < {"id":6,"error":{"code":107,"message":"bad request"}}
        > {"id":7,"publish":{"channel":"object:a","data":{}}}
        < {"id":7,"publish":{}}
        > {"id":8,"publish":{"channel":"object:a","data":[1]}}
        < {"id":8,"error":{"code":107,"message":"bad request"}}
        > {"id":9,"publish":{"channel":"binary:a"}}
        < {"id":9,"publish":{}}
        "#,
    );
}

#[test]
fn bytes_that_only_look_like_json_are_refused_where_json_is_wanted() {
    use super::super::commands::fits;
    use crate::settings::DataFormat;

    for format in [DataFormat::Json, DataFormat::JsonObject] {
        assert!(fits(br#" {"a":1} "#, format));
        for data in [
            &b"{\"a\":\"\xff\"}"[..],
            b"{\"a\":1",
            b"{} {}",
            b"",
            b"\xff",
        ] {
            assert!(!fits(data, format), "{}", data.escape_ascii());
        }
    }
    assert!(fits(b"\xff", DataFormat::Any) && !fits(b"", DataFormat::Any));
    assert!(fits(b"", DataFormat::Binary));
}

#[test]
fn leaving_twice_or_without_having_joined_is_fine() {
    play(
        r#"
        as alice
        > {"id":2,"unsubscribe":{"channel":"nowhere:a"}}
        < {"id":2,"unsubscribe":{}}
        > {"id":3,"unsubscribe":{}}
        close 3501
        "#,
    );
}

#[test]
fn history_has_limits_in_both_directions() {
    play_with(
        |settings| settings.client.history_max_publication_limit = 2,
        r#"
        as alice
        stream news:a 3
        > {"id":2,"history":{"channel":"news:a"}}
        < {"id":2,"history":{"publications":[],"epoch":"epoch","offset":3}}
        > {"id":3,"history":{"channel":"news:a","limit":1,"since":{"offset":1,"epoch":"epoch"}}}
        < {"id":3,"history":{"publications":[{"data":0,"offset":2}],"epoch":"epoch","offset":3}}
        > {"id":4,"history":{"channel":"news:a","limit":-1}}
        < {"id":4,"history":{"publications":[{"data":0,"offset":1},{"data":0,"offset":2}],"epoch":"epoch","offset":3}}
        > {"id":5,"history":{"channel":"news:a","limit":1000}}
        < {"id":5,"history":{"publications":[{"data":0,"offset":1},{"data":0,"offset":2}],"epoch":"epoch","offset":3}}
        > {"id":6,"history":{"channel":"news:a","limit":1,"reverse":true,"since":{"epoch":"epoch"}}}
        < {"id":6,"error":{"code":107,"message":"bad request"}}
        > {"id":7,"history":{}}
        close 3501
        "#,
    );
}

#[test]
fn history_is_read_where_it_is_kept_and_allowed() {
    play(
        r#"
        as alice
        > {"id":2,"history":{"channel":"open:a"}}
        < {"id":2,"error":{"code":108,"message":"not available"}}
        > {"id":3,"history":{"channel":"forced:a"}}
        < {"id":3,"error":{"code":103,"message":"permission denied"}}
        > {"id":4,"history":{"channel":"kept:a"}}
        < {"id":4,"error":{"code":103,"message":"permission denied"}}
        > {"id":5,"subscribe":{"channel":"kept:a"}}
        < {"id":5,"subscribe":{}}
        > {"id":6,"history":{"channel":"kept:a"}}
        < {"id":6,"history":{"publications":[],"epoch":"epoch","offset":0}}
        > {"id":7,"history":{"channel":"nowhere:a"}}
        < {"id":7,"error":{"code":102,"message":"unknown channel"}}
        "#,
    );
    play(
        r#"
        as anonymous
        > {"id":2,"history":{"channel":"news:a"}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        "#,
    );
}

#[test]
fn presence_is_read_where_it_is_kept_and_allowed() {
    play(
        r#"
        as alice
        > {"id":2,"presence":{"channel":"open:a"}}
        < {"id":2,"error":{"code":108,"message":"not available"}}
        > {"id":3,"presence_stats":{"channel":"open:a"}}
        < {"id":3,"error":{"code":108,"message":"not available"}}
        > {"id":4,"presence":{"channel":"chat:a"}}
        < {"id":4,"presence":{"presence":{}}}
        > {"id":5,"presence":{"channel":"room:a"}}
        < {"id":5,"error":{"code":103,"message":"permission denied"}}
        > {"id":6,"subscribe":{"channel":"room:a"}}
        < {"id":6,"subscribe":{}}
        join room:a {"user":"alice","client":"@me"}
        > {"id":7,"presence":{"channel":"room:a"}}
        < {"id":7,"presence":{"presence":{"@me":{"user":"alice","client":"@me"}}}}
        > {"id":8,"presence_stats":{"channel":"room:a"}}
        < {"id":8,"presence_stats":{"num_clients":1,"num_users":1}}
        > {"id":9,"presence":{}}
        close 3501
        "#,
    );
}

#[test]
fn rpc_answers_ping_only() {
    play(
        r#"
        as alice
        > {"id":2,"rpc":{"method":"ping","data":{}}}
        < {"id":2,"rpc":{}}
        > {"id":3,"rpc":{"method":"other"}}
        < {"id":3,"error":{"code":104,"message":"method not found"}}
        "#,
    );
    play_with(
        |settings| settings.rpc_ping = false,
        r#"
        as alice
        > {"id":2,"rpc":{"method":"ping"}}
        < {"id":2,"error":{"code":108,"message":"not available"}}
        "#,
    );
}

#[test]
fn rpc_methods_bound_to_a_subject_are_asked_there_by_who_may_have_the_channel() {
    let bound = |method: &str, channel: &str| crate::calls::CallSettings {
        method: method.into(),
        subject: "req.snapshot.{group}".into(),
        channel: channel.into(),
    };
    let calls = [
        bound("md.snapshot", "ticks.{group}.last"),
        bound("denied", "closed:a"),
    ];
    play_with(
        |settings| settings.calls = crate::calls::Calls::new(&calls).unwrap(),
        r#"
        as alice
        > {"id":2,"rpc":{"method":"md.snapshot","data":{"group":"g1"}}}
        < {"id":2,"rpc":{"data":"req.snapshot.g1"}}
        > {"id":3,"rpc":{"method":"md.snapshot","data":{"group":"g1","bytes":1}}}
        < {"id":3,"rpc":{"data":{"base64":"AP8="}}}
        > {"id":4,"rpc":{"method":"md.snapshot","data":{"group":">"}}}
        < {"id":4,"error":{"code":107,"message":"bad request"}}
        > {"id":5,"rpc":{"method":"denied","data":{"group":"g1"}}}
        < {"id":5,"error":{"code":103,"message":"permission denied"}}
        > {"id":6,"subscribe":{"channel":"closed:a","token":"user=alice channel=closed:a"}}
        < {"id":6,"subscribe":{}}
        > {"id":7,"rpc":{"method":"denied","data":{"group":"g1"}}}
        < {"id":7,"rpc":{"data":"req.snapshot.g1"}}
        "#,
    );
}

#[test]
fn rpc_methods_bound_to_a_service_are_for_users_who_may_have_the_channel() {
    let mut calls = crate::calls::Calls::default();
    calls.bind_service("chat.send", "", false).unwrap();
    calls.bind_service("denied", "closed:a", false).unwrap();
    calls.bind_service("open", "", true).unwrap();
    play_with(
        |settings| settings.calls = calls,
        r#"
        as alice
        > {"id":2,"rpc":{"method":"chat.send","data":{"text":"a"}}}
        < {"id":2,"rpc":{"data":{"by":"chat.send","asked":{"text":"a"}}}}
        > {"id":3,"rpc":{"method":"chat.send","data":"wrong"}}
        < {"id":3,"error":{"code":1005,"message":"service: not found: no such thing"}}
        > {"id":4,"rpc":{"method":"denied","data":{}}}
        < {"id":4,"error":{"code":103,"message":"permission denied"}}
        "#,
    );
    let mut calls = crate::calls::Calls::default();
    calls.bind_service("chat.send", "", false).unwrap();
    calls.bind_service("open", "", true).unwrap();
    play_with(
        |settings| {
            settings.calls = calls;
            settings.client.allow_anonymous_connect_without_token = true;
        },
        r#"
        > {"id":1,"connect":{}}
        < {"id":1,"connect":{"client":"@me","version":"1.0.0","ping":25,"pong":true}}
        > {"id":2,"rpc":{"method":"chat.send","data":{}}}
        < {"id":2,"error":{"code":103,"message":"permission denied"}}
        > {"id":3,"rpc":{"method":"open","data":{}}}
        < {"id":3,"rpc":{"data":{"by":"open","asked":{}}}}
        "#,
    );
}

#[test]
fn commands_nobody_takes_close() {
    for (command, code) in [
        (r#"{"send":{"data":1}}"#, 3508),
        (r#"{"id":2,"ping":{}}"#, 3501),
        (r#"{"id":2}"#, 3501),
        (r#"{"id":2,"unheard_of":{}}"#, 3501),
        ("{", 3501),
        ("", 3501),
    ] {
        let mut play = play("as alice");
        play.frame(command.as_bytes());
        play.run(&format!("close {code}"));
    }
}

#[test]
fn first_request_of_a_command_counts() {
    play(
        r#"
        as alice
        > {"id":2,"rpc":{"method":"ping"},"unsubscribe":{"channel":"open:a"},"publish":{"channel":"closed:a"}}
        < {"id":2,"unsubscribe":{}}
        "#,
    );
}
