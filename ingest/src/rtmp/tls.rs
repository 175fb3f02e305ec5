//! RTMPS: the certificate that publishers are shown, read again when its files change.

use crest_core::{Error, Result};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_rustls::TlsAcceptor;

use crate::config::RtmpConfig;

/// The certificate and its key.
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// How often the files are looked at, at most.
    reload: Duration,
    current: Arc<ServerConfig>,
    /// What the files were like that `current` was read from.
    stamps: Stamps,
    looked: Instant,
}

/// When certificate and key were changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamps(Option<SystemTime>, Option<SystemTime>);

impl Tls {
    /// Reads the files that the settings name. The error names the setting that is wrong.
    pub(super) fn open(config: &RtmpConfig) -> Result<Self> {
        let named = |key: &str, path: &Option<PathBuf>| {
            path.clone().ok_or_else(|| {
                Error::user(format!("rtmp.tls_listen is set and {key} is not; set it to the path of a PEM file"))
            })
        };
        let certificate = named("rtmp.tls_certificate", &config.tls_certificate)?;
        let key = named("rtmp.tls_key", &config.tls_key)?;
        let stamps = stamps(&certificate, &key);
        let current = read(&certificate, &key)?;
        Ok(Self { certificate, key, reload: config.tls_reload.0, current, stamps, looked: Instant::now() })
    }

    /// What the next connection is shown. Where the files changed and cannot be used, or do not fit each other
    /// yet, it is what was shown before.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        if self.looked.elapsed() >= self.reload {
            self.looked = Instant::now();
            self.look();
        }
        TlsAcceptor::from(Arc::clone(&self.current))
    }

    fn look(&mut self) {
        let stamps = stamps(&self.certificate, &self.key);
        if stamps == self.stamps {
            return;
        }
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                (self.current, self.stamps) = (config, stamps);
                tracing::info!(certificate = %self.certificate.display(), "the renewed certificate is shown to RTMPS publishers");
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate for RTMPS changed and cannot be used; the one before is")
            }
        }
    }
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    Stamps(changed(certificate), changed(key))
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unreadable("rtmp.tls_certificate", certificate, &error))?;
    if chain.is_empty() {
        return Err(unreadable("rtmp.tls_certificate", certificate, &PemError::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("rtmp.tls_key", key, &error))?;
    let provider = Arc::new(ring::default_provider());
    let built = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private));
    built.map(Arc::new).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        Error::user(match error {
            rustls::Error::InconsistentKeys(_) => format!(
                "rtmp.tls_key: the key in {key} does not fit the first certificate in {certificate} \
                 (rtmp.tls_certificate); give the two that were made together"
            ),
            other => format!(
                "rtmp.tls_certificate: {certificate} with the key in {key} (rtmp.tls_key) cannot be used: {other}"
            ),
        })
    })
}

fn unreadable(setting: &str, path: &Path, error: &PemError) -> Error {
    let path = path.display();
    Error::user(match error {
        PemError::Io(error) => format!("{setting}: {path} cannot be read: {error}; give the path of a PEM file"),
        PemError::NoItemsFound if setting == "rtmp.tls_key" => {
            format!("{setting}: there is no private key in {path}; it begins with -----BEGIN PRIVATE KEY-----")
        }
        PemError::NoItemsFound => {
            format!("{setting}: there is no certificate in {path}; it begins with -----BEGIN CERTIFICATE-----")
        }
        // What it would say of the contents may be part of a key.
        _ => format!("{setting}: {path} is not a PEM file"),
    })
}
