//! Changes to many machines at once: what an action makes of one machine.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::save::{Assignment, apply_assignment};
use super::{ClientContext, Machine, Outcome};
use crate::domain::event::NewEvent;
use crate::domain::plan::evaluate::DecisionContext;

/// Changes to an assignment. Omitted fields keep their values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MachineChanges {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) bty_image_ref: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) boot_mode: Option<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) sanboot_drive: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) target_disk_serial: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) params: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extra_args: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) netboot_version: Option<String>,
}

impl MachineChanges {
    /// Returns `assignment` with these changes, normalized.
    #[must_use]
    pub fn apply(&self, mut assignment: Assignment) -> Assignment {
        fn set<T: Clone>(field: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        set(&mut assignment.name, self.name.as_ref());
        set(&mut assignment.bty_image_ref, self.bty_image_ref.as_ref());
        set(&mut assignment.labels, self.labels.as_ref());
        set(&mut assignment.boot_mode, self.boot_mode.as_ref());
        set(&mut assignment.sanboot_drive, self.sanboot_drive.as_ref());
        set(&mut assignment.target_disk_serial, self.target_disk_serial.as_ref());
        set(&mut assignment.params, self.params.as_ref());
        set(&mut assignment.extra_args, self.extra_args.as_ref());
        set(&mut assignment.netboot_version, self.netboot_version.as_ref());
        assignment.normalized()
    }
}

/// Distinguishes `null`, which clears a field, from an omitted field.
fn nullable<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What to do with many machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkAction {
    /// Change the given fields of their assignments.
    Assign(Box<MachineChanges>),
    /// Add these labels.
    Label(Vec<String>),
    /// Remove these labels.
    Unlabel(Vec<String>),
    /// Order their plans again, as saving an unchanged assignment does.
    OrderAgain,
    /// Acknowledge their failures.
    Acknowledge,
    /// Put them on hold for this reason: they boot their disks.
    Hold(String),
    /// Release them; their plans keep their states.
    Release,
    /// Delete them.
    Delete,
}

/// Maximum length of the reason of a hold in characters.
const REASON_CHARS_MAX: usize = 200;

impl BulkAction {
    /// Returns why the action cannot be done to any machine; `None` if it can.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Hold(reason)
                if reason.trim().is_empty()
                    || reason.chars().count() > REASON_CHARS_MAX
                    || reason.chars().any(char::is_control) =>
            {
                Some(format!(
                    "the reason of a hold must be one line of 1 to {REASON_CHARS_MAX} characters"
                ))
            }
            Self::Label(labels) | Self::Unlabel(labels) if labels.is_empty() => {
                Some("name at least one label".into())
            }
            Self::Assign(changes) if **changes == MachineChanges::default() => {
                Some("name at least one field to change".into())
            }
            _ => None,
        }
    }

    /// Returns the assignment that the action gives a machine with the assignment `before`; `None`
    /// for actions that give none.
    #[must_use]
    pub fn assignment(&self, before: Assignment) -> Option<Assignment> {
        match self {
            Self::Assign(changes) => Some(changes.apply(before)),
            Self::Label(labels) => {
                let labels = before.labels.iter().chain(labels).cloned().collect();
                Some(Assignment { labels, ..before }.normalized())
            }
            Self::Unlabel(labels) => {
                let kept = before.labels.iter().filter(|label| !labels.contains(label));
                Some(Assignment { labels: kept.cloned().collect(), ..before }.normalized())
            }
            Self::OrderAgain => Some(before),
            Self::Acknowledge | Self::Hold(_) | Self::Release | Self::Delete => None,
        }
    }

    /// Saves `assignment`, which [`assignment`](Self::assignment) has returned and which has been
    /// checked. Returns `None` if that changes nothing and is no new order.
    #[must_use]
    pub fn save(
        &self,
        machine: &Machine,
        context: &DecisionContext<'_>,
        client: &ClientContext,
        assignment: &Assignment,
    ) -> Option<Outcome<()>> {
        if *self != Self::OrderAgain && *assignment == Assignment::of(machine) {
            return None;
        }
        Some(apply_assignment(Some(machine), machine.clone(), context, client, assignment))
    }

    /// Puts `machine` on hold or releases it. Returns `None` for other actions, and if it is on
    /// hold for this reason, or released, already.
    #[must_use]
    pub fn hold(&self, machine: &Machine, client: &ClientContext) -> Option<Outcome<()>> {
        let hold = match self {
            Self::Hold(reason) => Some(reason.trim().to_owned()),
            Self::Release => None,
            _ => return None,
        };
        if hold == machine.hold {
            return None;
        }
        let mut machine = machine.clone();
        machine.hold.clone_from(&hold);
        // the answer to an earlier contact could be another one
        machine.answers.clear();
        machine.updated_at = client.now;
        let (mac, kind) = (machine.mac.clone(), "machine.upserted");
        let summary = match &hold {
            Some(reason) => format!("{mac}: put on hold: {reason}"),
            None => format!("{mac}: released"),
        };
        let details = json!({ "boot_mode": machine.plan, "hold": hold, "is_order": false });
        let event =
            NewEvent::new(kind, mac.as_str(), summary).caused_by(&client.author()).with(details);
        machine.remember_event(client.now, kind);
        Some(Outcome { machine, events: vec![event], answer: () })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Time;

    fn machine() -> Machine {
        Machine {
            labels: vec!["a".into(), "b".into()],
            ..Machine::new("52:54:00:00:00:01".parse().unwrap(), "bty-flash-once", Time(1))
        }
    }

    fn labels(action: &BulkAction) -> Vec<String> {
        action.assignment(Assignment::of(&machine())).unwrap().labels
    }

    #[test]
    fn labels_are_added_and_removed_one_by_one() {
        let given = || vec!["b".to_owned(), "c".to_owned()];
        assert_eq!(labels(&BulkAction::Label(given())), ["a", "b", "c"]);
        assert_eq!(labels(&BulkAction::Unlabel(given())), ["a"]);
    }

    #[test]
    fn a_hold_keeps_the_state_of_the_plan_and_is_released() {
        let client = ClientContext { now: Time(2), ..ClientContext::default() };
        let flashed = Machine { state: json!({ "flashed": true }), ..machine() };
        let hold = BulkAction::Hold("moves to another rack".into());
        let held = hold.hold(&flashed, &client).unwrap().machine;
        assert_eq!(held.boot_state(), "on hold: moves to another rack");
        assert_eq!(hold.hold(&held, &client).map(|outcome| outcome.events.len()), None);
        let released = BulkAction::Release.hold(&held, &client).unwrap();
        assert_eq!((released.machine.hold, released.machine.state), (None, flashed.state.clone()));
        assert_eq!(released.events[0].summary, "52:54:00:00:00:01: released");
        assert!(BulkAction::Release.hold(&flashed, &client).is_none());
    }

    #[test]
    fn actions_without_a_content_are_refused() {
        for action in [
            BulkAction::Hold(" ".into()),
            BulkAction::Hold("a\nb".into()),
            BulkAction::Label(Vec::new()),
            BulkAction::Unlabel(Vec::new()),
            BulkAction::Assign(Box::default()),
        ] {
            assert!(action.problem().is_some(), "{action:?}");
        }
        assert_eq!(BulkAction::Delete.problem(), None);
    }

    #[test]
    fn actions_have_one_form_in_json() {
        for (text, action) in [
            (json!("order_again"), BulkAction::OrderAgain),
            (json!({ "hold": "why" }), BulkAction::Hold("why".into())),
            (json!({ "label": ["a"] }), BulkAction::Label(vec!["a".into()])),
            (
                json!({ "assign": { "boot_mode": "x", "bty_image_ref": null } }),
                BulkAction::Assign(Box::new(MachineChanges {
                    boot_mode: Some("x".into()),
                    bty_image_ref: Some(None),
                    ..MachineChanges::default()
                })),
            ),
        ] {
            assert_eq!(serde_json::from_value::<BulkAction>(text.clone()).unwrap(), action);
            assert_eq!(serde_json::to_value(&action).unwrap(), text);
        }
    }
}
