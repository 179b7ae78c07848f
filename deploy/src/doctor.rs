//! What goes wrong in practice, looked for, with what to do about it.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli;
use crate::failure::Result;
use crate::manager::Manager;
use crate::site::{Running, Site, VERSION};

mod boot;
mod clock;
mod dhcp;
mod files;
mod firewall;
mod network;
pub(crate) mod services;

/// What was looked at, and what was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    check: &'static str,
    level: Level,
    detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Nothing to complain about, but to know.
    Note,
    Wrong,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, detail: detail.into(), next: None }
    }

    fn note(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, level: Level::Note, detail: detail.into(), next: None }
    }

    fn wrong(check: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, level: Level::Wrong, detail: detail.into(), next: Some(next.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok   ",
            Level::Note => "note ",
            Level::Wrong => "WRONG",
        };
        write!(f, "{level}  {:<9} {}", self.check, self.detail)?;
        self.next.iter().try_for_each(|next| write!(f, "\n       {:<9} next: {next}", ""))
    }
}

pub(crate) fn run(options: &cli::Doctor) -> Result<ExitCode> {
    let site = Site::open(&options.place)?;
    let running = site.running().unwrap_or_else(|| Running::of(VERSION, Manager::found()));
    let mut findings = services::podman();
    findings.extend(files::look(&site, &running));
    findings.extend(services::look(&site, &running));
    findings.extend(network::look(&site));
    findings.extend(firewall::look(&site));
    findings.extend(boot::look(&site, &running));
    findings.extend(clock::look(&site));
    if let Some(interface) = &options.dhcp {
        findings.extend(dhcp::look(&site, interface)?);
    }
    let wrong = findings.iter().filter(|finding| finding.level == Level::Wrong).count();
    if options.json {
        println!("{}", serde_json::to_string_pretty(&findings).unwrap_or_default());
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
        match wrong {
            0 => println!("nothing to complain about"),
            1 => println!("1 thing is wrong"),
            n => println!("{n} things are wrong"),
        }
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
