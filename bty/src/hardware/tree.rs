//! The hardware of a machine as one tree, in the format of `lshw -json`.

use serde_json::Value;

use crate::disks::Disk;
use crate::disks::sysfs::text;
use crate::hardware::node::HardwareNode;
use crate::hardware::smbios::{self, SmbiosTable};
use crate::hardware::{Dmi, HardwareRoots, cpu, dmi, drives, memory, network, pci, read_file};

pub(super) fn lshw(disks: &[Disk], roots: &HardwareRoots) -> Value {
    let dmi = dmi::read(roots);
    // only root may read the table
    let bytes = read_file(&roots.sys.join("firmware/dmi/tables/DMI"), smbios::TABLE_BYTES_MAX)
        .unwrap_or_default();
    let table = SmbiosTable::parse(&bytes);
    let (cpus, threads) = cpu::nodes(&table, roots);
    let mut attached = network::nodes(roots);
    attached.extend(disks.iter().map(|disk| drives::attach(disk, roots)));
    let (buses, rest) = pci::nodes(roots, attached);
    // the most important first, because a tree that is too large is cut off at the end
    let core = core(&dmi, &table)
        .children(memory::firmware(&table, &dmi))
        .children(cpus)
        .children(memory::nodes(&table, roots))
        .children(buses)
        .children(rest);
    let root = root(&dmi, &table, roots).children([core]);
    let root = if threads > 1 { root.capable("smp", "Symmetric Multi-Processing") } else { root };
    root.render()
}

fn root(dmi: &Dmi, table: &SmbiosTable, roots: &HardwareRoots) -> HardwareNode {
    let name =
        text(&roots.proc.join("sys/kernel"), "hostname").unwrap_or_else(|| "computer".to_owned());
    // machines without DMI have a device tree instead
    let base = roots.sys.join("firmware/devicetree/base");
    HardwareNode::new(name, "system")
        .claimed()
        .described(dmi::chassis_description(dmi.chassis.as_deref()))
        .with("handle", table.system.map(|handle| format!("DMI:{handle:04X}")))
        .with("product", dmi.product.clone().or_else(|| text(&base, "model")))
        .with("vendor", dmi.vendor.clone())
        .with("version", dmi.version.clone())
        .with("serial", dmi.serial.clone().or_else(|| text(&base, "serial-number")))
        .with("width", Some(usize::BITS))
        .configured("chassis", dmi.chassis.clone())
        .configured("family", dmi.family.clone())
        .configured("sku", dmi.sku.clone())
        .configured("uuid", dmi.uuid.clone())
}

fn core(dmi: &Dmi, table: &SmbiosTable) -> HardwareNode {
    HardwareNode::new("core", "bus")
        .claimed()
        .described("Motherboard")
        .with("handle", table.board.map(|handle| format!("DMI:{handle:04X}")))
        .with("physid", Some("0"))
        .with("product", dmi.board_product.clone())
        .with("vendor", dmi.board_vendor.clone())
        .with("version", dmi.board_version.clone())
        .with("serial", dmi.board_serial.clone())
}
