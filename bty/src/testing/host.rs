//! A machine with disks in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::MemoryDisk;
use crate::disks::{Disk, DiskKind, read_contents};
use crate::{Device, DiskHost, Error, ErrorKind, Result};

/// A machine whose disks are [`MemoryDisk`]s. Disks are probed anew each time, so that a flashed
/// disk shows its partitions.
#[derive(Default)]
pub struct MemoryHost {
    disks: Mutex<Vec<(Disk, Arc<MemoryDisk>)>>,
}

impl MemoryHost {
    /// A machine without disks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine with one disk, `/dev/mem0`.
    #[must_use]
    pub fn with(disk: &Arc<MemoryDisk>) -> Self {
        let host = Self::default();
        host.add("mem0", disk);
        host
    }

    /// Adds `disk` as `/dev/NAME`, with the serial number `SN-NAME`, and returns its description.
    pub fn add(&self, name: &str, disk: &Arc<MemoryDisk>) -> Disk {
        let facts = describe(name, disk);
        self.lock().push((facts.clone(), Arc::clone(disk)));
        facts
    }

    /// Changes the facts that later probes report of the disk at `path`: its serial number, its
    /// uses, and so on. Partitions and content are read from the disk.
    ///
    /// # Panics
    /// If there is no disk at `path`.
    pub fn change(&self, path: &Path, change: impl FnOnce(&mut Disk)) {
        let mut disks = self.lock();
        let found = disks.iter_mut().find(|(facts, _)| facts.path == path);
        change(&mut found.unwrap_or_else(|| panic!("no disk is at {}", path.display())).0);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Disk, Arc<MemoryDisk>)>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, path: &Path) -> Result<(Disk, Arc<MemoryDisk>)> {
        let found = self.lock().iter().find(|(facts, _)| facts.path == path).cloned();
        found.ok_or_else(|| {
            Error::new(ErrorKind::Refused, format!("{} does not exist", path.display()))
                .with_path(path.display())
                .hint("add the disk to the MemoryHost first")
        })
    }
}

impl DiskHost for MemoryHost {
    fn list(&self) -> Result<Vec<Disk>> {
        let disks = self.lock().clone();
        Ok(disks.into_iter().map(probed).collect())
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        self.find(path).map(probed)
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        Ok(self.find(&disk.path)?.1)
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        self.open(disk)
    }

    fn create(&self, path: &Path, _size_bytes: u64) -> Result<()> {
        let message = format!("{} cannot be created: the machine has no files", path.display());
        Err(Error::new(ErrorKind::Refused, message)
            .with_path(path.display())
            .hint("add a disk with MemoryHost::add"))
    }
}

/// The facts of `disk`, with the partitions and the content that it has now.
fn probed((mut facts, disk): (Disk, Arc<MemoryDisk>)) -> Disk {
    let content = disk.content();
    read_contents(&mut facts, &mut crate::partition_table::over(&content));
    facts
}

fn describe(name: &str, disk: &MemoryDisk) -> Disk {
    Disk {
        path: format!("/dev/{name}").into(),
        kind: DiskKind::Disk,
        size_bytes: disk.size_bytes(),
        logical_sector_bytes: disk.sector_bytes(),
        physical_sector_bytes: 4096,
        vendor: Some("ACME".into()),
        model: Some("Memory".into()),
        serial: Some(format!("SN-{name}")),
        wwn: None,
        by_path: None,
        transport: Some("memory".into()),
        is_removable: false,
        is_read_only: false,
        is_rotational: Some(false),
        diskseq: None,
        table: None,
        content: None,
        partitions: Vec::new(),
        uses: Vec::new(),
        file_holds: None,
    }
}
