//! TLS for the public listener, with a certificate chain and a private key from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Installs the process-wide cryptography provider, for the server and for outgoing requests.
pub fn choose_cryptography() {
    // Fails only if it is already installed.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
}

/// A certificate chain, its private key, and the files they come from.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read or contains no PEM of its kind, or the key does not match the certificate.
    pub fn load(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let acceptor = acceptor(chain, key)?;
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), acceptor })
    }

    /// Reads the files again, for new connections. After an error, the previous certificate stays in use.
    ///
    /// # Errors
    /// The same as [`Certificate::load`].
    pub fn reload(&mut self) -> anyhow::Result<()> {
        self.acceptor = acceptor(&self.chain, &self.key)?;
        Ok(())
    }

    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let in_file =
        |path: &Path, what: &str| format!("{} contains no {what} in PEM format", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| in_file(certificate, "certificate"))?;
    ensure!(!chain.is_empty(), in_file(certificate, "certificate"));
    let private_key =
        PrivateKeyDer::from_pem_file(key).with_context(|| in_file(key, "private key"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .with_context(|| format!("{} and {} do not match", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
