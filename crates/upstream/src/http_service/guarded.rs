//! Which addresses may be connected to.
//!
//! What is checked is the address that is then connected to, never its spelling: a name
//! that resolves to a forbidden address, a number that stands for one (`0x7f.1`,
//! `2130706433`) and an IPv6 address that carries one all end here. Forbidden unless the
//! route allows it is whatever is not on the public internet (the special-purpose
//! registries of IANA); forbidden in any case are the addresses at which clouds hand out
//! credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A cloud's metadata service.
    #[error("it belongs to a cloud metadata service")]
    Metadata,
    /// Loopback, private, link-local or another address that is not public.
    #[error("it is not a public address, and the route has no allowPrivate")]
    NotPublic,
}

/// Checks an address that is about to be connected to.
pub(super) fn check(address: IpAddr, allow_private: bool) -> Result<(), Forbidden> {
    let (is_metadata, is_public) = match address {
        IpAddr::V4(address) => (is_metadata(address), is_public(address)),
        IpAddr::V6(address) => {
            let is_metadata = METADATA_V6.contains(&address) || carried(address).any(is_metadata);
            (is_metadata, is_public_v6(address))
        }
    };
    if is_metadata {
        Err(Forbidden::Metadata)
    } else if is_public || allow_private {
        Ok(())
    } else {
        Err(Forbidden::NotPublic)
    }
}

/// Checks a name before it is resolved: that of a metadata service is not even asked for.
pub(super) fn check_name(host: &str) -> Result<(), Forbidden> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if METADATA_NAMES
        .iter()
        .any(|name| name.eq_ignore_ascii_case(host))
    {
        return Err(Forbidden::Metadata);
    }
    Ok(())
}

fn is_metadata(address: Ipv4Addr) -> bool {
    METADATA.contains(&address)
}

fn is_public(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !NOT_PUBLIC
        .iter()
        .any(|(network, length)| (bits ^ network.to_bits()) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_translated = address.to_ipv4_mapped().is_some() || starts(address, NAT64, 96);
    if !is_translated {
        // All that is public lies in 2000::/3; of that, these are set apart.
        let is_global = first & 0xe000 == 0x2000;
        let is_documentation = (first == 0x2001 && second == 0xdb8) || first & 0xfff0 == 0x3ff0;
        // Benchmarking, ORCHID and what else 2001::/23 holds, but Teredo.
        let is_protocol = first == 0x2001 && (1..0x200).contains(&second);
        if !is_global || is_documentation || is_protocol {
            return false;
        }
    }
    carried(address).all(is_public)
}

/// The IPv4 addresses that an IPv6 address leads to.
fn carried(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = address.to_bits();
    let at = |shift: u32| Ipv4Addr::from_bits((bits >> shift) as u32);
    let [first, second, .., sixth, _, _] = address.segments();
    // Compatible, mapped, translated (SIIT), NAT64 (well known and local), ISATAP.
    let is_last = bits >> 32 == 0
        || address.to_ipv4_mapped().is_some()
        || starts(address, SIIT, 96)
        || starts(address, NAT64, 96)
        || starts(address, NAT64_LOCAL, 48)
        || (sixth == 0x5efe && matches!(address.segments()[4], 0 | 0x200));
    let is_6to4 = first == 0x2002;
    let is_teredo = first == 0x2001 && second == 0;
    [
        is_last.then(|| at(0)),
        is_6to4.then(|| at(80)),
        // Its server, and the client, which is stored inverted.
        is_teredo.then(|| at(64)),
        is_teredo.then(|| Ipv4Addr::from_bits(!at(0).to_bits())),
    ]
    .into_iter()
    .flatten()
}

fn starts(address: Ipv6Addr, network: Ipv6Addr, length: u32) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0
}

/// AWS and most others, Alibaba, AWS for containers.
const METADATA: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
];

/// AWS, AWS for containers, Google.
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

const METADATA_NAMES: &[&str] = &[
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Networks and the lengths of their prefixes.
const NOT_PUBLIC: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
const NAT64_LOCAL: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0);
const SIIT: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0);

#[cfg(test)]
mod tests;
