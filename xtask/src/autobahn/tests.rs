use super::*;

fn verdict(case: &str, behavior: &str, close: &str) -> Verdict {
    let result = json!({ "behavior": behavior, "behaviorClose": close, "reportfile": "r.json" });
    let mut verdict = Verdict::default();
    verdict
        .count(&json!({ "server": { case: result } }), Path::new("runs"))
        .unwrap();
    verdict
}

#[test]
fn only_ok_is_ok() {
    assert_eq!(verdict("1.1.1", "OK", "OK").ok, 1);
    for (behavior, close) in [
        ("OK", "FAILED"),
        ("NON-STRICT", "OK"),
        ("UNIMPLEMENTED", "OK"),
        ("INFORMATIONAL", "INFORMATIONAL"),
        ("OK", "UNCLEAN"),
        ("WRONG CODE", "OK"),
    ] {
        assert_eq!(
            verdict("1.1.1", behavior, close).bad.len(),
            1,
            "{behavior}, {close}"
        );
    }
}

#[test]
fn three_cases_may_be_informational_and_no_worse() {
    for case in ["7.1.6", "7.13.1", "7.13.2"] {
        assert_eq!(
            verdict(case, "INFORMATIONAL", "INFORMATIONAL").informational,
            1
        );
        assert_eq!(verdict(case, "INFORMATIONAL", "FAILED").bad.len(), 1);
    }
}

#[test]
fn report_fails_on_bad_missing_and_too_few_cases() {
    let of = |verdict| BTreeMap::from([(Role::Server, verdict)]);
    assert!(report(&of(verdict("1.1.1", "OK", "OK")), false).is_ok());
    assert!(report(&of(verdict("1.1.1", "OK", "OK")), true).is_err());
    assert!(report(&of(verdict("1.1.1", "FAILED", "OK")), false).is_err());
    assert!(report(&of(Verdict::default()), false).is_err());
}
