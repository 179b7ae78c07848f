//! Real loop devices and mounts, for tests that run as root.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::tool;

/// False if `BTY_TEST_NO_ROOT` is set, which skips tests that need loop devices and mounts.
///
/// Without root and without that variable these tests fail: no test is skipped unnoticed.
#[must_use]
pub fn has_root() -> bool {
    let is_unwanted = std::env::var_os("BTY_TEST_NO_ROOT").is_some();
    if is_unwanted {
        eprintln!("skipped: BTY_TEST_NO_ROOT is set");
    }
    !is_unwanted
}

/// A loop device over a sparse file, detached when dropped.
pub struct LoopDisk {
    path: PathBuf,
    backing: PathBuf,
    _dir: Option<TempDir>,
}

impl LoopDisk {
    /// Attaches a loop device; `None` if tests run without root.
    #[must_use]
    pub fn new(bytes: u64, sector_bytes: u32) -> Option<Self> {
        if !has_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("backing");
        File::create(&backing).unwrap().set_len(bytes).unwrap();
        let sector = sector_bytes.to_string();
        let mut disk = Self::attach(&backing, &["--sector-size", &sector, "--partscan"]);
        disk._dir = Some(dir);
        Some(disk)
    }

    /// Attaches a loop device to an existing file.
    #[must_use]
    pub fn attach(backing: &Path, options: &[&str]) -> Self {
        let mut command = vec!["losetup", "--find", "--show"];
        command.extend(options);
        command.push(backing.to_str().unwrap());
        Self { path: tool(&command).trim().into(), backing: backing.to_owned(), _dir: None }
    }

    /// Path of the device, such as `/dev/loop0`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Path of the file that holds the bytes of the device.
    #[must_use]
    pub fn backing(&self) -> &str {
        self.backing.to_str().unwrap()
    }

    /// Reads the whole device.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Writes to the device, without bty.
    pub fn put(&self, bytes: &[u8], offset: u64) {
        let device = File::options().write(true).open(&self.path).unwrap();
        device.write_all_at(bytes, offset).unwrap();
        device.sync_all().unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// A mounted file system. Unmounted when dropped.
pub struct Mount(TempDir);

impl Mount {
    /// Mounts `device` read-only, so that the file system itself does not write to it.
    #[must_use]
    pub fn device(device: &str) -> Self {
        Self::with(&["-o", "ro,noload", device])
    }

    /// Mounts an empty tmpfs with room for `bytes`.
    #[must_use]
    pub fn memory(bytes: u64) -> Self {
        Self::with(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
    }

    fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = vec!["mount"];
        command.extend(arguments);
        command.push(dir.path().to_str().unwrap());
        tool(&command);
        Self(dir)
    }

    /// Directory at which it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
