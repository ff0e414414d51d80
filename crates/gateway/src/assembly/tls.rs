//! The listeners' certificates, and their exchange while running.

use std::sync::Arc;

use edge::tls::{self, CertificateStore};
use rustls::ServerConfig;

use super::chain;
use crate::config::{Config, Tls};

/// What TLS listeners show. Clones share the certificates.
#[derive(Clone, Default)]
pub(super) struct Certificates {
    main: Option<Listener>,
    admin: Option<Listener>,
}

#[derive(Clone)]
struct Listener {
    files: Tls,
    store: Arc<CertificateStore>,
    config: Arc<ServerConfig>,
}

impl Certificates {
    pub(super) fn load(config: &Config) -> Result<Self, String> {
        let load = |tls: &Option<Tls>, with_http2| {
            tls.as_ref()
                .map(|files| Listener::load(files, with_http2))
                .transpose()
        };
        Ok(Self {
            main: load(&config.listeners.main.tls, config.proxy.http2.enabled)?,
            admin: load(&config.listeners.admin.tls, false)?,
        })
    }

    pub(super) fn main_config(&self) -> Option<Arc<ServerConfig>> {
        self.main
            .as_ref()
            .map(|listener| Arc::clone(&listener.config))
    }

    pub(super) fn admin_config(&self) -> Option<Arc<ServerConfig>> {
        self.admin
            .as_ref()
            .map(|listener| Arc::clone(&listener.config))
    }

    /// Reads all certificates again. New handshakes see what is new; nobody is
    /// disconnected. All or none are exchanged, but for a file that breaks between
    /// the check and the reading.
    pub(super) fn reload(&self) -> Result<(), String> {
        let listeners = || [&self.main, &self.admin].into_iter().flatten();
        for listener in listeners() {
            CertificateStore::load(&listener.files.certificate, &listener.files.key)
                .map_err(|error| chain(&error))?;
        }
        for listener in listeners() {
            listener.store.reload().map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// When the first certificate expires, in Unix seconds.
    pub(super) fn expires_at(&self) -> Option<u64> {
        [&self.main, &self.admin]
            .into_iter()
            .flatten()
            .filter_map(|listener| listener.store.expires_at())
            .min()
    }
}

impl Listener {
    fn load(files: &Tls, with_http2: bool) -> Result<Self, String> {
        let store = CertificateStore::load(&files.certificate, &files.key)
            .map_err(|error| chain(&error))?;
        let store = Arc::new(store);
        let config =
            tls::server_config(Arc::clone(&store), with_http2).map_err(|error| chain(&error))?;
        Ok(Self {
            files: files.clone(),
            store,
            config,
        })
    }
}
