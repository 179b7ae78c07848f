//! Network interfaces. Virtual ones (bridges, tunnels, `veth`) are included only when there is no
//! hardware interface, as in a container.

use std::fs;
use std::path::{Path, PathBuf};

use crate::disks::sysfs::text;
use crate::hardware::node::HardwareNode;
use crate::hardware::pci::{self, Attached};
use crate::hardware::{HardwareRoots, names_in};

// `include/uapi/linux/if.h` and `if_arp.h` in the kernel
const IS_UP: u32 = 1 << 0;
const IS_BROADCAST: u32 = 1 << 1;
const IS_LOOPBACK: u32 = 1 << 3;
const IS_MULTICAST: u32 = 1 << 12;
const TYPE_ETHERNET: u32 = 1;
const TYPE_INFINIBAND: u32 = 32;

struct Interface {
    name: String,
    dir: PathBuf,
    /// Directory of the device that it belongs to, symbolic links resolved.
    device: Option<PathBuf>,
    flags: u32,
}

/// All interfaces as nodes, sorted by name.
pub(super) fn nodes(roots: &HardwareRoots) -> Vec<Attached> {
    let class = roots.sys.join("class/net");
    let read = |name: String| {
        let dir = class.join(&name);
        let device = fs::canonicalize(dir.join("device")).ok();
        let flags = text(&dir, "flags")
            .and_then(|hex| u32::from_str_radix(hex.strip_prefix("0x")?, 16).ok());
        Interface { name, dir, device, flags: flags.unwrap_or(0) }
    };
    let mut all: Vec<Interface> = names_in(&class).into_iter().map(read).collect();
    // drops the loopback, and files such as `bonding_masters`
    all.retain(|interface| {
        interface.flags & IS_LOOPBACK == 0 && interface.name != "lo" && interface.dir.is_dir()
    });
    if all.iter().any(|interface| interface.device.is_some()) {
        all.retain(|interface| interface.device.is_some());
    }
    let attach = |interface: &Interface| Attached {
        to: interface.device.as_deref().and_then(pci::address_in),
        is_network: true,
        node: interface.node(),
    };
    all.iter().map(attach).collect()
}

impl Interface {
    fn node(&self) -> HardwareNode {
        let say = |name: &str| text(&self.dir, name);
        let megabits =
            say("speed").and_then(|speed| speed.parse::<u64>().ok()).filter(|&speed| speed > 0);
        // cannot be read while the interface is down
        let has_link = say("carrier").as_deref() == Some("1");
        let yes = |is: bool| Some(if is { "yes" } else { "no" });
        let usb = self.device.as_deref().and_then(usb_device);
        let node = HardwareNode::new("network", "network")
            .claimed()
            .described(self.description())
            .with("logicalname", Some(self.name.clone()))
            .with("serial", self.address())
            .with("product", usb.and_then(|dir| text(dir, "product")))
            .with("vendor", usb.and_then(|dir| text(dir, "manufacturer")))
            .with("businfo", self.businfo())
            .with("disabled", (self.flags & IS_UP == 0).then_some(true))
            .sized(megabits.map(|megabits| megabits.saturating_mul(1_000_000)), "bit/s")
            .configured("driver", self.driver())
            .configured("link", yes(has_link))
            .configured("speed", megabits.map(speed_text))
            .configured(
                "duplex",
                say("duplex").filter(|duplex| duplex == "full" || duplex == "half"),
            )
            .configured("broadcast", yes(self.flags & IS_BROADCAST != 0))
            .configured("multicast", yes(self.flags & IS_MULTICAST != 0));
        let node = if self.device.is_some() {
            node.capable("physical", "Physical interface")
        } else {
            node
        };
        match self.is_wireless() {
            true => node.capable("wireless", "Wireless-LAN"),
            false if self.is(TYPE_ETHERNET) => node.capable("ethernet", true),
            false => node,
        }
    }

    fn is(&self, kind: u32) -> bool {
        text(&self.dir, "type").is_some_and(|text| text.parse() == Ok(kind))
    }

    fn is_wireless(&self) -> bool {
        ["wireless", "phy80211"].iter().any(|name| self.dir.join(name).exists())
    }

    fn description(&self) -> &'static str {
        match self.is_wireless() {
            true => "Wireless interface",
            false if self.is(TYPE_ETHERNET) => "Ethernet interface",
            false if self.is(TYPE_INFINIBAND) => "InfiniBand interface",
            false => "Network interface",
        }
    }

    /// The permanent MAC address: in a bond, every interface shows the address of the first one.
    fn address(&self) -> Option<String> {
        let own =
            text(&self.dir, "bonding_slave/perm_hwaddr").or_else(|| text(&self.dir, "address"))?;
        own.bytes().any(|b| b != b'0' && b != b':').then(|| own.to_lowercase())
    }

    fn driver(&self) -> Option<String> {
        pci::driver(self.device.as_deref()?)
    }

    fn businfo(&self) -> Option<String> {
        let device = self.device.as_deref()?;
        if let Some(usb) = usb_device(device) {
            // `1-2.3` is port 3 of the hub at port 2 of bus 1
            let (bus, ports) = usb.file_name()?.to_str()?.split_once('-')?;
            return Some(format!("usb@{bus}:{ports}"));
        }
        if let Some(number) = device.file_name()?.to_str()?.strip_prefix("virtio") {
            return Some(format!("virtio@{number}"));
        }
        pci::address_in(device).map(|address| format!("pci@{address}"))
    }
}

/// The USB device that `dir` is an interface of.
fn usb_device(dir: &Path) -> Option<&Path> {
    dir.ancestors().take(2).find(|dir| dir.join("idVendor").exists() && dir.join("busnum").exists())
}

fn speed_text(megabits: u64) -> String {
    if megabits.is_multiple_of(1000) {
        format!("{}Gbit/s", megabits / 1000)
    } else {
        format!("{megabits}Mbit/s")
    }
}
