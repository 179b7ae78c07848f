//! Restarting and switching off.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use bty::{Error, ErrorKind, Result};
use bty_script::error::Power;
use rustix::system::RebootCommand;

use crate::output::Output;

/// How long a service manager gets to bring the machine down in order.
const PATIENCE: Duration = Duration::from_secs(30);
/// What was said last gets to the consoles meanwhile, which others show.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Does it; with `only_say` it says so instead.
pub(crate) fn act(power: Power, only_say: bool, output: &Output) -> Result<()> {
    let (name, verb) = match power {
        Power::PowerOff => ("power off", "poweroff"),
        Power::Kexec => ("kexec", "kexec"),
        _ => ("reboot", "reboot"),
    };
    if only_say {
        output.say(&format!("{name}: not done, because of --no-reboot"));
        return Ok(());
    }
    rustix::fs::sync();
    if ask_service_manager(verb) {
        thread::sleep(PATIENCE);
    }
    thread::sleep(LAST_WORDS);
    let command = match power {
        Power::PowerOff => RebootCommand::PowerOff,
        Power::Kexec => RebootCommand::Kexec,
        _ => RebootCommand::Restart,
    };
    rustix::system::reboot(command).map_err(|e| {
        Error::new(ErrorKind::Host, format!("cannot {name} this machine"))
            .because(std::io::Error::from(e))
            .hint("run it as root")
    })
}

/// Asks systemd, when it runs this machine, so that services end in order.
fn ask_service_manager(name: &str) -> bool {
    let is_systemd = Path::new("/run/systemd/system").is_dir();
    is_systemd && Command::new("systemctl").arg(name).status().is_ok_and(|status| status.success())
}
