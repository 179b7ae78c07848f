//! Formats values for people: in a line, or as a table.

use bty::Disk;
use bty::catalog::{Catalog, Entry};
use bty::image::directory::ImageFile;
use bty::size::human;
use bty::text;
use rhai::{Array, Dynamic, Map};

use crate::convert::Size;
use crate::error::HostError;
use crate::world::{Image, PlannedFlash};

/// A table of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Titles of the columns.
    pub headers: Vec<String>,
    /// Rows, each with one text per column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(headers: &[&str]) -> Self {
        Self { headers: headers.iter().map(|&h| h.to_owned()).collect(), rows: Vec::new() }
    }

    /// The lines of the table, headers first, truncated to `width` characters: the widest columns
    /// shrink first. Cells are escaped.
    #[must_use]
    pub fn lines(&self, width: usize) -> Vec<String> {
        let rows = || std::iter::once(&self.headers).chain(&self.rows);
        let columns = rows().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], at: usize| {
            row.get(at).map(|text| text::escape(text).into_owned()).unwrap_or_default()
        };
        let mut widths: Vec<usize> = (0..columns)
            .map(|at| rows().map(|row| cell(row, at).chars().count()).max().unwrap_or(0))
            .collect();
        let gaps = 2 * columns.saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > width {
            let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > 4) else { break };
            *widest -= 1;
        }
        let line = |row: &Vec<String>| {
            let cells = widths.iter().enumerate().map(|(at, &width)| fit(&cell(row, at), width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows().map(line).collect()
    }
}

/// Pads or truncates `text` to exactly `width` characters.
fn fit(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        return format!("{text}{}", " ".repeat(width - len));
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}~")
}

/// Formats a value in one line, as `print` does.
pub(crate) fn one_line(value: &Dynamic) -> String {
    if let Some(items) = value.read_lock::<Array>() {
        return format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", "));
    }
    if let Some(fields) = value.read_lock::<Map>() {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}: {}", quoted(value))).collect();
        return format!("#{{{}}}", fields.join(", "));
    }
    if value.is_unit() {
        return "()".to_owned();
    }
    host_value(value).unwrap_or_else(|| value.to_string())
}

/// Formats a value inside a container or at the prompt: strings are quoted.
fn quoted(value: &Dynamic) -> String {
    match value.read_lock::<rhai::ImmutableString>() {
        Some(text) => format!("{:?}", text.as_str()),
        None => one_line(value),
    }
}

/// Formats a value of one of bty's types in one line; `None` for other types.
pub(crate) fn host_value(value: &Dynamic) -> Option<String> {
    if let Some(size) = value.read_lock::<Size>() {
        return Some(size.to_string());
    }
    if let Some(disk) = value.read_lock::<Disk>() {
        return Some(disk.summary());
    }
    if let Some(image) = value.read_lock::<Image>() {
        return Some(format!("{} ({})", image.info.name, image.info.summary()));
    }
    if let Some(entry) = value.read_lock::<Entry>() {
        return Some(format!("{} ({})", entry.name, entry.src()));
    }
    if let Some(file) = value.read_lock::<ImageFile>() {
        return Some(format!("{} ({})", file.path.display(), human(file.size_bytes)));
    }
    if let Some(catalog) = value.read_lock::<Catalog>() {
        return Some(format!("a catalog of {}", text::count(catalog.entries().len(), "image")));
    }
    if let Some(plan) = value.read_lock::<PlannedFlash>() {
        let disks: Vec<String> = plan.plan.targets.iter().map(Disk::summary).collect();
        return Some(format!("write {} to {}", plan.plan.image.source, disks.join(", ")));
    }
    if let Some(report) = value.read_lock::<bty::flash::FlashReport>() {
        let done = report.targets.iter().filter(|t| t.failure.is_none()).count();
        return Some(format!(
            "{} written to {done} of {}",
            human(report.disk_bytes),
            text::count(report.targets.len(), "disk")
        ));
    }
    if let Some(report) = value.read_lock::<bty::flash::VerifyReport>() {
        let differs = || format!("{} differ", human(report.different_bytes));
        return Some(if report.is_equal { "equal".to_owned() } else { differs() });
    }
    let error = value.read_lock::<HostError>()?;
    Some(error.message.clone())
}

/// Formats a value as the REPL does: arrays of disks, image files, catalog entries or maps become
/// tables of at most `width` characters; other values take one line, and strings are quoted.
#[must_use]
pub fn display(value: &Dynamic, width: usize) -> String {
    if let Some(catalog) = value.read_lock::<Catalog>() {
        return table_of(catalog.entries().iter().map(|e| Dynamic::from(e.clone())))
            .lines(width)
            .join("\n");
    }
    let Some(items) = value.read_lock::<Array>() else { return quoted(value) };
    let is_record = |item: &Dynamic| {
        item.is::<Disk>() || item.is::<Entry>() || item.is::<ImageFile>() || item.is::<Map>()
    };
    if items.is_empty() || !items.iter().all(is_record) {
        return quoted(value);
    }
    table_of(items.iter().cloned()).lines(width).join("\n")
}

/// A table of disks, image files, catalog entries or maps, by the type of the first item.
pub(crate) fn table_of(items: impl Iterator<Item = Dynamic>) -> Table {
    let items: Vec<Dynamic> = items.collect();
    let Some(first) = items.first() else { return Table::default() };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut table;
    if first.is::<Disk>() {
        table = Table::new(&["Path", "Size", "Model", "Transport", "Serial", "In use"]);
        for disk in items.iter().filter_map(rhai::Dynamic::read_lock::<Disk>) {
            let used = if disk.uses.is_empty() { "-" } else { "yes" };
            table.rows.push(vec![
                disk.path.display().to_string(),
                human(disk.size_bytes),
                or_dash(&disk.model),
                or_dash(&disk.transport),
                or_dash(&disk.serial),
                used.into(),
            ]);
        }
    } else if first.is::<Entry>() {
        table = Table::new(&["Name", "Format", "Arch", "Size", "Source"]);
        for entry in items.iter().filter_map(rhai::Dynamic::read_lock::<Entry>) {
            let size = entry.size_bytes.map(human);
            table.rows.push(vec![
                entry.name.clone(),
                or_dash(&entry.format),
                or_dash(&entry.arch),
                or_dash(&size),
                entry.src().to_owned(),
            ]);
        }
    } else if first.is::<ImageFile>() {
        table = Table::new(&["Name", "Format", "Arch", "Size"]);
        for file in items.iter().filter_map(rhai::Dynamic::read_lock::<ImageFile>) {
            let arch = file.arch.unwrap_or("-").to_owned();
            table.rows.push(vec![
                file.name.clone(),
                file.format.to_owned(),
                arch,
                human(file.size_bytes),
            ]);
        }
    } else {
        table = Table::default();
        for map in items.iter().filter_map(rhai::Dynamic::read_lock::<Map>) {
            for name in map.keys() {
                if !table.headers.iter().any(|h| h == name.as_str()) {
                    table.headers.push(name.to_string());
                }
            }
        }
        for map in items.iter().filter_map(rhai::Dynamic::read_lock::<Map>) {
            table.rows.push(
                table
                    .headers
                    .iter()
                    .map(|h| map.get(h.as_str()).map(one_line).unwrap_or_default())
                    .collect(),
            );
        }
    }
    table
}
