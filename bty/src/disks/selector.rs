//! Names exactly one disk.
//!
//! ```text
//! /dev/sdb, ./vm.img      a path
//! serial:S4EWNX0R123456   the disk with this serial number, exactly
//! wwn:0x5002538e40b1c2d3  the disk with this world-wide name
//! by-path:pci-…-ata-1     the disk attached at this place, named as in /dev/disk/by-path
//! where:EXPR              the only disk for which all conditions hold: transport=nvme,size>=100G
//! ```

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use crate::disks::{Disk, DiskHost};
use crate::{Error, ErrorKind, Result};
use crate::{size, text};

/// Names one disk of a [`DiskHost`]: by path, by identity, or by its properties.
///
/// ```
/// use bty::Selector;
///
/// let selector: Selector = "where: transport = nvme, size >= 100GiB".parse()?;
/// assert_eq!(selector.to_string(), "where:transport=nvme,size>=100G");
/// # Ok::<(), bty::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Rule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Path(PathBuf),
    Serial(String),
    Wwn(String),
    ByPath(String),
    Where(Vec<Condition>),
}

/// One condition of `where:`. The type of the field decides which operators are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Text { field: TextField, operator: TextOperator, value: String },
    Size { operator: SizeOperator, bytes: u64 },
    Flag { field: FlagField, is: bool },
}

/// Declares an enumeration together with the notation of its values.
macro_rules! notation {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum $name { $($value),+ }

        impl $name {
            const ALL: &[Self] = &[$(Self::$value),+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }

            fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }
    };
}

notation!(TextField {
    Path = "path",
    Vendor = "vendor",
    Model = "model",
    Serial = "serial",
    Wwn = "wwn",
    Transport = "transport"
});
notation!(FlagField { Removable = "removable", Rotational = "rotational" });
notation!(TextOperator { Is = "=", Contains = "~" });
notation!(
    /// Operators of two characters come before their first character, since the first match wins.
    SizeOperator { AtLeast = ">=", AtMost = "<=", Over = ">", Under = "<", Is = "=" }
);

/// Transports that disks have; see [`Disk::transport`].
const TRANSPORTS: [&str; 6] = ["nvme", "sata", "scsi", "usb", "virtio", "mmc"];

const FORMS: &str = "write a path (/dev/sdb), serial:NUMBER, wwn:NAME, by-path:PLACE, or \
    where:CONDITIONS";
const CONDITIONS: &str = "write conditions such as transport=nvme, model~samsung, size>=100G, \
    removable=no, separated by commas; the fields are path, vendor, model, serial, wwn, transport \
    (= or ~), size (= < <= > >=), removable, rotational (= yes or no)";

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let usage = |why: &str| {
            Err(Error::new(ErrorKind::Usage, format!("{text:?} does not name a disk: {why}"))
                .hint(FORMS))
        };
        let whole = text.trim();
        let Some((prefix, rest)) =
            whole.split_once(':').map(|(prefix, rest)| (prefix, rest.trim()))
        else {
            return match (whole, conditions_meant(whole)) {
                ("", _) => usage("it is empty"),
                (_, Some(conditions)) => Err(looks_like(whole, &conditions)),
                _ => Ok(Self(Rule::Path(whole.into()))),
            };
        };
        match prefix {
            "serial" | "wwn" | "by-path" if rest.is_empty() => usage("nothing follows the colon"),
            "serial" => Ok(Self(Rule::Serial(rest.to_owned()))),
            "wwn" => Ok(Self(Rule::Wwn(rest.to_lowercase()))),
            "by-path" => Ok(Self(Rule::ByPath(rest.to_owned()))),
            "where" => rest
                .split(',')
                .map(Condition::parse)
                .collect::<Result<_>>()
                .map(|all| Self(Rule::Where(all))),
            _ if whole.starts_with("file://") => {
                Ok(Self(Rule::Path(text::path_of_reference(whole))))
            }
            _ if whole.contains('/') => Ok(Self(Rule::Path(whole.into()))),
            _ => usage(&format!("the prefix {prefix:?} is unknown")),
        }
    }
}

/// The conditions that somebody means who writes `serial=X` or `usb`. None for anything that may be
/// the name of a file.
fn conditions_meant(text: &str) -> Option<String> {
    if TRANSPORTS.contains(&text) {
        return Some(format!("transport={text}"));
    }
    let (field, _) = text.split_once(['=', '~', '<', '>'])?;
    let field = field.trim();
    let is_field =
        field == "size" || FlagField::parse(field).is_some() || TextField::parse(field).is_some();
    (is_field && !text.contains('/')).then(|| text.to_owned())
}

fn looks_like(text: &str, conditions: &str) -> Error {
    let message = format!("{text:?} does not name a disk: it looks like a condition");
    Error::new(ErrorKind::Usage, message).hint(format!(
        "write where:{conditions} for the disk that matches, or ./{text} for a file of that name"
    ))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Path(path) => f.write_str(&text::path_reference(path)),
            Rule::Serial(serial) => write!(f, "serial:{serial}"),
            Rule::Wwn(wwn) => write!(f, "wwn:{wwn}"),
            Rule::ByPath(place) => write!(f, "by-path:{place}"),
            Rule::Where(conditions) => {
                f.write_str("where:")?;
                for (i, condition) in conditions.iter().enumerate() {
                    write!(f, "{}{condition}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl Condition {
    fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(ErrorKind::Usage, format!("{text:?} is not a condition for a disk: {why}"))
                .hint(CONDITIONS)
        };
        let at = text.find(['=', '~', '<', '>']).ok_or_else(|| bad("it has no operator"))?;
        let field = text[..at].trim();
        let operators = SizeOperator::ALL.iter().map(|o| o.as_str()).chain(["~"]);
        let operator = operators
            .into_iter()
            .find(|o| text[at..].starts_with(o))
            .ok_or_else(|| bad("it has no operator"))?;
        let value = text[at + operator.len()..].trim();
        if value.is_empty() {
            return Err(bad("it has no value"));
        }
        let wrong_operator = || bad(&format!("{field} cannot be compared with {operator}"));
        if field == "size" {
            let operator = SizeOperator::parse(operator).ok_or_else(wrong_operator)?;
            return Ok(Self::Size { operator, bytes: size::parse(value)? });
        }
        if let Some(field) = FlagField::parse(field) {
            let is = match (operator, value) {
                ("=", "yes" | "true" | "1") => true,
                ("=", "no" | "false" | "0") => false,
                ("=", _) => return Err(bad("the value is yes or no")),
                _ => return Err(wrong_operator()),
            };
            return Ok(Self::Flag { field, is });
        }
        let field = TextField::parse(field)
            .ok_or_else(|| bad(&format!("the field {field:?} is unknown")))?;
        let operator = TextOperator::parse(operator).ok_or_else(wrong_operator)?;
        Ok(Self::Text { field, operator, value: value.to_owned() })
    }

    /// False when the disk does not report the field.
    fn holds(&self, disk: &Properties<'_>) -> bool {
        match self {
            Self::Text { field, operator, value } => {
                let Some(text) = field.of(disk) else { return false };
                match (operator, field) {
                    (TextOperator::Contains, _) => {
                        text.to_lowercase().contains(&value.to_lowercase())
                    }
                    (TextOperator::Is, TextField::Path | TextField::Serial) => text.trim() == value,
                    (TextOperator::Is, TextField::Wwn) => is_same_wwn(text, value),
                    (TextOperator::Is, _) => text.to_lowercase() == value.to_lowercase(),
                }
            }
            Self::Size { operator, bytes } => disk.size_bytes.is_some_and(|size| match operator {
                SizeOperator::AtLeast => size >= *bytes,
                SizeOperator::AtMost => size <= *bytes,
                SizeOperator::Over => size > *bytes,
                SizeOperator::Under => size < *bytes,
                SizeOperator::Is => size == *bytes,
            }),
            Self::Flag { field: FlagField::Removable, is } => disk.is_removable == *is,
            Self::Flag { field: FlagField::Rotational, is } => disk.is_rotational == Some(*is),
        }
    }
}

/// What a selector compares: the properties of a disk, or of a disk in an inventory.
struct Properties<'a> {
    path: Cow<'a, str>,
    vendor: Option<&'a str>,
    model: Option<&'a str>,
    serial: Option<&'a str>,
    wwn: Option<&'a str>,
    by_path: Option<&'a str>,
    transport: Option<&'a str>,
    size_bytes: Option<u64>,
    is_removable: bool,
    is_rotational: Option<bool>,
}

impl<'a> Properties<'a> {
    fn of(disk: &'a Disk) -> Self {
        Self {
            path: disk.path.to_string_lossy(),
            vendor: disk.vendor.as_deref(),
            model: disk.model.as_deref(),
            serial: disk.serial.as_deref(),
            wwn: disk.wwn.as_deref(),
            by_path: disk.by_path.as_deref(),
            transport: disk.transport.as_deref(),
            size_bytes: Some(disk.size_bytes),
            is_removable: disk.is_removable,
            is_rotational: disk.is_rotational,
        }
    }

    fn listed(disk: &'a Value) -> Self {
        let text = |name: &str| disk[name].as_str();
        Self {
            path: text("path").unwrap_or_default().into(),
            vendor: text("vendor"),
            model: text("model"),
            serial: text("serial"),
            wwn: text("wwn"),
            by_path: text("by_path"),
            transport: text("tran"),
            size_bytes: disk["size_bytes"].as_u64(),
            is_removable: disk["removable"] == true,
            is_rotational: None,
        }
    }
}

impl TextField {
    fn of<'a>(self, disk: &'a Properties<'_>) -> Option<&'a str> {
        match self {
            Self::Path => Some(&disk.path),
            Self::Vendor => disk.vendor,
            Self::Model => disk.model,
            Self::Serial => disk.serial,
            Self::Wwn => disk.wwn,
            Self::Transport => disk.transport,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { field, operator, value } => {
                write!(f, "{}{}{value}", field.as_str(), operator.as_str())
            }
            Self::Size { operator, bytes } => {
                let units =
                    [(size::GIB << 10, "T"), (size::GIB, "G"), (size::MIB, "M"), (size::KIB, "K")];
                let unit = units.into_iter().find(|(unit, _)| *bytes != 0 && bytes % unit == 0);
                let (unit, name) = unit.unwrap_or((1, ""));
                write!(f, "size{}{}{name}", operator.as_str(), bytes / unit)
            }
            Self::Flag { field, is } => {
                write!(f, "{}={}", field.as_str(), if *is { "yes" } else { "no" })
            }
        }
    }
}

/// Compares world-wide names without their prefix: `0x…` and `naa.…` may be the same name.
fn is_same_wwn(a: &str, b: &str) -> bool {
    let bare = |wwn: &str| {
        let wwn = wwn.trim().to_lowercase();
        ["0x", "naa.", "eui."]
            .iter()
            .find_map(|prefix| wwn.strip_prefix(prefix))
            .unwrap_or(&wwn)
            .to_owned()
    };
    bare(a) == bare(b)
}

impl Selector {
    /// Finds the disk.
    ///
    /// # Errors
    /// - [`ErrorKind::Refused`]: no disk matches, or more than one; the hint lists the candidates.
    ///   Also if `where:` finds a disk without serial number and world-wide name, since another
    ///   disk could match next time; unless it says exactly which model and which size.
    /// - [`ErrorKind::Host`]: the host cannot list its disks.
    pub fn select(&self, host: &dyn DiskHost) -> Result<Disk> {
        if let Rule::Path(path) = &self.0 {
            return host.probe(path);
        }
        let disks = host.list()?;
        let found: Vec<&Disk> = disks.iter().filter(|disk| self.matches(disk)).collect();
        let refuse =
            |message: String, hint: String| Err(Error::new(ErrorKind::Refused, message).hint(hint));
        let disk = match found[..] {
            [] if disks.is_empty() => {
                return refuse(
                    format!("no disk matches {self}"),
                    "no disks were found on this machine".into(),
                );
            }
            [] => {
                let all: Vec<&Disk> = disks.iter().collect();
                return refuse(
                    format!("no disk matches {self}"),
                    lines("name one of the disks of this machine:", &all),
                );
            }
            [disk] => disk,
            _ => {
                let message = format!("{} disks match {self}", found.len());
                return refuse(
                    message,
                    lines("name one of them, by serial number or path:", &found),
                );
            }
        };
        let has_identity =
            disk.serial.is_some() || disk.wwn.is_some() || self.names_model_and_size();
        if matches!(self.0, Rule::Where(_)) && !has_identity {
            let path = disk.path.display();
            let message =
                format!("{path} matches {self}, but has neither serial number nor world-wide name");
            return refuse(
                message,
                format!(
                    "name it by its path if you mean it, {path}, or by where:model=…,size=… with \
                     exactly its model and size"
                ),
            );
        }
        Ok(disk.clone())
    }

    /// True if `where:` has both `model=` and an exact `size=`.
    fn names_model_and_size(&self) -> bool {
        let Rule::Where(conditions) = &self.0 else { return false };
        let has = |is: fn(&Condition) -> bool| conditions.iter().any(is);
        has(|condition| {
            matches!(
                condition,
                Condition::Text { field: TextField::Model, operator: TextOperator::Is, .. }
            )
        }) && has(|condition| {
            matches!(condition, Condition::Size { operator: SizeOperator::Is, .. })
        })
    }

    /// True if the selector matches `disk`. [`select`](Self::select) requires that it matches no
    /// other disk.
    #[must_use]
    pub fn matches(&self, disk: &Disk) -> bool {
        self.holds(&Properties::of(disk))
    }

    /// True if the selector matches `disk`, an entry of the disks of an
    /// [`Inventory`](crate::hardware::Inventory) as JSON. Missing fields match nothing.
    #[must_use]
    pub fn matches_listed(&self, disk: &Value) -> bool {
        self.holds(&Properties::listed(disk))
    }

    fn holds(&self, disk: &Properties<'_>) -> bool {
        match &self.0 {
            Rule::Path(path) => *path == Path::new(&*disk.path),
            Rule::Serial(serial) => disk.serial.is_some_and(|found| found.trim() == serial),
            Rule::Wwn(wwn) => disk.wwn.is_some_and(|found| is_same_wwn(found, wwn)),
            Rule::ByPath(place) => disk.by_path == Some(place),
            Rule::Where(conditions) => conditions.iter().all(|condition| condition.holds(disk)),
        }
    }
}

/// `heading`, then one line per disk.
fn lines(heading: &str, disks: &[&Disk]) -> String {
    disks.iter().fold(heading.to_owned(), |text, disk| format!("{text}\n  {}", disk.summary()))
}

#[cfg(test)]
mod tests;
