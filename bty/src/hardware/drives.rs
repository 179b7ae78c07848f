//! Disks in the two formats of an inventory: that of `lsblk`, and that of `lshw`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::disks::{Disk, Partition, TableKind, Use};
use crate::hardware::node::{HardwareNode, truncated};
use crate::hardware::pci::{self, Attached};
use crate::hardware::{HardwareRoots, InventoryDisk};

impl From<&Disk> for InventoryDisk {
    fn from(disk: &Disk) -> Self {
        let short = |text: &Option<String>, chars_max: usize| {
            text.as_ref().map(|text| truncated(text, chars_max))
        };
        Self {
            path: truncated(&disk.path.display().to_string(), 255),
            size: size_text(disk.size_bytes),
            size_bytes: disk.size_bytes,
            type_: "disk".to_owned(),
            vendor: short(&disk.vendor, 64),
            model: short(&disk.model, 128),
            serial: short(&disk.serial, 128),
            wwn: short(&disk.wwn, 255),
            by_path: short(&disk.by_path, 255),
            tran: short(&disk.transport, 32),
            removable: disk.is_removable,
            readonly: disk.is_read_only,
            mountpoints: mountpoints(disk, None),
        }
    }
}

/// Mount points of `disk`, or only of the device `device` on it.
fn mountpoints(disk: &Disk, device: Option<&Path>) -> Vec<String> {
    let mut found = Vec::new();
    for used in &disk.uses {
        let (at, place) = match used {
            Use::Mounted { device, mountpoint } => (device, mountpoint.display().to_string()),
            Use::Swap { device } => (device, "[SWAP]".to_owned()),
            _ => continue,
        };
        if device.is_none_or(|device| device == at) && !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

/// The name of the device at `path`, which is `disk` or a partition of it. If it is mounted, a list
/// of the name and the mount points.
fn logical_names(disk: &Disk, path: &Path) -> Value {
    let name = path.display().to_string();
    let places = mountpoints(disk, Some(path));
    if places.is_empty() { name.into() } else { [vec![name], places].concat().into() }
}

/// A size in the notation of `lsblk`: one decimal, which is left out when it is zero.
fn size_text(bytes: u64) -> String {
    const UNITS: [char; 7] = ['B', 'K', 'M', 'G', 'T', 'P', 'E'];
    let exponent = bytes.checked_ilog2().unwrap_or(0) / 10;
    let unit = 1u64 << (10 * exponent);
    // `lsblk` rounds to thousandths first, and those half up
    let thousandths = u128::from(bytes % unit) * 1000 / u128::from(unit);
    let tenths = (thousandths + 50) / 100;
    let whole = u128::from(bytes / unit) + tenths / 10;
    let letter = UNITS[exponent as usize];
    match tenths % 10 {
        0 => format!("{whole}{letter}"),
        tenth => format!("{whole}.{tenth}{letter}"),
    }
}

/// The disk as a node, to be put below the PCI device that it is attached to.
pub(super) fn attach(disk: &Disk, roots: &HardwareRoots) -> Attached {
    // sysfs writes the slash of a device in a subdirectory of /dev (cciss/c0d0) as `!`
    let name = disk.path.strip_prefix("/dev").ok().or_else(|| disk.path.file_name().map(Path::new));
    let name = name.map(|name| name.display().to_string().replace('/', "!")).unwrap_or_default();
    let dir = fs::canonicalize(roots.sys.join("block").join(&name)).ok();
    Attached {
        to: dir.as_deref().and_then(pci::address_in),
        is_network: false,
        node: node(disk, dir.as_deref().and_then(|dir| businfo(dir, &name))),
    }
}

fn node(disk: &Disk, businfo: Option<String>) -> HardwareNode {
    let description = match disk.transport.as_deref() {
        Some("nvme") => "NVMe disk",
        Some("sata") => "ATA Disk",
        Some("virtio") => "Virtual I/O device",
        Some("mmc") => "SD/MMC Device",
        Some("usb" | "scsi" | "sas" | "iscsi" | "fc") => "SCSI Disk",
        _ => "Disk",
    };
    let mut node = HardwareNode::new("disk", "disk")
        .claimed()
        .described(description)
        .with("logicalname", Some(logical_names(disk, &disk.path)))
        .with("businfo", businfo)
        .with("product", disk.model.clone())
        // the kernel reports "ATA" as the vendor of every disk that is not a SCSI disk
        .with("vendor", disk.vendor.clone().filter(|vendor| vendor != "ATA"))
        .with("serial", disk.serial.clone())
        .sized(Some(disk.size_bytes), "bytes")
        .configured("logicalsectorsize", Some(disk.logical_sector_bytes.to_string()))
        .configured("sectorsize", Some(disk.physical_sector_bytes.to_string()))
        .configured("transport", disk.transport.clone())
        .children(disk.partitions.iter().map(|partition| volume(disk, partition)));
    node = match disk.table {
        Some(TableKind::Gpt) => node.capable("gpt-1.00", "GUID Partition Table version 1.00"),
        Some(TableKind::Mbr) => node.capable("partitioned:dos", "MS-DOS partition table"),
        None => node,
    };
    if disk.table.is_some() {
        node = node.capable("partitioned", "Partitioned disk");
    }
    if disk.is_removable { node.capable("removable", "support is removable") } else { node }
}

fn volume(disk: &Disk, partition: &Partition) -> HardwareNode {
    let content = partition.content.as_ref();
    HardwareNode::new("volume", "volume")
        .claimed()
        .described(&content.map_or("volume".to_owned(), |content| {
            format!("{} volume", content.kind.to_uppercase())
        }))
        .with("physid", Some(format!("{:x}", partition.number)))
        .with("logicalname", partition.path.as_deref().map(|path| logical_names(disk, path)))
        .sized(Some(partition.size_bytes), "bytes")
        .configured("filesystem", content.map(|content| content.kind.clone()))
        .configured("label", content.and_then(|content| content.label.clone()))
        .configured("name", partition.name.clone())
}

/// The address on its bus of the disk in `dir`: `scsi@2:0.0.0`, `nvme@0:1`, `virtio@1`.
fn businfo(dir: &Path, name: &str) -> Option<String> {
    if let Some((controller, namespace)) =
        name.strip_prefix("nvme").and_then(|rest| rest.split_once('n'))
    {
        return Some(format!("nvme@{controller}:{namespace}"));
    }
    let part = |part: &str| {
        if let Some(number) = part.strip_prefix("virtio") {
            return number.bytes().all(|b| b.is_ascii_digit()).then(|| format!("virtio@{number}"));
        }
        let numbers: Vec<u32> = part.split(':').map_while(|number| number.parse().ok()).collect();
        match (&numbers[..], part.matches(':').count()) {
            ([host, channel, target, unit], 3) => {
                Some(format!("scsi@{host}:{channel}.{target}.{unit}"))
            }
            _ => None,
        }
    };
    dir.iter().rev().filter_map(|component| component.to_str()).find_map(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_sizes_as_lsblk_does() {
        for (bytes, text) in [
            (0, "0B"),
            (511, "511B"),
            (1024, "1K"),
            (512 << 20, "512M"),
            (500_107_862_016, "465.8G"),
            (16_008_609_792, "14.9G"),
            (4_000_787_030_016, "3.6T"),
            ((1 << 30) - 1, "1024M"),
            (256 << 30, "256G"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
