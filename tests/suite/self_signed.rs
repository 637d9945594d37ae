//! A certificate that no authority has issued, and a TLS server that has it.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// A certificate for 127.0.0.1.
pub struct SelfSigned {
    pub pem: String,
    pub server: Arc<ServerConfig>,
}

impl SelfSigned {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("versions").with_no_client_auth();
        let tls = tls.with_single_cert(vec![certificate], key).expect("a certificate");
        Self { pem: made.cert.pem(), server: Arc::new(tls) }
    }
}
