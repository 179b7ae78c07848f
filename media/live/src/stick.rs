//! Sticks and other removable media: their images, and the settings in `bty.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::exfat::ExFat;
use crate::grow::{self, LABEL};
use crate::settings_file::Settings;

/// Directory of images on media that bty did not make, such as those of Ventoy.
const DIRECTORY: &str = "bty-images";
/// Label of the file system with the environments, on the stick and on the CD.
pub(crate) const BOOT_LABEL: &str = "BTY_USB";
/// Directory of mount points, named after their devices.
const MOUNTS: &str = "/run/bty-live/media";
/// Directory in which `bty` looks for images: those of the first medium.
pub(crate) const IMAGES: &str = "/var/lib/bty/images";
/// Directory with a directory of images for each further medium.
pub(crate) const FURTHER_IMAGES: &str = "/run/bty-live/images";
const BLOCK: &str = "/sys/class/block";
/// Nothing on a medium is executed, and nothing is written to it.
const READ_ONLY: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOATIME)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOSUID);

/// The media with images, which are mounted.
#[derive(Default)]
pub(crate) struct Media {
    /// By name of the device, such as `sda3`.
    mounted: BTreeMap<String, Medium>,
    /// Devices that need no other look: they are mounted, or have no images.
    seen: BTreeSet<String>,
    /// Devices that were there at the last poll.
    last: BTreeSet<String>,
}

struct Medium {
    /// Where `bty` sees the images.
    images: PathBuf,
    /// True for the images partition of a stick, which has room for files.
    is_own: bool,
}

/// A medium that was not there before.
pub(crate) struct Found {
    /// The partition with the images, such as `/dev/sda3`.
    pub(crate) device: String,
    /// The settings in its `bty.txt`.
    pub(crate) settings: Settings,
}

/// A file system of a kind that is common on sticks and CDs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileSystem {
    /// The partition or disk, such as `/dev/sda3`.
    pub(crate) device: String,
    pub(crate) is_partition: bool,
    /// The kernel's name for the kind, such as `exfat`.
    pub(crate) kind: &'static str,
    /// The label; always empty for FAT and NTFS.
    pub(crate) label: String,
}

impl Media {
    /// Mounts media that have appeared, and unmounts those that are gone. If there is room after
    /// the images partition of a stick, grows it first. Prints that, and which media are skipped.
    ///
    /// While `is_flashing`, new partitions of disks that were there before are left alone: they are
    /// those of an image that was just written.
    pub(crate) fn poll(&mut self, is_flashing: bool, print: &mut dyn FnMut(&str)) -> Vec<Found> {
        let present = block_devices();
        let is_gone = |name: &&String| !present.contains(*name);
        let gone: Vec<String> = self.mounted.keys().filter(is_gone).cloned().collect();
        for name in gone {
            self.mounted.remove(&name).into_iter().for_each(|medium| release(&name, &medium));
        }
        self.seen.retain(|name| present.contains(name));
        // the partitions of a disk appear a moment after it
        let settled = present.iter().filter(|name| self.last.contains(*name));
        let new = settled.filter(|name| {
            // opening the drive of a CD closes its tray
            if is_flashing && name.starts_with("sr") {
                return false;
            }
            let disk = disk_name(name).filter(|_| is_flashing);
            !self.seen.contains(*name) && disk.is_none_or(|disk| !self.seen.contains(&disk))
        });
        let opened: Vec<(&String, File)> =
            new.filter_map(|name| Some((name, File::open(format!("/dev/{name}")).ok()?))).collect();
        self.seen.extend(opened.iter().map(|(name, _)| (*name).clone()));
        let new = opened.iter().filter_map(|(name, file)| FileSystem::examine(name, file));
        let new: Vec<FileSystem> = new.collect();
        drop(opened);
        let own: Vec<_> = new.iter().filter(|system| system.is_own()).map(disk_of).collect();
        let mut found = Vec::new();
        for system in new {
            // of a stick that bty has made, only the images partition has images
            if system.label == BOOT_LABEL || !system.is_own() && own.contains(&disk_of(&system)) {
                continue;
            }
            match self.take(&system, print) {
                Ok(settings) => found.extend(
                    settings.map(|settings| Found { device: system.device.clone(), settings }),
                ),
                Err(why) => print(&format!("images: {} is skipped: {why}", system.device)),
            }
        }
        self.last = present;
        found
    }

    /// True if a medium with images is there.
    pub(crate) fn has_images(&self) -> bool {
        !self.mounted.is_empty()
    }

    /// Mounts a medium if it has images. `None` for built-in disks, of which nothing is mounted,
    /// because one of them may be the target.
    fn take(
        &mut self,
        system: &FileSystem,
        print: &mut dyn FnMut(&str),
    ) -> Result<Option<Settings>, String> {
        let is_own = system.label == LABEL;
        if !is_own && !is_removable(&system.device) {
            return Ok(None);
        }
        if is_own {
            grow_partition(system, print);
        }
        let name = system.name();
        let place = Path::new(MOUNTS).join(name);
        mount_read_only(system, &place)?;
        let source = if is_own { place.clone() } else { place.join(DIRECTORY) };
        if !source.is_dir() {
            let _ = unmount(&place, UnmountFlags::empty());
            return Err(format!("it has no directory {DIRECTORY} ({})", system.kind));
        }
        let is_first = self.mounted.values().all(|medium| medium.images != Path::new(IMAGES));
        let images = if is_first { IMAGES.into() } else { Path::new(FURTHER_IMAGES).join(name) };
        fs::create_dir_all(&images)
            .and_then(|()| Ok(mount_bind(&source, &images)?))
            .map_err(|e| format!("cannot show its images: {e}"))?;
        let settings = Settings::read(&[&place, &source]);
        self.mounted.insert(name.to_owned(), Medium { images, is_own });
        Ok(Some(settings))
    }

    /// Writes a file to the images partition of a stick.
    pub(crate) fn save(&self, file: &str, content: &[u8]) -> Result<(), String> {
        let own = self.mounted.iter().find(|(_, medium)| medium.is_own);
        let (name, _) = own.ok_or_else(|| format!("no medium has the label {LABEL}"))?;
        let place = Path::new(MOUNTS).join(name);
        mount_remount(&place, READ_ONLY - MountFlags::RDONLY, "").map_err(|e| e.to_string())?;
        let written = File::create(place.join(file)).and_then(|mut created| {
            std::io::Write::write_all(&mut created, content)?;
            created.sync_all()
        });
        let back = mount_remount(&place, READ_ONLY, "");
        written.map_err(|e| e.to_string()).and(back.map_err(|e| e.to_string()))
    }
}

impl FileSystem {
    /// The file system on the device `name`, if it is of one of these kinds.
    fn examine(name: &str, file: &File) -> Option<Self> {
        let (kind, label) = probe(file)?;
        let is_partition = Path::new(BLOCK).join(name).join("partition").exists();
        Some(Self { device: format!("/dev/{name}"), is_partition, kind, label })
    }

    /// Name of the device without its directory.
    fn name(&self) -> &str {
        self.device.strip_prefix("/dev/").unwrap_or(&self.device)
    }

    /// True on media that bty has made.
    fn is_own(&self) -> bool {
        [LABEL, BOOT_LABEL].contains(&&*self.label)
    }
}

/// Unmounts a medium, which may have been pulled out.
fn release(name: &str, medium: &Medium) {
    let _ = unmount(&medium.images, UnmountFlags::DETACH);
    let _ = unmount(Path::new(MOUNTS).join(name), UnmountFlags::DETACH);
    if medium.images.starts_with(FURTHER_IMAGES) {
        let _ = fs::remove_dir(&medium.images);
    }
}

fn grow_partition(partition: &FileSystem, print: &mut dyn FnMut(&str)) {
    match grow::grow_partition(&disk_of(partition), Path::new("/sys")) {
        Ok(grow::Outcome::Unchanged) => {}
        Ok(outcome) => print(&format!("images: {outcome}")),
        // the partition is usable at its present size too
        Err(why) => print(&format!("images: the partition was not grown: {why}")),
    }
}

pub(crate) fn mount_read_only(system: &FileSystem, place: &Path) -> Result<(), String> {
    fs::create_dir_all(place).map_err(|e| e.to_string())?;
    if matches!(system.kind, "ext4" | "ntfs3") {
        // the other kinds are loaded at the start
        let _ = Command::new("/sbin/modprobe").arg(system.kind).status();
    }
    // without this, ext4 writes the changes in its journal even if it is mounted read-only
    let options = if system.kind == "ext4" { c"noload" } else { c"" };
    mount(&*system.device, place, system.kind, READ_ONLY, options)
        .map_err(|e| format!("cannot mount its {} file system: {e}", system.kind))
}

/// Names of all block devices, sorted.
fn block_devices() -> BTreeSet<String> {
    let entries = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The file systems of all block devices, sorted by device.
pub(crate) fn file_systems() -> Vec<FileSystem> {
    let names = block_devices();
    let examine =
        |name: &String| FileSystem::examine(name, &File::open(format!("/dev/{name}")).ok()?);
    names.iter().filter_map(examine).collect()
}

/// The disk that this machine was started from; none if that is unknown, as with two sticks.
pub(crate) fn boot_disk() -> Option<PathBuf> {
    let all = file_systems();
    let boot = all.iter().filter(|system| system.label == BOOT_LABEL);
    let disks: BTreeSet<PathBuf> = boot.map(disk_of).collect();
    disks.iter().next().filter(|_| disks.len() == 1).cloned()
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
    if &head[3..11] == b"NTFS    " {
        return Some(("ntfs3", String::new()));
    }
    if head[510..] == [0x55, 0xaa] && (&head[54..57] == b"FAT" || &head[82..85] == b"FAT") {
        return Some(("vfat", String::new()));
    }
    let mut superblock = [0; 136];
    if file.seek(SeekFrom::Start(1024)).and_then(|_| file.read_exact(&mut superblock)).is_ok()
        && superblock[56..58] == [0x53, 0xef]
    {
        let label = superblock[120..].split(|byte| *byte == 0).next().unwrap_or_default();
        return Some(("ext4", String::from_utf8_lossy(label).into_owned()));
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

/// Name of the disk that contains a partition; none for a disk.
fn disk_name(name: &str) -> Option<String> {
    let dir = sysfs_dir(&format!("/dev/{name}"))?;
    let disk = dir.join("partition").exists().then(|| dir.parent()?.file_name())??;
    Some(disk.to_string_lossy().into_owned())
}

/// The disk of a file system: the one that contains its partition, or its device itself.
fn disk_of(system: &FileSystem) -> PathBuf {
    let disk = disk_name(system.name());
    Path::new("/dev").join(disk.unwrap_or_else(|| system.name().to_owned()))
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
        let mut ntfs = vec![0; 4096];
        ntfs[3..11].copy_from_slice(b"NTFS    ");
        ntfs[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(probe_bytes(&ntfs), Some(("ntfs3", String::new())));
        let mut ext4 = vec![0; 4096];
        ext4[1080..1082].copy_from_slice(&[0x53, 0xef]);
        ext4[1144..1150].copy_from_slice(b"images");
        assert_eq!(probe_bytes(&ext4), Some(("ext4", "images".into())));
        assert_eq!(probe_bytes(&[0; 40_000]), None);
        assert_eq!(probe_bytes(b"short"), None);
    }
}
