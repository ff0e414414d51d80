//! What agents say.

use ::upstream::ws_agent::fuzzing;

/// A conversation with an `OpenClaw` gateway, one line per frame or event of the connection:
/// every delivery gets one outcome, and no more is remembered than has happened.
pub fn openclaw_frames(data: &[u8]) {
    fuzzing::openclaw_frames(data);
}

/// The frames of a Stratix agent.
pub fn stratix_frames(bytes: &[u8]) {
    fuzzing::stratix_frames(bytes);
}

/// The URL of an agent.
pub fn agent_url(bytes: &[u8]) {
    fuzzing::agent_url(bytes);
}
