//! A log for a person who helps from afar: what `bty` has shown, what the kernel says, and what is
//! in the machine.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::kernel_args::KernelArgs;

/// Where the log is if there is no stick.
pub(crate) const FALLBACK: &str = "/run/bty-live/log.txt";
/// How much of the output of `bty` is kept, in bytes.
const TRANSCRIPT_BYTES: usize = 64 << 10;
/// How much of the output of a program is kept, in bytes.
const SECTION_BYTES: usize = 1 << 20;
/// How long a program may take: one that reads a broken disk may never end.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Programs that describe the machine.
const PROGRAMS: [&[&str]; 9] = [
    &["/bin/bty", "disks"],
    &["/bin/bty", "disks", "--json"],
    &["/bin/ip", "addr"],
    &["/bin/ip", "route"],
    &["/bin/cat", "/proc/mounts", "/proc/partitions", "/proc/modules", "/proc/meminfo"],
    &["/bin/sh", "-c", "cat /sys/class/dmi/id/*_name /sys/class/dmi/id/bios_*"],
    &["/bin/sh", "-c", "cat /sys/bus/pci/devices/*/uevent"],
    &["/bin/sh", "-c", "cat /sys/bus/usb/devices/*/uevent"],
    &["/bin/dmesg"],
];

/// The last output of `bty`.
#[derive(Default)]
pub(crate) struct Transcript(VecDeque<u8>);

impl Transcript {
    pub(crate) fn add(&mut self, output: &[u8]) {
        self.0.extend(output);
        self.0.drain(..self.0.len().saturating_sub(TRANSCRIPT_BYTES));
    }

    /// The output as lines, without escape sequences and without lines that were rewritten.
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let mut text = String::new();
        for line in String::from_utf8_lossy(&bytes).split('\n') {
            let last = line.trim_end_matches(['\r', ' ']).rsplit('\r').next().unwrap_or_default();
            text.push_str(without_escapes(last).trim_end());
            text.push('\n');
        }
        text
    }
}

/// Removes escape sequences such as `ESC [ 1 m`, and other control characters.
fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            if chars.next() == Some('[') {
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
        } else if !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

/// A log, and the name of its file.
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Collects the log. The token of a boot cycle is a secret, so it is left out.
pub(crate) fn report(args: &KernelArgs, transcript: &str) -> Report {
    let now = jiff::Timestamp::now();
    let mut text = format!("bty {} live environment, {now}\n", env!("CARGO_PKG_VERSION"));
    section(&mut text, "parameters", &parameters(args));
    section(&mut text, "bty", transcript);
    for program in PROGRAMS {
        section(&mut text, &program.join(" "), &output_in_time(program));
    }
    if let Some(token) = args.get("bty.cycle") {
        text = text.replace(token, "(left out)");
    }
    Report { name: format!("bty-log-{}.txt", now.strftime("%Y%m%d-%H%M%S")), text }
}

fn section(text: &mut String, title: &str, content: &str) {
    let _ = write!(text, "\n=== {title} ===\n{}\n", content.trim_end());
}

fn parameters(args: &KernelArgs) -> String {
    let shown = args.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.to_owned(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn output_in_time(program: &'static [&'static str]) -> String {
    let (sender, output) = channel();
    thread::spawn(move || sender.send(output_of(program)));
    output.recv_timeout(PROGRAM_TIMEOUT).unwrap_or_else(|_| "no answer in time".into())
}

fn output_of(program: &[&str]) -> String {
    let output = Command::new(program[0]).args(&program[1..]).stdin(Stdio::null()).output();
    match output {
        Ok(output) => {
            let all = [output.stdout, output.stderr].concat();
            // the end of the kernel log is what matters
            let from = all.len().saturating_sub(SECTION_BYTES);
            String::from_utf8_lossy(&all[from..]).into_owned()
        }
        Err(e) => format!("cannot be started: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_last_output_as_a_person_saw_it_and_no_secrets() {
        let mut transcript = Transcript::default();
        transcript.add(&b"old\n".repeat(TRANSCRIPT_BYTES));
        transcript.add(b"\rwrite [=>  ]  20 %\rwrite [==> ]  40 %\r                 \r");
        transcript.add(b"\x1b[1;31mFlash FAILED.\x1b[0m\r\n  the disk is gone\r\n");
        let args = KernelArgs::parse("quiet bty.server=10.0.0.1 bty.cycle=5f0c2a9e");
        let report = report(&args, &transcript.text());
        assert!(report.text.contains("\nFlash FAILED.\n  the disk is gone\n"), "{}", report.text);
        assert!(!report.text.contains("20 %") && !report.text.contains('\x1b'));
        assert!(report.text.contains("quiet bty.server=10.0.0.1 bty.cycle=(left out)"));
        assert!(!report.text.contains("5f0c2a9e"), "{}", report.text);
        assert!(report.text.contains("=== /bin/dmesg ==="));
        assert!(report.name.starts_with("bty-log-2") && report.name.ends_with(".txt"));
        assert!(transcript.0.len() <= TRANSCRIPT_BYTES);
    }
}
