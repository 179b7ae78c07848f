//! Saving a machine: an operator assigns its plan, image, disk and parameters.

use bty_script::AssignedDisk;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::contact::check_arguments;
use super::report::notify_plan;
use super::{ClientContext, Machine, Outcome, Stage};
use crate::domain::event::NewEvent;
use crate::domain::plan::bundled;
use crate::domain::plan::evaluate::DecisionContext;

/// The assignment of a machine, which an operator sets. Omitted fields get their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// What people call the machine, at most 128 characters. Need not be unique.
    #[serde(default)]
    pub name: String,
    /// Reference of an image of the catalog: 64 hexadecimal digits.
    #[serde(default)]
    pub bty_image_ref: Option<String>,
    /// At most 16 labels, each of at most 64 letters and digits of any script, spaces, `.`, `_` and
    /// `-`, beginning with a letter or digit.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Name of the plan.
    #[serde(default = "exit")]
    pub boot_mode: String,
    /// The drive that BIOS machines boot from, such as `0x80`.
    #[serde(default)]
    pub sanboot_drive: Option<String>,
    /// The disk that the plan may write, at most 128 characters: its serial number, or, where it
    /// has none of its own, a selector `wwn:…`, `by-path:…` or `where:model=…,size=…`.
    #[serde(default)]
    pub target_disk_serial: Option<String>,
    /// Values of the plan's parameters.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
    /// Additional arguments on the kernel command line of the live environment.
    #[serde(default)]
    pub extra_args: String,
    /// Version of the live environment, whose files must be present; empty for the server's
    /// default.
    #[serde(default)]
    pub netboot_version: String,
}

fn exit() -> String {
    bundled::IPXE_EXIT.to_owned()
}

impl Default for Assignment {
    fn default() -> Self {
        Self {
            name: String::new(),
            bty_image_ref: None,
            labels: Vec::new(),
            boot_mode: exit(),
            sanboot_drive: None,
            target_disk_serial: None,
            params: Map::new(),
            extra_args: String::new(),
            netboot_version: String::new(),
        }
    }
}

const NAME_CHARS_MAX: usize = 128;
const LABELS_MAX: usize = 16;
const LABEL_CHARS_MAX: usize = 64;
const SERIAL_CHARS_MAX: usize = 128;

impl Assignment {
    /// Returns the assignment of `machine`.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        Self {
            name: machine.name.clone(),
            bty_image_ref: machine.image_ref.clone(),
            labels: machine.labels.clone(),
            boot_mode: machine.plan.clone(),
            sanboot_drive: machine.sanboot_drive.clone(),
            target_disk_serial: machine.target_serial.clone(),
            params: machine.params.clone(),
            extra_args: machine.extra_args.clone(),
            netboot_version: machine.netboot_version.clone(),
        }
    }

    /// Returns the assignment as it is stored: labels sorted and without duplicates, the name and
    /// the serial number without surrounding blanks. Two assignments are equal only in this form.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.name = self.name.trim().to_owned();
        self.labels.sort();
        self.labels.dedup();
        self.target_disk_serial = self.target_disk_serial.map(|serial| serial.trim().to_owned());
        self
    }

    /// Returns all problems that can be found without the catalog and the plan, each with its
    /// field.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.name.chars().count() > NAME_CHARS_MAX || !is_shown(&self.name) {
            let why = format!(
                "must be at most {NAME_CHARS_MAX} characters, without control characters and \
                 invisible ones"
            );
            problems.push(("name", why));
        }
        if let Some(image) = &self.bty_image_ref
            && (image.len() != 64 || !image.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        {
            problems.push(("bty_image_ref", "must be 64 lowercase hexadecimal digits".into()));
        }
        if self.labels.len() > LABELS_MAX {
            problems.push((
                "labels",
                format!("must have at most {LABELS_MAX} entries, not {}", self.labels.len()),
            ));
        }
        problems.extend(self.labels.iter().take(LABELS_MAX).filter_map(|label| check_label(label)));
        if let Some(drive) = &self.sanboot_drive
            && !is_drive(drive)
        {
            problems.push((
                "sanboot_drive",
                "must be 0x followed by one or two hexadecimal digits".into(),
            ));
        }
        if let Some(serial) = &self.target_disk_serial {
            if serial.trim().is_empty() {
                problems
                    .push(("target_disk_serial", "must not be empty; omit it for no disk".into()));
            } else if serial.chars().count() > SERIAL_CHARS_MAX
                || serial.chars().any(char::is_control)
            {
                let why = format!(
                    "must be at most {SERIAL_CHARS_MAX} characters, without control characters"
                );
                problems.push(("target_disk_serial", why));
            } else if let Err(error) = AssignedDisk::parse(serial) {
                let hint = error.next_step().map_or_else(String::new, |next| format!("; {next}"));
                problems.push(("target_disk_serial", format!("{error}{hint}")));
            }
        }
        problems.extend(check_arguments(&self.extra_args).err().map(|why| ("extra_args", why)));
        if !self.netboot_version.is_empty()
            && !crate::domain::settings::is_tag(&self.netboot_version)
        {
            problems
                .push(("netboot_version", "must contain only letters, digits, ., _ and -".into()));
        }
        problems
    }
}

fn check_label(label: &str) -> Option<(&'static str, String)> {
    // other characters than ASCII include the combining marks of many scripts
    let is_foreign = |c: char| !c.is_ascii() && !c.is_whitespace();
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-') || is_foreign(c);
    let is_label = label.starts_with(char::is_alphanumeric)
        && label.chars().all(is_plain)
        && label.chars().count() <= LABEL_CHARS_MAX
        && is_shown(label);
    let shown: String = label.chars().take(LABEL_CHARS_MAX).collect();
    (!is_label).then(|| {
        let rule = "expected at most 64 letters, digits, spaces, ., _ and -, beginning with a \
                    letter or digit";
        ("labels", format!("invalid label {shown:?}: {rule}"))
    })
}

/// True if a terminal or a page shows all characters: none is a control character, and none changes
/// the direction of the text.
fn is_shown(text: &str) -> bool {
    matches!(bty::text::escape(text), std::borrow::Cow::Borrowed(_))
}

fn is_drive(drive: &str) -> bool {
    drive.strip_prefix("0x").is_some_and(|digits| {
        (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Saves an assignment to `machine`, or to `new` if the machine is unknown. A save is a new order
/// and resets the state of the plan, unless it changes only fields outside `ORDERING`. A save
/// without any change is a new order too: operators request another flash that way. Any save
/// releases an imported machine.
#[must_use]
pub fn apply_assignment(
    machine: Option<&Machine>,
    new: Machine,
    context: &DecisionContext<'_>,
    client: &ClientContext,
    assignment: &Assignment,
) -> Outcome<()> {
    let before = machine.map(Assignment::of);
    let mut after = machine.cloned().unwrap_or(new);
    let assignment = assignment.clone().normalized();
    let changed = before.as_ref().map_or_else(Vec::new, |before| differences(before, &assignment));
    after.name.clone_from(&assignment.name);
    after.plan.clone_from(&assignment.boot_mode);
    after.image_ref.clone_from(&assignment.bty_image_ref);
    after.target_serial.clone_from(&assignment.target_disk_serial);
    after.sanboot_drive.clone_from(&assignment.sanboot_drive);
    after.extra_args.clone_from(&assignment.extra_args);
    after.netboot_version.clone_from(&assignment.netboot_version);
    after.params.clone_from(&assignment.params);
    after.labels.clone_from(&assignment.labels);
    after.updated_at = client.now;
    let is_order = machine.is_none()
        || changed.is_empty()
        || changed.iter().any(|field| ORDERING.contains(field));
    let kind = if machine.is_some() { "machine.upserted" } else { "machine.created" };
    let mac = after.mac.clone();
    let summary = match (machine.is_some(), changed.is_empty()) {
        (false, _) => format!("{mac}: added with the plan {}", after.plan),
        (true, true) => format!("{mac}: saved again with the plan {}", after.plan),
        (true, false) => format!("{mac}: changed {}", changed.join(", ")),
    };
    let name = Some(&after.name).filter(|name| !name.is_empty());
    let details = json!({
        "name": name, "boot_mode": after.plan, "bty_image_ref": after.image_ref,
        "target_disk_serial": after.target_serial,
        "labels": after.labels, "sanboot_drive": after.sanboot_drive, "params": after.params,
        "extra_args": after.extra_args, "netboot_version": after.netboot_version,
        "changed": changed, "is_order": is_order,
    });
    let event = NewEvent::new(kind, mac.as_str(), summary).caused_by(&client.author());
    let mut events = vec![event.with(details.clone())];
    if is_order {
        let image = after.image_ref.as_ref().and_then(|image| context.images.get(image));
        after.image_sha256 = image.and_then(|image| image.sha256.clone());
        after.state = json!({});
        after.answers.clear();
        after.close_cycle(Stage::Superseded);
    }
    // an imported machine waits only for somebody to look at it, and its plan keeps its state
    if is_order || after.hold.as_deref() == Some(IMPORTED) {
        after.hold = None;
    }
    // a stalled machine retries after any save: another version of the live environment or other
    // kernel arguments may help
    if let Some(cycle) =
        after.cycle.as_mut().filter(|cycle| is_order || cycle.stage == Stage::Stalled)
    {
        cycle.is_past = true;
    }
    after.remember_event(client.now, kind);
    let mut details = details;
    details["changed"] = changed.into();
    notify_plan(&mut after, context, client, "machine.saved", &details, &mut events);
    Outcome { machine: after, events, answer: () }
}

/// Why a machine is on hold after an import. Any save releases it.
pub const IMPORTED: &str = "it was imported";

/// Fields whose change is a new order. Changes of other fields keep the state of the plan.
const ORDERING: [&str; 4] = ["boot_mode", "bty_image_ref", "target_disk_serial", "params"];

fn differences(before: &Assignment, after: &Assignment) -> Vec<&'static str> {
    let fields = [
        ("name", before.name != after.name),
        ("boot_mode", before.boot_mode != after.boot_mode),
        ("bty_image_ref", before.bty_image_ref != after.bty_image_ref),
        ("target_disk_serial", before.target_disk_serial != after.target_disk_serial),
        ("params", before.params != after.params),
        ("labels", before.labels != after.labels),
        ("sanboot_drive", before.sanboot_drive != after.sanboot_drive),
        ("extra_args", before.extra_args != after.extra_args),
        ("netboot_version", before.netboot_version != after.netboot_version),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
}
