//! The full environment: fetches it, mounts it below a writable layer, and makes it the root file
//! system.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};

use crate::kernel_args::KernelArgs;
use crate::stick::{BOOT_LABEL, FileSystem, IMAGES};
use crate::{ssh, stick};

/// The root file system that process 1 switches to.
pub(crate) const ROOT: &str = "/full/root";
const SQUASHFS: &str = "/full/squashfs";
/// Exists while somebody has requested the full environment.
const REQUEST: &str = "/run/bty-live/full";
/// The squashfs on a stick, in the file system with the label [`BOOT_LABEL`].
const ON_STICK: &str = "bty/full.squashfs";
/// Files that are copied from the small environment, with their destination directories: the full
/// one has no kernel modules of its own.
const COPIED: [(&str, &str); 4] = [
    ("/lib/modules", "usr/lib"),
    ("/lib/firmware", "usr/lib"),
    ("/bin/bty", "usr/local/bin"),
    ("/init", "usr/local/sbin/bty-live"),
];

/// Asks the session to switch to the full environment. Works from any process.
pub(crate) fn request() -> Result<(), String> {
    fs::create_dir_all("/run/bty-live")
        .and_then(|()| fs::write(REQUEST, ""))
        .map_err(|e| format!("{REQUEST}: {e}"))
}

/// Removes the request; false if there was none.
pub(crate) fn take_request() -> bool {
    fs::remove_file(REQUEST).is_ok()
}

/// Mounts the full environment at [`ROOT`] and moves the mounts of the kernel there. Messages of
/// progress go to `print`, a line each. After a failure it can be tried again.
pub(crate) fn prepare(args: &KernelArgs, print: &mut dyn FnMut(&str)) -> Result<(), String> {
    mount_all(args, print).inspect_err(|_| {
        for place in [ROOT, "/full/rw", "/full/lower", "/full/stick", "/full"] {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    })
}

fn mount_all(args: &KernelArgs, print: &mut dyn FnMut(&str)) -> Result<(), String> {
    fs::create_dir_all("/full").map_err(|e| e.to_string())?;
    let file = match args.get("fetch") {
        Some(url) => fetch(url, print)?,
        None => find_on_stick()?,
    };
    print("starting the full environment");
    for module in ["loop", "squashfs", "overlay"] {
        run(&["/sbin/modprobe", module])?;
    }
    for dir in ["lower", "rw", "root"] {
        fs::create_dir_all(Path::new("/full").join(dir)).map_err(|e| e.to_string())?;
    }
    run(&[
        "/bin/mount",
        "-t",
        "squashfs",
        "-o",
        "loop,ro",
        &file.to_string_lossy(),
        "/full/lower",
    ])?;
    run(&["/bin/mount", "-t", "tmpfs", "tmpfs", "/full/rw"])?;
    run(&["/bin/mkdir", "/full/rw/upper", "/full/rw/work"])?;
    let layers = "lowerdir=/full/lower,upperdir=/full/rw/upper,workdir=/full/rw/work";
    run(&["/bin/mount", "-t", "overlay", "-o", layers, "overlay", ROOT])?;
    for (from, to) in COPIED {
        let to = Path::new(ROOT).join(to);
        fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(|e| e.to_string())?;
        run(&["/bin/cp", "-a", from, &to.to_string_lossy()])?;
    }
    ssh::authorize(args, Path::new(ROOT), print)?;
    let images = format!("{ROOT}{IMAGES}");
    fs::create_dir_all(&images).map_err(|e| e.to_string())?;
    // fails without a stick, or if none of its images are there
    let _ = rustix::mount::mount_move(IMAGES, &*images);
    // the cards keep their addresses until the full environment gets leases of its own
    let _ = Command::new("/bin/killall").arg("udhcpc").status();
    // Ctrl-Alt-Del goes to the init of the full environment
    let _ = fs::write("/proc/sys/kernel/cad_pid", "1");
    // last, because no program can be started here without these mounts
    let move_there = |place: &str| rustix::mount::mount_move(place, &*format!("{ROOT}{place}"));
    ["/proc", "/sys", "/run", "/dev"]
        .into_iter()
        .try_for_each(move_there)
        .map_err(|e| format!("moving mounts: {e}"))
}

/// For process 1: executes the init of the full environment. Returns only on failure, with the
/// reason.
pub(crate) fn switch() -> String {
    let error = Command::new("/sbin/switch_root").args([ROOT, "/sbin/init"]).exec();
    format!("cannot start the full environment: {error}")
}

fn run(command: &[&str]) -> Result<(), String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .map_err(|e| format!("{}: {e}", command[0]))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{}: {}", command.join(" "), stderr.trim()))
    }
}

/// Fetches the squashfs into memory, and checks its digest against the `.sha256` beside it.
fn fetch(url: &str, print: &mut dyn FnMut(&str)) -> Result<PathBuf, String> {
    print(&format!("fetching {url}"));
    let sums = url
        .strip_suffix(".squashfs")
        .map(|stem| format!("{stem}.sha256"))
        .ok_or("the URL of fetch= does not end with .squashfs")?;
    run(&["/bin/mount", "-t", "tmpfs", "tmpfs", "/full"])?;
    run(&["/usr/bin/wget", "-q", "-O", "/full/sums", &sums])?;
    run(&["/usr/bin/wget", "-q", "-O", SQUASHFS, url])?;
    let name = url.rsplit('/').next().unwrap_or_default();
    let sums = fs::read_to_string("/full/sums").map_err(|e| e.to_string())?;
    let line =
        sums.lines().find(|line| line.ends_with(name)).and_then(|line| line.split(' ').next());
    let expected = line.ok_or_else(|| format!("the release has no digest of {name}"))?;
    fs::write("/full/sums", format!("{expected}  {SQUASHFS}\n")).map_err(|e| e.to_string())?;
    run(&["/usr/bin/sha256sum", "-c", "-s", "/full/sums"])
        .map_err(|_| format!("the digest of {name} does not match the release"))?;
    Ok(PathBuf::from(SQUASHFS))
}

/// Mounts the stick that the machine was started from and returns the squashfs on it.
fn find_on_stick() -> Result<PathBuf, String> {
    let place = Path::new("/full/stick");
    let mut why = format!(
        "cannot find the full environment: the kernel command line has no fetch=, and no stick has \
         the label {BOOT_LABEL}"
    );
    for system in partitions_first(stick::file_systems()) {
        match stick::mount_read_only(&system, place) {
            Ok(()) if place.join(ON_STICK).exists() => return Ok(place.join(ON_STICK)),
            Ok(()) => {
                why = format!("{} has no file {ON_STICK}", system.device);
                let _ = unmount(place, UnmountFlags::empty());
            }
            Err(failed) => why = format!("{}: {failed}", system.device),
        }
    }
    Err(why)
}

/// The file systems that may have the environment. The first partition of a stick has the same
/// content as the whole disk, which is busy while another partition is mounted.
fn partitions_first(mut all: Vec<FileSystem>) -> Vec<FileSystem> {
    all.retain(|system| system.label == BOOT_LABEL);
    all.sort_by_key(|system| !system.is_partition);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_tried_before_its_disk_and_a_cd_is_tried_too() {
        let system = |device: &str, label: &str, is_partition| FileSystem {
            device: device.into(),
            is_partition,
            kind: "iso9660",
            label: label.into(),
        };
        let all = vec![
            system("/dev/sda", BOOT_LABEL, false),
            system("/dev/sda1", BOOT_LABEL, true),
            system("/dev/sdb1", "OTHER", true),
            system("/dev/sr0", BOOT_LABEL, false),
        ];
        let order: Vec<String> =
            partitions_first(all).into_iter().map(|system| system.device).collect();
        assert_eq!(order, ["/dev/sda1", "/dev/sda", "/dev/sr0"]);
    }
}
