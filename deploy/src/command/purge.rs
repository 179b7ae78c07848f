//! `bty-lab purge`: stops and removes a site.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::Purge;
use crate::failure::{Failure, Result};
use crate::service_manager::ServiceManager;
use crate::site::{Site, VERSION};
use crate::{podman, services};

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
    println!("this removes the site {}:", site.dest.display());
    println!(
        "  stop and remove  {}",
        services.iter().map(|service| service.name).collect::<Vec<_>>().join(", ")
    );
    data.iter()
        .for_each(|dir| println!("  delete           {} and everything in it", dir.display()));
    images.iter().for_each(|image| println!("  remove image     {image}"));
    if options.all {
        println!("  delete           {} with settings and password", site.dest.display());
    } else if data.is_empty() {
        println!("  keep             {} (--data deletes it)", site.settings.data_dir.display());
    }
    if !options.yes && !confirm()? {
        println!("nothing was changed");
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
        println!("done");
        return Ok(ExitCode::SUCCESS);
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!("the site was not removed completely:\n{}", texts.join("\n"))))
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

fn confirm() -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new("cannot ask for confirmation: stdin is not a terminal")
            .hint("--yes continues without confirmation"));
    }
    print!("Proceed? [y/N] ");
    let mut line = String::new();
    let read = std::io::stdout().flush().and_then(|()| stdin.lock().read_line(&mut line));
    read.map_err(|e| Failure::new(e.to_string()))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Deletes the directory of the site, or without `all` only the record of what runs, so that
/// `deploy` can start the site with its settings again.
fn remove_files(site: &Site, all: bool) -> Option<Failure> {
    match all {
        true => std::fs::remove_dir_all(&site.dest).map_err(Failure::at(&site.dest)).err(),
        false => site.set_deployment(None).err(),
    }
}
