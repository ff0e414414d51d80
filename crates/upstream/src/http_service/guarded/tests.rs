use super::*;

fn verdict(address: &str, allow_private: bool) -> Result<(), Forbidden> {
    check(address.parse().unwrap(), allow_private)
}

#[test]
fn public_addresses_are_allowed() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.16",
        "2606:4700:4700::1111",
        "2a00::1",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        // The server 8.8.8.8, the client 1.1.1.1 inverted.
        "2001:0:808:808:0:0:fefe:fefe",
    ] {
        assert_eq!(verdict(address, false), Ok(()), "{address}");
    }
}

#[test]
fn special_addresses_are_forbidden_unless_allowed() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001:0:a00:1::fefe:fefe",
        // The client 127.0.0.1, inverted.
        "2001:0:808:808:0:0:80ff:fffe",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "2a00::5efe:10.0.0.1",
        "2a00::200:5efe:10.0.0.1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert_eq!(
            verdict(address, false),
            Err(Forbidden::NotPublic),
            "{address}"
        );
        assert_eq!(verdict(address, true), Ok(()), "{address}");
    }
}

#[test]
fn metadata_addresses_are_forbidden_always() {
    for address in [
        "169.254.169.254",
        "100.100.100.200",
        "169.254.170.2",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::169.254.169.254",
        "::ffff:169.254.169.254",
        "::ffff:100.100.100.200",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::fefe:fefe",
        "2001:0:808:808:0:0:5601:5601",
        "2a00::5efe:169.254.169.254",
    ] {
        for allow_private in [false, true] {
            assert_eq!(
                verdict(address, allow_private),
                Err(Forbidden::Metadata),
                "{address}"
            );
        }
    }
}

#[test]
fn metadata_names_are_forbidden_in_any_spelling() {
    for name in [
        "metadata.google.internal",
        "METADATA.google.INTERNAL",
        "metadata.google.internal.",
        "instance-data",
    ] {
        assert_eq!(check_name(name), Err(Forbidden::Metadata), "{name}");
    }
    assert_eq!(check_name("metadata.example.com"), Ok(()));
}
