//! The stick that the machine was started from: its images, and the parameters in its `bty.txt`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::exfat::ExFat;
use crate::grow::{self, LABEL};
use crate::kernel_args::KernelArgs;

/// Directory of images on sticks that bty did not make, such as those of Ventoy.
const DIRECTORY: &str = "bty-images";
const MOUNT_POINT: &str = "/run/bty-live/stick";
/// Directory in which `bty` looks for images.
const IMAGES: &str = "/var/lib/bty/images";
const BLOCK: &str = "/sys/class/block";

/// A stick with images, which is mounted.
pub(crate) struct Stick {
    /// The partition with the images, such as `/dev/sda3`.
    pub(crate) device: String,
    /// The parameters in its `bty.txt`.
    pub(crate) args: KernelArgs,
}

/// A file system of a kind that is common on sticks and CDs.
#[derive(Debug, PartialEq)]
pub(crate) struct FileSystem {
    /// The partition or disk, such as `/dev/sda3`.
    pub(crate) device: String,
    /// The kernel's name for the kind: `exfat`, `vfat` or `iso9660`.
    pub(crate) kind: &'static str,
    /// The label; always empty for FAT.
    pub(crate) label: String,
}

/// Finds and mounts the stick. If there is room after the images partition, grows it first, and
/// prints that.
pub(crate) fn find(print: &mut dyn FnMut(&str)) -> Option<Stick> {
    let found = file_systems();
    if let Some(partition) = found.iter().find(|system| system.label == LABEL) {
        return use_images_partition(partition, print);
    }
    // nothing on built-in disks is mounted, because one of them may be the target
    found.iter().filter(|system| is_removable(&system.device)).find_map(|system| {
        mount_read_only(system)?;
        let images = Path::new(MOUNT_POINT).join(DIRECTORY);
        if images.is_dir() {
            return Some(use_images(system, &images));
        }
        let _ = unmount(MOUNT_POINT, UnmountFlags::empty());
        None
    })
}

fn use_images_partition(partition: &FileSystem, print: &mut dyn FnMut(&str)) -> Option<Stick> {
    let disk = disk_of(&partition.device).ok_or_else(|| "its disk is unknown".to_owned());
    match disk.and_then(|disk| grow::grow_partition(&disk, Path::new("/sys"))) {
        Ok(grow::Outcome::Unchanged) => {}
        Ok(outcome) => print(&format!("images: {outcome}")),
        // the partition is usable at its present size too
        Err(why) => print(&format!("images: the partition was not grown: {why}")),
    }
    mount_read_only(partition)?;
    Some(use_images(partition, Path::new(MOUNT_POINT)))
}

/// Reads `bty.txt` and shows the directory `images` to `bty`.
fn use_images(system: &FileSystem, images: &Path) -> Stick {
    let text = [Path::new(MOUNT_POINT), images]
        .iter()
        .find_map(|dir| fs::read_to_string(dir.join("bty.txt")).ok());
    let args = KernelArgs::parse(&text.unwrap_or_default());
    let _ = fs::create_dir_all(IMAGES).map(|()| mount_bind(images, IMAGES));
    Stick { device: system.device.clone(), args }
}

fn mount_read_only(system: &FileSystem) -> Option<()> {
    fs::create_dir_all(MOUNT_POINT).ok()?;
    let flags = MountFlags::RDONLY | MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&*system.device, MOUNT_POINT, system.kind, flags, None).ok()
}

/// The file systems of all block devices, sorted by device.
pub(crate) fn file_systems() -> Vec<FileSystem> {
    let entries = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let probe_device = |name: String| {
        let device = format!("/dev/{name}");
        let (kind, label) = probe(&File::open(&device).ok()?)?;
        Some(FileSystem { device, kind, label })
    };
    names.into_iter().filter_map(probe_device).collect()
}

/// Kind and label of the file system in a file or device.
fn probe(mut file: &File) -> Option<(&'static str, String)> {
    let mut head = [0; 512];
    file.rewind().and_then(|()| file.read_exact(&mut head)).ok()?;
    if &head[3..11] == b"EXFAT   " {
        return Some((
            "exfat",
            ExFat::open(file, 0).and_then(|system| system.label()).unwrap_or_default(),
        ));
    }
    if head[510..] == [0x55, 0xaa] && (&head[54..57] == b"FAT" || &head[82..85] == b"FAT") {
        return Some(("vfat", String::new()));
    }
    // ECMA-119, 8.4: the primary volume descriptor is in sector 16
    let mut volume = [0; 72];
    file.seek(SeekFrom::Start(16 * 2048)).and_then(|_| file.read_exact(&mut volume)).ok()?;
    let label = String::from_utf8_lossy(&volume[40..72]).trim_end().to_owned();
    (&volume[..6] == b"\x01CD001").then_some(("iso9660", label))
}

/// The directory of a block device in sysfs.
fn sysfs_dir(device: &str) -> Option<PathBuf> {
    fs::canonicalize(Path::new(BLOCK).join(device.strip_prefix("/dev/")?)).ok()
}

/// The disk that contains a partition.
fn disk_of(device: &str) -> Option<PathBuf> {
    let disk = sysfs_dir(device)?.parent()?.file_name()?.to_owned();
    Some(Path::new("/dev").join(disk))
}

fn is_removable(device: &str) -> bool {
    let Some(dir) = sysfs_dir(device) else { return false };
    let has_flag =
        |dir: &Path| fs::read_to_string(dir.join("removable")).is_ok_and(|text| text.trim() == "1");
    dir.to_string_lossy().contains("/usb") || has_flag(&dir) || dir.parent().is_some_and(has_flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe_bytes(bytes: &[u8]) -> Option<(&'static str, String)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        probe(&File::open(file.path()).unwrap())
    }

    #[test]
    fn file_systems_are_recognized_by_their_content() {
        let mut iso = vec![0; 40_000];
        iso[32_768..32_774].copy_from_slice(b"\x01CD001");
        iso[32_808..32_840].copy_from_slice(b"BTY_USB                         ");
        assert_eq!(probe_bytes(&iso), Some(("iso9660", "BTY_USB".into())));
        let mut fat = vec![0; 4096];
        fat[82..87].copy_from_slice(b"FAT32");
        fat[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(probe_bytes(&fat), Some(("vfat", String::new())));
        assert_eq!(probe_bytes(&[0; 40_000]), None);
        assert_eq!(probe_bytes(b"short"), None);
    }
}
