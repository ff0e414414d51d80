use super::*;

fn order(deed: Deed) -> Order {
    Order {
        user: "alice".to_owned(),
        client: None,
        session: None,
        except: Vec::new(),
        deed,
    }
}

#[test]
fn orders_are_written_as_they_always_were() {
    let golden = [
        (
            order(Deed::Unsubscribe {
                channel: "news".to_owned(),
            }),
            r#"{"user":"alice","deed":{"do":"unsubscribe","channel":"news"}}"#,
        ),
        (
            order(Deed::Disconnect {
                code: 4501,
                reason: "gone".to_owned(),
            }),
            r#"{"user":"alice","deed":{"do":"disconnect","code":4501,"reason":"gone"}}"#,
        ),
        (
            order(Deed::Refresh {
                expired: false,
                expires_at: Some(7),
                info: Some("e30=".to_owned()),
            }),
            r#"{"user":"alice","deed":{"do":"refresh","expired":false,"expires_at":7,"info":"e30="}}"#,
        ),
    ];
    for (order, text) in golden {
        assert_eq!(order.to_json(), text);
        assert_eq!(Order::parse(text.as_bytes()).unwrap(), order);
    }
}

#[test]
fn subscribing_survives_the_way() {
    let asked = ServerSubscribe {
        channel: "news".to_owned(),
        info: Bytes::from_static(b"\x00\xff"),
        data: Bytes::from_static(b"{}"),
        overrides: Overrides {
            presence: Some(true),
            force_recovery: Some(false),
            ..Overrides::default()
        },
        recover_since: Some(StreamPosition {
            offset: 3,
            epoch: "abc".to_owned(),
        }),
        expires_at: 9,
    };
    let sent = order(Deed::Subscribe(Box::new(Subscribe::of(&asked)))).to_json();
    let Deed::Subscribe(heard) = Order::parse(&sent).unwrap().deed else {
        panic!("another deed");
    };
    let heard = heard.to_server_subscribe().unwrap();
    assert_eq!(format!("{heard:?}"), format!("{asked:?}"));
}

#[test]
fn an_order_that_can_not_be_is_refused() {
    for text in [
        "",
        "{}",
        r#"{"user":"a","deed":{"do":"dance"}}"#,
        r#"{"user":"a","deed":{"do":"disconnect","code":-1,"reason":""}}"#,
    ] {
        assert!(Order::parse(text.as_bytes()).is_err(), "{text}");
    }
    let code = Deed::Disconnect {
        code: 1,
        reason: "x".to_owned(),
    };
    assert!(matches!(code.operation(), Err(OrderError::Code(_))));
    let info = Deed::Refresh {
        expired: false,
        expires_at: None,
        info: Some("*".to_owned()),
    };
    assert!(matches!(info.operation(), Err(OrderError::Base64(_))));
}
