//! Decides which servers are trusted: those with a certificate of the system's authorities, of an
//! authority that the caller gave, or with exactly a certificate that the caller gave.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::transport::options::ClientOptions;
use crate::{Error, ErrorKind, Remedy, Result};

/// Where distributions keep their bundle of authorities. The first that has any is used.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Arch, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",   // older RHEL
    "/etc/ssl/ca-bundle.pem",             // SUSE
    "/etc/ssl/cert.pem",                  // Alpine
];

/// The TLS configuration of the HTTP client.
pub(super) fn tls_config(options: &ClientOptions) -> Result<ClientConfig> {
    let broken = |e: rustls::Error| Error::new(ErrorKind::Host, "setting up TLS").because(e);
    // not the process-wide default provider: that one belongs to the program
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(broken)?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(system_roots(&SYSTEM_ROOTS.map(Path::new)));
    let given = given_certificates(options)?;
    for (certificate, unusable) in &given {
        store.add(certificate.clone()).map_err(|e| unusable(e.to_string()))?;
    }
    let mut tls = if given.is_empty() {
        builder.with_root_certificates(store).with_no_client_auth()
    } else {
        let pinned = given.into_iter().map(|(certificate, _)| certificate).collect();
        let verifier = PinningVerifier::new(store, pinned, provider)?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// A certificate, and a function that makes the error for an unusable one.
type GivenCertificate = (CertificateDer<'static>, Box<dyn Fn(String) -> Error>);

/// The certificates in the caller's files, of which each must have at least one.
fn given_certificates(options: &ClientOptions) -> Result<Vec<GivenCertificate>> {
    let mut given: Vec<GivenCertificate> = Vec::new();
    for path in &options.ca_files {
        let shown = path.display().to_string();
        let pem = std::fs::read(path).map_err(|e| {
            Error::new(ErrorKind::Host, format!("reading the certificates in {shown}"))
                .because(e)
                .with_path(&shown)
        })?;
        let unusable = move |why: String| {
            Error::new(ErrorKind::Usage, format!("{shown} holds no usable certificate: {why}"))
                .with_path(&shown)
                .hint(
                    "give the certificate of the authority, or that of the server \
                     itself, in PEM form",
                )
        };
        let before = given.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
            given.push((certificate, Box::new(unusable.clone())));
        }
        if given.len() == before {
            return Err(unusable("there is none in it".to_owned()));
        }
    }
    Ok(given)
}

/// The system's authorities. Having none is not an error: plain HTTP and the caller's certificates
/// still work.
fn system_roots(bundles: &[&Path]) -> Vec<CertificateDer<'static>> {
    bundles
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .map(|pem| CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect::<Vec<_>>())
        .find(|roots| !roots.is_empty())
        .unwrap_or_default()
}

/// Verifies by authorities, and also accepts a server that presents exactly a certificate that the
/// caller gave. `openssl req -x509` marks self-signed certificates as authorities, and the usual
/// verifier rejects an authority as a server.
#[derive(Debug)]
struct PinningVerifier {
    by_authority: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl PinningVerifier {
    fn new(
        roots: RootCertStore,
        pinned: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self> {
        let by_authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| Error::new(ErrorKind::Host, "setting up TLS").because(e))?;
        Ok(Self { by_authority, pinned })
    }
}

impl ServerCertVerifier for PinningVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.by_authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            // the validity period is checked before the role, so an expired certificate never gets
            // here
            Err(error)
                if is_ca_as_server(&error)
                    && self.pinned.iter().any(|pinned| pinned == end_entity) =>
            {
                rustls::client::verify_server_name(
                    &ParsedCertificate::try_from(end_entity)?,
                    server_name,
                )?;
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// True when a certificate was refused only because it is that of an authority. rustls has no
/// variant for this case.
fn is_ca_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    format!("{other:?}").contains("CaUsedAsEndEntity")
}

/// Turns `error`, about a server that cannot be trusted, into one that says why and what to do.
pub(crate) fn explain(error: Error, refusal: &rustls::Error) -> Error {
    let rustls::Error::InvalidCertificate(certificate) = refusal else {
        return error.because(refusal.clone()).hint("check the server's certificate");
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => error
            .because("it has expired")
            .hint("check this machine's clock, or renew the certificate of the server"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            error.because("it is not valid yet").hint("check this machine's clock")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            error.because("it is for another name").hint(
                "use the name that the certificate has, or make one with this name in \
                 subjectAltName",
            )
        }
        CertificateError::UnknownIssuer => error
            .because("no trusted authority has signed it")
            .hint(
                "check this machine's clock, or trust the certificate of its authority, or its own \
                 if it is self-signed",
            )
            .with_remedy(Remedy::CaFiles),
        _ if is_ca_as_server(refusal) => error
            .because("it is a certificate of an authority, not of a server")
            .hint("if the server is yours, trust this very certificate")
            .with_remedy(Remedy::CaFiles),
        other => error
            .because(format!("it is malformed or outdated ({other:?})"))
            .hint("make a certificate of version 3 with subjectAltName for the server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_certificates_still_gets_a_client() {
        assert!(system_roots(&[Path::new("/nonexistent"), Path::new("/dev/null")]).is_empty());
        assert!(tls_config(&ClientOptions::default()).is_ok());
    }

    #[test]
    fn an_unusable_certificate_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, kind) in [
            ("", ErrorKind::Usage),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ErrorKind::Usage),
        ] {
            std::fs::write(file.path(), content).unwrap();
            let options = ClientOptions {
                ca_files: vec![file.path().to_owned()],
                ..ClientOptions::default()
            };
            let error = tls_config(&options).unwrap_err();
            assert_eq!((error.kind(), error.path()), (kind, file.path().to_str()));
        }
        let options =
            ClientOptions { ca_files: vec!["/nonexistent.pem".into()], ..ClientOptions::default() };
        assert_eq!(tls_config(&options).unwrap_err().kind(), ErrorKind::Host);
    }
}
