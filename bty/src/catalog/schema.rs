//! Parses TOML into a [`Catalog`], and reports all problems of the file in one error.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reference::quote;
use super::{Catalog, Entry, MAX_BYTES, VERSION};
use crate::{Error, ErrorKind, Result, size};

/// Maximum number of problems that the error lists. It counts the others.
const MAX_SHOWN: usize = 20;

pub(super) fn parse(bytes: &[u8]) -> Result<Catalog> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new(
            ErrorKind::Catalog,
            format!("the catalog is larger than {}", size::human(MAX_BYTES)),
        )
        .hint("is this the file you meant?"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        Error::new(ErrorKind::Catalog, format!("line {line}: not valid UTF-8"))
            .at_offset(e.valid_up_to() as u64)
            .hint("a catalog is a TOML file; is this the file you meant?")
    })?;
    let mut problems = Problems::new(text);
    let entries = match DeTable::parse(text) {
        Ok(table) => entries(table.get_ref(), &mut problems),
        Err(e) => {
            problems.add(e.span(), format!("not valid TOML: {}", e.message().trim()));
            Vec::new()
        }
    };
    problems.finish().map(|()| Catalog { entries })
}

fn entries(table: &DeTable<'_>, problems: &mut Problems) -> Vec<Entry> {
    check_version(table, problems);
    let Some(images) = table.get("images") else { return Vec::new() };
    let Some(array) = images.get_ref().as_array() else {
        let found = images.get_ref().type_str();
        problems
            .add(Some(images.span()), format!("images must be an array of tables, not {found}"));
        return Vec::new();
    };
    let mut lines = HashMap::new();
    let mut entries = Vec::new();
    for (index, image) in array.iter().enumerate() {
        let Some(fields) = image.get_ref().as_table() else {
            let found = image.get_ref().type_str();
            problems.add(
                Some(image.span()),
                format!("entry {} must be a table, not {found}", index + 1),
            );
            continue;
        };
        let mut reader =
            Fields { fields, span: image.span(), label: format!("entry {}", index + 1), problems };
        let entry = reader.entry();
        let Some((name, span)) = reader.name() else { continue };
        if let Some(first) = lines.insert(name.clone(), span.clone()) {
            let first = problems.line(&first);
            problems.add(
                Some(span),
                format!("entry {}: the name is taken by line {first}", quote(&name)),
            );
        }
        entries.extend(entry);
    }
    entries
}

fn check_version(table: &DeTable<'_>, problems: &mut Problems) {
    let Some(version) = table.get("version") else {
        return problems
            .add(None, format!("version is missing, this bty understands version={VERSION}"));
    };
    if integer(version.get_ref()) != Some(i64::from(VERSION)) {
        let found = match version.get_ref() {
            DeValue::Integer(n) => quote(&n.to_string()).trim_matches('"').to_owned(),
            DeValue::String(s) => quote(s),
            other => other.type_str().to_owned(),
        };
        problems.add(
            Some(version.span()),
            format!("version={found}, this bty understands version={VERSION}"),
        );
    }
}

/// Reads the fields of one entry. Every method records the problems that it finds.
struct Fields<'t, 'p> {
    fields: &'t DeTable<'t>,
    span: Range<usize>,
    label: String,
    problems: &'p mut Problems,
}

impl Fields<'_, '_> {
    fn entry(&mut self) -> Option<Entry> {
        let before = self.problems.count;
        match self.required("name") {
            Some((name, _)) => self.label = format!("entry {}", quote(&name)),
            None => self.label.push_str(" (without a name)"),
        }
        let sha256 = self.digest("sha256", 64);
        let sha512 = self.digest("sha512", 128);
        let index_sha256 = self.digest("index_sha256", 64);
        let packed = self.packed(index_sha256.is_some());
        let declared_ref = self.digest::<crate::Digest>("ref", 64);
        let format = self.string("format").filter(|(text, _)| !text.is_empty());
        let arch = self.string("arch").filter(|(text, _)| !text.is_empty());
        let description = self.string("description").map(|(text, _)| text);
        let size_bytes = self.size();
        let raw = self.boolean("raw");
        let (src, src_span) = self.required("src")?;
        let name = self.name().map_or_else(|| "unnamed".to_owned(), |(name, _)| name);
        let mut entry = match Entry::new(name, src) {
            Ok(entry) => entry,
            Err(e) => {
                self.problem(Some(src_span), &format!("src {e:#}"));
                return None;
            }
        };
        if let Some((declared, span)) =
            declared_ref.filter(|(declared, _)| *declared != entry.image_ref)
        {
            let why = format!("ref is {declared}, but src makes it {}", entry.image_ref);
            self.problem(Some(span), &why);
        }
        entry.sha256 = sha256.map(|(digest, _)| digest);
        entry.sha512 = sha512.map(|(digest, _)| digest);
        entry.index_sha256 = index_sha256.map(|(digest, _)| digest);
        entry.packed = packed;
        entry.format = format.map(|(text, _)| text).or(entry.format);
        entry.arch = arch.map(|(text, _)| text).or(entry.arch);
        entry.size_bytes = size_bytes;
        entry.description = description;
        entry.raw = raw;
        (self.problems.count == before).then_some(entry)
    }

    /// The name, if it is valid. Records no problem.
    fn name(&self) -> Option<(String, Range<usize>)> {
        let value = self.fields.get("name")?;
        let name = value.get_ref().as_str().filter(|name| !name.trim().is_empty())?;
        Some((name.to_owned(), value.span()))
    }

    fn required(&mut self, field: &str) -> Option<(String, Range<usize>)> {
        if self.fields.get(field).is_none() {
            self.problem(None, &format!("{field} is missing"));
            return None;
        }
        let (text, span) = self.string(field)?;
        if text.trim().is_empty() {
            self.problem(Some(span), &format!("{field} is empty"));
            return None;
        }
        Some((text, span))
    }

    fn string(&mut self, field: &str) -> Option<(String, Range<usize>)> {
        let value = self.fields.get(field)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(field, "a string", value);
            return None;
        };
        Some((text.to_owned(), value.span()))
    }

    fn digest<T: std::str::FromStr>(
        &mut self,
        field: &str,
        digits: usize,
    ) -> Option<(T, Range<usize>)> {
        let (text, span) = self.string(field)?;
        let text = text.trim();
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        if let (true, Ok(digest)) = (is_hex, text.parse()) {
            return Some((digest, span));
        }
        self.problem(
            Some(span),
            &format!("{field} must be {digits} hexadecimal digits, not {}", quote(text)),
        );
        None
    }

    /// The address of the packed image, whose content only the digest of its index proves.
    fn packed(&mut self, has_index_digest: bool) -> Option<String> {
        let (text, span) = self.string("packed")?;
        if let Err(e) = super::check_src(&text) {
            self.problem(Some(span), &format!("packed {e:#}"));
            return None;
        }
        if !has_index_digest && self.fields.get("index_sha256").is_none() {
            self.problem(Some(span), "packed needs index_sha256, which proves its content");
        }
        Some(text)
    }

    fn size(&mut self) -> Option<u64> {
        let value = self.fields.get("size_bytes")?;
        if !value.get_ref().is_integer() {
            self.wrong_type("size_bytes", "an integer", value);
            return None;
        }
        let size = integer(value.get_ref()).and_then(|n| u64::try_from(n).ok());
        if let Some(Err(e)) =
            size.map(|size| crate::source::check_size(size, crate::client::IMAGE_BYTES_MAX))
        {
            self.problem(Some(value.span()), &format!("size_bytes: {e:#}"));
            return None;
        }
        if size.is_none() {
            self.problem(Some(value.span()), "size_bytes is negative or too large");
        }
        size
    }

    fn boolean(&mut self, field: &str) -> bool {
        let Some(value) = self.fields.get(field) else { return false };
        let Some(is_true) = value.get_ref().as_bool() else {
            self.wrong_type(field, "true or false", value);
            return false;
        };
        is_true
    }

    fn wrong_type(&mut self, field: &str, expected: &str, found: &Spanned<DeValue<'_>>) {
        let why = format!("{field} must be {expected}, not {}", found.get_ref().type_str());
        self.problem(Some(found.span()), &why);
    }

    fn problem(&mut self, span: Option<Range<usize>>, why: &str) {
        let span = span.unwrap_or_else(|| self.span.clone());
        self.problems.add(Some(span), format!("{}: {why}", self.label));
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The problems found in a file so far.
struct Problems {
    /// Offsets of all line ends, in bytes.
    line_ends: Vec<usize>,
    /// Line and text. Line 0 means the file as a whole.
    shown: Vec<(usize, String)>,
    count: usize,
}

impl Problems {
    fn new(text: &str) -> Self {
        Self {
            line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
            shown: Vec::new(),
            count: 0,
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.line_ends.partition_point(|&end| end < span.start) + 1
    }

    fn add(&mut self, span: Option<Range<usize>>, what: String) {
        self.count += 1;
        if self.shown.len() < MAX_SHOWN {
            let line = span.map_or(0, |span| self.line(&span));
            self.shown.push((line, if line == 0 { what } else { format!("line {line}: {what}") }));
        }
    }

    fn finish(mut self) -> Result<()> {
        self.shown.sort_by_key(|(line, _)| *line);
        let shown: Vec<_> = self.shown.into_iter().map(|(_, what)| what).collect();
        let count = self.count;
        let message = match shown.as_slice() {
            [] => return Ok(()),
            [only] => only.clone(),
            all if all.len() == count => format!("{count} problems:\n  {}", all.join("\n  ")),
            some => format!("{count} problems, among them:\n  {}", some.join("\n  ")),
        };
        Err(Error::new(ErrorKind::Catalog, message)
            .hint("correct the catalog, or report it to its publisher"))
    }
}
