//! `bty-web check-config`, `show-config` and `openapi`.

use std::process::ExitCode;

use crate::config::Config;
use crate::config::env_file::EnvFile;
use crate::domain::error::{Error, Result};

use super::print::{self, out, out_json};

pub(crate) fn check(config: &Config) -> Result<ExitCode> {
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    config.check_login(config.listen)?;
    if config.password.is_none() {
        eprintln!(
            "warning: no admin password is set: anybody who reaches {} can change everything",
            config.listen
        );
    }
    out!("the configuration is valid");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn show(
    config: &Config,
    file: &EnvFile,
    env: impl Fn(&str) -> Option<String>,
) -> Result<ExitCode> {
    let mut text = config.shown();
    if let Some(path) = &file.path {
        for name in file.values.keys().filter(|name| env(name).is_none()) {
            text = text.replace(
                &format!("# env({name})\n"),
                &format!("# env({name}) of {}\n", path.display()),
            );
        }
    }
    print::text(&text);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn openapi() -> Result<ExitCode> {
    let document = crate::http::router::document();
    out_json!("{}", document.to_pretty_json().map_err(Error::internal)?);
    Ok(ExitCode::SUCCESS)
}
