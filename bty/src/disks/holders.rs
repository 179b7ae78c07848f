//! Finds the holders of a disk: mounts, swap, devices built on it, loop devices, the running
//! system.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::disks::sysfs::{BlockDevice, BlockDevices, parse_number, text};
use crate::disks::{DiskKind, Use};

/// Mounts that make up the running system.
const SYSTEM_MOUNTS: [&str; 5] = ["/", "/usr", "/boot", "/boot/efi", "/efi"];

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct MountEntry {
    /// Device number. For btrfs and overlays the kernel makes one up, which belongs to no device.
    number: Option<(u32, u32)>,
    mountpoint: PathBuf,
    fs_type: String,
    source: PathBuf,
}

/// A snapshot of everything that uses block devices.
#[derive(Debug)]
pub(super) struct Usage<'a> {
    nodes: &'a BlockDevices,
    /// Mounts, each with the names of the devices that it is on.
    mounts: Vec<(MountEntry, Vec<String>)>,
    swaps: Vec<PathBuf>,
    /// Active btrfs file systems: UUID, and names of the member devices.
    btrfs: Vec<(String, Vec<String>)>,
    /// Attached loop devices: name, and backing file.
    loops: Vec<(String, PathBuf)>,
    /// Names of the devices that the running system is on.
    system: BTreeSet<String>,
}

impl<'a> Usage<'a> {
    /// Reads sysfs and procfs. Entries that cannot be read are ignored, because opening the disk
    /// exclusively is the final check.
    pub(super) fn read(nodes: &'a BlockDevices) -> Self {
        let proc = |file: &str| fs::read(nodes.roots.proc.join(file)).unwrap_or_default();
        let mut usage = Self {
            nodes,
            mounts: Vec::new(),
            swaps: parse_swaps(&proc("swaps")),
            btrfs: read_btrfs(&nodes.roots.sys),
            loops: read_loops(nodes),
            system: BTreeSet::new(),
        };
        let mounts = parse_mounts(&proc("self/mountinfo"));
        usage.mounts = mounts
            .into_iter()
            .map(|mount| (usage.devices_of(&mount), mount))
            .map(|(d, m)| (m, d))
            .collect();
        let is_system = |mount: &MountEntry| {
            SYSTEM_MOUNTS.iter().any(|place| mount.mountpoint == Path::new(place))
        };
        let mut system = BTreeSet::new();
        for (_, devices) in usage.mounts.iter().filter(|(mount, _)| is_system(mount)) {
            for name in devices {
                usage.add_below(name, &mut system);
            }
        }
        usage.system = system;
        usage
    }

    /// Names of the devices that a mounted file system is on.
    fn devices_of(&self, mount: &MountEntry) -> Vec<String> {
        let by_number = mount.number.and_then(|number| self.nodes.by_number(number));
        let Some(node) = by_number.or_else(|| self.nodes.by_path(&mount.source)) else {
            return Vec::new();
        };
        let whole = self
            .btrfs
            .iter()
            .find(|(_, members)| mount.fs_type == "btrfs" && members.contains(&node.name));
        whole.map_or_else(|| vec![node.name.clone()], |(_, members)| members.clone())
    }

    /// Adds `name` and everything that it is built on, but not the disk of a partition.
    fn add_below(&self, name: &str, found: &mut BTreeSet<String>) {
        let Some(node) = self.nodes.by_name(name) else { return };
        if !found.insert(name.to_owned()) {
            return;
        }
        let backing = self.loops.iter().filter(|(name, _)| *name == node.name);
        let backing: Vec<String> = backing
            .filter_map(|(_, file)| self.nodes.by_path(file).map(|node| node.name.clone()))
            .collect();
        for below in node.links("slaves").iter().chain(&backing) {
            self.add_below(below, found);
        }
    }

    /// Uses of `node`: of a disk and its partitions, or of a partition and its whole disk.
    pub(super) fn of_node(&self, node: &BlockDevice) -> Vec<Use> {
        let mut uses = Vec::new();
        let mut seen = BTreeSet::new();
        let partitions = self.nodes.partitions_of(&node.name);
        let whole = node.parent.as_deref().and_then(|parent| self.nodes.by_name(parent));
        for part in std::iter::once(node).chain(partitions).chain(whole) {
            if self.system.contains(&part.name) {
                uses.push(Use::System { device: part.path.clone() });
            }
            self.add(part, &mut seen, &mut uses);
        }
        uses
    }

    /// Uses of the regular file at `path`.
    pub(super) fn of_file(&self, path: &Path) -> Vec<Use> {
        let mut uses = Vec::new();
        if self.swaps.iter().any(|swap| is_same(swap, path)) {
            uses.push(Use::Swap { device: path.to_owned() });
        }
        self.add_loops(path, &mut BTreeSet::new(), &mut uses);
        uses
    }

    /// Adds the uses of `node`, and of everything built on it.
    fn add(&self, node: &BlockDevice, seen: &mut BTreeSet<String>, uses: &mut Vec<Use>) {
        if !seen.insert(node.name.clone()) {
            return;
        }
        let device = || node.path.clone();
        for (mount, _) in self.mounts.iter().filter(|(_, devices)| devices.contains(&node.name)) {
            uses.push(Use::Mounted { device: device(), mountpoint: mount.mountpoint.clone() });
        }
        // a btrfs that is mounted in another namespace has no entry among the mounts
        let is_seen =
            |members: &Vec<String>| self.mounts.iter().any(|(_, devices)| devices == members);
        for (uuid, _) in self.btrfs.iter().filter(|(_, m)| m.contains(&node.name) && !is_seen(m)) {
            uses.push(Use::Held { device: device(), holder: format!("btrfs {uuid}") });
        }
        if self
            .swaps
            .iter()
            .any(|swap| self.nodes.by_path(swap).is_some_and(|found| found.name == node.name))
        {
            uses.push(Use::Swap { device: device() });
        }
        for name in node.links("holders") {
            let holder = self.nodes.by_name(&name);
            uses.push(Use::Held {
                device: device(),
                holder: holder.map_or_else(|| name.clone(), describe_holder),
            });
            if let Some(holder) = holder {
                self.add_with_partitions(holder, seen, uses);
            }
        }
        self.add_loops(&node.path, seen, uses);
    }

    fn add_with_partitions(
        &self,
        node: &BlockDevice,
        seen: &mut BTreeSet<String>,
        uses: &mut Vec<Use>,
    ) {
        self.add(node, seen, uses);
        for partition in self.nodes.partitions_of(&node.name) {
            self.add(partition, seen, uses);
        }
    }

    /// Adds the loop devices attached to `path`, and what uses those.
    fn add_loops(&self, path: &Path, seen: &mut BTreeSet<String>, uses: &mut Vec<Use>) {
        for (name, _) in self.loops.iter().filter(|(_, file)| is_same(file, path)) {
            let Some(node) = self.nodes.by_name(name) else { continue };
            uses.push(Use::Loop { device: path.to_owned(), holder: node.path.clone() });
            self.add_with_partitions(node, seen, uses);
        }
    }
}

/// `dm-0 (vg0-root)`.
fn describe_holder(node: &BlockDevice) -> String {
    match node
        .text("dm/name")
        .or_else(|| node.text("md/array_state").map(|state| format!("MD array, {state}")))
    {
        Some(name) => format!("{} ({name})", node.name),
        None => node.name.clone(),
    }
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

/// `/sys/fs/btrfs/UUID/devices` has a link for each member of a file system in use.
fn read_btrfs(sys: &Path) -> Vec<(String, Vec<String>)> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let root = sys.join("fs/btrfs");
    let found = names(&root).into_iter().map(|uuid| {
        let members = names(&root.join(&uuid).join("devices"));
        (uuid, members)
    });
    found.filter(|(_, members)| !members.is_empty()).collect()
}

/// Attached loop devices. The kernel appends ` (deleted)` to a backing file that was unlinked.
/// Whatever has that name now is another file, so such a loop device is left out.
fn read_loops(nodes: &BlockDevices) -> Vec<(String, PathBuf)> {
    let loops = nodes.all.iter().filter(|node| node.kind() == DiskKind::Loop);
    let backing = loops.filter_map(|node| {
        Some((node.name.clone(), PathBuf::from(text(&node.dir, "loop/backing_file")?)))
    });
    backing
        .filter(|(_, file)| file.exists() || !file.to_string_lossy().ends_with(" (deleted)"))
        .collect()
}

/// Parses `/proc/self/mountinfo`, proc_pid_mountinfo(5): id, parent, major:minor, root, mount
/// point, options, optional fields, `-`, type, source, options.
fn parse_mounts(text: &[u8]) -> Vec<MountEntry> {
    let line = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
        Some(MountEntry {
            number: parse_number(std::str::from_utf8(fields[2]).ok()?),
            mountpoint: unescape(fields[4]),
            fs_type: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
            source: unescape(fields.get(dash + 2)?),
        })
    };
    text.split(|&b| b == b'\n').filter_map(line).collect()
}

/// Parses `/proc/swaps`: a heading, then a path per line in the first column.
fn parse_swaps(text: &[u8]) -> Vec<PathBuf> {
    let lines = text.split(|&b| b == b'\n').skip(1);
    let paths = lines.filter_map(|line| line.split(|b| b" \t".contains(b)).next());
    paths.filter(|path| path.starts_with(b"/")).map(unescape).collect()
}

/// Decodes a path in which the kernel wrote blanks and backslashes in octal: `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        path.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_mounts_with_blanks_and_optional_fields() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402/a\\134b rw,noatime master:1 shared:2 - ext3 \
                     /dev/my\\040root rw,errors=continue\n\
                     40 36 0:40 / /pool rw - btrfs /dev/sdb1 rw\nshort line\n";
        let mounts = parse_mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].number, Some((98, 0)));
        assert_eq!(mounts[0].mountpoint, Path::new("/mnt 2/a\\b"));
        assert_eq!(
            (mounts[0].fs_type.as_str(), &mounts[0].source),
            ("ext3", &PathBuf::from("/dev/my root"))
        );
        assert_eq!(mounts[1].source, Path::new("/dev/sdb1"));
    }

    #[test]
    fn reads_swaps() {
        let text = b"Filename\t\tType\t\tSize\tUsed\tPriority\n/dev/sda2  partition\t1\t0\t-2\n\
                     /swap\\040file\tfile\t1\t0\t-3\n";
        assert_eq!(parse_swaps(text), [PathBuf::from("/dev/sda2"), PathBuf::from("/swap file")]);
        assert!(parse_swaps(b"").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\\'), Just(b'-'), Just(b'7'), any::<u8>()], 0..200)) {
            let _ = parse_mounts(&bytes);
            let _ = parse_swaps(&bytes);
        }
    }
}
