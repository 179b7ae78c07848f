//! Files, whose they are, and whether there is room.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Finding;
use crate::services::{UID, chosen};
use crate::site::{Running, Site};
use crate::{owner, podman};

/// Less than this is soon none.
const ROOM: u64 = 1 << 30;

pub(super) fn look(site: &Site, running: &Running) -> Vec<Finding> {
    let deploy = format!("bty-lab deploy {} --force", site.dest.display());
    let mut findings = Vec::new();
    for path in [site.toml(), site.dest.join("site.json")] {
        if !path.exists() {
            findings.push(Finding::wrong(
                "files",
                format!("{} is missing", path.display()),
                &deploy,
            ));
        }
    }
    for (path, text) in site.generated(&running.version, false) {
        if std::fs::read_to_string(&path).is_ok_and(|found| found != text) {
            findings.push(Finding::note(
                "files",
                format!(
                    "{} is not as bty-lab would write it: it was changed, or envvars was",
                    path.display()
                ),
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
        findings.extend(service.state_dir(&site.settings).and_then(|dir| state(site, &dir)));
    }
    findings.extend(people(site));
    findings.push(room(&site.settings.data_dir));
    findings
}

/// People of this host who own the site without being meant to: whoever owns the database makes a
/// token that may do everything.
fn people(site: &Site) -> Vec<Finding> {
    if !podman::is_root() {
        // the site of a user is that user's
        return Vec::new();
    }
    let mut findings: Vec<Finding> = owner::owned(site)
        .iter()
        .filter_map(|path| Some((path, owner::person(path)?)))
        .filter(|(_, (uid, _))| *uid != UID)
        .map(|(path, (uid, name))| {
            Finding::wrong(
                "owner",
                format!(
                    "{} belongs to user {uid}, who is {name} on this host and so administers the site",
                    path.display()
                ),
                format!("bty-lab deploy {} gives it to user {UID}, whom nobody is", site.dest.display()),
            )
        })
        .collect();
    if let Some(name) = owner::name(UID).filter(|name| name != "bty") {
        findings.push(Finding::wrong(
            "owner",
            format!("user {UID}, to whom the site belongs, is {name} on this host and so administers the site"),
            format!("give that user another number: usermod --uid NUMBER {name}"),
        ));
    }
    findings
}

/// What is wrong with a directory of state.
fn state(site: &Site, dir: &Path) -> Option<Finding> {
    let owner = if podman::is_root() { UID } else { rustix::process::geteuid().as_raw() };
    let next = format!("bty-lab deploy {} sets owner and mode", site.dest.display());
    match dir.metadata() {
        Err(error) => Some(Finding::wrong(
            "data",
            format!("{}: {error}", dir.display()),
            "bty-lab deploy makes it",
        )),
        Ok(meta) if meta.uid() != owner => Some(Finding::wrong(
            "data",
            format!(
                "{} belongs to user {}, its program is user {owner}",
                dir.display(),
                meta.uid()
            ),
            next,
        )),
        Ok(meta) if meta.mode() & 0o077 != 0 => Some(Finding::wrong(
            "data",
            format!(
                "other users of this machine have access to {}: its mode is {:04o}",
                dir.display(),
                meta.mode() & 0o7777
            ),
            next,
        )),
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
            let text =
                format!("{}: {:.1} GiB are free", dir.display(), free as f64 / (1 << 30) as f64);
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
