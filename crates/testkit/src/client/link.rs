//! The bytes below a client: TCP, or TLS over it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::certificate::Certificate;
use crate::http;

pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    /// Opens a connection; with `trust`, TLS to a server that shows this certificate.
    pub(super) fn open(address: SocketAddr, trust: Option<&Certificate>) -> anyhow::Result<Self> {
        let tcp = http::connect(address)?;
        let Some(trust) = trust else {
            return Ok(Self::Plain(tcp));
        };
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(trust.certificate.as_bytes());
        roots.add(certificate.context("certificate is not PEM")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost")?;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, tcp))))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
