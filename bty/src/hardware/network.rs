//! Network interfaces of real hardware.

use std::path::Path;

use serde_json::{Value, json};

use super::read;
use crate::disks::SystemRoots;

/// `ARPHRD_ETHER`, from `linux/if_arp.h`.
const ETHERNET: u64 = 1;

/// The nodes `network`, or `network:0` and so on: interfaces with a device behind them.
pub(super) fn nodes(roots: &SystemRoots) -> Vec<Value> {
    let interfaces = read::entries(&roots.sys.join("class/net"));
    let real: Vec<_> = interfaces.iter().filter(|dir| dir.join("device").exists()).collect();
    let several = real.len() > 1;
    let id = |number: usize| if several { format!("network:{number}") } else { "network".to_owned() };
    real.iter().enumerate().map(|(number, dir)| node(&id(number), dir)).collect()
}

fn node(id: &str, dir: &Path) -> Value {
    let device = dir.join("device");
    let is_ethernet = read::number(&dir.join("type")) == Some(ETHERNET);
    let is_wireless = dir.join("wireless").exists() || dir.join("phy80211").exists();
    let description = match (is_wireless, is_ethernet) {
        (true, _) => "Wireless interface",
        (false, true) => "Ethernet interface",
        (false, false) => "Network interface",
    };
    let mut node = json!({
        "id": id,
        "class": "network",
        "claimed": true,
        "description": description,
        "logicalname": read::name(dir),
    });
    if let Some(mac) = read::text(&dir.join("address")) {
        node["serial"] = json!(mac);
    }
    super::tree::describe_device(&mut node, &device);
    let mut configuration = json!({ "link": if read::number(&dir.join("carrier")) == Some(1) { "yes" } else { "no" } });
    if let Some(driver) = read::link_name(&device.join("driver")) {
        configuration["driver"] = json!(driver);
    }
    if let Some(duplex) = read::text(&dir.join("duplex")).filter(|duplex| duplex != "unknown") {
        configuration["duplex"] = json!(duplex);
    }
    // -1 without a link
    if let Some(megabits) = read::number(&dir.join("speed")) {
        configuration["speed"] = json!(format!("{megabits}Mbit/s"));
        node["size"] = json!(megabits.saturating_mul(1_000_000));
        node["units"] = json!("bit/s");
    }
    node["configuration"] = configuration;
    node
}
