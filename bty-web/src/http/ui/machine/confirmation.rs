//! The confirmation of a save that leads to a write, shown before the machine is saved.

use std::collections::HashMap;

use bty_script::AssignedDisk;
use serde_json::Value;

use super::hardware::{Hardware, disks};
use crate::domain::error::Result;
use crate::domain::mac::Mac;
use crate::domain::machine::architecture::mismatch;
use crate::domain::machine::save::Assignment;
use crate::domain::plan::simulate::Step;
use crate::services::machine_reads::{MachineDetails, MachineReads};

/// The image and the disk of a write, for an operator to confirm.
pub(super) struct Confirmation {
    pub(super) image: String,
    pub(super) image_size: String,
    /// Why the image does not start on the machine; empty if it does.
    pub(super) mismatch: String,
    pub(super) disk: String,
    pub(super) serial: String,
    /// True if the simulation writes at one of the next boots; otherwise a write may come later.
    pub(super) is_sure: bool,
    /// The boots at which it writes, in words.
    pub(super) when: String,
    /// The fields of the form that saves the machine.
    pub(super) fields: Vec<(String, String)>,
}

/// Returns a digest of the assignment to confirm. It changes if the image or the disk differs from
/// what was shown.
pub(super) fn digest(assignment: &Assignment) -> String {
    bty::Digest::of(serde_json::to_string(assignment).unwrap_or_default().as_bytes()).to_string()
}

impl Confirmation {
    pub(super) async fn new(
        machines: &MachineReads,
        mac: &Mac,
        assignment: &Assignment,
        steps: &[Step],
    ) -> Result<Self> {
        let MachineDetails { machine, images, .. } = machines.details(mac).await?;
        let writes: Vec<&Step> = steps.iter().filter(|step| step.writes()).collect();
        let first = writes.first();
        let image = assignment
            .bty_image_ref
            .as_ref()
            .and_then(|of| images.iter().find(|image| image.bty_image_ref == *of));
        let name = first
            .and_then(|step| step.image.clone())
            .or_else(|| image.map(|image| image.name.clone()));
        let serial = first
            .and_then(|step| step.disk.clone())
            .or(assignment.target_disk_serial.clone())
            .unwrap_or_default();
        let disks = machine
            .as_ref()
            .map(|machine| disks(machine, &Hardware::default(), &HashMap::new()))
            .unwrap_or_default();
        let listed = machine.as_ref().and_then(|machine| machine.disks.as_ref()?.as_array());
        let assigned = AssignedDisk::parse(&serial).ok();
        let is_assigned = |disk: &Value| assigned.as_ref().is_some_and(|a| a.matches(disk));
        let disk = listed
            .and_then(|listed| listed.iter().position(is_assigned))
            .and_then(|at| disks.get(at));
        let hardware = machine.as_ref().map_or(&Value::Null, |machine| &machine.hardware);
        let arch = image.and_then(|image| image.arch.as_deref());
        let boots: Vec<u32> = writes.iter().map(|step| step.boot).collect();
        Ok(Self {
            image: name.unwrap_or_else(|| "chosen by the plan".into()),
            image_size: image
                .and_then(|image| image.size_bytes)
                .map_or_else(String::new, bty::size::human),
            mismatch: mismatch(arch, hardware).unwrap_or_default(),
            disk: match (disk, serial.is_empty()) {
                (Some(disk), _) => disk.about(),
                (None, true) => "chosen by the plan".into(),
                (None, false) => "a disk that is not in the inventory".into(),
            },
            is_sure: !boots.is_empty(),
            serial,
            when: when(&boots),
            fields: fields(assignment),
        })
    }
}

/// Returns the assignment as form fields, with the digest that confirms it.
fn fields(assignment: &Assignment) -> Vec<(String, String)> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut fields = vec![
        ("boot_mode".to_owned(), assignment.boot_mode.clone()),
        ("bty_image_ref".to_owned(), text(&assignment.bty_image_ref)),
        ("target_disk_serial".to_owned(), text(&assignment.target_disk_serial)),
        ("name".to_owned(), assignment.name.clone()),
        ("labels".to_owned(), assignment.labels.join(", ")),
        ("sanboot_drive".to_owned(), text(&assignment.sanboot_drive)),
        ("extra_args".to_owned(), assignment.extra_args.clone()),
        ("netboot_version".to_owned(), assignment.netboot_version.clone()),
        ("confirmed".to_owned(), digest(assignment)),
    ];
    fields.extend(assignment.params.iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("param.{name}"), text)
    }));
    fields
}

/// Describes at which of the next boots a disk is written.
fn when(boots: &[u32]) -> String {
    let numbers: Vec<String> = boots.iter().map(u32::to_string).collect();
    match boots {
        [] => "when the plan decides so; as of now, at none of its next network boots".into(),
        [1] => "at its next network boot".into(),
        [1, ..] => format!(
            "at its next network boot, and again later (boots {} from now)",
            numbers.join(", ")
        ),
        _ => format!("at boot {} from now", numbers.join(", ")),
    }
}
