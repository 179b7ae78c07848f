//! The full environment: fetched, laid under a writable layer, and then the root of everything.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::words::Words;
use crate::{ssh, stick};

/// The root that process 1 goes on with.
pub(crate) const ROOT: &str = "/full/root";
const FILE: &str = "/full/squashfs";
const WISH: &str = "/run/bty-live/full";
/// Where a stick has it, and the label of that file system.
const ON_STICK: &str = "bty/full.squashfs";
const STICK_LABEL: &str = "BTY_USB";
/// What of the small environment the full one needs: it has no kernel of its own.
const TAKEN_ALONG: [(&str, &str); 4] = [
    ("/lib/modules", "usr/lib"),
    ("/lib/firmware", "usr/lib"),
    ("/bin/bty", "usr/local/bin"),
    ("/init", "usr/local/sbin/bty-live"),
];

/// Somebody wants it.
pub(crate) fn ask() -> Result<(), String> {
    fs::create_dir_all("/run/bty-live")
        .and_then(|()| fs::write(WISH, ""))
        .map_err(|e| format!("{WISH}: {e}"))
}

/// Somebody wanted it; asked once.
pub(crate) fn is_wanted() -> bool {
    fs::remove_file(WISH).is_ok()
}

/// Makes it ready below [`ROOT`].
pub(crate) fn prepare(words: &Words, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    fs::create_dir_all("/full").map_err(|e| e.to_string())?;
    let file = match words.get("fetch") {
        Some(url) => fetch(url, say)?,
        None => on_stick()?,
    };
    say("starting it");
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
    for (from, to) in TAKEN_ALONG {
        let to = Path::new(ROOT).join(to);
        fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(|e| e.to_string())?;
        run(&["/bin/cp", "-a", from, &to.to_string_lossy()])?;
    }
    ssh::authorize(words, Path::new(ROOT), say)?;
    // the cards keep their addresses; services of the full environment ask again
    let _ = Command::new("/bin/killall").arg("udhcpc").status();
    // no program can be started any more once they are gone
    let move_there = |place: &str| rustix::mount::mount_move(place, &*format!("{ROOT}{place}"));
    ["/proc", "/sys", "/run", "/dev"]
        .into_iter()
        .try_for_each(move_there)
        .map_err(|e| format!("moving mounts: {e}"))
}

/// For process 1: becomes the full environment's. It returns when that cannot be, with the reason.
pub(crate) fn switch() -> String {
    let error = Command::new("/sbin/switch_root").args([ROOT, "/sbin/init"]).exec();
    format!("the full environment cannot be started: {error}")
}

fn run(command: &[&str]) -> Result<(), String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .map_err(|e| format!("{}: {e}", command[0]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{}: {}", command.join(" "), said.trim()))
    }
}

/// Fetches it, and compares it with the digest that its release has beside it.
fn fetch(url: &str, say: &mut dyn FnMut(&str)) -> Result<PathBuf, String> {
    say(&format!("fetching {url}"));
    let sums = url
        .strip_suffix(".squashfs")
        .map(|stem| format!("{stem}.sha256"))
        .ok_or("fetch= names no .squashfs")?;
    run(&["/bin/mount", "-t", "tmpfs", "tmpfs", "/full"])?;
    run(&["/usr/bin/wget", "-q", "-O", "/full/sums", &sums])?;
    run(&["/usr/bin/wget", "-q", "-O", FILE, url])?;
    let name = url.rsplit('/').next().unwrap_or_default();
    let sums = fs::read_to_string("/full/sums").map_err(|e| e.to_string())?;
    let line =
        sums.lines().find(|line| line.ends_with(name)).and_then(|line| line.split(' ').next());
    let expected = line.ok_or_else(|| format!("the release has no digest of {name}"))?;
    fs::write("/full/sums", format!("{expected}  {FILE}\n")).map_err(|e| e.to_string())?;
    run(&["/usr/bin/sha256sum", "-c", "-s", "/full/sums"])
        .map_err(|_| format!("{name} is not the one of the release"))?;
    Ok(PathBuf::from(FILE))
}

/// Finds it on the stick that the machine was started from.
fn on_stick() -> Result<PathBuf, String> {
    fs::create_dir_all("/full/stick").map_err(|e| e.to_string())?;
    let found = stick::file_systems().into_iter().find(|seen| seen.label == STICK_LABEL);
    let device =
        found.ok_or("nobody said where it is (fetch=), and there is no stick with it")?.device;
    run(&["/bin/mount", "-t", "iso9660", "-o", "ro", &device, "/full/stick"])?;
    Ok(Path::new("/full/stick").join(ON_STICK))
}
