//! Processors: one node per socket, from the SMBIOS table, `/proc/cpuinfo`, and the packages and
//! cores in sysfs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::disks::sysfs::text;
use crate::hardware::node::HardwareNode;
use crate::hardware::smbios::{Processor, SmbiosTable};
use crate::hardware::{HardwareRoots, names_in, read_file};

/// A thread takes two to three KiB.
const CPUINFO_BYTES_MAX: u64 = 16 << 20;
/// Maximum number of CPU flags; today's processors have some 150.
const FLAGS_MAX: usize = 512;

/// The fields of a thread in `/proc/cpuinfo`.
type Info = HashMap<String, String>;

/// A processor chip as the kernel sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Package {
    /// Numbers of its hardware threads.
    threads: BTreeSet<u32>,
    /// Its cores, each by a text that is unique to it.
    cores: BTreeSet<String>,
}

/// One node per processor chip, and the total number of hardware threads.
pub(super) fn nodes(table: &SmbiosTable, roots: &HardwareRoots) -> (Vec<HardwareNode>, usize) {
    let cpuinfo = read_file(&roots.proc.join("cpuinfo"), CPUINFO_BYTES_MAX).unwrap_or_default();
    let infos = parse_cpuinfo(&String::from_utf8_lossy(&cpuinfo));
    let mut packages = packages(roots);
    if packages.is_empty() {
        packages = packages_of(&infos);
    }
    let threads = packages.iter().map(|package| package.threads.len()).sum();
    let sockets = packages.len().max(table.processors.len());
    let node = |at: usize| {
        let package = packages.get(at);
        let info =
            package.and_then(|package| package.threads.first()).and_then(|first| infos.get(first));
        let max_khz = package
            .and_then(|package| package.threads.first())
            .and_then(|first| max_khz(roots, *first));
        node(at, table.processors.get(at), package, info, max_khz)
    };
    ((0..sockets).map(node).collect(), threads)
}

fn node(
    at: usize,
    slot: Option<&Processor>,
    package: Option<&Package>,
    info: Option<&Info>,
    max_khz: Option<u64>,
) -> HardwareNode {
    const MHZ: u64 = 1_000_000;
    let say = |key: &str| info.and_then(|info| info.get(key)).cloned();
    let vendor =
        say("vendor_id").map(|id| vendor_name(&id)).or_else(|| slot.and_then(|s| s.vendor.clone()));
    let version = match (say("cpu family"), say("model"), say("stepping")) {
        (Some(family), Some(model), Some(stepping)) => Some(format!("{family}.{model}.{stepping}")),
        _ => slot.and_then(|s| s.version.clone()),
    };
    let size = slot
        .and_then(|s| s.current_mhz)
        .or_else(|| whole_mhz(&say("cpu MHz")?))
        .map(|mhz| mhz * MHZ);
    let capacity =
        max_khz.map(|khz| khz.saturating_mul(1000)).or_else(|| slot?.max_mhz.map(|mhz| mhz * MHZ));
    let cores = package.map(|p| p.cores.len() as u64);
    let threads = package.map(|p| p.threads.len() as u64);
    let node = HardwareNode::new("cpu", "processor")
        .claimed()
        .described("CPU")
        .with("handle", slot.map(|s| format!("DMI:{:04X}", s.handle)))
        .with("product", say("model name").or_else(|| slot?.version.clone()))
        .with("vendor", vendor)
        .with("version", version)
        .with("businfo", Some(format!("cpu@{at}")))
        .with("slot", slot.and_then(|s| s.socket.clone()))
        .with("serial", slot.and_then(|s| s.serial.clone()))
        .sized(size, "Hz")
        .with("capacity", capacity.or(size))
        .with("clock", slot.and_then(|s| s.external_mhz).map(|mhz| mhz * MHZ))
        .with("width", Some(usize::BITS))
        .configured("cores", slot.and_then(|s| s.cores).or(cores).map(|n| n.to_string()))
        .configured(
            "enabledcores",
            slot.and_then(|s| s.cores_enabled).or(cores).map(|n| n.to_string()),
        )
        .configured("threads", slot.and_then(|s| s.threads).or(threads).map(|n| n.to_string()))
        .configured(
            "microcode",
            say("microcode").and_then(|text| hex(&text)).map(|n| n.to_string()),
        );
    let flags = say("flags").or_else(|| say("Features")).unwrap_or_default();
    flags.split_whitespace().take(FLAGS_MAX).fold(node, |node, flag| match flag {
        "lm" => node.capable("x86-64", "64bits extensions (x86-64)"),
        flag => node.capable(flag, true),
    })
}

/// Reads packages from sysfs, in the order of their numbers:
/// `Documentation/ABI/stable/sysfs-devices-system-cpu` in the kernel.
fn packages(roots: &HardwareRoots) -> Vec<Package> {
    let dir = roots.sys.join("devices/system/cpu");
    let mut packages = BTreeMap::<i64, Package>::new();
    for name in names_in(&dir) {
        let Some(number) = name.strip_prefix("cpu").and_then(|digits| digits.parse().ok()) else {
            continue;
        };
        let topology = dir.join(&name).join("topology");
        let Some(id) = text(&topology, "physical_package_id").and_then(|id| id.parse().ok()) else {
            continue;
        };
        let package = packages.entry(id).or_default();
        package.threads.insert(number);
        // a core is identified by the list of its threads, because core numbers are unique only
        // within a cluster or die
        let core = ["core_cpus_list", "thread_siblings_list"]
            .iter()
            .find_map(|name| text(&topology, name));
        package.cores.insert(core.unwrap_or(name));
    }
    packages.into_values().collect()
}

/// Packages according to `/proc/cpuinfo`, which not all architectures list.
fn packages_of(infos: &BTreeMap<u32, Info>) -> Vec<Package> {
    let mut packages = BTreeMap::<u32, Package>::new();
    for (number, info) in infos {
        let id = info.get("physical id").and_then(|id| id.parse().ok()).unwrap_or(0);
        let package = packages.entry(id).or_default();
        package.threads.insert(*number);
        package.cores.insert(info.get("core id").cloned().unwrap_or_else(|| number.to_string()));
    }
    packages.into_values().collect()
}

/// Parses `/proc/cpuinfo`: blocks of `key : value` lines, one block per thread. The result is by
/// thread number.
pub(crate) fn parse_cpuinfo(text: &str) -> BTreeMap<u32, Info> {
    let mut infos = BTreeMap::new();
    for block in text.split("\n\n") {
        let pair = |line: &str| {
            line.split_once(':')
                .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        };
        let info: Info =
            block.lines().filter_map(pair).filter(|(_, value)| !value.is_empty()).collect();
        // blocks without a processor number describe the board
        if let Some(number) = info.get("processor").and_then(|number| number.parse().ok()) {
            infos.insert(number, info);
        }
    }
    infos
}

fn max_khz(roots: &HardwareRoots, thread: u32) -> Option<u64> {
    text(&roots.sys.join(format!("devices/system/cpu/cpu{thread}/cpufreq")), "cpuinfo_max_freq")?
        .parse()
        .ok()
}

fn vendor_name(id: &str) -> String {
    let name = match id {
        "GenuineIntel" => "Intel Corp.",
        "AuthenticAMD" => "Advanced Micro Devices [AMD]",
        other => other,
    };
    name.to_owned()
}

/// Parses `2300.000`, dropping the fraction.
fn whole_mhz(text: &str) -> Option<u64> {
    let mhz: u64 = text.split('.').next()?.parse().ok()?;
    (1..1_000_000).contains(&mhz).then_some(mhz)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
