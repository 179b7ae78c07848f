//! A machine whose only disk is a file, with the serial number that it would have: for trying a
//! server, and whatever names disks by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bty::disks::DiskKind;
use bty::{Device, Disk, DiskHost, Result, SystemHost};

/// A file that stands for the only disk of a machine. What is written to it is written.
pub struct OneDisk {
    path: PathBuf,
    serial: String,
    system: SystemHost,
}

impl OneDisk {
    /// The file at `path` as a disk with this serial number.
    ///
    /// # Errors
    /// When there is no regular file.
    pub fn new(path: &Path, serial: &str) -> Result<Self> {
        let system = SystemHost::new();
        let path = system.probe(path)?.path;
        Ok(Self { path, serial: serial.to_owned(), system })
    }

    fn dressed(&self, disk: Disk) -> Disk {
        if disk.path != self.path {
            return disk;
        }
        // whoever names the file as a disk has said that it may be written
        Disk { kind: DiskKind::Disk, serial: Some(self.serial.clone()), file_holds: None, ..disk }
    }

    /// The disk as the system knows it, if it is still the one that is meant.
    fn bare(&self, disk: &Disk) -> Result<Disk> {
        let file = self.system.probe(&disk.path)?;
        Ok(if disk.serial.as_ref() == Some(&self.serial) { file } else { disk.clone() })
    }
}

impl DiskHost for OneDisk {
    fn list(&self) -> Result<Vec<Disk>> {
        self.probe(&self.path).map(|disk| vec![disk])
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        self.system.probe(path).map(|disk| self.dressed(disk))
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        self.system.open(&self.bare(disk)?)
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        self.system.open_read_only(&self.bare(disk)?)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<()> {
        self.system.create(path, size_bytes)
    }
}
