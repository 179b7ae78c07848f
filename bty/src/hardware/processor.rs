//! Processors, a node a socket.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::read;
use super::smbios::Socket;
use crate::disks::SystemRoots;

/// What the kernel says about the processors in one socket.
#[derive(Default)]
struct Package {
    fields: BTreeMap<String, String>,
    cores: BTreeSet<String>,
    threads: usize,
    max_khz: Option<u64>,
}

/// The nodes `cpu`, or `cpu:0` and so on.
pub(super) fn nodes(roots: &SystemRoots, sockets: &[Socket]) -> Vec<Value> {
    let packages = packages(roots);
    let several = packages.len() > 1;
    let node = |(number, (_, package)): (usize, (&String, &Package))| {
        let socket = sockets.get(number);
        let id = if several { format!("cpu:{number}") } else { "cpu".to_owned() };
        node(&id, number, package, socket)
    };
    packages.iter().enumerate().map(node).collect()
}

/// Threads in `/proc/cpuinfo`, by the package that they are in.
fn packages(roots: &SystemRoots) -> BTreeMap<String, Package> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    let text = read::text(&roots.proc.join("cpuinfo")).unwrap_or_default();
    for (number, thread) in text.split("\n\n").enumerate().filter(|(_, t)| t.contains("processor")) {
        let fields: BTreeMap<String, String> = thread
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let package = packages.entry(fields.get("physical id").cloned().unwrap_or_else(|| "0".into())).or_default();
        package.threads += 1;
        package.cores.insert(fields.get("core id").cloned().unwrap_or_else(|| number.to_string()));
        if package.fields.is_empty() {
            let cpu = roots.sys.join(format!("devices/system/cpu/cpu{number}"));
            package.max_khz = read::number(&cpu.join("cpufreq/cpuinfo_max_freq"));
            package.fields = fields;
        }
    }
    packages
}

fn node(id: &str, number: usize, package: &Package, socket: Option<&Socket>) -> Value {
    let mut node = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            node.insert(name.to_owned(), value);
        }
    };
    let field = |name: &str| package.fields.get(name).filter(|value| !value.is_empty()).map(|value| json!(value));
    let text = |text: Option<&String>| text.map(|text| json!(text));
    set("id", Some(json!(id)));
    set("class", Some(json!("processor")));
    set("claimed", Some(json!(true)));
    set("description", Some(json!("CPU")));
    // arm64 has no model name
    let model = field("model name").or_else(|| text(socket.and_then(|s| s.version.as_ref())));
    set("product", model.or_else(|| field("CPU implementer").map(|_| json!("ARM processor"))));
    set("vendor", text(socket.and_then(|s| s.vendor.as_ref())).or_else(|| field("vendor_id")));
    set("businfo", Some(json!(format!("cpu@{number}"))));
    set("slot", text(socket.and_then(|s| s.slot.as_ref())));
    let hertz = |mhz: u16| json!(u64::from(mhz) * 1_000_000);
    set("size", socket.and_then(|s| s.speed).map(hertz));
    set(
        "capacity",
        package.max_khz.map(|khz| json!(khz * 1000)).or_else(|| socket.and_then(|s| s.max_speed).map(hertz)),
    );
    set("width", Some(json!(if cfg!(target_pointer_width = "64") { 64 } else { 32 })));
    let cores = package.cores.len().to_string();
    let mut configuration = json!({ "cores": cores, "enabledcores": cores, "threads": package.threads.to_string() });
    if let Some(microcode) = package.fields.get("microcode") {
        configuration["microcode"] = json!(microcode);
    }
    set("configuration", Some(configuration));
    Value::Object(node)
}
