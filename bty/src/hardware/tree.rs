//! The machine as a tree in the shape of `lshw -json`: classes, ids and units are those that readers of it know.

use std::path::Path;

use serde_json::{Value, json};

use super::smbios::{MemoryModule, Smbios};
use super::{Dmi, dmi, hostname, network, processor, read};
use crate::disks::{Disk, SystemRoots};

/// More devices of one machine are left out.
const DEVICES_MAX: usize = 512;

/// The machine below `roots`, with its whole `disks`.
pub(super) fn of(roots: &SystemRoots, disks: &[&Disk]) -> Value {
    let facts = dmi(roots);
    let table = read::bytes(&roots.sys.join("firmware/dmi/tables/DMI")).unwrap_or_default();
    let smbios = Smbios::parse(&table);
    let mut core =
        json!({ "id": "core", "class": "bus", "claimed": true, "description": "Motherboard", "physid": "0" });
    fill(
        &mut core,
        &[("vendor", &facts.board_vendor), ("product", &facts.board_product), ("serial", &facts.board_serial)],
    );
    let mut children: Vec<Value> = firmware(&facts).into_iter().collect();
    children.push(memory(roots, &smbios.memory));
    children.extend(processor::nodes(roots, &smbios.sockets));
    children.extend(network::nodes(roots));
    children
        .extend(disks.iter().take(DEVICES_MAX).enumerate().map(|(number, disk)| disk_node(number, disk, disks.len())));
    children.extend(controllers(roots));
    core["children"] = json!(children);
    let mut root = json!({
        "id": hostname(&roots.proc),
        "class": "system",
        "claimed": true,
        "description": "Computer",
        "width": usize::BITS,
    });
    fill(
        &mut root,
        &[
            ("vendor", &facts.vendor),
            ("product", &facts.product),
            ("version", &facts.version),
            ("serial", &facts.serial),
        ],
    );
    if let Some(uuid) = &facts.uuid {
        root["configuration"] = json!({ "uuid": uuid });
    }
    root["children"] = json!([core]);
    root
}

/// Sets the fields that are known.
fn fill(node: &mut Value, fields: &[(&str, &Option<String>)]) {
    for (name, value) in fields {
        if let Some(value) = value {
            node[*name] = json!(value);
        }
    }
}

fn firmware(facts: &Dmi) -> Option<Value> {
    facts.bios_version.as_ref()?;
    let mut node = json!({ "id": "firmware", "class": "memory", "claimed": true, "description": "BIOS" });
    fill(&mut node, &[("vendor", &facts.bios_vendor), ("version", &facts.bios_version), ("date", &facts.bios_date)]);
    Some(node)
}

/// All memory, with a bank for each slot that the firmware knows.
fn memory(roots: &SystemRoots, modules: &[MemoryModule]) -> Value {
    let installed: u64 = modules.iter().map(|module| module.size_bytes).sum();
    let size = if installed > 0 { Some(installed) } else { memory_of_kernel(roots) };
    let mut node = json!({ "id": "memory", "class": "memory", "claimed": true, "description": "System memory" });
    if let Some(size) = size {
        node["units"] = json!("bytes");
        node["size"] = json!(size);
    }
    if !modules.is_empty() {
        node["children"] = modules.iter().enumerate().map(|(number, module)| bank(number, module)).collect();
    }
    node
}

/// `MemTotal`, which is what the firmware left of it.
fn memory_of_kernel(roots: &SystemRoots) -> Option<u64> {
    let text = read::text(&roots.proc.join("meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn bank(number: usize, module: &MemoryModule) -> Value {
    let mut words = vec!["DIMM"];
    words.extend(module.kind);
    let mut description = words.join(" ");
    if let Some(speed) = module.speed {
        description.push_str(&format!(" {speed} MT/s"));
    }
    if module.size_bytes == 0 {
        description = "[empty]".into();
    }
    let mut node =
        json!({ "id": format!("bank:{number}"), "class": "memory", "claimed": true, "description": description });
    fill(
        &mut node,
        &[("vendor", &module.vendor), ("product", &module.product), ("serial", &module.serial), ("slot", &module.slot)],
    );
    if module.size_bytes > 0 {
        node["units"] = json!("bytes");
        node["size"] = json!(module.size_bytes);
        if let Some(speed) = module.speed {
            node["clock"] = json!(u64::from(speed) * 1_000_000);
        }
    }
    node
}

fn disk_node(number: usize, disk: &Disk, all: usize) -> Value {
    let id = if all > 1 { format!("disk:{number}") } else { "disk".to_owned() };
    let mut node = json!({
        "id": id,
        "class": "disk",
        "claimed": true,
        "description": disk.transport.as_ref().map_or("Disk".to_owned(), |transport| format!("{} disk", transport.to_uppercase())),
        "logicalname": disk.path.display().to_string(),
        "units": "bytes",
        "size": disk.size_bytes,
        "configuration": {
            "logicalsectorsize": disk.logical_sector_bytes.to_string(),
            "sectorsize": disk.physical_sector_bytes.to_string(),
        },
    });
    fill(&mut node, &[("vendor", &disk.vendor), ("product", &disk.model), ("serial", &disk.serial)]);
    node
}

/// PCI devices that are storage controllers or displays.
fn controllers(roots: &SystemRoots) -> Vec<Value> {
    let mut counts = [0, 0];
    let mut nodes = Vec::new();
    for dir in read::entries(&roots.sys.join("bus/pci/devices")).iter().take(DEVICES_MAX) {
        // base class in the third byte, PCI Code and ID Assignment Specification
        let (kind, name, description) = match read::number(&dir.join("class")).map(|class| class >> 16) {
            Some(1) => (0, "storage", "Mass storage controller"),
            Some(3) => (1, "display", "Display controller"),
            _ => continue,
        };
        let mut node = json!({ "id": format!("{name}:{}", counts[kind]), "class": name, "claimed": true, "description": description });
        counts[kind] += 1;
        describe_device(&mut node, dir);
        if let Some(driver) = read::link_name(&dir.join("driver")) {
            node["configuration"] = json!({ "driver": driver });
        }
        nodes.push(node);
    }
    nodes
}

/// Bus address, vendor and product of the device in the directory `device` of sysfs.
pub(super) fn describe_device(node: &mut Value, device: &Path) {
    let real = device.canonicalize().unwrap_or_else(|_| device.to_owned());
    // a virtio interface is a child of the PCI device that has the address
    let pci = real.ancestors().find(|dir| is_pci_address(&read::name(dir)));
    let usb = real.ancestors().find(|dir| dir.join("idVendor").exists());
    if let Some(dir) = usb {
        node["businfo"] = json!(format!("usb@{}", read::name(dir).replacen('-', ":", 1)));
        fill(
            node,
            &[("vendor", &read::text(&dir.join("manufacturer"))), ("product", &read::text(&dir.join("product")))],
        );
    } else if let Some(dir) = pci {
        node["businfo"] = json!(format!("pci@{}", read::name(dir)));
        let id = |name: &str| read::number(&dir.join(name)).map(|id| format!("{id:04x}"));
        if let (Some(vendor), Some(device)) = (id("vendor"), id("device")) {
            node["product"] = json!(format!("PCI device {vendor}:{device}"));
            node["vendor"] = json!(vendor);
        }
    }
}

/// `0000:00:1f.6`.
fn is_pci_address(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split([':', '.']).collect();
    parts.len() == 4 && parts.iter().all(|part| digits(part)) && name.contains('.')
}
