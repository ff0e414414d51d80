//! What a server sends to addresses, compared with what came from there.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::failure::{Held, check};

#[derive(Debug, Default)]
struct Account {
    received: u64,
    sent: u64,
    is_proved: bool,
}

/// Bytes by address, until the address has proved that it receives.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: HashMap<SocketAddr, Account>,
    challenges: HashMap<[u8; 8], SocketAddr>,
}

impl Ledger {
    pub(super) fn on_received(&mut self, from: SocketAddr, bytes: usize) {
        self.accounts.entry(from).or_default().received += bytes as u64;
    }

    pub(super) fn on_sent(&mut self, to: SocketAddr, bytes: usize) -> Held {
        let account = self.accounts.entry(to).or_default();
        account.sent += bytes as u64;
        let (sent, received) = (account.sent, account.received);
        check(
            "nothing-is-amplified",
            account.is_proved || sent <= 3 * received,
            || format!("{sent} bytes went to {to}, which had sent {received} and proved nothing"),
        )
    }

    pub(super) fn on_proved(&mut self, address: SocketAddr) {
        self.accounts.entry(address).or_default().is_proved = true;
    }

    /// That address was asked to send these bytes back.
    pub(super) fn on_challenge(&mut self, to: SocketAddr, token: [u8; 8]) {
        self.challenges.insert(token, to);
    }

    pub(super) fn on_response(&mut self, token: [u8; 8]) {
        if let Some(address) = self.challenges.get(&token).copied() {
            self.on_proved(address);
        }
    }
}
