//! A machine in the list.

use std::collections::HashMap;

use crate::domain::machine::state_label::state_label;
use crate::domain::machine::{Machine, Phase};
use crate::domain::time::Time;
use crate::http::ui::progress::{Progress, progress};
use crate::http::ui::trouble::{Trouble, trouble};
use crate::services::machine_reads::{Brief, ListedMachine};
use crate::services::rates::Rates;

/// A machine in the list, formatted for people.
pub(super) struct MachineRow {
    pub(super) hyphens: String,
    pub(super) phase: Phase,
    pub(super) state: String,
    /// Vendor and product; empty before the first inventory.
    pub(super) model: String,
    pub(super) image: String,
    pub(super) progress: Option<Progress>,
    pub(super) trouble: Option<Trouble>,
    /// The heading of the group that begins with this machine.
    pub(super) heading: Option<String>,
    pub(super) brief: Brief,
}

impl MachineRow {
    /// `listed` is `None` for a machine that has been deleted meanwhile.
    pub(super) fn new(
        brief: Brief,
        listed: Option<&ListedMachine>,
        names: &HashMap<String, String>,
        rates: &Rates,
        now: Time,
    ) -> Self {
        let status = brief.status();
        let machine = listed.map(|listed| &listed.machine);
        let image = brief.image_ref.as_ref().map(|image| match names.get(image) {
            Some(name) => name.clone(),
            None => format!("{}… (not in the catalog)", image.chars().take(8).collect::<String>()),
        });
        Self {
            hyphens: brief.mac.replace(':', "-"),
            phase: status.phase(),
            state: state_label(&status),
            model: machine.map(model).unwrap_or_default(),
            image: image.unwrap_or_default(),
            progress: machine
                .filter(|_| status.phase() != Phase::Trouble)
                .and_then(|machine| progress(rates, machine)),
            trouble: listed.and_then(|l| trouble(&l.machine, l.has_failures, now)),
            heading: None,
            brief,
        }
    }
}

/// Returns vendor and product, as far as they are known.
fn model(machine: &Machine) -> String {
    let word = |field: &str| machine.hardware[field].as_str().unwrap_or_default().trim();
    let (vendor, product) = (word("vendor"), word("product"));
    match product.starts_with(vendor) {
        true => product.to_owned(),
        false => format!("{vendor} {product}").trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_names_its_vendor_once() {
        let of = |hardware| {
            let mac = "52:54:00:00:00:01".parse().unwrap();
            model(&Machine { hardware, ..Machine::new(mac, "ipxe-exit", Time(1)) })
        };
        assert_eq!(of(json!({ "vendor": "ACME", "product": "Rack 1" })), "ACME Rack 1");
        assert_eq!(of(json!({ "vendor": "ACME", "product": "ACME Rack 1" })), "ACME Rack 1");
        assert_eq!(of(json!({ "vendor": null, "product": "Rack 1" })), "Rack 1");
        assert_eq!(of(serde_json::Value::Null), "");
    }
}
