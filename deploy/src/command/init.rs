//! `bty-lab init`: writes the files of a site.

use std::process::ExitCode;

use crate::cli::Init;
use crate::compose;
use crate::failure::Result;
use crate::site::{Password, Site, VERSION};

pub(crate) fn run(options: &Init) -> Result<ExitCode> {
    let site = Site::open_or_new(&options.place, &options.new, &super::deploy::default_profiles())?;
    if options.print {
        print!("{}", compose::compose(&site.settings, VERSION));
        return Ok(ExitCode::SUCCESS);
    }
    warn_about_loopback(&site);
    let password = site.write(options.systemd, options.force)?;
    println!("the site is in {}; nothing has been started", site.dest.display());
    print_password(password);
    println!("next: bty-lab deploy {}", site.dest.display());
    Ok(ExitCode::SUCCESS)
}

/// Prints a password that was just generated.
pub(crate) fn print_password(password: Option<Password>) {
    if let Some(Password(text)) = password {
        println!("password  {text}    (for the pages; shown only once)");
    }
}

pub(crate) fn warn_about_loopback(site: &Site) {
    if site.settings.host_addr.is_loopback() {
        eprintln!(
            "WARNING: HOST_ADDR is {}, which only this host can reach; set another one with --host-addr",
            site.settings.host_addr
        );
    }
}
