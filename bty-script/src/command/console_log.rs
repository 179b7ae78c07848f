//! Writes the milestones of a boot for people and programs that read a serial line or the kernel
//! log.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bty::{Event, Observer, Phase, text};

/// Writes milestones and progress to the consoles. Failures are ignored: a machine without these
/// files can still flash.
pub(crate) struct ConsoleLog {
    kernel_log: PathBuf,
    /// `None` if the live environment already shows this program on all consoles.
    console: Option<PathBuf>,
    status: PathBuf,
    /// Quarters announced so far, of the download and of the write.
    reached: Mutex<[u64; 2]>,
}

impl Default for ConsoleLog {
    fn default() -> Self {
        let log = Self::below(Path::new("/dev"), Path::new("/run"));
        let is_shared = std::env::var("BTY_CONSOLES").is_ok_and(|how| how == "shared");
        Self { console: log.console.filter(|_| !is_shared), ..log }
    }
}

impl ConsoleLog {
    fn below(dev: &Path, run: &Path) -> Self {
        Self {
            kernel_log: dev.join("kmsg"),
            console: Some(dev.join("console")),
            status: run.join("bty.status"),
            reached: Mutex::default(),
        }
    }

    /// Writes a milestone to stderr, the kernel log and the console.
    pub(crate) fn announce(&self, text: &str) {
        let text = &*text::escape(text);
        eprintln!("bty: {text}");
        // one write becomes one record of the kernel log
        append(&self.kernel_log, &format!("<6>bty: {text}\n"));
        self.show(text);
    }

    fn show(&self, text: &str) {
        self.console.iter().for_each(|console| append(console, &format!("bty: {text}\r\n")));
    }

    /// Writes a status line to stderr and to the status file.
    pub(crate) fn status(&self, text: &str) {
        let text = &*text::escape(text);
        eprintln!("bty: {text}");
        let file = OpenOptions::new().create(true).append(true).open(&self.status);
        let _ = file.and_then(|mut file| file.write_all(format!("bty: {text}\n").as_bytes()));
    }

    /// Announces each completed quarter on the console only: kernel log lines would scroll the
    /// progress bars away.
    fn quarter(&self, stage: usize, name: &str, done: u64, total: Option<u64>) {
        let Some(total) = total.filter(|&total| total > 0) else { return };
        let quarter = (done.min(total).saturating_mul(4) / total).min(4);
        let Ok(mut reached) = self.reached.lock() else { return };
        while reached[stage] < quarter {
            reached[stage] += 1;
            self.show(&format!("{name} {}%", reached[stage] * 25));
        }
    }
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
}

impl Observer for ConsoleLog {
    fn event(&self, event: &Event) {
        if let Event::Progress { phase: Phase::Write, counts, targets, .. } = event {
            self.quarter(0, "download", counts.source_bytes, counts.source_total);
            let written = targets
                .iter()
                .map(|t| t.written_bytes + t.zeroed_bytes + t.kept_bytes)
                .min()
                .unwrap_or(0);
            self.quarter(1, "write", written, counts.decoded_total);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bty::progress::{Counts, TargetCounts};

    use super::*;

    fn progress(source: u64, written: u64) -> Event {
        let mut counts = Counts::default();
        (counts.source_bytes, counts.source_total, counts.decoded_total) =
            (source, Some(100), Some(200));
        let mut target = TargetCounts::default();
        target.written_bytes = written;
        Event::Progress { phase: Phase::Write, elapsed_ms: 0, counts, targets: vec![target] }
    }

    #[test]
    fn quarters_are_announced_once_and_on_the_console_only() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["kmsg", "console"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let log = ConsoleLog::below(dir.path(), dir.path());
        log.announce("auto-flash starting");
        for (source, written) in [(10, 0), (60, 40), (60, 50), (100, 200), (100, 200)] {
            log.event(&progress(source, written));
        }
        let console = fs::read_to_string(dir.path().join("console")).unwrap();
        let lines: Vec<&str> = console.lines().collect();
        assert_eq!(
            lines,
            [
                "bty: auto-flash starting",
                "bty: download 25%",
                "bty: download 50%",
                "bty: write 25%",
                "bty: download 75%",
                "bty: download 100%",
                "bty: write 50%",
                "bty: write 75%",
                "bty: write 100%",
            ]
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("kmsg")).unwrap(),
            "<6>bty: auto-flash starting\n"
        );
    }

    #[test]
    fn status_lines_go_to_the_status_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = ConsoleLog::below(dir.path(), dir.path());
        log.status("starting interface ...");
        log.status("server-driven mode");
        let status = fs::read_to_string(dir.path().join("bty.status")).unwrap();
        assert_eq!(status, "bty: starting interface ...\nbty: server-driven mode\n");
    }

    #[test]
    fn missing_consoles_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let log = ConsoleLog::below(&dir.path().join("gone"), &dir.path().join("gone"));
        log.announce("entered");
        log.status("starting");
        assert!(!dir.path().join("gone").exists());
    }
}
