//! The stick that the machine was started from: its images, and the words of its `bty.txt`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::grow;
use crate::words::Words;

/// Label of the partition for images.
pub(crate) const LABEL: &str = "BTY_IMAGES";
/// Directory for images on media that are not bty's own, such as those of Ventoy.
const DIRECTORY: &str = "bty-images";
const PLACE: &str = "/run/bty-live/stick";

/// A stick with images.
pub(crate) struct Stick {
    /// Its partition.
    pub(crate) device: String,
    /// Where its images are.
    pub(crate) images: String,
    /// What its `bty.txt` says.
    pub(crate) words: Words,
}

/// A file system as `blkid` sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    device: String,
    label: String,
    kind: String,
}

/// Looks for it. The partition for images is grown first when there is room behind it.
pub(crate) fn find(say: &mut dyn FnMut(&str)) -> Option<Stick> {
    let output = Command::new("/sbin/blkid").output().ok()?;
    let seen = parse(&String::from_utf8_lossy(&output.stdout));
    if let Some(own) = seen.iter().find(|seen| seen.label == LABEL) {
        return own_partition(own, say);
    }
    // nothing of a built-in disk is mounted: it may be the one to be written
    let foreign = seen.iter().filter(|seen| ["vfat", "exfat", "iso9660"].contains(&seen.kind.as_str()));
    foreign.filter(|seen| is_removable(&seen.device)).find_map(|seen| {
        mount_it(seen)?;
        let images = Path::new(PLACE).join(DIRECTORY);
        if images.is_dir() {
            return Some(stick(seen, &images));
        }
        let _ = unmount(PLACE, UnmountFlags::empty());
        None
    })
}

fn own_partition(own: &Seen, say: &mut dyn FnMut(&str)) -> Option<Stick> {
    match disk_of(&own.device)
        .ok_or_else(|| "its disk is not known".to_owned())
        .and_then(|disk| grow::disk(&disk, Path::new("/sys")))
    {
        Ok(grow::Grown::Already) => {}
        Ok(grown) => say(&format!("images: {grown}")),
        // too small is still good enough
        Err(why) => say(&format!("images: the partition stays as it is: {why}")),
    }
    mount_it(own)?;
    Some(stick(own, Path::new(PLACE)))
}

fn stick(seen: &Seen, images: &Path) -> Stick {
    let words = ["bty.txt", "BTY.TXT"].iter().find_map(|name| fs::read_to_string(Path::new(PLACE).join(name)).ok());
    let words = words.or_else(|| fs::read_to_string(images.join("bty.txt")).ok()).unwrap_or_default();
    Stick { device: seen.device.clone(), images: images.display().to_string(), words: Words::parse(&words) }
}

fn mount_it(seen: &Seen) -> Option<()> {
    fs::create_dir_all(PLACE).ok()?;
    let flags = MountFlags::RDONLY | MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&*seen.device, PLACE, &*seen.kind, flags, None).ok()
}

/// Lines such as `/dev/sda3: LABEL="BTY_IMAGES" UUID="1234-5678" TYPE="exfat"`.
fn parse(text: &str) -> Vec<Seen> {
    let line = |line: &str| {
        let (device, rest) = line.split_once(": ")?;
        let value = |name: &str| {
            let (_, after) =
                format!(" {rest}").split_once(&format!(" {name}=\"")).map(|(a, b)| (a.to_owned(), b.to_owned()))?;
            after.split_once('"').map(|(value, _)| value.to_owned())
        };
        let label = value("LABEL").unwrap_or_default();
        Some(Seen { device: device.to_owned(), label, kind: value("TYPE").unwrap_or_default() })
    };
    text.lines().filter_map(line).collect()
}

/// The directory of a block device in sysfs.
fn sysfs(device: &str) -> Option<PathBuf> {
    fs::canonicalize(Path::new("/sys/class/block").join(device.strip_prefix("/dev/")?)).ok()
}

/// The disk that a partition is on.
fn disk_of(device: &str) -> Option<PathBuf> {
    let disk = sysfs(device)?.parent()?.file_name()?.to_owned();
    Some(Path::new("/dev").join(disk))
}

fn is_removable(device: &str) -> bool {
    let Some(dir) = sysfs(device) else { return false };
    let is = |dir: &Path| fs::read_to_string(dir.join("removable")).is_ok_and(|text| text.trim() == "1");
    dir.to_string_lossy().contains("/usb") || is(&dir) || dir.parent().is_some_and(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_known_by_their_labels() {
        let text = "/dev/sda3: LABEL=\"BTY_IMAGES\" UUID=\"1234-5678\" TYPE=\"exfat\"\n/dev/sda2: UUID=\"x\" TYPE=\"vfat\"\nnonsense\n";
        let seen = |device: &str, label: &str, kind: &str| Seen {
            device: device.into(),
            label: label.into(),
            kind: kind.into(),
        };
        assert_eq!(parse(text), [seen("/dev/sda3", "BTY_IMAGES", "exfat"), seen("/dev/sda2", "", "vfat")]);
    }
}
