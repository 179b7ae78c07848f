//! Opening an image: from a reference to the layers between its source and its disk.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::client::{Client, ClientOptions};
use crate::decode::{self, Compression, DecodeOptions, Trailer};
use crate::digest::{Checksums, Sha512};
use crate::image::archive::{self, Member};
use crate::image::head::{
    decoded_head, describe, qcow2_head, read_footer, read_start, source_head,
};
use crate::image::info::Format;
use crate::image::qcow2::Qcow2;
use crate::image::{Image, directory, foreign};
use crate::pack::{IndexSearch, PackIndex, search_index};
use crate::read_context::DECODER_BYTES;
use crate::setters::setters;
use crate::source::{CustomSource, VersionCheck, check_size, custom, spool};
use crate::trace::Span;
use crate::{
    CancelToken, Context, Digest, Error, ErrorKind, Event, Location, Remedy, Result, Source,
    features,
};

/// Options for [`Image::open`]. By default, nothing is expected of the image.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// SHA-256 that the file must have, as published.
    pub sha256: Option<Digest>,
    /// SHA-512 that the file must have, as published.
    pub sha512: Option<Sha512>,
    /// SHA-256 that the decoded disk image must have. Not supported for qcow2.
    pub image_sha256: Option<Digest>,
    /// SHA-256 that the index of the [packed image](crate::pack) must have. It is compared when the
    /// image is opened, and proves all of its content, even if only parts of the file are read. An
    /// image that is not packed is refused, and so is one that can be read only from its start,
    /// unless the digest of the file is expected as well.
    pub pack_index_sha256: Option<Digest>,
    /// Do not look for a `.sha256` or `.sha512` file next to a local image.
    pub ignore_sidecar: bool,
    /// Name of the image in an archive; `ARCHIVE#NAME` in the reference means the same. Needed only
    /// if the archive holds several images.
    pub member: Option<String>,
    /// Ignore any bytes after the end of compressed data. Known trailers (firmware metadata) are
    /// always ignored.
    pub ignore_trailing: bool,
    /// Compute the SHA-256 of the source whenever the image is read, even if none is expected and
    /// hashing delays reading or needs bytes of a qcow2 file that no disk needs, so that
    /// [`FlashReport::source_sha256`](crate::flash::FlashReport::source_sha256) is present.
    pub compute_sha256: bool,
}

setters! {
    OpenOptions {
        sha256: impl Into<Option<Digest>>,
        sha512: impl Into<Option<Sha512>>,
        image_sha256: impl Into<Option<Digest>>,
        pack_index_sha256: impl Into<Option<Digest>>,
        ignore_sidecar: bool,
        member: impl Into<Option<String>>,
        ignore_trailing: bool,
        compute_sha256: bool,
    }
}

impl OpenOptions {
    /// Digests that the file must have.
    fn checksums(&self) -> Checksums {
        Checksums { sha256: self.sha256, sha512: self.sha512 }
    }

    /// True if the content of the image is compared with a digest.
    fn proves_content(&self) -> bool {
        !self.checksums().is_empty()
            || self.image_sha256.is_some()
            || self.pack_index_sha256.is_some()
    }
}

impl Image {
    /// Opens the image at `reference`, and examines it.
    ///
    /// `reference` is a path or an address, see [`Location`]. A `.sha256` or `.sha512` file next to
    /// a local image declares its digest, as does a registry.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`]: the reference is malformed or ambiguous, or an option does not fit
    ///   the image.
    /// - [`ErrorKind::Source`]: the source does not exist or cannot be read.
    /// - [`ErrorKind::Format`]: it is not an image that can be written to a disk; the hint says
    ///   what to do instead.
    /// - [`ErrorKind::Integrity`]: two declared digests contradict each other, or the index of the
    ///   packed image is not the promised one.
    /// - [`ErrorKind::Host`]: a resource of this machine is missing, such as space in the spool
    ///   directory.
    ///
    /// # Examples
    /// ```no_run
    /// use bty::{CancelToken, Client, Image, image::OpenOptions};
    ///
    /// let cancel = CancelToken::new();
    /// let options = OpenOptions::default();
    /// let image = Image::open(&Client::default(), "debian.img.zst", &options, &cancel)?;
    /// println!("{} {:?}", image.info().format, image.info().disk_bytes);
    /// # Ok::<(), bty::Error>(())
    /// ```
    pub fn open(
        client: &Client,
        reference: &str,
        options: &OpenOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        Span::open(reference).in_scope(|| Self::open_reference(client, reference, options, cancel))
    }

    fn open_reference(
        client: &Client,
        reference: &str,
        options: &OpenOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let (reference, member) = split_member(reference);
        let location: Location = reference.parse()?;
        let mut source = client.open_checked(&location, options.proves_content(), cancel)?;
        if let (Location::File(path), false) = (&location, options.ignore_sidecar) {
            source = source.expect_all(directory::sidecar_checksums(path)?)?;
            source = source.expect_pack_index(directory::sidecar_pack_index(path)?)?;
        }
        let member = options.member.as_deref().or(member);
        Self::open_source(client, source, member, options, cancel)
            .context(|| format!("examining {reference}"))
    }

    /// Opens the image in `source`, which the program implements, and examines it. `name` names it
    /// in messages and reports, and may be an address; a password in it is not shown.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_source(
        client: &Client,
        name: &str,
        source: impl CustomSource,
        options: &OpenOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let source = custom::open(name, source)?;
        Self::open_source(client, source, options.member.as_deref(), options, cancel)
            .context(|| format!("examining {name}"))
    }

    /// Opens the image that `reader` delivers, and examines it. Like a pipe, it can be read only
    /// once: see [`Source::is_repeatable`].
    ///
    /// A read that blocks delays the end of a cancelled flash.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_reader(
        client: &Client,
        name: &str,
        reader: impl Read + Send + 'static,
        options: &OpenOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let source = custom::from_reader(name, reader);
        Self::open_source(client, source, options.member.as_deref(), options, cancel)
            .context(|| format!("examining {name}"))
    }

    /// Opens the image in `source`, with the digests that `options` expect.
    fn open_source(
        client: &Client,
        source: Source,
        member: Option<&str>,
        options: &OpenOptions,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let source =
            source.expect_all(options.checksums())?.expect_pack_index(options.pack_index_sha256)?;
        if source.expected.is_empty() {
            // the head is compared with what a later read delivers, so reads may differ in version
            let check = match options.image_sha256.is_some() || source.expected_pack_index.is_some()
            {
                true => VersionCheck::Off,
                false => VersionCheck::WithinRead,
            };
            source.bytes.set_version_check(check);
        }
        let name = source.location().to_string();
        let trailer = Trailer::new(options.ignore_trailing);
        let mut image = Self::examine(client, source, member, trailer, cancel)?;
        if options.image_sha256.is_some() && image.qcow2.is_some() {
            let message = "the digest of the disk image in a qcow2 file cannot be checked, because \
                           the file is not read in the order of the disk";
            let error = Error::new(ErrorKind::Usage, message).with_path(name);
            return Err(error
                .hint("give the digest of the file instead, as published")
                .with_remedy(Remedy::Sha256));
        }
        image.info.expected_image_sha256 = options.image_sha256;
        image.needs_digest = options.compute_sha256;
        Ok(image)
    }

    /// Recognizes the format of `source`, and finds the image if it is an archive.
    fn examine(
        client: &Client,
        mut source: Source,
        member: Option<&str>,
        trailer: Trailer,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let source_start = source_head(&source, cancel)?;
        if source_start.is_empty() {
            return Err(Error::new(ErrorKind::Format, "the file is empty").hint("fetch it again"));
        }
        features::check_format(&source_start)?;
        let mut qcow2 = None;
        if source_start.starts_with(b"QFI\xfb") {
            let opened;
            (source, opened) = with_random_access(client.options(), source, cancel, |source| {
                Qcow2::open(source, cancel)
            })?;
            qcow2 = Some(Arc::new(opened));
        } else if archive::ArchiveKind::sniff(&source_start, None)
            == Some(archive::ArchiveKind::Zip)
        {
            (source, ()) = with_random_access(client.options(), source, cancel, |_| Ok(()))?;
        }
        let outer = Compression::sniff(&source_start);
        let head = match (&qcow2, outer) {
            (Some(qcow2), _) => qcow2_head(&source, qcow2, cancel)?,
            (None, Some(compression)) => {
                decoded_head(&source, &source_start, compression, &trailer, cancel)?
            }
            (None, None) => source_start,
        };
        let kind = archive::ArchiveKind::sniff(&head, outer).filter(|_| qcow2.is_none());
        let layers = match kind {
            Some(kind) => Layers::in_archive(&source, kind, member, cancel)?,
            None => Layers { qcow2, member: None, compression: outer, trailer, head },
        };
        layers.check_member(member, source.location())?;
        Self::assemble(client, source, layers, cancel)
    }

    fn assemble(
        client: &Client,
        source: Source,
        layers: Layers,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let Layers { qcow2, member, compression, trailer, head } = layers;
        let pack = match (&member, compression) {
            (None, Some(Compression::Zstd)) => pack_index(client, &source, cancel)?,
            _ => check_promised_index(&source, None)?,
        };
        let pack = pack.map(Arc::new);
        let disk_bytes = match (&qcow2, &member, compression) {
            _ if pack.is_some() => pack.as_ref().map(|index| index.disk_bytes()),
            (Some(qcow2), _, _) => Some(qcow2.virtual_bytes()),
            (None, Some(member), None) => Some(member.size()),
            (None, Some(_), Some(_)) => None,
            (None, None, Some(compression)) => {
                decode::decoded_size(compression, &*source.bytes, cancel)
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
        foreign::refuse(&head, compression, info.is_recognized, source.location())?;
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
        if let Some(index) = &pack {
            let frame = crate::size::human(u64::from(index.frame_bytes()));
            info.detail = Some(format!("packed, frames of {frame}"));
            info.pack_index_sha256 = Some(index.sha256());
        }
        if let Some(member) = &member {
            info.detail = Some(format!("{} in an archive", member.name()));
            info.source = format!("{}#{}", info.source, member.name());
            info.name = member.name().rsplit('/').next().unwrap_or_default().to_owned();
        }
        Ok(Self {
            source,
            info,
            qcow2,
            member,
            pack,
            trailer,
            head: head.into(),
            needs_digest: false,
        })
    }

    /// Copies the source into an unnamed file in the
    /// [spool directory](crate::ClientOptions::spool_dir) of `client`, so that it can be read more
    /// than once; see [`Source::is_repeatable`].
    ///
    /// # Errors
    /// - [`ErrorKind::Source`]: the source cannot be read.
    /// - [`ErrorKind::Host`]: the spool directory has no space, or cannot be written to.
    /// - [`ErrorKind::Integrity`]: a digest of the source differs.
    pub fn spooled(&self, client: &Client, cancel: &CancelToken) -> Result<Self> {
        let source = spool::spool(&self.source, client.options(), cancel)?;
        let member = self.member.as_ref().map(|member| member.name());
        let mut image = Self::examine(client, source, member, self.trailer.clone(), cancel)?;
        image.info.expected_image_sha256 = self.info.expected_image_sha256;
        image.needs_digest = self.needs_digest;
        Ok(image)
    }
}

/// The layers between a source and its disk image.
struct Layers {
    qcow2: Option<Arc<Qcow2>>,
    member: Option<Arc<Member>>,
    /// Compression of the image itself. The compression around a tar archive belongs to `member`.
    compression: Option<Compression>,
    trailer: Trailer,
    /// The first MiB of the disk image.
    head: Vec<u8>,
}

impl Layers {
    fn in_archive(
        source: &Source,
        kind: archive::ArchiveKind,
        name: Option<&str>,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let options = DecodeOptions { threads: 1, memory_bytes: DECODER_BYTES / 2 };
        let member = Member::find(source, kind, name, options, cancel)
            .context(|| format!("looking into {kind}"))?;
        let open =
            || member.reader(source.bytes.stream(member.wire_offset(), cancel)?, false, options);
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

    /// Refuses the name of a member when the source is not an archive.
    fn check_member(&self, name: Option<&str>, location: &Location) -> Result<()> {
        match (name, &self.member, location) {
            // a web address may have a fragment for other reasons
            (Some(name), None, Location::File(_) | Location::Stdin) => Err(Error::new(
                ErrorKind::Usage,
                format!("{location} is not an archive, so it has no file {name:?}"),
            )
            .hint("leave out the # and the name behind it")),
            _ => Ok(()),
        }
    }
}

/// Reads the index of `source`, if it is a packed image, and compares it with the promised one.
fn pack_index(client: &Client, source: &Source, cancel: &CancelToken) -> Result<Option<PackIndex>> {
    match search_index(source, cancel)? {
        IndexSearch::Packed(index) => check_promised_index(source, Some(index)),
        IndexSearch::Plain => check_promised_index(source, None),
        // the digest of the file proves as much, if all of it is read
        IndexSearch::NoRanges if source.expected.is_empty() => {
            if source.expected_pack_index.is_none() {
                return Ok(None);
            }
            let message = format!(
                "{} can be read only from its start, so its index cannot be compared with the \
                 promised one",
                source.location()
            );
            Err(Error::new(ErrorKind::Integrity, message)
                .with_path(source.location())
                .hint("use a server that offers ranges, or give the digest of the file")
                .with_remedy(Remedy::Sha256))
        }
        IndexSearch::NoRanges => Ok(None),
        IndexSearch::Late => {
            let message = format!(
                "the end of {} does not arrive yet: reading it like an image that is not packed",
                source.location()
            );
            client.options().observer.event(&Event::Notice { message });
            Ok(None)
        }
    }
}

/// Compares the index of an image with the promised one.
///
/// # Errors
/// [`ErrorKind::Integrity`] when it differs, or when the image is not packed.
fn check_promised_index(source: &Source, index: Option<PackIndex>) -> Result<Option<PackIndex>> {
    let Some(promised) = source.expected_pack_index else { return Ok(index) };
    let found = match index.as_ref().map(PackIndex::sha256) {
        Some(actual) if actual == promised => return Ok(index),
        Some(actual) => format!("has a pack index with SHA-256 {actual}"),
        None => "is not a packed image".to_owned(),
    };
    let location = source.location();
    let message = format!("{location} {found}, expected a pack index with SHA-256 {promised}");
    Err(Error::new(ErrorKind::Integrity, message).with_path(location).hint(
        "the file is not the one that was published: fetch it again, and check the digest of its \
         index; nothing was written",
    ))
}

/// Splits `ARCHIVE#NAME`. If a file with the whole name exists, the `#` belongs to its name.
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

/// Calls `open` with `source`, which reads parts of it. If the source has no random access, or its
/// parts turn out to be of different versions, calls it with a copy in the spool directory instead.
fn with_random_access<T>(
    options: &ClientOptions,
    source: Source,
    cancel: &CancelToken,
    open: impl Fn(&Source) -> Result<T>,
) -> Result<(Source, T)> {
    let why = if source.bytes.is_seekable() {
        source.bytes.set_version_check(VersionCheck::SinceOpened);
        let opened = open(&source);
        if !source.bytes.has_varied() {
            return Ok((source, opened?));
        }
        "has another version in each response"
    } else {
        "has no random access"
    };
    let message = format!("{} {why}: copying it to the spool directory first", source.location());
    options.observer.event(&Event::Notice { message });
    let has_digest = !source.expected.is_empty();
    source.bytes.set_version_check(if has_digest {
        VersionCheck::Off
    } else {
        VersionCheck::WithinRead
    });
    let source = spool::spool(&source, options, cancel)?;
    let opened = open(&source)?;
    Ok((source, opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_larger_than_the_limit_is_refused() {
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
