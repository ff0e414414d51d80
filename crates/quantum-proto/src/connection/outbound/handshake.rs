//! Packets of the handshake, and the last ones of a connection.

use bytes::BytesMut;

use crate::Time;
use crate::connection::path::BASE_DATAGRAM;
use crate::connection::shaking::Space;
use crate::connection::{Connection, Role};
use crate::frame::{self, Options};
use crate::packet::{self, Flags, HEADER_LEN, Header, Sacks, TRAILER_LEN};

impl Connection {
    /// The next piece of our flight.
    pub(super) fn handshake_datagram(&mut self, _now: Time, out: &mut BytesMut) -> Option<()> {
        let shaking = self.shaking.as_mut()?;
        let fixed = HEADER_LEN + TRAILER_LEN + frame::CRYPTO_HEAD;
        let mut cookie = BytesMut::new();
        if let Some(bytes) = &shaking.cookie {
            let options = Options {
                cookie: Some(bytes.clone()),
                ..Options::default()
            };
            let mut tlvs = Vec::new();
            options.encode(&mut tlvs);
            frame::write_options(&mut cookie, &tlvs);
        }
        // Room for the head of a PADDING frame, so that any hello can be made a full datagram.
        let room = usize::from(BASE_DATAGRAM) - fixed - cookie.len() - frame::FRAME_HEAD;
        if shaking.take_signal() {
            return self.syn_datagram(out, Flags::KEY_PHASE, frame::write_ping);
        }
        let (space, offset, data) = shaking.next(room)?;
        let flags = Flags::SYN
            .with_if(Flags::ACK, self.role == Role::Server)
            .with_if(Flags::KEY_PHASE, space == Space::Handshake);
        let start = out.len();
        let header = Header {
            flags,
            guuid: self.guuid,
            sequence: 0,
            ack: 0,
            sacks: Sacks::default(),
        };
        header.write(0, out);
        if space == Space::Initial {
            out.extend_from_slice(&cookie);
        }
        frame::write_crypto(out, u32::try_from(offset).unwrap_or(u32::MAX), data);
        let length = data.len();
        if space == Space::Initial && self.role == Role::Client {
            // So that a server answers three times as much and more addresses can't be spoofed.
            let size = out.len() - start + TRAILER_LEN;
            frame::write_padding(out, usize::from(BASE_DATAGRAM) - size);
        }
        let keys = shaking.keys(space)?;
        packet::seal(out, start, HEADER_LEN, self.counter, keys.local.as_ref());
        self.counter += 1;
        if let Some(shaking) = &mut self.shaking {
            shaking.sent(length);
        }
        Some(())
    }

    /// CLOSE, with the best keys that there are.
    pub(super) fn closing_datagram(&mut self, now: Time, out: &mut BytesMut) -> Option<()> {
        let (code, text) = self.closing.clone()?;
        let opens = self.keyring.is_some() && self.session.is_complete();
        if std::mem::take(&mut self.wishes.close) && opens {
            let draft = self.begin(now, 0, 0, false, out);
            frame::write_close(out, code, &text, usize::from(BASE_DATAGRAM) / 2);
            self.finish(now, &draft, Flags::FIN, None, None, out);
            return Some(());
        }
        if !std::mem::take(&mut self.wishes.close_handshake) {
            return None;
        }
        let has_keys = self.shaking.as_ref()?.handshake.is_some();
        let flags = Flags::FIN.with_if(Flags::KEY_PHASE, has_keys);
        self.syn_datagram(out, flags, |out| {
            frame::write_close(out, code, &text, usize::from(BASE_DATAGRAM) / 2);
        })
    }

    /// A packet of the handshake, under the keys that `flags` name, with these frames.
    fn syn_datagram(
        &mut self,
        out: &mut BytesMut,
        flags: Flags,
        write: impl FnOnce(&mut BytesMut),
    ) -> Option<()> {
        let space = if flags.contains(Flags::KEY_PHASE) {
            Space::Handshake
        } else {
            Space::Initial
        };
        let keys = self.shaking.as_ref()?.keys(space)?;
        let start = out.len();
        let header = Header {
            flags: flags
                .with(Flags::SYN)
                .with_if(Flags::ACK, self.role == Role::Server),
            guuid: self.guuid,
            sequence: 0,
            ack: 0,
            sacks: Sacks::default(),
        };
        header.write(0, out);
        write(out);
        packet::seal(out, start, HEADER_LEN, self.counter, keys.local.as_ref());
        self.counter += 1;
        Some(())
    }
}
