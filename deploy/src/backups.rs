//! Copies of a site's data, made before its upgrades.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use bty::size;

use crate::failure::{Failure, Result};
use crate::site::{Deployment, Site, VERSION};
use crate::{owner, services};

/// Files of a service that are copied. Everything else in its directory can be fetched again.
const STATE: [&str; 5] = ["state.db", "state.db-wal", "state.db-shm", "bty.toml", "session-secret"];

/// Directory of the backups in a site.
const DIR: &str = "backups";

/// The only backup of earlier versions.
const EARLIER: &str = "backup";

/// Number of backups that are kept.
const KEPT_MAX: usize = 5;

/// Space that kept backups may use together, in bytes. The newest one is always kept.
const KEPT_BYTES_MAX: u64 = 4 << 30;

/// Space that must stay free beside a backup, in bytes.
const SPARE_BYTES: u64 = 16 << 20;

/// The data from before an upgrade.
pub(crate) struct Backup {
    pub(crate) dir: PathBuf,
}

/// Returns the newest backup of another version than `running`.
pub(crate) fn newest_of_another_version(
    site: &Site,
    running: &Deployment,
) -> Option<(Backup, Deployment)> {
    let made = all(site).into_iter().rev();
    made.filter_map(|backup| Some((Deployment::read(&backup.dir.join("site.json"))?, backup)))
        .find(|(made_of, _)| made_of.version != running.version)
        .map(|(made_of, backup)| (backup, made_of))
}

/// Refuses to stop a site that has no room for a backup of its data.
pub(crate) fn check_room(site: &Site) -> Result<()> {
    let needed = SPARE_BYTES + bytes(files(site).map(|(from, _)| from));
    let stat = rustix::fs::statvfs(&site.dest).map_err(std::io::Error::from);
    let stat = stat.map_err(Failure::at(&site.dest))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= needed {
        return Ok(());
    }
    let dest = site.dest.display();
    Err(Failure::new(format!(
        "{dest} has {} of free space, and the backup of the data needs {}; nothing was changed",
        size::human(free),
        size::human(needed)
    ))
    .hint(format!("free space, or delete old backups in {dest}/{DIR}")))
}

/// Copies the data. Services must be stopped.
pub(crate) fn make(site: &Site) -> Result<Backup> {
    let parent = site.dest.join(DIR);
    let name = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
    let part = parent.join(format!("{name}.part"));
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(owner::DIR_MODE).create(&part).map_err(Failure::at(&part))?;
    for (from, to) in files(site) {
        copy(&from, &part.join(to))?;
    }
    // these are generated, but may have been edited
    for name in ["site.json", "compose.yml", "README.md"] {
        copy(&site.dest.join(name), &part.join(name))?;
    }
    let dir = parent.join(name);
    std::fs::rename(&part, &dir).map_err(Failure::at(&dir))?;
    Ok(Backup { dir })
}

/// Deletes the oldest backups beyond the limits, and remains of interrupted ones.
pub(crate) fn prune(site: &Site) {
    for entry in std::fs::read_dir(site.dest.join(DIR)).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|end| end == "part") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let mut kept_bytes = 0;
    for (age, backup) in all(site).into_iter().rev().enumerate() {
        kept_bytes += bytes(files(site).map(|(_, name)| backup.dir.join(name)));
        if age > 0 && (age >= KEPT_MAX || kept_bytes > KEPT_BYTES_MAX) {
            let _ = std::fs::remove_dir_all(&backup.dir);
        }
    }
}

impl Backup {
    /// Replaces the data by the backup. Files without a backup are deleted: a write-ahead log that
    /// stayed would be applied to the wrong database.
    pub(crate) fn put_back(&self, site: &Site) -> Result<()> {
        for (current, name) in files(site) {
            if current.exists() {
                std::fs::remove_file(&current).map_err(Failure::at(&current))?;
            }
            copy(&self.dir.join(name), &current)?;
        }
        Ok(())
    }
}

/// All backups, the oldest first.
fn all(site: &Site) -> Vec<Backup> {
    let entries = std::fs::read_dir(site.dest.join(DIR)).into_iter().flatten().flatten();
    // their names are times
    let mut dirs: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|dir| dir.extension().is_none() && dir.is_dir())
        .collect();
    dirs.sort();
    let earlier = Some(site.dest.join(EARLIER)).filter(|dir| dir.is_dir());
    earlier.into_iter().chain(dirs).map(|dir| Backup { dir }).collect()
}

/// The files of the data, each with its path in a backup.
fn files(site: &Site) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let services = services::all(&site.settings, VERSION);
    let dirs: Vec<(&str, PathBuf)> = services
        .iter()
        .filter_map(|service| Some((service.name, service.state_dir(&site.settings)?)))
        .collect();
    dirs.into_iter().flat_map(|(service, dir)| {
        STATE.map(|file| (dir.join(file), Path::new(service).join(file)))
    })
}

fn bytes(paths: impl Iterator<Item = PathBuf>) -> u64 {
    paths.filter_map(|path| Some(path.metadata().ok()?.len())).sum()
}

/// Copies a file with its owner and mode, and syncs it to the disk; does nothing if it is missing.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let Ok(meta) = from.metadata() else { return Ok(()) };
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).map_err(Failure::at(dir))?;
    }
    std::fs::copy(from, to).map_err(Failure::at(to))?;
    let file = std::fs::File::open(to).map_err(Failure::at(to))?;
    file.sync_all().map_err(Failure::at(to))?;
    chown(to, Some(meta.uid()), Some(meta.gid())).map_err(Failure::at(to))
}
