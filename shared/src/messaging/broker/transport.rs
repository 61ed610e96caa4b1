//! The byte stream under a connection: TCP, TLS over it with the machine's own trusted roots, a
//! Unix socket, or memory.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::config::{BrokerConfig, Place};
use crate::messaging::stream::{Stream, connect_socket};

/// Opens streams to one broker.
pub(super) struct Connector {
    pub(super) config: BrokerConfig,
    tls: OnceCell<TlsConnector>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

impl Connector {
    pub(super) fn new(config: BrokerConfig) -> Self {
        Self { config, tls: OnceCell::new() }
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port, tls) = match &self.config.place {
            Place::Tcp { host, port, tls } => (host, port, *tls),
            Place::Socket(path) => return Ok(Box::new(connect_socket(path).await?)),
            Place::Inside(broker) => return Ok(Box::new(broker.connect()?)),
        };
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        // Frames are small and answers are waited for: with Nagle's algorithm each would cost some 40 ms.
        tcp.set_nodelay(true)?;
        if !tls {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let tls = self.tls.get_or_try_init(trusting_native_roots).await?;
        Ok(Box::new(tls.connect(name, tcp).await?))
    }
}

async fn trusting_native_roots() -> io::Result<TlsConnector> {
    // Reads and parses some hundred files.
    let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        return Err(io::Error::other(
            "no trusted root certificates on this machine; install them or set SSL_CERT_FILE",
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
