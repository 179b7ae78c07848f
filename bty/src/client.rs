//! The door to all origins: options of the network, and the runtime it runs on.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Checksums;
use crate::oci::{OciBlob, OciReference};
use crate::source::{file, pipe};
use crate::{CancelToken, Location, Observer, Result, Source, text};

pub(crate) mod address_policy;
pub(crate) mod body;
mod credentials;
mod exchange;
pub(crate) mod net;
mod proxy;
pub(crate) mod trust;

pub use credentials::Credentials;
pub(crate) use credentials::Login;
pub use exchange::{Reply, Request};

/// No disk is larger than this today, in bytes; see [`ClientOptions::image_bytes_max`].
pub const IMAGE_BYTES_MAX: u64 = 64 << 40;

/// How origins are reached. The library reads no environment variable: proxies and certificates are
/// given here.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Proxy for `http://`, as an address: `http://user:password@proxy:3128`.
    pub http_proxy: Option<String>,
    /// Proxy for `https://`.
    pub https_proxy: Option<String>,
    /// Hosts that are reached directly, separated by commas: `*`, names with all below them,
    /// addresses, networks, each with a port or without.
    pub no_proxy: Option<String>,
    /// PEM files of certificates to trust besides the system's: of authorities, or of single
    /// servers, which are then known by their very certificate.
    pub ca_files: Vec<PathBuf>,
    /// Users and passwords for web servers and registries. None by default, and whoever fetches for
    /// others gives none.
    pub credentials: Credentials,
    /// Talk plain HTTP to OCI registries. Web addresses say themselves what they want.
    pub plain_http: bool,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a transfer may stand still before it is taken as broken.
    pub stall_timeout: Duration,
    /// How long a small object may take to be read as a whole: catalogs, checksum files.
    pub document_timeout: Duration,
    /// An image that claims to be larger is refused: 64 TiB unless a program says otherwise.
    pub image_bytes_max: u64,
    /// How often a request is made before its failure is final; progress starts the count anew.
    pub attempts: u32,
    /// How long to wait before the second attempt; doubles with each one, up to 10 s.
    pub retry_delay: Duration,
    /// Directory for downloads that need random access but cannot have it.
    pub spool_dir: PathBuf,
    /// Says which addresses may be reached; none lets all be. For programs that fetch what others
    /// name: it is asked about every host, also of redirections and of registries' token servers.
    /// What goes through a proxy is the proxy's business.
    pub may_reach: Option<MayReach>,
    /// Told about retries.
    pub observer: Arc<dyn Observer>,
}

/// Says whether an address may be reached.
pub type MayReach = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            ca_files: Vec::new(),
            credentials: Credentials::default(),
            plain_http: false,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_secs(120),
            image_bytes_max: IMAGE_BYTES_MAX,
            attempts: 5,
            retry_delay: Duration::from_millis(500),
            spool_dir: PathBuf::from("/var/tmp"),
            may_reach: None,
            observer: Arc::new(()),
        }
    }
}

/// Opens origins. Cheap to clone. Local files need no network, and start none.
#[derive(Clone)]
pub struct Client {
    options: Arc<ClientOptions>,
    net: Arc<net::Net>,
}

impl Client {
    /// A client. The network is set up when it is first needed.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let options = Arc::new(options);
        Self { net: Arc::new(net::Net::new(Arc::clone(&options))), options }
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Opens `reference`, a path or an address; see [`Location`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) when it cannot be understood,
    /// [`ErrorKind::Source`](crate::ErrorKind::Source) when nothing is there or nobody answers.
    pub fn open(&self, reference: &str, cancel: &CancelToken) -> Result<Source> {
        self.open_location(&reference.parse()?, cancel)
    }

    /// Opens `location`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_location(&self, location: &Location, cancel: &CancelToken) -> Result<Source> {
        self.open_checked(location, false, cancel)
    }

    /// Opens `location`, whose bytes must have the digests `promised`. A server may then do what
    /// would leave doubts without a digest: lead from `https` to `http`, not tell the length of a
    /// file, or be several that name different versions.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) when the
    /// origin declares another digest.
    pub fn open_expecting(
        &self,
        location: &Location,
        promised: Checksums,
        cancel: &CancelToken,
    ) -> Result<Source> {
        self.open_checked(location, !promised.is_empty(), cancel)?.expect_all(promised)
    }

    /// The same for callers that check a digest of all bytes themselves, where `is_proven` says so;
    /// nothing is expected of the source.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_checked(
        &self,
        location: &Location,
        is_proven: bool,
        cancel: &CancelToken,
    ) -> Result<Source> {
        match location {
            Location::File(path) => {
                let name = text::shown_name(path.file_name().unwrap_or(path.as_os_str()));
                Ok(Source::new(location.clone(), name, file::open(path)?))
            }
            Location::Stdin => Ok(Source::new(location.clone(), "stdin", pipe::stdin()?)),
            Location::Http(url) => self.net.open_http(url, is_proven, cancel),
            Location::Oci(reference) => self.net.open_oci(reference, cancel),
        }
    }

    /// Finds the blob that `reference` stands for, without opening it.
    ///
    /// # Errors
    /// [`ErrorKind::Source`](crate::ErrorKind::Source) when the registry does not answer or has no
    /// such artifact, [`ErrorKind::Usage`](crate::ErrorKind::Usage) when it is an index of several
    /// artifacts, [`ErrorKind::Format`](crate::ErrorKind::Format) when nothing in it can be a disk
    /// image.
    pub fn resolve_oci(&self, reference: &OciReference, cancel: &CancelToken) -> Result<OciBlob> {
        self.net.resolve_oci(reference, cancel)
    }

    /// Reads all of `reference`, which must not be larger than `limit_bytes`, within
    /// [`ClientOptions::document_timeout`]: catalogs, checksum files.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ErrorKind::Source`](crate::ErrorKind::Source) when it is too
    /// large, or takes too long.
    pub fn read_small(
        &self,
        reference: &str,
        limit_bytes: u64,
        cancel: &CancelToken,
    ) -> Result<Vec<u8>> {
        self.open(reference, cancel)?.read_within(
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
