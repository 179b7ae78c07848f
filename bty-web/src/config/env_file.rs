//! The environment file of the systemd service. Commands read it too, so that they use the
//! configuration of the server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Path of the file, as in `EnvironmentFile=` of the service.
pub const PATH: &str = "/etc/bty/bty-web.env";

/// Environment variable with the path of another file; empty for no file.
pub const VARIABLE: &str = "BTY_ENV_FILE";

/// The variables of an environment file.
#[derive(Clone, Debug, Default)]
pub struct EnvFile {
    /// The file that was read; `None` if it does not exist.
    pub path: Option<PathBuf>,
    /// Variables by name; the quotes around values are removed.
    pub values: BTreeMap<String, String>,
    /// Why the file or some of its lines were ignored.
    pub warnings: Vec<String>,
}

impl EnvFile {
    /// Reads the file that [`VARIABLE`] names in `env`, or [`PATH`] if it exists. A file that
    /// cannot be read is a warning: the command may work without it.
    #[must_use]
    pub fn find(env: impl Fn(&str) -> Option<String>) -> Self {
        match env(VARIABLE) {
            Some(name) if name.is_empty() => Self::default(),
            Some(name) => Self::read(Path::new(&name), true),
            None => Self::read(Path::new(PATH), false),
        }
    }

    fn read(path: &Path, must_exist: bool) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => {
                let (values, wrong) = parse(&String::from_utf8_lossy(&bytes));
                let warning =
                    |line| format!("{}: line {line} ignored: expected NAME=VALUE", path.display());
                Self {
                    path: Some(path.to_owned()),
                    values,
                    warnings: wrong.into_iter().map(warning).collect(),
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must_exist => Self::default(),
            Err(e) => {
                let warning = format!(
                    "cannot read {}: {e}; settings that the server reads from it, such as its \
                     state directory, are missing here",
                    path.display()
                );
                Self { warnings: vec![warning], ..Self::default() }
            }
        }
    }

    /// Returns the value of a variable from `env`, or from the file if `env` does not have it.
    pub fn over(&self, env: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
        env(name).or_else(|| self.values.get(name).cloned())
    }
}

/// Parses variables. Also returns the numbers of invalid lines. Follows the rules of
/// `EnvironmentFile=` in systemd.exec(5): comments begin with `#` or `;`, values may be quoted, a
/// backslash at the end of a line joins it with the next one, and nothing is expanded.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<usize>) {
    let mut values = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    let mut line = 1;
    while let Some(first) = chars.next() {
        match first {
            '\n' => line += 1,
            first if first.is_whitespace() => {}
            '#' | ';' => while chars.next_if(|c| *c != '\n').is_some() {},
            first => {
                let begun = line;
                let mut name = String::from(first);
                while let Some(c) = chars.next_if(|c| !matches!(c, '=' | '\n')) {
                    name.push(c);
                }
                // a line that begins with `=` has no valid name
                let value = chars.next_if_eq(&'=').map(|_| value_of(&mut chars, &mut line));
                match value.filter(|_| is_name(name.trim_end())) {
                    Some(value) => _ = values.insert(name.trim_end().to_owned(), value),
                    None => wrong.push(begun),
                }
            }
        }
    }
    (values, wrong)
}

fn is_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_word) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty()
}

/// Returns the value after `=`, up to the end of the line.
fn value_of(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, line: &mut usize) -> String {
    let mut value = String::new();
    // length of the value without trailing spaces, unless they are quoted or escaped
    let mut kept = 0;
    let mut is_begun = false;
    while let Some(c) = chars.next() {
        if c == '\n' {
            *line += 1;
        }
        match c {
            '\n' => break,
            '\\' => match chars.next() {
                Some('\n') => *line += 1,
                Some(c) => {
                    value.push(c);
                    (kept, is_begun) = (value.len(), true);
                }
                None => break,
            },
            // a quote inside a word is an ordinary character
            quote @ ('\'' | '"') if !is_begun => {
                value.truncate(kept);
                quoted(chars, quote, &mut value, line);
                kept = value.len();
            }
            c if c.is_whitespace() => {
                if is_begun {
                    value.push(c);
                }
            }
            c => {
                value.push(c);
                (kept, is_begun) = (value.len(), true);
            }
        }
    }
    value.truncate(kept);
    value
}

fn quoted(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    quote: char,
    value: &mut String,
    line: &mut usize,
) {
    while let Some(c) = chars.next() {
        if c == '\n' {
            *line += 1;
        }
        match c {
            c if c == quote => return,
            '\\' if quote == '"' => match chars.next() {
                Some('\n') => *line += 1,
                Some(c) => {
                    if !matches!(c, '"' | '\\' | '`' | '$') {
                        value.push('\\');
                    }
                    value.push(c);
                }
                None => return,
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).0.into_iter().collect()
    }

    fn one(text: &str) -> String {
        let found = pairs(&format!("A={text}\nB=after\n"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], ("B".into(), "after".into()), "{text}");
        found[0].1.clone()
    }

    #[test]
    fn values_are_parsed_as_by_systemd() {
        for (text, value) in [
            ("plain", "plain"),
            ("  two words \t", "two words"),
            ("", ""),
            ("\"in quotes \"", "in quotes "),
            ("'$argon2id$v=19$m=19456'", "$argon2id$v=19$m=19456"),
            ("$argon2id$v=19$m=19456,t=2", "$argon2id$v=19$m=19456,t=2"),
            ("\"a \\\"b\\\" \\$c \\d\"", "a \"b\" $c \\d"),
            ("'a \\ b'", "a \\ b"),
            ("\"a\"'b'", "ab"),
            ("it's", "it's"),
            ("a\\ b\\\\", "a b\\"),
            ("joined\\\nline", "joinedline"),
            ("\"two\nlines\"", "two\nlines"),
            ("a # b", "a # b"),
            ("crlf\r", "crlf"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
        assert_eq!(pairs("# A='1\n; B=\"2\n\n  C = 3\n#D\\\n"), [("C".into(), "3".into())]);
        assert_eq!(pairs("A=1\nA=2"), [("A".into(), "2".into())], "the last one counts");
    }

    #[test]
    fn invalid_lines_are_reported_by_number() {
        let (values, wrong) = parse("\u{feff}A=1\nnonsense\nexport B=2\n1C=3\n = 4\nD=5\n");
        assert_eq!((values.len(), wrong), (2, vec![2, 3, 4, 5]));
    }

    #[test]
    fn the_environment_overrides_the_file_and_an_unreadable_file_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bty-web.env");
        std::fs::write(&path, "BTY_SERVER_PORT=1\nBTY_SERVER_HOST=file\n").unwrap();
        let name = path.display().to_string();
        let find = |named: Option<&str>| {
            EnvFile::find(|name| (name == VARIABLE).then(|| named.map(str::to_owned))?)
        };
        let file = find(Some(&name));
        let env = |name: &str| (name == "BTY_SERVER_PORT").then(|| "2".to_owned());
        assert_eq!(file.over(env, "BTY_SERVER_PORT").as_deref(), Some("2"));
        assert_eq!(file.over(env, "BTY_SERVER_HOST").as_deref(), Some("file"));
        assert_eq!(file.over(env, "BTY_SERVER_LOG"), None);
        assert!(file.warnings.is_empty() && file.path.as_deref() == Some(&*path));

        assert!(find(Some("")).values.is_empty() && find(Some("")).warnings.is_empty());
        let gone = find(Some("/nonexistent/bty-web.env"));
        assert!(
            gone.warnings[0].starts_with("cannot read /nonexistent/bty-web.env: "),
            "{:?}",
            gone.warnings
        );
        let directory = find(Some(&dir.path().display().to_string()));
        assert!(
            directory.path.is_none() && directory.warnings.len() == 1,
            "{:?}",
            directory.warnings
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[A-C=#;'\"\\\\ \n$x]{0,60}") {
            let (values, _) = parse(&text);
            proptest::prop_assert!(values.keys().all(|name| is_name(name)));
        }
    }
}
