//! The consoles: the screen and every serial line. All of them show the same output, and all of
//! them accept keys.

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

use crate::kernel_args::KernelArgs;

/// The screen, and the serial lines that a BMC may forward: mostly `ttyS0` or `ttyS1`, on other
/// machines `ttyAMA0` or `hvc0`.
const DEFAULT_CONSOLES: [&str; 5] = ["tty1", "ttyS0", "ttyS1", "ttyAMA0", "hvc0"];
/// Writes that may queue for a slow console. When the queue is full, further output is dropped.
const QUEUE_MAX: usize = 256;

/// All consoles, each with a queue and a writer thread.
pub(crate) struct Consoles(Vec<SyncSender<Vec<u8>>>);

impl Consoles {
    /// Opens the consoles that `console=` names and the default ones, if they have hardware. Sends
    /// the keys that arrive to `typed`, each piece wrapped by `wrap`.
    pub(crate) fn open<T: Send + 'static>(
        args: &KernelArgs,
        typed: &Sender<T>,
        wrap: fn(Vec<u8>) -> T,
    ) -> Self {
        let named = args.all("console").map(|value| value.split(',').next().unwrap_or_default());
        let mut names: Vec<&str> =
            named.filter(|name| *name != "tty0").chain(DEFAULT_CONSOLES).collect();
        names.sort_unstable();
        names.dedup();
        let usable =
            names.into_iter().filter(|name| has_hardware(Path::new("/sys/class/tty"), name));
        Self(usable.filter_map(|name| start(name, typed.clone(), wrap)).collect())
    }

    /// Queues `text` for every console and never blocks.
    pub(crate) fn write(&self, text: &[u8]) {
        for queue in &self.0 {
            match queue.try_send(text.to_vec()) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// True if the port exists and has hardware: sysfs shows `type` 0 for ports that the kernel only
/// reserves.
fn has_hardware(root: &Path, name: &str) -> bool {
    let kind = fs::read_to_string(root.join(name).join("type"));
    root.join(name).exists() && kind.map_or(true, |kind| kind.trim() != "0")
}

/// Opens a console and starts its reader and its writer thread. Returns the queue of the writer.
fn start<T: Send + 'static>(
    name: &str,
    typed: Sender<T>,
    wrap: fn(Vec<u8>) -> T,
) -> Option<SyncSender<Vec<u8>>> {
    let mut reading = open(name)?;
    let mut writing = reading.try_clone().ok()?;
    let (sender, queue) = sync_channel::<Vec<u8>>(QUEUE_MAX);
    thread::spawn(move || {
        for text in queue {
            let _ = writing.write_all(&text);
        }
    });
    thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(len) = reading.read(&mut bytes) {
            // an unconnected line reports end of file at every read
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
    // without O_NONBLOCK, open waits for a carrier signal, which many cables do not have
    let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()?;
    let flags = rustix::fs::fcntl_getfl(&file).ok()?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK).ok()?;
    make_raw(&file)?;
    Some(file)
}

/// Delivers every key at once and without echo. Unlike `cfmakeraw`, output still turns `\n` into
/// `\r\n`.
fn make_raw(file: &File) -> Option<()> {
    let mut modes = tcgetattr(file).ok()?;
    modes.local_modes -=
        LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
    modes.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IXON;
    modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    modes.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    tcsetattr(file, OptionalActions::Now, &modes).ok()
}

/// Lets the kernel print only critical messages on the console, where others would overwrite the
/// wizard. Its log still has all of them.
pub(crate) fn quiet_kernel() {
    let _ = fs::write("/proc/sys/kernel/printk", "3");
}

/// Prints `why` and runs a shell on the kernel's console, until the shell exits.
pub(crate) fn rescue_shell(why: &str) {
    let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") else {
        return;
    };
    let clones = (console.try_clone(), console.try_clone(), console.try_clone());
    let (Ok(input), Ok(output), Ok(error)) = clones else { return };
    let _ = writeln!(
        &console,
        "\r\nbty: {why}\r\n\
         bty: this is a shell: `exit` restarts the environment, `reboot -f` the machine\r"
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
    fn ports_without_hardware_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind) in [("ttyS0", Some("4")), ("ttyS1", Some("0")), ("tty1", None)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            kind.into_iter().for_each(|kind| {
                fs::write(dir.path().join(name).join("type"), format!("{kind}\n")).unwrap();
            });
        }
        let usable: Vec<&str> =
            DEFAULT_CONSOLES.into_iter().filter(|name| has_hardware(dir.path(), name)).collect();
        assert_eq!(usable, ["tty1", "ttyS0"]);
    }
}
