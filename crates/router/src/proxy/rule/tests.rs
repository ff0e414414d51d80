use std::sync::Arc;

use super::{AccessRule, Denial};
use crate::proxy::Caller;

#[test]
fn who_may_pass_is_as_the_contract_says() {
    let guest = Caller::Guest;
    let user = Caller::User {
        id: Arc::from("ada"),
        claims: Arc::default(),
    };
    let superuser = Caller::Superuser(Arc::from("root"));
    let (pass, log_in, no) = (Ok(()), Err(Denial::Unauthenticated), Err(Denial::Forbidden));
    for (rule, expected) in [
        ("", [log_in, no, pass]),
        ("true", [pass, pass, pass]),
        ("false", [no, no, no]),
        ("@request.auth.id != ''", [log_in, pass, pass]),
        (" @request.auth.id!=\"\" ", [log_in, pass, pass]),
        ("@request.auth.id = ''", [pass, no, no]),
        ("@request.auth.role = 'admin'", [no, no, no]),
        ("TRUE", [no, no, no]),
    ] {
        let parsed = AccessRule::parse(rule);
        let found = [&guest, &user, &superuser].map(|caller| parsed.admits(caller));
        assert_eq!(found, expected, "{rule:?}");
    }
}
