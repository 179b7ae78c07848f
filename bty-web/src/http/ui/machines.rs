//! The list of machines, which can be sorted, searched and filtered.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use url::form_urlencoded;

use super::columns::{Column, Head, ascending, columns, descending, parse_sort};
use super::form::Fields;
use super::frame::Frame;
use super::notice::Notices;
use super::render::render;
use crate::domain::error::Result;
use crate::domain::machine::Phase;
use crate::domain::machine::state_label::{phase_label, state_label};
use crate::http::extract::{Params, parse_mac};
use crate::services::machine_reads::{Brief, FleetList, MachineReads};
use crate::services::snapshot::Snapshots;

/// Choices for the number of machines per page.
const PER_PAGE: [usize; 3] = [25, 50, 100];

/// The query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MachineFilter {
    q: String,
    state: String,
    plan: String,
    sort: String,
    page: String,
    per_page: String,
}

impl MachineFilter {
    /// Returns the URL of this list with another value for the parameter `name`.
    fn path_with(&self, name: &str, value: &str) -> String {
        let now = [
            ("q", &self.q),
            ("state", &self.state),
            ("plan", &self.plan),
            ("sort", &self.sort),
            ("per_page", &self.per_page),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (known, text) in now {
            let text = if known == name { value } else { text };
            if !text.is_empty() {
                query.append_pair(known, text);
            }
        }
        if name == "page" {
            query.append_pair("page", value);
        }
        format!("/ui/machines?{}", query.finish())
    }

    fn matches(&self, machine: &Brief) -> bool {
        (self.plan.is_empty() || machine.plan == self.plan)
            && (self.state.is_empty() || machine.status().phase().as_str() == self.state)
    }

    fn sort(&self, machines: &mut [Brief], names: &HashMap<String, String>) {
        let (column, is_descending) = parse_sort(&self.sort);
        let image = |machine: &Brief| {
            machine.image_ref.as_ref().and_then(|image| names.get(image)).cloned()
        };
        match column {
            "image" => machines.sort_by_cached_key(image),
            "plan" => machines.sort_by(|a, b| a.plan.cmp(&b.plan)),
            "state" => {
                machines.sort_by_cached_key(|m| (m.status().phase(), state_label(&m.status())));
            }
            "seen" => machines.sort_by_key(|m| m.seen_at),
            "address" => {
                machines.sort_by_cached_key(|m| {
                    m.seen_ip.as_ref().and_then(|ip| ip.parse::<std::net::IpAddr>().ok())
                });
            }
            "flashed" => machines.sort_by_key(|m| m.flashed_at),
            // the machines are already sorted by MAC address
            _ => {}
        }
        if is_descending {
            machines.reverse();
        }
    }
}

/// The sortable columns: all but the labels.
const HEADS: [Head; 7] = [
    ascending("MAC", "mac"),
    ascending("Image", "image"),
    ascending("Plan", "plan"),
    ascending("State", "state"),
    descending("Last seen", "seen"),
    ascending("Address", "address"),
    descending("Last flashed", "flashed"),
];

#[derive(Template)]
#[template(path = "machines.html")]
struct MachinesPage {
    frame: Frame,
    filter: MachineFilter,
    /// Number of all machines.
    total: usize,
    /// Number of machines that match the filter.
    found: usize,
    /// Index of the first machine on this page.
    first: usize,
    /// Choices for the number of machines per page, and whether each is selected.
    per_page: [(usize, bool); 3],
    rows: Vec<MachineRow>,
    columns: Vec<Column>,
    /// Phases to filter by, with their labels.
    phases: [(Phase, &'static str); 5],
    plans: Vec<String>,
    /// URL of the previous page.
    before: Option<String>,
    /// URL of the next page.
    after: Option<String>,
}

struct MachineRow {
    hyphens: String,
    phase: Phase,
    state: String,
    image: String,
    brief: Brief,
}

/// Shows the list.
pub async fn page(
    State(reads): State<MachineReads>,
    State(snapshots): State<Arc<Snapshots>>,
    frame: Frame,
    Params(filter): Params<MachineFilter>,
) -> Result<Response> {
    let list = reads.summaries(reads.search(&filter.q)?).await?;
    let FleetList { found: mut machines, total, plans } = list;
    let snapshot = snapshots.current();
    machines.retain(|machine| filter.matches(machine));
    filter.sort(&mut machines, &snapshot.names);
    let found = machines.len();
    let per_page =
        filter.per_page.parse().ok().filter(|n| PER_PAGE.contains(n)).unwrap_or(PER_PAGE[1]);
    let number =
        filter.page.parse::<usize>().unwrap_or(1).clamp(1, found.div_ceil(per_page).max(1));
    let first = (number - 1) * per_page;
    let rows: Vec<MachineRow> = machines
        .into_iter()
        .skip(first)
        .take(per_page)
        .map(|brief| row(brief, &snapshot.names))
        .collect();
    let page = MachinesPage {
        columns: columns(&HEADS, &filter.sort, |sort| filter.path_with("sort", sort)),
        before: (number > 1).then(|| filter.path_with("page", &(number - 1).to_string())),
        after: (first + rows.len() < found)
            .then(|| filter.path_with("page", &(number + 1).to_string())),
        phases: Phase::ALL.map(|phase| (phase, phase_label(phase))),
        total,
        found,
        first,
        per_page: PER_PAGE.map(|n| (n, n == per_page)),
        rows,
        plans,
        filter,
        frame,
    };
    render(&page)
}

fn row(brief: Brief, names: &HashMap<String, String>) -> MachineRow {
    let status = brief.status();
    let image = brief.image_ref.as_ref().map(|image| match names.get(image) {
        Some(name) => name.clone(),
        None => format!("{}… (not in the catalog)", image.chars().take(8).collect::<String>()),
    });
    MachineRow {
        hyphens: brief.mac.replace(':', "-"),
        phase: status.phase(),
        state: state_label(&status),
        image: image.unwrap_or_default(),
        brief,
    }
}

/// Redirects to the page of a machine, which may be unknown: saving it there adds it.
pub async fn add(notices: Notices, fields: Fields) -> Response {
    match parse_mac(fields.text("mac")) {
        Ok(mac) => Redirect::to(&format!("/ui/machines/{}", mac.hyphens())).into_response(),
        Err(error) => notices.redirect("/ui/machines", error),
    }
}
