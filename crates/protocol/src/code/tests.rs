use std::path::Path;

use super::{
    DISCONNECT_MEANINGS, Disconnect, DisconnectError, ErrorCode, UNSUBSCRIBE_MEANINGS,
    UnsubscribeCode, WEBSOCKET_CLOSES, reference_markdown,
};

#[test]
fn codes_rise_and_lie_in_their_ranges() {
    let errors: Vec<u32> = ErrorCode::ALL.iter().map(|error| error.code()).collect();
    assert_eq!(errors, (100..=113).chain(1001..=1016).collect::<Vec<_>>());
    let disconnects: Vec<u16> = Disconnect::ALL
        .iter()
        .map(|disconnect| disconnect.code)
        .collect();
    assert!(disconnects.is_sorted_by(|a, b| a < b));
    assert_eq!(disconnects.len(), DISCONNECT_MEANINGS.len());
    assert!(disconnects.iter().all(|code| (3000..5000).contains(code)));
    let unsubscribes: Vec<u32> = UnsubscribeCode::ALL.iter().map(|code| code.code).collect();
    assert_eq!(unsubscribes, [2000, 2500, 2501, 2502]);
    assert_eq!(unsubscribes.len(), UNSUBSCRIBE_MEANINGS.len());
    assert!(
        WEBSOCKET_CLOSES
            .iter()
            .all(|(code, ..)| (1000..3000).contains(code))
    );
}

#[test]
fn temporary_errors_are_those_of_the_protocol() {
    let temporary: Vec<u32> = ErrorCode::ALL
        .iter()
        .filter(|error| error.temporary())
        .map(|error| error.code())
        .collect();
    assert_eq!(temporary, [100, 111, 113, 1001, 1004, 1008, 1014]);
}

#[test]
fn a_services_status_has_a_code_of_its_own() {
    assert_eq!(ErrorCode::of_service(5), ErrorCode::ServiceNotFound);
    assert_eq!(ErrorCode::of_service(16).code(), 1016);
    for unheard_of in [0, 17, 255] {
        assert_eq!(ErrorCode::of_service(unheard_of), ErrorCode::ServiceUnknown);
    }
}

#[test]
fn ranges_say_whether_clients_come_back() {
    for (code, back) in [
        (3000, true),
        (3499, true),
        (3500, false),
        (3999, false),
        (4000, true),
        (4499, true),
        (4500, false),
        (4999, false),
    ] {
        assert_eq!(
            Disconnect::new(code, "why").unwrap().may_reconnect(),
            back,
            "{code}"
        );
    }
    assert!(Disconnect::SHUTDOWN.may_reconnect());
    assert!(Disconnect::SLOW.may_reconnect());
    assert!(!Disconnect::REPLACED.may_reconnect());
    assert!(UnsubscribeCode::INSUFFICIENT_STATE.may_resubscribe());
    assert!(!UnsubscribeCode::SERVER_UNSUBSCRIBE.may_resubscribe());
}

#[test]
fn disconnects_that_clients_misread_are_refused() {
    for code in [0, 1000, 2999, 5000, 65_536 + 3001] {
        assert_eq!(
            Disconnect::new(code, "why"),
            Err(DisconnectError::Code { code })
        );
    }
    for reason in [String::new(), "x".repeat(124)] {
        let bytes = reason.len();
        assert_eq!(
            Disconnect::new(4000, reason),
            Err(DisconnectError::ReasonLength { bytes })
        );
    }
    for reason in ["{}", "1", "null", "\"text\""] {
        assert_eq!(
            Disconnect::new(4000, reason),
            Err(DisconnectError::ReasonIsJson)
        );
    }
    for own in Disconnect::ALL {
        assert_eq!(
            &Disconnect::new(u32::from(own.code), own.reason.clone()).unwrap(),
            own
        );
    }
}

/// After a change of a table: `cargo run -p protocol --example reference`, and keep what
/// it prints.
#[test]
fn reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/codes.md");
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(
        page == reference_markdown(),
        "{} is out of date",
        path.display()
    );
}
