//! Ending a site.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::Purge;
use crate::failure::{Failure, Result};
use crate::manager::Manager;
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
    println!("this ends the site {}:", site.dest.display());
    println!(
        "  stop and remove  {}",
        services.iter().map(|service| service.name).collect::<Vec<_>>().join(", ")
    );
    data.iter()
        .for_each(|dir| println!("  delete           {} with all that is in it", dir.display()));
    images.iter().for_each(|image| println!("  remove image     {image}"));
    if options.all {
        println!("  delete           {} with its settings and password", site.dest.display());
    } else if data.is_empty() {
        println!("  keep             {} (--data deletes it)", site.settings.data_dir.display());
    }
    if !options.yes && !agreed()? {
        println!("nothing is done");
        return Ok(ExitCode::FAILURE);
    }
    let manager = running.map_or_else(Manager::found, |running| running.manager);
    // the rest goes on: what is left is told at the end
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
    Err(Failure::new(format!("this is left:\n{}", texts.join("\n"))))
}

/// A directory that is more than a site is not deleted as one.
fn check(site: &Site, options: &Purge) -> Result<()> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let dest = site.dest.canonicalize().map_err(Failure::at(&site.dest))?;
    let is_too_much = dest.parent().is_none()
        || home.is_some_and(|home| home.starts_with(&dest))
        || dest.join(".git").exists();
    match options.all && is_too_much {
        true => Err(Failure::new(format!(
            "{} is more than a site, and is not deleted as a whole",
            dest.display()
        ))
        .or("without --all; delete the rest by hand")),
        false => Ok(()),
    }
}

fn agreed() -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new("there is nobody to ask").or("--yes goes on without asking"));
    }
    print!("Proceed? [y/N] ");
    let mut line = String::new();
    let read = std::io::stdout().flush().and_then(|()| stdin.lock().read_line(&mut line));
    read.map_err(|e| Failure::new(e.to_string()))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Everything, or nothing but the note of what runs: `deploy` finds the settings of a site that was
/// only stopped.
fn remove_files(site: &Site, all: bool) -> Option<Failure> {
    match all {
        true => std::fs::remove_dir_all(&site.dest).map_err(Failure::at(&site.dest)).err(),
        false => site.set_running(None).err(),
    }
}
