//! Memory: the firmware's ROM, and the memory modules. Without SMBIOS only the total size is known.

use crate::disks::sysfs::text;
use crate::hardware::node::HardwareNode;
use crate::hardware::smbios::{MemoryArray, MemoryDevice, SmbiosTable};
use crate::hardware::{Dmi, HardwareRoots, names_in, read_file};

const MEMINFO_BYTES_MAX: u64 = 64 << 10;

/// Form factors of modules, section 7.18.1 of the SMBIOS specification.
const FORMS: &[(u8, &str)] = &[
    (3, "SIMM"),
    (5, "Chip"),
    (9, "DIMM"),
    (11, "Row of chips"),
    (12, "RIMM"),
    (13, "SODIMM"),
    (15, "FB-DIMM"),
];
/// Types of memory, section 7.18.2.
const KINDS: &[(u8, &str)] = &[
    (0x03, "DRAM"),
    (0x0f, "SDRAM"),
    (0x12, "DDR"),
    (0x13, "DDR2"),
    (0x14, "DDR2 FB-DIMM"),
    (0x18, "DDR3"),
    (0x1a, "DDR4"),
    (0x1b, "LPDDR"),
    (0x1c, "LPDDR2"),
    (0x1d, "LPDDR3"),
    (0x1e, "LPDDR4"),
    (0x1f, "Non-volatile"),
    (0x20, "HBM"),
    (0x21, "HBM2"),
    (0x22, "DDR5"),
    (0x23, "LPDDR5"),
    (0x24, "HBM3"),
];
/// Bits of the type detail, section 7.18.3.
const DETAILS: &[(u16, &str)] = &[
    (1 << 7, "Synchronous"),
    (1 << 13, "Registered (Buffered)"),
    (1 << 14, "Unbuffered (Unregistered)"),
];

/// The firmware, which `lshw` puts into the class `memory` because it is a ROM.
pub(super) fn firmware(table: &SmbiosTable, dmi: &Dmi) -> Option<HardwareNode> {
    if dmi.bios_vendor.is_none() && dmi.bios_version.is_none() && table.firmware.is_none() {
        return None;
    }
    let rom_bytes = table.firmware.as_ref().and_then(|firmware| firmware.rom_bytes);
    Some(
        HardwareNode::new("firmware", "memory")
            .claimed()
            .described("BIOS")
            .with(
                "handle",
                table.firmware.as_ref().map(|firmware| format!("DMI:{:04X}", firmware.handle)),
            )
            .with("vendor", dmi.bios_vendor.clone())
            .with("physid", Some("0"))
            .with("version", dmi.bios_version.clone())
            .with("date", dmi.bios_date.clone())
            .sized(rom_bytes, "bytes")
            .with("capacity", rom_bytes),
    )
}

/// One node per array of slots; most machines have one array. Without an SMBIOS table, one node
/// with the total size.
pub(super) fn nodes(table: &SmbiosTable, roots: &HardwareRoots) -> Vec<HardwareNode> {
    let mut arrays: Vec<Option<&MemoryArray>> =
        table.arrays.iter().filter(|array| array.is_system).map(Some).collect();
    if arrays.is_empty() {
        arrays.push(None);
    }
    let node = |(at, &one): (usize, &Option<&MemoryArray>)| {
        let slots = slots(table, one, at == 0);
        let installed =
            slots.iter().filter_map(|slot| slot.size_bytes).fold(0, u64::saturating_add);
        // one of several arrays may be empty, but not the only one
        let size =
            if installed == 0 && arrays.len() == 1 { online_bytes(roots) } else { Some(installed) };
        array(one, &slots, size)
    };
    arrays.iter().enumerate().map(node).collect()
}

/// The slots of `array`. The first array also gets the slots whose array is unknown.
fn slots<'a>(
    table: &'a SmbiosTable,
    array: Option<&MemoryArray>,
    is_first: bool,
) -> Vec<&'a MemoryDevice> {
    let is_in = |device: &&MemoryDevice| match table
        .arrays
        .iter()
        .find(|known| known.handle == device.array)
    {
        Some(known) => array.is_some_and(|array| array.handle == known.handle),
        None => is_first,
    };
    table.devices.iter().filter(is_in).collect()
}

fn array(array: Option<&MemoryArray>, slots: &[&MemoryDevice], size: Option<u64>) -> HardwareNode {
    HardwareNode::new("memory", "memory")
        .claimed()
        .described("System Memory")
        .with("handle", array.map(|array| format!("DMI:{:04X}", array.handle)))
        .with(
            "slot",
            array.filter(|array| array.is_on_board).map(|_| "System board or motherboard"),
        )
        .sized(size, "bytes")
        .children(slots.iter().enumerate().map(|(at, slot)| bank(at, slot)))
}

fn bank(at: usize, device: &MemoryDevice) -> HardwareNode {
    let node = HardwareNode::new(format!("bank:{at}"), "memory")
        .claimed()
        .with("handle", Some(format!("DMI:{:04X}", device.handle)))
        .with("physid", Some(format!("{at:x}")))
        .with("slot", device.slot.clone());
    if device.is_empty {
        return node.described("[empty]");
    }
    node.described(&description(device))
        .with("product", device.part.clone())
        .with("vendor", device.vendor.clone())
        .with("serial", device.serial.clone())
        .sized(device.size_bytes, "bytes")
        .with("width", device.width_bits)
        .with("clock", device.speed.map(|speed| speed * 1_000_000))
}

/// `DIMM DDR4 Synchronous 3200 MHz (0.3 ns)`.
fn description(device: &MemoryDevice) -> String {
    let form = FORMS.iter().find(|form| form.0 == device.form).map_or("Memory", |form| form.1);
    let mut parts = vec![form.to_owned()];
    parts.extend(KINDS.iter().find(|kind| kind.0 == device.kind).map(|kind| kind.1.to_owned()));
    parts.extend(
        DETAILS
            .iter()
            .filter(|detail| device.detail & detail.0 != 0)
            .map(|detail| detail.1.to_owned()),
    );
    if let Some(speed) = device.speed {
        // vendors call millions of transfers per second MHz
        let tenths_of_ns = (10_000 + speed / 2) / speed.max(1);
        parts.push(format!("{speed} MHz ({}.{} ns)", tenths_of_ns / 10, tenths_of_ns % 10));
    }
    parts.join(" ")
}

/// Size of all memory that is online or, if unknown, the size that is available to the kernel.
fn online_bytes(roots: &HardwareRoots) -> Option<u64> {
    let dir = roots.sys.join("devices/system/memory");
    let block = text(&dir, "block_size_bytes")
        .and_then(|hex| u64::from_str_radix(&hex, 16).ok())
        .unwrap_or(0);
    let is_online = |name: &String| {
        let number = name.strip_prefix("memory").filter(|rest| !rest.is_empty());
        number.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
            && text(&dir.join(name), "online").as_deref() == Some("1")
    };
    let blocks = names_in(&dir).iter().filter(|name| is_online(name)).count() as u64;
    let online = block.saturating_mul(blocks);
    if online > 0 { Some(online) } else { total_bytes(roots) }
}

/// Memory that the kernel manages: `MemTotal` of `/proc/meminfo`.
fn total_bytes(roots: &HardwareRoots) -> Option<u64> {
    let bytes = read_file(&roots.proc.join("meminfo"), MEMINFO_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
