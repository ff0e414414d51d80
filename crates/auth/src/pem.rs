//! The textual form of public keys (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a PEM text holds.
pub(crate) struct Block {
    /// What stands after `BEGIN`.
    pub(crate) label: String,
    /// The decoded body.
    pub(crate) der: Vec<u8>,
}

/// Decodes the first block of a PEM text; `None` if it is not one.
pub(crate) fn decode(text: &str) -> Option<Block> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    Some(Block {
        label: label.to_owned(),
        der: STANDARD.decode(body).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_first_block_is_decoded() {
        let block =
            decode("text\n-----BEGIN PUBLIC KEY-----\nAQID\nBA==\n-----END PUBLIC KEY-----\n");
        let block = block.unwrap();
        assert_eq!(
            (block.label.as_str(), block.der.as_slice()),
            ("PUBLIC KEY", &[1, 2, 3, 4][..])
        );
        for wrong in [
            "",
            "-----BEGIN X-----",
            "-----BEGIN X-----\n*\n-----END X-----",
            "AQID",
        ] {
            assert!(decode(wrong).is_none(), "{wrong}");
        }
    }
}
