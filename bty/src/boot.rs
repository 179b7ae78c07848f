//! Starts the system on a disk: directly through kexec, bypassing the firmware, or through UEFI at
//! the next boot.
//!
//! bty finds the kernel where the boot loader of the disk finds it: in the entries of the Boot
//! Loader Specification (`loader/entries/*.conf`, its chapter "Type #1") or, without those, in the
//! first `linux` and `initrd` commands of a `grub.cfg`. The kernel must be on the same file system
//! as that configuration.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use bty::boot::{BootNext, EFIVARS, set_boot_next};
//! use bty::{Selector, SystemHost};
//!
//! let host = SystemHost::new();
//! let disk = "serial:4C530001230412115574".parse::<Selector>()?.select(&host)?;
//! match set_boot_next(&host, &disk, "debian 13", Path::new(EFIVARS))? {
//!     BootNext::Set { entry } => println!("the firmware will boot entry {entry:04X}"),
//!     BootNext::Skipped { reason } => println!("the boot order decides: {reason}"),
//! }
//! # Ok::<(), bty::Error>(())
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::CancelToken;
use crate::device::ioctl;
use crate::disks::{Disk, DiskHost};
use crate::error::{Error, ErrorKind, Result};
use crate::extent::Pool;
use crate::image::HEAD_BYTES;
use crate::size::align_down;

pub(crate) mod uefi;

pub use uefi::BootNext;

/// Mount point of efivarfs on Linux.
pub const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// File systems that are searched for a kernel. They are mounted read-only, one after the other.
const FILE_SYSTEMS: [&str; 6] = ["vfat", "ext2", "ext3", "ext4", "xfs", "btrfs"];
const GRUB: [&str; 4] =
    ["boot/grub/grub.cfg", "grub/grub.cfg", "boot/grub2/grub.cfg", "grub2/grub.cfg"];
/// Maximum size of a boot loader configuration in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// A kernel, and how its boot loader starts it. Paths begin at the root of its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Path of the kernel image.
    pub linux: PathBuf,
    /// Path of the initial RAM disk. Entries with more than one are not supported.
    pub initrd: Option<PathBuf>,
    /// The kernel command line.
    pub options: String,
}

/// Finds the kernel of the system on `disk`, and loads it for kexec:
/// `reboot(LINUX_REBOOT_CMD_KEXEC)` then starts it. Needs root, and with Secure Boot a signed
/// kernel.
///
/// # Errors
/// [`ErrorKind::Host`] when no kernel is found, or the running kernel refuses to load it.
pub fn load_kernel(disk: &Disk) -> Result<Kernel> {
    let mut tried = Vec::new();
    for partition in &disk.partitions {
        let kind =
            partition.content.as_ref().map(|content| content.kind.as_str()).unwrap_or_default();
        let (Some(path), true) = (&partition.path, FILE_SYSTEMS.contains(&kind)) else { continue };
        match TemporaryMount::new(path, kind) {
            Ok(mounted) => match find(&mounted.0) {
                Some(kernel) => {
                    load(&mounted.0, &kernel)?;
                    return Ok(kernel);
                }
                None => tried.push(format!(
                    "no boot loader configuration on {} names one that can be loaded",
                    path.display()
                )),
            },
            Err(error) => tried.push(format!("{} cannot be mounted: {error:#}", path.display())),
        }
    }
    let tried = if tried.is_empty() {
        "it has no partition with a file system that bty can mount".to_owned()
    } else {
        tried.join(", ")
    };
    Err(Error::new(
        ErrorKind::Host,
        format!("no kernel was found on {}: {tried}", disk.path.display()),
    )
    .hint("reboot instead"))
}

/// Makes UEFI boot `disk` once, at the next boot, through a boot entry described as `label`.
/// Replaces earlier entries with that description; the boot order is not changed. `efivars` is the
/// mount point of efivarfs, usually [`EFIVARS`].
///
/// For a disk that was flashed without
/// [`FlashOptions::uefi_boot`](crate::flash::FlashOptions::uefi_boot), which does the same at the
/// end of a flash.
///
/// # Errors
/// - [`ErrorKind::Host`]: a variable cannot be changed.
/// - [`ErrorKind::Format`]: the partition table of the disk is damaged.
/// - [`ErrorKind::Refused`] or [`ErrorKind::Target`]: the disk cannot be read.
pub fn set_boot_next(
    host: &dyn DiskHost,
    disk: &Disk,
    label: &str,
    efivars: &Path,
) -> Result<BootNext> {
    if !uefi::is_uefi(efivars)? {
        return Ok(uefi::NO_UEFI);
    }
    let head = read_head(disk, host)?;
    uefi::boot_next(efivars, &head, disk.logical_sector_bytes, label)
}

/// Makes UEFI boot the disk that was flashed last, once more at the next boot, regardless of the
/// boot order. `efivars` is the mount point of efivarfs, usually [`EFIVARS`].
///
/// # Errors
/// [`ErrorKind::Host`] when the machine has no UEFI or no boot entry of a flashed disk, when the
/// firmware ignored the last `BootNext`, or when a variable cannot be changed.
pub fn repeat_boot_next(efivars: &Path) -> Result<()> {
    match uefi::repeat_boot_next(efivars)? {
        BootNext::Set { .. } => Ok(()),
        BootNext::Skipped { reason } => Err(Error::new(ErrorKind::Host, reason)),
    }
}

/// Reads the first MiB of `disk`, where its partition table is.
fn read_head(disk: &Disk, host: &dyn DiskHost) -> Result<Vec<u8>> {
    let device = host.open_read_only(disk)?;
    // devices read into aligned buffers only
    let mut buffer = Pool::new(1).take(&CancelToken::new())?;
    let len = device.size_bytes().min(HEAD_BYTES as u64);
    let len = align_down(len, u64::from(device.sector_bytes())) as usize;
    let mut done = 0;
    while done < len {
        match device.read_at(&mut buffer[done..len], done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                let name = disk.path.display();
                return Err(Error::from_io(ErrorKind::Target, format!("reading {name}"), e)
                    .with_path(name)
                    .hint("look at dmesg; try another cable, port or disk"));
            }
        }
    }
    Ok(buffer[..done].to_vec())
}

/// A mounted file system; dropping it unmounts it.
struct TemporaryMount(PathBuf);

impl TemporaryMount {
    fn new(device: &Path, kind: &str) -> std::io::Result<Self> {
        let place = std::env::temp_dir().join(format!("bty-boot-{}", std::process::id()));
        fs::create_dir_all(&place)?;
        let flags =
            MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
        mount(device, &place, kind, flags, None)?;
        Ok(Self(place))
    }
}

impl Drop for TemporaryMount {
    fn drop(&mut self) {
        // detaching succeeds even while a file is open
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

fn load(root: &Path, kernel: &Kernel) -> Result<()> {
    let open = |path: &Path| {
        let path = inside(root, path);
        File::open(&path)
            .map_err(|e| Error::from_io(ErrorKind::Host, format!("opening {}", path.display()), e))
    };
    let linux = open(&kernel.linux)?;
    let initrd = kernel.initrd.as_deref().map(open).transpose()?;
    let doing = || format!("loading the kernel {}", kernel.linux.display());
    ioctl::kexec_file_load(&linux, initrd.as_ref(), &kernel.options)
        .map_err(|e| Error::from_io(ErrorKind::Host, doing(), e.into()))
}

/// The path under the mount point `root` for a path from the root of the file system.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The kernel that the boot loader of the file system mounted at `root` would start.
fn find(root: &Path) -> Option<Kernel> {
    let is_there = |kernel: &Kernel| inside(root, &kernel.linux).is_file();
    let entries = ["loader/entries", "boot/loader/entries"]
        .into_iter()
        .find_map(|dir| newest_entry(&root.join(dir)));
    let grub = || GRUB.iter().find_map(|name| parse_grub(&read_config(&root.join(name))?));
    entries.filter(is_there).or_else(|| grub().filter(is_there))
}

fn read_config(path: &Path) -> Option<String> {
    let is_small =
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= CONFIG_BYTES_MAX);
    is_small.then(|| fs::read_to_string(path).ok())?
}

/// The entry whose name sorts last. Names contain versions, so it is the newest one.
fn newest_entry(dir: &Path) -> Option<Kernel> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
    files.sort();
    files.iter().rev().find_map(|file| parse_entry(&read_config(file)?))
}

/// Parses an entry of the Boot Loader Specification: lines of a name and a value. `options` may
/// occur several times.
pub(crate) fn parse_entry(text: &str) -> Option<Kernel> {
    let values = |name: &'static str| {
        text.lines().filter_map(move |line| {
            let (key, value) = line.trim().split_once(char::is_whitespace)?;
            (key == name).then(|| value.trim())
        })
    };
    let options = values("options").collect::<Vec<_>>().join(" ");
    plain(values("linux").next()?, &values("initrd").collect::<Vec<_>>(), &options)
}

/// Parses a `grub.cfg`: the first `linux` command, and the `initrd` command in the same entry.
pub(crate) fn parse_grub(text: &str) -> Option<Kernel> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let linux =
        lines.find(|words| matches!(words.first(), Some(&("linux" | "linuxefi" | "linux16"))))?;
    let initrd = lines
        .take_while(|words| words.first() != Some(&"}"))
        .find(|words| matches!(words.first(), Some(&("initrd" | "initrdefi" | "initrd16"))));
    plain(
        linux.get(1)?,
        initrd.as_deref().map_or(&[], |words| &words[1..]),
        &linux.get(2..)?.join(" "),
    )
}

/// A kernel, if it can be loaded without a boot loader: no variables, and at most one initrd.
fn plain(linux: &str, initrds: &[&str], options: &str) -> Option<Kernel> {
    let is_plain =
        |text: &&str| !text.contains(['$', '(', '"']) && !text.split('/').any(|part| part == "..");
    if initrds.len() > 1 || options.contains('$') || ![linux].iter().chain(initrds).all(is_plain) {
        return None;
    }
    let initrd = initrds.first().map(PathBuf::from);
    Some(Kernel { linux: linux.into(), initrd, options: options.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(linux: &str, initrd: Option<&str>, options: &str) -> Option<Kernel> {
        Some(Kernel {
            linux: linux.into(),
            initrd: initrd.map(PathBuf::from),
            options: options.into(),
        })
    }

    #[test]
    fn takes_the_kernel_of_the_newest_entry() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("loader/entries")).unwrap();
        for (name, version) in [("a-6.1.conf", "6.1"), ("a-6.12.conf", "6.12"), ("a.txt", "9")] {
            let text = format!(
                "title A\nlinux   /vmlinuz-{version}\ninitrd /initrd-{version}\n\
                 options root=UUID=1\noptions ro\n"
            );
            fs::write(dir.path().join("loader/entries").join(name), text).unwrap();
        }
        assert_eq!(find(dir.path()), None, "the entry names a kernel that does not exist");
        fs::write(dir.path().join("vmlinuz-6.12"), "").unwrap();
        assert_eq!(
            find(dir.path()),
            kernel("/vmlinuz-6.12", Some("/initrd-6.12"), "root=UUID=1 ro")
        );
    }

    #[test]
    fn takes_the_first_grub_entry_if_it_has_no_variables() {
        let text = "menuentry 'Debian' {\n\tset root='hd0,gpt1'\n\
                    \tlinux\t/boot/vmlinuz-6.12 root=UUID=1 ro quiet\n\
                    \tinitrd\t/boot/initrd.img-6.12\n}\nmenuentry 'x' {\n linux /other\n}\n";
        assert_eq!(
            parse_grub(text),
            kernel("/boot/vmlinuz-6.12", Some("/boot/initrd.img-6.12"), "root=UUID=1 ro quiet")
        );
        assert_eq!(
            parse_grub("menuentry x {\n linux /k a\n}\ninitrd /other\n"),
            kernel("/k", None, "a")
        );
        assert_eq!(parse_grub("linux ($root)/vmlinuz root=$x\n"), None);
        assert_eq!(parse_grub("linux /../vmlinuz\n"), None);
        assert_eq!(
            parse_grub("linux /vmlinuz\ninitrd /ucode.img /initrd.img\n"),
            None,
            "several initrds are not supported"
        );
        assert_eq!(parse_grub("linux\n"), None);
        assert_eq!(parse_entry("linux\noptions x"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(linux|initrd|options|\\}|[ \t\n$/.a]|\\PC){0,60}") {
            let _ = (parse_grub(&text), parse_entry(&text));
        }
    }
}
