//! Machines as a table, in CSV or TOML: `name`, `mac`, `plan`, `image`, `disk`, `labels`.

use serde::{Deserialize, Serialize};

use crate::domain::error::{Error, Result};

/// The columns, in the order in which they are written. Only `mac` is required.
pub const TABLE_COLUMNS: [&str; 6] = ["name", "mac", "plan", "image", "disk", "labels"];

/// Maximum number of rows.
pub const ROWS_MAX: usize = 10_000;

/// A machine in a table. A column that a table does not have is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableRow {
    /// What people call it; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MAC address, in any spelling.
    pub mac: String,
    /// Name of its plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Name or reference of its image; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Serial number of the disk that may be written; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
}

/// The format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// A header line, then one line per machine; labels are separated by semicolons.
    Csv,
    /// A list of tables `[[machines]]`.
    Toml,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlTable {
    #[serde(default)]
    machines: Vec<TableRow>,
}

impl TableFormat {
    /// Parses a table.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) when `text` is not such a
    /// table, with the line, or has more than [`ROWS_MAX`] rows.
    pub fn parse(self, text: &str) -> Result<Vec<TableRow>> {
        let rows = match self {
            Self::Csv => from_csv(text.strip_prefix('\u{feff}').unwrap_or(text))?,
            Self::Toml => {
                let table: TomlTable = toml::from_str(text)
                    .map_err(|e| Error::invalid(format!("the table of machines: {e}")))?;
                table.machines
            }
        };
        if rows.len() > ROWS_MAX {
            return Err(Error::invalid(format!(
                "the table has {} machines; import at most {ROWS_MAX} at a time",
                rows.len()
            )));
        }
        Ok(rows)
    }

    /// Writes a table.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when TOML cannot be
    /// written.
    pub fn write(self, rows: Vec<TableRow>) -> Result<String> {
        match self {
            Self::Csv => Ok(to_csv(&rows)),
            Self::Toml => toml::to_string(&TomlTable { machines: rows }).map_err(Error::internal),
        }
    }
}

fn to_csv(rows: &[TableRow]) -> String {
    let mut text = TABLE_COLUMNS.join(",") + "\n";
    for row in rows {
        let labels = row.labels.as_deref().unwrap_or_default().join(";");
        let plain = |field: &Option<String>| field.clone().unwrap_or_default();
        let fields = [
            plain(&row.name),
            row.mac.clone(),
            plain(&row.plan),
            plain(&row.image),
            plain(&row.disk),
            labels,
        ];
        text += &fields.map(|field| quoted(&field)).join(",");
        text += "\n";
    }
    text
}

fn quoted(field: &str) -> String {
    let is_plain = !field.contains([',', '"', '\n', '\r']) && field.trim() == field;
    if is_plain { field.to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

fn from_csv(text: &str) -> Result<Vec<TableRow>> {
    let mut records = records(text)?.into_iter();
    let Some((_, head)) = records.next() else {
        return Err(wrong(1, "the table is empty; the first line names the columns"));
    };
    let head: Vec<String> = head.iter().map(|name| name.trim().to_lowercase()).collect();
    for (n, name) in head.iter().enumerate() {
        if !TABLE_COLUMNS.contains(&name.as_str()) || head[..n].contains(name) {
            let detail = format!(
                "unknown or repeated column {name:?}; the columns are {}",
                TABLE_COLUMNS.join(", ")
            );
            return Err(wrong(1, &detail));
        }
    }
    if !head.iter().any(|name| name == "mac") {
        return Err(wrong(1, "the column mac is missing"));
    }
    records.map(|(line, fields)| row(line, &head, fields)).collect()
}

fn row(line: usize, head: &[String], fields: Vec<String>) -> Result<TableRow> {
    if fields.len() != head.len() {
        let detail = format!("{} fields, but {} columns", fields.len(), head.len());
        return Err(wrong(line, &detail));
    }
    let mut row = TableRow::default();
    for (name, field) in head.iter().zip(fields) {
        match name.as_str() {
            "name" => row.name = Some(field),
            "mac" => row.mac = field,
            "plan" => row.plan = Some(field),
            "image" => row.image = Some(field),
            "disk" => row.disk = Some(field),
            _ => {
                let labels = field.split([';', ',']).map(str::trim);
                row.labels =
                    Some(labels.filter(|label| !label.is_empty()).map(str::to_owned).collect());
            }
        }
    }
    Ok(row)
}

/// Splits CSV into records, each with the number of its first line. Skips blank lines.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>> {
    let (mut records, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun, mut is_quoted, mut was_quoted) = (1, 1, false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted => (is_quoted, was_quoted) = (false, true),
            _ if is_quoted => field.push(c),
            '"' if field.is_empty() && !was_quoted => is_quoted = true,
            ',' => {
                fields.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                end_record(&mut records, begun, &mut fields, &mut field, was_quoted);
                (begun, was_quoted) = (line, false);
            }
            _ if was_quoted => {
                return Err(wrong(line, "text after the closing quote of a field"));
            }
            _ => field.push(c),
        }
    }
    if is_quoted {
        return Err(wrong(begun, "the closing quote of a field is missing"));
    }
    end_record(&mut records, begun, &mut fields, &mut field, was_quoted);
    Ok(records)
}

fn end_record(
    records: &mut Vec<(usize, Vec<String>)>,
    line: usize,
    fields: &mut Vec<String>,
    field: &mut String,
    was_quoted: bool,
) {
    let is_blank = fields.is_empty() && field.trim().is_empty() && !was_quoted;
    let last = std::mem::take(field);
    if !is_blank {
        fields.push(last);
        records.push((line, std::mem::take(fields)));
    }
}

fn wrong(line: usize, detail: &str) -> Error {
    Error::invalid(format!("line {line} of the table: {detail}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_of_a_spreadsheet_is_read() {
        let text = "\u{feff}MAC,Labels , name\r\n52-54-00-00-00-01,\"rack 1;lab\",\"a \"\"b\"\", c\"\r\n\r\n525400000002,,\r\n";
        let rows = TableFormat::Csv.parse(text).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].labels, Some(vec!["rack 1".to_owned(), "lab".to_owned()]));
        assert_eq!((rows[0].name.as_deref(), &rows[0].plan), (Some("a \"b\", c"), &None));
        assert_eq!((rows[1].name.as_deref(), &rows[1].labels), (Some(""), &Some(Vec::new())));
    }

    #[test]
    fn a_wrong_table_is_refused_with_its_line() {
        for (text, why) in [
            ("", "line 1 of the table: the table is empty"),
            ("name\nx\n", "line 1 of the table: the column mac is missing"),
            ("mac,size\n", "line 1 of the table: unknown or repeated column \"size\""),
            ("mac,mac\n", "unknown or repeated column \"mac\""),
            ("mac,name\na,b\nc\n", "line 3 of the table: 1 fields, but 2 columns"),
            ("mac\n\"a\nb", "line 2 of the table: the closing quote of a field is missing"),
            ("mac\n\"a\"b\n", "line 2 of the table: text after the closing quote"),
        ] {
            let error = TableFormat::Csv.parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let error = TableFormat::Toml.parse("[[machines]]\nsize = 1\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `size`"), "{error}");
    }

    fn any_row() -> impl Strategy<Value = TableRow> {
        let text = "[a-z,;\"\r\n é]{0,6}";
        (text, "[0-9a-f:]{1,6}", prop::collection::vec("[a-z][a-z ]{0,3}[a-z]", 0..3)).prop_map(
            |(text, mac, labels)| TableRow {
                name: Some(text.clone()),
                mac,
                plan: Some("p".into()),
                image: Some(text),
                disk: Some(String::new()),
                labels: Some(labels),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(rows in prop::collection::vec(any_row(), 0..5)) {
            for format in [TableFormat::Csv, TableFormat::Toml] {
                let text = format.write(rows.clone()).unwrap();
                prop_assert_eq!(&format.parse(&text).unwrap(), &rows, "{}", text);
            }
        }

        #[test]
        fn any_text_is_a_table_or_is_refused(text in "(mac|,|\"|\n|\r|[a-z]){0,30}") {
            if let Ok(rows) = TableFormat::Csv.parse(&text) {
                prop_assert!(rows.len() <= text.len());
            }
        }
    }
}
