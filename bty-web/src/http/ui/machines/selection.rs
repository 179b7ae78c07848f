//! Which machines a form of the list selects.

use super::filter::MachineFilter;
use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::http::extract::ClientGone;
use crate::http::ui::form::Fields;
use crate::services::access::Principal;
use crate::services::machine_reads::MachineReads;
use crate::services::plan_simulation::SimulationRequest;

/// Who has sent a form.
pub(super) struct FormSender {
    pub(super) who: ClientContext,
    pub(super) principal: Principal,
    pub(super) gone: ClientGone,
}

impl FormSender {
    /// Returns the sender of a change, which simulates what it does.
    pub(super) fn request(&self) -> SimulationRequest {
        SimulationRequest {
            who: self.who.clone(),
            principal: self.principal.clone(),
            gone: self.gone.0.clone(),
        }
    }
}

/// The machines that an operator has ticked, or all that match the filter of the list.
pub(super) struct TickedMachines {
    /// Their MAC addresses.
    pub(super) macs: Vec<String>,
    /// The fields with which a further form selects the same machines.
    pub(super) hidden: Vec<(String, String)>,
    /// URL of the list.
    pub(super) back: String,
}

impl TickedMachines {
    /// Selects one machine, whose form leads back to its page.
    pub(super) fn one(mac: &str, hyphens: &str) -> Self {
        Self {
            macs: vec![mac.to_owned()],
            hidden: vec![("mac".to_owned(), mac.to_owned())],
            back: format!("/ui/machines/{hyphens}"),
        }
    }

    /// Reads the selection from a form.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) when no machine is selected.
    pub(super) async fn read(reads: &MachineReads, fields: &Fields) -> Result<Self> {
        let filter = MachineFilter::of_fields(fields);
        let parameters = filter.parameters().into_iter();
        let mut hidden: Vec<(String, String)> =
            parameters.map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let macs: Vec<String> = if fields.has("all") {
            hidden.push(("all".into(), "1".into()));
            let mut list = filter.read(reads).await?;
            filter.retain_state(&mut list.found);
            list.found.into_iter().map(|machine| machine.mac).collect()
        } else {
            let macs: Vec<String> = fields.all("mac").map(str::to_owned).collect();
            hidden.extend(macs.iter().map(|mac| ("mac".to_owned(), mac.clone())));
            macs
        };
        if macs.is_empty() {
            return Err(Error::invalid("no machine is selected: tick at least one"));
        }
        Ok(Self { macs, hidden, back: filter.path() })
    }
}

/// Returns the URL of the list from which a form was sent.
pub(super) fn list_of(fields: &Fields) -> String {
    MachineFilter::of_fields(fields).path()
}
