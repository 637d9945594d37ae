//! TLS on the public listener, from a certificate chain and its key in PEM files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Chooses the cryptography of this whole process, for what it serves and for what it asks.
pub fn choose_cryptography() {
    // The first choice counts; a second one is the same.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
}

/// Makes an acceptor of the files.
///
/// # Errors
/// A file that cannot be read or holds no PEM of its kind; a key that does not fit the certificate.
pub fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let in_file = |path: &Path, what: &str| format!("{} holds no {what} in PEM", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| in_file(certificate, "certificate"))?;
    ensure!(!chain.is_empty(), in_file(certificate, "certificate"));
    let private_key =
        PrivateKeyDer::from_pem_file(key).with_context(|| in_file(key, "private key"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .with_context(|| {
            format!("{} and {} do not fit each other", certificate.display(), key.display())
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
