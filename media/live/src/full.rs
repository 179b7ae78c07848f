//! The full environment: fetches it, mounts it below a writable layer, and makes it the root file
//! system.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kernel_args::KernelArgs;
use crate::{ssh, stick};

/// The root file system that process 1 switches to.
pub(crate) const ROOT: &str = "/full/root";
const SQUASHFS: &str = "/full/squashfs";
/// Exists while somebody has requested the full environment.
const REQUEST: &str = "/run/bty-live/full";
/// The squashfs on a stick, whose file system has this label.
const ON_STICK: &str = "bty/full.squashfs";
const STICK_LABEL: &str = "BTY_USB";
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
/// progress go to `print`, a line each.
pub(crate) fn prepare(args: &KernelArgs, print: &mut dyn FnMut(&str)) -> Result<(), String> {
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
    // the cards keep their addresses until the full environment gets leases of its own
    let _ = Command::new("/bin/killall").arg("udhcpc").status();
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
    fs::create_dir_all("/full/stick").map_err(|e| e.to_string())?;
    let found = stick::file_systems().into_iter().find(|found| found.label == STICK_LABEL);
    let device = found
        .ok_or_else(|| {
            format!(
                "cannot find the full environment: the kernel command line has no fetch=, and no \
                 stick has the label {STICK_LABEL}"
            )
        })?
        .device;
    run(&["/bin/mount", "-t", "iso9660", "-o", "ro", &device, "/full/stick"])?;
    Ok(Path::new("/full/stick").join(ON_STICK))
}
