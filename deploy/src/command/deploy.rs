//! Starting a site, from nothing or again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::init::{say_password, warn_of_loopback};
use crate::cli::Deploy;
use crate::failure::{Failure, Result};
use crate::manager::{self, Manager};
use crate::services::{self, Service};
use crate::site::{Running, Site, VERSION};
use crate::steps::Steps;
use crate::{doctor, images, owner, podman, ports};

/// A service that does not answer within this time is taken for one that never will.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Deploy) -> Result<ExitCode> {
    let mut steps = Steps::new(6);
    let manager = Manager::found();
    steps.say("prerequisites", &format!("podman {}; {}", podman::version()?, manager.name()));
    let site = Site::open_or_new(&options.place, &options.new, &profiles())?;
    warn_of_loopback(&site);
    let version = running_version(&site)?;
    let services = services::chosen(&site.settings, &version);
    steps.say("address", &format!("machines reach this host at {}", site.settings.host_addr));
    if let Some((name, whose)) = manager::stranger(&site, &services) {
        return Err(Failure::new(format!("there is a container {name} of {whose}"))
            .or(format!("podman rm {name}, or bty-lab purge for that site")));
    }
    let before = site.running().map_or(manager, |running| running.manager);
    ports::check(&site, &services)?;
    steps.say("ports", &ports::list(&site, &services));
    steps.say("images", &images::have(&services, options.images.as_deref())?);
    let password = site.write(false, options.force)?;
    steps.say(
        "files",
        &format!("{}, data in {}", site.dest.display(), site.settings.data_dir.display()),
    );
    // a deploy that is broken off here is gone on with by the next one
    site.set_running(Some(&Running::of(&version, manager)))?;
    if let Err(failure) = again(&site, before, manager, &services, &version) {
        let _ = manager.stop(&site);
        say_password(password);
        return Err(failure);
    }
    steps.say(
        "services",
        &format!(
            "{} answer",
            services.iter().map(|service| service.name).collect::<Vec<_>>().join(", ")
        ),
    );
    summary(&site, manager);
    say_password(password);
    Ok(ExitCode::SUCCESS)
}

/// What a new site has besides the server. Without root, TFTP needs a system that lets anybody have
/// its port.
pub(crate) fn profiles() -> String {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .unwrap_or_default();
    let may = podman::is_root() || first.trim().parse::<u32>().is_ok_and(|port| port <= 69);
    if may { "cache,tftp" } else { "cache" }.into()
}

/// That of the site that is there: only `upgrade` changes it.
fn running_version(site: &Site) -> Result<String> {
    match site.running() {
        Some(running) if running.version != VERSION => {
            let failure = Failure::new(format!(
                "{} has version {}, and this is bty-lab {VERSION}",
                site.dest.display(),
                running.version
            ));
            Err(failure.or(format!("bty-lab upgrade {}", site.dest.display())))
        }
        _ => Ok(VERSION.into()),
    }
}

/// Ends what runs, starts `services`, and waits until they answer.
pub(super) fn again(
    site: &Site,
    before: Manager,
    manager: Manager,
    services: &[Service],
    version: &str,
) -> Result<()> {
    // what is not there cannot be stopped; what could not be stopped is noticed when its name or
    // port is wanted
    let _ = before.stop(site);
    ports::check(site, services)?;
    owner::settle(site)?;
    manager.start(site, services)?;
    answers(site, services, version)
}

/// Waits until all of them are well, and the server has the version.
fn answers(site: &Site, services: &[Service], version: &str) -> Result<()> {
    let until = Instant::now() + STARTS_WITHIN;
    loop {
        let wrong = services.iter().find_map(|service| {
            doctor::services::wrong(site, service, version).map(|wrong| (service, wrong))
        });
        match wrong {
            None => return Ok(()),
            Some((service, wrong)) if Instant::now() > until => {
                let logs = podman::logs(service.name);
                return Err(Failure::new(format!(
                    "{} {wrong}{}{logs}",
                    service.name,
                    if logs.is_empty() { "" } else { "; it says:\n" }
                ))
                .or(format!("bty-lab doctor {}", site.dest.display())));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn summary(site: &Site, manager: Manager) {
    let settings = &site.settings;
    println!("pages     {}", settings.url());
    if settings.has("cache") {
        println!("cache     {}", settings.cache_url());
    }
    match settings.has("tftp") {
        true => println!("TFTP      {}:{}", settings.host_addr, settings.tftp.port()),
        false => println!(
            "TFTP      none: it needs root, or net.ipv4.ip_unprivileged_port_start=69 and COMPOSE_PROFILES=cache,tftp in {}",
            site.envvars().display()
        ),
    }
    println!("for DHCP  {}/netboot/dhcp", settings.url());
    if manager == Manager::Podman {
        println!(
            "services do not start with the machine: run bty-lab deploy {} then, or enable podman-restart.service",
            site.dest.display()
        );
    }
}
