//! Every parser of bytes from outside, under arbitrary input.
//!
//! A target is a function that takes any bytes and panics if a promise is broken. [`TARGETS`]
//! lists them; the tests of this crate replay the corpus and seeded mutations of it through each,
//! and `fuzz_targets/` offers the same functions to cargo-fuzz.
#![expect(clippy::panic, reason = "a target reports a broken promise by a panic")]

pub mod ai;
pub mod auth;
pub mod bus;
pub mod config;
pub mod edge;
pub mod http;
pub mod live;
pub mod market;
pub mod outbox;
pub mod protocol;
pub mod proxy;
pub mod quantum;
pub mod quantum_endpoint;
pub mod quantum_fields;
pub mod quantum_repairs;
pub mod quantum_streams;
pub mod session;
pub mod stratix;
pub mod upstream;
pub mod websocket;

/// A name, which is also that of the corpus folder, and a body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("websocket_server", websocket::server),
    ("websocket_client", websocket::client),
    ("websocket_deflate", websocket::deflate),
    ("websocket_handshake", websocket::handshake),
    ("json_commands", protocol::json_commands),
    ("protobuf_commands", protocol::protobuf_commands),
    ("subject_patterns", protocol::subject_patterns),
    ("call_template", protocol::call_template),
    ("session_operations", session::operations),
    ("openclaw_frames", upstream::openclaw_frames),
    ("stratix_frames", upstream::stratix_frames),
    ("agent_url", upstream::agent_url),
    ("tokens", auth::tokens),
    ("stratix_text", stratix::text),
    ("stratix_binary", stratix::binary),
    ("live_inbound", live::inbound),
    ("message_signatures", auth::message_signatures),
    ("outbox_envelope", outbox::envelope),
    ("outbox_note", outbox::note),
    ("config", config::file),
    ("route_json", config::route_json),
    ("kept_flags", config::kept_flags),
    ("proxy_record", proxy::record),
    ("proxy_path", proxy::path),
    ("sse", ai::sse),
    ("ai_body", ai::body),
    ("proxy_header", edge::proxy_header),
    ("forwarded_for", edge::forwarded_for),
    ("percent_decoded", edge::percent_decoded),
    ("outbox_segment", outbox::segment),
    ("http_request", http::request),
    ("http_response", http::response),
    ("http_body", http::body),
    ("market_source", market::source),
    ("market_restore", market::restore),
    ("nats_headers", bus::nats_headers),
    ("quantum_endpoint", quantum_endpoint::datagrams),
    ("quantum_fields", quantum_fields::fields),
    ("quantum_repairs", quantum_repairs::repairs),
    ("quantum_streams", quantum_streams::operations),
    ("quantum_packet", quantum::packet),
    ("quantum_frames", quantum::frames),
];
