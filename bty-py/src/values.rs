//! Python classes for the data types of the library.

use std::path::PathBuf;

use bty::flash::Found;
use pyo3::prelude::*;
use serde::Serialize;

use crate::arguments::{self, Size};
use crate::json;
use crate::value::value;

/// The string to which an enum variant without fields is serialized.
fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn all<T: Clone, U: From<T>>(values: &[T]) -> Vec<U> {
    values.iter().cloned().map(U::from).collect()
}

fn maybe<T: Clone, U: From<T>>(value: Option<&T>) -> Option<U> {
    value.cloned().map(U::from)
}

fn text<T: ToString>(value: Option<&T>) -> Option<String> {
    value.map(ToString::to_string)
}

value! {
    /// A recognized signature of a file system, RAID or LVM.
    Content = bty::disks::Content {
        /// `ext4`, `vfat`, `luks` …
        kind: String = |it| it.kind.clone();
        /// Label; none if it has none.
        label: Option<String> = |it| it.label.clone();
    }
}

value! {
    /// A partition in the partition table of a disk or image.
    Partition = bty::disks::Partition {
        /// Device node; none if the kernel has none.
        path: Option<PathBuf> = |it| it.path.clone();
        /// Number in the table, counted from 1.
        number: u32 = |it| it.number;
        /// Offset of the first byte from the start of the disk.
        start_bytes: u64 = |it| it.start_bytes;
        /// Size of the partition in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// Type: a GUID (GPT), or two hexadecimal digits (MBR).
        type_id: Option<String> = |it| it.type_id.clone();
        /// Name in the table (GPT).
        name: Option<String> = |it| it.name.clone();
        /// Signature found in the partition.
        content: Option<Content> = |it| maybe(it.content.as_ref());
    }
}

value! {
    /// A holder of a disk. `str()` names the device, the holder, and how to release it.
    Use = bty::disks::Use {
        /// `mounted`, `swap`, `held`, `loop`, `busy` or `system`.
        kind: String = |it| {
            word(&serde_json::to_value(it).ok().and_then(|it| it.get("use").cloned()))
        };
        /// The disk or partition that is in use.
        device: PathBuf = |it| {
            let value = serde_json::to_value(it).ok();
            value
                .and_then(|it| Some(bty::text::path_of_reference(it.get("device")?.as_str()?)))
                .unwrap_or_default()
        };
        /// The text that `str()` returns.
        message: String = ToString::to_string;
    } {
        fn __str__(&self) -> String {
            self.0.to_string()
        }
    }
}

value! {
    /// A disk, as probed. Sizes and offsets are in bytes.
    Disk = bty::Disk {
        /// Path of the device node or file.
        path: PathBuf = |it| it.path.clone();
        /// `disk`, `loop`, `partition`, `file` or `other`.
        kind: String = |it| word(&it.kind);
        /// Size of the whole disk in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// Logical sector size, in bytes: the unit of partition tables and writes.
        logical_sector_bytes: u32 = |it| it.logical_sector_bytes;
        /// Physical sector size, in bytes.
        physical_sector_bytes: u32 = |it| it.physical_sector_bytes;
        /// Name of the vendor.
        vendor: Option<String> = |it| it.vendor.clone();
        /// Name of the model.
        model: Option<String> = |it| it.model.clone();
        /// Serial number of the disk, as the kernel reports it.
        serial: Option<String> = |it| it.serial.clone();
        /// World-wide name (WWN), which no other disk has.
        wwn: Option<String> = |it| it.wwn.clone();
        /// Where it is attached, as in `/dev/disk/by-path`; none if unknown.
        by_path: Option<String> = |it| it.by_path.clone();
        /// `nvme`, `sata`, `usb`, `loop`, `file` …
        transport: Option<String> = |it| it.transport.clone();
        /// True if the medium is removable.
        is_removable: bool = |it| it.is_removable;
        /// True if the kernel refuses writes.
        is_read_only: bool = |it| it.is_read_only;
        /// True for spinning disks; none if unknown.
        is_rotational: Option<bool> = |it| it.is_rotational;
        /// Sequence number of the kernel, which changes when another disk gets the same device
        /// name.
        diskseq: Option<u64> = |it| it.diskseq;
        /// Kind of the partition table: `gpt` or `mbr`; none if there is none.
        table: Option<String> = |it| it.table.map(|table| word(&table));
        /// Signature on the whole device, outside of partitions.
        content: Option<Content> = |it| maybe(it.content.as_ref());
        /// Partitions, sorted by their start.
        partitions: Vec<Partition> = |it| all(&it.partitions);
        /// Holders of the disk. A disk with any holder is not written.
        uses: Vec<Use> = |it| all(&it.uses);
        /// What a regular file contains if bty did not create it as a disk; none for devices.
        file_holds: Option<String> = |it| it.file_holds.clone();
    } own constructor {
        #[new]
        #[pyo3(signature = (
            path, size_bytes, *, kind="disk", logical_sector_bytes=512, physical_sector_bytes=4096,
            vendor=None, model=None, serial=None, wwn=None, transport=None, is_removable=false,
            is_read_only=false, is_rotational=None, diskseq=None, table=None, content=None,
            partitions=None, uses=None, file_holds=None
        ))]
        #[allow(clippy::too_many_arguments)] // keyword arguments in Python
        fn new(
            path: &Bound<'_, PyAny>,
            size_bytes: Size,
            kind: &str,
            logical_sector_bytes: u32,
            physical_sector_bytes: u32,
            vendor: Option<String>,
            model: Option<String>,
            serial: Option<String>,
            wwn: Option<String>,
            transport: Option<String>,
            is_removable: bool,
            is_read_only: bool,
            is_rotational: Option<bool>,
            diskseq: Option<u64>,
            table: Option<&str>,
            content: Option<Bound<'_, Content>>,
            partitions: Option<Vec<Bound<'_, Partition>>>,
            uses: Option<Vec<Bound<'_, Use>>>,
            file_holds: Option<String>,
        ) -> PyResult<Self> {
            // validates `kind` and `table`
            let mut disk: bty::Disk = json::from_json(serde_json::json!({
                "path": bty::text::path_reference(arguments::path(path)?),
                "kind": kind,
                "size_bytes": size_bytes.0,
                "logical_sector_bytes": logical_sector_bytes,
                "physical_sector_bytes": physical_sector_bytes,
                "is_removable": is_removable,
                "is_read_only": is_read_only,
                "table": table,
                "partitions": [],
                "uses": [],
            }))?;
            (disk.vendor, disk.model, disk.serial, disk.wwn) = (vendor, model, serial, wwn);
            disk.transport = transport;
            (disk.is_rotational, disk.diskseq) = (is_rotational, diskseq);
            disk.content = content.map(|content| content.get().0.clone());
            disk.partitions =
                partitions.iter().flatten().map(|partition| partition.get().0.clone()).collect();
            disk.uses = uses.iter().flatten().map(|one| one.get().0.clone()).collect();
            disk.file_holds = file_holds;
            Ok(Self(disk))
        }

        /// One line for display: path, size, model, serial number.
        fn summary(&self) -> String {
            self.0.summary()
        }

        /// One line for display: the current contents, which a flash destroys.
        fn contents(&self) -> String {
            self.0.contents()
        }

        /// True if `other`, probed later, is the same hardware.
        fn is_same_disk(&self, other: &Self) -> bool {
            self.0.is_same_disk(&other.0)
        }

        /// Every reason not to write to the disk, whatever the image; empty if there is none.
        #[pyo3(signature = (*, allow_partition=false, overwrite=false))]
        fn refusals(&self, allow_partition: bool, overwrite: bool) -> Vec<Refusal> {
            let options = bty::flash::FlashOptions::default();
            let options = options.allow_partition(allow_partition).overwrite(overwrite);
            self.0.refusals(&options).into_iter().map(Refusal).collect()
        }

        /// Describes a regular file that will be created as a disk, for use in plans. Reads
        /// nothing.
        #[staticmethod]
        fn planned_file(path: &Bound<'_, PyAny>, size_bytes: Size) -> PyResult<Self> {
            Ok(Self(bty::Disk::planned_file(&arguments::path(path)?, size_bytes.0)))
        }
    }
}

value! {
    /// The known properties of an image. Sizes and offsets are in bytes.
    ImageInfo = bty::image::ImageInfo {
        /// The reference from which it was opened.
        source: String = |it| it.source.clone();
        /// Short name for display.
        name: String = |it| it.name.clone();
        /// Canonical path of a local image; none for others.
        path: Option<PathBuf> = |it| it.path.clone();
        /// Format, detected from the content: `raw`, `gzip`, `xz`, `bzip2`, `zstd`, `lz4` or
        /// `qcow2`.
        format: String = |it| word(&it.format);
        /// Details of the format.
        detail: Option<String> = |it| it.detail.clone();
        /// Size of the file as published, in bytes; none if unknown.
        source_bytes: Option<u64> = |it| it.source_bytes;
        /// Size of the disk image after decoding, in bytes; none if unknown.
        disk_bytes: Option<u64> = |it| it.disk_bytes;
        /// Expected SHA-256 of the file as published.
        expected_sha256: Option<String> = |it| text(it.expected_sha256.as_ref());
        /// Expected SHA-512 of the file as published.
        expected_sha512: Option<String> = |it| text(it.expected_sha512.as_ref());
        /// Expected SHA-256 of the disk image after decoding.
        expected_image_sha256: Option<String> = |it| text(it.expected_image_sha256.as_ref());
        /// SHA-256 of the index of a packed image; none if it is not packed.
        pack_index_sha256: Option<String> = |it| text(it.pack_index_sha256.as_ref());
        /// Logical sector size for which the partition table was made, in bytes.
        sector_bytes: Option<u32> = |it| it.sector_bytes;
        /// Kind of the partition table: `gpt` or `mbr`; none if there is none.
        table: Option<String> = |it| it.table.map(|table| word(&table));
        /// Partitions of the image, sorted by their start.
        partitions: Vec<Partition> = |it| all(&it.partitions);
        /// Signature of a file system, RAID or LVM on the whole image.
        content: Option<Content> = |it| maybe(it.content.as_ref());
        /// True if it contains a partition table, a file system or a boot sector.
        is_recognized: bool = |it| it.is_recognized;
        /// How it erases a disk: `zeros`, `random`, `discard` or `nvme_format`; none if it is an
        /// image of a system.
        erases: Option<String> = |it| it.erases.map(|way| word(&way));
    } {
        /// One line for display: format, sizes, partition table.
        fn summary(&self) -> String {
            self.0.summary()
        }

        /// Minimum size of a disk for this image, in bytes; none if unknown.
        #[getter]
        fn min_disk_bytes(&self) -> Option<u64> {
            self.0.min_disk_bytes()
        }

        /// Deprecated name of `min_disk_bytes`.
        #[getter]
        fn least_bytes(&self, py: Python<'_>) -> PyResult<Option<u64>> {
            crate::value::warn_deprecated(py, c"ImageInfo.least_bytes is deprecated: \
                                                use min_disk_bytes")?;
            Ok(self.0.min_disk_bytes())
        }
    }
}

value! {
    /// Options of a flash.
    FlashOptions = bty::flash::FlashOptions {
        /// Read the targets back and compare them with the image.
        verify: bool = |it| it.verify;
        /// Move the backup GPT to the end of the disk.
        fix_gpt: bool = |it| it.fix_gpt;
        /// On a disk that is smaller than the image, leave out everything after the last partition.
        /// It must be zero, except for the backup GPT.
        fit: bool = |it| it.fit;
        /// Have the firmware boot the target once, at the next boot.
        uefi_boot: bool = |it| it.uefi_boot;
        /// Write to a partition instead of a whole disk.
        allow_partition: bool = |it| it.allow_partition;
        /// Write an image in which no partition table, file system or boot sector was found.
        raw: bool = |it| it.raw;
        /// Overwrite a regular file that holds an image or an archive, and that bty did not write
        /// as a disk.
        overwrite: bool = |it| it.overwrite;
        /// Whether to keep and move what the disk already holds: `auto`, `always` or `never`.
        delta: &'static str = |it| it.delta.as_str();
        /// Maximum memory for old content that is needed after its place was overwritten.
        stash_bytes: u64 = |it| it.stash_bytes;
        /// The disk has passed a full proof before, so that a sample suffices for what is kept.
        proven_disk: bool = |it| it.proven_disk;
        /// Mount point of the firmware's variables (efivarfs).
        efivars: PathBuf = |it| it.efivars.clone();
        /// Fail a target that completes no request for this many milliseconds.
        stall_ms: u64 = |it| it.stall_ms;
    }
}

value! {
    /// A reason why a plan is refused. `str()` names the target, the reason, and what to do.
    Refusal = bty::flash::Refusal {
        /// The target concerned; none if the reason concerns the plan as a whole.
        target: Option<String> = |it| it.target.clone();
        /// Identifier for programs: `in_use`, `system`, `too_small`, `read_only`, `partition` …
        reason: String = |it| it.reason.to_string();
        /// Message for display, without the hint.
        message: String = |it| it.message.clone();
    } {
        /// What helps, as a word: often the option, such as `fit` or `overwrite`. Lost by pickling
        /// and by `to_dict()`.
        #[getter]
        fn remedy(&self) -> Option<&'static str> {
            self.0.remedy.map(bty::Remedy::as_str)
        }

        fn __str__(&self) -> String {
            self.0.to_string()
        }
    }
}

value! {
    /// The first difference between disk and image.
    Difference = bty::flash::Difference {
        /// Offset of the first different byte.
        offset: u64 = |it| it.offset;
        /// What the disk holds there: `zeros`; `elsewhere`, data from another offset of the image;
        /// `old`, data from before the flash; or `other`.
        found: String = |it| {
            word(&serde_json::to_value(&it.found).ok().and_then(|it| it.get("found").cloned()))
        };
        /// For `elsewhere`: the offset in the image of the data that was found.
        elsewhere_offset: Option<u64> = |it| match it.found {
            Found::Elsewhere { offset } => Some(offset),
            _ => None,
        };
    }
}

value! {
    /// An error in a report.
    Failure = bty::flash::Failure {
        /// Kind, as `bty.Error.kind`: `target`, `integrity`, `cancelled` …
        kind: String = |it| it.kind.to_string();
        /// Message for display, without the hint.
        message: String = |it| it.message.clone();
        /// What to do next, if there is something that helps.
        hint: Option<String> = |it| it.hint.clone();
        /// The offset concerned, in bytes from the start of the target.
        offset: Option<u64> = |it| it.offset;
        /// The first difference, if the target did not read back as written.
        difference: Option<Difference> = |it| maybe(it.difference.as_ref());
    }
}

value! {
    /// How much of an image a disk already held. All sizes are in bytes; the first three together
    /// are the data of the image.
    DeltaReport = bty::flash::DeltaReport {
        /// Data that was in its place already.
        kept_bytes: u64 = |it| it.kept_bytes;
        /// Data that was somewhere else on the disk.
        moved_bytes: u64 = |it| it.moved_bytes;
        /// Data that was read from the source.
        fetched_bytes: u64 = |it| it.fetched_bytes;
        /// Bytes of the packed file that `fetched_bytes` take, compressed.
        source_bytes: u64 = |it| it.source_bytes;
        /// Maximum number of bytes in memory because their place was overwritten before they were
        /// needed.
        stash_peak_bytes: u64 = |it| it.stash_peak_bytes;
    }
}

value! {
    /// The outcome for one target. All sizes are in bytes.
    TargetReport = bty::flash::TargetReport {
        /// The disk, as probed immediately before the first write.
        disk: Disk = |it| it.disk.clone().into();
        /// Why it failed; none on success.
        failure: Option<Failure> = |it| maybe(it.failure.as_ref());
        /// Bytes of image data written.
        written_bytes: u64 = |it| it.written_bytes;
        /// Bytes in zero ranges of the image, which were zeroed on the target.
        zeroed_bytes: u64 = |it| it.zeroed_bytes;
        /// Bytes zeroed beyond the end of the image, to erase old signatures.
        wiped_bytes: u64 = |it| it.wiped_bytes;
        /// Bytes read back from the medium and found equal.
        verified_bytes: u64 = |it| it.verified_bytes;
        /// Offset of the backup GPT, if it was moved to the end of the disk.
        backup_gpt_offset: Option<u64> = |it| it.backup_gpt_offset;
        /// Firmware variable that boots the target next, if one was set.
        boot_entry: Option<String> = |it| it.boot_entry.clone();
        /// What proves that the disk holds the image: `full`, `sample` or `none`.
        proof: &'static str = |it| it.proof.as_str();
        /// What the disk already held; none after a full flash.
        delta: Option<DeltaReport> = |it| maybe(it.delta.as_ref());
        /// Remarks for display: what was unusual, though it succeeded.
        notes: Vec<String> = |it| it.notes.clone();
    } {
        /// True if the target was flashed.
        fn __bool__(&self) -> bool {
            self.0.failure.is_none()
        }
    }
}

value! {
    /// Duration of a phase, over all targets.
    PhaseTime = bty::flash::PhaseTime {
        /// `scan`, `wipe`, `write`, `verify` or `finish`.
        phase: String = |it| it.phase.to_string();
        /// Wall-clock duration of the phase in milliseconds.
        elapsed_ms: u64 = |it| it.elapsed_ms;
    }
}

value! {
    /// The outcome of a flash. All sizes are in bytes, all times in milliseconds.
    FlashReport = bty::flash::FlashReport {
        /// The image, as examined.
        image: ImageInfo = |it| it.image.clone().into();
        /// Bytes read from the source.
        source_bytes: u64 = |it| it.source_bytes;
        /// Bytes of the source that did not have to be read.
        skipped_bytes: u64 = |it| it.skipped_bytes;
        /// SHA-256 of the file as published, if all of it was read.
        source_sha256: Option<String> = |it| text(it.source_sha256.as_ref());
        /// True if a digest was expected and matches.
        is_digest_checked: bool = |it| it.is_digest_checked;
        /// Size of the disk image, in bytes.
        disk_bytes: u64 = |it| it.disk_bytes;
        /// Bytes of the disk image that are data; the rest is zeros.
        data_bytes: u64 = |it| it.data_bytes;
        /// The outcome for each target, in the order of the plan.
        targets: Vec<TargetReport> = |it| all(&it.targets);
        /// Duration of each phase.
        phases: Vec<PhaseTime> = |it| all(&it.phases);
    } {
        /// True if every target was flashed and, unless disabled, verified.
        #[getter]
        fn is_success(&self) -> bool {
            self.0.is_success()
        }

        /// The same as `is_success`.
        fn __bool__(&self) -> bool {
            self.0.is_success()
        }
    }
}

value! {
    /// The result of comparing a disk with an image. All sizes are in bytes.
    VerifyReport = bty::flash::VerifyReport {
        /// The image, as examined.
        image: ImageInfo = |it| it.image.clone().into();
        /// The disk, as probed.
        disk: Disk = |it| it.disk.clone().into();
        /// True if the disk has every byte of the image.
        is_equal: bool = |it| it.is_equal;
        /// The first difference; none if they are equal.
        first_difference: Option<Difference> = |it| maybe(it.first_difference.as_ref());
        /// Number of bytes that differ.
        different_bytes: u64 = |it| it.different_bytes;
        /// Number of bytes compared.
        compared_bytes: u64 = |it| it.compared_bytes;
        /// SHA-256 of the file as published; none if not all of it was read.
        source_sha256: Option<String> = |it| text(it.source_sha256.as_ref());
    } {
        /// The same as `is_equal`.
        fn __bool__(&self) -> bool {
            self.0.is_equal
        }
    }
}

value! {
    /// The result of erasing a disk. All sizes are in bytes.
    EraseReport = bty::flash::EraseReport {
        /// The disk, as probed right before the first write.
        disk: Disk = |it| it.disk.clone().into();
        /// How it was erased: `zeros`, `random`, `discard` or `nvme_format`.
        way: String = |it| word(&it.way);
        /// Bytes erased: all of the disk.
        erased_bytes: u64 = |it| it.erased_bytes;
        /// Bytes read back from the medium and found right.
        verified_bytes: u64 = |it| it.verified_bytes;
        /// True if the disk itself has reported that it erased all user data, including what cannot
        /// be read.
        is_attested: bool = |it| it.is_attested;
        /// Duration in milliseconds.
        elapsed_ms: u64 = |it| it.elapsed_ms;
        /// Warnings.
        notes: Vec<String> = |it| it.notes.clone();
    }
}

value! {
    /// The result of reading an image completely. All sizes are in bytes.
    Contents = bty::image::Contents {
        /// Bytes read from the source.
        source_bytes: u64 = |it| it.source_bytes;
        /// SHA-256 of the file as published.
        source_sha256: String = |it| it.source_sha256.to_string();
        /// Size of the disk image, in bytes.
        disk_bytes: u64 = |it| it.disk_bytes;
        /// Bytes of the disk image that are data; the rest is zeros.
        data_bytes: u64 = |it| it.data_bytes;
    }
}

value! {
    /// The result of packing an image. All sizes are in bytes.
    PackReport = bty::pack::PackReport {
        /// The image that was packed.
        source: String = |it| it.source.clone();
        /// Path of the packed image.
        path: PathBuf = |it| it.path.clone();
        /// Size of the decoded disk image.
        disk_bytes: u64 = |it| it.disk_bytes;
        /// Bytes of the disk image that are data; the rest is zeros.
        data_bytes: u64 = |it| it.data_bytes;
        /// Number of parts of the packed image.
        frames: u64 = |it| it.frames;
        /// Size of the index.
        index_bytes: u64 = |it| it.index_bytes;
        /// Size of the packed image.
        file_bytes: u64 = |it| it.file_bytes;
        /// SHA-256 of the packed image, also written to the `.sha256` file beside it.
        sha256: String = |it| it.sha256.to_string();
        /// SHA-256 of its index, which proves the content of the whole image.
        index_sha256: String = |it| it.index_sha256.to_string();
        /// Wall-clock duration of packing in milliseconds.
        elapsed_ms: u64 = |it| it.elapsed_ms;
    }
}

value! {
    /// The result of checking a packed image. All sizes are in bytes.
    PackCheck = bty::pack::PackCheck {
        /// Size of the decoded disk image.
        disk_bytes: u64 = |it| it.disk_bytes;
        /// Bytes of the disk image that are data; the rest is zeros.
        data_bytes: u64 = |it| it.data_bytes;
        /// Number of parts of the packed image.
        frames: u64 = |it| it.frames;
        /// SHA-256 of the file.
        sha256: String = |it| it.sha256.to_string();
        /// SHA-256 of its index.
        index_sha256: String = |it| it.index_sha256.to_string();
    }
}

value! {
    /// The result of creating an image from a disk. All sizes are in bytes.
    CreateReport = bty::create::CreateReport {
        /// The disk that was read.
        disk: Disk = |it| it.disk.clone().into();
        /// Path of the image.
        path: PathBuf = |it| it.path.clone();
        /// Format: `raw`, `zstd` or `qcow2`.
        format: String = |it| word(&it.format);
        /// Size of the decoded disk image.
        disk_bytes: u64 = |it| it.disk_bytes;
        /// Bytes of the disk image that are data; the rest is zeros.
        data_bytes: u64 = |it| it.data_bytes;
        /// Size of the image file.
        file_bytes: u64 = |it| it.file_bytes;
        /// SHA-256 of the image file, also written to the `.sha256` file beside it.
        sha256: String = |it| it.sha256.to_string();
        /// Wall-clock duration of the backup in milliseconds.
        elapsed_ms: u64 = |it| it.elapsed_ms;
    }
}

value! {
    /// An image file in a directory, described by its name and directory entry; it is not opened.
    ImageFile = bty::image::directory::ImageFile {
        /// Name of the file, without its directory.
        name: String = |it| it.name.clone();
        /// Path of the file.
        path: PathBuf = |it| it.path.clone();
        /// Format suggested by the name, such as `img.zst`.
        format: &'static str = |it| it.format;
        /// Size of the file in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// Digest from the `.sha256` file beside it, if there is one.
        sha256: Option<String> = |it| text(it.sha256.as_ref());
        /// Architecture suggested by the name.
        arch: Option<&'static str> = |it| it.arch;
    }
}

value! {
    /// The blob to which an `oras://` reference resolves.
    OciBlob = bty::oci::OciBlob {
        /// SHA-256 of the blob.
        digest: String = |it| it.digest.to_string();
        /// Size in bytes; none if the reference contains the digest of the blob.
        size_bytes: Option<u64> = |it| it.size_bytes;
        /// File name with which it was pushed.
        title: Option<String> = |it| it.title.clone();
        /// Media type in the manifest.
        media_type: Option<String> = |it| it.media_type.clone();
    }
}

value! {
    /// The result of checking the `src` of a catalog entry.
    EntryCheck = bty::catalog::EntryCheck {
        /// Name of the entry.
        name: String = |it| it.name.clone();
        /// The address that was checked.
        src: String = |it| it.src.clone();
        /// Size of the file as published, in bytes.
        size_bytes: Option<u64> = |it| it.size_bytes;
        /// Digest that the origin declares for the file.
        sha256: Option<String> = |it| text(it.sha256.as_ref());
        /// Problems, one message each.
        problems: Vec<String> = |it| it.problems.clone();
    } {
        /// True if there are no problems.
        #[getter]
        fn is_ok(&self) -> bool {
            self.0.is_ok()
        }

        /// The same as `is_ok`.
        fn __bool__(&self) -> bool {
            self.0.is_ok()
        }
    }
}

value! {
    /// A disk in an inventory, with the field names of `lsblk`.
    InventoryDisk = bty::hardware::InventoryDisk {
        /// Path of the device node.
        path: String = |it| it.path.clone();
        /// Size for display: `465.8G`.
        size: String = |it| it.size.clone();
        /// Size of the whole disk in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// Always `disk`, as `lsblk` calls whole disks.
        r#type: String = |it| it.type_.clone();
        /// Name of the vendor.
        vendor: Option<String> = |it| it.vendor.clone();
        /// Name of the model.
        model: Option<String> = |it| it.model.clone();
        /// Serial number of the disk.
        serial: Option<String> = |it| it.serial.clone();
        /// World-wide name (WWN).
        wwn: Option<String> = |it| it.wwn.clone();
        /// Where it is attached, as in `/dev/disk/by-path`; none if unknown.
        by_path: Option<String> = |it| it.by_path.clone();
        /// Transport, as `lsblk` calls it: `nvme`, `sata`, `usb` …
        tran: Option<String> = |it| it.tran.clone();
        /// True if the medium is removable.
        removable: bool = |it| it.removable;
        /// True if the kernel refuses writes.
        readonly: bool = |it| it.readonly;
        /// Mount points of the disk and its partitions.
        mountpoints: Vec<String> = |it| it.mountpoints.clone();
    }
}

value! {
    /// Identification of the machine by its firmware. Fields that only root may read are none for
    /// other users.
    Dmi = bty::hardware::Dmi {
        /// Manufacturer of the machine.
        vendor: Option<String> = |it| it.vendor.clone();
        /// Product name of the machine.
        product: Option<String> = |it| it.product.clone();
        /// Version of the product.
        version: Option<String> = |it| it.version.clone();
        /// Serial number of the machine.
        serial: Option<String> = |it| it.serial.clone();
        /// UUID of the machine.
        uuid: Option<String> = |it| it.uuid.clone();
        /// Order number of the product (SKU).
        sku: Option<String> = |it| it.sku.clone();
        /// Product family of the machine.
        family: Option<String> = |it| it.family.clone();
        /// Type of the chassis: `desktop`, `server` …
        chassis: Option<String> = |it| it.chassis.clone();
        /// Serial number of the chassis.
        chassis_serial: Option<String> = |it| it.chassis_serial.clone();
        /// Asset tag, set by the owner.
        asset_tag: Option<String> = |it| it.asset_tag.clone();
        /// Manufacturer of the main board.
        board_vendor: Option<String> = |it| it.board_vendor.clone();
        /// Product name of the main board.
        board_product: Option<String> = |it| it.board_product.clone();
        /// Version of the main board.
        board_version: Option<String> = |it| it.board_version.clone();
        /// Serial number of the main board.
        board_serial: Option<String> = |it| it.board_serial.clone();
        /// Manufacturer of the firmware.
        bios_vendor: Option<String> = |it| it.bios_vendor.clone();
        /// Version of the firmware.
        bios_version: Option<String> = |it| it.bios_version.clone();
        /// Release date of the firmware, in the manufacturer's notation.
        bios_date: Option<String> = |it| it.bios_date.clone();
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Content>()?;
    module.add_class::<Partition>()?;
    module.add_class::<Use>()?;
    module.add_class::<Disk>()?;
    module.add_class::<ImageInfo>()?;
    module.add_class::<FlashOptions>()?;
    module.add_class::<Refusal>()?;
    module.add_class::<Difference>()?;
    module.add_class::<Failure>()?;
    module.add_class::<DeltaReport>()?;
    module.add_class::<TargetReport>()?;
    module.add_class::<PhaseTime>()?;
    module.add_class::<FlashReport>()?;
    module.add_class::<VerifyReport>()?;
    module.add_class::<EraseReport>()?;
    module.add_class::<Contents>()?;
    module.add_class::<PackReport>()?;
    module.add_class::<PackCheck>()?;
    module.add_class::<CreateReport>()?;
    module.add_class::<ImageFile>()?;
    module.add_class::<OciBlob>()?;
    module.add_class::<EntryCheck>()?;
    module.add_class::<InventoryDisk>()?;
    module.add_class::<Dmi>()
}
