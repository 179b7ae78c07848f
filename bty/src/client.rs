//! The way to everything that is not on this machine: a [`Client`] opens sources, and exchanges
//! small messages with servers.
//!
//! It holds what all requests share: proxies, certificates, passwords, time limits, and a rule that
//! says which addresses may be contacted. The library itself reads no environment variable; a
//! program that wants the proxies of the environment calls [`ClientOptions::set_proxies_from`].
//!
//! ```no_run
//! use bty::{CancelToken, Client, ClientOptions};
//!
//! let mut options = ClientOptions::default().spool_dir("/srv/spool");
//! options.set_proxies_from(&|name| std::env::var(name).ok());
//! let (client, cancel) = (Client::new(options), CancelToken::new());
//! let list = client.read_small("https://images.example/SHA256SUMS", 1 << 20, &cancel)?;
//! let source = client.open("https://images.example/debian.img.zst", &cancel)?;
//! println!("{} bytes of checksums, image at {}", list.len(), source.location());
//! # Ok::<(), bty::Error>(())
//! ```

use std::sync::Arc;

use crate::digest::Checksums;
use crate::oci::{OciBlob, OciReference};
use crate::source::local;
use crate::{CancelToken, Error, ErrorKind, Location, Result, Source, text};

#[cfg(feature = "http")]
mod exchange;
#[cfg_attr(not(feature = "http"), path = "client/remote_absent.rs")]
mod remote;

pub use crate::transport::credentials::Credentials;
pub use crate::transport::options::{ClientOptions, IMAGE_BYTES_MAX, MayReach};
#[cfg(feature = "http")]
pub use exchange::{Reply, Request};
use remote::Network;

/// Opens sources, local and remote. Cheap to clone.
///
/// It starts its network threads with the first remote source; local files need none.
#[derive(Clone)]
pub struct Client {
    options: Arc<ClientOptions>,
    network: Arc<Network>,
}

impl Client {
    /// Creates a client with `options`. Invalid options (an unreadable certificate, a malformed
    /// proxy) are reported when the network is first used.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let options = Arc::new(options);
        Self { network: Arc::new(Network::new(Arc::clone(&options))), options }
    }

    /// The options that the client was created with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Opens `reference`, a path or an address; see [`Location`] for its forms.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`]: the reference or an option is malformed, or the registry has several
    ///   artifacts under this reference.
    /// - [`ErrorKind::Source`]: the source does not exist, cannot be read, or the server does not
    ///   answer.
    /// - [`ErrorKind::Format`]: the artifact in the registry has no layer that can be a disk image.
    /// - [`ErrorKind::Host`]: the network threads cannot be started, or a certificate file cannot be
    ///   read.
    pub fn open(&self, reference: &str, cancel: &CancelToken) -> Result<Source> {
        self.open_location(&reference.parse()?, cancel)
    }

    /// Opens `location`; otherwise like [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_location(&self, location: &Location, cancel: &CancelToken) -> Result<Source> {
        self.open_checked(location, false, cancel)
    }

    /// Opens `location`, whose bytes must have the digests `expected`.
    ///
    /// Because the digests prove the bytes, the client accepts more from the server than with
    /// [`open`](Self::open): redirects from `https` to `http`, a missing length, and mirrors that
    /// name different versions.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`ErrorKind::Integrity`] when the
    /// source itself declares another digest.
    pub fn open_expecting(
        &self,
        location: &Location,
        expected: Checksums,
        cancel: &CancelToken,
    ) -> Result<Source> {
        self.open_checked(location, !expected.is_empty(), cancel)?.expect_all(expected)
    }

    /// Like [`open_location`](Self::open_location), for a caller that may check a digest of all
    /// bytes itself. If `caller_verifies`, the client accepts as much from the server as with
    /// [`open_expecting`](Self::open_expecting).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_checked(
        &self,
        location: &Location,
        caller_verifies: bool,
        cancel: &CancelToken,
    ) -> Result<Source> {
        match location {
            Location::File(path) => {
                let name = text::shown_name(path.file_name().unwrap_or(path.as_os_str()));
                Ok(Source::new(location.clone(), name, local::open(path)?))
            }
            Location::Stdin => Ok(Source::new(location.clone(), "stdin", local::stdin()?)),
            Location::Http(url) => remote::open_http(&self.network, url, caller_verifies, cancel),
            Location::Oci(reference) => remote::open_oci(&self.network, reference, cancel)
                .map_err(|e| e.context(format!("opening {reference}"))),
            Location::Custom(name) => {
                let message = format!("{name} is a source of the program, not of a client");
                Err(Error::new(ErrorKind::Usage, message).hint("open it with Image::from_source"))
            }
        }
    }

    /// Finds the blob that `reference` resolves to, without opening it.
    ///
    /// # Errors
    /// - [`ErrorKind::Source`]: the registry does not answer, or has no
    ///   such artifact.
    /// - [`ErrorKind::Usage`]: the reference is an index of several
    ///   artifacts; the hint names one by its digest.
    /// - [`ErrorKind::Format`]: the manifest is malformed, or none of its
    ///   layers can be a disk image.
    /// - [`ErrorKind::Integrity`]: the digest of the manifest differs
    ///   from the one in the reference.
    /// - [`ErrorKind::Host`]: the network threads cannot be started, or a
    ///   certificate file cannot be read.
    pub fn resolve_oci(&self, reference: &OciReference, cancel: &CancelToken) -> Result<OciBlob> {
        remote::resolve_oci(&self.network, reference, cancel)
            .map_err(|e| e.context(format!("resolving {reference}")))
    }

    /// Reads a whole document of at most `limit_bytes`, such as a catalog or a checksum file,
    /// within [`ClientOptions::document_timeout`].
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`ErrorKind::Source`] when the
    /// document is larger or takes longer.
    pub fn read_small(
        &self,
        reference: &str,
        limit_bytes: u64,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>> {
        self.open(reference, cancel)?.read_small_within(
            limit_bytes,
            self.options.document_timeout,
            cancel,
        )
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new(ClientOptions::default())
    }
}
