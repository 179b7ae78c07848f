//! The file systems that the kernel provides.

use std::fs;

use rustix::mount::{MountFlags, mount};

/// Those that everything needs.
pub(crate) fn first() -> Result<(), String> {
    one("proc", "/proc", "proc", "")?;
    one("sysfs", "/sys", "sysfs", "")?;
    one("devtmpfs", "/dev", "devtmpfs", "mode=0755")?;
    one("devpts", "/dev/pts", "devpts", "ptmxmode=0666,mode=0620")?;
    one("tmpfs", "/run", "tmpfs", "mode=0755")?;
    one("tmpfs", "/tmp", "tmpfs", "")?;
    // images are spooled here when they need random access
    one("tmpfs", "/var/tmp", "tmpfs", "")
}

/// The firmware's variables, when UEFI started this machine; the module is loaded by then.
pub(crate) fn firmware_variables() {
    if fs::exists("/sys/firmware/efi/efivars").unwrap_or_default() {
        let _ = one("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", "");
    }
}

fn one(what: &str, place: &str, kind: &str, options: &str) -> Result<(), String> {
    let _ = fs::create_dir_all(place);
    let options = std::ffi::CString::new(options).map_err(|e| e.to_string())?;
    match mount(what, place, kind, MountFlags::empty(), options.as_c_str()) {
        // a manager that is started again finds what the first one has mounted
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(e) => Err(format!("{place} cannot be mounted: {e}")),
    }
}
