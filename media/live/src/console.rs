//! The consoles: the screen and every serial line. All of them show the same, and what is typed on
//! any of them counts.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Sender, SyncSender, TrySendError, sync_channel};
use std::thread;

use rustix::fs::OFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr,
};

use crate::words::Words;

/// Serial lines of BMCs: `ttyS0` for most, `ttyS1` for some; `ttyAMA0` and `hvc0` on other
/// machines. The screen is first.
const LINES: [&str; 5] = ["tty1", "ttyS0", "ttyS1", "ttyAMA0", "hvc0"];
/// Pieces that wait for a slow line; a line that takes nothing any more loses what comes after
/// that.
const WAITING_MAX: usize = 256;

/// All consoles.
pub(crate) struct Consoles(Vec<SyncSender<Vec<u8>>>);

impl Consoles {
    /// Opens them. What is typed is sent to `typed`.
    pub(crate) fn open<T: Send + 'static>(
        words: &Words,
        typed: &Sender<T>,
        wrap: fn(Vec<u8>) -> T,
    ) -> Self {
        let named = words.all("console").map(|value| value.split(',').next().unwrap_or_default());
        let mut names: Vec<&str> = named.filter(|name| *name != "tty0").chain(LINES).collect();
        names.sort_unstable();
        names.dedup();
        let lines = names.into_iter().filter(|name| is_there(Path::new("/sys/class/tty"), name));
        Self(lines.filter_map(|name| start(name, typed.clone(), wrap)).collect())
    }

    /// Shows `text` on all of them, and waits for none.
    pub(crate) fn write(&self, text: &[u8]) {
        for line in &self.0 {
            match line.try_send(text.to_vec()) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// The port has hardware behind it: `type` is 0 for those that the kernel only keeps ready.
fn is_there(root: &Path, name: &str) -> bool {
    let kind = fs::read_to_string(root.join(name).join("type"));
    root.join(name).exists() && kind.map_or(true, |kind| kind.trim() != "0")
}

fn start<T: Send + 'static>(
    name: &str,
    typed: Sender<T>,
    wrap: fn(Vec<u8>) -> T,
) -> Option<SyncSender<Vec<u8>>> {
    let mut reading = open(name)?;
    let mut writing = reading.try_clone().ok()?;
    let (sender, waiting) = sync_channel::<Vec<u8>>(WAITING_MAX);
    thread::spawn(move || {
        for text in waiting {
            let _ = writing.write_all(&text);
        }
    });
    thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(len) = reading.read(&mut bytes) {
            // a line that nobody is at says "end" all the time
            if len == 0 {
                thread::sleep(std::time::Duration::from_secs(1));
            } else if typed.send(wrap(bytes[..len].to_vec())).is_err() {
                return;
            }
        }
    });
    Some(sender)
}

fn open(name: &str) -> Option<File> {
    let path = Path::new("/dev").join(name);
    // not waiting for a carrier, which many lines have no wire for
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()?;
    let flags = rustix::fs::fcntl_getfl(&file).ok()?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK).ok()?;
    raw(&file)?;
    Some(file)
}

/// Every key arrives at once, and is not shown by the kernel; the kernel still makes two of a
/// line's end.
fn raw(file: &File) -> Option<()> {
    let mut modes = tcgetattr(file).ok()?;
    modes.local_modes -=
        LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
    modes.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IXON;
    modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    modes.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    tcsetattr(file, OptionalActions::Now, &modes).ok()
}

/// From now on the kernel shows only what is critical: its lines would go through the screen of the
/// wizard. Its log has them all.
pub(crate) fn quiet_kernel() {
    let _ = fs::write("/proc/sys/kernel/printk", "3");
}

/// When nothing else is left: says why, and gives a shell on the kernel's console.
pub(crate) fn last_resort(why: &str) {
    let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") else {
        return;
    };
    let clones = (console.try_clone(), console.try_clone(), console.try_clone());
    let (Ok(input), Ok(output), Ok(error)) = clones else { return };
    let _ = writeln!(
        &console,
        "\r\nbty: {why}\r\nbty: this is a shell; `exit` starts the environment again, `reboot -f` the machine\r"
    );
    let _ = Command::new("/bin/setsid")
        .args(["-c", "/bin/sh"])
        .stdin(input)
        .stdout(output)
        .stderr(error)
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_hardware_is_no_console() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind) in [("ttyS0", Some("4")), ("ttyS1", Some("0")), ("tty1", None)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            kind.into_iter().for_each(|kind| {
                fs::write(dir.path().join(name).join("type"), format!("{kind}\n")).unwrap();
            });
        }
        let there: Vec<&str> =
            LINES.into_iter().filter(|name| is_there(dir.path(), name)).collect();
        assert_eq!(there, ["tty1", "ttyS0"]);
    }
}
