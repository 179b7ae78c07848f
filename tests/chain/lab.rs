//! A rack with an image in a registry, and machines with disks to flash.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bty_tests::images::filter;
use bty_tests::media::{MARKER, full_product, marker_image, product};
use bty_tests::qemu::{Bus, Firmware, Hardware, Machine};
use bty_tests::rack::{BASE, MAC, Rack};
use bty_tests::registry::Registry;
use serde_json::{Value, json};

use crate::sources::oci::{IMAGE, layer, push};

pub(crate) const SERIAL: &str = "CHAIN-1";
/// Timeout for machines without KVM, while other tests run. On a busy host a machine has needed
/// more than four minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Settings of a server that fetches images through its embedded cache host.
const ENV: [(&str, &str); 4] = [
    ("BTY_NETWORK_PLAIN_HTTP", "1"),
    ("BTY_CACHE_EMBEDDED", "1"),
    ("BTY_CACHE_LISTEN", "0.0.0.0:3000"),
    ("BTY_CACHE_REACH", "127.0.0.0/8"),
];

fn borrowed(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

/// Opens a shell in the live environment, in any of its states.
pub(crate) fn open_shell(machine: &mut Machine) {
    machine.type_in("\x1c");
    machine.wait(PATIENCE, "a shell", |said| said.contains("bty# "));
}

pub(crate) struct Lab {
    pub(crate) rack: Rack,
    /// The content that the disk must have after the flash.
    pub(crate) content: Vec<u8>,
    pub(crate) image_ref: String,
    _registry: Registry,
}

impl Lab {
    /// Creates a lab with the DHCP configuration that the server suggests under the heading that
    /// contains `what`.
    pub(crate) fn new(what: &str) -> Self {
        Self::of(what, "x86_64")
    }

    /// Like [`new`](Self::new), with another image.
    pub(crate) fn with(what: &str, image: &Path) -> Self {
        Self::in_rack(Rack::new(what, &borrowed(&product("netboot-pc", "x86_64")), &ENV), image)
    }

    /// Like [`new`](Self::new), with the full environment on the server.
    pub(crate) fn with_full() -> Self {
        let files = full_product("netboot-pc", "x86_64");
        Self::in_rack(Rack::new("BIOS, UEFI", &borrowed(&files), &ENV), &marker_image())
    }

    /// Like [`new`](Self::new), but the catalog has the digest of the image.
    pub(crate) fn with_digest(what: &str) -> Self {
        let rack = Rack::new(what, &borrowed(&product("netboot-pc", "x86_64")), &ENV);
        Self::in_rack_with(rack, &marker_image(), true)
    }

    /// Like [`new`](Self::new), for another architecture.
    pub(crate) fn of(what: &str, arch: &str) -> Self {
        Self::in_rack(
            Rack::new(what, &borrowed(&product("netboot-pc", arch)), &ENV),
            &marker_image(),
        )
    }

    /// Creates a lab with DHCP lines derived from all suggestions of the server, and with
    /// additional boot files.
    pub(crate) fn with_lines(
        lines: impl FnOnce(&str) -> String + Send,
        arch: &str,
        files: &[&Path],
    ) -> Self {
        let all = product("netboot-pc", arch);
        let all = [&borrowed(&all), files].concat();
        Self::in_rack(Rack::with_lines(lines, &all, &ENV), &marker_image())
    }

    fn in_rack(rack: Rack, image: &Path) -> Self {
        Self::in_rack_with(rack, image, false)
    }

    fn in_rack_with(rack: Rack, image: &Path, has_digest: bool) -> Self {
        let content = std::fs::read(image).unwrap();
        let packed = filter(&["zstd", "-q3c"], &content);
        let (registry, image_ref) = rack.ns.run(|| {
            let registry = Registry::start();
            push(&registry, "team/marker:v1", &[layer(IMAGE, "marker.img.zst", &packed)]);
            let mut catalog = format!(
                "version = 1\n[[images]]\nname = \"marker\"\nsrc = \"oras://{}/team/marker:v1\"\n\
                 format = \"img.zst\"\n",
                registry.host()
            );
            if has_digest {
                catalog.push_str(&format!("sha256 = \"{}\"\n", bty::Digest::of(&packed)));
            }
            let path = rack.dir().join("catalog.toml");
            std::fs::write(&path, catalog).unwrap();
            rack.web
                .request("POST", &format!("/catalog/import?source={}", path.display()), &[], b"")
                .expect(200);
            let image_ref = rack.web.get("/images").json()[0]["ref"].as_str().unwrap().to_owned();
            (registry, image_ref)
        });
        Self { rack, content, image_ref, _registry: registry }
    }

    /// A disk full of old data.
    pub(crate) fn disk(&self) -> PathBuf {
        let path = self.rack.dir().join("disk.img");
        std::fs::write(&path, vec![0xA5; self.content.len() + (32 << 20)]).unwrap();
        path
    }

    /// Assigns a plan to the machine.
    pub(crate) fn bind(&self, plan: &str, serial: &str) {
        self.bind_with(plan, serial, &json!({}));
    }

    /// Like [`bind`](Self::bind), with parameters of the plan.
    pub(crate) fn bind_with(&self, plan: &str, serial: &str, parameters: &Value) {
        let binding = json!({
            "boot_mode": plan, "bty_image_ref": self.image_ref, "target_disk_serial": serial,
            "params": parameters,
        });
        self.rack
            .ns
            .run(|| self.rack.web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200));
    }

    /// A machine that boots from its network card first.
    pub(crate) fn hardware(&self, firmware: Firmware) -> Hardware {
        Hardware::new(firmware).card("tap0", MAC)
    }

    pub(crate) fn power_on(&self, hardware: Hardware) -> Machine {
        self.rack.ns.run(|| hardware.start())
    }

    /// Returns the script that iPXE gets at the next boot.
    pub(crate) fn next_boot(&self) -> String {
        static BOOTS: AtomicUsize = AtomicUsize::new(0);
        let path = format!(
            "/pxe/{}?boot={}",
            MAC.replace(':', "-"),
            BOOTS.fetch_add(1, Ordering::Relaxed)
        );
        self.rack.ns.run(|| self.rack.web.get(&path).expect(200).text())
    }

    /// Starts the kernel and the initramfs directly, with the command line that iPXE would pass.
    pub(crate) fn boot_kernel(&self, hardware: Hardware) -> Machine {
        let script = self.next_boot();
        let line = script
            .lines()
            .find_map(|line| line.strip_prefix("kernel "))
            .unwrap_or_else(|| panic!("{script}"));
        let words = line.split(" || ").next().unwrap().split_once(' ').unwrap().1;
        self.boot_kernel_with(
            hardware,
            &words.replace("${bty-base}", BASE).replace("${bty-consoles}", ""),
        )
    }

    /// Like [`boot_kernel`](Self::boot_kernel), but with `words` on the command line.
    pub(crate) fn boot_kernel_with(&self, hardware: Hardware, words: &str) -> Machine {
        let files = product("netboot-pc", "x86_64");
        let file = |end: &str| {
            files.iter().find(|file| file.extension().is_some_and(|e| e == end)).unwrap()
        };
        let words = format!("console=ttyS0,115200 {words}");
        self.power_on(hardware.kernel(file("vmlinuz"), file("initrd"), &words))
    }

    /// Waits until the server records the flash. Checks that there was only one, and compares the
    /// disk.
    pub(crate) fn is_flashed_once(&self, machine: &mut Machine, disk: &Path) {
        self.wait_for(machine, "machine.flashed", 1);
        assert!(self.is_flashed(disk), "the disk is the image");
        assert_eq!(self.count("machine.flashed"), 1, "{:?}", self.events());
    }

    /// Starts a machine with BIOS and an old NVMe disk, with a plan assigned.
    pub(crate) fn start(&self, plan: &str) -> (PathBuf, Machine) {
        let disk = self.disk();
        self.bind(plan, SERIAL);
        let machine = self.power_on(self.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL));
        (disk, machine)
    }

    /// Waits until the flashed system has run and powered off. Checks that the disk equals the
    /// image and was flashed once.
    pub(crate) fn ends(&self, mut machine: Machine, disk: &Path) {
        machine.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
        machine.wait_off(PATIENCE);
        drop(machine);
        assert!(self.is_flashed(disk), "the disk is the image");
        assert_eq!(self.count("machine.flashed"), 1, "{:?}", self.events());
    }

    /// The machine, as the server returns it.
    pub(crate) fn machine(&self) -> Value {
        self.rack.ns.run(|| self.rack.web.get(&format!("/machines/{MAC}")).json())
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.rack.ns.run(|| self.rack.web.events(MAC))
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.events().iter().filter(|known| *known == kind).count()
    }

    /// Waits until the machine has had `times` events of a kind.
    pub(crate) fn wait_for(&self, machine: &mut Machine, kind: &str, times: usize) -> Duration {
        machine.wait(PATIENCE, kind, |_| self.count(kind) >= times)
    }

    pub(crate) fn is_flashed(&self, disk: &Path) -> bool {
        std::fs::read(disk).unwrap()[..self.content.len()] == self.content
    }

    /// Runs a machine from power-on to the marker. Checks that the disk was flashed once and equals
    /// the image.
    pub(crate) fn flashes(&self, firmware: Firmware, bus: Bus) {
        let disk = self.disk();
        self.bind("bty-flash-once", SERIAL);
        let begun = Instant::now();
        let mut machine = self.power_on(self.hardware(firmware).disk(bus, &disk, SERIAL));
        self.wait_for(&mut machine, "netboot.pxe.plan", 1);
        let plan = begun.elapsed();
        self.wait_for(&mut machine, "machine.flashed", 1);
        let flashed = begun.elapsed();
        machine.wait(PATIENCE, "the flashed system", |said| said.contains(MARKER));
        println!(
            "{firmware:?} {bus:?}: plan after {plan:.1?}, flashed after {flashed:.1?}, \
             system after {:.1?}",
            begun.elapsed()
        );
        self.ends(machine, &disk);
        let known = self.machine();
        assert_eq!(known["known_disks"][0]["serial"], SERIAL, "{known}");
        if firmware != Firmware::Bios {
            let contacts = self.count("netboot.pxe.offered");
            assert!(
                contacts <= 1,
                "UEFI boots the disk next, without the network: {:?}",
                self.events()
            );
        }
    }
}
