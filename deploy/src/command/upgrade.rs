//! `bty-lab upgrade`: changes the version of a site, and goes back if that fails or if asked.

use std::path::Path;
use std::process::ExitCode;

use super::deploy::restart;
use crate::backups::{self, Backup};
use crate::cli::Upgrade;
use crate::failure::{Failure, Result};
use crate::output::Steps;
use crate::service_manager::ServiceManager;
use crate::services;
use crate::site::{Deployment, Site, VERSION};
use crate::{images, output, podman};

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
        return roll_back(&site, &before);
    }
    if before.version == VERSION {
        output::line(format_args!(
            "version {VERSION} is running already, so nothing was changed; bty-lab deploy {} \
             starts it again",
            site.dest.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    if is_later(&before.version, VERSION) && !options.allow_downgrade {
        let failure = Failure::new(format!(
            "version {} is running, which is later than this bty-lab ({VERSION}); an earlier \
             version may not be able to read its data",
            before.version
        ));
        return Err(failure.hint(format!(
            "bty-lab upgrade {} --back goes back to the data from before the upgrade; \
             --allow-downgrade keeps the data, and goes back by itself if that fails",
            site.dest.display()
        )));
    }
    upgrade(&site, &before, options.images.as_deref())
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
    backups::check_room(site)?;
    stop(site, before.manager)?;
    let backup = match backups::make(site) {
        Ok(backup) => backup,
        Err(failure) => return Err(resume(site, before, &failure)),
    };
    steps.report("backup", backup.dir.display().to_string());
    let after = Deployment::new(VERSION, ServiceManager::detect());
    let result = site
        .write_for(VERSION)
        .and_then(|()| site.set_deployment(Some(&after)))
        .map(|()| {
            steps.report("files", format!("{} for version {VERSION}", site.dest.display()));
        })
        .and_then(|()| restart(site, before.manager, after.manager, &services, VERSION));
    match result {
        Ok(()) => {
            backups::prune(site);
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

/// Starts a site again whose data could not be backed up.
fn resume(site: &Site, before: &Deployment, failure: &Failure) -> Failure {
    let services = services::enabled(&site.settings, &before.version);
    match restart(site, before.manager, before.manager, &services, &before.version) {
        Ok(()) => Failure::new(format!(
            "{failure}\nversion {} is running again, and its data is unchanged",
            before.version
        )),
        Err(second) => Failure::new(format!("{failure}\nand it could not be started: {second}"))
            .hint(format!("bty-lab deploy {}", site.dest.display())),
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
    let Some((backup, earlier)) = backups::newest_of_another_version(site, before) else {
        return Err(Failure::new(format!(
            "cannot go back: {} has no backup of another version",
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

/// True if the version `a` is later than `b`.
fn is_later(a: &str, b: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        let release = version.split(['-', '+']).next().unwrap_or_default();
        release.split('.').map(|part| part.parse().unwrap_or_default()).collect()
    };
    numbers(a) > numbers(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (later, earlier) in [("0.10.0", "0.9.9"), ("1.0.0", "0.99.0"), ("0.1.1", "0.1.0")] {
            assert!(is_later(later, earlier) && !is_later(earlier, later));
        }
        assert!(!is_later("0.1.0", "0.1.0"));
    }
}
