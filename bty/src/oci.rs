//! OCI registries: `oras://` references, anonymous tokens, manifests, the choice of a layer.
//!
//! The image is one layer of an artifact. Its blob is read like any web object ([`Source`]), and has to have the digest
//! and the length that the manifest says. There is no login: only what is public can be read.

use std::sync::Arc;
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
    OciImageIndex, OciManifest, Versioned,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client::net::{Http, Online, USER_AGENT};
use crate::source::Input as _;
use crate::source::http::origin::{Ask, Fault, Origin, Retries};
use crate::source::http::{self, HttpInput};
use crate::{CancelToken, Digest, Error, ErrorKind, Location, Result, Source};

mod layer;
mod reference;

pub use reference::OciReference;

/// No manifest of a disk image comes near it.
const MANIFEST_BYTES_MAX: usize = 10 << 20;

/// Bounds one exchange about a token or a manifest, however slowly the registry talks.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many entries of an index an error lists.
const LISTED_MAX: usize = 16;

/// The blob that a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OciBlob {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes; unknown when the reference named the blob itself.
    pub size_bytes: Option<u64>,
    /// The file name it was pushed under.
    pub title: Option<String>,
    /// What the manifest says it is.
    pub media_type: Option<String>,
}

/// Opens the blob that `reference` stands for.
pub(crate) fn open(online: &Arc<Online>, reference: &OciReference, cancel: &CancelToken) -> Result<Source> {
    let registry = Registry::new(online.http(), reference);
    let asked = registry.clone();
    let blob = online.run(async move { asked.resolve().await }, cancel)?;
    let url = registry.url("blobs", &format!("sha256:{}", blob.digest))?;
    let input = HttpInput::open(online, &url, Some(registry.access), cancel)?;
    if let (Some(promised), Some(found)) = (blob.size_bytes, input.len_bytes())
        && promised != found
    {
        let message = format!("the manifest promises {promised} bytes, the registry has {found}");
        return Err(Error::new(ErrorKind::Source, message)
            .with_path(reference)
            .hint("push the artifact again; the registry's copy is damaged"));
    }
    let name = blob.title.as_deref().and_then(http::file_name);
    let name = name.or_else(|| http::file_name(reference.repository())).unwrap_or_default();
    Ok(Source { location: Location::Oci(reference.clone()), name, input: Arc::new(input), expected: Some(blob.digest) })
}

/// Finds the blob that `reference` stands for.
pub(crate) fn resolve(online: &Online, reference: &OciReference, cancel: &CancelToken) -> Result<OciBlob> {
    let registry = Registry::new(online.http(), reference);
    online.run(async move { registry.resolve().await }, cancel)
}

/// One repository of one registry.
#[derive(Clone)]
struct Registry {
    http: Http,
    reference: OciReference,
    access: Arc<Access>,
}

impl Registry {
    fn new(http: &Http, reference: &OciReference) -> Self {
        let (registry, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
        // a token is for a repository, whatever the tag
        let oci = Reference::with_tag(registry, repository, "latest".to_owned());
        let access = Access { http: http.clone(), reference: oci, token: tokio::sync::Mutex::default() };
        Self { http: http.clone(), reference: reference.clone(), access: Arc::new(access) }
    }

    fn url(&self, kind: &str, name: &str) -> Result<Url> {
        let scheme = if self.http.options.plain_http { "http" } else { "https" };
        let host = self.access.reference.resolve_registry();
        let text = format!("{scheme}://{host}/v2/{}/{kind}/{name}", self.reference.repository());
        Url::parse(&text).map_err(|e| Error::new(ErrorKind::Usage, format!("{text:?} is no address")).because(e))
    }

    async fn resolve(&self) -> Result<OciBlob> {
        let digest = self.reference.digest();
        let url = self.url("manifests", &self.reference.version())?;
        let origin = Origin::new(self.http.clone(), url, Some(Arc::clone(&self.access)));
        match (self.fetch(&origin).await?, digest) {
            (Some(manifest), _) => self.choose(&manifest),
            // no manifest has that digest, so it is that of a blob
            (None, Some(digest)) => Ok(OciBlob { digest, size_bytes: None, title: None, media_type: None }),
            (None, None) => Err(origin.error("the registry has no such tag").hint("check the repository and the tag")),
        }
    }

    /// The bytes of a manifest; `None` when the registry has none of that name.
    async fn fetch(&self, origin: &Origin) -> Result<Option<Vec<u8>>> {
        let mut retries = Retries::new(&self.http.options);
        loop {
            let fetched = match tokio::time::timeout(EXCHANGE_TIMEOUT, self.fetch_once(origin)).await {
                Ok(fetched) => fetched,
                Err(_) => Err(Fault::passing(origin.error("the registry takes too long"))),
            };
            match fetched {
                Ok(manifest) => return Ok(manifest),
                Err(fault) => retries.after(fault).await?,
            }
        }
    }

    async fn fetch_once(&self, origin: &Origin) -> Result<Option<Vec<u8>>, Fault> {
        let accept = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ]
        .join(", ");
        let reply = origin.answer(&Ask { accept: Some(&accept), ..Ask::default() }).await?;
        // docker-registry fails with 500 when it tries to parse a blob as a manifest
        let is_blob = reply.status() == StatusCode::INTERNAL_SERVER_ERROR && self.reference.digest().is_some();
        if reply.status() == StatusCode::NOT_FOUND || is_blob {
            return Ok(None);
        }
        let mut reply = origin.accept(reply)?;
        if reply.status() != StatusCode::OK {
            return Err(Fault::Final(origin.error(format!("the registry answered {}", reply.status()))));
        }
        let named = reply.headers().get("docker-content-digest").and_then(|value| value.to_str().ok()?.parse().ok());
        let mut bytes = Vec::new();
        while let Some(chunk) = origin.chunk(&mut reply, bytes.len() as u64).await? {
            if bytes.len() + chunk.len() > MANIFEST_BYTES_MAX {
                return Err(Fault::Final(
                    origin.error("the manifest is larger than 10 MiB").hint("check the reference"),
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        match self.reference.digest().or(named) {
            Some(expected) if expected != Digest::of(&bytes) => {
                let message = format!("the manifest has digest {}, expected {expected}", Digest::of(&bytes));
                let error = Error::new(ErrorKind::Integrity, message).with_path(&self.reference);
                Err(Fault::Final(error.hint("the registry's copy is damaged; push the artifact again")))
            }
            _ => Ok(Some(bytes)),
        }
    }

    fn choose(&self, manifest: &[u8]) -> Result<OciBlob> {
        match parse(manifest).map_err(|e| e.with_path(&self.reference))? {
            OciManifest::ImageIndex(index) => Err(self.ambiguous(&index)),
            OciManifest::Image(image) => {
                let chosen = layer::choose(&image.layers).map_err(|e| e.with_path(&self.reference))?;
                let digest = chosen.digest.parse().map_err(|_| {
                    let message =
                        format!("the manifest names a layer by {:?}, which is no SHA-256 digest", chosen.digest);
                    Error::new(ErrorKind::Format, message).with_path(&self.reference)
                })?;
                Ok(OciBlob {
                    digest,
                    size_bytes: u64::try_from(chosen.size).ok(),
                    title: layer::title(chosen).map(str::to_owned),
                    media_type: Some(chosen.media_type.clone()),
                })
            }
        }
    }

    /// The error for an index: bty does not guess what machine an image is for.
    fn ambiguous(&self, index: &OciImageIndex) -> Error {
        let mut listed: Vec<String> = index
            .manifests
            .iter()
            .take(LISTED_MAX)
            .map(|entry| {
                let platform = entry.platform.as_ref().map_or("any platform".to_owned(), |platform| {
                    let variant = platform.variant.as_ref().map(|v| format!("/{v}")).unwrap_or_default();
                    format!("{}/{}{variant}", platform.os, platform.architecture)
                });
                format!("{platform} {}", entry.digest)
            })
            .collect();
        if index.manifests.len() > LISTED_MAX {
            listed.push(format!("and {} more", index.manifests.len() - LISTED_MAX));
        }
        let message = format!("{} is an index of several artifacts: {}", self.reference, listed.join(", "));
        let error = Error::new(ErrorKind::Usage, message).with_path(&self.reference);
        match index.manifests.iter().find_map(|entry| entry.digest.parse().ok()) {
            Some(digest) => {
                error.hint(format!("name one by its digest, for example {}", self.reference.with_digest(digest)))
            }
            None => error.hint("push the artifact again; the index names no digest"),
        }
    }
}

fn parse(manifest: &[u8]) -> Result<OciManifest> {
    let malformed = |e: serde_json::Error| Error::new(ErrorKind::Format, "the manifest is malformed").because(e);
    let version: Versioned = serde_json::from_slice(manifest).map_err(malformed)?;
    if version.schema_version != 2 {
        let message = format!("the manifest has schema version {}, only 2 is supported", version.schema_version);
        return Err(Error::new(ErrorKind::Format, message).hint("push the artifact again with a current tool"));
    }
    serde_json::from_slice(manifest).map_err(malformed)
}

/// The right to read one repository: an anonymous token, where the registry wants one.
pub(crate) struct Access {
    http: Http,
    reference: Reference,
    token: tokio::sync::Mutex<Option<String>>,
}

impl Access {
    /// The token to try; none before the registry has refused to do without.
    pub(crate) async fn token(&self) -> Option<String> {
        self.token.lock().await.clone()
    }

    /// Another token, because `refused` was refused. `None` when the registry hands out none.
    pub(crate) async fn renew(&self, refused: Option<&str>) -> Result<Option<String>, Fault> {
        let mut held = self.token.lock().await;
        // another request may have renewed it meanwhile
        if held.as_deref() == refused {
            *held = None;
            *held = self.mint().await?;
        }
        Ok(held.clone())
    }

    async fn mint(&self) -> Result<Option<String>, Fault> {
        let registry = self.reference.resolve_registry();
        let failed = |message: &str| {
            let error = Error::new(ErrorKind::Source, message).with_path(registry);
            error.context(format!("asking {registry} for a token"))
        };
        let client =
            self.client().map_err(|fault| fault.map(|e| e.context(format!("asking {registry} for a token"))))?;
        let auth = client.auth(&self.reference, &RegistryAuth::Anonymous, RegistryOperation::Pull);
        match tokio::time::timeout(EXCHANGE_TIMEOUT, auth).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(e)) => {
                let is_passing = may_pass(&e);
                let error = failed("it hands out none")
                    .because(e)
                    .hint("only what is public can be read; check the repository");
                Err(if is_passing { Fault::passing(error) } else { Fault::Final(error) })
            }
            Err(_) => Err(Fault::passing(failed("the registry takes too long"))),
        }
    }

    fn client(&self) -> Result<oci_client::Client, Fault> {
        let options = &self.http.options;
        if self.http.roots.is_empty() {
            // it would look for certificates by itself, in places that an environment variable names
            let error = Error::new(ErrorKind::Host, "this system has no certificate authorities");
            return Err(Fault::Final(error.hint("install ca-certificates, or give the authority's certificate")));
        }
        // fails when the program has chosen a provider, which is as good
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = |root: &rustls::pki_types::CertificateDer<'_>| Certificate {
            encoding: CertificateEncoding::Der,
            data: root.to_vec(),
        };
        let is_direct = options.http_proxy.is_none() && options.https_proxy.is_none();
        let config = ClientConfig {
            protocol: if options.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            tls_certs_only: self.http.roots.iter().map(certificate).collect(),
            user_agent: USER_AGENT,
            connect_timeout: Some(options.connect_timeout),
            read_timeout: Some(options.stall_timeout),
            // without any proxy it would take the environment's, so it gets one that is never used
            http_proxy: if is_direct { Some("http://localhost".to_owned()) } else { options.http_proxy.clone() },
            https_proxy: options.https_proxy.clone(),
            no_proxy: if is_direct { Some("*,0.0.0.0/0,::/0".to_owned()) } else { options.no_proxy.clone() },
            ..ClientConfig::default()
        };
        oci_client::Client::try_from(config)
            .map_err(|e| Fault::Final(Error::new(ErrorKind::Host, "setting up the registry client").because(e)))
    }
}

/// Whether a refusal to hand out a token may pass. The client drops the status, so a refusal is told by its words.
fn may_pass(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) => true,
        OciDistributionError::AuthenticationFailure(reason) => {
            let reason = reason.to_ascii_lowercase();
            !["denied", "unauthorized", "forbidden", "not found"].iter().any(|word| reason.contains(word))
        }
        _ => false,
    }
}
