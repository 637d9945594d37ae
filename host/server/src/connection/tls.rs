//! TLS for the public listener, with certificates and a private key from PEM files, which are reloaded when they
//! change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Installs the process-wide cryptography provider, for the server and for outgoing requests.
pub fn choose_cryptography() {
    // Fails only if it is already installed.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
}

/// The files of a certificate chain, of its private key, and of the authorities whose clients are served.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub chain: PathBuf,
    pub key: PathBuf,
    /// `None` if clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// A certificate in use, and the files that it comes from.
pub struct Certificate {
    files: CertificateFiles,
    current: RwLock<LoadedCertificate>,
}

struct LoadedCertificate {
    acceptor: TlsAcceptor,
    /// The files' state before they were read.
    state: Vec<FileState>,
}

/// Device, inode, length, and the time of the last change in nanoseconds; `None` if there is no such file.
type FileState = Option<(u64, u64, u64, i128)>;

/// How often the files are looked at.
const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read or contains no PEM of its kind, or the key does not match the certificate.
    pub fn load(files: CertificateFiles) -> anyhow::Result<Arc<Self>> {
        let current = RwLock::new(LoadedCertificate::read(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    /// Reads the files again, for new connections, and says so in the log. After an error, what was read before stays
    /// in use.
    pub fn reload_and_say(&self) {
        // Before they are read: a file that changes meanwhile is then read again.
        let state = self.files.state();
        match LoadedCertificate::read(&self.files) {
            Ok(current) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
                tracing::info!("reloaded the certificate; new connections use it");
            }
            Err(error) => {
                // Do not try again until the files change.
                self.current.write().unwrap_or_else(PoisonError::into_inner).state = state;
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "cannot reload the certificate; the previous one stays in use"
                );
            }
        }
    }

    /// Reads the files again whenever they have changed, and have then stayed the same for a while: a certificate and
    /// its key are seldom written at the same moment.
    pub async fn follow(self: Arc<Self>) {
        let mut last = self.files.state();
        loop {
            tokio::time::sleep(CERTIFICATE_CHECK_INTERVAL).await;
            let (certificate, before) = (Arc::clone(&self), last);
            // File systems can be slow.
            let looked = tokio::task::spawn_blocking(move || certificate.look(&before)).await;
            let Ok(state) = looked else { return };
            last = state;
        }
    }

    /// Returns the files' state. Reads the files if their state is the same as before, but not that of the certificate
    /// in use.
    fn look(&self, before: &[FileState]) -> Vec<FileState> {
        let state = self.files.state();
        let in_use = self.current.read().unwrap_or_else(PoisonError::into_inner).state.clone();
        if state != in_use && state == before {
            self.reload_and_say();
        }
        state
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }
}

impl CertificateFiles {
    fn state(&self) -> Vec<FileState> {
        let paths = [Some(&self.chain), Some(&self.key), self.client_ca.as_ref()];
        let state = |path: &PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            let changed = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
            Some((file.dev(), file.ino(), file.len(), changed))
        };
        paths.into_iter().flatten().map(state).collect()
    }
}

impl LoadedCertificate {
    fn read(files: &CertificateFiles) -> anyhow::Result<Self> {
        let state = files.state();
        Ok(Self { acceptor: acceptor(files)?, state })
    }
}

fn acceptor(files: &CertificateFiles) -> anyhow::Result<TlsAcceptor> {
    let CertificateFiles { chain, key, client_ca } = files;
    let builder = match client_ca {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(client_ca) => ServerConfig::builder().with_client_cert_verifier(verifier(client_ca)?),
    };
    let private_key =
        PrivateKeyDer::from_pem_file(key).with_context(|| in_file(key, "private key"))?;
    let mut config = builder
        .with_single_cert(certificates(chain)?, private_key)
        .with_context(|| format!("{} and {} do not match", chain.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Verifies that clients have a certificate of one of the authorities in this file.
fn verifier(file: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.with_context(|| format!("{} has a faulty certificate", file.display()))?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
    verifier.with_context(|| format!("cannot use the authorities in {}", file.display()))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| in_file(file, "certificate"))?;
    ensure!(!found.is_empty(), in_file(file, "certificate"));
    Ok(found)
}

fn in_file(path: &Path, what: &str) -> String {
    format!("{} contains no {what} in PEM format", path.display())
}
