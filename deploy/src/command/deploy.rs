//! `bty-lab deploy`: writes and starts a site, or restarts an existing one.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::cli::Deploy;
use crate::failure::{Failure, Result};
use crate::output::Steps;
use crate::service_manager::ServiceManager;
use crate::services::{self, Service};
use crate::site::{Deployment, Site, VERSION};
use crate::{doctor, images, lifecycle, output, owner, podman, ports};

/// How long to wait until all services are healthy.
const START_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Deploy) -> Result<ExitCode> {
    let mut steps = Steps::new(6);
    let manager = ServiceManager::detect();
    steps.report(
        "prerequisites",
        format!("podman {}; {}", podman::version()?, manager.description()),
    );
    let site = Site::open_or_new(&options.place, &options.new)?;
    super::warn_about_loopback(&site);
    let version = version_to_deploy(&site)?;
    let services = services::enabled(&site.settings, &version);
    steps.report("address", format!("machines reach this host at {}", site.settings.host_addr));
    lifecycle::refuse_foreign_containers(&site, &services)?;
    let before = site.running().map_or(manager, |running| running.manager);
    ports::check(&site, &services)?;
    steps.report("ports", ports::describe(&site, &services));
    steps.report("images", &images::ensure(&services, options.images.as_deref())?);
    let password = site.write(false, options.force)?;
    steps.report(
        "files",
        format!("{}, data in {}", site.dest.display(), site.settings.data_dir.display()),
    );
    // before the start, so that the next deploy stops what an interrupted one has started
    site.set_deployment(Some(&Deployment::new(&version, manager)))?;
    if let Err(failure) = restart(&site, before, manager, &services, &version) {
        let _ = manager.stop(&site);
        super::print_password(password);
        return Err(failure);
    }
    steps.report(
        "services",
        format!(
            "{} are healthy",
            services.iter().map(|service| service.name).collect::<Vec<_>>().join(", ")
        ),
    );
    summary(&site, manager);
    super::print_password(password);
    Ok(ExitCode::SUCCESS)
}

/// The version to deploy. Fails if the site has another one: only `upgrade` changes it.
fn version_to_deploy(site: &Site) -> Result<String> {
    match site.running() {
        Some(running) if running.version != VERSION => {
            let failure = Failure::new(format!(
                "{} has version {}, and this is bty-lab {VERSION}",
                site.dest.display(),
                running.version
            ));
            Err(failure.hint(format!("bty-lab upgrade {}", site.dest.display())))
        }
        _ => Ok(VERSION.into()),
    }
}

/// Stops what runs, starts `services`, and waits until they are healthy.
pub(super) fn restart(
    site: &Site,
    before: ServiceManager,
    manager: ServiceManager,
    services: &[Service],
    version: &str,
) -> Result<()> {
    // failures are ignored: a service may not exist, and one that is still running makes the start
    // of its successor fail
    let _ = before.stop(site);
    ports::check(site, services)?;
    owner::fix_ownership(site)?;
    manager.start(site, services)?;
    wait_until_healthy(site, services, version)
}

/// Waits until all services are healthy and the server reports `version`.
fn wait_until_healthy(site: &Site, services: &[Service], version: &str) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let problem = services.iter().find_map(|service| {
            doctor::services::problem(site, service, version).map(|problem| (service, problem))
        });
        match problem {
            None => return Ok(()),
            Some((service, problem)) if Instant::now() > deadline => {
                let logs = podman::logs(service.name);
                return Err(Failure::new(format!(
                    "{} {problem}{}{logs}",
                    service.name,
                    if logs.is_empty() { "" } else { "; its last log lines:\n" }
                ))
                .hint(format!("bty-lab doctor {}", site.dest.display())));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn summary(site: &Site, manager: ServiceManager) {
    let settings = &site.settings;
    output::labeled("pages", settings.url());
    if settings.has("cache") {
        output::labeled("cache", settings.cache_url());
    }
    match settings.has("tftp") {
        true => {
            output::labeled(
                "TFTP",
                format_args!("{}:{}", settings.host_addr, settings.tftp.port()),
            );
        }
        false => output::labeled(
            "TFTP",
            format_args!(
                "disabled: port 69 needs root or net.ipv4.ip_unprivileged_port_start=69; then set \
                 COMPOSE_PROFILES=cache,tftp in {}",
                site.envvars().display()
            ),
        ),
    }
    output::labeled("DHCP", format_args!("set up as {}/netboot/dhcp says", settings.url()));
    if manager == ServiceManager::Podman {
        output::line(format_args!(
            "after a reboot of this host, start the services by bty-lab deploy {}, or enable \
             podman-restart.service once",
            site.dest.display()
        ));
    }
}
