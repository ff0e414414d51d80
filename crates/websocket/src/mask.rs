//! Masking of payloads (RFC 6455, 5.3).

/// Masks or unmasks `payload` in place with `key`, the first byte with `key[0]`.
///
/// Applying the same key twice restores the payload. To continue in the middle of a frame, pass
/// the key rotated left by the number of bytes already done.
pub fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    // Eight bytes at a time in native order; an optimised build widens this to vector registers.
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_agrees_with_the_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..70 {
            for offset in 0..4 {
                let plain: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
                let expected: Vec<u8> = plain
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| byte ^ key[(i + offset) % 4])
                    .collect();
                let mut masked = plain.clone();
                let mut rotated = key;
                rotated.rotate_left(offset);
                apply_mask(&mut masked, rotated);
                assert_eq!(masked, expected, "length {len}, offset {offset}");
            }
        }
    }
}
