use super::*;

fn parse_server(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    Header::parse(Role::Server, false, bytes)
}

#[test]
fn written_headers_are_read_back_at_every_length_class() {
    for len in [0, 1, 125, 126, 0xffff, 0x1_0000] {
        let payload = vec![b'x'; len];
        for mask in [None, Some([9, 8, 7, 6])] {
            let mut wire = Vec::new();
            encode_frame(&mut wire, OpCode::Binary, false, false, mask, &payload);
            let role = if mask.is_some() {
                Role::Server
            } else {
                Role::Client
            };
            let header = Header::parse(role, false, &wire).unwrap().unwrap();
            assert_eq!((header.len, header.fin), (len as u64, false));
            assert_eq!(header.size + len, wire.len());
            assert_eq!(header.key, mask.unwrap_or_default());
            for cut in 0..header.size {
                assert_eq!(
                    Header::parse(role, false, &wire[..cut]),
                    Ok(None),
                    "cut at {cut}"
                );
            }
        }
    }
}

#[test]
fn unmasked_header_and_payload_are_contiguous() {
    let (header, len) = frame_header(OpCode::Text, true, 300);
    let mut wire = Vec::new();
    encode_frame(&mut wire, OpCode::Text, true, true, None, &[b'a'; 300]);
    assert_eq!(wire[..len], header[..len]);
    assert_eq!(wire[len..], [b'a'; 300]);
}

#[test]
fn first_byte_alone_is_enough_to_refuse() {
    for (byte, error) in [
        (0x83, FrameError::ReservedOpCode(3)),
        (0x8b, FrameError::ReservedOpCode(11)),
        (0x8f, FrameError::ReservedOpCode(15)),
        (0xc1, FrameError::ReservedBits),
        (0xa1, FrameError::ReservedBits),
        (0x91, FrameError::ReservedBits),
        (0x08, FrameError::FragmentedControl),
        (0x09, FrameError::FragmentedControl),
    ] {
        assert_eq!(parse_server(&[byte]), Err(error), "{byte:#x}");
    }
}

#[test]
fn compressed_bit_is_only_for_the_first_data_frame() {
    for (byte, accepted) in [(0xc1, true), (0xc2, true), (0xc0, false), (0xc9, false)] {
        assert_eq!(
            Header::parse(Role::Server, true, &[byte]).is_ok(),
            accepted,
            "{byte:#x}"
        );
    }
}

#[test]
fn mask_bit_depends_on_the_role() {
    assert_eq!(parse_server(&[0x81, 0x01]), Err(FrameError::Unmasked));
    assert_eq!(
        Header::parse(Role::Client, false, &[0x81, 0x81]),
        Err(FrameError::Masked)
    );
}

#[test]
fn lengths_are_minimal_and_63_bits() {
    let long = |field: u64| {
        let mut bytes = vec![0x82, 0xff];
        bytes.extend_from_slice(&field.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    };
    assert_eq!(
        parse_server(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0]),
        Err(FrameError::LengthNotMinimal)
    );
    assert!(parse_server(&[0x82, 0xfe, 0, 126, 0, 0, 0, 0]).is_ok());
    assert_eq!(
        parse_server(&long(0xffff)),
        Err(FrameError::LengthNotMinimal)
    );
    assert!(parse_server(&long(0x1_0000)).is_ok());
    assert!(parse_server(&long(u64::MAX >> 1)).is_ok());
    assert_eq!(
        parse_server(&long(1 << 63)),
        Err(FrameError::LengthOverflow)
    );
    assert_eq!(
        parse_server(&[0x82, 0xff, 0x80]),
        Err(FrameError::LengthOverflow)
    );
}

#[test]
fn control_frames_have_at_most_125_bytes() {
    assert!(parse_server(&[0x89, 0x80 | 125, 0, 0, 0, 0]).is_ok());
    assert_eq!(
        parse_server(&[0x89, 0x80 | 126]),
        Err(FrameError::OversizedControl)
    );
}
