//! The log on stderr: one line per record, with control characters escaped.

use std::io::{self, Write};

use bty::text;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Copy)]
pub(super) struct LogWriter {
    pub(super) is_json: bool,
    /// True to keep the colors of the formatter.
    pub(super) has_styles: bool,
}

impl LogWriter {
    /// Escapes a record, which has no trailing newline.
    fn escape(self, record: &str) -> String {
        if self.is_json {
            return text::escape_json(record).into_owned();
        }
        if !self.has_styles {
            return text::escape(record).into_owned();
        }
        let mut parts = record.split('\x1b');
        let mut shown = parts.next().map(text::escape).unwrap_or_default().into_owned();
        for part in parts {
            // the formatter does not escape all values, so any other sequence may come from a value
            shown.push_str(if STYLES.iter().any(|style| part.starts_with(style)) {
                "\x1b"
            } else {
                r"\u{1b}"
            });
            shown.push_str(&text::escape(part));
        }
        shown
    }
}

/// The escape sequences that the formatter uses, without the escape character.
const STYLES: [&str; 10] =
    ["[0m", "[1m", "[2m", "[3m", "[31m", "[32m", "[33m", "[34m", "[35m", "[36m"];

/// The formatter writes one record per call.
impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let record = String::from_utf8_lossy(bytes);
        let escaped = self.escape(record.strip_suffix('\n').unwrap_or(&record));
        writeln!(io::stderr().lock(), "{escaped}")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Returns a hostile value as it appears in the log.
    fn logged(is_json: bool, has_styles: bool) -> String {
        #[derive(Clone, Default)]
        struct Captured(Arc<Mutex<String>>);
        let captured = Captured::default();
        struct Capture(LogWriter, Captured);
        impl Write for Capture {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let record = String::from_utf8_lossy(bytes);
                let shown = self.0.escape(record.strip_suffix('\n').unwrap());
                self.1.0.lock().unwrap().push_str(&format!("{shown}\n"));
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (writer, shared) = (LogWriter { is_json, has_styles }, captured.clone());
        let layer =
            tracing_subscriber::fmt::layer().with_writer(move || Capture(writer, shared.clone()));
        let name = "d\x1b[2K\x1b]0;owned\x07\u{9b}2J\r\n2026 ERROR forged \u{202e}";
        let event = || tracing::warn!(disk = %name, other = name, "it is {name}");
        match is_json {
            true => tracing::subscriber::with_default(
                tracing_subscriber::registry().with(layer.json()),
                event,
            ),
            false => tracing::subscriber::with_default(
                tracing_subscriber::registry().with(layer.with_ansi(has_styles)),
                event,
            ),
        }
        captured.0.lock().unwrap().clone()
    }

    #[test]
    fn a_record_is_one_line_without_control_characters() {
        for (is_json, has_styles) in [(false, false), (false, true), (true, false)] {
            let text = logged(is_json, has_styles);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.contains("owned") && text.contains("forged"), "{text:?}");
            let acts = |c: char| (c.is_control() && c != '\n' && c != '\x1b') || c == '\u{202e}';
            assert!(!text.contains(acts), "{text:?}");
            assert!(!text.contains("\x1b]") && !text.contains("\x1b[2K"), "{text:?}");
            assert!(has_styles || !text.contains('\x1b'), "{text:?}");
        }
    }
}
