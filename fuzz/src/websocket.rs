//! The WebSocket codec: against tungstenite where both speak the same protocol, against itself
//! where they do not.

use websocket::handshake::{ClientHandshake, header_values, select_protocol, token, validate};
use websocket::{DeflateConfig, DeflateParams, FrameError, Limits, Role, negotiate_deflate};

use listen::{End, Heard, listen};

mod listen;
mod oracle;

/// Bytes of a client, as a server hears them, without compression.
pub fn server(data: &[u8]) {
    differential(Role::Server, data);
}

/// Bytes of a server, as a client hears them, without compression.
pub fn client(data: &[u8]) {
    differential(Role::Client, data);
}

/// Bytes of a client with compression: any cut gives the same, and no cap is passed.
pub fn deflate(data: &[u8]) {
    let params = Some(DeflateParams { window_bits: 15 });
    same_however_cut(Role::Server, params, data);
}

/// A request, a list of offers, and a response, whatever the bytes look like.
pub fn handshake(data: &[u8]) {
    let mut storage = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut storage);
    if let Ok(httparse::Status::Complete(_)) = request.parse(data) {
        let headers = request
            .headers
            .iter()
            .map(|header| (header.name, header.value));
        let method = request.method.unwrap_or_default();
        let minor = request.version.unwrap_or_default();
        match validate(method, minor, headers.clone()) {
            Ok(upgrade) => assert_eq!(upgrade.key.len(), 24, "a key is sixteen bytes in base64"),
            Err(error) => assert!((400..600).contains(&error.status())),
        }
        let offered = header_values(headers, "sec-websocket-protocol").collect::<Vec<_>>();
        let supported = ["centrifuge-protobuf", "centrifuge-json"];
        let chosen = select_protocol(offered.iter().copied(), &supported);
        if let Some(chosen) = chosen {
            let offers = token::list(offered.iter().copied());
            assert!(offers.into_iter().any(|offer| offer == chosen.as_bytes()));
        }
    }

    let values = data.split(|byte| *byte == b'\n');
    if let Some((params, answer)) = negotiate_deflate(values, &DeflateConfig::default()) {
        assert!((9..=15).contains(&params.window_bits));
        assert!(answer.starts_with("permessage-deflate; server_no_context_takeover"));
    }

    let mut client = ClientHandshake::new([7; 16]);
    client.protocols = vec!["centrifuge-json".to_owned()];
    client.deflate = Some(DeflateConfig::default());
    if let Ok(Some((used, accepted))) = client.parse(data) {
        assert!(used <= data.len());
        assert!(
            accepted
                .protocol
                .is_none_or(|chosen| chosen == "centrifuge-json")
        );
    }
}

/// Our verdict and tungstenite's.
///
/// Permitted differences:
///
/// - We refuse as soon as the bytes that break a rule are there; tungstenite waits for the end of
///   the frame, and finds itself cut off if that does not come.
/// - We refuse lengths that are not encoded minimally (RFC 6455, 5.2); tungstenite takes them.
///   In a control frame such a length counts as oversized.
/// - We refuse close codes that must not be sent; tungstenite reports 1002 in their place.
/// - We know 1014, which was registered later; tungstenite counts it to the former.
fn differential(role: Role, data: &[u8]) {
    let ours = same_however_cut(role, None, data);
    let theirs = oracle::listen(role, &LIMITS, data);

    let ours_of_close = ours.heard.last().and_then(Heard::close_code);
    let theirs_of_close = theirs.heard.last().and_then(Heard::close_code);
    match &ours.end {
        End::Refused(error) => {
            let heard_before = theirs.heard.get(..ours.heard.len());
            assert_eq!(
                Some(ours.heard.as_slice()),
                heard_before,
                "before {error}: {theirs:?}"
            );
            let heard_after = &theirs.heard[ours.heard.len()..];
            let tolerated = match error {
                FrameError::LengthNotMinimal | FrameError::OversizedControl => true,
                FrameError::CloseCode(_) => {
                    matches!(heard_after, [] | [Heard::Close(Some(1002), _)])
                }
                _ => heard_after.is_empty(),
            };
            assert!(
                tolerated,
                "we refuse ({error}), tungstenite heard {theirs:?}"
            );
        }
        End::Closed if ours_of_close == Some(1014) => {
            assert_eq!(theirs_of_close, Some(1002));
        }
        End::Closed | End::Cut | End::RefusedThere => assert_eq!(ours, theirs),
    }
}

/// Listens to `data` whole, byte by byte, and in two other rhythms, and returns what all heard.
fn same_however_cut(role: Role, deflate: Option<DeflateParams>, data: &[u8]) -> listen::Outcome {
    let whole = listen(role, deflate, &LIMITS, data, data.len().max(1));
    for step in [1, 7, 64] {
        let parts = listen(role, deflate, &LIMITS, data, step);
        assert_eq!(whole, parts, "in parts of {step} bytes");
    }
    whole
}

/// Small, so that mutations reach them.
const LIMITS: Limits = Limits {
    message_max: 2048,
    frame_max: 1024,
    inflated_max: 8192,
    inflate_ratio_max: 50,
};
