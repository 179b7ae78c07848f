//! Identification of the machine by its firmware, without the placeholders of vendors.

use crate::disks::sysfs::{clean, text};
use crate::hardware::{Dmi, HardwareRoots};

/// Placeholders that vendors leave in fields that they do not fill, in lower case.
const PLACEHOLDERS: &[&str] = &[
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "to be filled by oem",
    "fill by oem",
    "o.e.m.",
    "oem",
    "default",
    "default string",
    "empty",
    "[empty]",
    "no dimm",
    "none",
    "null",
    "n/a",
    "na",
    "invalid",
    "not applicable",
    "not available",
    "not provided",
    "not specified",
    "unspecified",
    "unknown",
    "undefined",
    "0123456789",
    "123456789",
    "1234567890",
    "system manufacturer",
    "system product name",
    "system version",
    "system serial number",
    "base board serial number",
    "chassis serial number",
    "chassis asset tag",
    "no asset tag",
    "asset tag",
    "sku",
    "sku number",
];

/// Chassis types: number, one word, description. SMBIOS specification (DSP0134) 3.7, section 7.4.1.
const CHASSIS: &[(u8, &str, &str)] = &[
    (3, "desktop", "Desktop Computer"),
    (4, "low-profile", "Low Profile Desktop Computer"),
    (5, "pizzabox", "Pizza Box Computer"),
    (6, "mini-tower", "Mini Tower Computer"),
    (7, "tower", "Tower Computer"),
    (8, "portable", "Portable Computer"),
    (9, "laptop", "Laptop"),
    (10, "notebook", "Notebook"),
    (11, "handheld", "Hand Held Computer"),
    (13, "all-in-one", "All In One"),
    (14, "sub-notebook", "Sub Notebook"),
    (15, "space-saving", "Space-saving Computer"),
    (16, "lunchbox", "Lunch Box Computer"),
    (17, "server", "System"),
    (23, "rackmount", "Rack Mount Chassis"),
    (28, "blade", "Blade"),
    (30, "tablet", "Tablet"),
    (31, "convertible", "Convertible"),
    (32, "detachable", "Detachable"),
    (34, "embedded", "Embedded PC"),
    (35, "mini", "Mini PC"),
    (36, "stick", "Stick PC"),
];

pub(super) fn read(roots: &HardwareRoots) -> Dmi {
    let dir = roots.sys.join("class/dmi/id");
    let field = |name: &str| text(&dir, name).and_then(meaningful);
    let chassis = field("chassis_type").and_then(|number| number.parse::<u8>().ok());
    Dmi {
        vendor: field("sys_vendor"),
        product: field("product_name"),
        version: field("product_version"),
        serial: field("product_serial"),
        uuid: field("product_uuid"),
        sku: field("product_sku"),
        family: field("product_family"),
        chassis: chassis.and_then(|n| CHASSIS.iter().find(|c| c.0 == n)).map(|c| c.1.to_owned()),
        chassis_serial: field("chassis_serial"),
        asset_tag: field("chassis_asset_tag"),
        board_vendor: field("board_vendor"),
        board_product: field("board_name"),
        board_version: field("board_version"),
        board_serial: field("board_serial"),
        bios_vendor: field("bios_vendor"),
        bios_version: field("bios_version"),
        bios_date: field("bios_date"),
    }
}

/// The description of a chassis type, given as in [`Dmi::chassis`].
pub(super) fn chassis_description(word: Option<&str>) -> &'static str {
    CHASSIS.iter().find(|c| Some(c.1) == word).map_or("Computer", |c| c.2)
}

/// A field of the firmware as text; `None` for placeholders.
pub(super) fn field(bytes: &[u8]) -> Option<String> {
    clean(bytes).and_then(meaningful)
}

/// Drops what firmware says when nobody has set the field.
fn meaningful(text: String) -> Option<String> {
    (!is_placeholder(&text)).then_some(text)
}

pub(super) fn is_placeholder(text: &str) -> bool {
    let is_known = PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str());
    // serial numbers and UUIDs that were never written: all zeros, all ones, dots
    let is_blank =
        |digit: char| text.chars().all(|c| c == digit || matches!(c, '-' | '.' | ' ' | 'x' | 'X'));
    let is_erased = is_blank('0') || (text.len() > 3 && (is_blank('F') || is_blank('f')));
    is_known || is_erased
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_absent() {
        for text in [
            "To Be Filled By O.E.M.",
            " Default string \n",
            "None",
            "NOT SPECIFIED",
            "00000000",
            "0x00000000",
            "FFFFFFFF",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "00000000-0000-0000-0000-000000000000",
            "........",
            "   ",
            "",
            "bad\u{7}",
        ] {
            assert_eq!(field(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(field(b"\xff\xff"), None);
        for text in
            ["1.0", "F4", "PowerEdge R740", "0X3D66", "A00", "None of your business", "Größe"]
        {
            assert_eq!(field(text.as_bytes()).as_deref(), Some(text));
        }
    }
}
