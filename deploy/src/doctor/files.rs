//! Files, whose they are, and whether there is room.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Finding;
use crate::podman;
use crate::services::{UID, chosen};
use crate::site::{Running, Site};

/// Less than this is soon none.
const ROOM: u64 = 1 << 30;

pub(super) fn look(site: &Site, running: &Running) -> Vec<Finding> {
    let deploy = format!("bty-lab deploy {} --force", site.dest.display());
    let mut findings = Vec::new();
    for path in [site.toml(), site.dest.join("site.json")] {
        if !path.exists() {
            findings.push(Finding::wrong("files", format!("{} is missing", path.display()), &deploy));
        }
    }
    for (path, text) in site.generated(&running.version, false) {
        if std::fs::read_to_string(&path).is_ok_and(|found| found != text) {
            findings.push(Finding::note(
                "files",
                format!("{} is not as bty-lab would write it: it was changed, or envvars was", path.display()),
            ));
        }
    }
    let is_open = |path: &Path| path.metadata().is_ok_and(|meta| meta.mode() & 0o007 != 0);
    for path in [site.toml(), site.envvars()].iter().filter(|path| is_open(path)) {
        findings.push(Finding::wrong(
            "files",
            format!("everybody on this machine can read {}", path.display()),
            format!("chmod o= {}", path.display()),
        ));
    }
    for service in chosen(&site.settings, &running.version) {
        findings.extend(service.state_dir(&site.settings).and_then(|dir| state(&dir)));
    }
    findings.push(room(&site.settings.data_dir));
    findings
}

/// What is wrong with a directory of state.
fn state(dir: &Path) -> Option<Finding> {
    let owner = if podman::is_root() { UID } else { rustix::process::geteuid().as_raw() };
    let next = format!("chown {owner} {0} && chmod 750 {0}", dir.display());
    match dir.metadata() {
        Err(error) => Some(Finding::wrong("data", format!("{}: {error}", dir.display()), "bty-lab deploy makes it")),
        Ok(meta) if meta.uid() != owner => Some(Finding::wrong(
            "data",
            format!("{} belongs to user {}, its program is user {owner}", dir.display(), meta.uid()),
            next,
        )),
        Ok(meta) if meta.mode() & 0o002 != 0 => {
            Some(Finding::wrong("data", format!("everybody on this machine can write to {}", dir.display()), next))
        }
        Ok(_) => None,
    }
}

fn room(dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Err(error) => Finding::wrong(
            "data",
            format!("{}: {error}", dir.display()),
            "BTY_HOST_DATA_DIR in envvars names another directory",
        ),
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let text = format!("{}: {:.1} GiB are free", dir.display(), free as f64 / (1 << 30) as f64);
            match free < ROOM {
                true => Finding::wrong(
                    "data",
                    text,
                    "make room: cached images are deleted on the page Cache, BTY_CACHE_MAX_BYTES bounds them",
                ),
                false => Finding::ok("data", text),
            }
        }
    }
}
