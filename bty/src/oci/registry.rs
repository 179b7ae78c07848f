//! Resolves a reference: fetches manifests, and chooses a layer.

use std::sync::Arc;
use std::time::Duration;

use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, ImageIndexEntry,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciImageIndex, OciManifest, Versioned,
};
use reqwest::StatusCode;
use url::Url;

use super::{OciBlob, OciReference, layer};
use crate::source::http::{self, HttpSource};
use crate::source::{ByteSource as _, Source};
use crate::transport::endpoint::GetRequest;
use crate::transport::http_client::HttpClient;
use crate::transport::network::NetworkRuntime;
use crate::transport::origin::Origin;
use crate::transport::registry_auth::RegistryAuth;
use crate::transport::retry::{Backoff, RequestError};
use crate::{CancelToken, Digest, Error, ErrorKind, Location, Result};

/// Far more than the manifest of a disk image needs.
const MANIFEST_BYTES_MAX: usize = 10 << 20;

/// Time limit for one attempt to fetch a manifest, token included.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of nested indexes above a manifest.
const INDEXES_MAX: usize = 3;

/// The annotation by which BuildKit marks attestations in an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Maximum number of index entries that an error lists.
const LISTED_MAX: usize = 16;

/// Opens the blob to which `reference` resolves.
pub(crate) fn open(
    runtime: &Arc<NetworkRuntime>,
    reference: &OciReference,
    cancel: &CancelToken,
) -> Result<Source> {
    let registry = Registry::new(runtime.http(), reference);
    let resolver = registry.clone();
    let blob = runtime.run(async move { resolver.resolve().await }, cancel)?;
    let url = registry.url("blobs", &format!("sha256:{}", blob.digest))?;
    let origin = Origin::registry(registry.http, &url, registry.auth, true);
    let bytes = HttpSource::open(runtime, origin, cancel)?;
    if let (Some(expected), Some(actual)) = (blob.size_bytes, bytes.len_bytes())
        && expected != actual
    {
        let message =
            format!("the manifest announces {expected} bytes, but the registry has {actual}");
        return Err(Error::new(ErrorKind::Source, message)
            .with_path(reference)
            .hint("push the artifact again; the registry's copy is damaged"));
    }
    let name = blob.title.as_deref().and_then(http::file_name);
    let name = name.or_else(|| http::file_name(reference.repository())).unwrap_or_default();
    Source::new(Location::Oci(reference.clone()), name, Arc::new(bytes))
        .expect(blob.digest)?
        .expect_pack_index(blob.pack_index_sha256)
}

/// Finds the blob that `reference` resolves to, without opening it.
pub(crate) fn resolve(
    runtime: &NetworkRuntime,
    reference: &OciReference,
    cancel: &CancelToken,
) -> Result<OciBlob> {
    let registry = Registry::new(runtime.http(), reference);
    runtime.run(async move { registry.resolve().await }, cancel)
}

/// One repository of one registry.
#[derive(Clone)]
struct Registry {
    http: HttpClient,
    reference: OciReference,
    /// Host of the API. For Docker Hub, it differs from the host in references.
    host: String,
    auth: Arc<RegistryAuth>,
}

impl Registry {
    fn new(http: &HttpClient, reference: &OciReference) -> Self {
        let (registry, repository) =
            (reference.registry().to_owned(), reference.repository().to_owned());
        let named = Reference::with_tag(registry, repository.clone(), "latest".to_owned());
        let host = named.resolve_registry().to_owned();
        let auth = RegistryAuth::new(http.clone(), reference.registry(), host.clone(), repository);
        Self { http: http.clone(), reference: reference.clone(), host, auth: Arc::new(auth) }
    }

    fn url(&self, kind: &str, name: &str) -> Result<Url> {
        let scheme = if self.http.options.plain_http { "http" } else { "https" };
        let text =
            format!("{scheme}://{}/v2/{}/{kind}/{name}", self.host, self.reference.repository());
        Url::parse(&text).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("{text:?} is not a valid address")).because(e)
        })
    }

    async fn resolve(&self) -> Result<OciBlob> {
        let mut version = self.reference.version();
        let mut expected = self.reference.digest();
        for _ in 0..=INDEXES_MAX {
            let origin = self.origin("manifests", &version, expected.is_some())?;
            let manifest = match (self.fetch(&origin, expected).await?, self.reference.digest()) {
                (Some(manifest), _) => manifest,
                // no manifest has this digest, so it names a blob
                (None, Some(digest)) if expected == Some(digest) => {
                    return Ok(OciBlob {
                        digest,
                        size_bytes: None,
                        title: None,
                        media_type: None,
                        pack_index_sha256: None,
                    });
                }
                _ => {
                    let what = if expected.is_none() { "tag" } else { "manifest" };
                    let error = origin.error(format!("the registry has no such {what}"));
                    return Err(error.hint("check the repository and the tag"));
                }
            };
            match self.target(&manifest)? {
                ManifestTarget::Blob(blob) => return Ok(blob),
                ManifestTarget::Manifest(digest) => {
                    (version, expected) = (format!("sha256:{digest}"), Some(digest));
                }
            }
        }
        let error =
            Error::new(ErrorKind::Format, "too many nested indexes").with_path(&self.reference);
        Err(error.hint("push the artifact again"))
    }

    fn origin(&self, kind: &str, name: &str, caller_verifies: bool) -> Result<Origin> {
        let url = self.url(kind, name)?;
        Ok(Origin::registry(self.http.clone(), &url, Arc::clone(&self.auth), caller_verifies))
    }

    /// The bytes of a manifest; `None` when the registry has no manifest of this name.
    async fn fetch(&self, origin: &Origin, expected: Option<Digest>) -> Result<Option<Vec<u8>>> {
        let mut backoff = Backoff::new(&self.http.options);
        loop {
            let attempt = self.fetch_once(origin, expected);
            let result =
                tokio::time::timeout(EXCHANGE_TIMEOUT, attempt).await.unwrap_or_else(|_| {
                    Err(RequestError::transient(
                        origin.error("the registry does not answer in time"),
                    ))
                });
            match result {
                Ok(manifest) => return Ok(manifest),
                Err(error) => backoff.wait_after(error).await?,
            }
        }
    }

    async fn fetch_once(
        &self,
        origin: &Origin,
        expected: Option<Digest>,
    ) -> Result<Option<Vec<u8>>, RequestError> {
        let accept = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ]
        .join(", ");
        let request = GetRequest { accept: Some(&accept), ..GetRequest::default() };
        let response = origin.send(&request).await?;
        // docker-registry answers 500 when it fails to parse a blob as a manifest
        let is_blob = response.status() == StatusCode::INTERNAL_SERVER_ERROR && expected.is_some();
        if response.status() == StatusCode::NOT_FOUND || is_blob {
            return Ok(None);
        }
        let response = origin.endpoint.accept(response)?;
        if response.status() != StatusCode::OK {
            return Err(RequestError::Permanent(
                origin.error(format!("the registry answered {}", response.status())),
            ));
        }
        let named = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = origin.endpoint.read_all(response, MANIFEST_BYTES_MAX).await?;
        match expected.or(named) {
            Some(expected) if expected != Digest::of(&bytes) => {
                let message =
                    format!("the manifest has digest {}, expected {expected}", Digest::of(&bytes));
                let error = Error::new(ErrorKind::Integrity, message).with_path(&self.reference);
                Err(RequestError::Permanent(
                    error.hint("the registry's copy is damaged; push the artifact again"),
                ))
            }
            _ => Ok(Some(bytes)),
        }
    }

    fn target(&self, manifest: &[u8]) -> Result<ManifestTarget> {
        match parse(manifest).map_err(|e| e.with_path(&self.reference))? {
            OciManifest::ImageIndex(mut index) => {
                index.manifests.retain(is_artifact);
                match index.manifests.as_slice() {
                    [only] => {
                        self.digest_of(&only.digest, "an artifact").map(ManifestTarget::Manifest)
                    }
                    _ => Err(self.ambiguous(&index)),
                }
            }
            OciManifest::Image(image) => {
                let layer =
                    layer::choose(&image.layers).map_err(|e| e.with_path(&self.reference))?;
                let index = layer::pack_index(layer);
                Ok(ManifestTarget::Blob(OciBlob {
                    pack_index_sha256: index
                        .map(|digest| self.digest_of(digest, "the index of a layer"))
                        .transpose()?,
                    digest: self.digest_of(&layer.digest, "a layer")?,
                    size_bytes: u64::try_from(layer.size).ok(),
                    title: layer::title(layer).map(str::to_owned),
                    media_type: Some(layer.media_type.clone()),
                }))
            }
        }
    }

    fn digest_of(&self, text: &str, what: &str) -> Result<Digest> {
        text.parse().map_err(|_| {
            let message =
                format!("the manifest names {what} by {text:?}, which is not a SHA-256 digest");
            Error::new(ErrorKind::Format, message).with_path(&self.reference)
        })
    }

    /// The error for an index of several artifacts: bty does not guess the architecture.
    fn ambiguous(&self, index: &OciImageIndex) -> Error {
        let mut listed: Vec<String> = index
            .manifests
            .iter()
            .take(LISTED_MAX)
            .map(|entry| {
                let platform =
                    entry.platform.as_ref().map_or("any platform".to_owned(), |platform| {
                        let variant =
                            platform.variant.as_ref().map(|v| format!("/{v}")).unwrap_or_default();
                        format!("{}/{}{variant}", platform.os, platform.architecture)
                    });
                format!("{platform} {}", entry.digest)
            })
            .collect();
        if index.manifests.len() > LISTED_MAX {
            listed.push(format!("and {} more", index.manifests.len() - LISTED_MAX));
        }
        let message =
            format!("{} is an index of several artifacts: {}", self.reference, listed.join(", "));
        let error = Error::new(ErrorKind::Usage, message).with_path(&self.reference);
        if index.manifests.is_empty() {
            return error.hint("push the artifact again; the index lists none");
        }
        match index.manifests.iter().find_map(|entry| entry.digest.parse().ok()) {
            Some(digest) => error.hint(format!(
                "name one by its digest, for example {}",
                self.reference.with_digest(digest)
            )),
            None => error.hint("push the artifact again; the index names no digest"),
        }
    }
}

/// What a manifest resolves to.
enum ManifestTarget {
    Blob(OciBlob),
    /// The only artifact of an index.
    Manifest(Digest),
}

/// False for the attestations that build tools add to an index.
fn is_artifact(entry: &ImageIndexEntry) -> bool {
    let kind = entry.annotations.as_ref().and_then(|annotations| annotations.get(REFERENCE_TYPE));
    kind.is_none_or(|kind| kind != "attestation-manifest")
}

/// Parses a manifest and chooses its layer, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_manifest(manifest: &[u8]) -> Result<()> {
    if let OciManifest::Image(image) = parse(manifest)? {
        let _ = layer::choose(&image.layers)
            .map(|layer| (layer::title(layer), layer::pack_index(layer)));
    }
    Ok(())
}

fn parse(manifest: &[u8]) -> Result<OciManifest> {
    let malformed = |e: serde_json::Error| {
        Error::new(ErrorKind::Format, "the manifest is malformed").because(e)
    };
    let version: Versioned = serde_json::from_slice(manifest).map_err(malformed)?;
    if version.schema_version != 2 {
        let message = format!(
            "the manifest has schema version {}, only 2 is supported",
            version.schema_version
        );
        return Err(Error::new(ErrorKind::Format, message)
            .hint("push the artifact again with a current tool"));
    }
    serde_json::from_slice(manifest).map_err(malformed)
}
