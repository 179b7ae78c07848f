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

/// The error for text that is not the address of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAMac {
    /// It is not a MAC address.
    Malformed(String),
    /// It is a MAC address, but no adapter has it as its own: all zeros, broadcast or multicast.
    Shared(String),
}

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => {
                let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
                write!(
                    f,
                    "invalid MAC address {shown}: expected twelve hexadecimal digits, such as \
                     52:54:00:12:34:56"
                )
            }
            Self::Shared(mac) => write!(
                f,
                "the MAC address {mac} names no machine: it is all zeros, broadcast or multicast; \
                 give the adapter an address of its own, for example in the firmware's setup"
            ),
        }
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        // no notation is longer, and the error would keep all of the text
        let mac = Some(text)
            .filter(|text| text.len() <= 64)
            .and_then(bty_script::plan::canonical_mac)
            .ok_or_else(|| NotAMac::Malformed(text.chars().take(64).collect()))?;
        if is_shared(&mac) { Err(NotAMac::Shared(mac)) } else { Ok(Self(mac)) }
    }
}

/// True for an address that no adapter has as its own. The lowest bit of the first byte marks
/// broadcast and multicast. Boards whose address was never programmed report zeros.
fn is_shared(mac: &str) -> bool {
    let first = mac.get(..2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
    first.is_none_or(|first| first & 1 == 1) || mac == "00:00:00:00:00:00"
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
    fn addresses_that_several_machines_share_name_no_machine() {
        for text in ["000000000000", "FF:FF:FF:FF:FF:FF", "01-00-5e-00-00-01", "33:33:00:00:00:01"]
        {
            let error = text.parse::<Mac>().unwrap_err();
            assert!(matches!(error, NotAMac::Shared(_)), "{text}: {error:?}");
            assert!(error.to_string().contains("names no machine"), "{error}");
        }
        for text in ["02:b7:f0:00:00:00", "00:00:00:00:00:01", "fe:ff:ff:ff:ff:ff"] {
            assert!(text.parse::<Mac>().is_ok(), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_shown_without_control_characters() {
        let error = "x\n\u{1b}[2J".parse::<Mac>().unwrap_err().to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}
