//! Runs other programs.

use std::process::{Command, Output};

use crate::failure::{Failure, Result};

/// True if this process is root: then containers belong to the system, else to the user.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program and returns its stdout. If it fails, the error has the last line of its stderr.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = output(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last =
        stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("failed without a message");
    let verb = arguments
        .iter()
        .take_while(|word| !word.starts_with('-'))
        .take(2)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    Err(Failure::new(format!("{program} {verb}: {}", last.trim())))
}

/// Runs a program and returns what it printed, also if it failed.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<Output> {
    Command::new(program).args(arguments).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!("{program} is not installed"))
            .hint(format!("apt install {program}, or the same with your package manager")),
        _ => Failure::new(format!("{program}: {error}")),
    })
}
