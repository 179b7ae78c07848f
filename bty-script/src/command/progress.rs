//! Shows progress: one line on a terminal, which is rewritten in place, and a line every few
//! seconds elsewhere.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bty::progress::{Counts, TargetCounts};
use bty::size::human;
use bty::{Event, Observer, Phase};
use bty_script::terminal::TerminalSize;
use bty_script::world::ProgressSink;

use crate::output::Output;
use crate::status_line::StatusLine;

/// Interval of progress lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows events as JSON lines, one line in place, or plain lines.
pub(crate) struct ProgressDisplay {
    output: Output,
    view: Mutex<View>,
}

struct View {
    /// The line on the terminal; `None` without one.
    status: Option<StatusLine>,
    /// When the last line was printed, without a terminal.
    last_line: Instant,
    phase: Option<Phase>,
    rate: Option<Rate>,
    /// Targets that have failed, whose counts stand still.
    failed: HashSet<String>,
}

/// Bytes per second, updated once a second.
struct Rate {
    /// Start of the second that is being measured.
    since: Instant,
    /// Bytes done at that time.
    from: u64,
    per_second: u64,
}

impl ProgressDisplay {
    pub(crate) fn new(is_json: bool) -> Self {
        let is_possible = !is_json && StatusLine::is_possible();
        let view = View::new(is_possible.then(StatusLine::default));
        Self { output: Output::new(is_json), view: Mutex::new(view) }
    }

    /// Removes the line from the terminal.
    pub(crate) fn clear(&self) {
        if let Ok(mut view) = self.view.lock() {
            view.clear();
        }
    }

    /// Shows `event` unless `--json` is set, for commands that print a single JSON object.
    pub(crate) fn event_for_people(&self, event: &Event) {
        if !self.output.is_json() {
            self.event(event);
        }
    }

    /// Prints text above the line.
    fn say(&self, view: &mut View, text: &str) {
        view.clear();
        self.output.say(text);
    }
}

impl ProgressSink for ProgressDisplay {
    fn finished(&self) {
        if let Ok(mut view) = self.view.lock() {
            view.clear();
            (view.phase, view.rate) = (None, None);
            view.failed.clear();
        }
    }
}

impl Observer for ProgressDisplay {
    fn event(&self, event: &Event) {
        if self.output.is_json() {
            return self.output.result(event, String::new);
        }
        let Ok(mut view) = self.view.lock() else { return };
        match event {
            Event::Notice { message } => self.say(&mut view, &format!("note: {message}")),
            Event::TargetFailed { target, message, .. } => {
                view.failed.insert(target.clone());
                self.say(&mut view, &format!("{target} failed: {message}"));
            }
            Event::Progress { phase, counts, targets, .. } => {
                let Some(line) = view.measure(*phase, counts, targets) else { return };
                if let Some(status) = &mut view.status {
                    status.show(&line.fitted(TerminalSize::of_stderr().columns));
                } else if view.last_line.elapsed() >= LINE_EVERY {
                    view.last_line = Instant::now();
                    self.output.say(&line.plain());
                }
            }
            _ => {}
        }
    }
}

impl View {
    fn new(status: Option<StatusLine>) -> Self {
        Self { status, last_line: Instant::now(), phase: None, rate: None, failed: HashSet::new() }
    }

    /// Removes the line from the terminal.
    fn clear(&mut self) {
        self.status.iter_mut().for_each(StatusLine::clear);
    }

    /// What to show of the counts in this phase. Of several targets, the slowest one counts.
    fn measure(&mut self, phase: Phase, counts: &Counts, targets: &[TargetCounts]) -> Option<Line> {
        if self.phase.replace(phase) != Some(phase) {
            self.rate = None;
        }
        let running: Vec<&TargetCounts> =
            targets.iter().filter(|target| !self.failed.contains(&target.target)).collect();
        let slowest = |done: fn(&TargetCounts) -> u64| {
            running.iter().map(|target| (done(target), *target)).min_by_key(|(done, _)| *done)
        };
        let written = |t: &TargetCounts| t.written_bytes + t.zeroed_bytes + t.kept_bytes;
        let read = match (counts.source_total, counts.decoded_total) {
            (None, Some(total)) => (counts.decoded_bytes, Some(total)),
            (total, _) => (counts.source_bytes, total),
        };
        let (done, total) = match phase {
            Phase::Read => read,
            Phase::Write => match (counts.decoded_total, slowest(written)) {
                (Some(total), Some((done, _))) => (done, Some(total)),
                // the size of the image shows only at its end
                _ => read,
            },
            Phase::Scan => slowest(|t| t.scanned_bytes).map(|(done, t)| (done, t.scan_total))?,
            Phase::Verify => {
                slowest(|t| t.verified_bytes).map(|(done, t)| (done, t.verify_total))?
            }
            _ => return None,
        };
        let what = match running.len() {
            0 | 1 => phase.as_str().to_owned(),
            count => format!("{phase} {count} disks"),
        };
        Some(Line { what, done, total, per_second: self.rate(done) })
    }

    /// The rate of the last full second.
    fn rate(&mut self, done: u64) -> u64 {
        let now = Instant::now();
        let rate = self.rate.get_or_insert(Rate { since: now, from: done, per_second: 0 });
        let elapsed = now - rate.since;
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = done.saturating_sub(rate.from).saturating_mul(1000) / millis;
        if elapsed >= Duration::from_secs(1) {
            (rate.since, rate.from, rate.per_second) = (now, done, per_second);
        }
        // a rough rate in the first second is better than none
        if rate.per_second == 0 && millis >= 100 { per_second } else { rate.per_second }
    }
}

/// The progress of a phase.
#[derive(Debug)]
struct Line {
    /// The phase, and the number of targets if there are several.
    what: String,
    done: u64,
    total: Option<u64>,
    per_second: u64,
}

impl Line {
    /// Percent, as far as the total is known.
    fn percent(&self) -> Option<u64> {
        let total = u128::from(self.total.filter(|total| *total > 0)?);
        u64::try_from((u128::from(self.done) * 100 / total).min(100)).ok()
    }

    /// `31.0 of 64.0 MiB`.
    fn bytes(&self) -> String {
        let done = human(self.done);
        let Some(total) = self.total.map(human) else { return done };
        match (done.rsplit_once(' '), total.rsplit_once(' ')) {
            (Some((number, unit)), Some((_, total_unit))) if unit == total_unit => {
                format!("{number} of {total}")
            }
            _ => format!("{done} of {total}"),
        }
    }

    /// Time left at the current rate, as `1:02:03 left`; `None` if unknown or done.
    fn left(&self) -> Option<String> {
        let left = self.total?.saturating_sub(self.done);
        let seconds = left.checked_div(self.per_second).filter(|_| left > 0)?;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        Some(if hours > 0 {
            format!("{hours}:{minutes:02}:{seconds:02} left")
        } else {
            format!("{minutes}:{seconds:02} left")
        })
    }

    /// A line without a bar, for logs.
    fn plain(&self) -> String {
        let percent = self.percent().map(|percent| format!("{percent} %, ")).unwrap_or_default();
        let left = self.left().map(|left| format!(", {left}")).unwrap_or_default();
        format!("{}: {percent}{}, {}/s{left}", self.what, self.bytes(), human(self.per_second))
    }

    /// The line with a bar, shorter than `columns`. What does not fit is left out: first the
    /// bytes, then the rate, then the time.
    fn fitted(&self, columns: usize) -> String {
        let mut head = format!("{:<6}", self.what);
        if let Some(percent) = self.percent() {
            let width = columns.saturating_sub(63).clamp(8, 40);
            let full = width * usize::try_from(percent).unwrap_or(0) / 100;
            let tip = if full < width { ">" } else { "" };
            let bar = "=".repeat(full) + tip;
            let _ = write!(head, " [{bar:<width$}] {percent:>3} %");
        }
        let fields = [Some(self.bytes()), Some(human(self.per_second) + "/s"), self.left()];
        let tails = (0..=fields.len()).map(|first| {
            fields[first..]
                .iter()
                .flatten()
                .fold(String::new(), |tail, field| tail + "  " + field.as_str())
        });
        let lines = tails.map(|tail| format!("{head}{tail}"));
        let mut fitting = lines.filter(|line| line.chars().count() < columns);
        fitting.next().unwrap_or_else(|| head.chars().take(columns.saturating_sub(1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn line(done: u64, total: Option<u64>, per_second: u64) -> Line {
        Line { what: "write".into(), done, total, per_second }
    }

    fn target(name: &str, written: u64, verified: u64) -> TargetCounts {
        let mut target = TargetCounts::default();
        (target.target, target.written_bytes) = (name.into(), written);
        (target.verified_bytes, target.verify_total) = (verified, Some(100));
        target
    }

    #[test]
    fn a_line_says_phase_percent_bytes_rate_and_time_left() {
        let half = line(31 * MIB, Some(64 * MIB), 25 * MIB);
        assert_eq!(
            half.fitted(80),
            "write  [========>        ]  48 %  31.0 of 64.0 MiB  25.0 MiB/s  0:01 left"
        );
        assert_eq!(half.fitted(60), "write  [===>    ]  48 %  25.0 MiB/s  0:01 left");
        assert_eq!(half.fitted(24), "write  [===>    ]  48 %");
        assert_eq!(half.plain(), "write: 48 %, 31.0 of 64.0 MiB, 25.0 MiB/s, 0:01 left");
        let unknown = line(MIB, None, 0);
        assert_eq!(unknown.fitted(80), "write   1.0 MiB  0 B/s");
        let long = line(900 * MIB, Some(8 << 40), MIB);
        assert_eq!(long.left().as_deref(), Some("2329:55:08 left"));
        assert_eq!(line(5, Some(5), 1).left(), None);
    }

    #[test]
    fn of_several_targets_the_slowest_that_has_not_failed_counts() {
        let mut view = View::new(None);
        let mut counts = Counts::default();
        counts.decoded_total = Some(100);
        let targets = [target("a", 10, 0), target("b", 30, 7), target("c", 50, 9)];
        let all = view.measure(Phase::Write, &counts, &targets).unwrap();
        assert_eq!((&*all.what, all.done, all.total), ("write 3 disks", 10, Some(100)));
        view.failed.insert("a".into());
        let rest = view.measure(Phase::Write, &counts, &targets).unwrap();
        assert_eq!((&*rest.what, rest.done), ("write 2 disks", 30));
        let proof = view.measure(Phase::Verify, &counts, &targets).unwrap();
        assert_eq!((&*proof.what, proof.done, proof.total), ("verify 2 disks", 7, Some(100)));
    }

    #[test]
    fn an_image_of_unknown_size_is_measured_by_its_file() {
        let mut counts = Counts::default();
        (counts.source_bytes, counts.source_total) = (4, Some(8));
        let line = View::new(None).measure(Phase::Write, &counts, &[target("a", 90, 0)]).unwrap();
        assert_eq!((&*line.what, line.done, line.total), ("write", 4, Some(8)));
        assert!(View::new(None).measure(Phase::Wipe, &counts, &[]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn a_line_is_always_shorter_than_the_terminal(
            done: u64,
            total: Option<u64>,
            per_second: u64,
            disks in "write|verify [1-9]{1,3} disks",
            columns in 2_usize..300,
        ) {
            let line = Line { what: disks, done, total, per_second };
            let shown = line.fitted(columns);
            proptest::prop_assert!(shown.chars().count() < columns, "{shown:?}");
            proptest::prop_assert!(!shown.contains(char::is_control));
        }
    }
}
