//! A program on a pseudo-terminal, whose output goes to all consoles.

use std::io::{Read, Write};
use std::sync::mpsc::Sender;
use std::thread;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// The size of the smallest console: a serial line does not report the size of its terminal.
const SIZE: PtySize = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };

/// A running program and its pseudo-terminal.
pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    input: Box<dyn Write + Send>,
    // keeps the terminal open
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Starts `command`. Sends its output to `output_sender`, each piece wrapped by `wrap`, and an
    /// empty piece when it has exited.
    pub(crate) fn start<T: Send + 'static>(
        command: &[&str],
        output_sender: &Sender<T>,
        wrap: fn(Vec<u8>) -> T,
    ) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("cannot start {}: {e}", command[0]);
        let pair = native_pty_system().openpty(SIZE).map_err(|e| failed(&e))?;
        let mut builder = CommandBuilder::new(command[0]);
        builder.args(&command[1..]);
        for (name, value) in [
            ("TERM", "linux"),
            ("HOME", "/root"),
            ("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"),
            ("BTY_CONSOLES", "shared"),
            // allows the wizard to offer a reboot
            ("BTY_LIVE", "1"),
        ] {
            builder.env(name, value);
        }
        builder.cwd("/");
        let child = pair.slave.spawn_command(builder).map_err(|e| failed(&e))?;
        let input = pair.master.take_writer().map_err(|e| failed(&e))?;
        let mut output = pair.master.try_clone_reader().map_err(|e| failed(&e))?;
        let sender = output_sender.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // when the program has exited, a read returns an error or nothing
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                if sender.send(wrap(bytes[..len].to_vec())).is_err() {
                    return;
                }
            }
            let _ = sender.send(wrap(Vec::new()));
        });
        Ok(Self { child, input, _master: pair.master })
    }

    /// Sends keys to the program.
    pub(crate) fn write(&mut self, keys: &[u8]) {
        let _ = self.input.write_all(keys).and_then(|()| self.input.flush());
    }

    /// Waits for the program to exit and returns its exit code.
    pub(crate) fn wait(mut self) -> u32 {
        self.child.wait().map_or(u32::MAX, |status| status.exit_code())
    }
}
