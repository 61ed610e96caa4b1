//! The broker inside `adit up`: where it can be reached, and who may.
//!
//! The API and the packager of the process use it in memory. Other verbs come over a Unix socket in the
//! data folder, which is for the folder's owner alone. TCP is opened only where `ADIT_BROKER_LISTEN` asks
//! for it, with a passcode that is kept in the folder.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use adit_shared::config::Config;
use adit_shared::messaging::{BrokerConfig, BrokerServer, ServerConfig, socket_url};
use anyhow::Context as _;

use crate::keys;

/// The login of TCP's clients.
pub(crate) const LOGIN: &str = "adit";

/// A running broker, and how it is reached.
#[derive(Debug)]
pub(crate) struct EmbeddedBroker {
    pub(crate) server: BrokerServer,
    /// URL of the Unix socket.
    pub(crate) url: String,
    /// Address on TCP, and the file of the passcode there.
    pub(crate) tcp: Option<(SocketAddr, PathBuf)>,
}

impl EmbeddedBroker {
    /// Starts the broker. The caller holds the data folder.
    pub(crate) async fn start(config: &Config) -> anyhow::Result<Self> {
        let file = config.data.join("broker-passcode");
        let credentials = match config.broker_listen {
            Some(_) => Some((LOGIN.to_owned(), read_or_make_passcode(&file)?)),
            None => None,
        };
        let socket = config.data.join("broker.sock");
        let url = socket_url(&socket);
        let server = BrokerServer::start(ServerConfig {
            listen: config.broker_listen,
            socket: Some(socket),
            credentials,
            journal: Some(journal_folder(config)),
            queue_expiry: config.queue_expiry,
            ..ServerConfig::default()
        });
        let server = server.await.context("cannot start the embedded broker")?;
        let tcp = server.addr().map(|address| (address, file));
        Ok(Self { server, url, tcp })
    }

    /// How the process itself reaches it.
    pub(crate) fn inside(&self) -> BrokerConfig {
        self.server.inside().into()
    }
}

/// The folder of the broker's journal.
pub(crate) fn journal_folder(config: &Config) -> PathBuf {
    config.data.join("broker")
}

/// Reads the passcode in that file, or makes one where there is none: packagers elsewhere keep a copy.
fn read_or_make_passcode(file: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => anyhow::bail!("{} is empty: remove it, and a new passcode is made", file.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
    let passcode = keys::random_secret()?;
    let write = || {
        let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        writeln!(made, "{passcode}")?;
        made.sync_all()
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(passcode)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_passcode_is_made_once_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broker-passcode");
        let made = read_or_make_passcode(&file).unwrap();
        assert!(made.len() >= 32, "{made}");
        assert_eq!(read_or_make_passcode(&file).unwrap(), made);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "").unwrap();
        assert!(read_or_make_passcode(&file).unwrap_err().to_string().contains("is empty"));
    }
}
