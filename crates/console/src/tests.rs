use super::{Face, find};

#[test]
fn each_face_has_a_page() {
    for face in [Face::Market, Face::Console] {
        let page = find(face, "").unwrap();
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        assert!(!page.immutable, "the page names the files of this build");
        assert_eq!(find(face, "index.html"), Some(page));
        assert_eq!(find(face, "/"), Some(page));
    }
}

#[test]
fn routes_of_the_console_are_its_page() {
    let page = find(Face::Console, "");
    assert_eq!(find(Face::Console, "connections/some-client"), page);
    assert_eq!(find(Face::Console, "channels/xy.md.tick.g00"), page);
    assert_eq!(find(Face::Market, "connections"), None);
}

#[test]
fn absent_files_are_absent() {
    for path in ["assets/none.js", "none.js", "assets/../index.html"] {
        assert_eq!(find(Face::Console, path), None, "{path}");
        assert_eq!(find(Face::Market, path), None, "{path}");
    }
}

/// The policy forbids it, so a page with one would not work.
#[test]
fn plain_pages_have_nothing_inline() {
    for page in [
        include_str!("../fallback/market/index.html"),
        include_str!("../fallback/console/index.html"),
    ] {
        for inline in ["<style", " style=", "javascript:", " onclick=", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}

#[test]
fn tags_are_quoted_and_tell_files_apart() {
    let page = find(Face::Market, "").unwrap();
    let other = find(Face::Console, "").unwrap();
    assert!(page.etag.starts_with('"') && page.etag.ends_with('"'));
    assert_ne!(page.etag, other.etag);
}
