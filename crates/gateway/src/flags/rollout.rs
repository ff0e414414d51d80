//! Who belongs to the part of the users for whom a flag is on.
//!
//! Clients in other languages work out the same, so this is a contract: it stands in
//! `proto/xy/flags/v1/feature_flags.proto` and changes never.

/// The place of a subject within a flag, from 0 to 99; the flag is on for those below its
/// percentage. A subject keeps its place, so raising the percentage takes nobody out, and
/// its places in different flags have nothing to do with each other.
///
/// The 32-bit FNV-1a hash of name, line feed and subject, its bits mixed as MurmurHash3
/// does at its end, scaled to 100.
pub fn share(name: &str, subject: &str) -> u8 {
    let bytes = name.bytes().chain([b'\n']).chain(subject.bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(PRIME)
    });
    let scaled = (u64::from(mixed(hash)) * 100) >> 32;
    u8::try_from(scaled).unwrap_or(99)
}

fn mixed(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;
