//! Straight into the system on a disk, past the firmware: its kernel is found, and made ready in
//! the running one.
//!
//! A kernel is found where its boot loader finds it: in the entries of the Boot Loader
//! Specification (`loader/entries/*.conf`, its chapter "Type #1"), else by the first `linux` and
//! `initrd` of a `grub.cfg`. It must be on the file system that names it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::device::ioctl;
use crate::disks::{Disk, DiskHost};
use crate::error::{Error, ErrorKind, Result};
use crate::flash::{self, FlashOptions, uefi};

/// File systems that are looked at. They are mounted read-only, one after another, in a place of
/// their own.
const KINDS: [&str; 6] = ["vfat", "ext2", "ext3", "ext4", "xfs", "btrfs"];
const GRUB: [&str; 4] =
    ["boot/grub/grub.cfg", "grub/grub.cfg", "boot/grub2/grub.cfg", "grub2/grub.cfg"];
/// A configuration is smaller.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// A kernel, and what it is started with: paths from the root of its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel.
    pub linux: PathBuf,
    /// Its first root; several are not understood.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub options: String,
}

/// What became of the wish to boot a disk next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootNext {
    /// The firmware will boot `Boot####` next, once.
    Set {
        /// The number of the entry.
        entry: u16,
    },
    /// Nothing was changed, for this reason.
    Skipped {
        /// Half a sentence.
        reason: &'static str,
    },
}

/// Finds the kernel of the system on `disk`, and makes it ready: `reboot(LINUX_REBOOT_CMD_KEXEC)`
/// starts it. Until then nothing has changed.
///
/// # Errors
/// [`ErrorKind::Host`] when there is none, or the running kernel takes none: it needs root, and
/// with Secure Boot a signature.
pub fn load_kernel(disk: &Disk) -> Result<Kernel> {
    let mut tried = Vec::new();
    for partition in &disk.partitions {
        let kind =
            partition.content.as_ref().map(|content| content.kind.as_str()).unwrap_or_default();
        let (Some(path), true) = (&partition.path, KINDS.contains(&kind)) else { continue };
        match Mount::new(path, kind) {
            Ok(mounted) => match find(&mounted.0) {
                Some(kernel) => {
                    load(&mounted.0, &kernel)?;
                    return Ok(kernel);
                }
                None => tried.push(format!("{} names none", path.display())),
            },
            Err(error) => tried.push(format!("{} cannot be mounted: {error}", path.display())),
        }
    }
    let tried = if tried.is_empty() {
        "it has no file system that is understood".to_owned()
    } else {
        tried.join(", ")
    };
    Err(Error::new(
        ErrorKind::Host,
        format!("no kernel was found on {}: {tried}", disk.path.display()),
    )
    .hint("reboot instead"))
}

/// Lets UEFI boot `disk` next, once, by an entry named `label`, which replaces earlier ones of that
/// name. Its boot order stays as it is. This is what [`FlashOptions::uefi_boot`] does at the end of
/// a flash, for a disk that was flashed without. Of `options`, only `efivars` matters.
///
/// # Errors
/// [`ErrorKind::Host`] when a variable cannot be changed, [`ErrorKind::Format`] when the partition
/// table is damaged; errors of reading the disk.
pub fn disk_next(
    host: &dyn DiskHost,
    disk: &Disk,
    label: &str,
    options: &FlashOptions,
) -> Result<BootNext> {
    if !uefi::is_there(&options.efivars)? {
        return Ok(uefi::NO_UEFI);
    }
    let head = flash::read_head(disk, host)?;
    uefi::boot_next(&options.efivars, &head, disk.logical_sector_bytes, label)
}

/// Lets UEFI boot the disk that was flashed last next, once, whatever its boot order says.
///
/// # Errors
/// [`ErrorKind::Host`] when that cannot be: no UEFI, no such disk, a firmware that has not followed
/// the last wish, or variables that cannot be changed.
pub fn flashed_next(options: &FlashOptions) -> Result<()> {
    match uefi::flashed_next(&options.efivars)? {
        BootNext::Set { .. } => Ok(()),
        BootNext::Skipped { reason } => Err(Error::new(ErrorKind::Host, reason)),
    }
}

/// A file system that is mounted as long as this lives.
struct Mount(PathBuf);

impl Mount {
    fn new(device: &Path, kind: &str) -> std::io::Result<Self> {
        let place = std::env::temp_dir().join(format!("bty-boot-{}", std::process::id()));
        fs::create_dir_all(&place)?;
        let flags =
            MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
        mount(device, &place, kind, flags, None)?;
        Ok(Self(place))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // a lazy one always goes well
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

/// A path from the root of a file system, in the place where that is mounted.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What the boot loader of the file system at `root` would start.
fn find(root: &Path) -> Option<Kernel> {
    let is_there = |kernel: &Kernel| inside(root, &kernel.linux).is_file();
    let entries = ["loader/entries", "boot/loader/entries"]
        .into_iter()
        .find_map(|dir| entry(&root.join(dir)));
    let grub = || GRUB.iter().find_map(|name| grub(&read(&root.join(name))?));
    entries.filter(is_there).or_else(|| grub().filter(is_there))
}

fn read(path: &Path) -> Option<String> {
    let is_small =
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= CONFIG_BYTES_MAX);
    is_small.then(|| fs::read_to_string(path).ok())?
}

/// The entry whose name sorts last: names have versions.
fn entry(dir: &Path) -> Option<Kernel> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
    files.sort();
    files.iter().rev().find_map(|file| parse_entry(&read(file)?))
}

/// Lines of a name and a value; `options` may be given several times.
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

/// The first `linux` or `linuxefi` command, and the `initrd` after it.
pub(crate) fn grub(text: &str) -> Option<Kernel> {
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

/// What needs neither variables nor several archives.
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
    fn the_kernel_is_the_one_of_the_newest_entry() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("loader/entries")).unwrap();
        for (name, version) in [("a-6.1.conf", "6.1"), ("a-6.12.conf", "6.12"), ("a.txt", "9")] {
            let text = format!(
                "title A\nlinux   /vmlinuz-{version}\ninitrd /initrd-{version}\noptions root=UUID=1\noptions ro\n"
            );
            fs::write(dir.path().join("loader/entries").join(name), text).unwrap();
        }
        assert_eq!(find(dir.path()), None, "it is not there");
        fs::write(dir.path().join("vmlinuz-6.12"), "").unwrap();
        assert_eq!(
            find(dir.path()),
            kernel("/vmlinuz-6.12", Some("/initrd-6.12"), "root=UUID=1 ro")
        );
    }

    #[test]
    fn the_first_entry_of_grub_is_taken_when_it_is_plain() {
        let text = "menuentry 'Debian' {\n\tset root='hd0,gpt1'\n\tlinux\t/boot/vmlinuz-6.12 root=UUID=1 ro quiet\n\tinitrd\t/boot/initrd.img-6.12\n}\nmenuentry 'x' {\n linux /other\n}\n";
        assert_eq!(
            grub(text),
            kernel("/boot/vmlinuz-6.12", Some("/boot/initrd.img-6.12"), "root=UUID=1 ro quiet")
        );
        assert_eq!(grub("menuentry x {\n linux /k a\n}\ninitrd /other\n"), kernel("/k", None, "a"));
        assert_eq!(grub("linux ($root)/vmlinuz root=$x\n"), None);
        assert_eq!(grub("linux /../vmlinuz\n"), None);
        assert_eq!(
            grub("linux /vmlinuz\ninitrd /ucode.img /initrd.img\n"),
            None,
            "several are not understood"
        );
        assert_eq!(grub("linux\n"), None);
        assert_eq!(parse_entry("linux\noptions x"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(linux|initrd|options|\\}|[ \t\n$/.a]|\\PC){0,60}") {
            let _ = (grub(&text), parse_entry(&text));
        }
    }
}
