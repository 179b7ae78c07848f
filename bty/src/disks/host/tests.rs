use super::*;
use crate::device::system::tests::LoopDisk;
use crate::disks::TableKind;
use std::os::unix::fs::symlink;
use std::process::Command;

/// A simulated machine in a directory.
struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let fake = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["sys/block", "sys/devices", "proc/self", "dev", "run/data", "home"] {
            fs::create_dir_all(fake.at(dir)).unwrap();
        }
        fake
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    /// Adds a disk of 8 MiB at `place` below `/sys/devices`, with attributes and an empty node.
    fn disk(&self, place: &str, number: &str, attributes: &[(&str, &str)]) -> String {
        let name = place.rsplit('/').next().unwrap();
        let dir = format!("sys/devices/{place}");
        self.put(&format!("{dir}/dev"), number);
        self.put(&format!("{dir}/size"), "16384\n");
        for (attribute, value) in attributes {
            self.put(&format!("{dir}/{attribute}"), value);
        }
        symlink(format!("../devices/{place}"), self.at(&format!("sys/block/{name}"))).unwrap();
        let node = name.replace('!', "/");
        self.put(&format!("dev/{node}"), "");
        File::options()
            .write(true)
            .open(self.at(&format!("dev/{node}")))
            .unwrap()
            .set_len(8 << 20)
            .unwrap();
        dir
    }

    fn partition(&self, disk: &str, name: &str, number: &str, start: u64, sectors: u64) {
        let dir = format!("{disk}/{name}");
        let index = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        for (attribute, value) in [
            ("partition", index),
            ("dev", number),
            ("start", &start.to_string()),
            ("size", &sectors.to_string()),
        ] {
            self.put(&format!("{dir}/{attribute}"), value);
        }
        self.put(&format!("dev/{name}"), "");
    }

    /// Makes `built` a holder of `below`; both are sysfs directories.
    fn hold(&self, below: &str, built: &str) {
        let name = |dir: &str| dir.rsplit('/').next().unwrap().to_owned();
        self.put(&format!("{below}/holders/{}", name(built)), "");
        self.put(&format!("{built}/slaves/{}", name(below)), "");
    }

    fn host(&self) -> SystemHost {
        SystemHost::with_roots(SystemRoots {
            sys: self.at("sys"),
            proc: self.at("proc"),
            dev: self.at("dev"),
            udev: self.at("run"),
        })
    }

    fn probe(&self, path: &str) -> Disk {
        self.host().probe(&self.at(path)).unwrap()
    }

    /// The uses of a device as texts, without the root of the tree in paths.
    fn uses(&self, path: &str) -> Vec<String> {
        let root = format!("{}/", self.dir.path().display());
        self.probe(path).uses.iter().map(|u| u.to_string().replace(&root, "")).collect()
    }
}

#[test]
fn reads_identity_from_wherever_the_bus_keeps_it() {
    let fake = Fake::new();
    let usb = "pci0/usb1/1-2/1-2:1.0/host6/target6/6:0:0:0/block/sdb";
    fake.disk(
        usb,
        "8:16",
        &[("device/vendor", "SanDisk "), ("removable", "1"), ("queue/rotational", "0")],
    );
    for (file, value) in [("idVendor", "0781"), ("busnum", "1"), ("serial", "0123456789ABCDEF\n")] {
        fake.put(&format!("sys/devices/pci0/usb1/1-2/{file}"), value);
    }
    fake.put("sys/devices/pci0/usb1/serial", "0000:00:14.0");
    fake.disk(
        "pci0/ata1/host0/target0/0:0:0:0/block/sda",
        "8:0",
        &[
            ("device/vendor", "ATA     "),
            ("device/model", "WDC WD40EFRX-68N \n"),
            ("device/vpd_pg80", "\0\u{0}"),
            ("device/wwid", "naa.50014EE2B1\n"),
            ("queue/logical_block_size", "4096"),
            ("queue/physical_block_size", "banana"),
            ("diskseq", "7"),
        ],
    );
    fake.put(
        "sys/devices/pci0/ata1/host0/target0/0:0:0:0/block/sda/device/vpd_pg80",
        b"\0\x80\0\x14     WD-WCC7K0123456",
    );
    fake.disk(
        "pci0/nvme/nvme0/nvme0n1",
        "259:0",
        &[("device/serial", "S64A  \n"), ("wwid", "eui.00AB\n")],
    );
    fake.disk(
        "pci0/virtio1/block/vda",
        "254:0",
        &[("serial", "overlay"), ("device/vendor", "0x1af4")],
    );
    fake.disk(
        "pci0/mmc_host/mmc0/block/mmcblk0",
        "179:0",
        &[("device/name", "SD32G"), ("device/serial", "\0\x01\x02")],
    );
    fake.disk("pci0/host9/block/sdc", "8:32", &[]);
    fake.put("run/data/b8:32", "S:disk/by-id/x\nE:ID_SERIAL_SHORT=FROM-UDEV\nE:ID_WWN=0x5000\n");
    fake.disk("pci0/host10/block/sdd", "8:48", &[("device/serial", "   \n")]);

    let facts = |disk: &Disk| {
        let name = disk.path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, disk.serial.clone(), disk.wwn.clone(), disk.transport.clone())
    };
    let own = |a: &str, b: Option<&str>, c: Option<&str>, d: &str| {
        (a.to_owned(), b.map(str::to_owned), c.map(str::to_owned), Some(d.to_owned()))
    };
    let disks = fake.host().list().unwrap();
    assert_eq!(
        disks.iter().map(facts).collect::<Vec<_>>(),
        [
            own("mmcblk0", None, None, "mmc"),
            own("nvme0n1", Some("S64A"), Some("eui.00ab"), "nvme"),
            own("sda", Some("WD-WCC7K0123456"), Some("naa.50014ee2b1"), "sata"),
            own("sdb", Some("0123456789ABCDEF"), None, "usb"),
            own("sdc", Some("FROM-UDEV"), Some("0x5000"), "scsi"),
            own("sdd", None, None, "scsi"),
            own("vda", Some("overlay"), None, "virtio"),
        ]
    );
    assert_eq!(
        (disks[2].logical_sector_bytes, disks[2].physical_sector_bytes, disks[2].diskseq),
        (4096, 512, Some(7))
    );
    assert_eq!(disks[2].model.as_deref(), Some("WDC WD40EFRX-68N"));
    assert_eq!((disks[3].vendor.as_deref(), disks[3].is_removable), (Some("SanDisk"), true));
    assert_eq!((disks[3].is_rotational, disks[2].is_rotational), (Some(false), None));
    assert_eq!((disks[6].vendor.as_deref(), disks[0].model.as_deref()), (None, Some("SD32G")));
}

#[test]
fn lists_only_possible_targets_but_probes_all_devices() {
    let fake = Fake::new();
    fake.disk("virtual/block/loop0", "7:0", &[]);
    fake.disk("virtual/block/loop1", "7:1", &[("loop/backing_file", "/some/file")]);
    for (i, name) in
        ["dm-0", "md127", "ram0", "zram0", "sr0", "fd0", "mmcblk0boot0"].iter().enumerate()
    {
        fake.disk(&format!("virtual/block/{name}"), &format!("99:{i}"), &[]);
        assert_eq!(fake.probe(&format!("dev/{name}")).kind, DiskKind::Other, "{name}");
    }
    fake.disk("pci0/nvme0c0n1", "259:9", &[("hidden", "1")]);
    fake.disk("pci0/host1/block/sdz", "65:144", &[("size", "0")]);
    fake.disk("pci0/cciss!c0d0", "104:0", &[]);
    // a broken link, and attributes that are directories
    symlink("../devices/gone", fake.at("sys/block/sdq")).unwrap();
    fake.disk(
        "pci0/host2/block/sdo",
        "nonsense",
        &[("device/serial/x", ""), ("queue/logical_block_size", "7")],
    );
    let names: Vec<String> =
        fake.host().list().unwrap().iter().map(|d| d.path.display().to_string()).collect();
    assert_eq!(
        names,
        ["dev/cciss/c0d0", "dev/loop1", "dev/sdo"].map(|name| fake.at(name).display().to_string())
    );
}

#[test]
fn hints_at_a_missing_sysfs() {
    let fake = Fake::new();
    fs::remove_dir_all(fake.at("sys")).unwrap();
    let error = fake.host().list().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(error.next_step().unwrap().contains("mount"));
}

#[test]
fn reports_every_use_of_a_disk() {
    let fake = Fake::new();
    let sda = fake.disk("pci0/host0/block/sda", "8:0", &[]);
    fake.partition(&sda, "sda1", "8:1", 2048, 1024);
    fake.partition(&sda, "sda2", "8:2", 4096, 1024);
    fake.partition(&sda, "sda3", "8:3", 6144, 1024);
    let lvm = fake.disk("virtual/block/dm-0", "253:0", &[("dm/name", "vg0-root")]);
    fake.hold(&format!("{sda}/sda3"), &lvm);
    let sdb = fake.disk("pci0/host1/block/sdb", "8:16", &[]);
    let sdc = fake.disk("pci0/host2/block/sdc", "8:32", &[]);
    for member in ["sdb", "sdc"] {
        fake.put(&format!("sys/fs/btrfs/11-22/devices/{member}"), "");
    }
    fake.disk(
        "virtual/block/loop0",
        "7:0",
        &[("loop/backing_file", fake.at("home/vm.img").to_str().unwrap())],
    );
    fake.disk(
        "virtual/block/loop1",
        "7:1",
        &[("loop/backing_file", &format!("{} (deleted)", fake.at("home/b").display()))],
    );
    fake.put("home/vm.img", [0; 4096]);
    fake.put("home/b", [0; 4096]);
    let dev = fake.at("dev").display().to_string();
    fake.put(
        "proc/self/mountinfo",
        format!(
            "1 0 253:0 / / rw - ext4 /dev/mapper/vg0-root rw\n\
             2 1 8:1 / /boot\\040x rw - vfat {dev}/sda1 rw\n\
             3 1 0:44 / /pool rw - btrfs {dev}/sdb rw\n4 1 7:0 / /mnt/vm rw - ext4 {dev}/loop0 rw\n"
        ),
    );
    fake.put(
        "proc/swaps",
        format!("Filename Type Size Used Priority\n{dev}/sda2 partition 1 0 -2\n"),
    );
    assert_eq!(
        fake.uses("dev/sda"),
        [
            "dev/sda1 is mounted on /boot x (unmount it)",
            "dev/sda2 is active swap (run swapoff on it)",
            "the running system was started from dev/sda3 (boot something else to rewrite it)",
            "dev/sda3 is held by dm-0 (vg0-root) (stop that device first)",
            "dev/dm-0 is mounted on / (unmount it)",
        ]
    );
    assert_eq!(fake.uses("dev/sda2"), ["dev/sda2 is active swap (run swapoff on it)"]);
    assert_eq!(fake.probe("dev/sda2").kind, DiskKind::Partition);
    // a mount of btrfs names only one of its disks
    assert_eq!(fake.uses("dev/sdc"), ["dev/sdc is mounted on /pool (unmount it)"]);
    assert_eq!(
        fake.uses("home/vm.img"),
        [
            "home/vm.img is attached to dev/loop0 (write to dev/loop0, or detach it)",
            "dev/loop0 is mounted on /mnt/vm (unmount it)"
        ]
    );
    assert_eq!(fake.uses("home/b"), [""; 0]);
    // a mounted whole disk is a use of each of its partitions
    fake.partition(&sdb, "sdb1", "8:17", 2048, 1024);
    assert_eq!(fake.uses("dev/sdb1"), ["dev/sdb is mounted on /pool (unmount it)"]);
    assert_eq!(fake.probe("dev/sdb1").size_bytes, 512 << 10);
    let _ = sdc;
}

#[test]
fn survives_holders_that_hold_each_other() {
    let fake = Fake::new();
    let a = fake.disk("virtual/block/dm-0", "253:0", &[]);
    let b = fake.disk("virtual/block/dm-1", "253:1", &[]);
    fake.hold(&a, &b);
    fake.hold(&b, &a);
    fake.put("proc/self/mountinfo", "1 0 253:1 / / rw - ext4 /dev/dm-1 rw\n");
    assert_eq!(fake.uses("dev/dm-0").len(), 4);
}

fn run(tool: &str, args: &[&str], path: &Path) {
    let output = Command::new(tool)
        .args(args)
        .arg(path)
        .output()
        .unwrap_or_else(|e| panic!("install {tool}: {e}"));
    assert!(output.status.success(), "{tool}: {output:?}");
}

#[test]
fn matches_the_partition_table_with_the_kernels_device_nodes() {
    let fake = Fake::new();
    let sda = fake.disk("pci0/host0/block/sda", "8:0", &[]);
    run("sgdisk", &["-n", "3:4096:0", "-c", "3:data", "-n", "1:2048:4095"], &fake.at("dev/sda"));
    fake.partition(&sda, "sda3", "8:3", 4096, 12255);
    let swap = fake.at("home/swap");
    File::create(&swap).unwrap().set_len(1 << 20).unwrap();
    run("mkswap", &["-L", "zzz"], &swap);
    let file = File::options().write(true).open(fake.at("dev/sda")).unwrap();
    file.write_all_at(&fs::read(swap).unwrap(), 2048 * 512).unwrap();
    let disk = fake.probe("dev/sda");
    assert_eq!(disk.table, Some(TableKind::Gpt));
    let [one, three] = &disk.partitions[..] else { panic!("{disk:?}") };
    assert_eq!(
        (one.number, one.start_bytes, one.size_bytes, &one.path),
        (1, 1 << 20, 1 << 20, &None)
    );
    assert_eq!(one.content.as_ref().unwrap().label.as_deref(), Some("zzz"));
    assert_eq!(
        (three.number, three.name.as_deref(), &three.path),
        (3, Some("data"), &Some(fake.at("dev/sda3")))
    );

    // where the disk cannot be read, the kernel's partitions are still known
    fs::remove_file(fake.at("dev/sda")).unwrap();
    let disk = fake.host().list().unwrap().remove(0);
    assert_eq!((disk.table, disk.partitions.len(), disk.partitions[0].number), (None, 1, 3));
    assert_eq!(disk.partitions[0].path, Some(fake.at("dev/sda3")));
}

#[test]
fn refuses_other_files_and_lists_the_disks() {
    let fake = Fake::new();
    fake.disk("pci0/host0/block/sda", "8:0", &[]);
    fake.put("dev/sdb", "left by dd");
    symlink(fake.at("dev/sda"), fake.at("home/by-id")).unwrap();
    symlink("/nowhere/at/all", fake.at("home/dangling")).unwrap();
    assert_eq!(fake.probe("home/by-id").path, fake.at("dev/sda"));
    for (path, needle) in [
        (fake.at("dev/sdx"), "does not exist"),
        (fake.at("home/dangling"), "does not exist"),
        (fake.at("home"), "is a directory"),
        (PathBuf::from("/dev/null"), "is a character device"),
        (fake.at("dev/sdb"), "is a regular file in the directory of devices"),
    ] {
        let error = fake.host().probe(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(format!("{error:#}").contains(needle), "{error}");
        assert!(error.next_step().unwrap().contains("dev/sda 8.0 MiB"), "{error:?}");
    }
}

#[test]
fn creates_a_file_once_and_uses_it_as_a_disk() {
    let fake = Fake::new();
    let host = fake.host();
    let path = fake.at("home/vm.img");
    host.create(&path, 1 << 20).unwrap();
    assert_eq!(host.create(&path, 1).unwrap_err().kind(), ErrorKind::Refused);
    let missing = host.create(&fake.at("nowhere/vm.img"), 1).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Target);
    assert!(missing.next_step().unwrap().contains("directory"));

    let disk = host.probe(&path).unwrap();
    assert_eq!((disk.kind, disk.size_bytes, disk.is_read_only), (DiskKind::File, 1 << 20, false));
    assert_eq!((disk.logical_sector_bytes, disk.physical_sector_bytes), (512, 4096));
    let device = host.open(&disk).unwrap();
    assert_eq!(host.open(&disk).map(|_| ()).unwrap_err().kind(), ErrorKind::Refused);
    drop(device);
    File::options().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
    let error = host.open(&disk).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(format!("{error:#}").contains("is not the disk that was chosen"), "{error}");
}

#[test]
fn agrees_with_lsblk_about_this_machine() {
    let Some(ours) = LoopDisk::new(8 << 20, 4096) else { return };
    let columns = "NAME,PATH,SIZE,LOG-SEC,PHY-SEC,RO,RM,ROTA";
    let output = Command::new("lsblk")
        .args(["-b", "-d", "-P", "-o", columns])
        .output()
        .expect("lsblk (package util-linux)");
    let theirs = String::from_utf8(output.stdout).unwrap();
    for disk in SystemHost::new().list().unwrap() {
        // other tests attach and detach loop devices meanwhile
        if disk.kind == DiskKind::Loop && disk.path != ours.path {
            continue;
        }
        let number = |flag: bool| u8::from(flag);
        let line = format!(
            "PATH=\"{}\" SIZE=\"{}\" LOG-SEC=\"{}\" PHY-SEC=\"{}\" RO=\"{}\" RM=\"{}\" ROTA=\"{}\"",
            disk.path.display(),
            disk.size_bytes,
            disk.logical_sector_bytes,
            disk.physical_sector_bytes,
            number(disk.is_read_only),
            number(disk.is_removable),
            number(disk.is_rotational.unwrap())
        );
        assert!(theirs.replace("_SEC", "-SEC").contains(&line), "{line} is not in\n{theirs}");
    }
    let disk = SystemHost::new().probe(&ours.path).unwrap();
    assert_eq!(
        (disk.kind, disk.transport.as_deref(), disk.uses.len()),
        (DiskKind::Loop, Some("loop"), 0)
    );
    let backing = SystemHost::new().probe(&ours.backing).unwrap();
    assert!(
        matches!(&backing.uses[..], [Use::Loop { holder, .. }] if *holder == ours.path),
        "{:?}",
        backing.uses
    );
}

#[test]
fn refuses_a_mounted_disk_and_one_with_a_hidden_use() {
    let Some(disk) = LoopDisk::new(8 << 20, 512) else { return };
    let host = SystemHost::new();
    run("mkfs.ext4", &["-q"], &disk.path);
    let before = host.probe(&disk.path).unwrap();
    let mount = tempfile::tempdir().unwrap();
    let mounted =
        Command::new("mount").arg(&disk.path).arg(mount.path()).status().unwrap().success();
    assert!(mounted, "this test needs to mount");
    let seen = host.probe(&disk.path);
    let opened = host.open(&before);
    let read = host.open_read_only(&before);
    assert!(Command::new("umount").arg(mount.path()).status().unwrap().success());
    let uses = seen.unwrap().uses;
    assert!(
        matches!(&uses[..], [Use::Mounted { mountpoint, .. }] if mountpoint == mount.path()),
        "{uses:?}"
    );
    let error = opened.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(format!("{error:#}").contains("is mounted on"), "{error}");
    assert!(read.is_ok());

    let claim = host.open(&before).unwrap();
    let uses = host.probe(&disk.path).unwrap().uses;
    assert!(matches!(&uses[..], [Use::Busy { .. }]), "{uses:?}");
    let listed = host.list().unwrap();
    let listed = listed.iter().find(|listed| listed.path == disk.path);
    assert_eq!(listed.map(|listed| &listed.uses), Some(&uses), "list() agrees with probe()");
    drop((claim, read));
    assert!(host.probe(&disk.path).unwrap().uses.is_empty());
}

#[test]
fn names_the_disk_that_the_running_system_is_on() {
    // in a container the root file system is not on a disk, so there is nothing to test
    let host = SystemHost::new();
    let is_system = |disk: &Disk| disk.uses.iter().any(|u| matches!(u, Use::System { .. }));
    let findmnt = Command::new("findmnt")
        .args(["-no", "SOURCE", "/"])
        .output()
        .expect("findmnt (package util-linux)");
    let source = String::from_utf8(findmnt.stdout).unwrap();
    if source.starts_with("/dev/") {
        assert!(host.list().unwrap().iter().any(is_system), "{source}");
    }
}
