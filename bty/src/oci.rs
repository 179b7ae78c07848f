//! OCI registries: `oras://` references, tokens, manifests, the choice of a layer.
//!
//! The image is one layer of an artifact. Its blob is read like any web object ([`Source`]), and
//! has to have the digest and the length that the manifest says. An index that lists one artifact
//! stands for that.

use std::sync::Arc;
use std::time::Duration;

use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, ImageIndexEntry,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciImageIndex, OciManifest, Versioned,
};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client::net::{Http, Online};
use crate::source::ByteSource as _;
use crate::source::http::origin::{Ask, Fault, Origin, Retries};
use crate::source::http::{self, HttpInput};
use crate::{CancelToken, Digest, Error, ErrorKind, Location, Result, Source};

mod layer;
mod reference;
pub(crate) mod token;

pub(crate) use token::Access;

pub use reference::OciReference;

/// No manifest of a disk image comes near it.
const MANIFEST_BYTES_MAX: usize = 10 << 20;

/// Bounds one exchange about a token or a manifest, however slowly the registry talks.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many indexes may stand before a manifest.
const INDEXES_MAX: usize = 3;

/// The annotation by which BuildKit marks what is no artifact of its own.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

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
pub(crate) fn open(
    online: &Arc<Online>,
    reference: &OciReference,
    cancel: &CancelToken,
) -> Result<Source> {
    let registry = Registry::new(online.http(), reference);
    let asked = registry.clone();
    let blob = online.run(async move { asked.resolve().await }, cancel)?;
    let url = registry.url("blobs", &format!("sha256:{}", blob.digest))?;
    let origin = Origin::of_registry(registry.http, url, registry.access, true);
    let input = HttpInput::open(online, origin, cancel)?;
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
    Source::new(Location::Oci(reference.clone()), name, Arc::new(input)).expect(blob.digest)
}

/// Finds the blob that `reference` stands for.
pub(crate) fn resolve(
    online: &Online,
    reference: &OciReference,
    cancel: &CancelToken,
) -> Result<OciBlob> {
    let registry = Registry::new(online.http(), reference);
    online.run(async move { registry.resolve().await }, cancel)
}

/// One repository of one registry.
#[derive(Clone)]
struct Registry {
    http: Http,
    reference: OciReference,
    /// Where its API is, which for Docker Hub is another host than the one in references.
    host: String,
    access: Arc<Access>,
}

impl Registry {
    fn new(http: &Http, reference: &OciReference) -> Self {
        let (registry, repository) =
            (reference.registry().to_owned(), reference.repository().to_owned());
        let named = Reference::with_tag(registry, repository.clone(), "latest".to_owned());
        let host = named.resolve_registry().to_owned();
        // a token is for a repository, whatever the tag
        let access = Access::new(http.clone(), reference.registry(), host.clone(), repository);
        Self { http: http.clone(), reference: reference.clone(), host, access: Arc::new(access) }
    }

    fn url(&self, kind: &str, name: &str) -> Result<Url> {
        let scheme = if self.http.options.plain_http { "http" } else { "https" };
        let text =
            format!("{scheme}://{}/v2/{}/{kind}/{name}", self.host, self.reference.repository());
        Url::parse(&text)
            .map_err(|e| Error::new(ErrorKind::Usage, format!("{text:?} is no address")).because(e))
    }

    async fn resolve(&self) -> Result<OciBlob> {
        let mut version = self.reference.version();
        let mut expected = self.reference.digest();
        for _ in 0..=INDEXES_MAX {
            let origin = self.origin("manifests", &version, expected.is_some())?;
            let manifest = match (self.fetch(&origin, expected).await?, self.reference.digest()) {
                (Some(manifest), _) => manifest,
                // no manifest has that digest, so it is that of a blob
                (None, Some(digest)) if expected == Some(digest) => {
                    return Ok(OciBlob { digest, size_bytes: None, title: None, media_type: None });
                }
                _ => {
                    let what = if expected.is_none() { "tag" } else { "manifest" };
                    let error = origin.error(format!("the registry has no such {what}"));
                    return Err(error.hint("check the repository and the tag"));
                }
            };
            match self.choose(&manifest)? {
                Chosen::Blob(blob) => return Ok(blob),
                Chosen::Manifest(digest) => {
                    (version, expected) = (format!("sha256:{digest}"), Some(digest));
                }
            }
        }
        let error = Error::new(ErrorKind::Format, "its index leads to an index, and so on")
            .with_path(&self.reference);
        Err(error.hint("push the artifact again"))
    }

    fn origin(&self, kind: &str, name: &str, is_proven: bool) -> Result<Origin> {
        let access = Arc::clone(&self.access);
        Ok(Origin::of_registry(self.http.clone(), self.url(kind, name)?, access, is_proven))
    }

    /// The bytes of a manifest; `None` when the registry has none of that name.
    async fn fetch(&self, origin: &Origin, expected: Option<Digest>) -> Result<Option<Vec<u8>>> {
        let mut retries = Retries::new(&self.http.options);
        loop {
            let fetched =
                match tokio::time::timeout(EXCHANGE_TIMEOUT, self.fetch_once(origin, expected))
                    .await
                {
                    Ok(fetched) => fetched,
                    Err(_) => Err(Fault::passing(origin.error("the registry takes too long"))),
                };
            match fetched {
                Ok(manifest) => return Ok(manifest),
                Err(fault) => retries.after(fault).await?,
            }
        }
    }

    async fn fetch_once(
        &self,
        origin: &Origin,
        expected: Option<Digest>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let accept = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ]
        .join(", ");
        let reply = origin.answer(&Ask { accept: Some(&accept), ..Ask::default() }).await?;
        // docker-registry fails with 500 when it tries to parse a blob as a manifest
        let is_blob = reply.status() == StatusCode::INTERNAL_SERVER_ERROR && expected.is_some();
        if reply.status() == StatusCode::NOT_FOUND || is_blob {
            return Ok(None);
        }
        let reply = origin.accept(reply)?;
        if reply.status() != StatusCode::OK {
            return Err(Fault::Final(
                origin.error(format!("the registry answered {}", reply.status())),
            ));
        }
        let named = reply
            .headers()
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = origin.read_all(reply, MANIFEST_BYTES_MAX).await?;
        match expected.or(named) {
            Some(expected) if expected != Digest::of(&bytes) => {
                let message =
                    format!("the manifest has digest {}, expected {expected}", Digest::of(&bytes));
                let error = Error::new(ErrorKind::Integrity, message).with_path(&self.reference);
                Err(Fault::Final(
                    error.hint("the registry's copy is damaged; push the artifact again"),
                ))
            }
            _ => Ok(Some(bytes)),
        }
    }

    fn choose(&self, manifest: &[u8]) -> Result<Chosen> {
        match parse(manifest).map_err(|e| e.with_path(&self.reference))? {
            OciManifest::ImageIndex(mut index) => {
                index.manifests.retain(is_artifact);
                match index.manifests.as_slice() {
                    [only] => self.digest_of(&only.digest, "an artifact").map(Chosen::Manifest),
                    _ => Err(self.ambiguous(&index)),
                }
            }
            OciManifest::Image(image) => {
                let chosen =
                    layer::choose(&image.layers).map_err(|e| e.with_path(&self.reference))?;
                Ok(Chosen::Blob(OciBlob {
                    digest: self.digest_of(&chosen.digest, "a layer")?,
                    size_bytes: u64::try_from(chosen.size).ok(),
                    title: layer::title(chosen).map(str::to_owned),
                    media_type: Some(chosen.media_type.clone()),
                }))
            }
        }
    }

    fn digest_of(&self, text: &str, what: &str) -> Result<Digest> {
        text.parse().map_err(|_| {
            let message =
                format!("the manifest names {what} by {text:?}, which is no SHA-256 digest");
            Error::new(ErrorKind::Format, message).with_path(&self.reference)
        })
    }

    /// The error for an index: bty does not guess what machine an image is for.
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

/// What a manifest leads to.
enum Chosen {
    Blob(OciBlob),
    /// An index lists only this one.
    Manifest(Digest),
}

/// False for what build tools add to an index about its artifacts: attestations, for no platform.
fn is_artifact(entry: &ImageIndexEntry) -> bool {
    let kind = entry.annotations.as_ref().and_then(|annotations| annotations.get(REFERENCE_TYPE));
    kind.is_none_or(|kind| kind != "attestation-manifest")
}

/// The layer of a manifest that is taken for the image, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_manifest(manifest: &[u8]) -> Result<()> {
    if let OciManifest::Image(image) = parse(manifest)? {
        let _ = layer::choose(&image.layers).map(layer::title);
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
