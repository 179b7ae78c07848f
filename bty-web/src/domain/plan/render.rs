//! Renders an order for the live environment: a plan script, or JSON.

use bty_script::HostError;
use bty_script::plan::{Header, JsonPlan, PlanScript};
use serde_json::Value;

use super::Plan;
use crate::domain::mac::Mac;
use crate::domain::machine::order::{Mode, Order};

/// Returns the plan script for `order`, for the network card `card` of a machine; `None` if the
/// order needs no script.
///
/// # Errors
/// If the order contains a value that cannot be written as a literal in a script.
pub fn script(card: &Mac, plan: &Plan, order: &Order) -> Result<Option<String>, HostError> {
    if !matches!(order.mode, Mode::Flash | Mode::Script) || !plan.declared.runs {
        return Ok(None);
    }
    let header = Header {
        machine: card.to_string(),
        plan: plan.name.clone(),
        revision: u64::try_from(plan.revision).unwrap_or_default(),
        cycle: order.token.clone(),
    };
    PlanScript { header, value: order.value.clone(), source: plan.source.clone() }
        .render()
        .map(Some)
}

/// Returns the order as JSON, for live environments that run no scripts. An order that only a
/// script can express becomes `interactive`.
#[must_use]
pub fn json(order: &Order, base: &str) -> JsonPlan {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match order.mode {
        Mode::Flash if order.value["disk"]["serial"].is_string() => JsonPlan::Flash {
            image: text(&order.value["image"]["src"]).unwrap_or_default(),
            target_disk_serial: text(&order.value["disk"]["serial"]).unwrap_or_default(),
            name: text(&order.value["image"]["name"]),
            disk_image_sha: text(&order.value["image"]["sha256"]),
            format: text(&order.value["image"]["format"]),
        },
        // a selector too needs a script
        Mode::Flash | Mode::Interactive | Mode::Script => JsonPlan::Interactive {
            catalog: Some(
                text(&order.value["catalog"]).unwrap_or_else(|| format!("{base}/catalog.toml")),
            ),
        },
        Mode::Inventory => JsonPlan::Inventory,
        Mode::Exit => JsonPlan::Exit,
    }
}
