//! Machines as text: a table, and the facts about one.

use bty::size::human;
use serde_json::Value;

use super::print::out;
use super::remote::{age, shown, table_or};

/// Prints the machines that `filter` finds. `images` are those of the catalog.
pub(super) fn list(machines: &Value, images: &Value, filter: &str) {
    let row = |machine: &Value| {
        vec![
            shown(&machine["name"]),
            shown(&machine["mac"]),
            shown(&machine["boot_state"]),
            image_name(machine, images),
            age(&machine["last_seen_at"]),
        ]
    };
    let rows: Vec<Vec<String>> = machines.as_array().into_iter().flatten().map(row).collect();
    let if_empty = match filter {
        "" => "no machine has contacted the server yet".to_owned(),
        filter => format!("no machine matches {}", bty::text::escape(filter)),
    };
    table_or(&if_empty, &["Name", "MAC", "State", "Image", "Last seen"], &rows);
}

/// The name of the image that is assigned to `machine`; its reference if the catalog has it no
/// longer.
fn image_name(machine: &Value, images: &Value) -> String {
    let reference = &machine["bty_image_ref"];
    let is_assigned = |image: &&Value| !reference.is_null() && image["ref"] == *reference;
    let found = images.as_array().into_iter().flatten().find(is_assigned);
    shown(found.map_or(reference, |image| &image["name"]))
}

/// Prints the facts about a machine that an operator looks for.
pub(super) fn show(machine: &Value, images: &Value) {
    out!("{}  {}", shown(&machine["mac"]), shown(&machine["name"]));
    let fact = |label: &str, value: String| {
        if value != "-" {
            out!("  {label:<12} {value}");
        }
    };
    fact("state", shown(&machine["boot_state"]));
    fact("plan", shown(&machine["boot_mode"]));
    fact("image", image_name(machine, images));
    fact("disk", shown(&machine["target_disk_serial"]));
    fact("labels", words(&machine["labels"]));
    let params = machine["params"].as_object().into_iter().flatten();
    let params: Vec<String> = params.map(|(name, value)| format!("{name}={value}")).collect();
    fact("parameters", or_dash(&params.join(" ")));
    fact("arguments", shown(&machine["extra_args"]));
    fact("last seen", moment(&machine["last_seen_at"], &machine["last_seen_ip"], "from"));
    fact(
        "flashed",
        moment(&machine["last_flashed_at"], &machine["last_flashed_sha256"], "SHA-256"),
    );
    fact("other cards", words(&machine["macs"]));
    let hardware = &machine["hardware"];
    let parts = ["vendor", "product", "serial"].map(|name| hardware[name].as_str());
    fact("hardware", or_dash(&parts.into_iter().flatten().collect::<Vec<_>>().join(" ")));
    for disk in machine["known_disks"].as_array().into_iter().flatten() {
        fact("has disk", disk_text(disk));
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { bty::text::escape(text).into_owned() }
}

fn words(list: &Value) -> String {
    or_dash(&list.as_array().into_iter().flatten().map(shown).collect::<Vec<_>>().join(", "))
}

/// How long ago `time` was, and `more` about it.
fn moment(time: &Value, more: &Value, label: &str) -> String {
    match (time.is_null(), more.is_null()) {
        (true, _) => "-".to_owned(),
        (false, true) => format!("{} ago", age(time)),
        (false, false) => format!("{} ago, {label} {}", age(time), shown(more)),
    }
}

fn disk_text(disk: &Value) -> String {
    let size = disk["size_bytes"].as_u64().map(human);
    let text = |name: &str| disk[name].as_str().map(str::to_owned);
    let serial = text("serial").map(|serial| format!("serial {serial}"));
    let facts = [text("path"), size, text("model"), serial];
    or_dash(&facts.into_iter().flatten().collect::<Vec<_>>().join("  "))
}
