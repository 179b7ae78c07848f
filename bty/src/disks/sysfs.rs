//! Reads the block devices of the kernel from sysfs.
//!
//! Attributes: `Documentation/ABI/stable/sysfs-block` in the kernel. A missing or malformed
//! attribute makes a field absent, and is never an error.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::disks::{Disk, DiskKind, attachment};
use crate::setters::setters;
use crate::{Error, ErrorKind, Result};

/// The directories through which the kernel and udev describe devices. Tests use their own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemRoots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
    /// `/run/udev`; need not exist.
    pub udev: PathBuf,
}

setters! {
    SystemRoots {
        sys: impl Into<PathBuf>,
        proc: impl Into<PathBuf>,
        dev: impl Into<PathBuf>,
        udev: impl Into<PathBuf>,
    }
}

impl Default for SystemRoots {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
            udev: "/run/udev".into(),
        }
    }
}

/// sysfs counts sizes in units of 512 bytes, whatever the sector size.
const UNIT_BYTES: u64 = 512;
/// Longer attributes are truncated.
const ATTRIBUTE_BYTES_MAX: u64 = 4096;
/// Name prefixes of devices that are not listed: optical, floppy, RAM, flash without wear leveling,
/// and those built on other devices.
const OTHERS: &[&str] =
    &["dm-", "md", "ram", "zram", "sr", "fd", "zd", "drbd", "bcache", "mtdblock", "ubiblock"];

/// A block device.
#[derive(Clone, Debug)]
pub(super) struct BlockDevice {
    /// Kernel name: `sda1`.
    pub(super) name: String,
    /// Its directory in sysfs, symbolic links resolved.
    pub(super) dir: PathBuf,
    /// Its device node in `/dev`.
    pub(super) path: PathBuf,
    /// Major and minor number.
    pub(super) number: Option<(u32, u32)>,
    /// Kernel name of the disk, for a partition.
    pub(super) parent: Option<String>,
}

/// A snapshot of all block devices.
#[derive(Debug)]
pub(super) struct BlockDevices {
    pub(super) roots: SystemRoots,
    pub(super) all: Vec<BlockDevice>,
}

impl BlockDevices {
    /// Reads all block devices.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when there is no sysfs.
    pub(super) fn read(roots: &SystemRoots) -> Result<Self> {
        let block = roots.sys.join("block");
        let disks = fs::read_dir(&block).map_err(|e| {
            Error::from_io(ErrorKind::Host, format!("listing {}", block.display()), e)
                .with_path(block.display())
                .hint("mount sysfs: mount -t sysfs sysfs /sys")
        })?;
        let mut all = Vec::new();
        for entry in disks.flatten() {
            let Ok(dir) = fs::canonicalize(entry.path()) else { continue };
            let disk = BlockDevice::at(roots, dir, None);
            for child in fs::read_dir(&disk.dir).into_iter().flatten().flatten() {
                if child.path().join("partition").exists() {
                    all.push(BlockDevice::at(roots, child.path(), Some(disk.name.clone())));
                }
            }
            all.push(disk);
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { roots: roots.clone(), all })
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&BlockDevice> {
        self.all.iter().find(|node| node.name == name)
    }

    pub(super) fn by_number(&self, number: (u32, u32)) -> Option<&BlockDevice> {
        self.all.iter().find(|node| node.number == Some(number))
    }

    /// The device at `path`, a node in `/dev` or a link to one.
    pub(super) fn by_path(&self, path: &Path) -> Option<&BlockDevice> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let path = fs::canonicalize(path).ok()?;
        let meta = fs::metadata(&path).ok()?;
        if meta.file_type().is_block_device() {
            return self
                .by_number((rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())));
        }
        // only trees of tests have regular files as devices
        let is_real = self.roots.dev == SystemRoots::default().dev;
        let found = || {
            self.all.iter().find(|node| fs::canonicalize(&node.path).is_ok_and(|real| real == path))
        };
        if is_real { None } else { found() }
    }

    /// The kernel's partitions of the disk `name`.
    pub(super) fn partitions_of<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = &'a BlockDevice> {
        self.all.iter().filter(move |node| node.parent.as_deref() == Some(name))
    }

    /// The disk that `node` is a partition of, or `node` itself.
    pub(super) fn disk_of<'a>(&'a self, node: &'a BlockDevice) -> &'a BlockDevice {
        node.parent.as_deref().and_then(|parent| self.by_name(parent)).unwrap_or(node)
    }
}

impl BlockDevice {
    fn at(roots: &SystemRoots, dir: PathBuf, parent: Option<String>) -> Self {
        let name =
            dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // sysfs writes the slash of a device in a subdirectory of /dev (cciss/c0d0) as `!`
        let path = roots.dev.join(name.replace('!', "/"));
        let number = text(&dir, "dev").and_then(|dev| parse_number(&dev));
        Self { name, dir, path, number, parent }
    }

    pub(super) fn text(&self, attribute: &str) -> Option<String> {
        text(&self.dir, attribute)
    }

    pub(super) fn count(&self, attribute: &str) -> Option<u64> {
        self.text(attribute)?.parse().ok()
    }

    pub(super) fn flag(&self, attribute: &str) -> Option<bool> {
        self.count(attribute).map(|value| value != 0)
    }

    /// Names in one of its directories: `holders`, `slaves`.
    pub(super) fn links(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join(directory)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.count("size").unwrap_or(0).saturating_mul(UNIT_BYTES)
    }

    /// Offset of a partition on its disk, in bytes.
    pub(super) fn start_bytes(&self) -> u64 {
        self.count("start").unwrap_or(0).saturating_mul(UNIT_BYTES)
    }

    pub(super) fn kind(&self) -> DiskKind {
        // `md0`, but not `mdx-disk`
        let is = |prefix: &&str| {
            self.name
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        // the boot areas of an eMMC are devices of their own, but systems are not installed there
        let is_boot_area = self.name.starts_with("mmcblk")
            && (self.name.contains("boot") || self.name.contains("rpmb"));
        if self.parent.is_some() {
            DiskKind::Partition
        } else if is(&"loop") {
            DiskKind::Loop
        } else if OTHERS.iter().any(is)
            || self.name.starts_with("md_")
            || is_boot_area
            || self.flag("hidden") == Some(true)
        {
            DiskKind::Other
        } else {
            DiskKind::Disk
        }
    }

    /// True when it belongs in a list of disks.
    pub(super) fn is_listed(&self) -> bool {
        match self.kind() {
            // a card reader without a card has no size
            DiskKind::Disk => self.size_bytes() > 0,
            DiskKind::Loop => self.dir.join("loop/backing_file").exists(),
            _ => false,
        }
    }

    /// The properties known to sysfs and udev, without content and uses. `disk` is the whole disk,
    /// from which the properties of the hardware are read.
    pub(super) fn facts(&self, disk: &Self, roots: &SystemRoots) -> Disk {
        let udev = |keys: &[&str]| disk.udev(roots, keys);
        let transport = transport(&disk.dir, &disk.name);
        // virtio has the number of its PCI vendor there instead of a name
        let vendor = disk
            .text("device/vendor")
            .filter(|text| !text.starts_with("0x"))
            .or_else(|| udev(&["ID_VENDOR"]));
        let model = ["device/model", "device/name"].iter().find_map(|name| disk.text(name));
        Disk {
            path: self.path.clone(),
            kind: self.kind(),
            size_bytes: self.size_bytes(),
            logical_sector_bytes: disk.sector("queue/logical_block_size").unwrap_or(512),
            physical_sector_bytes: disk.sector("queue/physical_block_size").unwrap_or(512),
            vendor,
            model: model.or_else(|| udev(&["ID_MODEL"])),
            serial: disk.serial().or_else(|| udev(&["ID_SCSI_SERIAL", "ID_SERIAL_SHORT"])),
            wwn: disk
                .wwn()
                .or_else(|| udev(&["ID_WWN_WITH_EXTENSION", "ID_WWN"]))
                .map(|wwn| wwn.to_lowercase()),
            by_path: attachment::by_path(&disk.dir),
            transport: transport.map(str::to_owned),
            is_removable: disk.flag("removable").unwrap_or(false),
            is_read_only: self.flag("ro").unwrap_or(false),
            is_rotational: disk.flag("queue/rotational"),
            diskseq: disk.count("diskseq"),
            table: None,
            content: None,
            partitions: Vec::new(),
            uses: Vec::new(),
            file_holds: None,
        }
    }

    fn sector(&self, attribute: &str) -> Option<u32> {
        let bytes = u32::try_from(self.count(attribute)?).ok()?;
        (bytes.is_power_of_two() && (512..=1 << 20).contains(&bytes)).then_some(bytes)
    }

    fn serial(&self) -> Option<String> {
        ["device/serial", "serial"]
            .iter()
            .find_map(|name| self.text(name))
            .or_else(|| self.page_80())
            .or_else(|| self.usb_serial())
    }

    /// The serial number that a SCSI disk reports.
    ///
    /// Vital product data page 80 (SPC-4, 7.8.13): 0 device type | 1 page | 2..4 length, big-endian
    /// | serial number
    fn page_80(&self) -> Option<String> {
        let page = bytes(&self.dir.join("device/vpd_pg80"))?;
        let &[_, 0x80, high, low, ref rest @ ..] = &page[..] else { return None };
        let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        clean(&rest[..len])
    }

    /// The serial number of the USB device that the disk is part of. Other directories on the way
    /// to it (interface, bus, port) are skipped.
    fn usb_serial(&self) -> Option<String> {
        let is_usb = |dir: &&Path| dir.join("idVendor").exists() && dir.join("busnum").exists();
        self.dir.ancestors().find(is_usb).and_then(|dir| text(dir, "serial"))
    }

    fn wwn(&self) -> Option<String> {
        let wwn = ["wwid", "device/wwid"].iter().find_map(|name| self.text(name))?;
        // one that the kernel makes of vendor, model and serial number is padded with blanks
        Some(wwn.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The first of `keys` that udev's database has, in lines of `E:KEY=value`.
    fn udev(&self, roots: &SystemRoots, keys: &[&str]) -> Option<String> {
        let (major, minor) = self.number?;
        let database =
            fs::read_to_string(roots.udev.join(format!("data/b{major}:{minor}"))).ok()?;
        let value = |key: &&str| {
            database
                .lines()
                .find_map(|line| line.strip_prefix("E:")?.strip_prefix(*key)?.strip_prefix('='))
        };
        keys.iter().find_map(value).and_then(|value| clean(value.as_bytes()))
    }
}

/// How a disk is attached, judged by its name and its place in the device tree.
fn transport(dir: &Path, name: &str) -> Option<&'static str> {
    let numbered = |prefix: &str| {
        dir.iter()
            .filter_map(|part| part.to_str()?.strip_prefix(prefix))
            .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let found = match name {
        _ if name.starts_with("loop") => "loop",
        _ if name.starts_with("nvme") => "nvme",
        _ if numbered("usb") => "usb",
        _ if name.starts_with("mmcblk") => "mmc",
        _ if name.starts_with("vd") && numbered("virtio") => "virtio",
        _ if name.starts_with("xvd") => "xen",
        _ if name.starts_with("nbd") => "nbd",
        _ if numbered("ata") => "sata",
        _ if numbered("end_device-") => "sas",
        _ if numbered("session") => "iscsi",
        _ if numbered("rport-") => "fc",
        _ if numbered("host") => "scsi",
        _ => return None,
    };
    Some(found)
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(ATTRIBUTE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads an attribute as [clean] text.
pub(crate) fn text(dir: &Path, attribute: &str) -> Option<String> {
    clean(&bytes(&dir.join(attribute))?)
}

/// Trims text. `None` if nothing is left, it is not UTF-8, or it has control characters, since it
/// is shown on terminals.
pub(crate) fn clean(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Parses a device number such as `8:1`.
pub(super) fn parse_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
