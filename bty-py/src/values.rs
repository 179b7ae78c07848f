//! The values of the library, field by field.

use std::path::PathBuf;

use bty::flash::Found;
use pyo3::prelude::*;
use serde::Serialize;

use crate::value::value;

/// The word that a value without fields serialises to.
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
    /// A signature that was recognised: of a file system, RAID or LVM.
    Content = bty::disks::Content {
        /// `ext4`, `vfat`, `luks` …
        kind: String = |it| it.kind.clone();
        /// Its label.
        label: Option<String> = |it| it.label.clone();
    }
}

value! {
    /// A partition, from the table on the disk.
    Partition = bty::disks::Partition {
        /// Device node, when the kernel has one.
        path: Option<PathBuf> = |it| it.path.clone();
        /// Number in the table, from 1.
        number: u32 = |it| it.number;
        /// Offset of its first byte.
        start_bytes: u64 = |it| it.start_bytes;
        /// Size in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// Type: a GUID, or two hexadecimal digits.
        type_id: Option<String> = |it| it.type_id.clone();
        /// Name in the table.
        name: Option<String> = |it| it.name.clone();
        /// What is in it.
        content: Option<Content> = |it| maybe(it.content.as_ref());
    }
}

value! {
    /// Somebody who uses a disk. Its text names the device, the user and the way out.
    Use = bty::disks::Use {
        /// `mounted`, `swap`, `held`, `loop`, `busy` or `system`.
        kind: String = |it| word(&serde_json::to_value(it).ok().and_then(|it| it.get("use").cloned()));
        /// The disk or partition.
        device: PathBuf = |it| {
            let value = serde_json::to_value(it).ok();
            value.and_then(|it| Some(bty::text::path_of_reference(it.get("device")?.as_str()?))).unwrap_or_default()
        };
        /// The sentence.
        message: String = ToString::to_string;
    } {
        fn __str__(&self) -> String {
            self.0.to_string()
        }
    }
}

value! {
    /// A disk as found. Sizes and offsets are bytes.
    Disk = bty::Disk {
        /// Device node or file.
        path: PathBuf = |it| it.path.clone();
        /// `disk`, `loop`, `partition`, `file` or `other`.
        kind: String = |it| word(&it.kind);
        /// Size in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// The unit of partition tables and writes.
        logical_sector_bytes: u32 = |it| it.logical_sector_bytes;
        /// Physical sector size.
        physical_sector_bytes: u32 = |it| it.physical_sector_bytes;
        /// Vendor.
        vendor: Option<String> = |it| it.vendor.clone();
        /// Model.
        model: Option<String> = |it| it.model.clone();
        /// Serial number.
        serial: Option<String> = |it| it.serial.clone();
        /// World-wide name.
        wwn: Option<String> = |it| it.wwn.clone();
        /// `nvme`, `sata`, `usb`, `loop`, `file` …
        transport: Option<String> = |it| it.transport.clone();
        /// The medium can be taken out.
        is_removable: bool = |it| it.is_removable;
        /// Writes are refused by the kernel.
        is_read_only: bool = |it| it.is_read_only;
        /// A spinning disk.
        is_rotational: Option<bool> = |it| it.is_rotational;
        /// Changes when another disk takes the same name.
        diskseq: Option<u64> = |it| it.diskseq;
        /// `gpt` or `mbr`.
        table: Option<String> = |it| it.table.map(|table| word(&table));
        /// Signature on the whole device.
        content: Option<Content> = |it| maybe(it.content.as_ref());
        /// Partitions, in the order of their start.
        partitions: Vec<Partition> = |it| all(&it.partitions);
        /// Who uses it: any entry forbids writing.
        uses: Vec<Use> = |it| all(&it.uses);
        /// What a regular file holds that bty has not made a disk of; none for devices.
        file_holds: Option<String> = |it| it.file_holds.clone();
    } {
        /// One line for people: path, size, model, serial.
        fn summary(&self) -> String {
            self.0.summary()
        }

        /// One line for people: what is on it now.
        fn contents(&self) -> String {
            self.0.contents()
        }

        /// True when `other`, probed later, is the same piece of hardware.
        fn is_same_disk(&self, other: &Self) -> bool {
            self.0.is_same_disk(&other.0)
        }

        /// A regular file that is to become a disk: for plans. Looks at nothing.
        #[staticmethod]
        fn planned_file(path: &Bound<'_, PyAny>, size_bytes: u64) -> PyResult<Self> {
            Ok(Self(bty::Disk::planned_file(&crate::arguments::path(path)?, size_bytes)))
        }
    }
}

value! {
    /// What is known of an image. Sizes and offsets are bytes.
    ImageInfo = bty::image::ImageInfo {
        /// The reference it was opened from.
        source: String = |it| it.source.clone();
        /// A short name for people.
        name: String = |it| it.name.clone();
        /// The canonical path of a local image.
        path: Option<PathBuf> = |it| it.path.clone();
        /// `raw`, `gzip`, `xz`, `bzip2`, `zstd`, `lz4` or `qcow2`, found from its bytes.
        format: String = |it| word(&it.format);
        /// More about the format.
        detail: Option<String> = |it| it.detail.clone();
        /// Size as it comes over the wire.
        source_bytes: Option<u64> = |it| it.source_bytes;
        /// Size of the disk image inside, when it can be known.
        disk_bytes: Option<u64> = |it| it.disk_bytes;
        /// The SHA-256 its wire bytes must have.
        expected_sha256: Option<String> = |it| text(it.expected_sha256.as_ref());
        /// The SHA-512 its wire bytes must have.
        expected_sha512: Option<String> = |it| text(it.expected_sha512.as_ref());
        /// The SHA-256 that the disk image inside must have.
        expected_image_sha256: Option<String> = |it| text(it.expected_image_sha256.as_ref());
        /// Logical sector size its partition table was made for.
        sector_bytes: Option<u32> = |it| it.sector_bytes;
        /// `gpt` or `mbr`.
        table: Option<String> = |it| it.table.map(|table| word(&table));
        /// Its partitions.
        partitions: Vec<Partition> = |it| all(&it.partitions);
        /// File system, RAID or LVM signature on the whole image.
        content: Option<Content> = |it| maybe(it.content.as_ref());
        /// True when a partition table, a file system or a boot sector was found in it.
        is_recognized: bool = |it| it.is_recognized;
    } {
        /// One line for people: format, sizes, partition table.
        fn summary(&self) -> String {
            self.0.summary()
        }

        /// How large a disk must be at least, in bytes, as far as is known.
        #[getter]
        fn min_disk_bytes(&self) -> Option<u64> {
            self.0.min_disk_bytes()
        }
    }
}

value! {
    /// What to do besides writing.
    FlashOptions = bty::flash::FlashOptions {
        /// Read the targets back and compare.
        verify: bool = |it| it.verify;
        /// Move the backup GPT to the end of the disk.
        fix_gpt: bool = |it| it.fix_gpt;
        /// On a disk that is smaller than the image, leave out what lies behind the last partition,
        /// when all of it is zero.
        fit: bool = |it| it.fit;
        /// Let the firmware boot the target next, once.
        uefi_boot: bool = |it| it.uefi_boot;
        /// Write to a partition instead of a whole disk.
        allow_partition: bool = |it| it.allow_partition;
        /// Write an image in which no partition table, file system or boot sector was found.
        raw: bool = |it| it.raw;
        /// Write to a regular file that holds an image or an archive, and that bty did not make a
        /// disk of.
        overwrite: bool = |it| it.overwrite;
        /// Where the firmware's variables are mounted.
        efivars: PathBuf = |it| it.efivars.clone();
        /// A target that finishes no request for so many milliseconds is given up.
        stall_ms: u64 = |it| it.stall_ms;
    }
}

value! {
    /// A reason not to write. Its text names the target, the reason and the way out.
    Refusal = bty::flash::Refusal {
        /// The target concerned; none when it is the plan as a whole.
        target: Option<String> = |it| it.target.clone();
        /// A word to match on: `in_use`, `system`, `too_small`, `read_only`, `partition` …
        reason: String = |it| it.reason.clone();
        /// One sentence without a full stop.
        message: String = |it| it.message.clone();
    } {
        fn __str__(&self) -> String {
            self.0.to_string()
        }
    }
}

value! {
    /// Where a disk differs first, and what is there instead.
    Difference = bty::flash::Difference {
        /// Offset of the first differing byte.
        offset: u64 = |it| it.offset;
        /// `zeros`, `elsewhere`, `old` or `other`.
        found: String = |it| word(&serde_json::to_value(&it.found).ok().and_then(|it| it.get("found").cloned()));
        /// Where in the image that belongs, when it is `elsewhere`.
        elsewhere_offset: Option<u64> = |it| match it.found {
            Found::Elsewhere { offset } => Some(offset),
            _ => None,
        };
    }
}

value! {
    /// An error as data.
    Failure = bty::flash::Failure {
        /// Its kind: `target`, `integrity`, `cancelled` …
        kind: String = |it| it.kind.clone();
        /// Its text.
        message: String = |it| it.message.clone();
        /// The next step.
        hint: Option<String> = |it| it.hint.clone();
        /// The offset on the target concerned.
        offset: Option<u64> = |it| it.offset;
        /// The first difference, when it read back other than written.
        difference: Option<Difference> = |it| maybe(it.difference.as_ref());
    }
}

value! {
    /// The outcome of one target. All sizes are bytes.
    TargetReport = bty::flash::TargetReport {
        /// The disk, as probed right before the first write.
        disk: Disk = |it| it.disk.clone().into();
        /// Why it failed; none on success.
        failure: Option<Failure> = |it| maybe(it.failure.as_ref());
        /// Data written.
        written_bytes: u64 = |it| it.written_bytes;
        /// Image ranges made zero.
        zeroed_bytes: u64 = |it| it.zeroed_bytes;
        /// Ranges beyond the image made zero.
        wiped_bytes: u64 = |it| it.wiped_bytes;
        /// Read back from the medium and found equal.
        verified_bytes: u64 = |it| it.verified_bytes;
        /// Offset of the backup GPT that was written at the end.
        backup_gpt_offset: Option<u64> = |it| it.backup_gpt_offset;
        /// The firmware variable that boots it next.
        boot_entry: Option<String> = |it| it.boot_entry.clone();
        /// What a person should know.
        notes: Vec<String> = |it| it.notes.clone();
    } {
        /// True when it was flashed.
        fn __bool__(&self) -> bool {
            self.0.failure.is_none()
        }
    }
}

value! {
    /// How long a phase took, over all targets.
    PhaseTime = bty::flash::PhaseTime {
        /// `wipe`, `write`, `verify` or `finish`.
        phase: String = |it| it.phase.clone();
        /// Milliseconds.
        elapsed_ms: u64 = |it| it.elapsed_ms;
    }
}

value! {
    /// What happened. All sizes are bytes, all times milliseconds.
    FlashReport = bty::flash::FlashReport {
        /// The image.
        image: ImageInfo = |it| it.image.clone().into();
        /// Bytes that came over the wire.
        source_bytes: u64 = |it| it.source_bytes;
        /// Bytes of the source that needed no reading.
        skipped_bytes: u64 = |it| it.skipped_bytes;
        /// SHA-256 of the wire bytes.
        source_sha256: Option<String> = |it| text(it.source_sha256.as_ref());
        /// True when that digest was promised by somebody, and is equal.
        is_digest_checked: bool = |it| it.is_digest_checked;
        /// Size of the disk image.
        disk_bytes: u64 = |it| it.disk_bytes;
        /// How much of it is data; the rest is zeros.
        data_bytes: u64 = |it| it.data_bytes;
        /// The outcome of each target, in the order of the plan.
        targets: Vec<TargetReport> = |it| all(&it.targets);
        /// How long each phase took.
        phases: Vec<PhaseTime> = |it| all(&it.phases);
    } {
        /// True when every target was flashed and, unless switched off, verified.
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
    /// What a disk and an image have in common.
    VerifyReport = bty::flash::VerifyReport {
        /// The image.
        image: ImageInfo = |it| it.image.clone().into();
        /// The disk.
        disk: Disk = |it| it.disk.clone().into();
        /// True when every byte of the image is on the disk.
        is_equal: bool = |it| it.is_equal;
        /// The first difference.
        first_difference: Option<Difference> = |it| maybe(it.first_difference.as_ref());
        /// How many bytes differ.
        different_bytes: u64 = |it| it.different_bytes;
        /// How many bytes were compared.
        compared_bytes: u64 = |it| it.compared_bytes;
        /// SHA-256 of the wire bytes, when all were read.
        source_sha256: Option<String> = |it| text(it.source_sha256.as_ref());
    } {
        /// The same as `is_equal`.
        fn __bool__(&self) -> bool {
            self.0.is_equal
        }
    }
}

value! {
    /// All of an image, read once.
    Contents = bty::image::Contents {
        /// Bytes that came over the wire.
        source_bytes: u64 = |it| it.source_bytes;
        /// SHA-256 of the wire bytes.
        source_sha256: String = |it| it.source_sha256.to_string();
        /// Size of the disk image.
        disk_bytes: u64 = |it| it.disk_bytes;
        /// How much of it is data.
        data_bytes: u64 = |it| it.data_bytes;
    }
}

value! {
    /// An image file in a directory, as its name and directory entry describe it.
    ImageFile = bty::image::directory::ImageFile {
        /// File name.
        name: String = |it| it.name.clone();
        /// Directory and file name.
        path: PathBuf = |it| it.path.clone();
        /// Format id that the name suggests, such as `img.zst`.
        format: &'static str = |it| it.format;
        /// Size in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// The digest in its `.sha256` file.
        sha256: Option<String> = |it| text(it.sha256.as_ref());
        /// Architecture that the name suggests.
        arch: Option<&'static str> = |it| it.arch;
    }
}

value! {
    /// The blob that an `oras://` reference stands for.
    OciBlob = bty::oci::OciBlob {
        /// SHA-256 of its bytes.
        digest: String = |it| it.digest.to_string();
        /// Its length in bytes; unknown when the reference named the blob itself.
        size_bytes: Option<u64> = |it| it.size_bytes;
        /// The file name it was pushed under.
        title: Option<String> = |it| it.title.clone();
        /// What the manifest says it is.
        media_type: Option<String> = |it| it.media_type.clone();
    }
}

value! {
    /// What was found at the `src` of a catalog's entry.
    EntryCheck = bty::catalog::EntryCheck {
        /// Name of the entry.
        name: String = |it| it.name.clone();
        /// Where was looked.
        src: String = |it| it.src.clone();
        /// Size over the wire in bytes.
        size_bytes: Option<u64> = |it| it.size_bytes;
        /// Digest that the origin declares.
        sha256: Option<String> = |it| text(it.sha256.as_ref());
        /// What is wrong, one sentence each.
        problems: Vec<String> = |it| it.problems.clone();
    } {
        /// True when nothing is wrong.
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
    /// A disk in an inventory, with the names of `lsblk`.
    InventoryDisk = bty::hardware::InventoryDisk {
        /// Device node.
        path: String = |it| it.path.clone();
        /// Size for people: `465.8G`.
        size: String = |it| it.size.clone();
        /// Size in bytes.
        size_bytes: u64 = |it| it.size_bytes;
        /// Always `disk`.
        r#type: String = |it| it.type_.clone();
        /// Vendor.
        vendor: Option<String> = |it| it.vendor.clone();
        /// Model.
        model: Option<String> = |it| it.model.clone();
        /// Serial number.
        serial: Option<String> = |it| it.serial.clone();
        /// Transport.
        tran: Option<String> = |it| it.tran.clone();
        /// The medium can be taken out.
        removable: bool = |it| it.removable;
        /// Writes are refused by the kernel.
        readonly: bool = |it| it.readonly;
        /// Where it and its partitions are mounted.
        mountpoints: Vec<String> = |it| it.mountpoints.clone();
    }
}

value! {
    /// How the firmware names the machine. What only root may read is absent for others.
    Dmi = bty::hardware::Dmi {
        /// Who made the machine.
        vendor: Option<String> = |it| it.vendor.clone();
        /// What it is called.
        product: Option<String> = |it| it.product.clone();
        /// The version of that.
        version: Option<String> = |it| it.version.clone();
        /// Its serial number.
        serial: Option<String> = |it| it.serial.clone();
        /// Its UUID.
        uuid: Option<String> = |it| it.uuid.clone();
        /// The number it is ordered by.
        sku: Option<String> = |it| it.sku.clone();
        /// The family of products it belongs to.
        family: Option<String> = |it| it.family.clone();
        /// The kind of its case: `desktop`, `server` …
        chassis: Option<String> = |it| it.chassis.clone();
        /// The serial number of the case.
        chassis_serial: Option<String> = |it| it.chassis_serial.clone();
        /// The number its owner has given it.
        asset_tag: Option<String> = |it| it.asset_tag.clone();
        /// Who made the main board.
        board_vendor: Option<String> = |it| it.board_vendor.clone();
        /// What the main board is called.
        board_product: Option<String> = |it| it.board_product.clone();
        /// The version of the main board.
        board_version: Option<String> = |it| it.board_version.clone();
        /// The serial number of the main board.
        board_serial: Option<String> = |it| it.board_serial.clone();
        /// Who made the firmware.
        bios_vendor: Option<String> = |it| it.bios_vendor.clone();
        /// The version of the firmware.
        bios_version: Option<String> = |it| it.bios_version.clone();
        /// The date of the firmware, as its maker wrote it.
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
    module.add_class::<TargetReport>()?;
    module.add_class::<PhaseTime>()?;
    module.add_class::<FlashReport>()?;
    module.add_class::<VerifyReport>()?;
    module.add_class::<Contents>()?;
    module.add_class::<ImageFile>()?;
    module.add_class::<OciBlob>()?;
    module.add_class::<EntryCheck>()?;
    module.add_class::<InventoryDisk>()?;
    module.add_class::<Dmi>()
}
