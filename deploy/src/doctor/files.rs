//! Checks the files of a site, their owners and modes, and free space.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Finding;
use crate::services::{UID, enabled};
use crate::site::{Deployment, Site};
use crate::{owner, process};

/// Less free space than this is a problem, in bytes.
const FREE_MIN: u64 = 1 << 30;

pub(super) fn check(site: &Site, running: &Deployment) -> Vec<Finding> {
    let deploy = format!("bty-lab deploy {} --force", site.dest.display());
    let mut findings = Vec::new();
    for path in [site.toml(), site.dest.join("site.json")] {
        if !path.exists() {
            findings.push(Finding::error(
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
                    "{} differs from what bty-lab would write: it was edited, or envvars was",
                    path.display()
                ),
            ));
        }
    }
    let is_open = |path: &Path| path.metadata().is_ok_and(|meta| meta.mode() & 0o007 != 0);
    for path in [site.toml(), site.envvars()].iter().filter(|path| is_open(path)) {
        findings.push(Finding::error(
            "files",
            format!("every user of this host can read {}", path.display()),
            format!("chmod o= {}", path.display()),
        ));
    }
    for service in enabled(&site.settings, &running.version) {
        findings.extend(service.state_dir(&site.settings).and_then(|dir| state_dir(site, &dir)));
    }
    findings.extend(owners(site));
    findings.push(free_space(&site.settings.data_dir));
    findings
}

/// Finds users of this host who own a part of the site by accident. Whoever can write to the
/// database can create an admin token.
fn owners(site: &Site) -> Vec<Finding> {
    if !process::is_root() {
        // a site that was deployed without root belongs to that user
        return Vec::new();
    }
    let mut findings: Vec<Finding> = owner::owned_paths(site)
        .iter()
        .filter_map(|path| Some((path, owner::named_owner(path)?)))
        .filter(|(_, (uid, _))| *uid != UID)
        .map(|(path, (uid, name))| {
            Finding::error(
                "owner",
                format!(
                    "{} belongs to user {uid}, who is {name} on this host and so controls the site",
                    path.display()
                ),
                format!(
                    "bty-lab deploy {} changes the owner to user {UID}, which no person has",
                    site.dest.display()
                ),
            )
        })
        .collect();
    if let Some(name) = owner::user_name(UID).filter(|name| name != "bty") {
        findings.push(Finding::error(
            "owner",
            format!(
                "user {UID}, to whom the site belongs, is {name} on this host, who so controls the \
                 site"
            ),
            format!("give that user another number: usermod --uid NUMBER {name}"),
        ));
    }
    findings
}

/// Checks owner and mode of a directory of state.
fn state_dir(site: &Site, dir: &Path) -> Option<Finding> {
    let owner = if process::is_root() { UID } else { rustix::process::geteuid().as_raw() };
    let next = format!("bty-lab deploy {} sets owner and mode", site.dest.display());
    match dir.metadata() {
        Err(error) => Some(Finding::error(
            "data",
            format!("{}: {error}", dir.display()),
            "bty-lab deploy creates it",
        )),
        Ok(meta) if meta.uid() != owner => Some(Finding::error(
            "data",
            format!(
                "{} belongs to user {}, but its program runs as user {owner}",
                dir.display(),
                meta.uid()
            ),
            next,
        )),
        Ok(meta) if meta.mode() & 0o077 != 0 => Some(Finding::error(
            "data",
            format!(
                "other users of this host have access to {}: its mode is {:04o}",
                dir.display(),
                meta.mode() & 0o7777
            ),
            next,
        )),
        Ok(_) => None,
    }
}

fn free_space(dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Err(error) => Finding::error(
            "data",
            format!("{}: {error}", dir.display()),
            "set another directory by BTY_HOST_DATA_DIR in envvars",
        ),
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let text = format!("{}: {:.1} GiB free", dir.display(), free as f64 / (1 << 30) as f64);
            match free < FREE_MIN {
                true => Finding::error(
                    "data",
                    text,
                    "free space: delete cached images on the page Cache, or limit them by \
                     BTY_CACHE_MAX_BYTES",
                ),
                false => Finding::ok("data", text),
            }
        }
    }
}
