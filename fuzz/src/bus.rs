//! What comes from NATS, where others publish too.

use std::str;

use bus::{Kind, fuzzing};
use bytes::Bytes;
use protocol::subject::Subject;

/// Any headers (lines up to an empty one) make a message or none. Who a client is survives
/// being written into a header again, on one line. Any text is a token of a key.
pub fn nats_headers(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (headers, payload) = text.split_once("\n\n").unwrap_or((text, ""));
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    if let Some(message) = fuzzing::message(headers, payload) {
        let info = match &message.kind {
            Kind::Publication(publication) => publication.info.as_ref(),
            Kind::Join(info) | Kind::Leave(info) => Some(info),
            Kind::Top(_) => None,
        };
        if let Some(info) = info {
            let (text, read) = fuzzing::info_again(info);
            assert!(!text.contains(['\r', '\n']), "{text:?}");
            assert_eq!(read.as_ref(), Some(&**info));
        }
    }
    assert!(Subject::new(&fuzzing::token(text)).is_ok());
    let subject = format!("$KV.TIDEGATE_STATE.{}", fuzzing::token(text));
    let Some((key, again)) = fuzzing::state_key(&subject) else {
        panic!("{subject:?} is of no key");
    };
    assert_eq!(key, text);
    // A dot within a token is one between tokens when it is written as a key.
    assert!(
        again == subject || text.contains('.'),
        "{again:?} {subject:?}"
    );
    drop(fuzzing::state_key(text));
}
