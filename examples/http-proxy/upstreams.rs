//! What is behind the gateway: two services that say their name, and a model.

use std::net::{Ipv4Addr, SocketAddr};

use e2e::proxy::model;
use e2e::proxy::origin::Origin;

/// Ports of the services and the model.
pub(crate) const ONE: u16 = 8032;
pub(crate) const TWO: u16 = 8033;
pub(crate) const MODEL: u16 = 8034;

/// A service that answers with its name.
pub(crate) fn service(name: &'static str, port: u16) -> anyhow::Result<Origin> {
    Origin::at(address(port), move |asked| {
        asked.body()?;
        let text = format!("{name} was asked for {}\n", asked.path());
        asked.answer(200, &[("Content-Type", "text/plain")], text.as_bytes())
    })
}

/// A stub of a model's API.
pub(crate) fn model(port: u16) -> anyhow::Result<Origin> {
    Origin::at(address(port), model::answer)
}

/// Where a service is.
pub(crate) fn url(port: u16) -> String {
    format!("http://{}", address(port))
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
