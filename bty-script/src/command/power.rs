//! Restarts the machine or powers it off.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use bty::{Error, ErrorKind, Result};
use bty_script::error::PowerAction;
use rustix::system::RebootCommand;

use crate::output::Output;

/// Time for systemd to stop services before the machine is restarted anyway.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the process that copies our output to the consoles to show the last lines.
const CONSOLE_DRAIN: Duration = Duration::from_millis(300);

/// Performs `power`. With `only_say`, only prints that `--no-reboot` prevents it.
pub(crate) fn perform(power: PowerAction, only_say: bool, output: &Output) -> Result<()> {
    let (name, verb) = match power {
        PowerAction::PowerOff => ("power off", "poweroff"),
        PowerAction::Kexec => ("kexec", "kexec"),
        _ => ("reboot", "reboot"),
    };
    if only_say {
        output.say(&format!("{name} skipped because of --no-reboot"));
        return Ok(());
    }
    rustix::fs::sync();
    if ask_service_manager(verb) {
        thread::sleep(SHUTDOWN_TIMEOUT);
    }
    thread::sleep(CONSOLE_DRAIN);
    let command = match power {
        PowerAction::PowerOff => RebootCommand::PowerOff,
        PowerAction::Kexec => RebootCommand::Kexec,
        _ => RebootCommand::Restart,
    };
    rustix::system::reboot(command).map_err(|e| {
        Error::new(ErrorKind::Host, format!("cannot {name} this machine"))
            .because(std::io::Error::from(e))
            .hint("run it as root")
    })
}

/// Runs `systemctl NAME`, so that services stop in order. False if that fails, or if systemd does
/// not run this machine.
fn ask_service_manager(name: &str) -> bool {
    let is_systemd = Path::new("/run/systemd/system").is_dir();
    is_systemd && Command::new("systemctl").arg(name).status().is_ok_and(|status| status.success())
}
