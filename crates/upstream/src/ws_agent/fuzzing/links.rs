//! What links read, apart from frames of `OpenClaw` gateways.

use std::sync::Arc;

use super::super::peer::{Input, Now, Output};
use super::super::{AgentUrl, Outcome, Peer, stratix_peer};
use super::{delivery, target};

/// Any text as the URL of an agent. Panics if one is accepted that could break a request apart.
pub fn agent_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(url) = AgentUrl::parse(text) {
        let parts = [url.host, &url.target];
        let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(parts.into_iter().all(is_plain), "{url:?}");
        assert!(!url.host.is_empty() && url.port != 0, "{url:?}");
        assert!(url.target.starts_with('/'), "{url:?}");
    }
}

/// The lines as frames of a Stratix agent that owes acknowledgements. Panics if a message has
/// not exactly one outcome.
pub fn stratix_frames(script: &[u8]) {
    let mut target = target();
    target.peer = Peer::Stratix;
    let mut peer = stratix_peer::Peer::new(&target);
    let now = Now {
        mono_ms: 0,
        unix_ms: 0,
    };
    let mut out = Vec::new();
    peer.handle(now, Input::Opened, &mut out);
    let mut sent = 0;
    for frame in script.split(|&byte| byte == b'\n').take(LINES_MAX) {
        let message = Arc::new(delivery(sent, false));
        let send = Input::Send {
            tag: sent,
            delivery: message,
        };
        peer.handle(now, send, &mut out);
        peer.handle(now, Input::Written { tag: sent }, &mut out);
        peer.handle(now, Input::Frame(frame), &mut out);
        sent += 1;
    }
    let closed = Input::Closed {
        code: None,
        reason: "end".to_owned(),
    };
    peer.handle(now, closed, &mut out);
    let settled = out.iter().filter_map(|output| match output {
        Output::Outcome {
            tag,
            outcome: Outcome::Delivered | Outcome::Unknown { .. },
        } => Some(*tag),
        _ => None,
    });
    let mut settled: Vec<u64> = settled.collect();
    settled.sort_unstable();
    assert!(settled.into_iter().eq(0..sent), "not one outcome each");
}

/// Enough for every kind of frame.
const LINES_MAX: usize = 1000;
