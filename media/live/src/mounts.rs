//! Mounts the file systems of the kernel.

use std::fs;

use rustix::mount::{MountFlags, mount};

/// Mounts what every program needs.
pub(crate) fn mount_base() -> Result<(), String> {
    mount_at("/proc", "proc", "")?;
    mount_at("/sys", "sysfs", "")?;
    mount_at("/dev", "devtmpfs", "mode=0755")?;
    mount_at("/dev/pts", "devpts", "ptmxmode=0666,mode=0620")?;
    mount_at("/run", "tmpfs", "mode=0755")?;
    mount_at("/tmp", "tmpfs", "")?;
    // bty spools images here when they need random access
    mount_at("/var/tmp", "tmpfs", "")
}

/// Mounts the variables of UEFI firmware, if there is such firmware. Needs the module `efivarfs`.
pub(crate) fn mount_efivarfs() {
    if fs::exists("/sys/firmware/efi/efivars").unwrap_or_default() {
        let _ = mount_at("/sys/firmware/efi/efivars", "efivarfs", "");
    }
}

/// Mounts a file system of `kind`, named after its kind, unless it is mounted already.
fn mount_at(place: &str, kind: &str, options: &str) -> Result<(), String> {
    let _ = fs::create_dir_all(place);
    let options = std::ffi::CString::new(options).map_err(|e| e.to_string())?;
    match mount(kind, place, kind, MountFlags::empty(), options.as_c_str()) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(e) => Err(format!("cannot mount {place}: {e}")),
    }
}
