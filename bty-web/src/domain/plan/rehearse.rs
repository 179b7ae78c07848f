//! Rehearses a plan on a described machine before it is saved, to find values that no machine can
//! carry out, such as an image without a disk.

use serde_json::{Value, json};

use super::Declared;
use super::evaluate::{DecisionContext, Evaluation};
use super::params::{Parameter, ParameterKind};
use crate::domain::mac::Mac;
use crate::domain::machine::boot::Boot;
use crate::domain::machine::contact::parse_boot;
use crate::domain::machine::order::parse_order;
use crate::domain::machine::{ClientContext, Machine};

/// Name of the image that the described machine is assigned.
const IMAGE: &str = "image of the described machine";
/// Its URL, which is never opened.
const IMAGE_SRC: &str = "https://images.example/described.img";
/// MAC address of the described machine.
const MAC: &str = "02:00:00:00:00:01";
/// Serial number of its only disk.
const SERIAL: &str = "DESCRIBED-1";

/// Times between rehearsals in milliseconds, so that some fall into a time window of a plan.
const BETWEEN_MS: i64 = 8 * 3_600_000;
/// Number of rehearsals.
const TIMES: i64 = 3;

/// Adds the image of the described machine to a catalog in TOML.
///
/// # Errors
/// [`ErrorKind::Catalog`](bty::ErrorKind::Catalog) when `toml` is not a catalog, or has an image of
/// that name.
pub fn catalog(toml: &str) -> bty::Result<String> {
    let mut catalog = bty::catalog::Catalog::parse(toml.as_bytes())?;
    let mut entry = bty::catalog::Entry::new(IMAGE, IMAGE_SRC)?;
    entry.sha256 = Some(bty::Digest::of(IMAGE.as_bytes()));
    catalog.add(entry)?;
    Ok(catalog.to_toml())
}

/// Evaluates `boot(m)` and `plan(m)` for a machine with an inventory, an image and a disk, at
/// several times of the day. Returns why their values are wrong, one sentence each.
///
/// A function that fails is no finding: a plan may refuse the described machine. The catalog of
/// `context` must be that of [`catalog`].
#[must_use]
pub fn rehearse(context: &DecisionContext<'_>, client: &ClientContext) -> Vec<String> {
    let mut problems = Vec::new();
    for time in 0..TIMES {
        let now = client.now.plus_ms(time * BETWEEN_MS);
        let client = ClientContext { now, ..client.clone() };
        let Some(found) = rehearse_at(context, &client) else { break };
        for problem in found {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

/// Returns the problems at one time; `None` if a function fails.
fn rehearse_at(context: &DecisionContext<'_>, client: &ClientContext) -> Option<Vec<String>> {
    let mut machine = described(context, client)?;
    let mut problems = Vec::new();
    let boot = parse_boot(&value(context, &mut machine, client, "boot")?, context);
    let is_live = matches!(boot, Ok(Boot::Live { .. }));
    problems.extend(boot.err());
    let order = value(context, &mut machine, client, "plan")?;
    // a plan that boots the disk may return anything, but half a flash is a mistake in any case
    let is_judged =
        |order: &Value| is_live || order.get("image").is_some() || order.get("disk").is_some();
    if order.is_object() && is_judged(&order) {
        problems.extend(parse_order(order, context).err());
    }
    Some(problems)
}

/// Returns the value of a function of the plan, null for an undefined one; `None` if it fails.
fn value(
    context: &DecisionContext<'_>,
    machine: &mut Machine,
    client: &ClientContext,
    function: &str,
) -> Option<Value> {
    match context.evaluate(machine, client, function, Vec::new()) {
        Evaluation::Value(value) => Some(value),
        Evaluation::Undefined => Some(Value::Null),
        Evaluation::Failed(..) => None,
    }
}

fn described(context: &DecisionContext<'_>, client: &ClientContext) -> Option<Machine> {
    let mac: Mac = MAC.parse().ok()?;
    let plan = context.plan.map_or("", |plan| &plan.name);
    Some(Machine {
        image_ref: bty::catalog::image_ref(IMAGE_SRC).ok().map(|image| image.to_string()),
        target_serial: Some(SERIAL.into()),
        params: required_params(&context.declared()),
        disks: Some(json!([{
            "path": "/dev/sda", "serial": SERIAL, "size_bytes": 1_000_204_886_016_u64,
            "model": "Described disk", "tran": "sata", "removable": false, "readonly": false,
        }])),
        disks_at: Some(client.now),
        hardware: json!({
            "vendor": "Vendor", "product": "Product", "version": "1", "serial": "M1",
            "cpu": "CPU", "cpus": 4, "memory_bytes": 17_179_869_184_u64,
        }),
        discovered_at: Some(client.now),
        ..Machine::new(mac, plan, client.now)
    })
}

/// Returns values for the parameters without a default.
fn required_params(declared: &Declared) -> serde_json::Map<String, Value> {
    let required = declared.parameters.iter().filter(|(_, parameter)| parameter.preset.is_none());
    required.map(|(name, parameter)| (name.clone(), example(parameter))).collect()
}

fn example(parameter: &Parameter) -> Value {
    match parameter.kind {
        ParameterKind::String => {
            let choice = parameter.choices.as_ref().and_then(|choices| choices.first().cloned());
            // an address is a text for any use
            let text = || "http://example.com/".to_owned();
            choice.or_else(|| parameter.characters.clone()).unwrap_or_else(text).into()
        }
        ParameterKind::Int => parameter.min.or(parameter.max).unwrap_or(1).into(),
        ParameterKind::Bool => false.into(),
        ParameterKind::Size => "100G".into(),
        ParameterKind::Image => IMAGE.into(),
    }
}
