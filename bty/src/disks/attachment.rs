//! Where a disk is attached, in the notation of udev's `/dev/disk/by-path`.
//!
//! Computed from sysfs, since a live environment runs no udev. Names a place, not a disk: what is
//! plugged in there instead has the same name.

use std::fs;
use std::path::Path;

/// The place of the disk whose directory in sysfs is `dir`, such as `pci-0000:00:1f.2-ata-1`.
/// Absent for disks that are attached to nothing that has a place, such as loop devices.
pub(super) fn by_path(dir: &Path) -> Option<String> {
    // from the disk to the bus, so the last part of the name first
    let mut parts: Vec<String> = Vec::new();
    parts.extend(namespace(dir));
    let mut is_ata = false;
    for dir in dir.ancestors().skip(1) {
        let name = dir.file_name()?.to_str()?;
        match subsystem(dir).as_deref() {
            Some("pci") => return Some(whole(&format!("pci-{name}"), &parts)),
            Some("platform") => return Some(whole(&format!("platform-{name}"), &parts)),
            Some("usb") if name.contains(':') && !has_usb(&parts) => {
                let ports = name.split_once('-').map_or(name, |(_, ports)| ports);
                parts.push(format!("usb-0:{ports}"));
            }
            Some("scsi") if !is_ata => parts.extend(scsi_address(dir, name)),
            _ => {}
        }
        if let Some(port) = ata_port(dir, name) {
            is_ata = true;
            parts.retain(|part| !part.starts_with("scsi-"));
            parts.push(format!("ata-{port}"));
        }
    }
    None
}

fn whole(bus: &str, parts: &[String]) -> String {
    parts.iter().rev().fold(bus.to_owned(), |path, part| format!("{path}-{part}"))
}

fn has_usb(parts: &[String]) -> bool {
    parts.iter().any(|part| part.starts_with("usb-"))
}

fn subsystem(dir: &Path) -> Option<String> {
    let link = fs::read_link(dir.join("subsystem")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// The namespace of an NVMe disk: several can belong to one device.
fn namespace(dir: &Path) -> Option<String> {
    let is_nvme = dir.file_name()?.to_str()?.starts_with("nvme");
    let id = fs::read_to_string(dir.join("nsid")).ok().filter(|_| is_nvme)?;
    Some(format!("nvme-{}", id.trim()))
}

/// `scsi-HOST:CHANNEL:TARGET:LUN`. The kernel numbers hosts in the order in which they appear, so
/// the number is relative to the first host of the same adapter.
fn scsi_address(dir: &Path, name: &str) -> Option<String> {
    let numbers: Vec<u64> = name.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let &[host, channel, target, lun] = &numbers[..] else { return None };
    let number = |name: &str| name.strip_prefix("host")?.parse::<u64>().ok();
    let is_host = |dir: &&Path| dir.file_name().and_then(|n| n.to_str()).and_then(number).is_some();
    let adapter = dir.ancestors().find(is_host)?.parent()?;
    let hosts = fs::read_dir(adapter).ok()?.flatten();
    let first = hosts.filter_map(|entry| number(entry.file_name().to_str()?)).min()?;
    Some(format!("scsi-{}:{channel}:{target}:{lun}", host.saturating_sub(first)))
}

/// The number of the port on its adapter, for the directory `ataN`.
fn ata_port(dir: &Path, name: &str) -> Option<String> {
    name.strip_prefix("ata")?.parse::<u64>().ok()?;
    let port = fs::read_to_string(dir.join("ata_port").join(name).join("port_no")).ok()?;
    Some(port.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A sysfs with one disk: directories from the root to the disk, each with its subsystem.
    struct SysfsDisk {
        _root: tempfile::TempDir,
        disk: PathBuf,
    }

    fn tree(dirs: &[(&str, &str)], files: &[(&str, &str)]) -> SysfsDisk {
        let root = tempfile::tempdir().unwrap();
        let mut dir = root.path().to_owned();
        for (name, subsystem) in dirs {
            dir.push(name);
            fs::create_dir_all(&dir).unwrap();
            if !subsystem.is_empty() {
                symlink(Path::new("/sys/bus").join(subsystem), dir.join("subsystem")).unwrap();
            }
        }
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        SysfsDisk { _root: root, disk: dir }
    }

    #[test]
    fn places_have_the_names_that_udev_gives_them() {
        let pci = ("0000:00:1f.2", "pci");
        let sata = tree(
            &[
                pci,
                ("ata3", ""),
                ("host2", "scsi"),
                ("2:0:0:0", "scsi"),
                ("block", ""),
                ("sda", "block"),
            ],
            &[("0000:00:1f.2/ata3/ata_port/ata3/port_no", "3\n")],
        );
        assert_eq!(by_path(&sata.disk).as_deref(), Some("pci-0000:00:1f.2-ata-3"));
        let usb = tree(
            &[
                ("0000:00:14.0", "pci"),
                ("usb1", "usb"),
                ("1-1", "usb"),
                ("1-1:1.0", "usb"),
                ("host6", "scsi"),
                ("6:0:0:1", "scsi"),
                ("block", ""),
                ("sdb", "block"),
            ],
            &[],
        );
        let place = "pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:1";
        assert_eq!(by_path(&usb.disk).as_deref(), Some(place));
        let nvme = tree(
            &[("0000:01:00.0", "pci"), ("nvme", ""), ("nvme0", "nvme"), ("nvme0n2", "block")],
            &[("0000:01:00.0/nvme/nvme0/nvme0n2/nsid", "2\n")],
        );
        assert_eq!(by_path(&nvme.disk).as_deref(), Some("pci-0000:01:00.0-nvme-2"));
        let virtio = tree(
            &[("0000:00:05.0", "pci"), ("virtio2", "virtio"), ("block", ""), ("vda", "block")],
            &[],
        );
        assert_eq!(by_path(&virtio.disk).as_deref(), Some("pci-0000:00:05.0"));
        let mmc =
            tree(&[("3f202000.mmc", "platform"), ("mmc0", "mmc_host"), ("mmcblk0", "block")], &[]);
        assert_eq!(by_path(&mmc.disk).as_deref(), Some("platform-3f202000.mmc"));
        let virtual_disk = tree(&[("virtual", ""), ("block", ""), ("loop0", "block")], &[]);
        assert_eq!(by_path(&virtual_disk.disk), None);
    }
}
