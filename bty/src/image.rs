//! Images: what a source holds, found from its bytes, and its extents.
//!
//! [`Image::open`] looks at the beginning of a source (and at the header of a qcow2), so it is quick even for a remote image of many gigabytes.
//! What cannot be written to a disk as it is (a tarball, an archive, a virtual disk of another kind, a web page) is refused here, with the way out.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::decode::{self, Compression, DecodeOptions};
use crate::digest::{Checksums, Sha512};
use crate::disks::{Partition, TableKind};
use crate::extent::{Extent, ExtentReader, Pool, ReadDigests};
use crate::image::digester::Need;
use crate::image::qcow2::Qcow2;
use crate::image::raw::RawExtents;
use crate::image::stream::StreamExtents;
use crate::size::MIB;
use crate::source::{VersionRule, spool, wire};
use crate::table::{self, gpt};
use crate::{CancelToken, Context, Digest, Error, ErrorKind, Event, Location, Result, Source};

mod digester;
pub mod directory;
mod foreign;
pub mod name;

mod qcow2;
mod raw;
mod stream;

/// How much of the disk image is looked at before anything is decided: boot sector, partition table, what is held back when flashing.
pub(crate) const HEAD_BYTES: usize = MIB as usize;

/// Memory that decoders may use, in bytes, the write buffers apart.
pub(crate) const DECODER_BYTES: u64 = 192 * MIB;

/// The format of an image, recognised from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// gzip over raw; also pigz and bgzip.
    Gzip,
    /// xz over raw.
    Xz,
    /// bzip2 over raw.
    Bzip2,
    /// Zstandard over raw.
    Zstd,
    /// LZ4 frames over raw.
    Lz4,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
}

impl Format {
    /// The name used in reports and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Qcow2 => "qcow2",
        }
    }

    fn compression(self) -> Option<Compression> {
        match self {
            Self::Raw | Self::Qcow2 => None,
            Self::Gzip => Some(Compression::Gzip),
            Self::Xz => Some(Compression::Xz),
            Self::Bzip2 => Some(Compression::Bzip2),
            Self::Zstd => Some(Compression::Zstd),
            Self::Lz4 => Some(Compression::Lz4),
        }
    }
}

impl From<Compression> for Format {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip,
            Compression::Xz => Self::Xz,
            Compression::Bzip2 => Self::Bzip2,
            Compression::Zstd => Self::Zstd,
            Compression::Lz4 => Self::Lz4,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of an image. Serialises to the object of `bty image --json`; sizes and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The reference it was opened from.
    pub source: String,
    /// A short name for people.
    pub name: String,
    /// The canonical path of a local image.
    pub path: Option<PathBuf>,
    /// Its format.
    pub format: Format,
    /// More about the format, for people.
    pub detail: Option<String>,
    /// Size as it comes over the wire, when the origin tells.
    pub source_bytes: Option<u64>,
    /// Size of the disk image inside, when it can be known without decoding it all.
    pub disk_bytes: Option<u64>,
    /// The SHA-256 its wire bytes must have, when somebody declared one.
    pub expected_sha256: Option<Digest>,
    /// The SHA-512 its wire bytes must have, when somebody declared one.
    pub expected_sha512: Option<Sha512>,
    /// The SHA-256 that the disk image inside must have, when somebody declared one.
    pub expected_image_sha256: Option<Digest>,
    /// Logical sector size its partition table was made for; absent without a GPT.
    pub sector_bytes: Option<u32>,
    /// Its partition table.
    pub table: Option<TableKind>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

impl ImageInfo {
    /// A description of an image that nobody opened: for dry runs. The fields are public, to be filled in.
    #[must_use]
    pub fn described(source: impl Into<String>, format: Format) -> Self {
        let source = source.into();
        let name = source.rsplit('/').next().unwrap_or_default().to_owned();
        Self {
            source,
            name,
            path: None,
            format,
            detail: None,
            source_bytes: None,
            disk_bytes: None,
            expected_sha256: None,
            expected_sha512: None,
            expected_image_sha256: None,
            sector_bytes: None,
            table: None,
            partitions: Vec::new(),
        }
    }

    /// One line for people: format, sizes, partition table.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = vec![self.format.to_string()];
        if let Some(bytes) = self.source_bytes {
            parts.push(crate::size::human(bytes));
        }
        match self.disk_bytes {
            Some(_) if self.format == Format::Raw => {}
            Some(bytes) => parts.push(format!("decodes to {}", crate::size::human(bytes))),
            None => parts.push("decodes to a size that it does not tell".into()),
        }
        if let Some(table) = self.table {
            let sectors = self.sector_bytes.map_or(String::new(), |s| format!(" in {s}-byte sectors"));
            parts.push(format!("{}{sectors}", format!("{table:?}").to_uppercase()));
        }
        parts.join(", ")
    }

    /// The end of its last partition in bytes; absent without partitions.
    #[must_use]
    pub fn partitions_end(&self) -> Option<u64> {
        self.partitions.iter().map(|p| p.start_bytes.saturating_add(p.size_bytes)).max()
    }

    /// True when somebody has declared a digest of it.
    #[must_use]
    pub fn has_promise(&self) -> bool {
        self.expected_sha256.is_some() || self.expected_sha512.is_some() || self.expected_image_sha256.is_some()
    }

    /// The digests that were declared, a line each, for people.
    #[must_use]
    pub fn promises(&self) -> Vec<String> {
        let line = |kind: &str, digest: Option<String>| digest.map(|digest| format!("{kind} {digest}"));
        let sha256 = line("sha256", self.expected_sha256.map(String::from));
        let sha512 = line("sha512", self.expected_sha512.map(String::from));
        let image = line("image sha256", self.expected_image_sha256.map(String::from));
        [sha256, sha512, image].into_iter().flatten().collect()
    }

    /// How large a disk must be at least, as far as is known: the image's size, or where its last partition ends.
    #[must_use]
    pub fn least_bytes(&self) -> Option<u64> {
        self.disk_bytes.or_else(|| self.partitions_end())
    }
}

/// How to open an image.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The SHA-256 of the file as published.
    pub sha256: Option<Digest>,
    /// The SHA-512 of the file as published.
    pub sha512: Option<Sha512>,
    /// The SHA-256 of the disk image inside a compressed file.
    pub image_sha256: Option<Digest>,
    /// Do not look for a `.sha256` or `.sha512` file beside a local image.
    pub ignore_sidecar: bool,
}

/// An opened image; reads any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Image {
    source: Source,
    info: ImageInfo,
    qcow2: Option<Arc<Qcow2>>,
    head: Arc<[u8]>,
}

/// All of an image, read once: see [`Image::read_fully`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Contents {
    /// Bytes that came over the wire.
    pub source_bytes: u64,
    /// SHA-256 of the wire bytes.
    pub source_sha256: Digest,
    /// Size of the disk image.
    pub disk_bytes: u64,
    /// How much of it is data; the rest are runs of zeros of 256 KiB or more.
    pub data_bytes: u64,
}

impl Contents {
    /// What reading would find if all goes well and the image is all data: for dry runs.
    #[must_use]
    pub fn foreseen(image: &ImageInfo) -> Self {
        let disk_bytes = image.least_bytes().unwrap_or(0);
        Self {
            source_bytes: image.source_bytes.unwrap_or(0),
            source_sha256: image.expected_sha256.unwrap_or_else(|| Digest::of(image.source.as_bytes())),
            disk_bytes,
            data_bytes: disk_bytes,
        }
    }
}

impl Image {
    /// Opens the image at `reference` and finds out what it is.
    ///
    /// A `.sha256` or `.sha512` file beside a local image declares its digest; so does a registry.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it cannot be had; [`ErrorKind::Format`] when it is nothing that can be written to a disk, with the way out;
    /// [`ErrorKind::Integrity`] when two declared digests differ.
    ///
    /// # Examples
    /// ```no_run
    /// use bty::{CancelToken, Client, Image, image::OpenOptions};
    ///
    /// let cancel = CancelToken::new();
    /// let image = Image::open(&Client::default(), "debian.img.zst", &OpenOptions::default(), &cancel)?;
    /// println!("{} {:?}", image.info().format, image.info().disk_bytes);
    /// # Ok::<(), bty::Error>(())
    /// ```
    pub fn open(client: &Client, reference: &str, options: &OpenOptions, cancel: &CancelToken) -> Result<Self> {
        let location: Location = reference.parse()?;
        let promised = Checksums { sha256: options.sha256, sha512: options.sha512 };
        let is_proven = !promised.is_empty() || options.image_sha256.is_some();
        let mut source = client.open_checked(&location, is_proven, cancel)?;
        if let (Location::File(path), false) = (&location, options.ignore_sidecar) {
            source = source.expect_all(directory::sidecar_checksums(path)?)?;
        }
        source = source.expect_all(promised)?;
        if source.promised().is_empty() {
            // what was seen of it, its first MiB, is compared once it has been read
            let rule = if is_proven { VersionRule::Proven } else { VersionRule::OneReading };
            source.input.set_version_rule(rule);
        }
        let mut image = Self::from_source(client, source, cancel).context(|| format!("examining {reference}"))?;
        if options.image_sha256.is_some() && image.qcow2.is_some() {
            let message = "the digest of the image inside cannot be checked for qcow2, which is not read in the order of the disk";
            let error = Error::new(ErrorKind::Usage, message).with_path(reference);
            return Err(error.hint("give the digest of the file as published: --sha256"));
        }
        image.info.expected_image_sha256 = options.image_sha256;
        Ok(image)
    }

    /// The image in an opened source.
    pub(crate) fn from_source(client: &Client, mut source: Source, cancel: &CancelToken) -> Result<Self> {
        let wire_head = read_head(&source, cancel)?;
        if wire_head.is_empty() {
            return Err(Error::new(ErrorKind::Format, "the file is empty")
                .hint("fetch it again; an empty file is nothing to write to a disk"));
        }
        let qcow2 = if wire_head.starts_with(b"QFI\xfb") {
            let qcow2;
            (source, qcow2) = open_qcow2(client, source, cancel)?;
            Some(Arc::new(qcow2))
        } else {
            None
        };
        let compression = Compression::sniff(&wire_head);
        let format = match (&qcow2, compression) {
            (Some(_), _) => Format::Qcow2,
            (None, Some(compression)) => compression.into(),
            (None, None) => Format::Raw,
        };
        let head = match (&qcow2, compression) {
            (Some(qcow2), _) => qcow2_head(&source, qcow2, cancel)?,
            (None, Some(compression)) => decoded_head(&source, compression, cancel)?,
            (None, None) => wire_head,
        };
        foreign::refuse(&head, compression)?;
        let disk_bytes = match (&qcow2, compression) {
            (Some(qcow2), _) => Some(qcow2.virtual_bytes()),
            (None, Some(compression)) => decode::decoded_size(compression, &*source.input, cancel),
            (None, None) => source.len_bytes(),
        };
        for claimed in [source.len_bytes(), disk_bytes].into_iter().flatten() {
            check_size(claimed, client.options().image_bytes_max)?;
        }
        let mut info = describe(&source, format, disk_bytes, &head);
        info.detail = qcow2.as_deref().map(|qcow2| {
            let clusters = crate::size::human(qcow2.cluster_bytes());
            format!("version {}, clusters of {clusters}, compression {:?}", qcow2.version(), qcow2.compression())
        });
        Ok(Self { source, info, qcow2, head: head.into() })
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Reads and decodes all of it, and checks its digest, without writing anything.
    /// `observed` is called with the wire bytes and the decoded bytes so far, a few times a second.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ErrorKind::Integrity`] when its digest is not the expected one.
    pub fn read_fully(&self, observed: &dyn Fn(u64, u64), cancel: &CancelToken) -> Result<Contents> {
        let reading = Reading::new(4, cancel);
        let mut extents = self.extents(&reading, true)?;
        let (mut disk_bytes, mut data_bytes) = (0, 0);
        while let Some(extent) = extents.next()? {
            match extent {
                Extent::Data { block, .. } => {
                    disk_bytes += block.len() as u64;
                    data_bytes += block.len() as u64;
                }
                Extent::Zero { len, .. } => disk_bytes += len,
            }
            observed(reading.counts.source_bytes.load(Ordering::Relaxed), disk_bytes);
        }
        let mut found = extents.digests();
        if found.wire.sha256.is_none() {
            found.wire = digest_of(&self.source, &reading)?;
        }
        self.check_digests(&found, cancel)?;
        let source_sha256 = found.wire.sha256.ok_or_else(Error::cancelled)?;
        Ok(Contents {
            source_bytes: reading.counts.source_bytes.load(Ordering::Relaxed),
            source_sha256,
            disk_bytes,
            data_bytes,
        })
    }

    /// Starts reading its extents. They cover every byte of the disk image once, in the same order every time.
    ///
    /// The wire digest is computed when one is promised or `with_digest`, and else as long as it costs next to nothing. Fails at the end when the source is known
    /// to have changed since it was opened, and right away when it has already.
    pub(crate) fn extents(&self, reading: &Reading, with_digest: bool) -> Result<Box<dyn ExtentReader>> {
        self.source.input.check_unchanged()?;
        let need = if with_digest || self.info.has_promise() { Need::Required } else { Need::Spare };
        let with_image = self.info.expected_image_sha256.is_some();
        let extents: Box<dyn ExtentReader> = match (&self.qcow2, self.info.format.compression()) {
            (Some(qcow2), _) => qcow2.extents(&self.source, reading)?,
            (None, Some(kind)) => Box::new(StreamExtents::start(&self.source, kind, reading, with_image)?),
            (None, None) => Box::new(RawExtents::start(&self.source, reading, need)?),
        };
        Ok(Box::new(Unchanged { extents, source: self.source.clone() }))
    }

    /// Fails unless `found` has all that was promised.
    pub(crate) fn check_digests(&self, found: &ReadDigests, cancel: &CancelToken) -> Result<()> {
        if let Some(promised) = self.info.expected_image_sha256
            && found.image != Some(promised)
        {
            let found =
                found.image.map_or("a digest that was not computed".to_owned(), |found| format!("digest {found}"));
            let message = format!("the image inside {} has {found}, expected {promised}", self.source.location());
            let error = Error::new(ErrorKind::Integrity, message).with_path(self.source.location());
            return Err(error.hint("check the digest: it is that of the unpacked image; or fetch the file again"));
        }
        spool::check_digest(&self.source, &found.wire).map_err(|error| self.explain(error, found, cancel))
    }

    /// A digest that is not that of the file may be that of the image inside: many projects publish both.
    fn explain(&self, error: Error, found: &ReadDigests, cancel: &CancelToken) -> Error {
        let (Some(promised), Some(kind)) = (self.source.promised().sha256, self.info.format.compression()) else {
            return error;
        };
        let is_local = self.source.input.as_file().is_some();
        let read_again = || unpacked_digest(&self.source, kind, cancel).ok().flatten();
        let unpacked = if is_local { found.image.or_else(read_again) } else { found.image };
        if unpacked == Some(promised) {
            let message =
                format!("digest {promised} is that of the unpacked image, not of the file {}", self.source.location());
            let error = Error::new(ErrorKind::Integrity, message).with_path(self.source.location());
            return error.hint("give it as the digest of the image: --image-sha256, image_sha256 in scripts");
        }
        if unpacked.is_some() || is_local {
            return error;
        }
        error.hint("fetch it again, and check the digest; if that is the digest of the unpacked image, give it as --image-sha256")
    }

    /// The first MiB of the disk image, or all of a smaller one.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}

/// Refuses a size that only a damaged or a hostile image claims.
pub(crate) fn check_size(claimed: u64, limit: u64) -> Result<()> {
    if claimed <= limit {
        return Ok(());
    }
    let (claimed, limit) = (crate::size::human(claimed), crate::size::human(limit));
    Err(Error::new(ErrorKind::Format, format!("it claims to be {claimed} large, and the limit is {limit}"))
        .hint("the image is damaged or hostile: fetch it again; a program can raise the limit with ClientOptions::image_bytes_max"))
}

fn describe(source: &Source, format: Format, disk_bytes: Option<u64>, head: &[u8]) -> ImageInfo {
    let sector_bytes = gpt::detect_sector_bytes(head);
    // a head is not a disk: what lies beyond it (a backup table) cannot be read, and a size that is not known bounds nothing
    let table = table::read(&mut table::over(head), disk_bytes.unwrap_or(u64::MAX), sector_bytes.unwrap_or(512));
    ImageInfo {
        source: source.location().to_string(),
        name: source.name().to_owned(),
        path: match source.location() {
            Location::File(path) => path.canonicalize().ok(),
            _ => None,
        },
        format,
        detail: None,
        source_bytes: source.len_bytes(),
        disk_bytes,
        expected_sha256: source.promised().sha256,
        expected_sha512: source.promised().sha512,
        expected_image_sha256: None,
        sector_bytes,
        table: table.as_ref().map(|t| t.kind),
        partitions: table.map(|t| t.partitions).unwrap_or_default(),
    }
}

/// The first bytes as they come over the wire.
fn read_head(source: &Source, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let n = if source.input.is_seekable() {
        source.input.read_at(&mut head, 0, cancel)?
    } else {
        let mut stream = source.input.stream(0, cancel)?;
        wire::read_full(&mut stream, &mut head)
            .map_err(|e| Error::from_io(ErrorKind::Source, format!("reading {}", source.location()), e))?
    };
    head.truncate(n);
    Ok(head)
}

/// The first bytes of the disk image in a compressed source.
fn decoded_head(source: &Source, compression: Compression, cancel: &CancelToken) -> Result<Vec<u8>> {
    let wire = source.input.stream(0, cancel)?;
    let options = DecodeOptions { threads: 1, memory_bytes: DECODER_BYTES };
    let mut decoder = decode::decoder(compression, wire, options)?;
    let mut head = vec![0; HEAD_BYTES];
    let n = wire::read_full(&mut decoder, &mut head)
        .map_err(|e| Error::from_io(ErrorKind::Format, format!("decoding {}", source.location()), e))?;
    head.truncate(n);
    Ok(head)
}

/// Opens a qcow2 image where it is, when its parts can be read there one by one and are all of one version; else downloads it first.
fn open_qcow2(client: &Client, source: Source, cancel: &CancelToken) -> Result<(Source, Qcow2)> {
    let why = if source.input.is_seekable() {
        source.input.set_version_rule(VersionRule::Opened);
        let opened = Qcow2::open(&source, cancel);
        if !source.input.has_varied() {
            return Ok((source, opened?));
        }
        "names another version with each answer"
    } else {
        "allows no partial reads"
    };
    let message = format!("{} {why}: downloading it first", source.location());
    client.options().observer.event(&Event::Notice { message });
    let is_proven = !source.promised().is_empty();
    source.input.set_version_rule(if is_proven { VersionRule::Proven } else { VersionRule::OneReading });
    let source = spool::spool(&source, client.options(), cancel)?;
    let qcow2 = Qcow2::open(&source, cancel)?;
    Ok((source, qcow2))
}

/// The first bytes of the disk in a qcow2 image.
fn qcow2_head(source: &Source, qcow2: &Qcow2, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let n = qcow2.read_at_guest(source, &mut head, 0, cancel)?;
    head.truncate(n);
    Ok(head)
}

/// Ends only while the source is as it was opened.
struct Unchanged {
    extents: Box<dyn ExtentReader>,
    source: Source,
}

impl ExtentReader for Unchanged {
    fn next(&mut self) -> Result<Option<Extent>> {
        let next = self.extents.next()?;
        if next.is_none() {
            self.source.input.check_unchanged()?;
        }
        Ok(next)
    }

    fn digests(&self) -> ReadDigests {
        self.extents.digests()
    }
}

/// The SHA-256 of the disk image in a compressed source.
fn unpacked_digest(source: &Source, kind: Compression, cancel: &CancelToken) -> Result<Option<Digest>> {
    let mut extents = StreamExtents::start(source, kind, &Reading::new(6, cancel), true)?;
    while extents.next()?.is_some() {}
    Ok(extents.digests().image)
}

/// Digests a source that was read by parts.
fn digest_of(source: &Source, reading: &Reading) -> Result<Checksums> {
    let (mut wire, digest) = wire::Wire::start(source, reading)?;
    std::io::copy(&mut wire, &mut std::io::sink())
        .map_err(|e| Error::from_io(ErrorKind::Source, format!("reading {}", source.location()), e))?;
    let digest = *digest.lock().expect("nobody panics holding it");
    digest.ok_or_else(Error::cancelled)
}

/// What every way of reading an image needs.
#[derive(Clone)]
pub(crate) struct Reading {
    /// Where buffers come from.
    pub(crate) pool: Arc<Pool>,
    /// Threads to decode with, at least 1.
    pub(crate) threads: usize,
    /// Memory for decoders in bytes, the pool apart.
    pub(crate) memory_bytes: u64,
    /// Counts what was read, for progress.
    pub(crate) counts: Arc<ReadCounts>,
    /// Ends it.
    pub(crate) cancel: CancelToken,
}

impl Reading {
    /// With `buffers` in its pool, on all cores.
    pub(crate) fn new(buffers: usize, cancel: &CancelToken) -> Self {
        Self {
            pool: Arc::new(Pool::new(buffers)),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: DECODER_BYTES,
            counts: Arc::default(),
            cancel: cancel.clone(),
        }
    }
}

/// Bytes so far; written by readers, read by whoever shows progress.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    /// Taken from the source.
    pub(crate) source_bytes: AtomicU64,
    /// Decoded, zeros included.
    pub(crate) decoded_bytes: AtomicU64,
}

impl ReadCounts {
    /// Begins anew, for another reading of the same image.
    pub(crate) fn reset(&self) {
        self.source_bytes.store(0, Ordering::Relaxed);
        self.decoded_bytes.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientOptions;

    #[test]
    fn an_image_that_claims_to_be_larger_than_the_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        std::fs::write(&path, [7; 4096]).unwrap();
        let open = |image_bytes_max| {
            let client = Client::new(ClientOptions { image_bytes_max, ..ClientOptions::default() });
            Image::open(&client, path.to_str().unwrap(), &OpenOptions::default(), &CancelToken::new())
        };
        assert!(open(4096).is_ok());
        let error = open(4095).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.next_step().is_some_and(|step| step.contains("image_bytes_max")), "{error}");
        assert!(check_size(64 << 40, ClientOptions::default().image_bytes_max).is_ok());
        assert!(check_size((64 << 40) + 1, ClientOptions::default().image_bytes_max).is_err());
    }
}
