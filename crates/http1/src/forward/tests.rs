use super::*;

fn fields(list: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.push(name, value.as_bytes()).unwrap();
    }
    fields
}

fn names(fields: &Fields) -> Vec<String> {
    fields.iter().map(|field| field.name().to_owned()).collect()
}

#[test]
fn hop_by_hop_fields_and_named_ones_are_taken_out() {
    let mut fields = fields(&[
        ("Host", "a"),
        ("Connection", "Keep-Alive, X-Hop ,,close"),
        ("connection", "other"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eA=="),
        ("TE", "trailers"),
        ("Trailer", "x"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
        ("x-hop", "1"),
        ("X-HOP", "2"),
        ("Other", "3"),
        ("X-Hopper", "4"),
    ]);
    strip_hop_by_hop(&mut fields);
    assert_eq!(names(&fields), ["Host", "X-Hopper"]);
}

#[test]
fn protected_fields_stay_even_if_they_are_named() {
    let protected = [
        "Host",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Length",
        "Content-Type",
        "X-Forwarded-For",
        "x-forwarded-user",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "Origin",
    ];
    let mut list: Vec<_> = protected.iter().map(|name| (*name, "v")).collect();
    let named = protected.join(", ").to_ascii_lowercase();
    list.push(("Connection", &named));
    let mut fields = fields(&list);
    strip_hop_by_hop(&mut fields);
    assert_eq!(names(&fields), protected);
}

#[test]
fn tokens_come_in_order_without_empty_ones() {
    let fields = fields(&[
        ("Connection", "close, \t X ,"),
        ("connection", ""),
        ("Connection", "y"),
    ]);
    assert_eq!(
        connection_tokens(&fields).collect::<Vec<_>>(),
        ["close", "X", "y"]
    );
}

#[test]
fn trailers_say_nothing_that_belongs_in_a_head() {
    let all = [
        ("X-Sum", "1"),
        ("content-length", "5"),
        ("Host", "evil"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("Connection", "close"),
        ("X_Sum", "2"),
    ];
    let mut of_an_answer = fields(&all);
    strip_trailers(&mut of_an_answer);
    assert_eq!(names(&of_an_answer), ["X-Sum", "X_Sum"]);
    let mut of_a_request = fields(&all);
    strip_request_trailers(&mut of_a_request);
    assert_eq!(names(&of_a_request), ["X-Sum"]);
}
