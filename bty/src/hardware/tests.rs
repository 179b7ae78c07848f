use super::smbios::tests::{module, structure};
use super::*;
use crate::disks::{Disk, SystemHost, SystemRoots, Use};
use crate::{Device, Error, ErrorKind};
use machine::{Machine, server};
use serde_json::{Value, json};
use std::sync::Arc;

mod machine;

/// All nodes of a class, depth first.
fn of_class<'a>(node: &'a Value, class: &str) -> Vec<&'a Value> {
    let below =
        node["children"].as_array().into_iter().flatten().flat_map(|child| of_class(child, class));
    (node["class"] == class).then_some(node).into_iter().chain(below).collect()
}

/// The values of `key` in `nodes`.
fn each<'a>(nodes: &[&'a Value], key: &str) -> Vec<&'a Value> {
    nodes.iter().map(|node| &node[key]).collect()
}

#[test]
fn a_server_reports_its_name_and_board() {
    let machine = server();
    let tree = machine.inventory().lshw;
    assert_eq!(
        (&tree["id"], &tree["class"], &tree["handle"]),
        (&json!("node7"), &json!("system"), &json!("DMI:0100"))
    );
    assert_eq!(
        (&tree["product"], &tree["vendor"]),
        (&json!("PowerEdge R740"), &json!("Dell Inc."))
    );
    assert_eq!((&tree["serial"], tree.get("version")), (&json!("7XK2P13"), None));
    assert_eq!(
        (&tree["description"], &tree["configuration"]["chassis"]),
        (&json!("Rack Mount Chassis"), &json!("rackmount"))
    );
    assert_eq!(tree["capabilities"]["smp"], "Symmetric Multi-Processing");
    let core = &tree["children"][0];
    assert_eq!(
        (&core["id"], &core["class"], &core["product"]),
        (&json!("core"), &json!("bus"), &json!("0923K0"))
    );
    let ids = each(&core["children"].as_array().unwrap().iter().collect::<Vec<_>>(), "id");
    assert_eq!(ids, ["firmware", "cpu:0", "cpu:1", "memory", "pci:0", "pci:1"]);
    let firmware = &core["children"][0];
    assert_eq!((&firmware["version"], &firmware["size"]), (&json!("2.19.1"), &json!(32 << 20)));
    assert_eq!(dmi(&machine.roots()).uuid.as_deref(), Some("4c4c4544-0058-4b10-8032-b7c04f503133"));
}

#[test]
fn a_server_reports_its_processors_and_memory() {
    let tree = server().inventory().lshw;
    let cpus = of_class(&tree, "processor");
    assert_eq!(each(&cpus, "slot"), ["CPU1", "CPU2"]);
    assert_eq!(
        cpus[0],
        &json!({
            "id": "cpu:0", "class": "processor", "claimed": true, "description": "CPU",
            "handle": "DMI:0400",
            "product": "Intel(R) Xeon(R) Gold 5218 CPU @ 2.30GHz", "vendor": "Intel Corp.",
            "version": "6.85.7",
            "businfo": "cpu@0", "slot": "CPU1", "units": "Hz", "size": 2_300_000_000u64,
            "capacity": 3_900_000_000u64,
            "clock": 100_000_000, "width": usize::BITS,
            "configuration": {
                "cores": "20", "enabledcores": "18", "threads": "36", "microcode": "1280",
            },
            "capabilities": {"fpu": true, "vme": true, "x86-64": "64bits extensions (x86-64)"},
        })
    );
    assert_eq!(cpus[1]["capacity"], 4_000_000_000u64);
    let memory = &tree["children"][0]["children"][3];
    assert_eq!((&memory["size"], &memory["units"]), (&json!(64u64 << 30), &json!("bytes")));
    let banks: Vec<&Value> = memory["children"].as_array().unwrap().iter().collect();
    assert_eq!(each(&banks, "id"), ["bank:0", "bank:1", "bank:2", "bank:3", "bank:4"]);
    assert_eq!(
        banks[1],
        &json!({
            "id": "bank:1", "class": "memory", "claimed": true, "handle": "DMI:1101", "physid": "1",
            "slot": "A2",
            "description": "DIMM DDR4 Synchronous Registered (Buffered) 2933 MHz (0.3 ns)",
            "product": "M393A8G40AB2-CWE",
            "vendor": "Samsung", "serial": "11223345", "units": "bytes", "size": 16u64 << 30,
            "width": 64,
            "clock": 2_933_000_000u64,
        })
    );
    assert_eq!((&banks[2]["description"], banks[2].get("size")), (&json!("[empty]"), None));
}

#[test]
fn a_server_reports_its_network_interfaces() {
    let tree = server().inventory().lshw;
    let networks = of_class(&tree, "network");
    assert_eq!(each(&networks, "logicalname"), ["idrac", "eno1"]);
    assert_eq!(
        networks[1],
        &json!({
            "id": "network", "class": "network", "claimed": true, "handle": "PCI:0000:02:00.0",
            "description": "Ethernet interface", "vendor": "Intel Corporation",
            "product": "[8086:1563]", "version": "02",
            "physid": "0", "businfo": "pci@0000:02:00.0", "logicalname": "eno1",
            "serial": "e4:43:4b:59:a8:b8",
            "units": "bit/s", "size": 10_000_000_000u64,
            "configuration": {
                "driver": "ixgbe", "link": "yes", "speed": "10Gbit/s", "duplex": "full",
                "broadcast": "yes", "multicast": "yes",
            },
            "capabilities": {"ethernet": true, "physical": "Physical interface"},
        })
    );
    let usb = networks[0];
    assert_eq!(
        (&usb["businfo"], &usb["product"]),
        (&json!("usb@1:14.3"), &json!("iDRAC Virtual NIC"))
    );
    assert_eq!(
        (&usb["configuration"]["driver"], &usb["configuration"]["link"]),
        (&json!("rndis_host"), &json!("no"))
    );
    assert_eq!(usb.get("size"), None);
}

#[test]
fn a_server_reports_its_disks_in_both_places() {
    let inventory = server().inventory();
    let disks = of_class(&inventory.lshw, "disk");
    assert_eq!(each(&disks, "businfo"), ["scsi@0:0.0.0", "nvme@0:1"]);
    assert_eq!(each(&disks, "description"), ["ATA Disk", "NVMe disk"]);
    assert_eq!(each(&disks, "serial"), ["WD-WCC7K0123456", "S4EVNX0T123456"]);
    assert_eq!((disks[0].get("vendor"), &disks[0]["size"]), (None, &json!(500_107_862_016u64)));
    let controllers = of_class(&inventory.lshw, "storage");
    assert_eq!(each(&controllers, "id"), ["sata", "nvme"]);
    assert_eq!(each(&of_class(&inventory.lshw, "display"), "vendor"), ["[abcd]"]);

    let listed: Vec<_> =
        inventory.disks.iter().map(|disk| (disk.size.as_str(), disk.tran.as_deref())).collect();
    assert_eq!(listed, [("465.8G", Some("nvme")), ("465.8G", Some("sata"))]);
    let body = serde_json::to_value(&inventory).unwrap();
    let mut keys: Vec<&String> = body["disks"][0].as_object().unwrap().keys().collect();
    keys.sort();
    let wanted =
        "model mountpoints path readonly removable serial size size_bytes tran type vendor";
    assert_eq!(keys, wanted.split(' ').collect::<Vec<_>>());
    assert_eq!(
        (&body["disks"][0]["type"], &body["disks"][0]["vendor"]),
        (&json!("disk"), &Value::Null)
    );
    assert_eq!(serde_json::from_value::<Inventory>(body).unwrap(), inventory);
}

#[test]
fn a_virtual_machine_without_dmi_reports_what_the_kernel_knows() {
    let machine = Machine::new();
    machine.put(
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: QEMU CPU\ncore id\t: 0\n\n\
         processor\t: 1\nmodel name\t: QEMU CPU\ncore id\t: 1\n",
    );
    machine.put("proc/meminfo", "MemTotal:       2014528 kB\nMemFree: 1 kB\n");
    machine.pci("pci0000:00/0000:00:02.0", "0x018000", ("0x1af4", "0x1042"), "virtio-pci");
    machine.disk(
        "sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda",
        "254:0",
        &[("serial", "overlay"), ("removable", "1"), ("ro", "1")],
    );
    machine.pci("pci0000:00/0000:00:03.0", "0x020000", ("0x1af4", "0x1041"), "virtio-pci");
    let nic = "sys/devices/pci0000:00/0000:00:03.0/virtio2";
    machine.drive(nic, "virtio_net");
    machine.interface(
        "eth0",
        Some(nic),
        &[("address", "52:54:00:12:34:56"), ("carrier", "1"), ("speed", "2500")],
    );
    // a card with two interfaces, and an interface on another bus than PCI
    let both =
        machine.pci("pci0000:00/0000:00:04.0", "0x020000", ("0x15b3", "0x1003"), "mlx4_core");
    machine.interface(
        "eth1",
        Some(&both),
        &[("address", "02:00:00:00:00:01"), ("flags", "0x1002")],
    );
    let slave =
        [("address", "02:00:00:00:00:01"), ("bonding_slave/perm_hwaddr", "02:00:00:00:00:02")];
    machine.interface("eth2", Some(&both), &slave);
    machine.interface(
        "eth3",
        Some("sys/devices/vif-0"),
        &[("address", "00:16:3e:00:00:01"), ("wireless/x", "")],
    );

    let inventory = machine.inventory();
    let tree = &inventory.lshw;
    assert_eq!(
        (&tree["id"], &tree["description"], tree.get("handle")),
        (&json!("computer"), &json!("Computer"), None)
    );
    let cpus = of_class(tree, "processor");
    assert_eq!(each(&cpus, "product"), ["QEMU CPU"]);
    assert_eq!(
        cpus[0]["configuration"],
        json!({"cores": "2", "enabledcores": "2", "threads": "2"})
    );
    assert_eq!(each(&of_class(tree, "memory"), "size"), [2_014_528 * 1024]);

    let networks = of_class(tree, "network");
    let [one, card, eth1, eth2, wireless] = &networks[..] else { panic!("{networks:#?}") };
    assert_eq!(
        (&one["businfo"], &one["vendor"]),
        (&json!("pci@0000:00:03.0"), &json!("Red Hat, Inc."))
    );
    assert_eq!(
        (&one["configuration"]["driver"], &one["configuration"]["speed"]),
        (&json!("virtio_net"), &json!("2500Mbit/s"))
    );
    assert_eq!((card.get("serial"), &card["description"]), (None, &json!("Ethernet controller")));
    assert_eq!((&eth1["id"], &eth1["disabled"]), (&json!("network:0"), &json!(true)));
    assert_eq!(eth2["serial"], "02:00:00:00:00:02");
    assert_eq!(
        (&wireless["description"], wireless.get("businfo")),
        (&json!("Wireless interface"), None)
    );
    assert_eq!(each(&of_class(tree, "disk"), "businfo"), ["virtio@1"]);
    assert!(inventory.disks[0].removable && inventory.disks[0].readonly);
}

#[test]
fn prefers_the_size_of_online_memory_to_what_the_kernel_can_use() {
    let machine = Machine::new();
    machine.put("proc/meminfo", "MemTotal: 1000 kB\n");
    machine.put("sys/devices/system/memory/block_size_bytes", "8000000\n");
    for (block, online) in [("memory0", "1"), ("memory1", "0"), ("memory32", "1"), ("memoryx", "1")]
    {
        machine.put(&format!("sys/devices/system/memory/{block}/online"), online);
    }
    assert_eq!(each(&of_class(&machine.inventory().lshw, "memory"), "size"), [256 << 20]);
}

#[test]
fn shows_memory_arrays_apart_and_leaves_out_flash() {
    let machine = Machine::new();
    let in_array = |array: u16| {
        let mut bytes = module(array + 1, 1024, "slot", "1");
        bytes[4..6].copy_from_slice(&array.to_le_bytes());
        bytes
    };
    let array = |handle: u16, kind: u8| structure(16, handle, 23, &[(4, &[3, kind])], &[]);
    let table = [
        array(0x10, 3),
        array(0x20, 4),
        array(0x30, 3),
        in_array(0x10),
        in_array(0x20),
        in_array(0x40),
    ];
    machine.put("sys/firmware/dmi/tables/DMI", table.concat());
    let tree = machine.inventory().lshw;
    let memory = of_class(&tree, "memory");
    assert_eq!(each(&memory, "id"), ["memory:0", "bank:0", "bank:1", "memory:1"]);
    assert_eq!(each(&memory, "size"), [2u64 << 30, 1 << 30, 1 << 30, 0]);
}

#[test]
fn a_container_has_only_virtual_interfaces() {
    let machine = Machine::new();
    machine.interface("lo", None, &[("address", "00:00:00:00:00:00")]);
    machine.interface("eth0", None, &[("address", "02:42:ac:11:00:02")]);
    machine.put("sys/class/net/bonding_masters", "");
    let tree = machine.inventory().lshw;
    assert_eq!(each(&of_class(&tree, "network"), "serial"), ["02:42:ac:11:00:02"]);
}

/// A host that lists these disks and opens none.
struct Disks(Vec<Disk>);

impl DiskHost for Disks {
    fn list(&self) -> Result<Vec<Disk>> {
        Ok(self.0.clone())
    }

    fn probe(&self, _: &Path) -> Result<Disk> {
        Err(Error::new(ErrorKind::Host, "only lists"))
    }

    fn open(&self, _: &Disk) -> Result<Arc<dyn Device>> {
        Err(Error::new(ErrorKind::Host, "only lists"))
    }

    fn open_read_only(&self, _: &Disk) -> Result<Arc<dyn Device>> {
        Err(Error::new(ErrorKind::Host, "only lists"))
    }

    fn create(&self, _: &Path, _: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Host, "only lists"))
    }
}

fn disk(path: &str) -> Disk {
    let facts = json!({
        "path": path, "kind": "disk", "size_bytes": 512 << 20, "logical_sector_bytes": 512,
        "physical_sector_bytes": 4096,
        "is_removable": false, "is_read_only": false, "table": "gpt", "uses": [],
        "partitions": [{"path": format!("{path}1"), "number": 1, "start_bytes": 1 << 20,
                        "size_bytes": 1 << 20,
                        "content": {"kind": "vfat", "label": "EFI"}}],
    });
    serde_json::from_value(facts).unwrap()
}

#[test]
fn an_empty_tree_is_an_empty_machine() {
    let machine = Machine::new();
    let inventory = Inventory::collect(&Disks(Vec::new()), &machine.roots()).unwrap();
    let memory =
        json!({"id": "memory", "class": "memory", "claimed": true, "description": "System Memory"});
    let core = json!({
        "id": "core", "class": "bus", "claimed": true, "description": "Motherboard", "physid": "0",
        "children": [memory],
    });
    let tree = json!({
        "id": "computer", "class": "system", "claimed": true, "description": "Computer",
        "width": usize::BITS, "children": [core],
    });
    assert_eq!((inventory.lshw, inventory.disks), (tree, Vec::new()));
    assert_eq!(dmi(&machine.roots()), Dmi::default());
    // without sysfs `SystemHost` fails
    let roots = SystemRoots { sys: machine.at("sys"), ..SystemRoots::default() };
    let error = Inventory::collect(&SystemHost::with_roots(roots), &machine.roots()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
}

#[test]
fn disks_fit_what_a_server_accepts() {
    let mut sda = disk("/dev/sda");
    sda.serial = Some("é".repeat(200));
    sda.vendor = Some("v".repeat(65));
    sda.path = format!("/dev/{}", "x".repeat(300)).into();
    let mounted =
        |device: &str, at: &str| Use::Mounted { device: device.into(), mountpoint: at.into() };
    sda.uses = vec![
        mounted("/dev/sda1", "/boot"),
        Use::Swap { device: "/dev/sda2".into() },
        mounted("/dev/sda", "/boot"),
    ];
    let listed = InventoryDisk::from(&sda);
    let lens = [&listed.path, listed.serial.as_ref().unwrap(), listed.vendor.as_ref().unwrap()];
    assert_eq!(lens.map(|text| text.chars().count()), [255, 128, 64]);
    assert_eq!((listed.size.as_str(), listed.size_bytes), ("512M", 512 << 20));
    assert_eq!(listed.mountpoints, ["/boot", "[SWAP]"]);

    let mut disks: Vec<Disk> = (0..300).map(|n| disk(&format!("/dev/sd{n}"))).collect();
    disks[0].kind = DiskKind::Loop;
    disks[1].uses = vec![mounted("/dev/sd11", "/mnt"), mounted("/dev/sd1", "/whole")];
    let inventory = Inventory::collect(&Disks(disks), &Machine::new().roots()).unwrap();
    assert_eq!((inventory.disks.len(), inventory.disks[0].path.as_str()), (256, "/dev/sd1"));
    let volume = of_class(&inventory.lshw, "volume")[0].clone();
    assert_eq!(volume["logicalname"], json!(["/dev/sd11", "/mnt"]));
    assert_eq!(
        (&volume["description"], &volume["configuration"]["label"]),
        (&json!("VFAT volume"), &json!("EFI"))
    );
}

#[test]
fn a_hostile_table_stays_small() {
    let machine = Machine::new();
    let long = "\\\"".repeat(2000);
    let slot = structure(
        17,
        1,
        40,
        &[(12, &[1, 0]), (16, &[1]), (23, &[1]), (24, &[1]), (26, &[1])],
        &[&long],
    );
    machine.put("sys/firmware/dmi/tables/DMI", slot.repeat(5000));
    let tree = machine.inventory().lshw;
    assert!(tree.to_string().len() <= 1 << 20);
    assert!(of_class(&tree, "memory").len() > 100);
}
