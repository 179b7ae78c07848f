use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use proptest::prelude::*;

use super::smbios::Smbios;
use super::*;
use crate::{Device, Error, ErrorKind};

/// A made-up machine: trees in the place of `/sys` and `/proc`.
struct Machine {
    _dir: tempfile::TempDir,
    roots: SystemRoots,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (sys, proc) = (dir.path().join("sys"), dir.path().join("proc"));
        let roots = SystemRoots { sys, proc, ..SystemRoots::default() };
        Self { _dir: dir, roots }
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.roots.sys.parent().unwrap().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        let root = self.roots.sys.parent().unwrap();
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(root.join(to), path).unwrap();
    }

    fn interface(&self, name: &str, device: &str, mac: &str) {
        let dir = format!("{device}/net/{name}");
        self.file(&format!("{dir}/address"), format!("{mac}\n"));
        self.file(&format!("{dir}/type"), "1\n");
        self.file(&format!("{dir}/carrier"), "1\n");
        self.file(&format!("{dir}/speed"), "1000\n");
        self.file(&format!("{dir}/duplex"), "full\n");
        self.link(&format!("{dir}/device"), device);
        self.link(&format!("sys/class/net/{name}"), &dir);
    }
}

struct Disks(Vec<Disk>);

impl Host for Disks {
    fn list(&self) -> Result<Vec<Disk>> {
        Ok(self.0.clone())
    }
    fn probe(&self, _: &Path) -> Result<Disk> {
        Err(Error::new(ErrorKind::Host, "not asked for"))
    }
    fn open(&self, _: &Disk) -> Result<Arc<dyn Device>> {
        Err(Error::new(ErrorKind::Host, "not asked for"))
    }
    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        self.open(disk)
    }
    fn create(&self, _: &Path, _: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Host, "not asked for"))
    }
}

fn disk(path: &str, kind: DiskKind) -> Disk {
    let mut disk = Disk::planned_file(Path::new(path), 500_107_862_016);
    disk.kind = kind;
    disk.transport = Some("nvme".into());
    disk.serial = Some("S1".into());
    disk
}

/// A structure: its formatted area after the header, and its strings.
fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
    let mut bytes = vec![kind, u8::try_from(formatted.len() + 4).unwrap(), 0x11, 0];
    bytes.extend_from_slice(formatted);
    strings.iter().for_each(|string| bytes.extend_from_slice(&[string.as_bytes(), &[0]].concat()));
    bytes.extend_from_slice(if strings.is_empty() { &[0, 0] } else { &[0] });
    bytes
}

/// A memory module of so many MiB in a slot.
fn module(mib: u16, slot: &str) -> Vec<u8> {
    let mut formatted = vec![0; 0x28 - 4];
    let mut put = |at: usize, bytes: &[u8]| formatted[at - 4..at - 4 + bytes.len()].copy_from_slice(bytes);
    put(0x0c, &mib.to_le_bytes());
    put(0x10, &[1]);
    put(0x12, &[0x1a]);
    put(0x15, &3200u16.to_le_bytes());
    put(0x17, &[2]);
    put(0x18, &[3]);
    put(0x1a, &[4]);
    structure(17, &formatted, &[slot, "ACME", "M-1", "To Be Filled By O.E.M."])
}

fn server() -> Machine {
    let machine = Machine::new();
    for (name, value) in [
        ("sys_vendor", "ACME"),
        ("product_name", "Rack 3 "),
        ("product_serial", "Default string"),
        ("bios_version", "1.2"),
    ] {
        machine.file(&format!("sys/class/dmi/id/{name}"), format!("{value}\n"));
    }
    let table = [module(16384, "A1"), module(16384, "A2"), module(0, "B1"), structure(127, &[], &[])].concat();
    machine.file("sys/firmware/dmi/tables/DMI", table);
    let thread = |id: usize, package: usize, core: usize| {
        format!(
            "processor\t: {id}\nvendor_id\t: GenuineIntel\nmodel name\t: Fast CPU\nphysical id\t: {package}\ncore id\t\t: {core}\nmicrocode\t: 0x1\n\n"
        )
    };
    let threads: String = (0..8).map(|id| thread(id, id % 2, id / 4)).collect();
    machine.file("proc/cpuinfo", threads);
    machine.file("proc/meminfo", "MemTotal:       32000000 kB\nMemFree: 1 kB\n");
    machine.file("proc/sys/kernel/hostname", "rack-3\n");
    let nic = "sys/devices/pci0000:00/0000:00:1f.6";
    machine.file(&format!("{nic}/vendor"), "0x8086\n");
    machine.file(&format!("{nic}/device"), "0x15b7\n");
    machine.interface("eno1", nic, "52:54:00:00:00:01");
    let usb = "sys/devices/pci0000:00/0000:00:14.0/usb1/1-3";
    machine.file(&format!("{usb}/idVendor"), "0b1f\n");
    machine.file(&format!("{usb}/product"), "Virtual NIC\n");
    machine.interface("usb0", usb, "52:54:00:00:00:02");
    machine.file("sys/class/net/lo/address", "00:00:00:00:00:00\n");
    machine.file("sys/devices/pci0000:00/0000:00:17.0/class", "0x010601\n");
    machine.link("sys/bus/pci/devices/0000:00:17.0", "sys/devices/pci0000:00/0000:00:17.0");
    machine
}

fn nodes<'a>(tree: &'a Value, class: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let mut wanted = vec![tree];
    while let Some(node) = wanted.pop() {
        if node["class"] == class {
            found.push(node);
        }
        wanted.extend(node["children"].as_array().into_iter().flatten().rev());
    }
    found
}

#[test]
fn a_server_is_described_as_readers_of_lshw_expect() {
    let machine = server();
    let disks = Disks(vec![disk("/dev/loop0", DiskKind::Loop), disk("/dev/nvme0n1", DiskKind::Disk)]);
    let inventory = Inventory::collect(&disks, &machine.roots).unwrap();
    let tree = &inventory.lshw;
    assert_eq!((&tree["id"], &tree["class"], &tree["product"]), (&"rack-3".into(), &"system".into(), &"Rack 3".into()));
    assert!(tree.get("serial").is_none(), "a placeholder is no serial number");

    let banks: Vec<_> =
        nodes(tree, "memory").into_iter().filter(|n| n["id"].as_str().unwrap().starts_with("bank:")).collect();
    assert_eq!(banks.len(), 3);
    assert_eq!((&banks[0]["size"], &banks[0]["slot"]), (&(16u64 << 30).into(), &"A1".into()));
    assert!(banks[0].get("product").is_none() && banks[2].get("size").is_none());
    let all = nodes(tree, "memory").into_iter().find(|n| n["id"] == "memory").unwrap();
    assert_eq!(all["size"], 32u64 << 30);

    let processors = nodes(tree, "processor");
    assert_eq!(processors.len(), 2);
    assert_eq!(
        (&processors[0]["product"], &processors[0]["configuration"]["cores"]),
        (&"Fast CPU".into(), &"2".into())
    );
    assert_eq!(processors[0]["configuration"]["threads"], "4");

    let nics = nodes(tree, "network");
    assert_eq!(nics.len(), 2, "{nics:?}");
    assert_eq!((&nics[0]["logicalname"], &nics[0]["serial"]), (&"eno1".into(), &"52:54:00:00:00:01".into()));
    assert_eq!((&nics[0]["businfo"], &nics[0]["size"]), (&"pci@0000:00:1f.6".into(), &1_000_000_000u64.into()));
    assert_eq!((&nics[1]["businfo"], &nics[1]["product"]), (&"usb@1:3".into(), &"Virtual NIC".into()));
    assert_eq!(nodes(tree, "storage").len(), 1);

    assert_eq!(inventory.disks.len(), 1);
    let posted = serde_json::to_value(&inventory.disks[0]).unwrap();
    assert_eq!(
        (&posted["path"], &posted["size"], &posted["type"]),
        (&"/dev/nvme0n1".into(), &"465.8G".into(), &"disk".into())
    );
    assert_eq!(nodes(tree, "disk")[0]["size"], 500_107_862_016u64);
}

#[test]
fn a_machine_that_tells_nothing_still_has_a_tree() {
    let machine = Machine::new();
    let inventory = Inventory::collect(&Disks(Vec::new()), &machine.roots).unwrap();
    assert_eq!((&inventory.lshw["class"], &inventory.lshw["id"]), (&"system".into(), &"computer".into()));
    assert_eq!(dmi(&machine.roots), Dmi::default());
}

#[test]
fn this_machine_has_a_processor_and_memory() {
    let tree = Inventory::collect(&Disks(Vec::new()), &SystemRoots::default()).unwrap().lshw;
    assert!(!nodes(&tree, "processor").is_empty());
    let memory = nodes(&tree, "memory").into_iter().find(|node| node["id"] == "memory").unwrap();
    assert!(memory["size"].as_u64().unwrap() > 64 << 20);
}

#[test]
fn sizes_are_short() {
    for (bytes, text) in [(500_107_862_016, "465.8G"), (16 << 30, "16G"), (512 << 20, "512M"), (0, "0B")] {
        assert_eq!(short_size(bytes), text);
    }
}

#[test]
fn large_and_small_modules_have_their_sizes() {
    let mut extended = module(0x7fff, "A1");
    extended[0x1c..0x20].copy_from_slice(&(65536u32).to_le_bytes());
    let kib = module(0x8000 | 512, "A2");
    let unknown = module(0xffff, "A3");
    let sizes: Vec<u64> =
        Smbios::parse(&[extended, kib, unknown].concat()).memory.iter().map(|m| m.size_bytes).collect();
    assert_eq!(sizes, [64 << 30, 512 << 10]);
}

proptest! {
    #[test]
    fn no_table_makes_the_parser_panic(table in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Smbios::parse(&table);
    }

    #[test]
    fn a_cut_or_changed_table_is_read_as_far_as_it_goes(at in 0usize..300, value in any::<u8>(), len in 0usize..300) {
        let mut table = [module(8192, "A1"), module(8192, "A2"), structure(4, &[1; 40], &["CPU1"])].concat();
        let at = at % table.len();
        table[at] = value;
        table.truncate(len);
        prop_assert!(Smbios::parse(&table).memory.len() <= 2 + table.len() / 4);
    }
}
