//! MAC addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A MAC address: lower case, with colons.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(String);

impl Mac {
    /// The address in lower case, with colons.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address with hyphens, as in URLs and file names.
    #[must_use]
    pub fn hyphens(&self) -> String {
        self.0.replace(':', "-")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error for text that is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAMac(String);

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(64).flat_map(char::escape_debug).collect();
        write!(
            f,
            "invalid MAC address {shown}: expected twelve hexadecimal digits, such as \
             52:54:00:12:34:56"
        )
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let error = || NotAMac(text.to_owned());
        // no notation is longer, and the error would keep all of the text
        if text.len() > 64 {
            return Err(error());
        }
        bty_script::plan::canonical_mac(text).map(Self).ok_or_else(error)
    }
}

impl TryFrom<String> for Mac {
    type Error = NotAMac;

    fn try_from(text: String) -> Result<Self, NotAMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_the_same_address() {
        for text in ["52:54:00:AB:cd:01", "52-54-00-ab-cd-01", "525400abcd01", " 5254.00ab.cd01 "] {
            assert_eq!(text.parse::<Mac>().unwrap().as_str(), "52:54:00:ab:cd:01", "{text}");
        }
        for text in
            ["", "52:54:00:ab:cd", "52:54:00:ab:cd:0g", "../../etc/passwd", "52:54:00:ab:cd:01:02"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_shown_without_control_characters() {
        let error = "x\n\u{1b}[2J".parse::<Mac>().unwrap_err().to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}
