use serde_json::json;

use super::{Call, Checked, Method, parse_legacy};
use crate::control::HistoryLimit;
use crate::error::ApiError;

#[track_caller]
fn parse(method: Method, request: &serde_json::Value) -> Checked {
    Call::parse(method, request.to_string().as_bytes()).expect("well-formed request")
}

#[track_caller]
fn is_malformed(method: Method, text: &str) {
    let parsed = Call::parse(method, text.as_bytes());
    assert!(parsed.is_err(), "{} took {text}: {parsed:?}", method.name());
}

#[test]
fn what_a_method_requires_is_asked_for() {
    let refused = [
        (Method::Publish, json!({"data": 1})),
        (Method::Publish, json!({"channel": "", "data": 1})),
        (Method::Publish, json!({"channel": "a"})),
        (Method::Publish, json!({"channel": "a", "b64data": "@"})),
        (Method::Broadcast, json!({"channels": [], "data": 1})),
        (Method::Broadcast, json!({"data": 1})),
        (Method::Subscribe, json!({"channel": "a"})),
        (Method::Subscribe, json!({"user": "u"})),
        (Method::Unsubscribe, json!({"user": "u", "channel": ""})),
        (Method::Disconnect, json!({})),
        (
            Method::Disconnect,
            json!({"user": "u", "disconnect": {"code": 2999}}),
        ),
        (
            Method::Disconnect,
            json!({"user": "u", "disconnect": {"code": 5000}}),
        ),
        (
            Method::Disconnect,
            json!({"user": "u", "disconnect": {"reason": "{}"}}),
        ),
        (
            Method::Disconnect,
            json!({"user": "u", "disconnect": {"reason": "x".repeat(124)}}),
        ),
        (Method::Refresh, json!({"expired": true})),
        (Method::Presence, json!({})),
        (Method::PresenceStats, json!({"channel": null})),
        (Method::History, json!({"channel": "a", "limit": -2})),
        (Method::HistoryRemove, json!({})),
        (Method::Rpc, json!({})),
    ];
    for (method, request) in refused {
        assert_eq!(
            parse(method, &request),
            Err(ApiError::BadRequest),
            "{method:?} {request}"
        );
    }
    assert_eq!(
        parse(Method::Rpc, &json!({"method": "add"})),
        Err(ApiError::NotFound)
    );
}

#[test]
fn values_of_the_wrong_type_are_malformed() {
    is_malformed(Method::Publish, r#"{"channel":1,"data":1}"#);
    is_malformed(
        Method::Publish,
        r#"{"channel":"a","data":1,"skip_history":"yes"}"#,
    );
    is_malformed(Method::Publish, r#"{"channel":"a","data":1,"version":-1}"#);
    is_malformed(
        Method::Publish,
        r#"{"channel":"a","data":1,"tags":{"a":1}}"#,
    );
    is_malformed(Method::Publish, r#"{"channel":"a","data":}"#);
    is_malformed(Method::Publish, r#"{"channel":"a","data":1} x"#);
    is_malformed(Method::Broadcast, r#"{"channels":"a","data":1}"#);
    is_malformed(
        Method::Subscribe,
        r#"{"user":"u","channel":"a","override":{"presence":true}}"#,
    );
    is_malformed(Method::Disconnect, r#"{"user":7}"#);
    is_malformed(Method::Info, "[1]");
    is_malformed(
        Method::Batch,
        r#"{"commands":[{"publish":{"channel":"a","data":1}},{"info":7}]}"#,
    );
    is_malformed(Method::Batch, "");
}

#[test]
fn unknown_fields_and_nulls_do_not_matter() {
    let request = json!({"channel": "a", "data": null, "tags": null, "version": null, "later": 1});
    let Ok(Call::Publish { data, options, .. }) = parse(Method::Publish, &request) else {
        panic!("refused");
    };
    assert_eq!(data, "null");
    assert_eq!(options, crate::control::PublishOptions::default());
}

#[test]
fn data_keeps_its_text_and_base64_wins() {
    let text = r#"{"channel":"a","data":{"big":12345678901234567890123 , "n":1.0}}"#;
    let Ok(Ok(Call::Publish { data, .. })) = Call::parse(Method::Publish, text.as_bytes()) else {
        panic!("refused");
    };
    assert_eq!(data, r#"{"big":12345678901234567890123 , "n":1.0}"#);
    let request = json!({"channel": "a", "data": 1, "b64data": "AP8="});
    let Ok(Call::Publish { data, .. }) = parse(Method::Publish, &request) else {
        panic!("refused");
    };
    assert_eq!(data.as_ref(), [0, 255]);
}

#[test]
fn a_subscribe_carries_all_it_says() {
    let request = json!({"user": "", "channel": "a", "client": "", "session": "s",
        "info": {"i": 1}, "b64data": "AA==", "recover_since": {"offset": 4, "epoch": "e"},
        "expire_at": -5, "override": {"presence": {"value": true}, "join_leave": {}}});
    let Ok(Call::Subscribe {
        selector, options, ..
    }) = parse(Method::Subscribe, &request)
    else {
        panic!("refused");
    };
    assert_eq!((selector.user.as_str(), selector.client), ("", None));
    assert_eq!(selector.session.as_deref(), Some("s"));
    assert_eq!(options.info, r#"{"i":1}"#);
    assert_eq!(options.data.as_ref(), [0]);
    assert_eq!(options.recover_since.map(|since| since.offset), Some(4));
    assert_eq!(
        options.expire_at,
        Some(1),
        "a time before 1970 is past, not never"
    );
    assert_eq!(options.overrides.presence, Some(true));
    assert_eq!(options.overrides.join_leave, Some(false));
    assert_eq!(options.overrides.force_recovery, None);
}

#[test]
fn history_limits_have_three_meanings() {
    for (limit, expected) in [
        (json!(null), HistoryLimit::PositionOnly),
        (json!(0), HistoryLimit::PositionOnly),
        (json!(7), HistoryLimit::AtMost(7)),
        (json!(-1), HistoryLimit::All),
    ] {
        let Ok(Call::History { query, .. }) =
            parse(Method::History, &json!({"channel": "a", "limit": limit}))
        else {
            panic!("refused");
        };
        assert_eq!(query.limit, expected);
    }
}

#[test]
fn methods_that_require_nothing_take_an_empty_body() {
    assert_eq!(Call::parse(Method::Info, b"").unwrap(), Ok(Call::Info));
    let all = Call::Channels {
        pattern: String::new(),
    };
    assert_eq!(Call::parse(Method::Channels, b"").unwrap(), Ok(all));
}

#[test]
fn a_batch_command_names_one_known_method_or_is_not_found() {
    let request = json!({"commands": [{"info": {}}, {"brew": {}}, {"batch": {"commands": []}}, {},
        {"info": null}, {"history_remove": {"channel": "a"}, "publish": null}]});
    let Ok(Call::Batch { commands, parallel }) = parse(Method::Batch, &request) else {
        panic!("refused");
    };
    assert!(!parallel);
    let removed = Call::HistoryRemove {
        channel: "a".to_owned(),
    };
    let not_found = || Err(ApiError::NotFound);
    assert_eq!(
        commands,
        [
            Ok(Call::Info),
            not_found(),
            not_found(),
            not_found(),
            not_found(),
            Ok(removed)
        ]
    );
    let many = json!({"commands": vec![json!({"info": {}}); 10_001]});
    assert_eq!(parse(Method::Batch, &many), Err(ApiError::BadRequest));
}

#[test]
fn legacy_bodies_hold_one_command_or_several() {
    let text = "{\"method\":\"info\"}\n{\"method\":\"nothing\",\"params\":{}}";
    let calls = parse_legacy(text.as_bytes()).unwrap();
    assert_eq!(calls, [Ok(Call::Info), Err(ApiError::NotFound)]);
    assert!(parse_legacy(b"{\"method\":\"info\",\"params\":3}").is_err());
    assert!(parse_legacy(b"{\"method\":").is_err());
}

#[test]
fn a_disconnect_without_a_reason_says_what_its_code_means() {
    let said =
        |code| super::disconnect(code, None).map(|told| (told.code, told.reason.into_owned()));
    assert_eq!(said(None), Ok((3503, "force disconnect".to_owned())));
    assert_eq!(said(Some(0)), Ok((3503, "force disconnect".to_owned())));
    assert_eq!(said(Some(3011)), Ok((3011, "force reconnect".to_owned())));
    assert_eq!(said(Some(4999)), Ok((4999, "force disconnect".to_owned())));
}
