//! The stick that the machine was started from: its images, and the words of its `bty.txt`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::exfat::ExFat;
use crate::grow;
use crate::words::Words;

/// Label of the partition for images.
pub(crate) const LABEL: &str = "BTY_IMAGES";
/// Directory for images on media that are not bty's own, such as those of Ventoy.
const DIRECTORY: &str = "bty-images";
const PLACE: &str = "/run/bty-live/stick";
/// Where `bty` looks for images.
const IMAGES: &str = "/var/lib/bty/images";
const BLOCK: &str = "/sys/class/block";

/// A stick with images.
pub(crate) struct Stick {
    /// Its partition.
    pub(crate) device: String,
    /// What its `bty.txt` says.
    pub(crate) words: Words,
}

/// A file system of the kinds that media have.
#[derive(Debug, PartialEq)]
pub(crate) struct FileSystem {
    /// What it is on, `/dev/sda3`.
    pub(crate) device: String,
    /// As the kernel calls it.
    pub(crate) kind: &'static str,
    /// Its label; unknown for FAT, where nobody asks.
    pub(crate) label: String,
}

/// Looks for it. The partition for images is grown first when there is room behind it.
pub(crate) fn find(say: &mut dyn FnMut(&str)) -> Option<Stick> {
    let seen = file_systems();
    if let Some(own) = seen.iter().find(|seen| seen.label == LABEL) {
        return own_partition(own, say);
    }
    // nothing of a built-in disk is mounted: it may be the one to be written
    seen.iter().filter(|seen| is_removable(&seen.device)).find_map(|seen| {
        mount_it(seen)?;
        let images = Path::new(PLACE).join(DIRECTORY);
        if images.is_dir() {
            return Some(stick(seen, &images));
        }
        let _ = unmount(PLACE, UnmountFlags::empty());
        None
    })
}

fn own_partition(own: &FileSystem, say: &mut dyn FnMut(&str)) -> Option<Stick> {
    let disk = disk_of(&own.device).ok_or_else(|| "its disk is not known".to_owned());
    match disk.and_then(|disk| grow::disk(&disk, Path::new("/sys"))) {
        Ok(grow::Grown::Already) => {}
        Ok(grown) => say(&format!("images: {grown}")),
        // too small is still good enough
        Err(why) => say(&format!("images: the partition stays as it is: {why}")),
    }
    mount_it(own)?;
    Some(stick(own, Path::new(PLACE)))
}

fn stick(seen: &FileSystem, images: &Path) -> Stick {
    let words = [Path::new(PLACE), images]
        .iter()
        .find_map(|dir| fs::read_to_string(dir.join("bty.txt")).ok());
    let words = Words::parse(&words.unwrap_or_default());
    let _ = fs::create_dir_all(IMAGES).map(|()| mount_bind(images, IMAGES));
    Stick { device: seen.device.clone(), words }
}

fn mount_it(seen: &FileSystem) -> Option<()> {
    fs::create_dir_all(PLACE).ok()?;
    let flags = MountFlags::RDONLY | MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&*seen.device, PLACE, seen.kind, flags, None).ok()
}

/// The file systems of all block devices.
pub(crate) fn file_systems() -> Vec<FileSystem> {
    let entries = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let see = |name: String| {
        let device = format!("/dev/{name}");
        let (kind, label) = recognise(&File::open(&device).ok()?)?;
        Some(FileSystem { device, kind, label })
    };
    names.into_iter().filter_map(see).collect()
}

/// Kind and label of what is in a file or device.
fn recognise(mut file: &File) -> Option<(&'static str, String)> {
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
fn sysfs(device: &str) -> Option<PathBuf> {
    fs::canonicalize(Path::new(BLOCK).join(device.strip_prefix("/dev/")?)).ok()
}

/// The disk that a partition is on.
fn disk_of(device: &str) -> Option<PathBuf> {
    let disk = sysfs(device)?.parent()?.file_name()?.to_owned();
    Some(Path::new("/dev").join(disk))
}

fn is_removable(device: &str) -> bool {
    let Some(dir) = sysfs(device) else { return false };
    let is =
        |dir: &Path| fs::read_to_string(dir.join("removable")).is_ok_and(|text| text.trim() == "1");
    dir.to_string_lossy().contains("/usb") || is(&dir) || dir.parent().is_some_and(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(bytes: &[u8]) -> Option<(&'static str, String)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        recognise(&File::open(file.path()).unwrap())
    }

    #[test]
    fn media_are_known_by_what_is_on_them() {
        let mut iso = vec![0; 40_000];
        iso[32_768..32_774].copy_from_slice(b"\x01CD001");
        iso[32_808..32_840].copy_from_slice(b"BTY_USB                         ");
        assert_eq!(recognised(&iso), Some(("iso9660", "BTY_USB".into())));
        let mut fat = vec![0; 4096];
        fat[82..87].copy_from_slice(b"FAT32");
        fat[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(recognised(&fat), Some(("vfat", String::new())));
        assert_eq!(recognised(&[0; 40_000]), None);
        assert_eq!(recognised(b"short"), None);
    }
}
