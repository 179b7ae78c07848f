//! Drawings: inline SVG, styled by the style sheet.

use std::fmt::Write as _;

use serde_json::Value;

use crate::domain::machine::Phase;
use crate::domain::machine::state_label::state_label;
use crate::services::machine_reads::Brief;
use crate::services::rates::{CurveStep, STEP_MS};

/// Escapes text for HTML; control characters become U+FFFD.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Maximum number of machines whose tiles are links.
const LINKED_MAX: usize = 400;

const TILE: usize = 12;
const STEP: usize = 15;

/// Draws one tile per machine, in the color of its phase.
#[must_use]
pub fn fleet(machines: &[Brief], root: &str) -> String {
    if machines.len() <= LINKED_MAX {
        linked_tiles(machines, root)
    } else {
        rows_of_tiles(machines)
    }
}

fn frame(columns: usize, rows: usize, about: &str) -> String {
    let (width, height) = (columns * STEP, rows * STEP);
    format!(
        "<svg class=\"fleet\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{about}\">"
    )
}

fn linked_tiles(machines: &[Brief], root: &str) -> String {
    const COLUMNS: usize = 40;
    let rows = machines.len().div_ceil(COLUMNS);
    // screen readers skip links inside an image
    let mut svg = frame(COLUMNS, rows, "")
        .replace("role=\"img\" aria-label=\"\"", "role=\"group\" aria-label=\"Machines\"");
    for (i, machine) in machines.iter().enumerate() {
        let (x, y) = (i % COLUMNS * STEP, i / COLUMNS * STEP);
        let status = machine.status();
        let (mac, labels) = (&machine.mac, machine.labels.join(" "));
        let title = escape(&format!("{mac} {labels}: {}", state_label(&status)));
        let root = escape(root);
        let (phase, hyphens) = (status.phase().as_str(), machine.mac.replace(':', "-"));
        let _ = write!(
            svg,
            "<a href=\"{root}/ui/machines/{hyphens}\" aria-label=\"{title}\">\
             <rect class=\"{phase}\" x=\"{x}\" y=\"{y}\" width=\"{TILE}\" height=\"{TILE}\" \
             rx=\"2\"><title>{title}</title></rect></a>"
        );
    }
    svg + "</svg>"
}

/// Draws tiles, grouped by phase. Each row of a phase is one dashed line, so that ten thousand
/// tiles take only a few hundred bytes.
fn rows_of_tiles(machines: &[Brief]) -> String {
    const COLUMNS: usize = 125;
    let label = bty::text::count(machines.len(), "machine");
    let mut svg = frame(COLUMNS, machines.len().div_ceil(COLUMNS), &label);
    let mut at = 0;
    for phase in Phase::ALL {
        let mut left = machines.iter().filter(|machine| machine.status().phase() == phase).count();
        while left > 0 {
            let column = at % COLUMNS;
            let run = left.min(COLUMNS - column);
            let (x1, x2, y) =
                (column * STEP, (column + run) * STEP, at / COLUMNS * STEP + TILE / 2);
            let gap = STEP - TILE;
            let _ = write!(
                svg,
                "<line class=\"{}\" x1=\"{x1}\" x2=\"{x2}\" y1=\"{y}\" y2=\"{y}\" \
                 stroke-width=\"{TILE}\" stroke-dasharray=\"{TILE} {gap}\"/>",
                phase.as_str()
            );
            at += run;
            left -= run;
        }
    }
    svg + "</svg>"
}

const DISK_WIDTH: u64 = 600;
const DISK_HEIGHT: u64 = 30;

/// Draws a disk as a bar. Its length is relative to the machine's largest disk; its parts come from
/// the hardware report.
#[must_use]
pub fn disk(disk: &Value, largest_bytes: u64, parts: &[Part]) -> String {
    let size = disk["size_bytes"].as_u64().unwrap_or_default();
    let width = (scale(size, largest_bytes.max(1)) * DISK_WIDTH / 1000).clamp(40, DISK_WIDTH);
    let about = escape(&format!(
        "{} of {}",
        disk["path"].as_str().unwrap_or("a disk"),
        bty::size::human(size)
    ));
    let mut svg = format!(
        "<svg class=\"disk\" viewBox=\"0 0 {DISK_WIDTH} {DISK_HEIGHT}\" role=\"img\" \
         aria-label=\"{about}\">\
         <rect class=\"body\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"4\"/>",
        width - 1,
        DISK_HEIGHT - 1
    );
    let mut x = 2;
    for part in parts {
        let part_width = (scale(part.size_bytes, size.max(1)) * (width - 4) / 1000)
            .max(3)
            .min((width - 2).saturating_sub(x));
        let title = escape(&format!("{}, {}", part.what, bty::size::human(part.size_bytes)));
        let _ = write!(
            svg,
            "<rect class=\"part\" x=\"{x}\" y=\"3\" width=\"{}\" height=\"{}\">\
             <title>{title}</title></rect>",
            part_width.saturating_sub(1),
            DISK_HEIGHT - 6
        );
        // below this width, a name would be truncated to nothing
        if part_width > 60 {
            let short: String = part
                .what
                .chars()
                .take(usize::try_from(part_width / 8).unwrap_or_default())
                .collect();
            let _ = write!(svg, "<text x=\"{}\" y=\"19\">{}</text>", x + 5, escape(&short));
        }
        x += part_width;
    }
    svg + "</svg>"
}

/// Returns `part` of `whole` in thousandths.
fn scale(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1000 / u128::from(whole)).unwrap_or(1000).min(1000)
}

/// A partition or volume on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its kind, such as `ext4 volume`.
    pub what: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

const CURVE_WIDTH: u64 = 600;
const CURVE_HEIGHT: u64 = 120;

/// Draws the bytes per second that all machines have written and read back in the last ten minutes;
/// empty if there were none.
#[must_use]
pub fn curve(steps: &[CurveStep]) -> String {
    let per_s = |bytes: u64| bytes / u64::try_from(STEP_MS / 1000).unwrap_or(1);
    let most = steps.iter().map(|step| step.written.max(step.verified)).max().unwrap_or_default();
    if most == 0 {
        return String::new();
    }
    let last = u64::try_from(steps.len().saturating_sub(1).max(1)).unwrap_or(1);
    let line = |of: fn(&CurveStep) -> u64| {
        let point = |(i, step): (usize, &CurveStep)| {
            let x = u64::try_from(i).unwrap_or_default() * CURVE_WIDTH / last;
            let y = CURVE_HEIGHT - scale(of(step), most) * (CURVE_HEIGHT - 4) / 1000;
            format!("{x},{y}")
        };
        steps.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
    };
    format!(
        "<figure class=\"curve\"><svg viewBox=\"0 0 {CURVE_WIDTH} {CURVE_HEIGHT}\" \
         preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Throughput of the last ten minutes, at most {}/s\">\
         <polyline class=\"written\" points=\"{}\"/>\
         <polyline class=\"verified\" points=\"{}\"/></svg>\
         <figcaption>The last ten minutes, at most {}/s: \
         <span class=\"key written\">written</span> \
         <span class=\"key verified\">read back</span></figcaption></figure>",
        bty::size::human(per_s(most)),
        line(|step| step.written),
        line(|step| step.verified),
        bty::size::human(per_s(most)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Time;

    fn machine(n: usize, hold: Option<&str>) -> Brief {
        Brief {
            mac: format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256),
            name: String::new(),
            labels: vec!["<b>\"'&".into()],
            plan: "ipxe-exit".into(),
            image_ref: None,
            serial: None,
            hold: hold.map(str::to_owned),
            stage: None,
            mode: None,
            is_silent: false,
            seen_at: None,
            seen_ip: None,
            flashed_at: None,
        }
    }

    #[test]
    fn text_of_a_machine_is_escaped() {
        let svg = fleet(&[machine(1, Some("<script>alert(1)</script>"))], "");
        assert!(
            !svg.contains("<script") && !svg.contains("<b>") && svg.contains("&lt;script&gt;"),
            "{svg}"
        );
        let bar = disk(&serde_json::json!({ "path": "\"><script>", "size_bytes": 100 }), 100, &[]);
        assert!(!bar.contains("<script"), "{bar}");
    }

    #[test]
    fn ten_thousand_machines_take_few_bytes() {
        let machines: Vec<Brief> =
            (0..10_000).map(|n| machine(n, (n % 3 == 0).then_some("x"))).collect();
        let svg = fleet(&machines, "");
        assert!(svg.len() < 20_000, "{} bytes", svg.len());
        assert_eq!(svg.matches("class=\"trouble\"").count(), 3334_usize.div_ceil(125));
    }

    #[test]
    fn a_disk_of_any_size_can_be_drawn() {
        for size in [0, 1, 512, u64::MAX] {
            let parts = vec![
                Part { what: "x".repeat(300), size_bytes: u64::MAX },
                Part { what: "y".into(), size_bytes: 0 },
            ];
            let svg = disk(
                &serde_json::json!({ "path": "/dev/sda", "size_bytes": size }),
                1 << 40,
                &parts,
            );
            assert!(svg.ends_with("</svg>"), "{svg}");
        }
    }

    #[test]
    fn a_curve_is_drawn_only_when_something_was_flashed() {
        assert_eq!(curve(&[]), "");
        let steps = [(0, 0), (50 << 20, 0), (10 << 20, 20 << 20)];
        let steps = steps.map(|(written, verified)| CurveStep { at: Time(0), written, verified });
        assert!(curve(&steps).contains("at most 10.0 MiB/s"), "{}", curve(&steps));
    }
}
