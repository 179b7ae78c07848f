//! This machine as a [`DiskHost`].

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::device::Device;
use crate::device::system::{
    AccessMode, FILE_SECTOR, SystemDevice, file_bytes, is_busy, is_marked_as_disk, mark_as_disk,
    open_unless_busy,
};
use crate::disks::holders::Usage;
use crate::disks::sysfs::{BlockDevice, BlockDevices, SystemRoots};
use crate::disks::{Disk, DiskHost, DiskKind, Partition, Use};
use crate::image::foreign;
use crate::partition_table::{self, gpt};
use crate::signatures;
use crate::size::align_up;
use crate::{Error, ErrorKind, Remedy, Result};

/// Hint for a file that cannot be created because it exists.
const EXISTS_HINT: &str = "choose another name, remove it, or write to it instead of creating it";

/// The local machine. Every call reads sysfs and procfs again.
///
/// ```no_run
/// use bty::{DiskHost, SystemHost};
///
/// for disk in SystemHost::new().list()? {
///     println!("{}", disk.summary());
/// }
/// # Ok::<(), bty::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SystemHost {
    roots: SystemRoots,
}

impl SystemHost {
    /// Creates a host that reads `/sys`, `/proc` and `/dev`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a host that reads the directories in `roots` instead. Device nodes in them may be
    /// regular files.
    #[must_use]
    pub fn with_roots(roots: SystemRoots) -> Self {
        Self { roots }
    }

    /// Describes the disk that [`create`](DiskHost::create) would make of the regular file `path`,
    /// for plans. Creates nothing. `size_bytes` is rounded up to a whole sector.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when `path` already exists, its directory is missing, or it lies
    /// directly in `/dev`.
    pub fn plan_file(&self, path: &Path, size_bytes: u64) -> Result<Disk> {
        let refusal = |what: &str, next: &str| {
            let message = format!("{} {what}", path.display());
            Error::new(ErrorKind::Refused, message).with_path(path.display()).hint(next)
        };
        if fs::symlink_metadata(path).is_ok() {
            return Err(already_exists(path));
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (Ok(parent), Some(name)) = (fs::canonicalize(parent), path.file_name()) else {
            return Err(refusal("cannot be created", "create its directory first"));
        };
        if parent == self.roots.dev {
            let what = "would be a regular file in the directory of devices";
            let error = refusal(what, "check the name of the disk");
            return Err(error.with_remedy(Remedy::ListDisks));
        }
        Ok(planned_file(parent.join(name), size_bytes))
    }

    fn describe(&self, node: &BlockDevice, nodes: &BlockDevices, usage: &Usage<'_>) -> Disk {
        let mut disk = node.facts(nodes.disk_of(node), &self.roots);
        disk.uses = usage.of_node(node);
        match open_nonblocking(&node.path) {
            Ok(file) => read_contents_of(&mut disk, &file),
            // without permission to read it, at least the kernel knows the partitions
            Err(_) => {
                disk.partitions = nodes.partitions_of(&node.name).map(kernel_partition).collect();
            }
        }
        for partition in &mut disk.partitions {
            let mut found = nodes.partitions_of(&node.name);
            partition.path =
                found.find(|p| p.start_bytes() == partition.start_bytes).map(|p| p.path.clone());
        }
        disk.partitions.sort_by_key(|p| p.start_bytes);
        add_hidden_use(&mut disk);
        disk
    }

    /// Reads the identity of the device at `path`, but not its content and uses.
    fn identify(&self, path: &Path) -> Result<Disk> {
        let nodes = BlockDevices::read(&self.roots)?;
        match nodes.by_path(path) {
            Some(node) => Ok(node.facts(nodes.disk_of(node), &self.roots)),
            None => self.probe_file(path),
        }
    }

    fn probe_file(&self, path: &Path) -> Result<Disk> {
        let refuse = |what: &str| {
            Error::new(ErrorKind::Refused, format!("{} {what}", path.display()))
                .with_path(path.display())
                .hint(self.hint_with_disks("name a disk, or a regular file"))
        };
        let meta = fs::metadata(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                let next = "name a disk that exists, or create a file to be the disk of a virtual \
                            machine";
                Error::new(ErrorKind::Refused, format!("{} does not exist", path.display()))
                    .with_path(path.display())
                    .hint(self.hint_with_disks(next))
                    .with_remedy(Remedy::CreateFile)
            }
            _ => refuse("cannot be examined").because(e),
        })?;
        let path = fs::canonicalize(path).map_err(|e| refuse("cannot be examined").because(e))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            return Err(refuse("is a directory"));
        }
        if kind.is_char_device() {
            return Err(refuse("is a character device, not a disk"));
        }
        if kind.is_block_device() {
            return Err(refuse("is a block device that sysfs does not list"));
        }
        if !kind.is_file() {
            return Err(refuse("is neither a disk nor a regular file"));
        }
        // `dd of=/dev/sdx` creates such a file when there is no such disk; /dev is in memory
        if path.parent() == Some(&self.roots.dev) {
            return Err(refuse("is a regular file in the directory of devices, not a disk"));
        }
        let mut disk = Disk::new(path, DiskKind::File, file_bytes(meta.len()));
        disk.transport = Some("file".to_owned());
        disk.is_read_only = rustix::fs::access(&disk.path, rustix::fs::Access::WRITE_OK).is_err();
        Ok(disk)
    }

    /// The hint `next`, followed by the disks of this machine.
    fn hint_with_disks(&self, next: &str) -> String {
        let disks = self.list().unwrap_or_default();
        if disks.is_empty() {
            return format!("{next}; no disks were found on this machine");
        }
        let lines: Vec<String> =
            disks.iter().map(|disk| format!("\n  {}", disk.summary())).collect();
        format!("{next}; this machine has:{}", lines.concat())
    }

    /// Adds the holders of the disk to a refusal, if they can be found.
    fn explain_refusal(&self, disk: &Disk, error: Error) -> Error {
        if error.kind() != ErrorKind::Refused {
            return error;
        }
        let uses = self.probe(&disk.path).map(|disk| disk.uses).unwrap_or_default();
        if uses.is_empty() {
            return error;
        }
        let uses: Vec<String> = uses.iter().map(ToString::to_string).collect();
        Error::new(
            ErrorKind::Refused,
            format!("refusing {}: {}", disk.path.display(), uses.join("; ")),
        )
        .with_path(disk.path.display())
        .hint("release the disk, then try again")
    }
}

impl DiskHost for SystemHost {
    fn list(&self) -> Result<Vec<Disk>> {
        let nodes = BlockDevices::read(&self.roots)?;
        let usage = Usage::read(&nodes);
        Ok(nodes
            .all
            .iter()
            .filter(|node| node.is_listed())
            .map(|node| self.describe(node, &nodes, &usage))
            .collect())
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        let nodes = BlockDevices::read(&self.roots)?;
        let usage = Usage::read(&nodes);
        if let Some(node) = nodes.by_path(path) {
            return Ok(self.describe(node, &nodes, &usage));
        }
        let mut disk = self.probe_file(path)?;
        disk.uses = usage.of_file(&disk.path);
        if let Ok(file) = open_nonblocking(&disk.path) {
            read_contents_of(&mut disk, &file);
            disk.file_holds = held_in_file(&disk, &file);
        }
        Ok(disk)
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        let device = self.open_checked(disk, AccessMode::Exclusive)?;
        Ok(Arc::new(device))
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        let device = self.open_checked(disk, AccessMode::ReadOnly)?;
        Ok(Arc::new(device))
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<()> {
        let failed = |e: io::Error| {
            let error =
                Error::from_io(ErrorKind::Target, format!("creating {}", path.display()), e);
            error.with_path(path.display())
        };
        let file = match File::options().write(true).create_new(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(already_exists(path));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(failed(e).hint("create its directory first"));
            }
            Err(e) => return Err(failed(e)),
        };
        mark_as_disk(&file);
        file.set_len(size_bytes).map_err(|e| {
            let _ = fs::remove_file(path);
            failed(e).hint("choose a smaller size, or another file system")
        })
    }
}

impl SystemHost {
    /// Opens `disk`, and checks that it is still the one that was probed.
    fn open_checked(&self, disk: &Disk, access: AccessMode) -> Result<SystemDevice> {
        let replaced = |what: &str| {
            Error::new(
                ErrorKind::Refused,
                format!("{} is not the disk that was chosen: {what}", disk.path.display()),
            )
            .with_path(disk.path.display())
            .hint("list the disks again, and choose again")
        };
        let now = self.identify(&disk.path)?;
        if !disk.is_same_disk(&now) {
            return Err(replaced(&format!("it is now {}", now.summary())));
        }
        let device = SystemDevice::open(&disk.path, access)
            .map_err(|error| self.explain_refusal(disk, error))?;
        // the name may have gone to another disk between the check and the opening, so the opened
        // device is checked as well
        if device.size_bytes() != disk.size_bytes
            || device.sector_bytes() != disk.logical_sector_bytes
        {
            return Err(replaced(&format!(
                "it has {} bytes, not {}",
                device.size_bytes(),
                disk.size_bytes
            )));
        }
        if let (Some(opened), Some(chosen)) = (device.diskseq(), disk.diskseq)
            && opened != chosen
        {
            return Err(replaced("it was plugged in later"));
        }
        Ok(device)
    }
}

/// The refusal to create a file at `path`, because there is one.
fn already_exists(path: &Path) -> Error {
    Error::new(ErrorKind::Refused, format!("{} already exists", path.display()))
        .with_path(path.display())
        .hint(EXISTS_HINT)
        .with_remedy(Remedy::NoCreateFile)
}

pub(super) fn planned_file(path: PathBuf, size_bytes: u64) -> Disk {
    let size_bytes = align_up(size_bytes, u64::from(FILE_SECTOR));
    let mut disk = Disk::new(path, DiskKind::File, size_bytes);
    disk.transport = Some("file".to_owned());
    disk
}

fn kernel_partition(node: &BlockDevice) -> Partition {
    Partition {
        path: None,
        number: node.count("partition").and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
        start_bytes: node.start_bytes(),
        size_bytes: node.size_bytes(),
        type_id: None,
        name: None,
        content: None,
    }
}

fn open_nonblocking(path: &Path) -> io::Result<File> {
    // opening a drive without a medium, or a terminal, must not block
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

fn read_contents_of(disk: &mut Disk, file: &File) {
    read_contents(disk, &mut |offset, buffer| file.read_exact_at(buffer, offset).is_ok());
}

/// Fills in the partition table and the signatures, as read by `read`.
pub(crate) fn read_contents(disk: &mut Disk, read: &mut partition_table::ReadAt<'_>) {
    disk.content = signatures::recognize(read, disk.size_bytes);
    if disk.kind == DiskKind::Partition {
        return;
    }
    let sector = table_sector(disk, read);
    let Some(table) = partition_table::read(read, disk.size_bytes, sector) else { return };
    disk.table = Some(table.kind);
    disk.partitions = table.partitions;
    let mut seen = HashSet::new();
    for partition in &mut disk.partitions {
        let start = partition.start_bytes;
        // entries may overlap, and an extended partition begins with the table of its logical ones
        if !seen.insert(start) {
            continue;
        }
        let mut read = |offset: u64, buffer: &mut [u8]| {
            start.checked_add(offset).is_some_and(|at| read(at, buffer))
        };
        partition.content = signatures::recognize(&mut read, partition.size_bytes);
    }
}

/// The content of a file that somebody may want to keep. A disk image does not count if bty wrote
/// it there. An archive always does, because bty never writes one.
fn held_in_file(disk: &Disk, file: &File) -> Option<String> {
    let mut head = vec![0; 8192];
    let mut filled = 0;
    while let Ok(n @ 1..) = file.read_at(&mut head[filled..], filled as u64) {
        filled += n;
    }
    head.truncate(filled);
    if head.is_empty() {
        return None;
    }
    if let Some(name) = foreign::name_of_file(&head) {
        return Some(name);
    }
    let is_disk =
        disk.table.is_some() || disk.content.is_some() || partition_table::has_boot_sector(&head);
    (is_disk && !is_marked_as_disk(file)).then(|| "a disk image".to_owned())
}

/// The sector size in bytes of the partition table: that of the disk or, in a file, the one that
/// its image was made for.
fn table_sector(disk: &Disk, read: &mut partition_table::ReadAt<'_>) -> u32 {
    let mut head = [0; 8192];
    let is_file = disk.kind == DiskKind::File && read(0, &mut head);
    is_file.then(|| gpt::detect_sector_bytes(&head)).flatten().unwrap_or(disk.logical_sector_bytes)
}

/// True when the kernel refuses to open the block device at `path` exclusively.
fn is_claimed(path: &Path) -> bool {
    let flags = (OFlags::EXCL | OFlags::NONBLOCK).bits().cast_signed();
    open_unless_busy(|| OpenOptions::new().read(true).custom_flags(flags).open(path))
        .is_err_and(|error| is_busy(&error))
}

/// Adds a use that neither sysfs nor procfs shows: a ZFS pool, a mount in another namespace.
fn add_hidden_use(disk: &mut Disk) {
    if disk.uses.is_empty() && is_claimed(&disk.path) {
        disk.uses.push(Use::Busy { device: disk.path.clone(), hint: container(disk) });
    }
}

/// A signature on `disk` of something that claims disks: a pool, an array, a volume group.
fn container(disk: &Disk) -> Option<String> {
    let kinds =
        disk.content.iter().chain(disk.partitions.iter().filter_map(|p| p.content.as_ref()));
    let claims = |kind: &str| {
        ["zfs", "lvm", "md", "bcache", "btrfs", "imsm", "ddf", "ceph", "luks"].contains(&kind)
    };
    kinds.map(|content| content.kind.as_str()).find(|kind| claims(kind)).map(str::to_owned)
}

#[cfg(test)]
mod tests;
