//! A machine whose only disk is a file, to try out a server without a spare machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bty::disks::DiskKind;
use bty::{Device, Disk, DiskHost, Result, SystemHost};

/// Presents one file as the only disk of the machine. Writes to the disk go to the file.
pub struct SingleDiskHost {
    path: PathBuf,
    serial: String,
    system: SystemHost,
}

impl SingleDiskHost {
    /// Presents the file at `path` as a disk with this serial number.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`](bty::ErrorKind::Refused): `path` does not exist, or cannot be
    ///   written like a disk
    /// - [`ErrorKind::Host`](bty::ErrorKind::Host): the machine cannot be examined
    pub fn new(path: &Path, serial: &str) -> Result<Self> {
        let system = SystemHost::new();
        let path = system.probe(path)?.path;
        Ok(Self { path, serial: serial.to_owned(), system })
    }

    fn as_disk(&self, mut disk: Disk) -> Disk {
        if disk.path == self.path {
            disk.kind = DiskKind::Disk;
            disk.serial = Some(self.serial.clone());
            // naming the file as a disk means that it may be overwritten
            disk.file_holds = None;
        }
        disk
    }

    /// The file behind `disk`; `disk` itself if it has another serial number.
    fn as_file(&self, disk: &Disk) -> Result<Disk> {
        let file = self.system.probe(&disk.path)?;
        Ok(if disk.serial.as_ref() == Some(&self.serial) { file } else { disk.clone() })
    }
}

impl DiskHost for SingleDiskHost {
    fn list(&self) -> Result<Vec<Disk>> {
        self.probe(&self.path).map(|disk| vec![disk])
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        self.system.probe(path).map(|disk| self.as_disk(disk))
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        self.system.open(&self.as_file(disk)?)
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        self.system.open_read_only(&self.as_file(disk)?)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<()> {
        self.system.create(path, size_bytes)
    }
}
