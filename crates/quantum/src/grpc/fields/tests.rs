use super::*;

fn block(fields: &[(&str, &str)]) -> Bytes {
    let mut out = BytesMut::new();
    for (name, value) in fields {
        write(&mut out, name, value.as_bytes()).unwrap();
    }
    out.freeze()
}

fn texts(block: &Bytes) -> Vec<(String, String)> {
    let fields = read(block).unwrap().into_iter();
    let text = |value: HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    fields
        .map(|field| match field {
            Field::Pseudo(name, value) => (format!(":{name}"), text(value)),
            Field::Plain(name, value) => (name.to_string(), text(value)),
        })
        .collect()
}

const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn what_is_written_is_read() {
    let long = "x".repeat(5_000);
    let fields = [
        (":path", "/echo.v1.Echo/Unary"),
        (":authority", "example"),
        ("content-type", "application/grpc"),
        ("grpc-status", "0"),
        ("grpc-status", "7"),
        ("x-guuid", UUID),
        ("x-guuid", "550E8400-E29B-41D4-A716-446655440000"),
        ("x-guuid", "no uuid"),
        ("traceparent", TRACE),
        (
            "traceparent",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("x-long", &long),
        ("x-bytes-bin", "\u{e9}"),
        ("x-empty", ""),
    ];
    let read = texts(&block(&fields));
    for (read, (name, value)) in read.iter().zip(fields) {
        assert_eq!((&*read.0, &*read.1), (name, value));
    }
    assert_eq!(read.len(), fields.len());
}

#[test]
fn every_entry_of_the_tables_is_one_byte() {
    for (name, value) in PAIRS {
        let block = block(&[(name, value)]);
        assert_eq!(block.len(), 1);
        assert_eq!(texts(&block), [(name.to_owned(), value.to_owned())]);
    }
    for name in NAMES {
        assert_eq!(block(&[(name, "v")]).len(), 3, "{name}");
    }
}

#[test]
fn the_head_of_a_traced_call_is_short() {
    let head = block(&[
        (":path", "/quantum.v1.Echo/Unary"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "500m"),
        ("x-guuid", UUID),
        ("traceparent", TRACE),
    ]);
    let expected = [
        &[0x40, 22][..],
        b"/quantum.v1.Echo/Unary",
        &[0x80, 0x43, 4],
        b"500m",
        &[
            0x30, 0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16,
        ],
        &[0x44, 0x66, 0x55, 0x44, 0x00, 0x00, 0x31],
        &[
            0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d,
        ],
        &[
            0x0e, 0x0e, 0x47, 0x36, 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7, 0x01,
        ],
    ]
    .concat();
    assert_eq!(head, expected);
}

#[test]
fn what_is_cut_short_is_refused_wherever_it_is_cut() {
    let whole = block(&[
        (":path", "/a"),
        ("x-guuid", UUID),
        ("traceparent", TRACE),
        ("q", "v"),
    ]);
    let ends = [0, 4, 21, 47, whole.len()];
    for end in 0..=whole.len() {
        let outcome = read(&whole.slice(..end));
        assert_eq!(outcome.is_ok(), ends.contains(&end), "{end}: {outcome:?}");
    }
}

#[test]
fn wrong_forms_names_and_values_are_named_with_their_place() {
    let of = |bytes: &'static [u8]| read(&Bytes::from_static(bytes)).unwrap_err();
    assert_eq!(of(&[0x81, 0x20]), FieldsError::Form { at: 1, form: 0x20 });
    assert_eq!(of(&[0x7f]), FieldsError::Form { at: 0, form: 0x7f });
    assert_eq!(of(&[0xff]), FieldsError::Form { at: 0, form: 0xff });
    assert_eq!(of(&[0, 1, b'A', 0]), FieldsError::Name { at: 0 });
    assert_eq!(of(&[0, 2, b':', b'a', 0]), FieldsError::Name { at: 0 });
    assert_eq!(of(&[0, 0, 0]), FieldsError::Name { at: 0 });
    assert_eq!(of(&[0x40, 1, b'\n']), FieldsError::Value { at: 0 });
}

#[test]
fn blocks_have_limits() {
    let many = Bytes::from(vec![0x80; FIELDS_MAX + 1]);
    assert_eq!(read(&many), Err(FieldsError::Many));
    assert_eq!(read(&many.slice(1..)).unwrap().len(), FIELDS_MAX);
    let large = Bytes::from(vec![0x80; BYTES_MAX + 1]);
    assert_eq!(read(&large), Err(FieldsError::Large));
    let mut out = BytesMut::new();
    let value = vec![b'v'; BYTES_MAX];
    assert_eq!(write(&mut out, "name", &value), Err(FieldsError::Large));
    assert!(out.is_empty());
    let value = vec![b'v'; 8_000];
    write(&mut out, "name", &value).unwrap();
    write(&mut out, "name", &value).unwrap();
    assert_eq!(write(&mut out, "name", &value), Err(FieldsError::Large));
    assert_eq!(read(&out.freeze()).unwrap().len(), 2);
}

#[test]
fn no_bytes_are_too_strange() {
    let mut random = 0x1234_5678_9abc_def0_u64;
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        for _ in 0..(random >> 58) {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            bytes.push((random >> 33) as u8);
        }
        if let Ok(fields) = read(&Bytes::from(bytes)) {
            assert!(fields.len() <= FIELDS_MAX);
        }
    }
}
