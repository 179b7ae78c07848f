//! The query of the list of machines, which its address has: search, filters, order, groups.

use std::collections::HashMap;

use serde::Deserialize;
use url::form_urlencoded;

use crate::domain::error::Result;
use crate::domain::machine::Phase;
use crate::domain::machine::search::fold;
use crate::domain::machine::state_label::{phase_label, state_label};
use crate::http::ui::columns::parse_sort;
use crate::http::ui::form::Fields;
use crate::services::machine_reads::{Brief, FleetList, MachineReads};

/// Address of the list.
const LIST: &str = "/ui/machines";

/// The query of the page.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MachineFilter {
    pub(super) q: String,
    pub(super) state: String,
    pub(super) plan: String,
    pub(super) label: String,
    pub(super) sort: String,
    /// `label`, or empty for no groups.
    pub(super) group: String,
    pub(super) page: String,
    pub(super) per_page: String,
}

/// A filter that is in force, as a link that removes it.
pub(super) struct FilterChip {
    pub(super) text: String,
    /// URL of the list without it.
    pub(super) path: String,
}

/// A phase to filter by, as a link.
pub(super) struct PhaseChip {
    pub(super) phase: Phase,
    pub(super) label: &'static str,
    /// Number of machines in this phase that match the other filters.
    pub(super) count: usize,
    /// URL of the list of these machines; if it is chosen, of the list without this filter.
    pub(super) path: String,
    pub(super) is_chosen: bool,
}

impl MachineFilter {
    /// Reads the query from the hidden fields of a form.
    pub(super) fn of_fields(fields: &Fields) -> Self {
        let text = |name: &str| fields.text(name).to_owned();
        Self {
            q: text("q"),
            state: text("state"),
            plan: text("plan"),
            label: text("label"),
            sort: text("sort"),
            group: text("group"),
            page: text("page"),
            per_page: text("per_page"),
        }
    }

    /// Returns the parameters that are set, with their names.
    pub(super) fn parameters(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("q", &self.q),
            ("state", &self.state),
            ("plan", &self.plan),
            ("label", &self.label),
            ("sort", &self.sort),
            ("group", &self.group),
            ("per_page", &self.per_page),
            ("page", &self.page),
        ];
        all.into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name, text.as_str()))
            .collect()
    }

    /// Returns the parameters that are set and have no field in the form of the search.
    pub(super) fn without_fields(&self) -> Vec<(&'static str, &str)> {
        let all = self.parameters().into_iter();
        all.filter(|(name, _)| matches!(*name, "state" | "label" | "sort")).collect()
    }

    /// Returns the URL of this list.
    pub(super) fn path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(self.parameters()).finish();
        if query.is_empty() { LIST.to_owned() } else { format!("{LIST}?{query}") }
    }

    /// Returns the URL of this list with another value for the parameter `name`; of its first page,
    /// unless that is the parameter.
    pub(super) fn path_with(&self, name: &str, value: &str) -> String {
        let mut other = Self { page: String::new(), ..self.clone() };
        let field = match name {
            "q" => &mut other.q,
            "state" => &mut other.state,
            "plan" => &mut other.plan,
            "label" => &mut other.label,
            "sort" => &mut other.sort,
            "group" => &mut other.group,
            "per_page" => &mut other.per_page,
            _ => &mut other.page,
        };
        value.clone_into(field);
        other.path()
    }

    /// Returns the filters in force that the page does not show as a field or a phase.
    pub(super) fn chips(&self) -> Vec<FilterChip> {
        let filters = [("plan", &self.plan), ("label", &self.label)];
        let chip = |(name, value): (&str, &String)| FilterChip {
            text: format!("{name}: {value}"),
            path: self.path_with(name, ""),
        };
        filters.into_iter().filter(|(_, value)| !value.is_empty()).map(chip).collect()
    }

    /// Returns the phases to filter by. `machines` match all other filters.
    pub(super) fn phases(&self, machines: &[Brief]) -> Vec<PhaseChip> {
        let mut counts = HashMap::<Phase, usize>::new();
        for machine in machines {
            *counts.entry(machine.status().phase()).or_default() += 1;
        }
        let chip = |phase: Phase| {
            let is_chosen = self.state == phase.as_str();
            PhaseChip {
                phase,
                label: phase_label(phase),
                count: counts.get(&phase).copied().unwrap_or_default(),
                path: self.path_with("state", if is_chosen { "" } else { phase.as_str() }),
                is_chosen,
            }
        };
        let is_shown = |chip: &PhaseChip| chip.is_chosen || chip.count > 0;
        Phase::ALL.into_iter().map(chip).filter(is_shown).collect()
    }

    /// Reads the machines that match all filters but that of the state.
    pub(super) async fn read(&self, reads: &MachineReads) -> Result<FleetList> {
        let mut list = reads.summaries(reads.search(&self.q)?).await?;
        let label = fold(&self.label);
        list.found.retain(|machine| {
            (self.plan.is_empty() || machine.plan == self.plan)
                && (label.is_empty() || machine.labels.iter().any(|known| fold(known) == label))
        });
        Ok(list)
    }

    /// Returns the machines in the state of the filter.
    pub(super) fn retain_state(&self, machines: &mut Vec<Brief>) {
        machines.retain(|machine| {
            self.state.is_empty() || machine.status().phase().as_str() == self.state
        });
    }

    /// Sorts the machines, which are sorted by their addresses. `names` are those of images.
    pub(super) fn sort(&self, machines: &mut [Brief], names: &HashMap<String, String>) {
        let (column, is_descending) = parse_sort(&self.sort);
        match column {
            "" | "name" => {
                machines.sort_by_cached_key(|m| (m.name.is_empty(), natural_key(&m.name)));
            }
            "image" => machines.sort_by_cached_key(|m| {
                m.image_ref.as_ref().and_then(|image| names.get(image)).cloned()
            }),
            "plan" => machines.sort_by(|a, b| a.plan.cmp(&b.plan)),
            "state" => {
                machines.sort_by_cached_key(|m| (m.status().phase(), state_label(&m.status())));
            }
            "seen" => machines.sort_by_key(|m| m.seen_at),
            "discovered" => machines.sort_by_key(|m| m.discovered_at),
            "address" => machines.sort_by_cached_key(|m| {
                m.seen_ip.as_ref().and_then(|ip| ip.parse::<std::net::IpAddr>().ok())
            }),
            "flashed" => machines.sort_by_key(|m| m.flashed_at),
            _ => {}
        }
        if is_descending {
            machines.reverse();
        }
        if self.is_grouped() {
            machines.sort_by(|a, b| group_key(a).cmp(&group_key(b)));
        }
    }

    /// True if machines are grouped by their labels.
    pub(super) fn is_grouped(&self) -> bool {
        self.group == "label"
    }
}

/// Returns the label under which a machine is grouped, its first one; those without are last.
pub(super) fn group_key(machine: &Brief) -> (bool, Option<&str>) {
    (machine.labels.is_empty(), machine.labels.first().map(String::as_str))
}

/// Returns a key that sorts `node-9` before `node-10`: letters without their case, each part with
/// the number that follows it.
fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let is_digit = |c: char| c.is_ascii_digit();
        let (text, after) = rest.split_at(rest.find(is_digit).unwrap_or(rest.len()));
        let end = after.find(|c| !is_digit(c)).unwrap_or(after.len());
        let (digits, after) = after.split_at(end);
        // a number beyond 64 bits is no number that people count with
        let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) };
        parts.push((text.to_lowercase(), number));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> MachineFilter {
        MachineFilter {
            q: "a b".into(),
            state: "new".into(),
            label: "rack 1".into(),
            page: "3".into(),
            ..MachineFilter::default()
        }
    }

    #[test]
    fn the_address_has_all_filters() {
        assert_eq!(filter().path(), "/ui/machines?q=a+b&state=new&label=rack+1&page=3");
        assert_eq!(MachineFilter::default().path(), "/ui/machines");
        let sorted = filter().path_with("sort", "-seen");
        assert_eq!(sorted, "/ui/machines?q=a+b&state=new&label=rack+1&sort=-seen");
        assert_eq!(
            filter().path_with("page", "4"),
            "/ui/machines?q=a+b&state=new&label=rack+1&page=4"
        );
    }

    #[test]
    fn names_are_sorted_as_people_count() {
        let mut names = ["node-10", "Node-9", "node", "a2b10", "a2b9", "büro", "a1", "a"];
        names.sort_by_cached_key(|name| natural_key(name));
        assert_eq!(names, ["a", "a1", "a2b9", "a2b10", "büro", "node", "Node-9", "node-10"]);
    }

    #[test]
    fn a_chip_removes_its_filter() {
        let chips = filter().chips();
        let shown: Vec<_> = chips.iter().map(|chip| (&*chip.text, &*chip.path)).collect();
        assert_eq!(shown, [("label: rack 1", "/ui/machines?q=a+b&state=new")]);
    }

    #[test]
    fn a_chosen_phase_is_shown_even_without_machines() {
        let phases = filter().phases(&[]);
        assert_eq!(phases.len(), 1);
        assert_eq!(phases[0].path, "/ui/machines?q=a+b&label=rack+1");
    }
}
