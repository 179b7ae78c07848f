//! What the rules know of an image in the catalog, and who uses it.

use serde_json::Value;

use crate::domain::machine::Machine;
use crate::domain::plan::Plan;
use crate::domain::time::Time;

/// An image in the catalog, as far as the rules need it.
#[derive(Clone, Debug, Default)]
pub struct CatalogImage {
    /// Name in the catalog.
    pub name: String,
    /// Address in the catalog, which stays the same when the image is published anew.
    pub src: String,
    /// SHA-256 of the version that machines write.
    pub sha256: Option<String>,
    /// When it got that digest; `None` if it never had another one.
    pub moved_at: Option<Time>,
    /// True if its digest is published in a checksum file, so that it can change at any time.
    pub has_checksum_file: bool,
}

/// The texts by which plans and parameters name an image.
#[derive(Clone, Copy, Debug)]
pub struct ImageNames<'a> {
    /// Its name in the catalog.
    pub name: &'a str,
    /// Its reference.
    pub image_ref: &'a str,
}

impl ImageNames<'_> {
    fn are(&self, text: &str) -> bool {
        text == self.name || text == self.image_ref
    }

    /// Returns how `machine`, whose plan is `plan`, uses the image, as one sentence; `None` if it
    /// does not. Default values of parameters count too.
    #[must_use]
    pub fn used_by_machine(&self, machine: &Machine, plan: Option<&Plan>) -> Option<String> {
        if machine.image_ref.as_deref() == Some(self.image_ref) {
            return Some("the image is assigned to this machine".into());
        }
        let mut params = plan.map(|plan| plan.declared.presets()).unwrap_or_default();
        params.extend(machine.params.clone());
        let named = params.iter().find(|(_, value)| value.as_str().is_some_and(|v| self.are(v)));
        named.map(|(parameter, _)| format!("the parameter {parameter} names the image"))
    }

    /// Returns how `plan` uses the image, as one sentence; `None` if it does not.
    #[must_use]
    pub fn used_by_plan(&self, plan: &Plan) -> Option<String> {
        let presets = plan.declared.presets();
        let is_named = |(_, value): &(&String, &Value)| value.as_str().is_some_and(|v| self.are(v));
        if let Some((parameter, _)) = presets.iter().find(is_named) {
            return Some(format!("the default of its parameter {parameter} names the image"));
        }
        let literals = [self.name, self.image_ref].map(|text| format!("{text:?}"));
        let is_in_source = literals.iter().any(|literal| plan.source.contains(literal));
        is_in_source.then(|| "its script names the image".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::plan::{bundled, examine};

    const NAMES: ImageNames<'_> = ImageNames { name: "debian", image_ref: "ab12" };

    fn machine() -> Machine {
        Machine::new("525400123456".parse().unwrap(), "own", Time(0))
    }

    fn plan(source: &str) -> Plan {
        Plan {
            name: "own".into(),
            source: source.into(),
            declared: examine("own", source).declared,
            ..bundled::all()[0].clone()
        }
    }

    #[test]
    fn a_machine_uses_its_assigned_image_and_those_in_parameters() {
        let declaring = plan(
            "fn boot(m) { boot_disk() } fn declare() { #{ parameters: #{ \
             small: #{ type: \"string\", preset: \"debian\" } } } }",
        );
        let assigned = Machine { image_ref: Some("ab12".into()), ..machine() };
        assert!(NAMES.used_by_machine(&assigned, None).unwrap().contains("assigned"));
        assert_eq!(NAMES.used_by_machine(&machine(), None), None);
        assert!(NAMES.used_by_machine(&machine(), Some(&declaring)).unwrap().contains("small"));
        let params = json!({ "small": "other" }).as_object().cloned().unwrap();
        let other = Machine { params, ..machine() };
        assert_eq!(NAMES.used_by_machine(&other, Some(&declaring)), None, "it has another value");
    }

    #[test]
    fn a_plan_uses_images_in_its_defaults_and_in_its_script() {
        let default = "fn boot(m) { boot_disk() } fn declare() { #{ parameters: #{ \
                       image: #{ type: \"image\", preset: \"debian\" } } } }";
        assert!(NAMES.used_by_plan(&plan(default)).unwrap().contains("parameter image"));
        let literal = "fn boot(m) { boot_live() } fn plan(m) { #{ image: m.image(\"debian\"), \
                       disk: m.target_disk() } }";
        assert!(NAMES.used_by_plan(&plan(literal)).unwrap().contains("script"));
        assert_eq!(NAMES.used_by_plan(&plan("fn boot(m) { boot_disk(\"debian 13\") }")), None);
    }
}
