use super::*;

#[test]
fn source_is_found_in_lines() {
    let text = "# deb http://mirror.example/debian bookworm main\n\
        deb-src http://mirror.example/debian bookworm main\n\
        deb http://other.example/tool bookworm stable\n\
        deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.example/debian bookworm main contrib\n";
    let found = from_lines(text, "bookworm").expect("a source");
    assert_eq!(found.uris, "http://mirror.example/debian");
    assert_eq!(found.signed_by, "/keys/debian.gpg");
    assert_eq!(from_lines(text, "trixie"), None);
}

#[test]
fn source_is_found_in_stanzas() {
    let text = "Types: deb\nURIs: http://other.example\nSuites: nodistro\nComponents: main\n\n\
        Types: deb\n# a remark\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
        Components: main\nSigned-By: /keys/debian.gpg";
    let found = from_stanzas(text, "bookworm").expect("a source");
    assert_eq!(found.uris, "http://mirror.example/debian");
    assert_eq!(
        found.stanza("unstable"),
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: unstable\nComponents: main\n\
         Signed-By: /keys/debian.gpg\n"
    );
}

#[test]
fn keys_inside_a_stanza_are_kept_with_their_lines() {
    let text = "Types: deb\nURIs: u\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n";
    let found = from_stanzas(text, "bookworm").expect("a source");
    assert_eq!(found.signed_by, "\n -----BEGIN\n .\n abc");
}

#[test]
fn versions_are_read() {
    assert_eq!(version("nats-server: v2.15.1"), Some((2, 15)));
    assert_eq!(version("none"), None);
    assert_eq!(candidate("x:\n  Candidate: 5:8.0.6-3\n"), Some("8.0.6-3"));
    assert_eq!(candidate("x:\n  Candidate: (none)\n"), None);
}

#[test]
fn only_libraries_are_taken_of_what_a_package_depends_on() {
    let depends = "haproxy\n  Depends: libc6\n |Depends: adduser\nlibc6\n  Depends: libgcc-s1\n\
        adduser\nzlib1g\n<debconf-2.0>\nlibgcc-s1\n";
    assert_eq!(
        needed(depends, is_library),
        ["libc6", "zlib1g", "libgcc-s1"]
    );
}
