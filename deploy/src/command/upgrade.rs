//! From one version to the next, and back.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::deploy::again;
use crate::cli::Upgrade;
use crate::failure::{Failure, Result};
use crate::manager::Manager;
use crate::services;
use crate::site::{Running, Site, VERSION};
use crate::steps::Steps;
use crate::{images, owner, podman};

/// What a service keeps in its directory besides what can be fetched again.
const STATE: [&str; 5] = ["state.db", "state.db-wal", "state.db-shm", "bty.toml", "session-secret"];

pub(crate) fn run(options: &Upgrade) -> Result<ExitCode> {
    let site = Site::open(&options.place)?;
    let Some(before) = site.running().filter(|_| site.toml().exists()) else {
        let failure = Failure::new(format!(
            "{} was never deployed, or lacks site.json or bty.toml",
            site.dest.display()
        ));
        return Err(failure.or(format!("bty-lab deploy {} --force", site.dest.display())));
    };
    if before.manager == Manager::Systemd && Manager::found() != Manager::Systemd {
        let failure = Failure::new("the services of this site are systemd's");
        return Err(failure.or("run it as who deployed it: sudo bty-lab upgrade"));
    }
    if options.back {
        go_back(&site, &before)
    } else {
        go_on(&site, &before, options.images.as_deref())
    }
}

fn go_on(site: &Site, before: &Running, archive: Option<&Path>) -> Result<ExitCode> {
    let mut steps = Steps::new(5);
    steps.say(
        "prerequisites",
        &format!("podman {}; from version {} to {VERSION}", podman::version()?, before.version),
    );
    let services = services::chosen(&site.settings, VERSION);
    // all that can fail without stopping anything comes first
    steps.say("images", &images::have(&services, archive)?);
    stop(site, before.manager)?;
    let backup = Backup::of(site);
    let after = Running::of(VERSION, Manager::found());
    let result = backup.make(site).and_then(|()| {
        steps.say("backup", &backup.dir.display().to_string());
        site.write_for(VERSION)?;
        site.set_running(Some(&after))?;
        steps.say("files", &format!("{} for version {VERSION}", site.dest.display()));
        again(site, before.manager, after.manager, &services, VERSION)
    });
    match result {
        Ok(()) => {
            steps.say("services", "answer");
            println!(
                "version {VERSION} runs; bty-lab upgrade {} --back leads back to {}",
                site.dest.display(),
                before.version
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Err(undo(site, &backup, before, after.manager, &failure)),
    }
}

/// Nobody's state is copied or replaced while its program may still run.
fn stop(site: &Site, manager: Manager) -> Result<()> {
    match manager.stop(site).into_iter().next() {
        Some(failure) => Err(Failure::new(format!("{failure}; the data is as it was"))
            .or(format!("bty-lab deploy {}", site.dest.display()))),
        None => Ok(()),
    }
}

/// The version from before runs again, or a person must know that it does not.
fn undo(
    site: &Site,
    backup: &Backup,
    before: &Running,
    manager: Manager,
    failure: &Failure,
) -> Failure {
    match restore(site, backup, before, manager) {
        Ok(()) => Failure::new(format!(
            "{failure}\nversion {} runs again, with the data that it had",
            before.version
        )),
        Err(second) => Failure::new(format!("{failure}\nand going back failed: {second}"))
            .or(format!("the data of before is in {}", backup.dir.display())),
    }
}

fn go_back(site: &Site, before: &Running) -> Result<ExitCode> {
    let backup = Backup::of(site);
    let Some(earlier) = backup.running() else {
        return Err(Failure::new(format!(
            "there is nothing to go back to: {} has no backup",
            site.dest.display()
        )));
    };
    restore(site, &backup, &earlier, before.manager)?;
    println!("version {} runs, with the data of before the upgrade", earlier.version);
    Ok(ExitCode::SUCCESS)
}

fn restore(site: &Site, backup: &Backup, earlier: &Running, manager: Manager) -> Result<()> {
    let services = services::chosen(&site.settings, &earlier.version);
    images::have(&services, None)?;
    stop(site, manager)?;
    backup.put_back(site)?;
    site.write_for(&earlier.version)?;
    site.set_running(Some(earlier))?;
    again(site, manager, earlier.manager, &services, &earlier.version)
}

/// Where the state of before the last upgrade is.
struct Backup {
    dir: PathBuf,
}

impl Backup {
    fn of(site: &Site) -> Self {
        Self { dir: site.dest.join("backup") }
    }

    /// What was there.
    fn running(&self) -> Option<Running> {
        Running::of_file(&self.dir.join("site.json"))
    }

    /// Files of the site that belong together, where each is, and where it is kept.
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

    /// Copies the state of services that are stopped. What was kept before is only given up when
    /// all of it is copied.
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
        // somebody may have changed what is made anew
        for name in ["site.json", "compose.yml", "README.md"] {
            copy(&site.dest.join(name), &part.dir.join(name))?;
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        std::fs::rename(&part.dir, &self.dir).map_err(Failure::at(&self.dir))
    }

    /// A file that was not there is not there again: a log without its database would be read into
    /// another one.
    fn put_back(&self, site: &Site) -> Result<()> {
        for (there, kept) in self.files(site) {
            if there.exists() {
                std::fs::remove_file(&there).map_err(Failure::at(&there))?;
            }
            copy(&kept, &there)?;
        }
        Ok(())
    }
}

/// Copies a file with its owner, mode and bytes down to the disk; nothing when there is none.
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
