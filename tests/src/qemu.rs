//! Machines: QEMU without KVM, their firmware, and what they say on their serial line.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, with iPXE in the card's ROM.
    Bios,
    /// OVMF, with the network stack of its own.
    Uefi,
    /// The same, which knows HTTP Boot only.
    UefiHttp,
}

/// A machine that runs; switched off when dropped.
pub struct Machine {
    child: Child,
    dir: TempDir,
}

/// Boot programs of Debian's trixie, which `media/ipxe.sh` gets: those of older releases fetch no script by themselves.
#[must_use]
pub fn ipxe() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let get = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let dir = root.join("target/ipxe");
        crate::command::tool(&[root.join("media/ipxe.sh").to_str().unwrap(), dir.to_str().unwrap()]);
        dir
    };
    DIR.get_or_init(get).clone()
}

impl Machine {
    /// Switches a machine on whose network card is plugged to `tap`.
    #[must_use]
    pub fn start(firmware: Firmware, tap: &str, mac: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let serial = format!("file:{}", dir.path().join("serial.log").display());
        let mut command = Command::new("qemu-system-x86_64");
        // /dev/kvm may be there and not work
        command.args(["-M", "q35,graphics=off", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024"]);
        command.args(["-display", "none", "-nodefaults", "-vga", "none", "-no-reboot", "-serial", &serial]);
        let netdev = format!("tap,id=n,ifname={tap},script=no,downscript=no");
        let mut device = format!("virtio-net-pci,netdev=n,mac={mac},bootindex=1");
        if firmware != Firmware::Bios {
            let vars = dir.path().join("vars.fd");
            std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).expect("the Debian package ovmf is installed");
            let code = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";
            command.args(["-drive", code, "-drive", &format!("if=pflash,format=raw,file={}", vars.display())]);
            // the firmware's own network stack, and no waiting for IPv6
            device.push_str(",romfile=");
            command.args(["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
            let has_pxe = if firmware == Firmware::Uefi { "y" } else { "n" };
            command.args(["-fw_cfg", &format!("name=opt/org.tianocore/IPv4PXESupport,string={has_pxe}")]);
        }
        command.args(["-netdev", &netdev, "-device", &device, "-device", "virtio-rng-pci"]);
        let log = std::fs::File::create(dir.path().join("qemu.log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self { child: child.expect("the Debian package qemu-system-x86 is installed"), dir }
    }

    /// What it has said, without what moves the cursor.
    #[must_use]
    pub fn said(&self) -> String {
        let read = |name: &str| std::fs::read(self.dir.path().join(name)).unwrap_or_default();
        let (serial, qemu) = (read("serial.log"), read("qemu.log"));
        let plain = |c: &char| !c.is_control() || *c == '\n';
        String::from_utf8_lossy(&serial).chars().filter(plain).collect::<String>() + &String::from_utf8_lossy(&qemu)
    }

    /// Waits until `is`; fails when the machine goes elsewhere, or takes longer than `limit`.
    ///
    /// # Panics
    /// As said.
    pub fn wait(&mut self, limit: Duration, what: &str, mut is: impl FnMut(&str) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if is(&said) {
                return begun.elapsed();
            }
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            let is_lost = has_ended || said.contains("Shell>") || begun.elapsed() > limit;
            assert!(!is_lost, "{what} did not happen in {:.0?}; the machine said:\n{said}", begun.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
