//! Writes an image to all disks of virtual machines that lie as files in a directory. The same two
//! traits give bty the disks of a hypervisor, or those of another computer.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bty::disks::DiskKind;
use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::{CancelToken, Client, Device, Disk, DiskHost, Error, ErrorKind, Image, Result, text};

struct VirtualDisk {
    file: File,
    size_bytes: u64,
}

impl Device for VirtualDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        // a file would grow
        if offset + bytes.len() as u64 > self.size_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        // from the page cache, as the virtual machine will read it
        self.file.read_at(bytes, offset)
    }

    fn zero_at(&self, _offset: u64, _len: u64) -> io::Result<()> {
        // zeros are then written
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The files `*.disk` in a directory.
struct VirtualMachines(PathBuf);

impl DiskHost for VirtualMachines {
    fn list(&self) -> Result<Vec<Disk>> {
        let failed =
            |e| Error::from_io(ErrorKind::Host, format!("listing {}", self.0.display()), e);
        let entries = fs::read_dir(&self.0).map_err(failed)?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        let mut paths = paths.map_err(failed)?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "disk"));
        paths.sort();
        paths.iter().map(|path| self.probe(path)).collect()
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        let failed = |e| {
            Error::from_io(ErrorKind::Refused, format!("examining {}", path.display()), e)
                .with_path(path.display())
        };
        let size_bytes = fs::metadata(path).map_err(failed)?.len();
        Ok(Disk::new(path, DiskKind::Disk, size_bytes))
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        let opened = File::options().read(true).write(true).open(&disk.path);
        let failed = |e| Error::from_io(ErrorKind::Target, "opening the disk", e);
        let file = opened.map_err(failed)?;
        // held until the device is dropped, so that no other flash can open the disk
        file.try_lock().map_err(|e| Error::new(ErrorKind::Refused, "it is in use").because(e))?;
        Ok(Arc::new(VirtualDisk { file, size_bytes: disk.size_bytes }))
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        let failed = |e| Error::from_io(ErrorKind::Target, "opening the disk", e);
        let file = File::open(&disk.path).map_err(failed)?;
        Ok(Arc::new(VirtualDisk { file, size_bytes: disk.size_bytes }))
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<()> {
        let created = File::create_new(path).and_then(|file| file.set_len(size_bytes));
        created.map_err(|e| Error::from_io(ErrorKind::Target, "creating a disk", e))
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, dir] = &arguments[..] else {
        return Err(Error::new(ErrorKind::Usage, "expected two arguments: IMAGE DIRECTORY"));
    };
    let (host, cancel) = (VirtualMachines(dir.into()), CancelToken::new());
    let image = Image::open(&Client::default(), reference, &OpenOptions::default(), &cancel)?;
    let plan = FlashPlan::new(image.info(), host.list()?, FlashOptions::default());
    for target in plan.execute(&image, &host, &(), &cancel)?.targets {
        let outcome = target.failure.map_or_else(|| "verified".into(), |failure| failure.message);
        println!("{}: {outcome}", text::escape_name(&target.disk.path));
    }
    Ok(())
}
