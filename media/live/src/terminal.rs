//! A program that all consoles show: its terminal is one that this process made.

use std::io::{Read, Write};
use std::sync::mpsc::Sender;
use std::thread;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// What the smallest console shows: a serial line does not say how large its terminal is.
const SIZE: PtySize = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };

/// A program with a terminal.
pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    input: Box<dyn Write + Send>,
    // the terminal lives as long as this does
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Starts `command`. What it shows is sent to `shown`, at last nothing: then it has ended.
    pub(crate) fn start<T: Send + 'static>(
        command: &[&str],
        shown: &Sender<T>,
        wrap: fn(Vec<u8>) -> T,
    ) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{} cannot be started: {e}", command[0]);
        let pair = native_pty_system().openpty(SIZE).map_err(|e| failed(&e))?;
        let mut builder = CommandBuilder::new(command[0]);
        builder.args(&command[1..]);
        for (name, value) in [
            ("TERM", "linux"),
            ("HOME", "/root"),
            ("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"),
            ("BTY_CONSOLES", "shared"),
            // the wizard may restart this computer by one key
            ("BTY_LIVE", "1"),
        ] {
            builder.env(name, value);
        }
        builder.cwd("/");
        let child = pair.slave.spawn_command(builder).map_err(|e| failed(&e))?;
        let input = pair.master.take_writer().map_err(|e| failed(&e))?;
        let mut output = pair.master.try_clone_reader().map_err(|e| failed(&e))?;
        let shown = shown.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // the other end is closed: that is an error to read, too
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                if shown.send(wrap(bytes[..len].to_vec())).is_err() {
                    return;
                }
            }
            let _ = shown.send(wrap(Vec::new()));
        });
        Ok(Self { child, input, _master: pair.master })
    }

    /// Types.
    pub(crate) fn write(&mut self, keys: &[u8]) {
        let _ = self.input.write_all(keys).and_then(|()| self.input.flush());
    }

    /// Its exit code; it has ended already, or does soon.
    pub(crate) fn end(mut self) -> u32 {
        self.child.wait().map_or(u32::MAX, |status| status.exit_code())
    }
}
