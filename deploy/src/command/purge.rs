//! `bty-lab purge`: stops and removes a site.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::Purge;
use crate::failure::{Failure, Result};
use crate::service_manager::ServiceManager;
use crate::services::Service;
use crate::site::{Site, VERSION};
use crate::{output, podman, services};

pub(crate) fn run(options: &Purge) -> Result<ExitCode> {
    let site = Site::open(&options.place)
        .map_err(|failure| Failure::new(format!("nothing to purge: {failure}")))?;
    let running = site.running();
    let version = running.as_ref().map_or(VERSION, |running| &running.version);
    let services = services::all(&site.settings, version);
    let data: Vec<PathBuf> = match options.data || options.all {
        true => services
            .iter()
            .filter_map(|service| service.state_dir(&site.settings))
            .filter(|dir| dir.exists())
            .collect(),
        false => Vec::new(),
    };
    let images: Vec<&str> = match options.images || options.all {
        true => services
            .iter()
            .map(|service| service.image.as_str())
            .filter(|image| podman::architecture(image).is_some())
            .collect(),
        false => Vec::new(),
    };
    check(&site, options)?;
    describe(&site, options, &services, &data, &images);
    if !options.yes && !output::confirm()? {
        output::line("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let manager = running.map_or_else(ServiceManager::detect, |running| running.manager);
    // a failure does not stop the rest; all failures are reported at the end
    let mut failures = manager.stop(&site);
    for dir in &data {
        failures.extend(std::fs::remove_dir_all(dir).map_err(Failure::at(dir)).err());
    }
    failures.extend(images.iter().filter_map(|image| podman::remove_image(image).err()));
    failures.extend(remove_files(&site, options.all));
    if failures.is_empty() {
        output::line("done");
        return Ok(ExitCode::SUCCESS);
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!("the site was not removed completely:\n{}", texts.join("\n"))))
}

/// Lists what will be stopped, deleted and kept.
fn describe(site: &Site, options: &Purge, services: &[Service], data: &[PathBuf], images: &[&str]) {
    output::line(format_args!("this removes the site {}:", site.dest.display()));
    let item = |act: &str, what: std::fmt::Arguments<'_>| {
        output::line(format_args!("  {act:<16} {what}"));
    };
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    item("stop and remove", format_args!("{}", names.join(", ")));
    for dir in data {
        item("delete", format_args!("{} and everything in it", dir.display()));
    }
    for image in images {
        item("remove image", format_args!("{image}"));
    }
    if options.all {
        item("delete", format_args!("{} with settings and password", site.dest.display()));
    } else if data.is_empty() {
        item("keep", format_args!("{} (--data deletes it)", site.settings.data_dir.display()));
    }
}

/// Refuses `--all` for a directory that contains more than the site, such as a home directory.
fn check(site: &Site, options: &Purge) -> Result<()> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let dest = site.dest.canonicalize().map_err(Failure::at(&site.dest))?;
    let is_too_much = dest.parent().is_none()
        || home.is_some_and(|home| home.starts_with(&dest))
        || dest.join(".git").exists();
    match options.all && is_too_much {
        true => Err(Failure::new(format!(
            "--all would delete {}, which contains more than the site",
            dest.display()
        ))
        .hint("run it without --all, and delete the rest by hand")),
        false => Ok(()),
    }
}

/// Deletes the directory of the site, or without `all` only the record of what runs, so that
/// `deploy` can start the site with its settings again.
fn remove_files(site: &Site, all: bool) -> Option<Failure> {
    match all {
        true => std::fs::remove_dir_all(&site.dest).map_err(Failure::at(&site.dest)).err(),
        false => site.set_deployment(None).err(),
    }
}
