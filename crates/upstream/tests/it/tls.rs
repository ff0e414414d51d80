//! Agents behind TLS.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use testkit::certificate::Certificate;
use testkit::stratix_agent::{Behaviour, StratixAgent};
use upstream::ws_agent::Outcome;

use crate::stage::{Stage, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_certificate_is_accepted_by_its_fingerprint() {
    let certificate = Certificate::for_localhost().unwrap();
    let agent = StratixAgent::start_tls(Behaviour::default(), &certificate).unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.tls_fingerprint = Some(fingerprint(&certificate));
    let link = stage.connect(&target);
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    agent
        .wait("the message", |ledger| ledger.received.len() == 1)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_than_the_pinned_one_is_not_tried_again_soon() {
    let certificate = Certificate::for_localhost().unwrap();
    let agent = StratixAgent::start_tls(Behaviour::default(), &certificate).unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.tls_fingerprint = Some([7; 32]);
    let link = stage.agents.link(&target);
    stage.agents.wake(link);
    let heard = stage.ear.wait("the end", |heard| !heard.downs.is_empty());
    let shown: String = fingerprint(&certificate)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(heard.downs[0].1.contains(&shown), "{heard:?}");
    stage.agents.wake(link);
    assert_eq!(stage.agents.totals().failures, 1);
    stage.until(|| stage.agents.totals().waiting == 1).await;
    assert!(agent.ledger().requests.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_certificate_is_refused_without_a_fingerprint() {
    let certificate = Certificate::for_localhost().unwrap();
    let agent = StratixAgent::start_tls(Behaviour::default(), &certificate).unwrap();
    let stage = Stage::new();
    let link = stage.agents.link(&target(&agent, "/a"));
    stage.agents.wake(link);
    let heard = stage.ear.wait("the end", |heard| !heard.downs.is_empty());
    assert!(heard.downs[0].1.starts_with("tls"), "{heard:?}");
    assert!(agent.ledger().requests.is_empty());
}

fn fingerprint(certificate: &Certificate) -> [u8; 32] {
    let leaf = CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf);
    digest.as_ref().try_into().unwrap()
}
