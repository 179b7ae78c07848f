//! Writing the files of a site.

use std::process::ExitCode;

use crate::cli::Init;
use crate::compose;
use crate::failure::Result;
use crate::site::{Password, Site, VERSION};

pub(crate) fn run(options: &Init) -> Result<ExitCode> {
    let site = Site::open_or_new(&options.place, &options.new, &super::deploy::profiles())?;
    if options.print {
        print!("{}", compose::compose(&site.settings, VERSION));
        return Ok(ExitCode::SUCCESS);
    }
    warn_of_loopback(&site);
    let password = site.write(options.systemd, options.force)?;
    println!("{} is written; nothing is started", site.dest.display());
    say_password(password);
    println!("next: bty-lab deploy {}", site.dest.display());
    Ok(ExitCode::SUCCESS)
}

/// Once, when it has just been made.
pub(crate) fn say_password(password: Option<Password>) {
    if let Some(Password(text)) = password {
        println!("password of the pages: {text}    (shown once)");
    }
}

pub(crate) fn warn_of_loopback(site: &Site) {
    if site.settings.host_addr.is_loopback() {
        eprintln!(
            "WARNING: HOST_ADDR is {}: no machine but this one can reach it; --host-addr names another",
            site.settings.host_addr
        );
    }
}
