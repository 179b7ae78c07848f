//! `bty-lab init`: writes the files of a site.

use std::process::ExitCode;

use crate::cli::Init;
use crate::compose;
use crate::failure::Result;
use crate::output;
use crate::site::{Site, VERSION};

pub(crate) fn run(options: &Init) -> Result<ExitCode> {
    let site = Site::open_or_new(&options.place, &options.new)?;
    if options.print {
        output::print(compose::compose(&site.settings, VERSION));
        return Ok(ExitCode::SUCCESS);
    }
    super::warn_about_loopback(&site);
    let password = site.write(options.systemd, options.force)?;
    let dest = site.dest.display();
    output::line(format_args!("wrote the site to {dest}; nothing has been started"));
    super::print_password(password);
    output::line(format_args!("next: bty-lab deploy {dest} starts it"));
    Ok(ExitCode::SUCCESS)
}
