//! Shows progress: bars on a terminal, a line every few seconds elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bty::progress::{Counts, TargetCounts};
use bty::size::human;
use bty::{Event, Observer, Phase};
use bty_script::world::ProgressSink;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Interval of progress lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows events as JSON lines, progress bars, or plain lines.
pub(crate) struct ProgressDisplay {
    output: Output,
    view: Mutex<View>,
}

struct View {
    /// The bars below the output; `None` without a terminal.
    bars: Option<MultiProgress>,
    /// The bars of this phase, by their labels.
    visible: HashMap<String, ProgressBar>,
    /// The rates of this phase, by the labels of bars.
    rates: HashMap<String, Rate>,
    /// When the last line was printed, without a terminal.
    last_line: Instant,
    phase: Option<Phase>,
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
        let with_bars = !is_json && std::io::stderr().is_terminal();
        let bars = with_bars
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        let (visible, rates) = (HashMap::new(), HashMap::new());
        let view = View { bars, visible, rates, last_line: Instant::now(), phase: None };
        Self { output: Output::new(is_json), view: Mutex::new(view) }
    }

    /// Removes the bars from the screen.
    pub(crate) fn clear(&self) {
        if let Ok(view) = self.view.lock()
            && let Some(bars) = &view.bars
        {
            let _ = bars.clear();
        }
    }

    /// Shows `event` unless `--json` is set, for commands that print a single JSON object.
    pub(crate) fn event_for_people(&self, event: &Event) {
        if !self.output.is_json() {
            self.event(event);
        }
    }

    /// Prints text above the bars.
    fn say(&self, view: &View, text: &str) {
        match &view.bars {
            Some(bars) => bars.suspend(|| self.output.say(text)),
            None => self.output.say(text),
        }
    }
}

impl ProgressSink for ProgressDisplay {
    fn finished(&self) {
        self.clear();
        if let Ok(mut view) = self.view.lock() {
            view.rates.clear();
            view.visible.clear();
            view.phase = None;
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
            Event::Phase { phase } => view.enter(*phase),
            Event::Notice { message } => self.say(&view, &format!("note: {message}")),
            Event::TargetFailed { target, message, .. } => {
                self.say(&view, &format!("{target} failed: {message}"));
            }
            Event::Progress { phase, counts, targets, .. } => {
                let lines = view.measure(*phase, counts, targets);
                if view.bars.is_some() {
                    view.draw(&lines);
                } else if view.last_line.elapsed() >= LINE_EVERY {
                    view.last_line = Instant::now();
                    let text: Vec<String> = lines.iter().map(Line::text).collect();
                    self.say(&view, &format!("{}: {}", phase.as_str(), text.join("; ")));
                }
            }
            _ => {}
        }
    }
}

/// One progress bar or one part of a progress line.
struct Line {
    /// The label: a verb, and the target if there are several.
    what: String,
    done: u64,
    total: Option<u64>,
    per_second: u64,
}

impl Line {
    fn text(&self) -> String {
        let total = self.total.map_or(String::new(), |t| format!(" of {}", human(t)));
        let eta = self.eta().map_or(String::new(), |s| format!(", {s} s left"));
        format!("{} {}{total} ({}/s{eta})", self.what, human(self.done), human(self.per_second))
    }

    /// Seconds left at the current rate; `None` if unknown or done.
    fn eta(&self) -> Option<u64> {
        let left = self.total?.saturating_sub(self.done);
        (self.per_second > 0 && left > 0).then(|| left / self.per_second)
    }
}

impl View {
    /// Begins a phase: the bars of the one before disappear.
    fn enter(&mut self, phase: Phase) {
        if self.phase != Some(phase) {
            self.rates.clear();
            for bar in self.visible.drain().map(|(_, bar)| bar) {
                bar.finish_and_clear();
            }
        }
        self.phase = Some(phase);
    }

    /// What to show of the counts in this phase.
    fn measure(&mut self, phase: Phase, counts: &Counts, targets: &[TargetCounts]) -> Vec<Line> {
        let mut lines = Vec::new();
        match phase {
            Phase::Read | Phase::Write => {
                lines.push(self.line("read", counts.source_bytes, counts.source_total));
                lines.push(self.line("decode", counts.decoded_bytes, counts.decoded_total));
                for target in targets {
                    let name = name_of("write", target, targets);
                    let done = target.written_bytes + target.zeroed_bytes + target.kept_bytes;
                    lines.push(self.line(&name, done, counts.decoded_total));
                }
            }
            Phase::Scan => {
                for target in targets {
                    let name = name_of("scan", target, targets);
                    lines.push(self.line(&name, target.scanned_bytes, target.scan_total));
                }
            }
            Phase::Verify => {
                for target in targets {
                    let name = name_of("verify", target, targets);
                    lines.push(self.line(&name, target.verified_bytes, target.verify_total));
                }
            }
            _ => {}
        }
        lines
    }

    /// A line whose rate is that of the last full second.
    fn line(&mut self, what: &str, done: u64, total: Option<u64>) -> Line {
        let rate = self.rates.entry(what.to_owned()).or_insert(Rate {
            since: Instant::now(),
            from: done,
            per_second: 0,
        });
        let elapsed = rate.since.elapsed();
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let now = done.saturating_sub(rate.from).saturating_mul(1000) / millis;
        if rate.per_second == 0 && (100..1000).contains(&millis) {
            // a rough rate in the first second is better than none
            return Line { what: what.to_owned(), done, total, per_second: now };
        }
        if elapsed >= Duration::from_secs(1) {
            rate.per_second = now;
            rate.since = Instant::now();
            rate.from = done;
        }
        Line { what: what.to_owned(), done, total, per_second: rate.per_second }
    }

    fn draw(&mut self, lines: &[Line]) {
        let Some(bars) = &self.bars else { return };
        for line in lines {
            let bar = self
                .visible
                .entry(line.what.clone())
                .or_insert_with(|| bars.add(new_bar(line.total)));
            if let (None, Some(total)) = (bar.length(), line.total) {
                // the total became known only now
                bar.set_length(total);
                bar.set_style(style(line.total));
            }
            bar.set_position(line.done);
            let eta =
                line.eta().map_or(String::new(), |s| format!(" {}:{:02} left", s / 60, s % 60));
            let total = line.total.map_or(String::new(), |t| format!("/{}", human(t)));
            bar.set_message(format!(
                "{:<7} {}{total} {}/s{eta}",
                line.what,
                human(line.done),
                human(line.per_second)
            ));
        }
    }
}

/// The label of a bar; it names the target only if there are several.
fn name_of(verb: &str, target: &TargetCounts, targets: &[TargetCounts]) -> String {
    if targets.len() == 1 {
        verb.to_owned()
    } else {
        format!("{verb} {}", bty::text::escape(&target.target))
    }
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style(total))
}

/// A bar if the total is known, a spinner otherwise.
fn style(total: Option<u64>) -> ProgressStyle {
    let template = if total.is_some() { "{bar:24} {msg}" } else { "{spinner:24} {msg}" };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").tick_chars("|/-\\ ")
}
