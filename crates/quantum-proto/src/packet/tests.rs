//! Packets: what is refused, what is kept, and the wrap of sequence numbers.

use super::*;
use crate::chance::Random;

/// A cipher for tests: adds the counter to each byte; the tag is a checksum of everything.
struct Sum;

impl Sum {
    fn tag(counter: u64, associated: &[u8], sealed: &[u8]) -> [u8; TAG_LEN] {
        let mut sum = u128::from(counter) + 1;
        for byte in associated.iter().chain(sealed) {
            sum = (sum ^ u128::from(*byte)).wrapping_mul(0x0100_0000_01b3_0000_0193);
            sum ^= sum >> 61;
        }
        sum.to_be_bytes()
    }
}

impl PacketKey for Sum {
    fn seal(&self, counter: u64, associated: &[u8], payload: &mut [u8]) -> [u8; TAG_LEN] {
        for byte in payload.iter_mut() {
            *byte = byte.wrapping_add(counter as u8);
        }
        Self::tag(counter, associated, payload)
    }

    fn open(&self, counter: u64, associated: &[u8], sealed: &mut [u8]) -> Result<(), Rejected> {
        let (sealed, tag) = sealed.split_last_chunk_mut().ok_or(Rejected)?;
        if *tag != Self::tag(counter, associated, sealed) {
            return Err(Rejected);
        }
        for byte in sealed {
            *byte = byte.wrapping_sub(counter as u8);
        }
        Ok(())
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

fn guuid() -> Guuid {
    Guuid::new(*b"0123456789abcdef").unwrap()
}

fn header(sacks: &[(u32, u32)]) -> Header {
    let mut header = Header {
        flags: Flags::ACK.with(Flags::PSH),
        guuid: guuid(),
        sequence: 101,
        ack: 100,
        sacks: Sacks::default(),
    };
    for (start, end) in sacks {
        assert!(header.sacks.push(*start, *end));
    }
    header
}

/// The bytes of a sealed packet.
fn packet(header: &Header, payload: &[u8], counter: u64) -> BytesMut {
    let mut out = BytesMut::new();
    header.write(0, &mut out);
    out.put_slice(payload);
    seal(&mut out, 0, header.len(), counter, &Sum);
    out
}

#[track_caller]
fn refused(datagram: &[u8]) -> PacketError {
    Packet::parse(BytesMut::from(datagram)).unwrap_err()
}

#[test]
fn header_has_the_bytes_of_the_contract() {
    let mut out = BytesMut::new();
    header(&[(102, 102)]).write(0x1234, &mut out);
    let expected = [
        b"QUNT\x01\x22".as_slice(),
        b"0123456789abcdef",
        &[0, 0, 0, 101, 0, 0, 0, 100, 0x12, 0x34],
        &[0, 0, 0, 102, 0, 0, 0, 102],
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn what_was_sealed_is_opened_whatever_its_sizes() {
    let mut random = Random::new(1);
    for round in 0..2_000 {
        let mut header = header(&[]);
        for _ in 0..random.below(9) {
            header
                .sacks
                .push(random.next() as u32, random.next() as u32);
        }
        header.sequence = random.next() as u32;
        header.flags = Flags((random.next() as u8) & !Flags::RST.0);
        let payload: Vec<u8> = (0..random.below(1_400))
            .map(|_| random.next() as u8)
            .collect();
        let counter = random.next();

        let sealed = Sealed::parse(packet(&header, &payload, counter)).unwrap();
        assert_eq!(sealed.header, header, "round {round}");
        assert_eq!(sealed.counter, counter);
        assert_eq!(sealed.payload_len(), payload.len());
        assert_eq!(sealed.associated().len(), header.len());
        assert_eq!(sealed.open(&Sum).unwrap(), payload, "round {round}");
    }
}

#[test]
fn packets_are_sealed_behind_one_another_without_moving() {
    let mut out = BytesMut::with_capacity(4_096);
    let at = out.as_ptr();
    let mut ends = vec![0];
    for counter in 0..3 {
        let start = out.len();
        let header = header(&[(1, 2)]);
        header.write(0, &mut out);
        out.put_slice(b"payload");
        seal(&mut out, start, header.len(), counter, &Sum);
        ends.push(out.len());
    }
    assert_eq!(out.as_ptr(), at);
    for (counter, range) in ends.windows(2).enumerate() {
        let sealed = Sealed::parse(BytesMut::from(&out[range[0]..range[1]])).unwrap();
        assert_eq!(sealed.counter, counter as u64);
        assert_eq!(sealed.open(&Sum).unwrap(), b"payload".as_slice());
    }
}

#[test]
fn amended_header_keeps_everything_else() {
    let mut out = BytesMut::from(b"before".as_slice());
    header(&[(5, 6)]).write(9, &mut out);
    let mut expected = header(&[(5, 6)]);
    (expected.flags, expected.sequence) = (Flags::FIN, 0xfeed_beef);
    amend(&mut out, 6, expected.flags, expected.sequence);
    let mut wanted = BytesMut::from(b"before".as_slice());
    expected.write(9, &mut wanted);
    assert_eq!(out, wanted);
}

#[test]
fn payload_is_never_taken_for_sack_blocks() {
    let sealed = Sealed::parse(packet(&header(&[]), &[7; 64], 1)).unwrap();
    assert!(sealed.header.sacks.is_empty());
    assert_eq!(sealed.payload_len(), 64);
}

#[test]
fn every_changed_bit_is_noticed() {
    let whole = packet(&header(&[(102, 104)]), b"some payload", 77);
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let opened = match Packet::parse(changed) {
            Ok(Packet::Sealed(sealed)) => sealed.open(&Sum).is_ok(),
            Ok(Packet::Reset { .. }) | Err(_) => false,
        };
        assert!(!opened, "bit {bit}");
    }
}

#[test]
fn every_cut_is_refused_or_does_not_open() {
    let whole = packet(&header(&[(102, 104)]), b"some payload", 77);
    for end in 0..whole.len() {
        if let Ok(sealed) = Sealed::parse(BytesMut::from(&whole[..end])) {
            assert!(sealed.open(&Sum).is_err(), "{end} bytes");
        }
    }
}

#[test]
fn refusals_name_what_is_wrong_and_where() {
    let whole = packet(&header(&[]), b"payload", 1);
    assert_eq!(refused(b""), PacketError::Short(0));
    assert_eq!(refused(&whole[..31]), PacketError::Short(31));

    let mut magic = whole.clone();
    magic[3] = b'X';
    assert_eq!(refused(&magic), PacketError::Magic(0x5155_4e58));

    let mut version = whole.clone();
    version[4] = 2;
    let error = refused(&version);
    assert_eq!(
        error.to_string(),
        "byte 4 asks for version 2, this is version 1"
    );

    let mut nobody = whole.clone();
    nobody[6..22].fill(0);
    assert_eq!(refused(&nobody), PacketError::Guuid);
}

#[test]
fn lengths_leave_a_whole_number_of_sack_blocks_up_to_eight() {
    let fits = |sacks: usize| {
        let mut datagram = packet(&header(&[]), b"payload", 1);
        let rest = datagram.split_off(HEADER_LEN);
        datagram.put_bytes(9, sacks);
        datagram.extend_from_slice(&rest);
        Packet::parse(datagram).is_ok()
    };
    for sacks in 0..=80 {
        assert_eq!(fits(sacks), sacks % 8 == 0 && sacks <= 64, "{sacks} bytes");
    }
    // Longer than the datagram has room for.
    let mut liar = packet(&header(&[]), b"payload", 1);
    liar[PAYLOAD_LEN_AT..HEADER_LEN].copy_from_slice(&u16::MAX.to_be_bytes());
    let (len, payload_len) = (liar.len(), usize::from(u16::MAX));
    assert_eq!(refused(&liar), PacketError::Length { len, payload_len });
    // No room for the trailer.
    let mut bare = BytesMut::new();
    header(&[]).write(0, &mut bare);
    assert!(matches!(
        refused(&bare),
        PacketError::Length { len: 32, .. }
    ));
}

#[test]
fn reset_is_told_from_packets() {
    let mut out = BytesMut::new();
    let token = [5; RESET_TOKEN_LEN];
    write_reset(guuid(), &token, &mut out);
    assert_eq!(out.len(), RESET_LEN);
    let read = Packet::parse(out.clone()).unwrap();
    assert!(
        matches!(read, Packet::Reset { guuid: of, token: with } if of == guuid() && with == token)
    );
    assert_eq!(Sealed::parse(out.clone()).unwrap_err(), PacketError::Reset);

    let mut longer = out.clone();
    longer.put_u8(0);
    assert_eq!(refused(&longer), PacketError::ResetForm(49));
    assert_eq!(refused(&out[..47]), PacketError::ResetForm(47));
    let mut more = out;
    more[5] |= Flags::SYN.0;
    assert_eq!(refused(&more), PacketError::ResetForm(48));
}

#[test]
fn numbers_on_the_wire_skip_zero_at_the_wrap() {
    let numbering = Numbering::new(u32::MAX - 2);
    let wire: Vec<u32> = (0..6).map(|number| numbering.to_wire(number)).collect();
    assert_eq!(wire, [0, u32::MAX - 1, u32::MAX, 1, 2, 3]);
    assert_eq!(Numbering::new(0).to_wire(1), 1);
    assert_eq!(Numbering::new(u32::MAX).to_wire(1), 1);
    assert_eq!(Numbering::new(7).to_wire(CYCLE), 7);
}

/// How many numbers there are on the wire.
const CYCLE: u64 = u32::MAX as u64;

#[test]
fn numbers_are_found_again_from_anything_nearer_than_half_a_cycle() {
    let mut random = Random::new(2);
    for round in 0..20_000 {
        let start = match random.below(3) {
            0 => random.next() as u32,
            1 => u32::MAX - random.below(4) as u32,
            _ => random.below(4) as u32,
        };
        let numbering = Numbering::new(start);
        let number = match random.below(3) {
            0 => 1 + random.next() % (1 << 40),
            1 => 1 + random.next() % 16,
            _ => {
                (CYCLE * (1 + random.next() % 3)).saturating_add_signed(random.below(9) as i64 - 4)
            }
        };
        let away = random.next() % (1 << 31);
        let near = match random.below(2) {
            0 => number + away,
            _ => number.saturating_sub(away),
        };
        let wire = numbering.to_wire(number);
        assert_ne!(wire, 0);
        let found = numbering.expand(wire, near);
        assert_eq!(
            found,
            Some(number),
            "round {round}: start {start}, near {near}"
        );
    }
}

#[test]
fn numbers_at_the_ends_of_the_range_do_not_overflow() {
    for start in [0, 1, u32::MAX] {
        let numbering = Numbering::new(start);
        for wire in [0, 1, 2, u32::MAX - 1, u32::MAX] {
            for near in [0, 1, 2, CYCLE, u64::MAX - 1, u64::MAX] {
                let found = numbering.expand(wire, near);
                assert_eq!(found.is_none(), wire == 0, "{start} {wire} {near}");
                if let Some(found) = found {
                    assert!(found > 0);
                    assert_eq!(numbering.to_wire(found), wire);
                }
            }
        }
    }
}

#[test]
fn sack_blocks_have_room_for_eight() {
    let mut sacks = Sacks::default();
    for block in 0..8 {
        assert!(sacks.push(block, block));
    }
    assert!(!sacks.push(8, 8));
    assert_eq!(sacks.len(), SACK_MAX);
}
