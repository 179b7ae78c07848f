//! PCI devices and bridges as trees, with the disks and network interfaces attached to them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::disks::sysfs::text;
use crate::hardware::node::HardwareNode;
use crate::hardware::{HardwareRoots, names_in};

/// A disk or a network interface, to be put below a PCI device.
pub(super) struct Attached {
    /// The address of that device; absent when there is none.
    pub(super) to: Option<String>,
    pub(super) is_network: bool,
    pub(super) node: HardwareNode,
}

/// The names of a PCI class: class number, subclass number (`None` for any other), id in the tree,
/// class in the tree, description.
///
/// Numbers: PCI Code and ID Assignment Specification, section 1.
type PciClass = (u8, Option<u8>, &'static str, &'static str, &'static str);

const KINDS: &[PciClass] = &[
    (0x01, Some(0x00), "scsi", "storage", "SCSI storage controller"),
    (0x01, Some(0x01), "ide", "storage", "IDE interface"),
    (0x01, Some(0x04), "raid", "storage", "RAID bus controller"),
    (0x01, Some(0x06), "sata", "storage", "SATA controller"),
    (0x01, Some(0x07), "sas", "storage", "Serial Attached SCSI controller"),
    (0x01, Some(0x08), "nvme", "storage", "NVMe device"),
    (0x01, None, "storage", "storage", "Mass storage controller"),
    (0x02, Some(0x00), "network", "network", "Ethernet controller"),
    (0x02, Some(0x07), "network", "network", "InfiniBand controller"),
    (0x02, None, "network", "network", "Network controller"),
    (0x03, Some(0x00), "display", "display", "VGA compatible controller"),
    (0x03, Some(0x02), "display", "display", "3D controller"),
    (0x03, None, "display", "display", "Display controller"),
    (0x04, Some(0x03), "multimedia", "multimedia", "Audio device"),
    (0x04, None, "multimedia", "multimedia", "Multimedia controller"),
    (0x06, Some(0x00), "host", "bridge", "Host bridge"),
    (0x06, Some(0x01), "isa", "bridge", "ISA bridge"),
    (0x06, Some(0x04), "pci", "bridge", "PCI bridge"),
    (0x06, None, "bridge", "bridge", "Bridge"),
    (0x07, None, "communication", "communication", "Communication controller"),
    (0x09, None, "input", "input", "Input device controller"),
    (0x0c, Some(0x03), "usb", "bus", "USB controller"),
    (0x0c, Some(0x05), "serial", "bus", "SMBus"),
    (0x0c, None, "serial", "bus", "Serial bus controller"),
    (0x0d, None, "network", "network", "Wireless controller"),
    // accelerators and memory controllers are not put into the classes `processor` and `memory`,
    // where tools expect CPUs and memory modules
    (0x05, None, "generic", "generic", "Memory controller"),
    (0x08, None, "generic", "generic", "System peripheral"),
    (0x0b, None, "generic", "generic", "Co-processor"),
    (0x10, None, "generic", "generic", "Encryption controller"),
    (0x11, None, "generic", "generic", "Signal processing controller"),
    (0x12, None, "generic", "generic", "Processing accelerators"),
];
const UNKNOWN: PciClass = (0, None, "generic", "generic", "Unassigned class");
const HOST_BRIDGE: u32 = 0x0600;
const NETWORK: u32 = 0x02;

/// Vendors of parts that are in most machines; others are shown by number.
const VENDORS: &[(u16, &str)] = &[
    (0x1000, "Broadcom / LSI"),
    (0x1002, "Advanced Micro Devices, Inc. [AMD/ATI]"),
    (0x1022, "Advanced Micro Devices, Inc. [AMD]"),
    (0x102b, "Matrox Electronics Systems Ltd."),
    (0x1077, "QLogic Corp."),
    (0x10de, "NVIDIA Corporation"),
    (0x10ec, "Realtek Semiconductor Co., Ltd."),
    (0x1234, "QEMU"),
    (0x144d, "Samsung Electronics Co Ltd"),
    (0x14c3, "MEDIATEK Corp."),
    (0x14e4, "Broadcom Inc. and subsidiaries"),
    (0x15ad, "VMware"),
    (0x15b3, "Mellanox Technologies"),
    (0x15b7, "Sandisk Corp"),
    (0x168c, "Qualcomm Atheros"),
    (0x17cb, "Qualcomm Technologies, Inc"),
    (0x1912, "Renesas Electronics Corp."),
    (0x1987, "Phison Electronics Corporation"),
    (0x1a03, "ASPEED Technology, Inc."),
    (0x1af4, "Red Hat, Inc."),
    (0x1b21, "ASMedia Technology Inc."),
    (0x1b36, "Red Hat, Inc."),
    (0x1b4b, "Marvell Technology Group Ltd."),
    (0x1c5c, "SK hynix"),
    (0x1d0f, "Amazon.com, Inc."),
    (0x1d6a, "Aquantia Corp."),
    (0x8086, "Intel Corporation"),
    (0xc0a9, "Micron/Crucial Technology"),
];

struct PciDevice {
    /// Domain, bus, device and function: `0000:00:1f.6`.
    address: String,
    dir: PathBuf,
    /// Class and subclass in one number.
    class: u32,
}

/// The trees of all host bridges, with `attached` below their devices, and those of `attached` that
/// belong to no known PCI device.
pub(super) fn nodes(
    roots: &HardwareRoots,
    attached: Vec<Attached>,
) -> (Vec<HardwareNode>, Vec<HardwareNode>) {
    let devices = devices(roots);
    let known: HashSet<String> = devices.iter().map(|device| device.address.clone()).collect();
    let mut tree = Tree { below: BTreeMap::new(), attached: BTreeMap::new() };
    let mut buses = BTreeMap::<String, Vec<PciDevice>>::new();
    for device in devices {
        match device.dir.parent().and_then(address_in).filter(|parent| known.contains(parent)) {
            Some(parent) => tree.below.entry(parent).or_default().push(device),
            None => buses.entry(device.bus().to_owned()).or_default().push(device),
        }
    }
    let mut rest = Vec::new();
    for thing in attached {
        match thing.to.clone().filter(|address| known.contains(address)) {
            Some(address) => tree.attached.entry(address).or_default().push(thing),
            None => rest.push(thing.node),
        }
    }
    (buses.into_iter().map(|(bus, devices)| tree.bus(&bus, devices)).collect(), rest)
}

/// All devices, sorted by address.
fn devices(roots: &HardwareRoots) -> Vec<PciDevice> {
    let dir = roots.sys.join("bus/pci/devices");
    let device = |address: String| {
        let dir = fs::canonicalize(dir.join(&address)).ok()?;
        let class = number(&dir, "class").unwrap_or(0) >> 8;
        is_address(&address).then_some(PciDevice { address, dir, class })
    };
    names_in(&dir).into_iter().filter_map(device).collect()
}

/// Devices and attachments by the address of their parent. Each is taken out once, so that a circle
/// of parents ends.
struct Tree {
    below: BTreeMap<String, Vec<PciDevice>>,
    attached: BTreeMap<String, Vec<Attached>>,
}

impl Tree {
    /// The node of a host bridge, with its whole bus below it.
    fn bus(&mut self, bus: &str, mut devices: Vec<PciDevice>) -> HardwareNode {
        let host = devices
            .iter()
            .position(|device| device.class == HOST_BRIDGE)
            .map(|at| devices.remove(at));
        let handle = Some(format!("PCIBUS:{bus}"));
        let node = HardwareNode::new("pci", "bridge").claimed().described("PCI bus");
        let node =
            host.map_or(node.clone(), |host| node.merged(host.node())).with("handle", handle);
        node.children(devices.iter().map(|device| self.device(device)))
    }

    fn device(&mut self, device: &PciDevice) -> HardwareNode {
        let mut things = self.attached.remove(&device.address).unwrap_or_default();
        let mut node = device.node();
        // a card with one interface is shown as one node, a card with several has them below it
        if device.class >> 8 == NETWORK
            && things.iter().filter(|thing| thing.is_network).count() == 1
        {
            let at = things.iter().position(|thing| thing.is_network).unwrap_or(0);
            node = node.merged(things.remove(at).node);
        }
        let below = self.below.remove(&device.address).unwrap_or_default();
        let below: Vec<HardwareNode> = below.iter().map(|device| self.device(device)).collect();
        node.children(below).children(things.into_iter().map(|thing| thing.node))
    }
}

impl PciDevice {
    /// Domain and bus, from the address: `0000:00`.
    fn bus(&self) -> &str {
        self.address.rsplit_once(':').map_or("", |(bus, _)| bus)
    }

    fn node(&self) -> HardwareNode {
        let kind = kind(self.class);
        let id = |name: &str| number(&self.dir, name).and_then(|id| u16::try_from(id).ok());
        let (vendor, product) = (id("vendor"), id("device"));
        let slot =
            self.address.rsplit_once(':').map_or("", |(_, slot)| slot).trim_start_matches('0');
        let slot = slot.strip_suffix(".0").unwrap_or(slot);
        let driver = driver(&self.dir);
        let node = HardwareNode::new(kind.2, kind.3)
            .described(kind.4)
            .with("handle", Some(format!("PCI:{}", self.address)))
            .with("businfo", Some(format!("pci@{}", self.address)))
            .with("physid", Some(if slot.is_empty() { "0" } else { slot }))
            .with("vendor", vendor.map(vendor_name))
            .with(
                "product",
                vendor
                    .zip(product)
                    .map(|(vendor, product)| format!("[{vendor:04x}:{product:04x}]")),
            )
            .with(
                "version",
                number(&self.dir, "revision").map(|revision| format!("{revision:02x}")),
            );
        let is_claimed = driver.is_some() || kind.3 == "bridge";
        let node = node.configured("driver", driver);
        if is_claimed { node.claimed() } else { node }
    }
}

fn kind(class: u32) -> &'static PciClass {
    let [.., base, sub] = class.to_be_bytes();
    let matches = |kind: &&PciClass| kind.0 == base && kind.1.is_none_or(|number| number == sub);
    KINDS.iter().find(matches).unwrap_or(&UNKNOWN)
}

fn vendor_name(id: u16) -> String {
    VENDORS
        .iter()
        .find(|vendor| vendor.0 == id)
        .map_or_else(|| format!("[{id:04x}]"), |vendor| vendor.1.to_owned())
}

/// Reads an attribute such as `0x8086`.
fn number(dir: &Path, attribute: &str) -> Option<u32> {
    u32::from_str_radix(text(dir, attribute)?.strip_prefix("0x")?, 16).ok()
}

/// The name of the driver of the device in `dir`.
pub(super) fn driver(dir: &Path) -> Option<String> {
    Some(fs::canonicalize(dir.join("driver")).ok()?.file_name()?.to_str()?.to_owned())
}

/// The address of the innermost PCI device on the way to `dir`.
pub(super) fn address_in(dir: &Path) -> Option<String> {
    dir.iter()
        .rev()
        .filter_map(|part| part.to_str())
        .find(|part| is_address(part))
        .map(str::to_owned)
}

/// `0000:00:1f.6`: domain, bus, device and function, hexadecimal.
fn is_address(text: &str) -> bool {
    let is_hex = |part: &str, lens: std::ops::RangeInclusive<usize>| {
        lens.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let parts =
        text.split_once(':').and_then(|(domain, rest)| Some((domain, rest.split_once(':')?)));
    parts.and_then(|(domain, (bus, slot))| Some((domain, bus, slot.split_once('.')?))).is_some_and(
        |(domain, bus, (device, function))| {
            is_hex(domain, 4..=8)
                && is_hex(bus, 2..=2)
                && is_hex(device, 2..=2)
                && is_hex(function, 1..=1)
        },
    )
}
