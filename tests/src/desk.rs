//! A computer with a system disk and a USB stick, as `bty` sees it: in a mount namespace, `/sys`
//! describes the two, and loop devices over sparse files stand for them in `/dev`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::{bty_path, tool};
use crate::loops::{LoopDisk, has_root};
use crate::terminal::{Start, Terminal};

const GIB: u64 = 1 << 30;
/// Where the second partition of the system disk begins.
const ROOT_AT: u64 = 513 << 20;
const ROOT_BYTES: u64 = 16 * GIB;
const DISK_BYTES: u64 = 500_107_862_016;
const STICK_BYTES: u64 = 16_008_609_792;

/// Builds `/dev` from the nodes of this machine that a shell needs, then shows the described disks.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mkdir "$DESK/dev"
mount -t tmpfs dev "$DESK/dev"
cd "$DESK/dev"
for node in null zero full random urandom tty; do touch $node; mount --bind /dev/$node $node; done
mkdir pts shm
mount --bind /dev/pts pts
mknod nvme0n1 b $SYSTEM
mknod nvme0n1p2 b $ROOT
mknod sda b $STICK
mount --bind "$DESK/sys" /sys
mount --move "$DESK/dev" /dev
mount /dev/nvme0n1p2 /home
mount --bind "$WORK" /mnt
cd /mnt
PS1='$ ' exec bash --norc --noprofile -i
"#;

/// The computer. Its disks are detached when dropped.
pub struct Desk {
    dir: TempDir,
    system: LoopDisk,
    root: LoopDisk,
    stick: LoopDisk,
}

impl Desk {
    /// A computer with empty disks and an empty working directory; `None` if tests run without
    /// root.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !has_root() {
            return None;
        }
        let stick = LoopDisk::new(STICK_BYTES, 512)?;
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("system");
        fs::File::create(&backing).unwrap().set_len(DISK_BYTES).unwrap();
        format(&backing);
        let offset = ROOT_AT.to_string();
        let system = LoopDisk::attach(&backing, &[]);
        let limit = ROOT_BYTES.to_string();
        let root = LoopDisk::attach(&backing, &["--offset", &offset, "--sizelimit", &limit]);
        fs::create_dir(dir.path().join("work")).unwrap();
        let desk = Self { dir, system, root, stick };
        desk.describe();
        Some(desk)
    }

    /// The directory that shells start in; they know it as `/mnt`.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Writes what `/sys` says.
    fn describe(&self) {
        let nvme = "devices/pci0/nvme/nvme0/nvme0n1";
        let usb = "devices/pci0/usb1/1-2";
        let stick = format!("{usb}/1-2:1.0/host6/target6/6:0:0:0/block/sda");
        let root = format!("{nvme}/nvme0n1p2");
        self.put(nvme, "dev", &number(&self.system));
        self.put(nvme, "size", &(DISK_BYTES / 512).to_string());
        self.put(nvme, "device/model", "Samsung SSD 980");
        self.put(nvme, "device/serial", "S64DNF0R716711H");
        self.put(nvme, "queue/rotational", "0");
        self.put(&root, "dev", &number(&self.root));
        self.put(&root, "partition", "2");
        self.put(&root, "start", &(ROOT_AT / 512).to_string());
        self.put(&root, "size", &(ROOT_BYTES / 512).to_string());
        self.put(&stick, "dev", &number(&self.stick));
        self.put(&stick, "size", &(STICK_BYTES / 512).to_string());
        self.put(&stick, "removable", "1");
        self.put(&stick, "device/vendor", "SanDisk");
        self.put(&stick, "device/model", "Ultra");
        self.put(usb, "idVendor", "0781");
        self.put(usb, "busnum", "1");
        self.put(usb, "serial", "4C530001230412115574");
        for place in [nvme, &stick] {
            let link = self.dir.path().join("sys/block").join(place.rsplit('/').next().unwrap());
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(format!("../{place}"), link).unwrap();
        }
    }

    fn put(&self, place: &str, name: &str, value: &str) {
        let path = self.dir.path().join("sys").join(place).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value).unwrap();
    }

    /// A shell on this computer, with `bty` in its path and further variables.
    #[must_use]
    pub fn shell(&self, columns: u16, rows: u16, variables: &[(&str, &str)]) -> Terminal {
        let programs = bty_path().parent().unwrap().to_str().unwrap().to_owned();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let start = Start::new(Path::new("unshare"), &["--mount", "bash", "-c", SETUP])
            .size(columns, rows)
            .env("PATH", &path)
            .env("DESK", self.dir.path().to_str().unwrap())
            .env("WORK", self.work().to_str().unwrap())
            .env("SYSTEM", &number(&self.system).replace(':', " "))
            .env("ROOT", &number(&self.root).replace(':', " "))
            .env("STICK", &number(&self.stick).replace(':', " "));
        variables.iter().fold(start, |start, (name, value)| start.env(name, value)).start()
    }
}

/// Writes a partition table and a file system, as an installed system has them.
fn format(backing: &Path) {
    let path = backing.to_str().unwrap();
    let table = format!(
        "label: gpt\nstart=1MiB, size=512MiB, type=uefi\nstart={}MiB, size={}MiB, type=linux\n",
        ROOT_AT >> 20,
        ROOT_BYTES >> 20
    );
    let _ = crate::images::filter(&["sfdisk", "--quiet", path], table.as_bytes());
    let offset = format!("offset={ROOT_AT}");
    let blocks = format!("{}M", ROOT_BYTES >> 20);
    tool(&["mkfs.ext4", "-q", "-F", "-L", "root", "-E", &offset, path, &blocks]);
}

/// Major and minor number of a loop device: `7:3`.
fn number(disk: &LoopDisk) -> String {
    let name = disk.path().rsplit('/').next().unwrap();
    fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap().trim().to_owned()
}
