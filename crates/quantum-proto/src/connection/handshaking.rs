//! The handshake: from the first SYN to application keys.

use std::time::Duration;

use bytes::Bytes;

use super::inbound::Arrived;
use super::keyring::Keyring;
use super::shaking::Space;
use super::{Connection, Event, Phase, Role};
use crate::Time;
use crate::codes::close;
use crate::crypto::{Level, NewKeys};
use crate::frame::{Frame, Frames, Options};
use crate::packet::Flags;
use crate::streams::PeerLimits;

/// Application packets that are kept until the handshake is done.
const EARLY_MAX: usize = 32;
/// And their bytes: an initial window, which anybody may make us keep.
const EARLY_BYTES_MAX: usize = 24 << 10;
/// The most packets in flight that we make use of, whatever the peer allows: each is remembered.
const PACKET_WINDOW_MAX: u64 = 1 << 18;

impl Connection {
    /// A packet with the flag SYN.
    pub(super) fn on_syn(&mut self, now: Time, arrived: Arrived) {
        let space = if arrived.sealed.header.flags.contains(Flags::KEY_PHASE) {
            Space::Handshake
        } else {
            Space::Initial
        };
        let Some(shaking) = &mut self.shaking else {
            // The client has not heard that we are done. Or somebody repeats its packets, which
            // nothing here opens any more: so once in a while is enough.
            let due = now >= self.timers.done_at + self.pto();
            if self.role == Role::Server && self.phase == Phase::Open && due {
                self.timers.done_at = now;
                self.wishes.done = true;
            }
            return;
        };
        let Some(keys) = shaking.keys(space) else {
            self.stats.dropped_no_key += 1;
            return;
        };
        let Ok(payload) = arrived.sealed.open(keys.remote.as_ref()) else {
            self.stats.decrypt_failures += 1;
            return;
        };
        self.timers.heard(now);
        if space == Space::Handshake {
            // Only whoever received what we sent there has these keys.
            self.path.validated = true;
            if let Some(shaking) = &mut self.shaking {
                shaking.drop_initial();
            }
        }
        self.on_handshake_payload(now, space, payload);
        self.advance_handshake(now);
    }

    fn on_handshake_payload(&mut self, now: Time, space: Space, payload: Bytes) {
        for frame in Frames::new(payload) {
            match frame {
                Ok(Frame::Crypto { offset, data }) => {
                    self.on_crypto(now, space, offset as usize, &data);
                }
                Ok(Frame::Options(tlvs)) => self.on_cookie(now, &tlvs),
                Ok(Frame::Close { code, text }) => self.on_close(now, code, text),
                Ok(Frame::Padding(_) | Frame::Ping) => {}
                Ok(_) => self.fail(
                    now,
                    close::VIOLATION,
                    "a frame that has no place in a handshake",
                ),
                Err(error) => self.fail(now, close::FRAME, &error.to_string()),
            }
        }
    }

    fn on_crypto(&mut self, now: Time, space: Space, offset: usize, data: &[u8]) {
        let Some(shaking) = &mut self.shaking else {
            return;
        };
        let readable = match shaking.put(space, offset, data) {
            Ok(Some(readable)) => readable,
            // Heard before: the peer sends its flight again, so it has missed ours.
            Ok(None) => return,
            Err(_) => {
                self.fail(now, close::VIOLATION, "handshake is too long");
                return;
            }
        };
        let level = match space {
            Space::Initial => Level::Initial,
            Space::Handshake => Level::Handshake,
        };
        if let Err(error) = self.session.read(level, &readable) {
            self.fail(now, error.code, &error.text);
        }
    }

    /// An endpoint under load wants to see that we receive at our address.
    fn on_cookie(&mut self, now: Time, tlvs: &[u8]) {
        let Ok(Options {
            cookie: Some(cookie),
            ..
        }) = Options::decode(tlvs)
        else {
            return;
        };
        let Some(shaking) = &mut self.shaking else {
            return;
        };
        if self.role == Role::Client && shaking.cookie.as_ref() != Some(&cookie) {
            shaking.cookie = Some(cookie);
            shaking.start_flight(now);
        }
    }

    /// Takes from the crypto session what it has to say, and the keys that it has agreed on.
    pub(super) fn advance_handshake(&mut self, now: Time) {
        if self.phase != Phase::Shaking {
            return;
        }
        let Some(shaking) = &mut self.shaking else {
            return;
        };
        let mut said = false;
        loop {
            let mut bytes = Vec::new();
            let keys = self.session.write(&mut bytes);
            let space = if shaking.handshake.is_some() { 1 } else { 0 };
            said |= !bytes.is_empty();
            if self.keyring.is_none() {
                shaking.outgoing[space].extend_from_slice(&bytes);
            }
            match keys {
                Some(NewKeys::Handshake(keys)) => shaking.handshake = Some(keys),
                Some(NewKeys::Application(keys)) => self.keyring = Some(Keyring::new(keys)),
                None if bytes.is_empty() => break,
                None => {}
            }
        }
        if said {
            shaking.start_flight(now);
        }
        if self.session.is_complete() && self.keyring.is_some() {
            self.establish(now);
        }
    }

    /// The peer is who it says, and has told its limits.
    fn establish(&mut self, now: Time) {
        let Some(Ok(options)) = self.session.peer_options().map(Options::decode) else {
            self.fail(
                now,
                close::VIOLATION,
                "options of the handshake are unreadable",
            );
            return;
        };
        self.phase = Phase::Open;
        self.path.validated = true;
        self.stats.handshake = Some(now.since(self.timers.started));
        self.theirs = crate::packet::Numbering::new(options.first_sequence);
        self.peer_packet_window = u64::from(options.packet_window).min(PACKET_WINDOW_MAX);
        self.peer_reset_token = options.reset_token;
        self.recovery
            .set_peer_ack_delay(Duration::from_micros(u64::from(options.ack_delay_max)));
        self.encoder.set_peer_schemes(options.fec_schemes);
        self.mtu = super::Mtu::new(now, options.largest_datagram.min(self.config.max_datagram));
        if options.idle_timeout > 0 {
            let theirs = Duration::from_millis(u64::from(options.idle_timeout));
            self.timers.idle = self.timers.idle.min(theirs);
        }
        self.streams.set_peer(PeerLimits {
            connection_window: u64::from(options.connection_window),
            stream_window: u64::from(options.stream_window),
            max_streams: options.max_streams,
        });
        if self.role == Role::Server {
            // The client's flight has come in whole, and so it needs none of ours any more.
            self.shaking = None;
            self.timers.done_at = now;
            self.wishes.done = true;
        }
        self.events.push_back(Event::Connected);
        self.early_bytes = 0;
        for arrived in std::mem::take(&mut self.early) {
            self.on_application(now, arrived);
        }
    }

    /// An application packet before the handshake's end is kept for a moment.
    pub(super) fn keep_early(&mut self, arrived: Arrived) {
        let bytes = self.early_bytes + arrived.sealed.len();
        let fits = self.early.len() < EARLY_MAX && bytes <= EARLY_BYTES_MAX;
        if self.keyring.is_some() && fits {
            self.early_bytes = bytes;
            self.early.push(arrived);
        } else {
            self.stats.dropped_no_key += 1;
        }
    }

    /// The server spoke with application keys, so it has heard all of our handshake.
    pub(super) fn confirm_handshake(&mut self) {
        if self.shaking.take().is_some() {
            self.path.validated = true;
        }
    }
}
