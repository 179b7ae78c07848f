//! Machines emulated by QEMU without KVM: firmware, disks, and the serial line.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, with iPXE in the card's ROM.
    Bios,
    /// OVMF, with its own network stack.
    Uefi,
    /// OVMF, with iPXE in the card's ROM: a version from 2019, like that of many cards.
    UefiRom,
    /// OVMF without PXE: HTTP Boot only.
    UefiHttp,
    /// OVMF with Secure Boot and Microsoft's keys, which machines are sold with.
    UefiSecure,
    /// UEFI on arm64, which boots by PXE.
    Arm,
    /// UEFI on arm64 without PXE: HTTP Boot only.
    ArmHttp,
    /// UEFI on arm64 with Secure Boot and Microsoft's keys.
    ArmSecure,
}

impl Firmware {
    /// The architecture of its machine.
    #[must_use]
    pub fn arch(self) -> &'static str {
        if matches!(self, Self::Arm | Self::ArmHttp | Self::ArmSecure) { "arm64" } else { "x86_64" }
    }
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// An NVMe disk.
    Nvme,
    /// A SATA disk on an AHCI controller.
    Ahci,
    /// A VirtIO block device.
    Virtio,
    /// A USB stick, marked as removable.
    Usb,
    /// A CD in a drive.
    Cd,
}

/// Configuration of a machine. It boots from cards and disks in the order in which they were added.
pub struct Hardware {
    firmware: Firmware,
    /// Arguments of QEMU.
    arguments: Vec<String>,
    /// Number of the next card or disk, which is also its place in the boot order.
    next: u32,
    has_usb: bool,
    /// Devices to plug in later, as arguments of the monitor command `device_add`.
    late: Vec<String>,
    dir: TempDir,
}

/// A running machine. Switched off when dropped.
pub struct Machine {
    child: Child,
    /// Starts the machine again.
    command: Command,
    line: SerialLine,
    /// As in [`Hardware`].
    late: Vec<String>,
    /// How often it was reset because its clock had stopped.
    resets: usize,
    dir: TempDir,
}

/// The serial line of a machine. It collects the output itself, because the log of QEMU repeats a
/// byte each time the socket does not accept it.
struct SerialLine {
    socket: UnixStream,
    received: Arc<Mutex<Vec<u8>>>,
}

impl SerialLine {
    /// Connects to QEMU, which starts the machine only then, so that no output is lost.
    fn connect(path: &Path, qemu: &mut Child) -> Self {
        let socket = crate::eventually(crate::LIMIT, "QEMU opens the serial line", || {
            assert!(qemu.try_wait().unwrap().is_none(), "QEMU has ended, see its log");
            UnixStream::connect(path).ok()
        });
        let received = Arc::new(Mutex::new(Vec::new()));
        let (mut reading, kept) = (socket.try_clone().unwrap(), Arc::clone(&received));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = reading.read(&mut bytes) {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&bytes[..len]);
            }
        });
        Self { socket, received }
    }

    fn text(&self) -> String {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        plain(&String::from_utf8_lossy(&received))
    }
}

/// Boot programs of Debian trixie, downloaded by `media/ipxe.sh`. Those of older releases do not
/// fetch a script by themselves.
#[must_use]
pub fn ipxe() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let get = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let dir = root.join("target/ipxe");
        crate::command::tool(&[
            root.join("media/ipxe.sh").to_str().unwrap(),
            dir.to_str().unwrap(),
        ]);
        dir
    };
    DIR.get_or_init(get).clone()
}

impl Hardware {
    /// A machine with this firmware, without cards or disks.
    #[must_use]
    pub fn new(firmware: Firmware) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut this = Self {
            firmware,
            arguments: Vec::new(),
            next: 1,
            has_usb: false,
            late: Vec::new(),
            dir,
        };
        match firmware {
            Firmware::Bios => {}
            Firmware::Uefi | Firmware::UefiRom | Firmware::UefiHttp => {
                this.flash("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
            }
            Firmware::UefiSecure => {
                this.flash(
                    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
                    "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
                );
                this.with(&["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            }
            Firmware::Arm | Firmware::ArmHttp => {
                this.flash("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd");
            }
            Firmware::ArmSecure => {
                this.flash(
                    "/usr/share/AAVMF/AAVMF_CODE.ms.fd",
                    "/usr/share/AAVMF/AAVMF_VARS.ms.fd",
                );
            }
        }
        this
    }

    fn flash(&mut self, code: &str, variables: &str) {
        let vars = self.dir.path().join("vars.fd");
        std::fs::copy(variables, &vars)
            .expect("the Debian packages ovmf and qemu-efi-aarch64 are installed");
        self.with(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={code}")]);
        self.with(&["-drive", &format!("if=pflash,format=raw,file={}", vars.display())]);
        // firmware would wait for IPv6
        self.with(&["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
        let has_pxe =
            if matches!(self.firmware, Firmware::UefiHttp | Firmware::ArmHttp) { "n" } else { "y" };
        self.with(&["-fw_cfg", &format!("name=opt/org.tianocore/IPv4PXESupport,string={has_pxe}")]);
    }

    fn with(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    fn bootindex(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// Adds a network card that is connected to `tap`.
    #[must_use]
    pub fn card(mut self, tap: &str, mac: &str) -> Self {
        let id = format!("n{}", self.next);
        // UEFI has a network stack of its own
        let rom = match self.firmware {
            Firmware::Bios => "",
            Firmware::UefiRom => ",romfile=/usr/lib/ipxe/qemu/efi-virtio.rom",
            _ => ",romfile=",
        };
        let device =
            format!("virtio-net-pci,netdev={id},mac={mac},bootindex={}{rom}", self.bootindex());
        self.with(&[
            "-netdev",
            &format!("tap,id={id},ifname={tap},script=no,downscript=no"),
            "-device",
            &device,
        ]);
        self
    }

    /// Adds an empty slot. [`Machine::plug_in`] plugs in a network card that is connected to `tap`.
    #[must_use]
    pub fn late_card(mut self, tap: &str, mac: &str) -> Self {
        self.with(&["-netdev", &format!("tap,id=late,ifname={tap},script=no,downscript=no")]);
        self.with(&["-device", "pcie-root-port,id=place,chassis=1,slot=1"]);
        self.late.push(format!("virtio-net-pci,netdev=late,mac={mac},bus=place,romfile="));
        self
    }

    /// Adds a USB disk that [`Machine::plug_in`] plugs in.
    #[must_use]
    pub fn late_disk(mut self, path: &Path, serial: &str) -> Self {
        self.with(&[
            "-blockdev",
            &format!(r#"{{"node-name":"late","driver":"raw","file":{}}}"#, file(path)),
        ]);
        self.usb();
        self.late.push(format!("usb-storage,drive=late,bus=usb.0,serial={serial}"));
        self
    }

    /// Adds a disk whose content is the file at `path`.
    #[must_use]
    pub fn disk(self, bus: Bus, path: &Path, serial: &str) -> Self {
        self.disk_of(bus, &file(path), serial)
    }

    /// Adds a disk on which writes to `sector` (of 512 bytes) fail.
    #[must_use]
    pub fn failing_disk(self, bus: Bus, path: &Path, serial: &str, sector: u64) -> Self {
        let error = format!(r#"{{"event":"write_aio","errno":5,"sector":{sector}}}"#);
        let image = file(path);
        let file = format!(r#"{{"driver":"blkdebug","image":{image},"inject-error":[{error}]}}"#);
        self.disk_of(bus, &file, serial)
    }

    /// Adds a disk that writes at most `bytes_per_second`.
    #[must_use]
    pub fn slow_disk(mut self, bus: Bus, path: &Path, serial: &str, bytes_per_second: u64) -> Self {
        let limits = format!(r#"{{"bps-write":{bytes_per_second}}}"#);
        self.with(&[
            "-object",
            &format!(r#"{{"qom-type":"throttle-group","id":"slow","limits":{limits}}}"#),
        ]);
        self.disk_of(
            bus,
            &format!(r#"{{"driver":"throttle","throttle-group":"slow","file":{}}}"#, file(path)),
            serial,
        )
    }

    fn usb(&mut self) {
        if !self.has_usb {
            self.has_usb = true;
            self.with(&["-device", "qemu-xhci,id=usb"]);
        }
    }

    fn disk_of(mut self, bus: Bus, file: &str, serial: &str) -> Self {
        let id = format!("d{}", self.next);
        let index = self.bootindex();
        let read_only = bus == Bus::Cd;
        let node = format!(
            r#"{{"node-name":"{id}","driver":"raw","read-only":{read_only},"file":{file}}}"#
        );
        self.with(&["-blockdev", &node]);
        if bus == Bus::Usb {
            self.usb();
        }
        let device = match bus {
            Bus::Nvme => format!("nvme,drive={id},serial={serial}"),
            Bus::Ahci => format!("ide-hd,drive={id},serial={serial}"),
            Bus::Virtio => format!("virtio-blk-pci,drive={id},serial={serial}"),
            Bus::Usb => format!("usb-storage,drive={id},bus=usb.0,serial={serial},removable=on"),
            Bus::Cd => format!("ide-cd,drive={id},serial={serial}"),
        };
        self.with(&["-device", &format!("{device},bootindex={index}")]);
        self
    }

    /// Boots this kernel and initramfs directly, also after a restart of the machine.
    #[must_use]
    pub fn kernel(mut self, kernel: &Path, initramfs: &Path, command_line: &str) -> Self {
        let (kernel, initramfs) = (kernel.to_str().unwrap(), initramfs.to_str().unwrap());
        self.with(&["-kernel", kernel, "-initrd", initramfs, "-append", command_line]);
        self
    }

    /// Sets the clock to a date, such as `2001-01-01`.
    #[must_use]
    pub fn clock(mut self, date: &str) -> Self {
        self.with(&["-rtc", &format!("base={date}")]);
        self
    }

    /// Switches the machine on.
    #[must_use]
    pub fn start(self) -> Machine {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let serial = format!("socket,id=s,path={},server=on,wait=on", at("serial"));
        let is_arm = self.firmware.arch() == "arm64";
        let mut command =
            Command::new(if is_arm { "qemu-system-aarch64" } else { "qemu-system-x86_64" });
        // without KVM: /dev/kvm may exist and not work
        command.args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            // QEMU emulates the default pointer authentication slowly
            if is_arm { "max,pauth-impdef=on" } else { "max" },
            "-m",
            "1024",
            "-display",
            "none",
            "-nodefaults",
            "-vga",
            "none",
        ]);
        command.args(match self.firmware {
            _ if is_arm => ["-M", "virt"],
            Firmware::UefiSecure => ["-M", "q35,graphics=off,smm=on"],
            _ => ["-M", "q35,graphics=off"],
        });
        command.args(["-chardev", &serial, "-serial", "chardev:s", "-device", "virtio-rng-pci"]);
        command.args(["-monitor", &format!("unix:{},server=on,wait=off", at("monitor"))]);
        let log = std::fs::File::create(at("qemu.log")).unwrap();
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let (child, line) = switch_on(&mut command, self.dir.path());
        Machine { child, command, line, late: self.late, resets: 0, dir: self.dir }
    }
}

/// Starts QEMU and connects its serial line.
fn switch_on(command: &mut Command, dir: &Path) -> (Child, SerialLine) {
    let path = dir.join("serial");
    // the socket of an earlier start refuses connections
    let _ = std::fs::remove_file(&path);
    let mut child = command.spawn().expect("the Debian package qemu-system-x86 is installed");
    let line = SerialLine::connect(&path, &mut child);
    (child, line)
}

/// The file with the content of a disk, as a node of QEMU's block layer.
fn file(path: &Path) -> String {
    format!(r#"{{"driver":"file","filename":"{}"}}"#, path.display())
}

impl Machine {
    /// Switches on a machine that has only a network card, connected to `tap`.
    #[must_use]
    pub fn start(firmware: Firmware, tap: &str, mac: &str) -> Self {
        Hardware::new(firmware).card(tap, mac).start()
    }

    /// The output of the machine so far, without escape sequences, followed by that of QEMU.
    #[must_use]
    pub fn said(&self) -> String {
        let qemu = std::fs::read(self.dir.path().join("qemu.log")).unwrap_or_default();
        self.line.text() + &String::from_utf8_lossy(&qemu)
    }

    /// Types on the serial line.
    pub fn type_in(&mut self, keys: &str) {
        self.line.socket.write_all(keys.as_bytes()).unwrap();
    }

    /// Plugs in the devices of [`Hardware::late_card`] and [`Hardware::late_disk`] while the machine
    /// runs.
    ///
    /// # Panics
    /// If QEMU refuses one.
    pub fn plug_in(&self) {
        self.monitor(self.late.iter().map(|device| format!("device_add {device}")));
    }

    /// Has QEMU's monitor run commands.
    fn monitor(&self, commands: impl IntoIterator<Item = String>) {
        let mut monitor =
            BufReader::new(UnixStream::connect(self.dir.path().join("monitor")).unwrap());
        for command in commands {
            monitor.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
        }
        monitor.get_mut().write_all(b"info status\n").unwrap();
        let answers =
            monitor.lines().map(Result::unwrap).take_while(|line| !line.starts_with("VM status"));
        assert!(answers.inspect(|line| println!("{line}")).all(|line| !line.contains("Error")));
    }

    /// Presses the reset button of a machine whose clock has stopped.
    fn reset_if_clock_stopped(&mut self) {
        if clock_stops(&self.line.text()) > self.resets {
            self.resets += 1;
            self.monitor(["system_reset".to_owned()]);
        }
    }

    /// Waits until `is` returns true for the output of the machine, and returns how long that took.
    /// `what` says in the panic's message what was waited for.
    ///
    /// # Panics
    /// If the machine exits or cannot boot, and after `limit`.
    pub fn wait(
        &mut self,
        limit: Duration,
        what: &str,
        mut is: impl FnMut(&str) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            // checked first: the machine may print its last output and exit in between
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            let said = self.said();
            if is(&said) {
                return begun.elapsed();
            }
            let is_lost = has_ended || is_lost(&self.line.text()) || begun.elapsed() > limit;
            assert!(
                !is_lost,
                "{what} did not happen in {:.0?}; the machine said:\n{said}",
                begun.elapsed()
            );
            self.reset_if_clock_stopped();
            // bytes arrive one by one, and each check reads the whole text
            std::thread::sleep(POLL);
        }
    }

    /// Switches the machine on again; its firmware keeps its variables. Clears the output.
    ///
    /// # Panics
    /// If it is still on.
    pub fn power_on_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it is off");
        (self.child, self.line) = switch_on(&mut self.command, self.dir.path());
        self.resets = 0;
    }

    /// Waits until the machine has powered off.
    ///
    /// # Panics
    /// After `limit`.
    pub fn wait_off(&mut self, limit: Duration) {
        let begun = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            assert!(
                begun.elapsed() < limit,
                "it does not switch itself off; it said:\n{}",
                self.said()
            );
            std::thread::sleep(POLL);
        }
    }
}

const POLL: Duration = Duration::from_millis(20);

/// Output of a machine that cannot boot.
const LOST: [&str; 3] = ["Shell>", "BdsDxe: No bootable option", "No bootable device"];

/// Reason of a panic in an emulated machine that got no processor of the host for some tens of
/// milliseconds, just while Linux counted the ticks of its clock. Hardware has no such pauses.
const CLOCK_STOPPED: &str = "IO-APIC + timer doesn't work!";

/// The lines of `said` with the reason of a panic. An unfinished line does not count, because the
/// reason is at its end.
fn panics(said: &str) -> impl Iterator<Item = &str> {
    let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete.lines().filter(|line| line.contains("] Kernel panic"))
}

fn is_lost(said: &str) -> bool {
    LOST.iter().any(|sign| said.contains(sign))
        || panics(said).any(|line| !line.contains(CLOCK_STOPPED))
}

fn clock_stops(said: &str) -> usize {
    panics(said).filter(|line| line.contains(CLOCK_STOPPED)).count()
}

/// Removes escape sequences from a text.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                // skip the parameters and the final letter
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
        } else if !c.is_control() || c == '\n' {
            plain.push(c);
        }
    }
    plain
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the machine has said:\n{}", self.said());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPED: &str = "[    0.052000] Kernel panic - not syncing: IO-APIC + timer doesn't work!  \
                           Boot with apic=debug\n---[ end Kernel panic - not syncing: IO-APIC ]---\n";

    #[test]
    fn a_machine_whose_clock_stopped_is_reset_once_and_not_lost() {
        assert!(!is_lost(STOPPED));
        assert_eq!(clock_stops(STOPPED), 1);
    }

    #[test]
    fn the_reason_of_a_panic_is_known_at_the_end_of_its_line() {
        let (line, _) = STOPPED.split_once('\n').unwrap();
        assert!(!is_lost(line) && clock_stops(line) == 0);
    }

    #[test]
    fn any_other_panic_ends_the_wait() {
        assert!(is_lost("[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n"));
    }
}
