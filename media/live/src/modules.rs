//! Kernel modules: which one a device needs, what that one needs, and loading them. The indexes are
//! those that `depmod` writes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`: the kernel decompresses.
const COMPRESSED: i32 = 4;
/// Patterns are looked up by this many first bytes, which is a vendor for PCI: `pci:v00008086d`.
const KEY: usize = 14;

/// The modules that are there.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    root: PathBuf,
    /// Patterns of devices, by their first bytes.
    by_key: HashMap<String, Vec<(String, String)>>,
    /// The rest of them: those that have a wildcard early on.
    general: Vec<(String, String)>,
    /// File of a module, and the modules that it needs before.
    files: HashMap<String, (String, Vec<String>)>,
    blacklist: HashSet<String>,
    loaded: Mutex<HashMap<String, &'static OnceLock<()>>>,
}

impl Modules {
    /// Those of the running kernel, but for those that `modprobe.blacklist=` names.
    pub(crate) fn of_kernel<'a>(blacklists: impl Iterator<Item = &'a str>) -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut modules = Self::read(&Path::new("/lib/modules").join(release));
        modules.blacklist = blacklists.flat_map(|list| list.split(',')).map(plain).collect();
        modules
    }

    fn read(root: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let mut modules = Self { root: root.to_owned(), ..Self::default() };
        for line in text("modules.dep").lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().map(name_of).collect();
            modules.files.insert(name_of(file), (file.to_owned(), needs));
        }
        for line in text("modules.alias").lines() {
            let mut words = line.split(' ');
            let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let entry = (pattern.to_owned(), module.to_owned());
            let literal = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
            match pattern.get(..KEY) {
                Some(key) if literal >= KEY => {
                    modules.by_key.entry(key.to_owned()).or_default().push(entry);
                }
                _ => modules.general.push(entry),
            }
        }
        modules
    }

    /// The modules for a device with this alias.
    pub(crate) fn for_device(&self, alias: &str) -> Vec<&str> {
        let special = alias.get(..KEY).and_then(|key| self.by_key.get(key)).into_iter().flatten();
        let all = special.chain(self.general.iter());
        all.filter(|(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()))
            .map(|(_, module)| module.as_str())
            .collect()
    }

    /// Loads what a device needs.
    pub(crate) fn load_for(&self, alias: &str) {
        self.for_device(alias).into_iter().for_each(|module| self.load(module));
    }

    /// Loads a module after those that it needs; returns when that is done, whoever does it. One
    /// that cannot be loaded is in the kernel's log.
    pub(crate) fn load(&self, name: &str) {
        let name = plain(name);
        let Some((file, needs)) = self.files.get(&name) else { return };
        if self.blacklist.contains(&name) {
            return;
        }
        let once = *self
            .loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_insert_with(|| Box::leak(Box::default()));
        once.get_or_init(|| {
            // listed from the nearest to the farthest
            needs.iter().rev().for_each(|need| self.load(need));
            let path = self.root.join(file);
            let flags =
                if path.extension().is_some_and(|end| end == "ko") { 0 } else { COMPRESSED };
            if let Ok(file) = File::open(&path) {
                let _ = rustix::system::finit_module(&file, c"", flags);
            }
        });
    }
}

/// `kernel/drivers/net/virtio_net.ko.xz` is `virtio_net`.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    plain(name.split('.').next().unwrap_or(name))
}

/// Names are written with either sign.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Shell patterns as `fnmatch` has them, without its escapes: module aliases have none.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // where to go on when what follows the last star does not match
    let mut retry = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], text[t]),
            Some(&c) if c == text[t] => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(len), _) => (p, t) = (p + len, t + 1),
            (None, Some((after, from))) => {
                (p, t) = (after, from + 1);
                retry = Some((after, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Length of the class that `pattern` begins with, when it has `c` in it.
fn class(pattern: &[u8], c: u8) -> Option<usize> {
    let end = pattern.iter().position(|&b| b == b']')?;
    let inner = &pattern[1..end];
    let mut at = 0;
    while at < inner.len() {
        let is_range = inner.get(at + 1) == Some(&b'-') && at + 2 < inner.len();
        let last = if is_range { inner[at + 2] } else { inner[at] };
        if (inner[at]..=last).contains(&c) {
            return Some(end + 1);
        }
        at += if is_range { 3 } else { 1 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        let dir = tempfile::tempdir().unwrap();
        let dep = "kernel/net/failover.ko.xz:\nkernel/net/net_failover.ko.xz: kernel/net/failover.ko.xz\nkernel/virtio_net.ko.xz: kernel/net/net_failover.ko.xz kernel/net/failover.ko.xz\n";
        let alias = "# Aliases\nalias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\nalias pci:v*d*sv*sd*bc01sc06i01* ahci\nalias virtio:d00000001v* virtio-net\nalias scsi:t-0x00* sd_mod\n";
        fs::write(dir.path().join("modules.dep"), dep).unwrap();
        fs::write(dir.path().join("modules.alias"), alias).unwrap();
        Modules::read(dir.path())
    }

    #[test]
    fn a_device_finds_its_driver_by_vendor_or_by_class() {
        let modules = modules();
        assert_eq!(
            modules.for_device("pci:v00008086d000010D3sv00001AF4sd00001100bc02sc00i00"),
            ["e1000e"]
        );
        assert_eq!(
            modules.for_device("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"),
            ["ahci"]
        );
        assert_eq!(modules.for_device("virtio:d00000001v00001AF4"), ["virtio-net"]);
        assert_eq!(modules.for_device("scsi:t-0x00"), ["sd_mod"]);
        assert!(modules.for_device("pci:v0000").is_empty());
        assert!(modules.for_device("").is_empty());
    }

    #[test]
    fn what_a_module_needs_is_known_under_either_spelling() {
        let modules = modules();
        assert_eq!(modules.files["virtio_net"].1, ["net_failover", "failover"]);
        assert_eq!(name_of("kernel/x/cdc-acm.ko"), "cdc_acm");
    }

    #[test]
    fn patterns_match_as_those_of_a_shell() {
        let matches =
            |pattern: &str, text: &str| super::matches(pattern.as_bytes(), text.as_bytes());
        for (pattern, text) in [
            ("a*c", "abc"),
            ("a*c", "ac"),
            ("*", ""),
            ("a*b*c", "aXbXbXc"),
            ("usb:d0[0-3A]*", "usb:d0A1"),
            ("a?c", "abc"),
            ("**", "x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a*c", "abd"),
            ("a", "ab"),
            ("ab", "a"),
            ("[a", "a"),
            ("d[0-3]", "d4"),
            ("", "x"),
            ("[]", "]"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics_or_loops(pattern in "[-a-c*?\\[\\]]{0,12}", text in "[a-c]{0,12}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
            let everything = format!("*{text}*");
            proptest::prop_assert!(matches(everything.as_bytes(), text.as_bytes()));
        }
    }
}
