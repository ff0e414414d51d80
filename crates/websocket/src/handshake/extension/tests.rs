use super::*;

fn negotiate(values: &[&str]) -> Option<(u8, String)> {
    let values = values.iter().map(|value| value.as_bytes());
    negotiate_deflate(values, &DeflateConfig::default())
        .map(|(params, answer)| (params.window_bits, answer))
}

fn answer(window_bits: u8, more: &str) -> Option<(u8, String)> {
    let base = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    Some((window_bits, format!("{base}{more}")))
}

#[test]
fn offers_are_answered_without_context_takeover() {
    for offer in [
        "permessage-deflate",
        " Permessage-Deflate ",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate;client_max_window_bits=8",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame; a=\"b\", permessage-deflate",
        ",, permessage-deflate ,,",
    ] {
        assert_eq!(negotiate(&[offer]), answer(15, ""), "{offer}");
    }
}

#[test]
fn demanded_window_is_kept() {
    for bits in 9..=15 {
        let expected = answer(bits, &format!("; server_max_window_bits={bits}"));
        let plain = format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(negotiate(&[&plain]), expected);
        let quoted = format!("permessage-deflate; server_max_window_bits = \"{bits}\"");
        assert_eq!(negotiate(&[&quoted]), expected);
    }
}

#[test]
fn own_limit_makes_the_window_smaller() {
    let config = DeflateConfig {
        window_bits_max: 11,
    };
    let offer = &b"permessage-deflate; server_max_window_bits=13"[..];
    let (params, answer) = negotiate_deflate([offer].into_iter(), &config).unwrap();
    assert_eq!(params.window_bits, 11);
    assert!(answer.ends_with("; server_max_window_bits=11"));
    let (params, answer) =
        negotiate_deflate([&b"permessage-deflate"[..]].into_iter(), &config).unwrap();
    assert_eq!(params.window_bits, 11);
    assert!(answer.ends_with("client_no_context_takeover"));
}

#[test]
fn faulty_offers_are_declined() {
    for offer in [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate2",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; mystery",
        "permessage-deflate;",
        "permessage-deflate; =",
        "permessage-deflate; a=\"b",
        "permessage-deflate deflate",
        "\"permessage-deflate\"",
    ] {
        assert_eq!(negotiate(&[offer]), None, "{offer}");
    }
}

#[test]
fn next_offer_is_considered_when_one_is_declined() {
    let fallback = "permessage-deflate; server_max_window_bits=8, permessage-deflate";
    assert_eq!(negotiate(&[fallback]), answer(15, ""));
    let headers = [
        "permessage-deflate; mystery=1",
        "permessage-deflate; server_max_window_bits=9",
    ];
    assert_eq!(negotiate(&headers), answer(9, "; server_max_window_bits=9"));
}

#[test]
fn answers_are_checked() {
    let config = DeflateConfig::default();
    let check = |value: &str| accept_answer(&[value.as_bytes()], &config);
    let base = "permessage-deflate; server_no_context_takeover";
    assert_eq!(check(base), Some(DeflateParams { window_bits: 15 }));
    let smaller = check(&format!(
        "{base}; client_max_window_bits=8; server_max_window_bits=10"
    ));
    assert_eq!(smaller, Some(DeflateParams { window_bits: 8 }));
    for refused in [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover, permessage-deflate",
        "permessage-bzip2",
        "",
    ] {
        assert_eq!(check(refused), None, "{refused}");
    }
    assert_eq!(
        accept_answer(&[base.as_bytes(), base.as_bytes()], &config),
        None
    );
}

#[test]
fn own_offer_is_acceptable_to_ourselves() {
    let (_, answer) = negotiate_deflate(
        [offer_deflate().as_bytes()].into_iter(),
        &DeflateConfig::default(),
    )
    .unwrap();
    assert!(accept_answer(&[answer.as_bytes()], &DeflateConfig::default()).is_some());
}

#[test]
fn offer_with_too_many_parameters_ends_the_search() {
    let offers = |count: usize| {
        let unknown = "; x".repeat(count);
        format!("permessage-deflate{unknown}, permessage-deflate")
    };
    assert!(
        negotiate(&[&offers(PARAMS_MAX)]).is_some(),
        "the next is considered"
    );
    assert_eq!(negotiate(&[&offers(PARAMS_MAX + 1)]), None);
}
