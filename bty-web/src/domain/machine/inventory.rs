//! The inventory that a machine posts.
//!
//! What fits is kept, and the rest is named: a machine whose inventory is refused would return to
//! the live environment at every boot.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::report::PostedInventory;

/// Maximum number of disks kept. The largest enclosures have about a hundred, each of which may
/// appear twice.
pub const DISKS_MAX: usize = 256;

/// Maximum length of a text in characters.
const TEXT_CHARS_MAX: usize = 255;

/// Maximum length of a serial number in characters. A part of one would name no disk, so a longer
/// one is left out.
const SERIAL_CHARS_MAX: usize = 128;

/// Maximum size of a hardware description as JSON; larger ones are dropped.
const LSHW_BYTES_MAX: usize = 4 << 20;

/// Maximum number of omissions that are named.
const OMISSIONS_MAX: usize = 16;

/// The hardware of a machine. Unknown fields are ignored.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct Inventory {
    /// Its disks; the first 256 are kept.
    #[schema(value_type = Vec<InventoryDisk>)]
    pub disks: Vec<Value>,
    /// The output of `lshw -json`; kept up to 4 MiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub lshw: Option<Value>,
}

/// A disk of a machine. Unknown fields are ignored, and so are values of another type.
#[derive(Serialize, utoipa::ToSchema)]
pub struct InventoryDisk {
    /// Device node; a disk without one is left out.
    path: String,
    /// Human-readable size, such as `465.8G`.
    size: Option<Value>,
    /// Size in bytes.
    size_bytes: Option<u64>,
    vendor: Option<String>,
    model: Option<String>,
    /// Serial number; one of more than 128 characters is left out.
    serial: Option<String>,
    /// World-wide name.
    #[serde(skip_serializing_if = "Option::is_none")]
    wwn: Option<String>,
    /// Where it is attached, as in `/dev/disk/by-path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_path: Option<String>,
    /// Transport, such as `sata` or `nvme`.
    tran: Option<String>,
    removable: Option<bool>,
    readonly: Option<bool>,
}

impl Inventory {
    /// Returns what the server keeps, and names what it does not.
    #[must_use]
    pub fn keep(self) -> PostedInventory {
        let mut omissions = Vec::new();
        let count = self.disks.len();
        if count > DISKS_MAX {
            omissions.push(format!("kept the first {DISKS_MAX} of {count} disks"));
        }
        let disks = self.disks.iter().take(DISKS_MAX).enumerate();
        let kept: Vec<InventoryDisk> =
            disks.filter_map(|(n, disk)| InventoryDisk::read(disk, n, &mut omissions)).collect();
        let lshw = self.lshw.filter(|lshw| !lshw.is_null()).filter(|lshw| {
            let bytes = lshw.to_string().len();
            if bytes > LSHW_BYTES_MAX {
                let max = bty::size::human(LSHW_BYTES_MAX as u64);
                omissions.push(format!("left out the hardware description, larger than {max}"));
            }
            bytes <= LSHW_BYTES_MAX
        });
        omissions.truncate(OMISSIONS_MAX);
        PostedInventory {
            disks: serde_json::to_value(kept).unwrap_or_else(|_| Value::Array(Vec::new())),
            lshw,
            omissions,
        }
    }
}

impl InventoryDisk {
    /// Reads the disk number `n`; `None` if it has no path.
    fn read(disk: &Value, n: usize, omissions: &mut Vec<String>) -> Option<Self> {
        let Some(path) = text(&disk["path"]) else {
            omissions.push(format!("left out disk {}, which has no path", n + 1));
            return None;
        };
        let serial = disk["serial"].as_str().map(str::trim).filter(|serial| !serial.is_empty());
        if serial.is_some_and(|serial| serial.chars().count() > SERIAL_CHARS_MAX) {
            omissions.push(format!(
                "left out the serial number of {path}, longer than {SERIAL_CHARS_MAX} characters"
            ));
        }
        Some(Self {
            size: size(&disk["size"]),
            size_bytes: size_bytes(disk),
            vendor: text(&disk["vendor"]),
            model: text(&disk["model"]),
            serial: serial
                .filter(|serial| serial.chars().count() <= SERIAL_CHARS_MAX)
                .map(str::to_owned),
            wwn: text(&disk["wwn"]),
            by_path: text(&disk["by_path"]),
            tran: text(&disk["tran"]),
            removable: disk["removable"].as_bool(),
            readonly: disk["readonly"].as_bool(),
            path,
        })
    }
}

/// Returns a text that is not empty, cut to the maximum length.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    Some(text.chars().take(TEXT_CHARS_MAX).collect())
}

fn size(value: &Value) -> Option<Value> {
    if value.is_number() { Some(value.clone()) } else { text(value).map(Value::from) }
}

/// Returns the size in bytes, or what the human-readable size says.
fn size_bytes(disk: &Value) -> Option<u64> {
    let stated = match &disk["size"] {
        Value::String(text) => bty::size::parse(text).ok(),
        other => other.as_u64(),
    };
    // a script's integers end at 2^63 - 1; no disk is that large
    let is_size = |bytes: &u64| i64::try_from(*bytes).is_ok();
    disk["size_bytes"].as_u64().filter(is_size).or(stated.filter(is_size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn keep(posted: &Value) -> PostedInventory {
        serde_json::from_value::<Inventory>(posted.clone()).unwrap().keep()
    }

    #[test]
    fn what_fits_is_kept_and_the_rest_is_named() {
        let disk = |n: usize| json!({ "path": format!("/dev/sd{n}"), "serial": format!("S{n}") });
        let many: Vec<Value> = (0..DISKS_MAX + 1).map(disk).collect();
        let kept = keep(&json!({ "disks": many, "lshw": { "x": "y".repeat(LSHW_BYTES_MAX) } }));
        assert_eq!(kept.disks.as_array().map(Vec::len), Some(DISKS_MAX));
        assert_eq!(kept.lshw, None);
        assert_eq!(
            kept.omissions,
            [
                "kept the first 256 of 257 disks",
                "left out the hardware description, larger than 4.0 MiB"
            ]
        );
        let odd = json!([
            { "path": "/dev/sda", "serial": "x".repeat(129), "size": "20G" },
            { "path": "" },
            { "path": "/dev/sdb", "serial": " S2 ", "model": "m".repeat(999), "vendor": 7 },
        ]);
        let kept = keep(&json!({ "disks": odd, "more": 1 }));
        let (first, second) = (&kept.disks[0], &kept.disks[1]);
        assert_eq!((&first["serial"], &first["size_bytes"]), (&Value::Null, &json!(20_u64 << 30)));
        assert_eq!((&second["serial"], &second["vendor"]), (&json!("S2"), &Value::Null));
        assert_eq!(second["model"].as_str().map(str::len), Some(TEXT_CHARS_MAX));
        assert_eq!(
            kept.omissions,
            [
                "left out the serial number of /dev/sda, longer than 128 characters",
                "left out disk 2, which has no path",
            ]
        );
    }

    /// A value of any type, as a field of a disk may have.
    fn any_field() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,300}".prop_map(Value::from),
            Just(json!([{ "path": "/dev/sda" }])),
        ]
    }

    proptest! {
        #[test]
        fn any_disks_are_kept_within_bounds(
            disks in prop::collection::vec(prop::collection::hash_map(
                prop::sample::select(vec!["path", "size", "size_bytes", "serial", "model", "tran"]),
                any_field(), 0..6), 0..5),
        ) {
            let kept = keep(&json!({ "disks": disks }));
            for disk in kept.disks.as_array().unwrap() {
                prop_assert!(disk["path"].as_str().is_some_and(|path| !path.is_empty()));
                for field in ["path", "model", "tran", "size", "serial"] {
                    let length = disk[field].as_str().map_or(0, |text| text.chars().count());
                    prop_assert!(length <= TEXT_CHARS_MAX, "{}", field);
                }
                let bytes = &disk["size_bytes"];
                prop_assert!(bytes.is_null() || bytes.as_i64().is_some());
            }
        }
    }
}
