//! What plans on a server say: the machine they decide about, and the decisions.
//!
//! They are known everywhere, so that a plan compiles and is checked in one piece on the server, on
//! the machine and at a desk.

use rhai::plugin::*;
use rhai::{Dynamic, INT, Map};
use serde_json::Value;

use crate::convert::{from_json, from_rust};
use crate::decide::{Held, Machine};
use crate::error::{HostError, Outcome, raise_unplaced};

/// A decision of `boot(m)`.
fn boot(what: &str, more: &[(&str, Dynamic)]) -> Map {
    let mut decision = Map::new();
    decision.insert("boot".into(), what.into());
    decision.extend(more.iter().map(|(name, value)| ((*name).into(), value.clone())));
    decision
}

fn field(machine: &Machine, of: impl FnOnce(&Held) -> Value) -> Dynamic {
    from_json(&machine.with(|held| of(held)), false)
}

/// What keeps the bound image from being flashed to the bound disk, as a word for programs.
fn problem(held: &Held) -> Option<(&'static str, &'static str)> {
    let known = held
        .facts
        .image_ref
        .as_ref()
        .map(|image| image.parse().ok().and_then(|r| held.catalog.by_ref(&r)));
    match (known, &held.facts.target_serial) {
        (None, _) => Some(("no_image", "no image is bound to this machine")),
        (Some(None), _) => {
            Some(("orphan_ref", "the image that is bound to this machine is not in the catalog"))
        }
        (Some(Some(_)), None) => {
            Some(("no_target_disk", "no target disk is bound to this machine"))
        }
        (Some(Some(_)), Some(_)) => None,
    }
}

fn refuse<T>(why: &str) -> Outcome<T> {
    Err(raise_unplaced(
        HostError::new("binding", why).hint("bind an image and a target disk to the machine"),
    ))
}

#[export_module]
pub(super) mod functions {
    /// For `boot(m)`: the machine boots its disk.
    pub fn boot_disk() -> Map {
        boot("disk", &[])
    }

    /// The same, and the machine shows why.
    #[rhai_fn(name = "boot_disk")]
    pub fn boot_disk_because(reason: &str) -> Map {
        boot("disk", &[("reason", reason.into())])
    }

    /// For `boot(m)`: the machine boots the live environment, which asks for `plan(m)`.
    pub fn boot_live() -> Map {
        boot("live", &[])
    }

    /// The same with further words on the kernel command line, separated by blanks.
    #[rhai_fn(name = "boot_live")]
    pub fn boot_live_with(arguments: &str) -> Map {
        boot("live", &[("arguments", arguments.into())])
    }

    /// For `boot(m)`: iPXE hands back to the firmware, which goes on with its next boot device. The
    /// machine shows why.
    pub fn boot_firmware(reason: &str) -> Map {
        boot("firmware", &[("reason", reason.into())])
    }

    /// For `boot(m)`: iPXE goes on with the script at an `http://` or `https://` address.
    pub fn boot_chain(address: &str) -> Map {
        boot("chain", &[("address", address.into())])
    }

    /// MAC address: lower case, with colons.
    #[rhai_fn(get = "mac", pure)]
    pub fn mac(machine: &mut Machine) -> String {
        machine.with(|held| held.facts.mac.clone())
    }

    /// Its labels, an array of text.
    #[rhai_fn(get = "labels", pure)]
    pub fn labels(machine: &mut Machine) -> Dynamic {
        field(machine, |held| held.facts.labels.clone().into())
    }

    /// True when it has this label.
    #[rhai_fn(pure)]
    pub fn has_label(machine: &mut Machine, label: &str) -> bool {
        machine.with(|held| held.facts.labels.iter().any(|own| own == label))
    }

    /// Values of the plan's parameters.
    #[rhai_fn(get = "params", pure)]
    pub fn params(machine: &mut Machine) -> Dynamic {
        field(machine, |held| held.facts.params.clone())
    }

    /// What the plan remembers of the machine: a map. What is set here is kept; a new binding
    /// begins with none.
    #[rhai_fn(get = "state", pure)]
    pub fn state(machine: &mut Machine) -> Dynamic {
        machine.with(|held| held.state.clone())
    }

    #[rhai_fn(set = "state", pure)]
    pub fn set_state(machine: &mut Machine, state: Map) {
        machine.with(|held| held.state = state.into());
    }

    /// Its disks as it posted them: maps with `path`, `serial`, `size_bytes`, `tran`, `model` …
    #[rhai_fn(get = "disks", pure)]
    pub fn disks_of(machine: &mut Machine) -> Dynamic {
        machine.with(|held| from_json(&held.facts.disks, true))
    }

    /// Its hardware as it posted it: a map with `vendor`, `product`, `version`, `serial`, `cpu`,
    /// `cpus`, `memory_bytes`; `()` before.
    #[rhai_fn(get = "hardware", pure)]
    pub fn hardware(machine: &mut Machine) -> Dynamic {
        machine.with(|held| from_json(&held.facts.hardware, true))
    }

    /// The last flash that was proven: a map with `at`, `image` (its reference), `sha256`,
    /// `serial`; `()` before.
    #[rhai_fn(get = "flashed", pure)]
    pub fn flashed_last(machine: &mut Machine) -> Dynamic {
        field(machine, |held| held.facts.flashed.clone())
    }

    /// Its last events, oldest first: maps with `at` and `kind`.
    #[rhai_fn(get = "history", pure)]
    pub fn history(machine: &mut Machine) -> Dynamic {
        field(machine, |held| held.facts.history.clone())
    }

    /// When it was first seen, in seconds since 1970.
    #[rhai_fn(get = "discovered_at", pure)]
    pub fn discovered_at(machine: &mut Machine) -> INT {
        machine.with(|held| held.facts.discovered_at)
    }

    /// When it last posted an inventory, in seconds since 1970; `()` before.
    #[rhai_fn(get = "inventory_at", pure)]
    pub fn inventory_at(machine: &mut Machine) -> Dynamic {
        machine.with(|held| held.facts.inventory_at.map_or(Dynamic::UNIT, Dynamic::from))
    }

    /// The time, in seconds since 1970.
    #[rhai_fn(get = "now", pure)]
    pub fn now(machine: &mut Machine) -> INT {
        machine.with(|held| held.facts.now)
    }

    /// The time in the zone of the server: a map with `year`, `month`, `day`, `hour`, `minute`,
    /// `weekday` (1 is Monday).
    #[rhai_fn(get = "clock", pure)]
    pub fn clock(machine: &mut Machine) -> Dynamic {
        field(machine, |held| held.facts.clock.clone())
    }

    /// Base address of the server.
    #[rhai_fn(get = "server", pure)]
    pub fn server(machine: &mut Machine) -> String {
        machine.with(|held| held.facts.server.clone())
    }

    /// Address of the server's catalog.
    #[rhai_fn(get = "catalog_url", pure)]
    pub fn catalog_url(machine: &mut Machine) -> String {
        machine.with(|held| format!("{}/catalog.toml", held.facts.server))
    }

    /// The catalog of the server.
    #[rhai_fn(get = "catalog", pure)]
    pub fn catalog_of(machine: &mut Machine) -> bty::catalog::Catalog {
        machine.with(|held| (*held.catalog).clone())
    }

    /// The image that the machine is bound to, a map with `name`, `src`, `sha256`, `format`, `ref`.
    /// Fails when there is none.
    #[rhai_fn(pure, return_raw)]
    pub fn image(machine: &mut Machine) -> Outcome<Dynamic> {
        machine.with(|held| {
            let bound = held.facts.image_ref.as_deref().and_then(|image| image.parse().ok());
            match bound.and_then(|image| held.catalog.by_ref(&image)) {
                Some(entry) => from_rust(entry),
                None => refuse(
                    problem(held).map_or("no image is bound to this machine", |(_, why)| why),
                ),
            }
        })
    }

    /// The image of the catalog that a name or a reference means, as `image()`. Fails with names
    /// that are close.
    #[rhai_fn(name = "image", pure, return_raw)]
    pub fn image_called(machine: &mut Machine, name: &str) -> Outcome<Dynamic> {
        machine.with(|held| match held.catalog.find(name) {
            Ok(entry) => from_rust(entry),
            Err(error) => Err(raise_unplaced(error)),
        })
    }

    /// The disk that may be written, a map with `serial`. Fails when none is bound.
    #[rhai_fn(pure, return_raw)]
    pub fn target_disk(machine: &mut Machine) -> Outcome<Map> {
        match machine.with(|held| held.facts.target_serial.clone()) {
            Some(serial) => Ok(Map::from([("serial".into(), serial.into())])),
            None => refuse("no target disk is bound to this machine"),
        }
    }

    /// What keeps the bound image from being flashed: `no_image`, `orphan_ref` (not in the catalog)
    /// or `no_target_disk`; `()` when nothing does.
    #[rhai_fn(get = "problem", pure)]
    pub fn binding_problem(machine: &mut Machine) -> Dynamic {
        machine.with(|held| problem(held).map_or(Dynamic::UNIT, |(word, _)| word.into()))
    }

    /// A number from 0 to 99 that stays the same for this machine and `salt`: for rolling out to a
    /// part of the machines.
    #[rhai_fn(pure)]
    pub fn percentile(machine: &mut Machine, salt: &str) -> INT {
        let digest =
            machine.with(|held| bty::Digest::of(format!("{salt}\0{}", held.facts.mac).as_bytes()));
        let number = digest.as_bytes()[..8]
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (number % 100) as INT
    }

    /// The MAC address.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn to_string(machine: &mut Machine) -> String {
        mac(machine)
    }
}
