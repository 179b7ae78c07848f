//! The disk that a machine is assigned.

use bty::{Result, Selector};
use serde_json::{Value, json};

/// Prefixes that tell a selector from a serial number.
const PREFIXES: [&str; 3] = ["wwn:", "by-path:", "where:"];

/// The disk that a machine is assigned: a serial number, or a selector for a disk without one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

    /// The best name for `disk`, an entry of the inventory `disks`, that no other disk shares: its
    /// serial number, else world-wide name, place, or model with size.
    #[must_use]
    pub fn naming(disk: &Value, disks: &Value) -> Option<Self> {
        let text = |name: &str| disk[name].as_str().map(str::trim).filter(|text| !text.is_empty());
        let model_and_size = || {
            Some(format!("where:model={},size={}", text("model")?, disk["size_bytes"].as_u64()?))
        };
        let names = [
            text("serial").map(str::to_owned),
            text("wwn").map(|wwn| format!("wwn:{wwn}")),
            text("by_path").map(|place| format!("by-path:{place}")),
            model_and_size(),
        ];
        let is_unique = |name: &Self| name.matches(disk) && name.count_in(disks) == 1;
        names.into_iter().flatten().filter_map(|name| Self::parse(&name).ok()).find(is_unique)
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

    #[test]
    fn the_best_name_of_a_disk_is_one_that_no_other_disk_shares() {
        let disks = json!([
            { "serial": "S1" },
            { "serial": "S2", "wwn": "eui.01" },
            { "serial": "S2", "wwn": "eui.02" },
            { "by_path": "pci-1" },
            { "model": "M", "size_bytes": 1_u64 << 30 },
            { "model": "M, odd", "size_bytes": 1_u64 << 30 },
            { "model": "Twin", "size_bytes": 7 },
            { "model": "Twin", "size_bytes": 7 },
        ]);
        let name = |disk| AssignedDisk::naming(disk, &disks).map(|name| name.to_string());
        let names: Vec<_> = disks.as_array().unwrap().iter().map(name).collect();
        let expected = [
            Some("S1"),
            Some("wwn:eui.01"),
            Some("wwn:eui.02"),
            Some("by-path:pci-1"),
            Some("where:model=M,size=1G"),
            None,
            None,
            None,
        ];
        assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
    }
}
