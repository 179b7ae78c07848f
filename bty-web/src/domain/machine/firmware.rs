//! What the firmware of a machine says about it, and which machines seem to be the same.
//!
//! Nothing of it is proof, since everybody on the network can send it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::mac::Mac;
use crate::domain::time::Time;

/// What the server does with the identities of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityRule {
    /// It records none.
    Off,
    /// It says which machine an unknown network card seems to belong to.
    Suggest,
    /// It adds an unknown network card to the machine that it seems to belong to.
    Merge,
}

/// What the firmware of a machine says about it. Placeholders count as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FirmwareId {
    /// UUID of the machine, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Serial number of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Asset tag of the chassis, which an operator may have set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    /// Architecture for which its boot program was built, such as `x86_64` or `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
}

/// UUIDs that whole series of boards share.
const SHARED_UUIDS: [&str; 3] = [
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
];

const FIELD_CHARS_MAX: usize = 128;

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Returns the trimmed field; `None` if it identifies nothing.
fn identifying(field: &str) -> Option<String> {
    let field = field.trim();
    let mut chars = field.chars().filter(|c| !matches!(c, '-' | '.' | ' ' | ':'));
    let first = chars.next()?;
    let is_repeated = chars.all(|c| c.eq_ignore_ascii_case(&first));
    let is_usable = !is_repeated
        && field.chars().count() <= FIELD_CHARS_MAX
        // a variable that no iPXE has replaced contains $
        && !field.chars().any(|c| c.is_control() || c == '$')
        && !bty::hardware::is_placeholder(field);
    is_usable.then(|| field.to_owned())
}

impl FirmwareId {
    /// Takes the fields as the firmware has them.
    #[must_use]
    pub fn new(uuid: &str, serial: &str, asset: &str, arch: &str) -> Self {
        let uuid = identifying(uuid).map(|uuid| uuid.to_ascii_lowercase());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        Self {
            uuid: uuid.filter(|uuid| is_uuid(uuid) && !SHARED_UUIDS.contains(&uuid.as_str())),
            serial: identifying(serial),
            asset: identifying(asset),
            arch: identifying(arch).filter(|arch| arch.chars().all(is_plain)),
        }
    }

    /// Takes the fields from the output of `lshw -json`.
    #[must_use]
    pub fn of_lshw(lshw: &Value) -> Self {
        let root = match lshw {
            Value::Array(nodes) => nodes.first().unwrap_or(&Value::Null),
            node => node,
        };
        let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
        let (uuid, serial) = (text(&root["configuration"]["uuid"]), text(&root["serial"]));
        Self::new(&uuid, &serial, "", "")
    }

    /// True if it has a field by which machines are told apart.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.uuid.is_some() || self.serial.is_some()
    }

    /// The fields of both that are equal, and whether any differs. The asset tag does not count:
    /// whole racks have the same.
    fn compare(&self, other: &Self) -> (Vec<&'static str>, bool) {
        let pairs = [("uuid", &self.uuid, &other.uuid), ("serial", &self.serial, &other.serial)];
        let known = pairs.into_iter().filter(|(_, one, other)| one.is_some() && other.is_some());
        let (equal, differing): (Vec<_>, Vec<_>) = known.partition(|(_, one, other)| one == other);
        (equal.into_iter().map(|(name, ..)| name).collect(), !differing.is_empty())
    }

    /// True if no field is equal, and one differs.
    pub(super) fn is_another(&self, other: &Self) -> bool {
        let (equal, differs) = self.compare(other);
        equal.is_empty() && differs
    }

    /// Replaces the fields that `newer` has.
    pub(super) fn update(&mut self, newer: &Self) {
        let fields = [
            (&mut self.uuid, &newer.uuid),
            (&mut self.serial, &newer.serial),
            (&mut self.asset, &newer.asset),
            (&mut self.arch, &newer.arch),
        ];
        for (field, newer) in fields {
            if newer.is_some() {
                field.clone_from(newer);
            }
        }
    }

    pub(super) fn shown(&self) -> String {
        let fields = [("serial number", &self.serial), ("UUID", &self.uuid)];
        let shown =
            fields.iter().find_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        shown.unwrap_or_else(|| "no serial number".into())
    }
}

/// The identity of a machine, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MachineIdentity {
    /// What its firmware says.
    pub current: FirmwareId,
    /// When the firmware began to say so.
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    /// The machine in which this network card was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousIdentity>,
    /// MAC address of the only other machine with the same firmware identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub same_as: Option<Mac>,
}

/// The machine in which a network card was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PreviousIdentity {
    /// What its firmware said.
    pub firmware: FirmwareId,
    /// When another firmware was seen for the first time.
    #[schema(value_type = String, format = DateTime)]
    pub until: Time,
}

/// Returns the only machine among `candidates` that agrees with `id` in most fields, and these
/// fields. A machine that differs in any field is none, the asset tag breaks ties, and a tie is no
/// answer.
#[must_use]
pub fn best_match<'a>(
    id: &FirmwareId,
    candidates: &'a [(Mac, FirmwareId)],
) -> Option<(&'a Mac, Vec<&'static str>)> {
    let mut ranked: Vec<_> = candidates
        .iter()
        .filter_map(|(mac, other)| {
            let (equal, differs) = id.compare(other);
            let is_candidate = !equal.is_empty() && !differs;
            let has_asset = id.asset.is_some() && id.asset == other.asset;
            is_candidate.then_some(((equal.len(), has_asset), mac, equal))
        })
        .collect();
    ranked.sort_by_key(|(points, ..)| std::cmp::Reverse(*points));
    let is_tie = ranked.len() > 1 && ranked[0].0 == ranked[1].0;
    ranked.into_iter().next().filter(|_| !is_tie).map(|(_, mac, equal)| (mac, equal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const UUID: &str = "4C4C4544-0042-4B10-8051-C7C04F4D3232";

    fn mac(n: u8) -> Mac {
        format!("02:00:00:00:00:{n:02x}").parse().unwrap()
    }

    fn id(uuid: &str, serial: &str, asset: &str) -> FirmwareId {
        FirmwareId::new(uuid, serial, asset, "")
    }

    #[test]
    fn placeholders_and_repeated_characters_identify_nothing() {
        for text in [
            "To be filled by O.E.M.",
            "Default string",
            "System Serial Number",
            "XXXXXXXX",
            "1111-1111-1111",
            "x",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "aAaAaA",
            "-- . --",
            "",
            "  ",
            "0123456789",
            "${uuid}",
            "a\u{7}b",
            &*"ab".repeat(100),
        ] {
            let id = FirmwareId::new(text, text, text, text);
            assert_eq!(id, FirmwareId::default(), "{text:?}");
        }
        for uuid in ["7XYZ123", "4c4c4544-0042-4b10-8051", "gggggggg-0042-4b10-8051-c7c04f4d3232"] {
            assert!(!id(uuid, "", "").is_usable(), "{uuid}");
        }
        for shared in SHARED_UUIDS {
            assert!(!id(&shared.to_uppercase(), "", "").is_usable());
        }
        let own = FirmwareId::new(UUID, " 7XYZ123 ", "A-17", "x86_64");
        assert_eq!(own.uuid.as_deref(), Some(UUID.to_lowercase().as_str()));
        assert_eq!((own.serial.as_deref(), own.arch.as_deref()), (Some("7XYZ123"), Some("x86_64")));
    }

    #[test]
    fn the_only_best_match_wins_and_a_tie_is_no_answer() {
        let own = id(UUID, "7XYZ123", "A-17");
        let found = |candidates: &[(Mac, FirmwareId)]| {
            best_match(&own, candidates).map(|(mac, equal)| (mac.clone(), equal))
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[(mac(2), id("", "", "A-17"))]), None, "an asset tag alone");
        assert_eq!(found(&[(mac(2), id("", "7XYZ123", ""))]), Some((mac(2), vec!["serial"])));
        let both = (mac(3), id(UUID, "7XYZ123", ""));
        assert_eq!(
            found(&[(mac(2), id("", "7XYZ123", "")), both.clone()]),
            Some((mac(3), vec!["uuid", "serial"]))
        );
        assert_eq!(found(&[both.clone(), (mac(4), id(UUID, "7XYZ123", ""))]), None, "a tie");
        let tagged = (mac(4), id(UUID, "7XYZ123", "A-17"));
        assert_eq!(found(&[both, tagged]), Some((mac(4), vec!["uuid", "serial"])));
        assert_eq!(found(&[(mac(2), id(UUID, "OTHER9", ""))]), None, "one UUID, two boards");
    }

    #[test]
    fn the_inventory_has_the_identity() {
        let tree = json!([{ "serial": "7XYZ123", "configuration": { "uuid": UUID } }]);
        assert_eq!(FirmwareId::of_lshw(&tree), id(UUID, "7XYZ123", ""));
        for nonsense in [json!(null), json!([]), json!({ "serial": 7, "configuration": [] })] {
            assert_eq!(FirmwareId::of_lshw(&nonsense), FirmwareId::default());
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_accepted_and_stay_what_they_are(
            fields in prop::array::uniform4("\\PC{0,40}"),
        ) {
            let [uuid, serial, asset, arch] = fields.each_ref().map(String::as_str);
            let once = FirmwareId::new(uuid, serial, asset, arch);
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let again = FirmwareId::new(
                &text(&once.uuid), &text(&once.serial), &text(&once.asset), &text(&once.arch),
            );
            prop_assert_eq!(&once, &again);
            prop_assert!(!once.is_another(&once));
        }
    }
}
