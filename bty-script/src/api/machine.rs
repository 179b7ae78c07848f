//! Functions for plans: the machine that a plan decides about, and the decisions of `boot(m)`.
//!
//! They are registered in every engine, so that a whole plan compiles and can be checked on the
//! server, on the machine and at a desk.

use bty::Digest;
use bty::catalog::Entry;
use rhai::plugin::*;
use rhai::{Dynamic, INT, Map};
use serde_json::Value;

use crate::api::types::{Maps, MaybeInt, MaybeMap, MaybeString, Names, Object};
use crate::assigned_disk::AssignedDisk;
use crate::convert::{from_json, from_rust, to_json};
use crate::error::{CallResult, HostError, raise_unplaced};
use crate::machine::{MachineData, MachineFacts, PlanMachine};

/// The return value of a plan's `boot(m)`.
fn boot(target: &str, fields: &[(&str, Dynamic)]) -> Map {
    let mut decision = Map::new();
    decision.insert("boot".into(), target.into());
    decision.extend(fields.iter().map(|(name, value)| ((*name).into(), value.clone())));
    decision
}

fn field(machine: &PlanMachine, get: impl FnOnce(&MachineData) -> Value) -> Dynamic {
    from_json(&machine.with(|data| get(data)), false)
}

/// Why the assigned image cannot be flashed to the assigned disk: a word for programs, and a
/// message.
fn problem(data: &MachineData) -> Option<(&'static str, &'static str)> {
    let known = data
        .facts
        .image_ref
        .as_ref()
        .map(|image| image.parse().ok().and_then(|r| data.catalog.by_ref(&r)));
    match (known, &data.facts.target_serial) {
        (None, _) => Some(("no_image", "this machine has no image assigned")),
        (Some(None), _) => {
            Some(("orphan_ref", "the image assigned to this machine is not in the catalog"))
        }
        (Some(Some(_)), None) => {
            Some(("no_target_disk", "this machine has no target disk assigned"))
        }
        (Some(Some(_)), Some(target)) => AssignedDisk::parse(target)
            .is_ok_and(|target| target.count_in(&data.facts.disks) > 1)
            .then_some(("ambiguous_disk", "several disks of this machine match the target disk")),
    }
}

/// The assigned disk, if there is one.
fn assigned_disk(data: &MachineData) -> CallResult<Option<AssignedDisk>> {
    let target = data.facts.target_serial.as_deref().map(AssignedDisk::parse);
    target.transpose().map_err(raise_unplaced)
}

fn refuse<T>(why: &str) -> CallResult<T> {
    Err(raise_unplaced(
        HostError::new("binding", why).hint("assign an image and a target disk to the machine"),
    ))
}

/// Returns the entry of the catalog, or the version of it that the machine keeps.
fn kept_version(entry: &Entry, facts: &MachineFacts) -> CallResult<Entry> {
    let Some(sha256) = &facts.image_sha256 else { return Ok(entry.clone()) };
    let sha256: Digest = sha256.parse().map_err(raise_unplaced)?;
    let mut kept = entry.clone();
    // what else the catalog says is about another version
    (kept.sha256, kept.sha512, kept.size_bytes) = (Some(sha256), None, None);
    (kept.packed, kept.index_sha256) = (None, None);
    Ok(kept)
}

#[export_module]
pub(super) mod functions {
    /// For `boot(m)`: the machine boots from its disk.
    pub fn boot_disk() -> Map {
        boot("disk", &[])
    }

    /// For `boot(m)`: the machine shows `reason` and boots from its disk.
    #[rhai_fn(name = "boot_disk")]
    pub fn boot_disk_because(reason: &str) -> Map {
        boot("disk", &[("reason", reason.into())])
    }

    /// For `boot(m)`: the machine boots the live environment, which then requests `plan(m)`.
    pub fn boot_live() -> Map {
        boot("live", &[])
    }

    /// For `boot(m)`: boots the live environment with additional kernel arguments, separated by
    /// spaces.
    #[rhai_fn(name = "boot_live")]
    pub fn boot_live_with(arguments: &str) -> Map {
        boot("live", &[("arguments", arguments.into())])
    }

    /// For `boot(m)`: the machine shows `reason`, and iPXE returns to the firmware, which tries its
    /// next boot device.
    pub fn boot_firmware(reason: &str) -> Map {
        boot("firmware", &[("reason", reason.into())])
    }

    /// For `boot(m)`: iPXE chainloads the script at an `http://` or `https://` URL.
    pub fn boot_chain(address: &str) -> Map {
        boot("chain", &[("address", address.into())])
    }

    /// The MAC address: lower case, with colons.
    #[rhai_fn(get = "mac", pure)]
    pub fn mac(machine: &mut PlanMachine) -> String {
        machine.with(|data| data.facts.mac.clone())
    }

    /// The labels, an array of strings.
    #[rhai_fn(get = "labels", pure)]
    pub fn labels(machine: &mut PlanMachine) -> Names {
        field(machine, |data| data.facts.labels.clone().into())
    }

    /// True if the machine has `label`.
    #[rhai_fn(pure)]
    pub fn has_label(machine: &mut PlanMachine, label: &str) -> bool {
        machine.with(|data| data.facts.labels.iter().any(|own| own == label))
    }

    /// Values of the plan's parameters, a map. Defaults are filled in.
    #[rhai_fn(get = "params", pure)]
    pub fn params(machine: &mut PlanMachine) -> Object {
        field(machine, |data| data.facts.params.clone())
    }

    /// A map in which the plan can store values about the machine; they stay from call to call. A
    /// new assignment starts with an empty map.
    #[rhai_fn(get = "state", pure)]
    pub fn state(machine: &mut PlanMachine) -> Object {
        machine.with(|data| data.state.clone())
    }

    #[rhai_fn(set = "state", pure)]
    pub fn set_state(machine: &mut PlanMachine, state: Map) {
        machine.with(|data| data.state = state.into());
    }

    /// The disks of the last inventory: maps with `path`, `serial`, `wwn`, `by_path`, `size_bytes`,
    /// `tran`, `model` and more.
    #[rhai_fn(get = "disks", pure)]
    pub fn disks_of(machine: &mut PlanMachine) -> Maps {
        machine.with(|data| from_json(&data.facts.disks, true))
    }

    /// The hardware of the last inventory: a map with `vendor`, `product`, `version`, `serial`,
    /// `arch` (`x86_64`, `arm64`), `cpu`, `cpus`, `memory_bytes`; `()` before the first inventory.
    #[rhai_fn(get = "hardware", pure)]
    pub fn hardware(machine: &mut PlanMachine) -> MaybeMap {
        machine.with(|data| from_json(&data.facts.hardware, true))
    }

    /// The last proven flash: a map with `at`, `image` (the image's reference), `sha256`, `serial`;
    /// `()` before the first one.
    #[rhai_fn(get = "flashed", pure)]
    pub fn flashed_last(machine: &mut PlanMachine) -> MaybeMap {
        field(machine, |data| data.facts.flashed.clone())
    }

    /// Recent events of the machine, oldest first: maps with `at` and `kind`.
    #[rhai_fn(get = "history", pure)]
    pub fn history(machine: &mut PlanMachine) -> Maps {
        field(machine, |data| data.facts.history.clone())
    }

    /// When the server first saw the machine, in seconds since 1970.
    #[rhai_fn(get = "discovered_at", pure)]
    pub fn discovered_at(machine: &mut PlanMachine) -> INT {
        machine.with(|data| data.facts.discovered_at)
    }

    /// When the machine last sent its inventory, in seconds since 1970; `()` before the first one.
    #[rhai_fn(get = "inventory_at", pure)]
    pub fn inventory_at(machine: &mut PlanMachine) -> MaybeInt {
        machine.with(|data| data.facts.inventory_at.map_or(Dynamic::UNIT, Dynamic::from))
    }

    /// The current time, in seconds since 1970.
    #[rhai_fn(get = "now", pure)]
    pub fn now(machine: &mut PlanMachine) -> INT {
        machine.with(|data| data.facts.now)
    }

    /// The current time in the server's time zone: a map with `year`, `month`, `day`, `hour`,
    /// `minute`, `weekday` (1 is Monday).
    #[rhai_fn(get = "clock", pure)]
    pub fn clock(machine: &mut PlanMachine) -> Object {
        field(machine, |data| data.facts.clock.clone())
    }

    /// Base URL of the server.
    #[rhai_fn(get = "server", pure)]
    pub fn server(machine: &mut PlanMachine) -> String {
        machine.with(|data| data.facts.server.clone())
    }

    /// URL of the server's catalog.
    #[rhai_fn(get = "catalog_url", pure)]
    pub fn catalog_url(machine: &mut PlanMachine) -> String {
        machine.with(|data| format!("{}/catalog.toml", data.facts.server))
    }

    /// The catalog of the server that sent the plan.
    #[rhai_fn(get = "catalog", pure)]
    pub fn catalog_of(machine: &mut PlanMachine) -> bty::catalog::Catalog {
        machine.with(|data| (*data.catalog).clone())
    }

    /// The assigned image: a map with `name`, `src`, `sha256`, `format`, `ref`. A plan may add
    /// `delta`, an option of `flash`. For a machine that keeps the version that was assigned to it,
    /// `sha256` is the digest of that one. Fails if no image is assigned, or if the catalog does not
    /// list it.
    #[rhai_fn(pure, return_raw)]
    pub fn image(machine: &mut PlanMachine) -> CallResult<Object> {
        machine.with(|data| {
            let assigned = data.facts.image_ref.as_deref().and_then(|image| image.parse().ok());
            match assigned.and_then(|image| data.catalog.by_ref(&image)) {
                Some(entry) => from_rust(&kept_version(entry, &data.facts)?),
                None => refuse(
                    problem(data).map_or("this machine has no image assigned", |(_, why)| why),
                ),
            }
        })
    }

    /// The image in the server's catalog with this name or reference: a map like that of `image()`.
    /// Fails if there is none, and suggests similar names.
    #[rhai_fn(name = "image", pure, return_raw)]
    pub fn image_called(machine: &mut PlanMachine, name: &str) -> CallResult<Object> {
        machine.with(|data| match data.catalog.find(name) {
            Ok(entry) => from_rust(entry),
            Err(error) => Err(raise_unplaced(error)),
        })
    }

    /// The assigned target disk, the only one that may be written: a map with `serial`, or with
    /// `selector` if it is assigned by something else. Fails if no disk is assigned.
    #[rhai_fn(pure, return_raw)]
    pub fn target_disk(machine: &mut PlanMachine) -> CallResult<Object> {
        match machine.with(|data| assigned_disk(data))? {
            Some(disk) => Ok(from_json(&disk.to_plan(), false)),
            None => refuse("this machine has no target disk assigned"),
        }
    }

    /// True if `disk`, one of `disks`, is the assigned target disk. False if none is assigned. To
    /// use it in a closure, copy the list first: `let disks = m.disks;`, then
    /// `disks.filter(|d| m.is_target(d))`.
    #[rhai_fn(pure, return_raw)]
    pub fn is_target(machine: &mut PlanMachine, disk: Map) -> CallResult<bool> {
        let disk = to_json(&disk.into())?;
        let assigned = machine.with(|data| assigned_disk(data))?;
        Ok(assigned.is_some_and(|assigned| assigned.matches(&disk)))
    }

    /// Why the assigned image cannot be flashed: `no_image`, `orphan_ref` (the image is not in the
    /// catalog), `no_target_disk` or `ambiguous_disk` (several disks of the last inventory match
    /// the target disk); `()` if it can be flashed.
    #[rhai_fn(get = "problem", pure)]
    pub fn assignment_problem(machine: &mut PlanMachine) -> MaybeString {
        machine.with(|data| problem(data).map_or(Dynamic::UNIT, |(word, _)| word.into()))
    }

    /// A number from 0 to 99 that depends only on the MAC address and `salt`. For rollouts to a
    /// part of the machines: `m.percentile("debian 13") < 10`.
    #[rhai_fn(pure)]
    pub fn percentile(machine: &mut PlanMachine, salt: &str) -> INT {
        let digest =
            machine.with(|data| bty::Digest::of(format!("{salt}\0{}", data.facts.mac).as_bytes()));
        let number = digest.as_bytes()[..8]
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (number % 100) as INT
    }

    /// The MAC address of the machine.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn to_string(machine: &mut PlanMachine) -> String {
        mac(machine)
    }
}
