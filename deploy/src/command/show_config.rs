//! `bty-lab show-config`: prints the configuration that the site's server gets.

use std::path::absolute;
use std::process::ExitCode;

use bty_web::{Config, Sources};

use crate::cli::ShowConfig;
use crate::failure::{Failure, Result};
use crate::{output, settings};

pub(crate) fn run(options: &ShowConfig) -> Result<ExitCode> {
    let dest = absolute(&options.dest).map_err(Failure::at(&options.dest))?;
    let envvars = std::fs::read_to_string(dest.join(settings::FILE)).unwrap_or_default();
    let from_envvars = |name: &str| {
        envvars
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let mut files = options.config.clone();
    if files.is_empty() {
        let site = crate::settings::Settings::read(&dest)?;
        let own = [dest.join("bty.toml"), site.data_dir.join("bty/bty.toml")];
        files.extend(own.into_iter().filter(|file| file.exists()));
    }
    let config = Config::load(&Sources { env: &from_envvars, named: &files })
        .map_err(|e| Failure::new(e.to_string()))?;
    output::print(config.shown());
    Ok(ExitCode::SUCCESS)
}
