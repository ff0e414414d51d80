//! Which of several agents a client goes to: rendezvous hashing.
//!
//! Every agent gets a score for the client, the highest wins. An agent that is added or
//! removed moves only the clients that it wins or has won. The hash is fixed, so all
//! gateways with the same agents choose the same one, whatever their order.

/// A hash of a text that is the same in every process and version: FNV-1a.
pub(super) fn mark(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Position of the winner among agents of these marks; 0 if there are none.
pub(super) fn winner(client: &str, agents: impl Iterator<Item = u64>) -> usize {
    let client = mark(client);
    let mut best = (0, 0);
    for (index, agent) in agents.enumerate() {
        // Equal marks lead to equal scores; the first keeps them.
        let score = mix(client ^ mix(agent));
        if index == 0 || score > best.1 {
            best = (index, score);
        }
    }
    best.0
}

/// Spreads the bits (the finisher of `SplitMix64`).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
