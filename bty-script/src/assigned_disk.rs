//! The disk that a machine is assigned.

use bty::{Result, Selector};
use serde_json::{Value, json};

/// Prefixes that tell a selector from a serial number.
const PREFIXES: [&str; 3] = ["wwn:", "by-path:", "where:"];

/// The disk that a machine is assigned: a serial number, or a selector for a disk without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignedDisk {
    /// Its serial number.
    Serial(String),
    /// A selector `wwn:…`, `by-path:…` or `where:…`.
    Selector(Selector),
}

impl AssignedDisk {
    /// Parses a serial number or a selector.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](bty::ErrorKind::Usage) for an invalid selector.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        match PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            true => text.parse().map(Self::Selector),
            false => Ok(Self::Serial(text.to_owned())),
        }
    }

    /// True if it names `disk`, an entry of the disks of an inventory as JSON.
    #[must_use]
    pub fn matches(&self, disk: &Value) -> bool {
        match self {
            Self::Serial(serial) => disk["serial"].as_str().map(str::trim) == Some(serial),
            Self::Selector(selector) => selector.matches_listed(disk),
        }
    }

    /// Number of the disks of an inventory that it names.
    #[must_use]
    pub fn count_in(&self, disks: &Value) -> usize {
        disks.as_array().into_iter().flatten().filter(|disk| self.matches(disk)).count()
    }

    /// The value of `disk` in a plan: a map with `serial` or with `selector`.
    #[must_use]
    pub fn to_plan(&self) -> Value {
        match self {
            Self::Serial(serial) => json!({ "serial": serial }),
            Self::Selector(selector) => json!({ "selector": selector.to_string() }),
        }
    }

    /// Reads the value of `disk` in a plan; `None` if it names no disk.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](bty::ErrorKind::Usage) for an invalid selector.
    pub fn from_plan(disk: &Value) -> Result<Option<Self>> {
        let text = |name: &str| disk[name].as_str().map(str::trim).filter(|text| !text.is_empty());
        match (text("selector"), text("serial")) {
            (Some(selector), _) => Ok(Some(Self::Selector(selector.parse()?))),
            (None, serial) => Ok(serial.map(|serial| Self::Serial(serial.to_owned()))),
        }
    }
}

impl std::fmt::Display for AssignedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial(serial) => f.write_str(serial),
            Self::Selector(selector) => selector.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_and_selectors_name_disks_of_an_inventory() {
        let disks = json!([
            { "path": "/dev/nvme0n1", "serial": "S64 ", "wwn": "eui.01", "size_bytes": 8_u64 << 30 },
            { "path": "/dev/nvme0n2", "serial": "S64", "wwn": "eui.02", "model": "M" },
        ]);
        for (text, count) in [
            ("S64", 2),
            (" S64 ", 2),
            ("s64", 0),
            ("wwn:eui.02", 1),
            ("wwn:0x02", 1),
            ("by-path:pci-1", 0),
            ("where:model=M", 1),
            ("where:size=8G", 1),
        ] {
            assert_eq!(AssignedDisk::parse(text).unwrap().count_in(&disks), count, "{text}");
        }
        assert!(AssignedDisk::parse("where:colour=red").is_err());
        for text in ["S64", "wwn:eui.02", "where:model=M,size=8G"] {
            let disk = AssignedDisk::parse(text).unwrap();
            assert_eq!(AssignedDisk::from_plan(&disk.to_plan()).unwrap(), Some(disk), "{text}");
        }
        assert_eq!(AssignedDisk::from_plan(&json!({ "serial": "  " })).unwrap(), None);
    }
}
