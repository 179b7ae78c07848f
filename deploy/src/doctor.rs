//! `bty-lab doctor`: checks a site for common problems, and says what to do about them.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

use crate::failure::Result;
use crate::service_manager::ServiceManager;
use crate::site::{Deployment, Site, VERSION};
use crate::{cli, output};

mod boot;
mod clock;
mod dhcp;
mod files;
mod firewall;
mod network;
pub(crate) mod services;

/// The result of one check.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    check: &'static str,
    level: Level,
    detail: String,
    /// What to do about a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Not a problem, but worth knowing.
    Note,
    Error,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, detail: detail.into(), next: None }
    }

    fn note(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, level: Level::Note, detail: detail.into(), next: None }
    }

    fn error(check: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, level: Level::Error, detail: detail.into(), next: Some(next.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok   ",
            Level::Note => "note ",
            Level::Error => "ERROR",
        };
        write!(f, "{level}  {:<9} {}", self.check, self.detail)?;
        self.next.iter().try_for_each(|next| write!(f, "\n       {:<9} next: {next}", ""))
    }
}

pub(crate) fn run(options: &cli::Doctor) -> Result<ExitCode> {
    let site = Site::open(&options.place)?;
    let running =
        site.running().unwrap_or_else(|| Deployment::new(VERSION, ServiceManager::detect()));
    let mut findings = services::podman();
    findings.extend(files::check(&site, &running));
    findings.extend(services::check(&site, &running));
    findings.extend(network::check(&site));
    findings.extend(firewall::check(&site));
    findings.extend(boot::check(&site, &running));
    findings.extend(clock::check(&site));
    if let Some(interface) = &options.dhcp {
        findings.extend(dhcp::check(&site, interface)?);
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Error).count();
    if options.json {
        output::line(serde_json::to_string_pretty(&findings).unwrap_or_default());
    } else {
        findings.iter().for_each(output::line);
        match problems {
            0 => output::line("no problems found"),
            n => output::line(format_args!("{} found", bty::text::count(n, "problem"))),
        }
    }
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
