//! The list of machines, which can be sorted, searched, filtered and grouped, and whose machines
//! can be changed together.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};

use super::columns::{Column, Head, ascending, columns, descending, unsorted};
use super::form::Fields;
use super::frame::Frame;
use super::notice::Notices;
use super::render::render;
use crate::domain::error::Result;
use crate::domain::mac::Mac;
use crate::http::extract::{Params, parse_mac};
use crate::http::state::service_group;
use crate::services::machine_reads::{Brief, MachineReads};
use crate::services::rates::Rates;
use crate::services::snapshot::Snapshots;

pub mod assign;
pub mod change;
mod confirmation;
mod disk_choice;
pub mod filter;
mod image_choice;
mod row;
mod selection;

use filter::{FilterChip, MachineFilter, PhaseChip, group_key};
use row::MachineRow;

/// Choices for the number of machines per page.
const PER_PAGE: [usize; 3] = [25, 50, 100];

const HEADS: [Head; 7] = [
    ascending("Machine", "name"),
    unsorted("Model"),
    ascending("State", "state"),
    ascending("Image", "image"),
    descending("Last seen", "seen"),
    descending("Discovered", "discovered"),
    unsorted("Labels"),
];

#[derive(Template)]
#[template(path = "machines.html")]
struct MachinesPage {
    frame: Frame,
    filter: MachineFilter,
    /// URL of this list.
    here: String,
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
    phases: Vec<PhaseChip>,
    chips: Vec<FilterChip>,
    plans: Vec<String>,
    /// URL of the previous page.
    before: Option<String>,
    /// URL of the next page.
    after: Option<String>,
}

/// The services of the list.
pub struct ListServices {
    reads: MachineReads,
    snapshots: Arc<Snapshots>,
    rates: Arc<Rates>,
}

service_group!(ListServices { reads, snapshots, rates });

impl ListServices {
    /// Returns the rows of `briefs`.
    async fn rows(
        &self,
        briefs: Vec<Brief>,
        groups: Option<&HashMap<String, usize>>,
        frame: &Frame,
    ) -> Result<Vec<MachineRow>> {
        let macs: Vec<Mac> = briefs.iter().filter_map(|brief| brief.mac.parse().ok()).collect();
        let listed = self.reads.listed(macs).await?;
        let snapshot = self.snapshots.current();
        let row = |brief: Brief| {
            let machine = listed.get(&brief.mac);
            MachineRow::new(brief, machine, &snapshot.names, &self.rates, frame.now)
        };
        let mut rows: Vec<MachineRow> = briefs.into_iter().map(row).collect();
        if let Some(counts) = groups {
            add_headings(&mut rows, counts);
        }
        Ok(rows)
    }
}

/// Shows the list.
pub async fn page(
    State(services): State<ListServices>,
    frame: Frame,
    Params(filter): Params<MachineFilter>,
) -> Result<Response> {
    let mut list = filter.read(&services.reads).await?;
    let phases = filter.phases(&list.found);
    filter.retain_state(&mut list.found);
    let mut machines = list.found;
    filter.sort(&mut machines, &services.snapshots.current().names);
    let found = machines.len();
    let per_page =
        filter.per_page.parse().ok().filter(|n| PER_PAGE.contains(n)).unwrap_or(PER_PAGE[1]);
    let number =
        filter.page.parse::<usize>().unwrap_or(1).clamp(1, found.div_ceil(per_page).max(1));
    let first = (number - 1) * per_page;
    let groups = filter.is_grouped().then(|| group_sizes(&machines));
    let shown = machines.into_iter().skip(first).take(per_page).collect();
    let rows = services.rows(shown, groups.as_ref(), &frame).await?;
    let page = MachinesPage {
        columns: columns(&HEADS, &filter.sort, |sort| filter.path_with("sort", sort)),
        before: (number > 1).then(|| filter.path_with("page", &(number - 1).to_string())),
        after: (first + rows.len() < found)
            .then(|| filter.path_with("page", &(number + 1).to_string())),
        here: filter.path(),
        phases,
        chips: filter.chips(),
        total: list.total,
        found,
        first,
        per_page: PER_PAGE.map(|n| (n, n == per_page)),
        rows,
        plans: list.plans,
        filter,
        frame,
    };
    render(&page)
}

fn group_of(machine: &Brief) -> String {
    group_key(machine).1.unwrap_or_default().to_owned()
}

fn group_sizes(machines: &[Brief]) -> HashMap<String, usize> {
    let mut sizes = HashMap::new();
    for machine in machines {
        *sizes.entry(group_of(machine)).or_default() += 1;
    }
    sizes
}

/// Adds headings where groups begin. A group that began on the page before has one too.
fn add_headings(rows: &mut [MachineRow], sizes: &HashMap<String, usize>) {
    let mut last = None;
    for row in rows {
        let group = group_of(&row.brief);
        if last.as_ref() != Some(&group) {
            let name = if group.is_empty() { "without a label" } else { group.as_str() };
            let size = sizes.get(&group).copied().unwrap_or_default();
            row.heading = Some(format!("{name}: {}", bty::text::count(size, "machine")));
            last = Some(group);
        }
    }
}

/// Redirects to the list, when the page of a form is loaded again.
pub async fn list() -> Redirect {
    Redirect::to("/ui/machines")
}

/// Redirects to the page of a machine, which may be unknown: saving it there adds it.
pub async fn add(notices: Notices, fields: Fields) -> Response {
    match parse_mac(fields.text("mac")) {
        Ok(mac) => Redirect::to(&format!("/ui/machines/{}", mac.hyphens())).into_response(),
        Err(error) => notices.redirect("/ui/machines", error),
    }
}
