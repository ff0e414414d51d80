//! Header fields of calls over Quantum.

use bytes::{Bytes, BytesMut};
use quantum::grpc::fields::{BYTES_MAX, FIELDS_MAX, Field, FieldsError, read, write};

/// A block of fields. What can be read is written again and read alike, in no more bytes.
pub fn fields(data: &[u8]) {
    let fields = match read(&Bytes::copy_from_slice(data)) {
        Ok(fields) => fields,
        Err(error) => {
            assert!(error.to_string().len() < 200);
            return;
        }
    };
    assert!(fields.len() <= FIELDS_MAX && data.len() <= BYTES_MAX);
    let mut again = BytesMut::new();
    for field in &fields {
        let written = match field {
            Field::Pseudo(name, value) => write(&mut again, &format!(":{name}"), value.as_bytes()),
            Field::Plain(name, value) => write(&mut again, name.as_str(), value.as_bytes()),
        };
        // Room is reckoned by what names and values have spelled out.
        if let Err(error) = written {
            assert_eq!(error, FieldsError::Large);
            return;
        }
    }
    assert!(again.len() <= data.len());
    assert_eq!(read(&again.freeze()).as_ref(), Ok(&fields));
}
