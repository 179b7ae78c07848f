//! Simulated machines: trees of files that look like sysfs and procfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::disks::{SystemHost, SystemRoots};
use crate::hardware::smbios::tests::{module, processor, structure};
use crate::hardware::{HardwareRoots, Inventory};

/// A simulated machine in a directory.
pub(super) struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(super) fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    pub(super) fn put_all(&self, dir: &str, files: &[(&str, &str)]) {
        for (name, value) in files {
            self.put(&format!("{dir}/{name}"), format!("{value}\n"));
        }
    }

    /// Adds a symbolic link at `path` to `target`, both relative to the root of the tree.
    pub(super) fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(self.at(target), self.at(path)).unwrap();
    }

    /// Adds a PCI device at `place` below `/sys/devices`.
    pub(super) fn pci(&self, place: &str, class: &str, ids: (&str, &str), driver: &str) -> String {
        let dir = format!("sys/devices/{place}");
        self.put_all(
            &dir,
            &[("class", class), ("vendor", ids.0), ("device", ids.1), ("revision", "0x02")],
        );
        self.link(&format!("sys/bus/pci/devices/{}", place.rsplit('/').next().unwrap()), &dir);
        self.drive(&dir, driver);
        dir
    }

    pub(super) fn drive(&self, dir: &str, driver: &str) {
        if !driver.is_empty() {
            fs::create_dir_all(self.at(&format!("sys/bus/all/drivers/{driver}"))).unwrap();
            self.link(&format!("{dir}/driver"), &format!("sys/bus/all/drivers/{driver}"));
        }
    }

    /// Adds a network interface, of `device` if it has one.
    pub(super) fn interface(&self, name: &str, device: Option<&str>, files: &[(&str, &str)]) {
        let dir = device.map_or(format!("sys/devices/virtual/net/{name}"), |device| {
            format!("{device}/net/{name}")
        });
        self.put_all(&dir, &[("type", "1"), ("flags", "0x1003")]);
        self.put_all(&dir, files);
        if let Some(device) = device {
            self.link(&format!("{dir}/device"), device);
        }
        self.link(&format!("sys/class/net/{name}"), &dir);
    }

    pub(super) fn disk(&self, dir: &str, number: &str, files: &[(&str, &str)]) {
        let name = dir.rsplit('/').next().unwrap();
        self.put_all(dir, &[("dev", number), ("size", "976773168")]);
        self.put_all(dir, files);
        self.link(&format!("sys/block/{name}"), dir);
        self.put(&format!("dev/{name}"), "");
    }

    /// Adds the threads of a processor: their numbers, and the number that those of a core share.
    pub(super) fn cpus(&self, package: u32, threads: &[(u32, u32)]) -> String {
        let mut cpuinfo = String::new();
        for (thread, core) in threads {
            let topology = format!("sys/devices/system/cpu/cpu{thread}/topology");
            let files = [
                ("physical_package_id", package.to_string()),
                ("core_cpus_list", format!("{core}-x")),
            ];
            self.put_all(&topology, &files.each_ref().map(|(name, value)| (*name, value.as_str())));
            cpuinfo += &format!(
                "processor\t: {thread}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
                 model name\t: Intel(R) Xeon(R) \
                 Gold 5218 CPU @ 2.30GHz\nstepping\t: 7\nmicrocode\t: 0x500\n\
                 cpu MHz\t\t: 2300.000\nphysical id\t: {package}\n\
                 core id\t\t: {core}\nflags\t\t: fpu vme lm\npower management:\n\n"
            );
        }
        cpuinfo
    }

    pub(super) fn roots(&self) -> HardwareRoots {
        HardwareRoots::new(self.at("sys"), self.at("proc"))
    }

    pub(super) fn inventory(&self) -> Inventory {
        fs::create_dir_all(self.at("sys/block")).unwrap();
        let (sys, proc, dev, udev) =
            (self.at("sys"), self.at("proc"), self.at("dev"), self.at("run"));
        let host = SystemHost::with_roots(SystemRoots { sys, proc, dev, udev });
        Inventory::collect(&host, &self.roots()).unwrap()
    }
}

/// The sysfs directory of the Ethernet card of [`server`].
const CARD: &str = "pci0000:00/0000:00:1c.0/0000:02:00.0";

/// A server with two sockets, four modules, two network interfaces and two disks.
pub(super) fn server() -> Machine {
    let machine = Machine::new();
    machine.put("proc/sys/kernel/hostname", "node7\n");
    let cpuinfo = machine.cpus(0, &[(0, 0), (2, 1), (4, 0), (6, 1)])
        + &machine.cpus(1, &[(1, 0), (3, 1), (5, 0), (7, 1)]);
    machine.put("proc/cpuinfo", cpuinfo);
    machine.put("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3900000\n");
    let dmi: &[(&str, &str)] = &[
        ("sys_vendor", "Dell Inc."),
        ("product_name", "PowerEdge R740"),
        ("product_version", "To Be Filled By O.E.M."),
        ("product_serial", "7XK2P13"),
        ("product_uuid", "4c4c4544-0058-4b10-8032-b7c04f503133"),
        ("chassis_type", "23"),
        ("board_vendor", "Dell Inc."),
        ("board_name", "0923K0"),
        ("bios_vendor", "Dell Inc."),
        ("bios_version", "2.19.1"),
        ("bios_date", "06/04/2023"),
    ];
    machine.put_all("sys/class/dmi/id", dmi);
    let table = [
        structure(0, 0, 26, &[(9, &[0xff]), (24, &[32, 0])], &[]),
        structure(1, 0x100, 27, &[], &[]),
        structure(2, 0x200, 15, &[], &[]),
        processor(0x400, "CPU1", 0x41),
        processor(0x401, "CPU2", 0x41),
        structure(16, 0x1000, 23, &[(4, &[3, 3])], &[]),
        module(0x1100, 0x4000, "A1", "11223344"),
        module(0x1101, 0x4000, "A2", "11223345"),
        module(0x1102, 0, "A3", "None"),
        module(0x1103, 0x4000, "B1", "11223346"),
        module(0x1104, 0x4000, "B2", "11223347"),
    ];
    machine.put("sys/firmware/dmi/tables/DMI", table.concat());
    machine.pci("pci0000:00/0000:00:00.0", "0x060000", ("0x8086", "0x2020"), "");
    machine.pci("pci0000:00/0000:00:1c.0", "0x060400", ("0x8086", "0xa190"), "pcieport");
    let card = machine.pci(CARD, "0x020000", ("0x8086", "0x1563"), "ixgbe");
    let link: &[(&str, &str)] = &[
        ("address", "E4:43:4B:59:A8:B8"),
        ("speed", "10000"),
        ("duplex", "full"),
        ("carrier", "1"),
    ];
    machine.interface("eno1", Some(&card), link);
    let xhci = machine.pci("pci0000:00/0000:00:14.0", "0x0c0330", ("0x8086", "0xa1af"), "xhci_hcd");
    let usb = format!("{xhci}/usb1/1-14/1-14.3");
    let usb_facts: &[(&str, &str)] = &[
        ("idVendor", "413c"),
        ("busnum", "1"),
        ("product", "iDRAC Virtual NIC"),
        ("manufacturer", "Dell"),
    ];
    machine.put_all(&usb, usb_facts);
    machine.drive(&format!("{usb}/1-14.3:1.0"), "rndis_host");
    machine.interface(
        "idrac",
        Some(&format!("{usb}/1-14.3:1.0")),
        &[("address", "ec:f4:bb:00:11:22"), ("speed", "-1")],
    );
    machine.interface("lo", None, &[("address", "00:00:00:00:00:00"), ("flags", "0x9")]);
    machine.interface("br0", None, &[("address", "e4:43:4b:59:a8:b8")]);
    let nvme = machine.pci("pci0000:00/0000:00:1d.0", "0x010802", ("0x144d", "0xa808"), "nvme");
    let serial = [("model", "SAMSUNG MZVLB512"), ("serial", "S4EVNX0T123456")];
    let serial = serial.map(|(name, value)| (format!("device/{name}"), value));
    machine.disk(
        &format!("{nvme}/nvme/nvme0/nvme0n1"),
        "259:0",
        &serial.each_ref().map(|(name, value)| (name.as_str(), *value)),
    );
    let ahci = machine.pci("pci0000:00/0000:00:17.0", "0x010601", ("0x8086", "0xa182"), "ahci");
    let sata = [
        ("device/vendor", "ATA"),
        ("device/model", "WDC WD40EFRX-68N"),
        ("device/serial", "WD-WCC7K0123456"),
    ];
    machine.disk(&format!("{ahci}/ata1/host0/target0:0:0/0:0:0:0/block/sda"), "8:0", &sata);
    machine.pci("pci0000:16/0000:16:05.0", "0x088000", ("0x1234", "0xffff"), "");
    machine.pci("pci0000:16/0000:16:00.0", "0x030000", ("0xabcd", "0x0001"), "");
    machine
}
