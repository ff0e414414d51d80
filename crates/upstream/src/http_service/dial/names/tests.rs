use super::*;
use crate::http_service::{Forbidden, Scheme, TlsTerms, Versions};

fn origin(host: &str, allow_private: bool) -> Origin {
    Origin {
        scheme: Scheme::Http,
        host: host.into(),
        port: 80,
        authority: host.into(),
        versions: Versions::Negotiated,
        allow_private,
        tls: TlsTerms::default(),
        dial_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(90),
    }
}

fn addresses(all: &[&str]) -> Vec<SocketAddr> {
    all.iter()
        .map(|ip| SocketAddr::new(ip.parse().unwrap(), 80))
        .collect()
}

#[test]
fn forbidden_answers_are_left_out() {
    let name = origin("a.test", false);
    let mixed = addresses(&["10.0.0.1", "1.1.1.1", "169.254.169.254", "2606:4700::1"]);
    let found = allowed(&name, mixed).unwrap();
    assert_eq!(found[..], addresses(&["1.1.1.1", "2606:4700::1"]));
}

#[test]
fn a_name_with_forbidden_answers_only_is_refused() {
    let name = origin("a.test", true);
    let found = allowed(&name, addresses(&["::ffff:169.254.169.254"]));
    assert!(matches!(
        found,
        Err(DialError::Forbidden(Forbidden::Metadata))
    ));
}

#[test]
fn a_name_without_answers_is_unknown() {
    let found = allowed(&origin("a.test", true), []);
    assert!(matches!(found, Err(DialError::NameUnknown(_))));
}

#[test]
fn only_so_many_answers_are_tried() {
    let many: Vec<String> = (1..100).map(|last| format!("1.1.1.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = allowed(&origin("a.test", false), addresses(&many)).unwrap();
    assert_eq!(found.len(), ADDRESSES_MAX);
}

#[tokio::test]
async fn an_answer_is_remembered_for_a_moment() {
    let (names, clock) = (Names::new(), Clock::start());
    let name = origin("localhost", true);
    assert!(names.remembered(clock).is_none());
    let found = names.resolve(&name, clock).await.unwrap();
    let again = names.remembered(clock).unwrap().unwrap();
    assert!(Arc::ptr_eq(&found, &again));
}

#[tokio::test]
async fn an_address_is_not_looked_up() {
    let (names, clock) = (Names::new(), Clock::start());
    let found = names.resolve(&origin("::1", true), clock).await.unwrap();
    assert_eq!(found[..], addresses(&["::1"]));
    assert!(names.remembered(clock).is_none());
}
