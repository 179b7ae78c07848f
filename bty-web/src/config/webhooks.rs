//! The list of webhooks in configuration files: `[[webhooks]]`.

use std::path::Path;

use toml::{Table, Value};

use super::values::Values;
use crate::domain::event::KINDS;
use crate::domain::webhook::{EventPattern, Webhook, WebhookFormat, WebhookSecret};

/// The section of configuration files that is a list.
pub(super) const SECTION: &str = "webhooks";

/// Maximum number of webhooks.
const WEBHOOKS_MAX: usize = 32;

/// Maximum length of a name, and of an address or a token.
const NAME_CHARS_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 2048;

const FIELDS: [&str; 6] = ["name", "url", "events", "format", "secret", "token"];

const SECRET_EXPECTED: &str = "secret must be whsec_ and the base64 of 24 to 64 random bytes; \
                               several, separated by spaces, all sign";

/// Adds the webhooks in `list`, from the file at `path`. A webhook replaces an earlier one with the
/// same name.
pub(super) fn read(values: &mut Values, path: &Path, list: &Value) {
    let Some(items) = list.as_array() else {
        let why = "webhooks must be a list: begin each one with [[webhooks]]";
        return values.add_problem(path.display().to_string(), why);
    };
    for (index, item) in items.iter().enumerate() {
        let at = format!("{}: webhook {}", path.display(), index + 1);
        let empty = Table::new();
        let mut reader = WebhookReader { values, at, table: item.as_table().unwrap_or(&empty) };
        let Some(webhook) = reader.webhook() else { continue };
        values.webhooks.retain(|known| known.name != webhook.name);
        values.webhooks.push(webhook);
    }
    if values.webhooks.len() > WEBHOOKS_MAX {
        let why = format!("more than {WEBHOOKS_MAX} webhooks; combine some of them");
        values.add_problem(path.display().to_string(), why);
    }
}

/// Reads one webhook. Collects problems, and never repeats a value that may be a secret.
struct WebhookReader<'a> {
    values: &'a mut Values,
    at: String,
    table: &'a Table,
}

impl WebhookReader<'_> {
    fn webhook(&mut self) -> Option<Webhook> {
        for field in self.table.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
            self.values.warnings.push(format!("{}: unknown key {field}; ignored", self.at));
        }
        let name = self.name();
        let url = self.url();
        let events = self.events();
        let format = self.format();
        let secrets = self.secrets();
        let token = self.token();
        let (name, url, format, secrets) = (name?, url?, format?, secrets?);
        if format == WebhookFormat::Standard && secrets.is_empty() {
            self.problem(&format!("the format standard needs a secret: {SECRET_EXPECTED}"));
            return None;
        }
        Some(Webhook { name, url, events: events?, format, secrets, token: token? })
    }

    fn problem(&mut self, why: &str) {
        self.values.add_problem(self.at.clone(), why);
    }

    /// Returns a field that is text; empty if it is missing. `None`, with a problem, for other
    /// values.
    fn text(&mut self, field: &str) -> Option<String> {
        match self.table.get(field) {
            None => Some(String::new()),
            Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Some(text.clone()),
            Some(_) => {
                self.problem(&format!("{field} must be text of at most {TEXT_BYTES_MAX} bytes"));
                None
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let name = self.text("name")?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
            self.problem("name must be letters, digits, - and _, at most 64 of them");
            return None;
        }
        Some(name)
    }

    fn url(&mut self) -> Option<String> {
        let text = self.text("url")?;
        let url = text.parse::<url::Url>().ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            self.problem("url must be an address such as https://hooks.example/bty");
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.problem("url must not contain a user name or a password; set token instead");
            return None;
        }
        Some(text)
    }

    fn events(&mut self) -> Option<Vec<EventPattern>> {
        let any = Value::Array(vec!["*".into()]);
        let texts = self.table.get("events").unwrap_or(&any).as_array();
        let texts = texts.map(|list| list.iter().map(Value::as_str).collect::<Vec<_>>());
        let patterns = texts.filter(|texts| !texts.is_empty()).and_then(|texts| {
            texts.into_iter().map(|text| text?.parse().ok()).collect::<Option<Vec<EventPattern>>>()
        });
        let Some(patterns) = patterns else {
            self.problem(
                "events must be a list of kinds such as \"machine.flashed\", \"machine.*\" or \
                 \"*failed\"",
            );
            return None;
        };
        for pattern in patterns.iter().filter(|p| !KINDS.iter().any(|kind| p.matches(kind))) {
            let warning = format!("{}: {} selects no kind of event", self.at, pattern.as_str());
            self.values.warnings.push(warning);
        }
        Some(patterns)
    }

    fn format(&mut self) -> Option<WebhookFormat> {
        let text = self.text("format")?;
        let named = |format: &WebhookFormat| format.as_str() == text;
        let format = match text.as_str() {
            "" => Some(WebhookFormat::Standard),
            _ => WebhookFormat::ALL.into_iter().find(named),
        };
        if format.is_none() {
            self.problem("format must be standard, ntfy or slack");
        }
        format
    }

    fn secrets(&mut self) -> Option<Vec<WebhookSecret>> {
        let text = self.text("secret")?;
        let secrets: Result<_, ()> = text.split_whitespace().map(str::parse).collect();
        if secrets.is_err() {
            self.problem(SECRET_EXPECTED);
        }
        secrets.ok()
    }

    fn token(&mut self) -> Option<Option<String>> {
        let token = self.text("token")?;
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            self.problem("token must be printable ASCII without spaces");
            return None;
        }
        Some(Some(token).filter(|token| !token.is_empty()))
    }
}

/// Returns the webhooks as TOML. Of an address, only the host is shown: the rest may be a secret.
pub(super) fn shown(webhooks: &[Webhook]) -> String {
    let mut text = String::new();
    for webhook in webhooks {
        let events: Vec<&str> = webhook.events.iter().map(EventPattern::as_str).collect();
        text += &format!(
            "\n[[webhooks]]\nname = {:?}\nurl = {:?}\nevents = {events:?}\nformat = {:?}\n",
            webhook.name,
            format!("{}/(set)", webhook.origin()),
            webhook.format.as_str()
        );
        if !webhook.secrets.is_empty() {
            text += "secret = \"(set)\"\n";
        }
        if webhook.token.is_some() {
            text += "token = \"(set)\"\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use crate::domain::error::Result;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn load(files: &[&str]) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        for (index, text) in files.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{index}.toml")), text).unwrap();
        }
        Config::load(&Sources { env: &|_| None, named: &[dir.path().to_owned()] })
    }

    #[test]
    fn webhooks_of_all_files_count_and_a_later_one_replaces_its_namesake() {
        let first = format!(
            "[[webhooks]]\nname = \"a\"\nurl = \"http://h/1\"\nsecret = \"{SECRET} {SECRET}\"\n\
             [[webhooks]]\nname = \"b\"\nurl = \"http://h/2\"\nformat = \"slack\"\nfuture = 1\n"
        );
        let second = "[[webhooks]]\nname = \"b\"\nurl = \"https://ntfy.example/t0pic\"\n\
                      format = \"ntfy\"\ntoken = \"tk_1\"\nevents = [\"*failed\", \"rocket.*\"]\n";
        let config = load(&[&first, second]).unwrap();
        let [a, b] = &config.webhooks[..] else { panic!("{:?}", config.webhooks) };
        assert_eq!((a.name.as_str(), a.secrets.len()), ("a", 2));
        assert!(a.wants("system.started"), "all kinds by default");
        assert_eq!((b.url.as_str(), b.format), ("https://ntfy.example/t0pic", WebhookFormat::Ntfy));
        assert!(!b.wants("machine.flashed") && b.wants("plan.failed"));
        let warnings = config.warnings.join("\n");
        assert!(warnings.contains("webhook 2: unknown key future; ignored"), "{warnings}");
        assert!(warnings.contains("rocket.* selects no kind of event"), "{warnings}");
        let shown = config.shown();
        assert!(shown.contains("url = \"https://ntfy.example/(set)\""), "{shown}");
        for secret in ["t0pic", "tk_1", SECRET] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn invalid_webhooks_are_reported_without_their_secrets() {
        let problem = |fields: &str| {
            let error = load(&[&format!("[[webhooks]]\n{fields}\n")]).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            error
        };
        let named = "name = \"a\"\nurl = \"http://h/\"";
        for (fields, why) in [
            ("url = \"http://h/\"", "name must be letters"),
            ("name = \"a/b\"\nurl = \"http://h/\"", "name must be letters"),
            ("name = \"a\"\nurl = \"ftp://h/s3cret\"", "url must be an address"),
            ("name = \"a\"\nurl = \"http://u:s3cret@h/\"", "set token instead"),
            (named, "needs a secret"),
            (&format!("{named}\nsecret = \"s3cret\""), "24 to 64 random bytes"),
            (&format!("{named}\nformat = \"xml\""), "standard, ntfy or slack"),
            (&format!("{named}\nevents = []"), "events must be a list"),
            (&format!("{named}\nevents = [\"a b\"]"), "events must be a list"),
            (&format!("{named}\ntoken = \"s3cret\\n\""), "printable ASCII"),
            (&format!("{named}\nsecret = 1"), "secret must be text"),
        ] {
            assert!(problem(fields).contains(why), "{fields}: {}", problem(fields));
        }
        let error = load(&["[webhooks]\nname = \"a\"\n"]).unwrap_err().to_string();
        assert!(error.contains("begin each one with [[webhooks]]"), "{error}");
    }
}
