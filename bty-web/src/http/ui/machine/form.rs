//! The form of a machine: its assignment, and the parameters of its plan.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::hardware::Disk;
use crate::domain::machine::save::Assignment;
use crate::domain::plan::params::{Need, Parameter, ParameterKind};
use crate::domain::plan::{Plan, bundled};
use crate::http::ui::form::Fields;
use crate::services::image_catalog::Stored;
use crate::services::snapshot::Snapshot;

/// The form field for a parameter of a plan.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: ParameterKind,
    pub(super) about: String,
    pub(super) value: String,
    pub(super) min: String,
    pub(super) max: String,
    pub(super) choices: Vec<String>,
    pub(super) is_needed: bool,
    pub(super) preset: String,
}

impl Field {
    fn new(name: &str, parameter: &Parameter, params: &Map<String, Value>) -> Self {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default();
        Self {
            name: name.to_owned(),
            kind: parameter.kind,
            about: parameter.about.clone(),
            value: params.get(name).map(text).unwrap_or_default(),
            min: number(parameter.min),
            max: number(parameter.max),
            choices: parameter.choices.clone().unwrap_or_default(),
            is_needed: parameter.preset.is_none(),
            preset: parameter.preset.as_ref().map(text).unwrap_or_default(),
        }
    }
}

/// A plan in the selection of plans.
pub(super) struct PlanChoice {
    pub(super) name: String,
    pub(super) title: String,
}

/// The form with an assignment: the saved one, or one that is being edited.
pub(super) struct Form {
    pub(super) assignment: Assignment,
    pub(super) labels: String,
    pub(super) plans: Vec<PlanChoice>,
    pub(super) title: String,
    pub(super) images: Vec<Stored>,
    pub(super) fields: Vec<Field>,
    pub(super) needs_image: bool,
    pub(super) needs_disk: bool,
    /// True if no disk in the inventory has the assigned serial number.
    pub(super) is_foreign_serial: bool,
}

/// Returns what the plan `plan` needs from an assignment.
pub(super) fn needs<'a>(snapshot: &'a Snapshot, plan: &str) -> &'a [Need] {
    snapshot.plan(plan).map_or(&[], |plan| &plan.declared.needs)
}

/// Creates the form for the assignment `assignment`.
pub(super) fn form(
    snapshot: &Snapshot,
    assignment: Assignment,
    images: Vec<Stored>,
    disks: &[Disk],
) -> Form {
    let plan = snapshot.plan(&assignment.boot_mode);
    let parameters = plan.map(|plan| plan.declared.parameters.clone()).unwrap_or_default();
    let needs = needs(snapshot, &assignment.boot_mode);
    let mut own: Vec<&Plan> = snapshot.plans.values().map(Arc::as_ref).collect();
    own.sort_by(|a, b| a.name.cmp(&b.name));
    let choice =
        |plan: &Plan| PlanChoice { name: plan.name.clone(), title: plan.title().to_owned() };
    let serial = assignment.target_disk_serial.as_deref();
    Form {
        labels: assignment.labels.join(", "),
        plans: bundled::all().iter().chain(own).map(choice).collect(),
        title: plan.map(|plan| plan.title().to_owned()).unwrap_or_default(),
        fields: parameters
            .iter()
            .map(|(name, parameter)| Field::new(name, parameter, &assignment.params))
            .collect(),
        needs_image: needs.contains(&Need::Image),
        needs_disk: needs.contains(&Need::Disk),
        is_foreign_serial: serial
            .is_some_and(|serial| !disks.iter().any(|disk| disk.selector == serial)),
        images,
        assignment,
    }
}

/// Reads the assignment from the fields of a form. Empty parameters get their defaults.
pub(super) fn assignment(snapshot: &Snapshot, fields: &Fields) -> Assignment {
    let plan = fields.text("boot_mode").to_owned();
    let parameters =
        snapshot.plan(&plan).map(|plan| plan.declared.parameters.clone()).unwrap_or_default();
    let mut params = Map::new();
    for (name, parameter) in &parameters {
        if let Some(text) = fields.optional(&format!("param.{name}")) {
            params.insert(name.clone(), typed(parameter.kind, text));
        }
    }
    let label = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    Assignment {
        name: fields.text("name").to_owned(),
        bty_image_ref: fields.optional("bty_image_ref"),
        labels: fields.text("labels").split(',').filter_map(label).collect(),
        boot_mode: plan,
        sanboot_drive: fields.optional("sanboot_drive"),
        target_disk_serial: fields
            .optional("other_serial")
            .or_else(|| fields.optional("target_disk_serial")),
        params,
        extra_args: fields.text("extra_args").to_owned(),
        netboot_version: fields.text("netboot_version").to_owned(),
    }
}

/// Converts a value to its type. An invalid value stays text, which the check of the assignment
/// reports.
fn typed(kind: ParameterKind, text: String) -> Value {
    match kind {
        ParameterKind::Int => text.parse::<i64>().map_or(Value::String(text), Value::from),
        ParameterKind::Bool if text == "true" || text == "false" => Value::Bool(text == "true"),
        _ => Value::String(text),
    }
}
