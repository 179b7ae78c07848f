//! Images: what a source holds, found from its bytes, and its extents.
//!
//! [`Image::open`] looks at the beginning of a source (and at the header of a qcow2), so it is
//! quick even for a remote image of many gigabytes. An image inside a zip or tar archive is read
//! out of it. What cannot be written to a disk as it is (another archive, a virtual disk of another
//! kind, a web page) is refused here, with the way out.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::decode::{self, Compression, DecodeOptions, Trailer};
use crate::digest::{Checksums, Sha512};
use crate::extent::{Extent, ExtentReader, Pool, ReadDigests, is_zero, zeroed};
use crate::image::archive::Member;
use crate::image::digester::Need;
use crate::image::qcow2::Qcow2;
use crate::image::raw::RawExtents;
use crate::image::stream::StreamExtents;
use crate::partition_table::{self, Content, Partition, TableKind, gpt};
use crate::progress::{Counts, Phase};
use crate::signatures;
use crate::size::MIB;
use crate::source::{VersionRule, spool, wire};
use crate::{CancelToken, Context, Digest, Error, ErrorKind, Event, Location, Result, Source};

mod archive;
mod digester;
pub mod directory;
pub(crate) mod foreign;
pub mod name;

mod qcow2;
mod raw;
mod stream;

/// How much of the disk image is looked at before anything is decided: boot sector, partition
/// table, what is held back when flashing.
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

/// What is known of an image. Serialises to the object of `bty image --json`; sizes and offsets are
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The reference it was opened from.
    pub source: String,
    /// A short name for people.
    pub name: String,
    /// The canonical path of a local image.
    #[serde(with = "crate::text::optional_path", default)]
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
    /// File system, RAID or LVM signature on the whole image; beside a partition table on images
    /// for discs and sticks.
    #[serde(default)]
    pub content: Option<Content>,
    /// True when a partition table, a file system or a boot sector was found in it. Others are
    /// nearly always the wrong file: they are written only with
    /// [`FlashOptions::raw`](crate::flash::FlashOptions::raw).
    #[serde(default = "recognized")]
    pub is_recognized: bool,
}

/// What an older version described was opened by it as a disk image.
fn recognized() -> bool {
    true
}

impl ImageInfo {
    /// A description of an image that nobody opened: for dry runs. The fields are public, to be
    /// filled in.
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
            content: None,
            is_recognized: true,
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
            let sectors =
                self.sector_bytes.map_or(String::new(), |s| format!(" in {s}-byte sectors"));
            parts.push(format!("{}{sectors}", format!("{table:?}").to_uppercase()));
        }
        parts.extend(self.content.as_ref().map(ToString::to_string));
        if !self.is_recognized {
            parts.push("no partition table, file system or boot sector".into());
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
        self.expected_sha256.is_some()
            || self.expected_sha512.is_some()
            || self.expected_image_sha256.is_some()
    }

    /// The digests that were declared, a line each, for people.
    #[must_use]
    pub fn promises(&self) -> Vec<String> {
        let line =
            |kind: &str, digest: Option<String>| digest.map(|digest| format!("{kind} {digest}"));
        let sha256 = line("sha256", self.expected_sha256.map(String::from));
        let sha512 = line("sha512", self.expected_sha512.map(String::from));
        let image = line("image sha256", self.expected_image_sha256.map(String::from));
        [sha256, sha512, image].into_iter().flatten().collect()
    }

    /// How large a disk must be when what lies behind the last partition is left out; a GPT needs
    /// room for its backup. Absent without partitions.
    #[must_use]
    pub fn fitted_bytes(&self, sector_bytes: u32) -> Option<u64> {
        let end = self.partitions_end()?;
        match self.table {
            Some(TableKind::Gpt) => {
                let sector = u64::from(sector_bytes);
                // the first MiB is written as it is: a backup cannot lie in it
                let entries = crate::size::align_up(gpt::ENTRIES_BYTES, sector);
                Some(crate::size::align_up(end.max(MIB), sector).saturating_add(entries + sector))
            }
            _ => Some(end),
        }
    }

    /// The progress event of reading the image without writing it: so many bytes were read from the
    /// source, and so many came out of the decoder.
    #[must_use]
    pub fn read_progress(&self, source_bytes: u64, decoded_bytes: u64) -> Event {
        let (source_total, decoded_total) = (self.source_bytes, self.disk_bytes);
        let counts = Counts { source_bytes, source_total, decoded_bytes, decoded_total };
        Event::Progress { phase: Phase::Read, elapsed_ms: 0, counts, targets: Vec::new() }
    }

    /// How large a disk must be at least, as far as is known: the image's size, or where its last
    /// partition ends.
    #[must_use]
    pub fn min_disk_bytes(&self) -> Option<u64> {
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
    /// The file of an archive that is the image; also as `ARCHIVE#NAME` in the reference. Not
    /// needed when there is one image in it.
    pub member: Option<String>,
    /// Leave out what lies behind the end of compressed data, whatever it is. What is known
    /// (firmware metadata) is always left out.
    pub ignore_trailing: bool,
}

/// An opened image; reads any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Image {
    source: Source,
    info: ImageInfo,
    qcow2: Option<Arc<Qcow2>>,
    member: Option<Arc<Member>>,
    trailer: Trailer,
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
        let disk_bytes = image.min_disk_bytes().unwrap_or(0);
        Self {
            source_bytes: image.source_bytes.unwrap_or(0),
            source_sha256: image
                .expected_sha256
                .unwrap_or_else(|| Digest::of(image.source.as_bytes())),
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
    /// [`ErrorKind::Source`] when it cannot be had; [`ErrorKind::Format`] when it is nothing that
    /// can be written to a disk, with the way out; [`ErrorKind::Integrity`] when two declared
    /// digests differ.
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
    pub fn open(
        client: &Client,
        reference: &str,
        options: &OpenOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let (reference, member) = split_member(reference);
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
        let member = options.member.as_deref().or(member);
        let trailer = Trailer::new(options.ignore_trailing);
        let mut image = Self::examine(client, source, member, trailer, cancel)
            .context(|| format!("examining {reference}"))?;
        if options.image_sha256.is_some() && image.qcow2.is_some() {
            let message = "the digest of the image inside cannot be checked for qcow2, which is not read in the order of the disk";
            let error = Error::new(ErrorKind::Usage, message).with_path(reference);
            return Err(error.hint("give the digest of the file as published: --sha256"));
        }
        image.info.expected_image_sha256 = options.image_sha256;
        Ok(image)
    }

    /// The image in an opened source.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn from_source(
        client: &Client,
        source: Source,
        cancel: &CancelToken,
    ) -> Result<Self> {
        Self::examine(client, source, None, Trailer::default(), cancel)
    }

    /// Finds out what `source` is, and where its image is if it is an archive.
    fn examine(
        client: &Client,
        mut source: Source,
        wanted: Option<&str>,
        trailer: Trailer,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let wire_head = read_head(&source, cancel)?;
        if wire_head.is_empty() {
            return Err(Error::new(ErrorKind::Format, "the file is empty")
                .hint("fetch it again; an empty file is nothing to write to a disk"));
        }
        let mut qcow2 = None;
        if wire_head.starts_with(b"QFI\xfb") {
            let opened;
            (source, opened) =
                in_parts(client, source, cancel, |source| Qcow2::open(source, cancel))?;
            qcow2 = Some(Arc::new(opened));
        } else if archive::Kind::sniff(&wire_head, None) == Some(archive::Kind::Zip) {
            (source, ()) = in_parts(client, source, cancel, |_| Ok(()))?;
        }
        let outer = Compression::sniff(&wire_head);
        let head = match (&qcow2, outer) {
            (Some(qcow2), _) => qcow2_head(&source, qcow2, cancel)?,
            (None, Some(compression)) => decoded_head(&source, compression, &trailer, cancel)?,
            (None, None) => wire_head,
        };
        let kind = archive::Kind::sniff(&head, outer).filter(|_| qcow2.is_none());
        let layers = match kind {
            Some(kind) => Layers::in_archive(&source, kind, wanted, cancel)?,
            None => Layers { qcow2, member: None, compression: outer, trailer, head },
        };
        layers.check(wanted, source.location())?;
        Self::assemble(client, source, layers, cancel)
    }

    fn assemble(
        client: &Client,
        source: Source,
        layers: Layers,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let Layers { qcow2, member, compression, trailer, head } = layers;
        let disk_bytes = match (&qcow2, &member, compression) {
            (Some(qcow2), _, _) => Some(qcow2.virtual_bytes()),
            (None, Some(member), None) => Some(member.size()),
            (None, Some(_), Some(_)) => None,
            (None, None, Some(compression)) => {
                decode::decoded_size(compression, &*source.input, cancel)
            }
            (None, None, None) => source.len_bytes(),
        };
        for claimed in [source.len_bytes(), disk_bytes].into_iter().flatten() {
            check_size(claimed, client.options().image_bytes_max)?;
        }
        let format = match (&qcow2, compression) {
            (Some(_), _) => Format::Qcow2,
            (None, Some(compression)) => compression.into(),
            (None, None) => Format::Raw,
        };
        let mut info = describe(&source, format, disk_bytes, &head);
        foreign::refuse(&head, compression, info.is_recognized)?;
        if format == Format::Raw && member.is_none() {
            foreign::refuse_footer(&read_footer(&source, cancel)?)?;
        }
        if let Some(qcow2) = &qcow2 {
            let clusters = crate::size::human(qcow2.cluster_bytes());
            let detail = format!(
                "version {}, clusters of {clusters}, compression {:?}",
                qcow2.version(),
                qcow2.compression()
            );
            info.detail = Some(detail);
        }
        if let Some(member) = &member {
            info.detail = Some(format!("{} in an archive", member.name()));
            info.source = format!("{}#{}", info.source, member.name());
            info.name = member.name().rsplit('/').next().unwrap_or_default().to_owned();
        }
        Ok(Self { source, info, qcow2, member, trailer, head: head.into() })
    }

    /// The same image in an unnamed file in the spool directory of `client`, which can be read more
    /// than once: see [`Source::is_repeatable`].
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it cannot be read, [`ErrorKind::Host`] when there is no room,
    /// [`ErrorKind::Integrity`] when its digest differs.
    pub fn spooled(&self, client: &Client, cancel: &CancelToken) -> Result<Self> {
        let source = spool::spool(&self.source, client.options(), cancel)?;
        let member = self.member.as_ref().map(|member| member.name());
        let mut image = Self::examine(client, source, member, self.trailer.clone(), cancel)?;
        image.info.expected_image_sha256 = self.info.expected_image_sha256;
        Ok(image)
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    /// What a person should know, and is seen only once all of it was read: bytes behind the image
    /// that were left out.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.trailer.note().into_iter().collect()
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
    pub fn read_fully(
        &self,
        observed: &dyn Fn(u64, u64),
        cancel: &CancelToken,
    ) -> Result<Contents> {
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
        let found = all_digests(&*extents, &self.source, &reading)?;
        self.check_digests(&found, cancel)?;
        let source_sha256 = found.wire.sha256.ok_or_else(Error::cancelled)?;
        Ok(Contents {
            source_bytes: reading.counts.source_bytes.load(Ordering::Relaxed),
            source_sha256,
            disk_bytes,
            data_bytes,
        })
    }

    /// Starts reading its extents. They cover every byte of the disk image once, in the same order
    /// every time.
    ///
    /// The wire digest is computed when one is promised or `with_digest`, and else as long as it
    /// costs next to nothing. Fails at the end when the source is known to have changed since it
    /// was opened, and right away when it has already.
    pub(crate) fn extents(
        &self,
        reading: &Reading,
        with_digest: bool,
    ) -> Result<Box<dyn ExtentReader>> {
        self.source.input.check_unchanged()?;
        let need =
            if with_digest || self.info.has_promise() { Need::Required } else { Need::Spare };
        let with_image = self.info.expected_image_sha256.is_some();
        let source = &self.source;
        let extents: Box<dyn ExtentReader> =
            match (&self.qcow2, &self.member, self.info.format.compression()) {
                (Some(qcow2), _, _) => qcow2.extents(source, reading)?,
                (None, Some(member), compression) => {
                    let opened = StreamExtents::of_member(
                        source,
                        member,
                        compression,
                        reading,
                        need == Need::Required,
                    )?;
                    Box::new(opened.digesting(with_image)?)
                }
                (None, None, Some(kind)) => Box::new(
                    StreamExtents::start(source, kind, reading, &self.trailer)?
                        .digesting(with_image)?,
                ),
                (None, None, None) => Box::new(RawExtents::start(source, reading, need)?),
            };
        Ok(Box::new(Unchanged { extents, source: source.clone() }))
    }

    /// The offset of the first byte at or behind `from` that is neither zero nor a part of the
    /// image's own backup GPT, where that can be found without decoding: for raw images that can be
    /// read at any place.
    pub(crate) fn first_data_behind(&self, from: u64, cancel: &CancelToken) -> Result<Option<u64>> {
        let is_raw =
            self.qcow2.is_none() && self.member.is_none() && self.info.format == Format::Raw;
        if !is_raw || !self.source.is_seekable() {
            return Ok(None);
        }
        let leaves_out = gpt::backup_range(&self.head);
        let (mut at, mut buffer) = (from, zeroed(HEAD_BYTES)?);
        loop {
            let n = self.source.read_at(&mut buffer, at, cancel)?;
            if n == 0 {
                return Ok(None);
            }
            if let Some(found) = first_data(at, &buffer[..n], leaves_out.as_ref()) {
                return Ok(Some(found));
            }
            at += n as u64;
        }
    }

    /// Fails unless `found` has all that was promised.
    pub(crate) fn check_digests(&self, found: &ReadDigests, cancel: &CancelToken) -> Result<()> {
        if let Some(promised) = self.info.expected_image_sha256
            && found.image != Some(promised)
        {
            let found = found.image.map_or("a digest that was not computed".to_owned(), |found| {
                format!("digest {found}")
            });
            let message = format!(
                "the image inside {} has {found}, expected {promised}",
                self.source.location()
            );
            let error = Error::new(ErrorKind::Integrity, message).with_path(self.source.location());
            return Err(error.hint(
                "check the digest: it is that of the unpacked image; or fetch the file again",
            ));
        }
        spool::check_digest(&self.source, &found.wire)
            .map_err(|error| self.explain(error, found, cancel))
    }

    /// A digest that is not that of the file may be that of the image inside: many projects publish
    /// both.
    fn explain(&self, error: Error, found: &ReadDigests, cancel: &CancelToken) -> Error {
        let kind = self.info.format.compression().filter(|_| self.member.is_none());
        let (Some(promised), Some(kind)) = (self.source.promised().sha256, kind) else {
            return error;
        };
        let is_local = self.source.input.as_file().is_some();
        let read_again = || unpacked_digest(&self.source, kind, cancel).ok().flatten();
        let unpacked = if is_local { found.image.or_else(read_again) } else { found.image };
        if unpacked == Some(promised) {
            let message = format!(
                "digest {promised} is that of the unpacked image, not of the file {}",
                self.source.location()
            );
            let error = Error::new(ErrorKind::Integrity, message).with_path(self.source.location());
            return error.hint(
                "give it as the digest of the image: --image-sha256, image_sha256 in scripts",
            );
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

/// The offset of the first byte of `bytes`, which belong at `offset`, that is not zero and not in
/// the range `but`.
pub(crate) fn first_data(offset: u64, bytes: &[u8], but: Option<&Range<u64>>) -> Option<u64> {
    if is_zero(bytes) {
        return None;
    }
    let offsets = bytes.iter().zip(offset..).filter(|(byte, _)| **byte != 0).map(|(_, at)| at);
    offsets.filter(|at| !but.is_some_and(|but| but.contains(at))).min()
}

/// What lies between a source and the disk image in it.
struct Layers {
    qcow2: Option<Arc<Qcow2>>,
    member: Option<Arc<Member>>,
    /// Of the image; a compressed tar archive is the business of the member.
    compression: Option<Compression>,
    trailer: Trailer,
    /// The first MiB of the disk image.
    head: Vec<u8>,
}

impl Layers {
    fn in_archive(
        source: &Source,
        kind: archive::Kind,
        wanted: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let options = DecodeOptions { threads: 1, memory_bytes: DECODER_BYTES / 2 };
        let member = Member::find(source, kind, wanted, options, cancel)
            .context(|| format!("looking into {kind}"))?;
        let open =
            || member.reader(source.input.stream(member.wire_offset(), cancel)?, false, options);
        let name = format!("{} in {}", member.name(), source.location());
        let mut head = read_start(open()?, &name)?;
        let compression = Compression::sniff(&head);
        if let Some(compression) = compression {
            head = read_start(decode::decoder(compression, open()?, options)?, &name)?;
        } else if head.starts_with(b"QFI\xfb") {
            return Err(Error::new(
                ErrorKind::Format,
                format!("{name} is a qcow2 image, which cannot be read in an archive"),
            )
            .hint("unpack the archive, and flash the image inside"));
        }
        Ok(Self {
            qcow2: None,
            member: Some(Arc::new(member)),
            compression,
            trailer: Trailer::default(),
            head,
        })
    }

    /// Refuses a member of what is no archive.
    fn check(&self, wanted: Option<&str>, location: &Location) -> Result<()> {
        match (wanted, &self.member, location) {
            // the fragment of a web address may mean anything
            (Some(wanted), None, Location::File(_) | Location::Stdin) => Err(Error::new(
                ErrorKind::Usage,
                format!("{location} is no archive that holds {wanted:?}"),
            )
            .hint("leave out what is behind the #")),
            _ => Ok(()),
        }
    }
}

/// Splits `ARCHIVE#NAME`. A `#` may also belong to the name of a file that is there.
fn split_member(reference: &str) -> (&str, Option<&str>) {
    let split =
        |at: usize| (&reference[..at], Some(&reference[at + 1..]).filter(|name| !name.is_empty()));
    let mut marks = reference.match_indices('#').map(|(at, _)| at);
    if reference.contains("://") || reference.starts_with("-#") {
        return marks.next().map_or((reference, None), split);
    }
    if Path::new(reference).exists() {
        return (reference, None);
    }
    marks.find(|&at| Path::new(&reference[..at]).is_file()).map_or((reference, None), split)
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
    // a head is not a disk: what lies beyond it (a backup table) cannot be read, and a size that is
    // not known bounds nothing
    let table = partition_table::read(
        &mut partition_table::over(head),
        disk_bytes.unwrap_or(u64::MAX),
        sector_bytes.unwrap_or(512),
    );
    let is_whole = head.len() < HEAD_BYTES;
    let seen_bytes = if is_whole { head.len() as u64 } else { disk_bytes.unwrap_or(u64::MAX) };
    let content = signatures::recognize(&mut partition_table::over(head), seen_bytes);
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
        is_recognized: table.is_some()
            || content.is_some()
            || partition_table::has_boot_sector(head),
        partitions: table.map(|t| t.partitions).unwrap_or_default(),
        content,
    }
}

/// The first bytes as they come over the wire.
fn read_head(source: &Source, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut head = zeroed(HEAD_BYTES)?;
    let n = if source.input.is_seekable() {
        source.input.read_at(&mut head, 0, cancel)?
    } else {
        let mut stream = source.input.stream(0, cancel)?;
        wire::read_full(&mut stream, &mut head).map_err(|e| {
            Error::from_io(ErrorKind::Source, format!("reading {}", source.location()), e)
        })?
    };
    head.truncate(n);
    Ok(head)
}

/// The last bytes of a raw image, where some virtual disks say what they are. Of a remote one they
/// are read only when its size is that of a disk and a footer: it costs a request.
fn read_footer(source: &Source, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut footer = vec![0; foreign::FOOTER_BYTES];
    let at = source.len_bytes().and_then(|len| len.checked_sub(footer.len() as u64));
    let Some(at) =
        at.filter(|at| source.input.as_file().is_some() || at.is_multiple_of(4 * crate::size::KIB))
    else {
        return Ok(Vec::new());
    };
    if !source.input.is_seekable() {
        return Ok(Vec::new());
    }
    let n = source.input.read_at(&mut footer, at, cancel)?;
    footer.truncate(n);
    Ok(footer)
}

/// The first bytes of the disk image in a compressed source.
fn decoded_head(
    source: &Source,
    compression: Compression,
    trailer: &Trailer,
    cancel: &CancelToken,
) -> Result<Vec<u8>> {
    let wire = source.input.stream(0, cancel)?;
    let options = DecodeOptions { threads: 1, memory_bytes: DECODER_BYTES };
    read_start(
        decode::decoder_before(compression, wire, options, trailer)?,
        &source.location().to_string(),
    )
}

/// The first MiB that a decoder gives; `name` is what it decodes.
fn read_start(mut decoder: Box<dyn Read + Send>, name: &str) -> Result<Vec<u8>> {
    let mut head = zeroed(HEAD_BYTES)?;
    let n = wire::read_full(&mut decoder, &mut head)
        .map_err(|e| Error::from_io(ErrorKind::Format, format!("decoding {name}"), e))?;
    head.truncate(n);
    Ok(head)
}

/// Calls `open` with `source`, when its parts can be read one by one and are all of one version;
/// else with a copy of it in the spool directory.
fn in_parts<T>(
    client: &Client,
    source: Source,
    cancel: &CancelToken,
    open: impl Fn(&Source) -> Result<T>,
) -> Result<(Source, T)> {
    let why = if source.input.is_seekable() {
        source.input.set_version_rule(VersionRule::Opened);
        let opened = open(&source);
        if !source.input.has_varied() {
            return Ok((source, opened?));
        }
        "names another version with each answer"
    } else {
        "cannot be read by parts"
    };
    let message = format!("{} {why}: copying it to the spool directory first", source.location());
    client.options().observer.event(&Event::Notice { message });
    let is_proven = !source.promised().is_empty();
    source.input.set_version_rule(if is_proven {
        VersionRule::Proven
    } else {
        VersionRule::OneReading
    });
    let source = spool::spool(&source, client.options(), cancel)?;
    let opened = open(&source)?;
    Ok((source, opened))
}

/// The first bytes of the disk in a qcow2 image.
fn qcow2_head(source: &Source, qcow2: &Qcow2, cancel: &CancelToken) -> Result<Vec<u8>> {
    let mut head = zeroed(HEAD_BYTES)?;
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
fn unpacked_digest(
    source: &Source,
    kind: Compression,
    cancel: &CancelToken,
) -> Result<Option<Digest>> {
    let reading = Reading::new(6, cancel);
    let mut extents =
        StreamExtents::start(source, kind, &reading, &Trailer::default())?.digesting(true)?;
    while extents.next()?.is_some() {}
    Ok(extents.digests().image)
}

/// Digests a source that was read by parts.
fn digest_of(source: &Source, reading: &Reading) -> Result<Checksums> {
    let (mut wire, digest) = wire::Wire::start(source, reading)?;
    std::io::copy(&mut wire, &mut std::io::sink()).map_err(|e| {
        Error::from_io(ErrorKind::Source, format!("reading {}", source.location()), e)
    })?;
    let digest = *digest.lock().expect("nobody panics holding it");
    digest.ok_or_else(Error::cancelled)
}

/// The extents of a file that is an image of `format`, whatever is in it, for whoever has made it.
/// With the digest, where it comes for free.
pub(crate) fn extents_of(
    source: &Source,
    format: Format,
    reading: &Reading,
) -> Result<Box<dyn ExtentReader>> {
    match format.compression() {
        Some(compression) => {
            Ok(Box::new(StreamExtents::start(source, compression, reading, &Trailer::default())?))
        }
        None if format == Format::Qcow2 => {
            Arc::new(Qcow2::open(source, &reading.cancel)?).extents(source, reading)
        }
        None => Ok(Box::new(RawExtents::start(source, reading, Need::Required)?)),
    }
}

/// The digests of `source`, whose extents were all read; reads it once more where they were not
/// read in their order.
pub(crate) fn all_digests(
    extents: &dyn ExtentReader,
    source: &Source,
    reading: &Reading,
) -> Result<ReadDigests> {
    let mut found = extents.digests();
    if found.wire.sha256.is_none() {
        found.wire = digest_of(source, reading)?;
    }
    Ok(found)
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
            Image::open(
                &client,
                path.to_str().unwrap(),
                &OpenOptions::default(),
                &CancelToken::new(),
            )
        };
        assert!(open(4096).is_ok());
        let error = open(4095).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.next_step().is_some_and(|step| step.contains("image_bytes_max")), "{error}");
        assert!(check_size(64 << 40, ClientOptions::default().image_bytes_max).is_ok());
        assert!(check_size((64 << 40) + 1, ClientOptions::default().image_bytes_max).is_err());
    }
}
