//! Searching machines: the terms of a query, and the texts of a machine that they are compared
//! with.
//!
//! A query is a list of terms, all of which must match. A term is a word, or several in double
//! quotes. It may begin with `name:`, `label:`, `plan:`, `image:` or `state:`; a term without such
//! a prefix finds any text. Case is ignored.

use std::collections::HashMap;

use serde_json::Value;

use super::Machine;
use super::state_label::state_label;
use crate::domain::error::{Error, Result};

/// Maximum length of a query in characters.
pub const QUERY_CHARS_MAX: usize = 1000;

/// Maximum length of the texts of a machine in characters; the rest is not searched.
const TEXTS_CHARS_MAX: usize = 16 << 10;

/// Minimum length of the beginning of a reference that finds the machines with this image.
const REFERENCE_DIGITS_MIN: usize = 8;

/// What a term is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchField {
    /// Any text of the machine, its state, and the name of its image or the beginning of its
    /// reference.
    Any,
    /// A part of its name.
    Name,
    /// One of its labels.
    Label,
    /// The name of its plan.
    Plan,
    /// A part of the name or reference of its image.
    Image,
    /// A part of its state, in the words of the pages or of the API, or its phase.
    State,
}

impl SearchField {
    /// The fields with a prefix.
    const PREFIXES: [(&str, Self); 5] = [
        ("name:", Self::Name),
        ("label:", Self::Label),
        ("plan:", Self::Plan),
        ("image:", Self::Image),
        ("state:", Self::State),
    ];

    /// Splits the prefix off `text`.
    fn split(text: &str) -> (Self, &str) {
        let rest = |prefix: &str| {
            let is_prefix = text.get(..prefix.len())?.eq_ignore_ascii_case(prefix);
            is_prefix.then(|| &text[prefix.len()..])
        };
        Self::PREFIXES
            .into_iter()
            .find_map(|(prefix, field)| Some((field, rest(prefix)?)))
            .unwrap_or((Self::Any, text))
    }
}

/// A term of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchTerm {
    /// What it is compared with.
    pub field: SearchField,
    /// The text to find, folded like the texts of machines. Not empty.
    pub text: String,
    /// The digits of the text, if it is a MAC address or the beginning of one in a spelling with
    /// separators.
    pub mac_digits: Option<String>,
    /// References of the images whose names contain the text.
    pub images: Vec<String>,
}

/// A query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineSearch {
    /// All of these must match; every machine matches a query without terms.
    pub terms: Vec<SearchTerm>,
}

impl MachineSearch {
    /// Parses a query. `names` are the names of images by their references. A prefix without a text
    /// is ignored, and a missing closing quote is supposed at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) when the query is longer
    /// than [`QUERY_CHARS_MAX`].
    pub fn parse(text: &str, names: &HashMap<String, String>) -> Result<Self> {
        if text.chars().count() > QUERY_CHARS_MAX {
            return Err(Error::invalid(format!(
                "the search text is longer than {QUERY_CHARS_MAX} characters; search for fewer \
                 words, or name the machines by their MAC addresses"
            )));
        }
        let mut terms = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (field, after) = SearchField::split(rest);
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
            };
            rest = after.trim_start();
            let value = fold(value);
            if !value.trim().is_empty() {
                terms.push(SearchTerm::new(field, value.trim(), names));
            }
        }
        Ok(Self { terms })
    }

    /// True if all terms match a machine with these texts.
    #[must_use]
    pub fn matches(&self, texts: &SearchTexts) -> bool {
        self.terms.iter().all(|term| term.matches(texts))
    }
}

impl SearchTerm {
    fn new(field: SearchField, text: &str, names: &HashMap<String, String>) -> Self {
        let is_for_images = matches!(field, SearchField::Any | SearchField::Image);
        let found = names.iter().filter(|(_, name)| is_for_images && fold(name).contains(text));
        let mut images: Vec<String> = found.map(|(reference, _)| reference.clone()).collect();
        images.sort();
        Self { field, text: text.to_owned(), mac_digits: mac_digits(text), images }
    }

    /// True if the text can be the beginning of a reference of an image. Shorter ones occur in
    /// references by chance.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.text.len() >= REFERENCE_DIGITS_MIN && self.text.bytes().all(|b| b.is_ascii_hexdigit())
    }

    fn matches(&self, texts: &SearchTexts) -> bool {
        let is_image = || self.images.contains(&texts.image_ref);
        match self.field {
            SearchField::Any => {
                let is_mac = |digits: &String| texts.texts.contains(digits.as_str());
                texts.texts.contains(&self.text)
                    || texts.state.contains(&self.text)
                    || texts.plan.contains(&self.text)
                    || self.mac_digits.as_ref().is_some_and(is_mac)
                    || self.is_reference() && texts.image_ref.starts_with(&self.text)
                    || is_image()
            }
            SearchField::Name => texts.name.contains(&self.text),
            SearchField::Label => texts.labels.contains(&format!("\n{}\n", self.text)),
            SearchField::Plan => texts.plan == self.text,
            SearchField::Image => texts.image_ref.contains(&self.text) || is_image(),
            SearchField::State => texts.state.contains(&self.text),
        }
    }
}

/// Returns the hexadecimal digits of a MAC address, or of its beginning, that is written with
/// colons or hyphens between bytes, or with dots between pairs of bytes. `None` for other text, for
/// example for an IP address.
fn mac_digits(text: &str) -> Option<String> {
    let (separator, digits) = match text.chars().find(|c| matches!(c, ':' | '-' | '.'))? {
        '.' => ('.', 4),
        other => (other, 2),
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let (last, whole) = groups.split_last()?;
    let is_hex = |group: &&str| group.bytes().all(|b| b.is_ascii_hexdigit());
    let is_mac = whole.iter().all(|group| group.len() == digits)
        && last.len() <= digits
        && groups.iter().all(is_hex)
        && (3..=12).contains(&groups.concat().len());
    is_mac.then(|| groups.concat())
}

/// The texts of a machine that a search compares with, folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchTexts {
    /// MAC address with colons.
    pub mac: String,
    /// Its phase.
    pub phase: &'static str,
    /// Its phase, and its state in the words of the pages and of the API.
    pub state: String,
    /// Name of its plan.
    pub plan: String,
    /// Reference of its image; empty for none.
    pub image_ref: String,
    /// Its name.
    pub name: String,
    /// Its labels: each between line feeds.
    pub labels: String,
    /// Everything else that a person can read off the machine, and its MAC address, name and
    /// labels; one per line. A new order does not change it, because it is slow to index.
    pub texts: String,
}

impl SearchTexts {
    /// Returns the texts of `machine`.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        let status = machine.status();
        let (phase, label, text) = (status.phase().as_str(), state_label(&status), status.text());
        let labels: Vec<String> = machine.labels.iter().map(|label| fold(label)).collect();
        Self {
            mac: machine.mac.to_string(),
            phase,
            state: fold(&format!("{phase} {label} {text}")),
            plan: fold(&machine.plan),
            image_ref: machine.image_ref.clone().unwrap_or_default(),
            name: fold(&machine.name),
            labels: format!("\n{}\n", labels.join("\n")),
            texts: texts(machine),
        }
    }
}

fn texts(machine: &Machine) -> String {
    let macs = std::iter::once(&machine.mac).chain(&machine.macs);
    let mut lines: Vec<String> =
        macs.flat_map(|mac| [mac.to_string(), mac.as_str().replace(':', "")]).collect();
    lines.push(machine.name.clone());
    let options = [&machine.target_serial, &machine.last_seen_ip];
    lines.extend(options.into_iter().flatten().cloned());
    lines.extend(machine.labels.iter().cloned());
    let strings = |value: &Value| {
        let fields = value.as_object().into_iter().flat_map(serde_json::Map::values);
        fields.filter_map(|field| field.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    lines.extend(strings(&machine.hardware));
    let disks = machine.disks.as_ref().and_then(Value::as_array).into_iter().flatten();
    for disk in disks {
        let fields = ["serial", "model", "vendor", "wwn"].map(|field| disk[field].as_str());
        lines.extend(fields.into_iter().flatten().map(str::to_owned));
    }
    let lines: Vec<String> = lines.iter().map(|line| fold(line)).collect();
    lines.join("\n").chars().take(TEXTS_CHARS_MAX).collect()
}

/// Folds a text for comparison: lower case, control characters as blanks.
#[must_use]
pub fn fold(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::time::Time;

    fn machine() -> Machine {
        let mac = "52:54:00:ab:cd:01".parse().unwrap();
        Machine {
            name: "Büro West 7".into(),
            macs: vec!["52:54:00:ab:cd:02".parse().unwrap()],
            labels: vec!["rack 1".into(), "lab".into()],
            image_ref: Some("ab".repeat(32)),
            target_serial: Some("S1".into()),
            last_seen_ip: Some("10.0.0.57".into()),
            hardware: json!({ "vendor": "ACME", "product": "Rack 1", "serial": "7XQ0Z", "cpus": 2 }),
            disks: Some(json!([{ "serial": "S1" }, { "serial": "WD-99", "model": "Big" }])),
            ..Machine::new(mac, "bty-flash-once", Time(1))
        }
    }

    fn names() -> HashMap<String, String> {
        HashMap::from([("ab".repeat(32), "Debian 13".into()), ("cd".repeat(32), "Other".into())])
    }

    fn finds(query: &str) -> bool {
        MachineSearch::parse(query, &names()).unwrap().matches(&SearchTexts::of(&machine()))
    }

    #[test]
    fn anything_that_a_person_can_read_off_a_machine_finds_it() {
        for query in [
            "",
            "52:54:00:ab:cd:01",
            "52-54-00-AB-CD-01",
            "525400abcd01",
            "5254.00ab.cd01",
            "00-ab",
            "52-54-00-AB-CD-02",
            "525400abcd02",
            "abcd01",
            "büro",
            "BÜRO",
            "west 7",
            "\"west 7\"",
            "rack",
            "s1",
            "wd-99",
            "7xq0z",
            "acme",
            "10.0.0.57",
            "debian",
            "abababab",
            "bty-flash",
            "pending flash",
            "\"waiting for boot\"",
            "label:lab",
            "label:\"Rack 1\"",
            "LABEL:LAB plan:bty-flash-once",
            "state:pending",
            "state:\"waiting for boot: flash\"",
            "image:debian",
            "image:\"debian 13\"",
            "image:abab",
            "name:west",
            "label:",
            "label:\"lab",
        ] {
            assert!(finds(query), "{query}");
        }
    }

    #[test]
    fn every_term_must_match_its_field() {
        for query in [
            "west 8",
            "baba",
            "label:rack",
            "label:la",
            "plan:bty-flash",
            "state:done",
            "image:other",
            "name:lab",
            "\"label:lab\"",
            "lab nothing",
            "52:54:00:ab:cd:03",
            "10.0.0.5.7",
        ] {
            assert!(!finds(query), "{query}");
        }
    }

    #[test]
    fn addresses_of_other_kinds_are_no_mac_addresses() {
        for (text, digits) in [
            ("52:54", Some("5254")),
            ("52-54-00-ab-cd-01", Some("525400abcd01")),
            ("5254.00ab", Some("525400ab")),
            ("10.0.0.5", None),
            ("fe80::1", None),
            ("52:54:00:ab:cd:01:02", None),
            ("a:", None),
            ("rack-1", None),
            ("525400abcd01", None),
        ] {
            assert_eq!(mac_digits(text).as_deref(), digits, "{text}");
        }
    }

    #[test]
    fn a_long_query_is_refused() {
        let error = MachineSearch::parse(&"a ".repeat(501), &names()).unwrap_err();
        assert!(error.detail.contains("1000 characters"), "{error}");
    }

    proptest! {
        #[test]
        fn any_query_has_terms_that_find_themselves(query in "(label:|state:|\"|[a-zA-ZäÖ0-9:. \n]){0,20}") {
            let search = MachineSearch::parse(&query, &names()).unwrap();
            for term in &search.terms {
                prop_assert!(!term.text.trim().is_empty());
                prop_assert_eq!(&fold(&term.text), &term.text);
                let machine = Machine { name: term.text.clone(), ..machine() };
                let named = SearchTerm { field: SearchField::Name, ..term.clone() };
                prop_assert!(named.matches(&SearchTexts::of(&machine)));
            }
        }

        #[test]
        fn a_quoted_text_is_one_term(text in "[^\"\\p{C}]{1,40}") {
            let search = MachineSearch::parse(&format!("name:\"{text}\""), &names()).unwrap();
            prop_assert_eq!(search.terms.len(), usize::from(!text.trim().is_empty()));
        }
    }
}
