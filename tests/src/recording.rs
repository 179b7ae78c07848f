//! Recordings of a terminal for the documentation, as SVG.
//!
//! A recording is a few screens of a real session, one after the other. What differs from run to
//! run (rates, times) is replaced, so that a test can compare a recording with a new one.

use std::fmt::Write as _;

/// Width of a character and height of a line, in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
/// Distance of the text from the edges.
const MARGIN: f64 = 14.0;
/// Stands for every SHA-256.
const DIGEST: &str = "6e36a35ffc0ef1c2d4e4b3f7c2b1e4a2f0a6f4fb3a9f9cde3e51a70c8b6f2d19";
const STYLE: &str = "
  svg { background: #14181d; }
  text { font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #d6dde6;
    white-space: pre; }
  .bold { font-weight: 600; fill: #ffffff; }
  .c1 { fill: #ff8d85; } .c2 { fill: #7ee08a; } .c3 { fill: #ecc25c; } .c4 { fill: #86b6ff; }
  .c5 { fill: #d9a2f0; } .c6 { fill: #6fd6d6; } .c8 { fill: #9aa5b1; }
  .screen { visibility: hidden; }
  @keyframes show { to { visibility: visible; } }
  @keyframes hide { to { visibility: hidden; } }
";

/// A piece of a line in one style.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    column: usize,
    text: String,
    class: String,
}

type Screen = Vec<Vec<Run>>;

/// Screens of a session.
pub struct Recording {
    title: String,
    columns: usize,
    screens: Vec<(Screen, f64)>,
}

impl Recording {
    /// An empty recording. `title` is its text alternative.
    #[must_use]
    pub fn new(title: &str, columns: u16) -> Self {
        Self { title: title.to_owned(), columns: columns.into(), screens: Vec::new() }
    }

    /// Adds a screen that stays for `seconds`.
    pub fn add(&mut self, screen: &vt100::Screen, seconds: f64) {
        let (rows, columns) = screen.size();
        let shown = (0..rows).filter(|row| !is_left_out(screen, *row));
        let mut lines: Screen = shown.map(|row| line(screen, row, columns)).collect();
        while lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        self.screens.push((lines, seconds));
    }

    /// The recording as SVG. It plays once and stays at its last screen, which is also what
    /// readers see who do not want motion.
    ///
    /// # Panics
    /// If it has no screen.
    #[must_use]
    pub fn svg(&self) -> String {
        let rows = self.screens.iter().map(|(lines, _)| lines.len()).max().expect("it has screens");
        let size = |count: usize, cell: f64| (count as f64).mul_add(cell, 2.0 * MARGIN).round();
        let (width, height) = (size(self.columns, CELL.0), size(rows, CELL.1));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>{}</title>\n",
            escape(&self.title)
        );
        let _ = writeln!(svg, "<style>{STYLE}{}</style>", self.timing());
        let _ = writeln!(
            svg,
            "<rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#14181d\"/>"
        );
        for (number, (lines, _)) in self.screens.iter().enumerate() {
            let _ = writeln!(svg, "<g class=\"screen\" id=\"s{number}\">");
            for (row, runs) in lines.iter().enumerate() {
                for run in runs {
                    let _ = writeln!(svg, "{}", text(row, run));
                }
            }
            svg.push_str("</g>\n");
        }
        svg + "</svg>\n"
    }

    /// When each screen appears and disappears.
    fn timing(&self) -> String {
        let (mut css, mut begin) = (String::new(), 0.0);
        let last = self.screens.len() - 1;
        for (number, (_, seconds)) in self.screens.iter().enumerate() {
            let _ = write!(css, "  #s{number} {{ animation: show 0s {begin}s forwards");
            begin += seconds;
            if number < last {
                let _ = write!(css, ", hide 0s {begin}s forwards");
            }
            css.push_str("; }\n");
        }
        let _ = write!(
            css,
            "  @media (prefers-reduced-motion: reduce) {{\n    .screen {{ animation: none \
             !important; }}\n    #s{last} {{ visibility: visible; }}\n  }}\n"
        );
        css
    }
}

/// True for rows of a notice that depends on the kernel of the machine that records: not every
/// kernel reads the partition table of a loop device again.
fn is_left_out(screen: &vt100::Screen, row: u16) -> bool {
    let first = (0..=row).rev().find(|&row| row == 0 || !screen.row_wrapped(row - 1));
    let (_, columns) = screen.size();
    let text = screen.contents_between(first.unwrap_or(row), 0, row + 1, columns);
    text.starts_with("note: the kernel did not re-read")
}

/// A line of a screen: pieces with one style each, without blanks at the end.
fn line(screen: &vt100::Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        let class = class_of(cell);
        let shown = if cell.has_contents() { cell.contents() } else { " " };
        match runs.last_mut() {
            Some(run) if run.class == class => run.text.push_str(shown),
            _ => runs.push(Run { column: column.into(), text: shown.to_owned(), class }),
        }
    }
    for run in &mut runs {
        run.text = steady(run.text.trim_end());
    }
    runs.retain(|run| !run.text.is_empty());
    runs
}

fn class_of(cell: &vt100::Cell) -> String {
    let color = match cell.fgcolor() {
        vt100::Color::Idx(index) if index != 0 && index != 7 => format!("c{}", index % 8),
        _ if cell.dim() => "c8".to_owned(),
        _ => String::new(),
    };
    let bold = if cell.bold() { "bold" } else { "" };
    [bold, &color].iter().filter(|class| !class.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// Replaces what differs from run to run: rates, times that are left, durations, digests.
fn steady(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for word in &mut words {
        if word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()) {
            *word = DIGEST;
        }
    }
    for at in 1..words.len() {
        let is_number = words[at - 1].starts_with(|c: char| c.is_ascii_digit());
        match words[at] {
            unit if is_number && unit.ends_with("B/s") => {
                (words[at - 1], words[at]) = ("25.0", "MiB/s");
            }
            "left" if is_number => (words[at - 1], words[at]) = ("", ""),
            "s;" | "s" if is_number => words[at - 1] = "1.6",
            _ => {}
        }
    }
    words.join(" ").trim_end().to_owned()
}

fn text(row: usize, run: &Run) -> String {
    let (column, len) = (run.column as f64, run.text.chars().count() as f64);
    let blanks = run.text.chars().take_while(|c| *c == ' ').count() as f64;
    let x = (column + blanks).mul_add(CELL.0, MARGIN);
    let y = (row as f64 + 1.0).mul_add(CELL.1, MARGIN - 5.0);
    let class =
        if run.class.is_empty() { String::new() } else { format!(" class=\"{}\"", run.class) };
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.0}\" textLength=\"{:.1}\"{class}>{}</text>",
        (len - blanks) * CELL.0,
        escape(run.text.trim_start())
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced_and_nothing_else() {
        for (text, expected) in [
            ("read    4.0 MiB/12.9 MiB 1.1 MiB/s 0:07 left", "read    4.0 MiB/12.9 MiB 25.0 MiB/s"),
            (
                "12.9 MiB read in 0.31 s; the digest matches:",
                "12.9 MiB read in 1.6 s; the digest matches:",
            ),
            ("0 B/s", "25.0 MiB/s"),
            ("1  /dev/nvme0n1  465.8 GiB", "1  /dev/nvme0n1  465.8 GiB"),
        ] {
            assert_eq!(steady(text), expected);
        }
    }

    #[test]
    fn a_screen_is_text_in_pieces_of_one_style() {
        let mut parser = vt100::Parser::new(3, 20, 0);
        parser.process(b"a <b> \x1b[1;32mdone\x1b[0m\r\n\r\n");
        let mut recording = Recording::new("a & b", 20);
        recording.add(parser.screen(), 1.0);
        let svg = recording.svg();
        assert!(svg.contains("<title>a &amp; b</title>"), "{svg}");
        assert!(svg.contains(">a &lt;b&gt;</text>"), "{svg}");
        assert!(svg.contains(" class=\"bold c2\">done</text>"), "{svg}");
        assert_eq!(svg.matches("<text ").count(), 2, "{svg}");
    }
}
