use super::*;

fn client(conn: &'static [u8], chan: &'static [u8]) -> ClientInfo {
    ClientInfo {
        user: "Zoë \"z\"\n".to_owned(),
        client: "c1".to_owned(),
        conn_info: Bytes::from_static(conn),
        chan_info: Bytes::from_static(chan),
    }
}

#[test]
fn any_client_is_one_line_and_comes_back() {
    for (conn, chan) in [
        (&b""[..], &b""[..]),
        (b"{\"a\":1}", b"[1,2]"),
        (b"{\n\"a\":1}", b"\xff\x00"),
        (b"no json", b"null"),
    ] {
        let info = client(conn, chan);
        let text = write_info(&info);
        assert!(!text.contains(['\r', '\n']), "{text}");
        assert_eq!(read_info(&text), Some(info));
    }
}

#[test]
fn message_carries_what_it_was_given() {
    let mut headers = HeaderMap::new();
    let place = Position {
        offset: 7,
        epoch: Epoch::from_random(3),
    };
    put_position(&mut headers, place);
    headers.insert(TIME, "12");
    let tags = BTreeMap::from([("a".to_owned(), "b\n".to_owned())]);
    headers.insert(TAGS, write_tags(&tags));
    headers.insert(INFO, write_info(&client(b"1", b"2")));
    let read = message("x".into(), Some(&headers), "data".into(), 99).unwrap();
    let publication = read.publication().unwrap();
    assert_eq!(publication.position, Some(place));
    assert_eq!(publication.time_ms, 12);
    assert_eq!(publication.tags.as_deref(), Some(&tags));
    assert_eq!(publication.info.as_deref().unwrap().client, "c1");
}

#[test]
fn message_of_others_is_a_publication_without_position() {
    let read = message("x".into(), None, "data".into(), 99).unwrap();
    let publication = read.publication().unwrap();
    assert_eq!((publication.position, publication.time_ms), (None, 99));
}

#[test]
fn senseless_headers_are_no_message_or_no_position() {
    let with = |pairs: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        message("x".into(), Some(&headers), Bytes::new(), 0)
    };
    assert!(with(&[(KIND, "join")]).is_none());
    assert!(with(&[(KIND, "join"), (INFO, "[")]).is_none());
    assert!(with(&[(KIND, "birth")]).is_none());
    assert!(with(&[(KIND, "later")]).is_none());
    let odd = with(&[(OFFSET, "-1"), (EPOCH, "abcdefgh")]).unwrap();
    assert_eq!(odd.publication().unwrap().position, None);
    let named = with(&[(OFFSET, "1"), (EPOCH, "2026-11-21")]).unwrap();
    assert!(named.publication().unwrap().position.is_some());
}

#[test]
fn versions_are_compared_within_their_epoch() {
    let mut headers = HeaderMap::new();
    let last = Version::new(5, "e");
    put_version(&mut headers, last);
    assert_eq!(version(Some(&headers)), last);
    assert!(Version::new(5, "e").is_outdated_by(last));
    assert!(Version::new(4, "").is_outdated_by(last));
    assert!(!Version::new(1, "f").is_outdated_by(last));
    assert!(!Version::new(0, "e").is_outdated_by(last));
    assert!(!Version::new(6, "e").is_outdated_by(last));
}

#[test]
fn derived_epochs_stay_the_same() {
    assert_eq!(derived_epoch(&["a", "b"]), derived_epoch(&["a", "b"]));
    assert_ne!(derived_epoch(&["a", "b"]), derived_epoch(&["ab", ""]));
}
