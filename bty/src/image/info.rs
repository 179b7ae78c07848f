//! Properties of an image: its format, sizes, partition table and expected digests.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::decode::Compression;
use crate::digest::Sha512;
use crate::image::EraseWay;
use crate::partition_table::{Content, Partition, TableKind, gpt};
use crate::size::MIB;

/// The format of an image, recognized from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// The bytes of the disk, uncompressed.
    Raw,
    /// A raw image compressed by gzip, pigz or bgzip.
    Gzip,
    /// A raw image compressed by xz.
    Xz,
    /// A raw image compressed by bzip2.
    Bzip2,
    /// A raw image compressed by Zstandard.
    Zstd,
    /// A raw image in LZ4 frames.
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

    pub(super) fn compression(self) -> Option<Compression> {
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

/// The known properties of an image. Sizes and offsets are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The reference it was opened from.
    pub source: String,
    /// A short name for display.
    pub name: String,
    /// The canonical path of a local image.
    #[serde(with = "crate::text::optional_path", default)]
    pub path: Option<PathBuf>,
    /// Format of the image; of the image inside if the source is an archive.
    pub format: Format,
    /// Details of the format, for display.
    pub detail: Option<String>,
    /// Size of the source before decoding, if known.
    pub source_bytes: Option<u64>,
    /// Size of the decoded disk image, if it can be known without decoding all of it.
    pub disk_bytes: Option<u64>,
    /// SHA-256 that the source must have, if the caller or the source declared one.
    pub expected_sha256: Option<Digest>,
    /// SHA-512 that the source must have, if the caller or the source declared one.
    pub expected_sha512: Option<Sha512>,
    /// SHA-256 that the decoded disk image must have, if the caller declared one.
    pub expected_image_sha256: Option<Digest>,
    /// SHA-256 that the index of the packed image must have, if the caller or the source declared
    /// one. It was compared when the image was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_pack_index_sha256: Option<Digest>,
    /// SHA-256 of the index, if it is a [packed image](crate::pack).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_index_sha256: Option<Digest>,
    /// Logical sector size that the GPT was made for. `None` without a GPT.
    pub sector_bytes: Option<u32>,
    /// Kind of the partition table.
    pub table: Option<TableKind>,
    /// Partitions in the order of the table.
    pub partitions: Vec<Partition>,
    /// File system, RAID or LVM signature of the whole image. Hybrid images for discs and sticks
    /// have one in addition to a partition table.
    #[serde(default)]
    pub content: Option<Content>,
    /// True if the image has a partition table, a file system or a boot sector. Anything else is
    /// nearly always the wrong file, and is written only with
    /// [`FlashOptions::raw`](crate::flash::FlashOptions::raw).
    #[serde(default = "is_recognized_default")]
    pub is_recognized: bool,
    /// How it erases a disk, if it [was made](crate::Image::erasing) for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erases: Option<EraseWay>,
}

/// Older versions did not have the field, and opened only images that would be recognized.
fn is_recognized_default() -> bool {
    true
}

impl ImageInfo {
    /// Describes an image without opening it, for dry runs and tests. The caller fills in sizes,
    /// partition table and digests.
    #[must_use]
    pub fn simulated(source: impl Into<String>, format: Format) -> Self {
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
            expected_pack_index_sha256: None,
            pack_index_sha256: None,
            sector_bytes: None,
            table: None,
            partitions: Vec::new(),
            content: None,
            is_recognized: true,
            erases: None,
        }
    }

    /// One line for display: format, sizes and partition table.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = vec![self.format.to_string()];
        if let Some(bytes) = self.source_bytes {
            parts.push(crate::size::human(bytes));
        }
        match self.disk_bytes {
            Some(_) if self.format == Format::Raw => {}
            Some(bytes) => parts.push(format!("decodes to {}", crate::size::human(bytes))),
            None => parts.push("decoded size unknown".into()),
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

    /// Offset of the end of the last partition, in bytes. `None` without partitions.
    #[must_use]
    pub fn partitions_end(&self) -> Option<u64> {
        self.partitions.iter().map(|p| p.start_bytes.saturating_add(p.size_bytes)).max()
    }

    /// True if a digest of the source or of the disk image is expected.
    #[must_use]
    pub fn has_expected_digest(&self) -> bool {
        self.expected_sha256.is_some()
            || self.expected_sha512.is_some()
            || self.expected_image_sha256.is_some()
    }

    /// True if some digest proves that the content is the right one: of the source, of the disk
    /// image, or of the index of a packed image.
    #[must_use]
    pub fn is_content_promised(&self) -> bool {
        self.has_expected_digest() || self.expected_pack_index_sha256.is_some()
    }

    /// The expected digests as lines of text, such as `sha256 e3b0…`.
    #[must_use]
    pub fn expected_digests(&self) -> Vec<String> {
        let line =
            |kind: &str, digest: Option<String>| digest.map(|digest| format!("{kind} {digest}"));
        let sha256 = line("sha256", self.expected_sha256.map(String::from));
        let sha512 = line("sha512", self.expected_sha512.map(String::from));
        let image = line("image sha256", self.expected_image_sha256.map(String::from));
        let index = line("pack index sha256", self.expected_pack_index_sha256.map(String::from));
        [sha256, sha512, image, index].into_iter().flatten().collect()
    }

    /// Minimum size of the disk in bytes if everything after the last partition is left out;
    /// includes the space for the backup of a GPT. `None` without partitions.
    #[must_use]
    pub fn fitted_bytes(&self, sector_bytes: u32) -> Option<u64> {
        let end = self.partitions_end()?;
        match self.table {
            Some(TableKind::Gpt) => {
                let sector = u64::from(sector_bytes);
                // the first MiB is written unchanged, so the backup must come after it
                let entries = crate::size::align_up(gpt::ENTRIES_BYTES, sector);
                Some(crate::size::align_up(end.max(MIB), sector).saturating_add(entries + sector))
            }
            _ => Some(end),
        }
    }

    /// Minimum size of the disk in bytes: the size of the image or, if that is unknown, the end of
    /// its last partition. `None` if neither is known.
    #[must_use]
    pub fn min_disk_bytes(&self) -> Option<u64> {
        self.disk_bytes.or_else(|| self.partitions_end())
    }
}
