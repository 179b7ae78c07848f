//! `bty-lab upgrade`: changes the version of a site, and goes back if that fails or if asked.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::deploy::restart;
use crate::cli::Upgrade;
use crate::failure::{Failure, Result};
use crate::output::Steps;
use crate::service_manager::ServiceManager;
use crate::services;
use crate::site::{Deployment, Site, VERSION};
use crate::{images, output, owner, podman};

/// Files of a service that an upgrade backs up. Everything else in its directory can be fetched
/// again.
const STATE: [&str; 5] = ["state.db", "state.db-wal", "state.db-shm", "bty.toml", "session-secret"];

pub(crate) fn run(options: &Upgrade) -> Result<ExitCode> {
    let site = Site::open(&options.place)?;
    let Some(before) = site.running().filter(|_| site.toml().exists()) else {
        let failure = Failure::new(format!(
            "cannot upgrade {}: it was never deployed, or lacks site.json or bty.toml",
            site.dest.display()
        ));
        return Err(failure.hint(format!("bty-lab deploy {} --force", site.dest.display())));
    };
    if before.manager == ServiceManager::Systemd
        && ServiceManager::detect() != ServiceManager::Systemd
    {
        let failure = Failure::new("systemd runs this site, and this user has no access to it");
        return Err(failure.hint("run it as the user who deployed it: sudo bty-lab upgrade"));
    }
    if options.back {
        roll_back(&site, &before)
    } else {
        upgrade(&site, &before, options.images.as_deref())
    }
}

fn upgrade(site: &Site, before: &Deployment, archive: Option<&Path>) -> Result<ExitCode> {
    let mut steps = Steps::new(5);
    steps.report(
        "prerequisites",
        format!("podman {}; from version {} to {VERSION}", podman::version()?, before.version),
    );
    let services = services::enabled(&site.settings, VERSION);
    // before anything is stopped, because this may take long and may fail
    steps.report("images", &images::ensure(&services, archive)?);
    stop(site, before.manager)?;
    let backup = Backup::new(site);
    let after = Deployment::new(VERSION, ServiceManager::detect());
    let result = backup.make(site).and_then(|()| {
        steps.report("backup", backup.dir.display().to_string());
        site.write_for(VERSION)?;
        site.set_deployment(Some(&after))?;
        steps.report("files", format!("{} for version {VERSION}", site.dest.display()));
        restart(site, before.manager, after.manager, &services, VERSION)
    });
    match result {
        Ok(()) => {
            steps.report("services", "healthy");
            output::line(format_args!(
                "version {VERSION} is running; bty-lab upgrade {} --back goes back to {}",
                site.dest.display(),
                before.version
            ));
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Err(undo(site, &backup, before, after.manager, &failure)),
    }
}

/// Stops all services, and fails if one may still be running: its state must not be copied or
/// replaced then.
fn stop(site: &Site, manager: ServiceManager) -> Result<()> {
    match manager.stop(site).into_iter().next() {
        Some(failure) => Err(Failure::new(format!("{failure}; the data is unchanged"))
            .hint(format!("bty-lab deploy {}", site.dest.display()))),
        None => Ok(()),
    }
}

/// Restores the previous version after a failed upgrade. Returns the failure of the upgrade with
/// the result of the restore added.
fn undo(
    site: &Site,
    backup: &Backup,
    before: &Deployment,
    manager: ServiceManager,
    failure: &Failure,
) -> Failure {
    match restore(site, backup, before, manager) {
        Ok(()) => Failure::new(format!(
            "{failure}\nthe upgrade was rolled back: version {} is running, with its previous data",
            before.version
        )),
        Err(second) => Failure::new(format!("{failure}\nand the rollback failed: {second}"))
            .hint(format!("the previous data is in {}", backup.dir.display())),
    }
}

fn roll_back(site: &Site, before: &Deployment) -> Result<ExitCode> {
    let backup = Backup::new(site);
    let Some(earlier) = backup.running() else {
        return Err(Failure::new(format!(
            "cannot go back: {} has no backup of an earlier version",
            site.dest.display()
        )));
    };
    restore(site, &backup, &earlier, before.manager)?;
    output::line(format_args!(
        "version {} is running, with the data from before the upgrade",
        earlier.version
    ));
    Ok(ExitCode::SUCCESS)
}

fn restore(
    site: &Site,
    backup: &Backup,
    earlier: &Deployment,
    manager: ServiceManager,
) -> Result<()> {
    let services = services::enabled(&site.settings, &earlier.version);
    images::ensure(&services, None)?;
    stop(site, manager)?;
    backup.put_back(site)?;
    site.write_for(&earlier.version)?;
    site.set_deployment(Some(earlier))?;
    restart(site, manager, earlier.manager, &services, &earlier.version)
}

/// The state from before the last upgrade.
struct Backup {
    dir: PathBuf,
}

impl Backup {
    fn new(site: &Site) -> Self {
        Self { dir: site.dest.join("backup") }
    }

    /// What was running when the backup was made; none if there is no backup.
    fn running(&self) -> Option<Deployment> {
        Deployment::read(&self.dir.join("site.json"))
    }

    /// The files to back up: path in the site, and path in the backup.
    fn files(&self, site: &Site) -> Vec<(PathBuf, PathBuf)> {
        let services = services::all(&site.settings, VERSION);
        let dirs = services
            .iter()
            .filter_map(|service| Some((service.name, service.state_dir(&site.settings)?)));
        dirs.flat_map(|(name, dir)| {
            STATE.map(|file| (dir.join(file), self.dir.join(name).join(file)))
        })
        .collect()
    }

    /// Copies the state. Services must be stopped. The previous backup is deleted only after all
    /// files have been copied.
    fn make(&self, site: &Site) -> Result<()> {
        let part = Self { dir: self.dir.with_extension("part") };
        let _ = std::fs::remove_dir_all(&part.dir);
        let mut private = std::fs::DirBuilder::new();
        private
            .recursive(true)
            .mode(owner::DIR_MODE)
            .create(&part.dir)
            .map_err(Failure::at(&part.dir))?;
        for (from, to) in part.files(site) {
            copy(&from, &to)?;
        }
        // these are generated, but may have been edited
        for name in ["site.json", "compose.yml", "README.md"] {
            copy(&site.dest.join(name), &part.dir.join(name))?;
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        std::fs::rename(&part.dir, &self.dir).map_err(Failure::at(&self.dir))
    }

    /// Replaces the state by the backup. Files without a backup are deleted: a write-ahead log that
    /// stayed would be applied to the wrong database.
    fn put_back(&self, site: &Site) -> Result<()> {
        for (current, backup) in self.files(site) {
            if current.exists() {
                std::fs::remove_file(&current).map_err(Failure::at(&current))?;
            }
            copy(&backup, &current)?;
        }
        Ok(())
    }
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
