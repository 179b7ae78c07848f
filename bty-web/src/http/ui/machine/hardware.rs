//! The inventory of a machine, formatted for people.

use std::collections::HashMap;

use bty_script::AssignedDisk;
use serde_json::Value;

use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::http::ui::pictures::{self, Part};

/// Limits of the displayed tree.
const NODES_MAX: usize = 2000;
const DEPTH_MAX: usize = 16;

/// The hardware of a machine, from the output of `lshw -json`.
#[derive(Default)]
pub(super) struct Hardware {
    /// Vendor, product and serial number.
    pub(super) system: String,
    /// Number and model of processors.
    pub(super) cpu: String,
    /// Size of the memory.
    pub(super) memory: String,
    pub(super) modules: Vec<String>,
    pub(super) cards: Vec<Card>,
    /// All nodes in tree order.
    pub(super) nodes: Vec<Node>,
    /// Volumes of disks, by the serial number of the disk.
    volumes: HashMap<String, Vec<Part>>,
}

/// A network card.
pub(super) struct Card {
    pub(super) what: String,
    pub(super) mac: String,
    /// True if the machine is identified by this MAC address.
    pub(super) is_own: bool,
}

/// A node of the tree.
pub(super) struct Node {
    pub(super) depth: usize,
    pub(super) class: String,
    pub(super) what: String,
}

impl Hardware {
    /// Reads the output of `lshw -json`; `own` is the address of the machine. If the text is not
    /// JSON, the result is empty.
    pub(super) fn read(text: Option<&str>, own: &Mac) -> Self {
        let mut hardware = Self::default();
        let Some(tree) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            return hardware;
        };
        let root = match &tree {
            Value::Array(nodes) => nodes.first().unwrap_or(&Value::Null),
            node => node,
        };
        hardware.system = describe(root);
        let mut cpus = Vec::new();
        hardware.walk(root, 0, own, &mut cpus);
        if let Some(first) = cpus.first() {
            hardware.cpu =
                if cpus.len() > 1 { format!("{} × {first}", cpus.len()) } else { first.clone() };
        }
        hardware
    }

    fn walk(&mut self, node: &Value, depth: usize, own: &Mac, cpus: &mut Vec<String>) {
        if self.nodes.len() >= NODES_MAX || depth > DEPTH_MAX {
            return;
        }
        let class = text(node, "class");
        let what = describe(node);
        self.nodes.push(Node { depth, class: class.clone(), what: what.clone() });
        match class.as_str() {
            "processor" if node["disabled"] != true => cpus.push(processor(node, &what)),
            "memory" if text(node, "id") == "memory" => {
                self.memory = node["size"].as_u64().map(bty::size::human).unwrap_or_default();
            }
            "memory" if text(node, "id").starts_with("bank") => {
                let size = node["size"].as_u64().map_or_else(|| "empty".into(), bty::size::human);
                self.modules.push(format!("{}: {size} {what}", text(node, "slot")));
            }
            "network" => {
                let mac = text(node, "serial");
                let is_own = mac.parse::<Mac>().is_ok_and(|mac| mac == *own);
                self.cards.push(Card { what, mac, is_own });
            }
            "disk" => {
                let mut parts = Vec::new();
                volumes(node, 0, &mut parts);
                self.volumes.insert(text(node, "serial"), parts);
            }
            _ => {}
        }
        for child in node["children"].as_array().into_iter().flatten() {
            self.walk(child, depth + 1, own, cpus);
        }
    }
}

fn volumes(node: &Value, depth: usize, parts: &mut Vec<Part>) {
    for child in node["children"].as_array().into_iter().flatten() {
        let size = child["size"].as_u64().or(child["capacity"].as_u64());
        if let (Some(size_bytes), "volume") = (size, text(child, "class").as_str()) {
            parts.push(Part { what: describe(child), size_bytes });
        } else if depth < 3 {
            volumes(child, depth + 1, parts);
        }
    }
}

fn processor(node: &Value, what: &str) -> String {
    match node["configuration"]["cores"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| Some(node["configuration"]["cores"].as_u64()?.to_string()))
    {
        Some(cores) => format!("{what}, {cores} cores"),
        None => what.to_owned(),
    }
}

fn text(node: &Value, field: &str) -> String {
    node[field].as_str().unwrap_or_default().trim().chars().take(256).collect()
}

/// Returns vendor and product, otherwise the description; for a system, with the serial number.
fn describe(node: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    for field in ["vendor", "product"] {
        let word = text(node, field);
        if !word.is_empty() && !words.iter().any(|known| known.contains(&word)) {
            words.push(word);
        }
    }
    if words.is_empty() {
        words.push(text(node, "description"));
    }
    if node["class"] == "system" && !text(node, "serial").is_empty() {
        words.push(format!("(serial number {})", text(node, "serial")));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// A disk of the inventory.
pub(super) struct Disk {
    pub(super) path: String,
    pub(super) model: String,
    pub(super) size: String,
    /// By what it is assigned: its serial number, or a selector. Empty if nothing tells it from the
    /// other disks.
    pub(super) selector: String,
    pub(super) transport: String,
    pub(super) is_readonly: bool,
    pub(super) is_removable: bool,
    /// True if it is the machine's assigned disk.
    pub(super) is_target: bool,
    /// The most recently flashed image, if it was written to this disk.
    pub(super) holds: String,
    pub(super) picture: String,
    pub(super) parts: Vec<Part>,
}

impl Disk {
    /// Returns path, model, size and transport in one line.
    pub(super) fn about(&self) -> String {
        let words = [self.path.as_str(), &self.model, &self.size, &self.transport];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// Returns the disks of a machine as posted.
pub(super) fn disks(
    machine: &Machine,
    hardware: &Hardware,
    names: &HashMap<String, String>,
) -> Vec<Disk> {
    let posted = machine.disks.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    let largest =
        posted.iter().filter_map(|disk| disk["size_bytes"].as_u64()).max().unwrap_or_default();
    let own = machine.target_serial.as_deref().and_then(|own| AssignedDisk::parse(own).ok());
    let disk = |disk: &Value| {
        let serial = text(disk, "serial");
        let parts = hardware.volumes.get(&serial).cloned().unwrap_or_default();
        let size = disk["size_bytes"].as_u64().map(bty::size::human);
        Disk {
            path: text(disk, "path"),
            model: [text(disk, "vendor"), text(disk, "model")].join(" ").trim().to_owned(),
            size: size.unwrap_or_else(|| text(disk, "size")),
            transport: text(disk, "tran"),
            is_readonly: disk["readonly"] == true,
            is_removable: disk["removable"] == true,
            is_target: own.as_ref().is_some_and(|own| own.matches(disk)),
            holds: holds(machine, &serial, names),
            picture: pictures::disk(disk, largest, &parts),
            selector: machine
                .disks
                .as_ref()
                .and_then(|all| AssignedDisk::naming(disk, all))
                .map_or_else(String::new, |name| name.to_string()),
            parts,
        }
    };
    posted.iter().map(disk).collect()
}

fn holds(machine: &Machine, serial: &str, names: &HashMap<String, String>) -> String {
    let flashed = machine.flashed.as_ref();
    let Some(flashed) =
        flashed.filter(|flashed| flashed.serial.as_deref().map(str::trim) == Some(serial))
    else {
        return String::new();
    };
    let name = flashed.image.as_ref().and_then(|image| names.get(image)).cloned();
    name.or_else(|| flashed.sha256.as_ref().map(|sha| format!("an image with SHA-256 {sha}")))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_is_summarized() {
        let tree = json!({ "id": "m", "class": "system", "vendor": "ACME", "product": "Rack 1",
            "serial": "42", "children": [
            { "id": "memory", "class": "memory", "size": 17179869184_u64, "children": [
                { "id": "bank:0", "class": "memory", "slot": "DIMM A",
                  "size": 17179869184_u64, "vendor": "RAM Co" }] },
            { "id": "cpu:0", "class": "processor", "product": "Fast 9",
              "configuration": { "cores": "8" } },
            { "id": "network", "class": "network", "product": "Gig",
              "serial": "52:54:00:AA:bb:01" },
            { "id": "nvme", "class": "disk", "serial": "S1", "children": [
                { "class": "volume", "size": 1_048_576, "description": "EFI" },
                { "class": "volume", "capacity": 5, "description": "ext4" }] },
        ]});
        let own: Mac = "52:54:00:aa:bb:01".parse().unwrap();
        let hardware = Hardware::read(Some(&tree.to_string()), &own);
        assert_eq!(hardware.system, "ACME Rack 1 (serial number 42)");
        assert_eq!(
            (hardware.cpu.as_str(), hardware.memory.as_str()),
            ("Fast 9, 8 cores", "16.0 GiB")
        );
        assert_eq!(hardware.modules, ["DIMM A: 16.0 GiB RAM Co"]);
        assert!(hardware.cards[0].is_own);
        let parts: Vec<&str> =
            hardware.volumes["S1"].iter().map(|part| part.what.as_str()).collect();
        assert_eq!(parts, ["EFI", "ext4"]);
        assert!(Hardware::read(Some("no JSON"), &own).nodes.is_empty());
    }
}
