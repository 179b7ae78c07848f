//! Kernel modules: finds the modules for a device and their dependencies in the indexes that
//! `depmod` writes, and loads them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`: the kernel decompresses.
const COMPRESSED: i32 = 4;
/// Alias patterns are indexed by their first bytes. For PCI these contain the vendor:
/// `pci:v00008086d`.
const KEY_LEN: usize = 14;

/// The modules of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    root: PathBuf,
    /// Alias patterns and module names, by the first [`KEY_LEN`] bytes of the pattern.
    by_key: HashMap<String, Vec<(String, String)>>,
    /// Alias patterns with a wildcard among their first bytes, and module names.
    unkeyed: Vec<(String, String)>,
    /// By name of the module: its file, and the modules that it depends on, the nearest first.
    files: HashMap<String, (String, Vec<String>)>,
    blacklist: HashSet<String>,
    /// By name of the module: set when loading has been tried. The mutex is held only to look up
    /// the entry; whoever needs a module that is being loaded waits at its `OnceLock`.
    loaded: Mutex<HashMap<String, &'static OnceLock<()>>>,
}

impl Modules {
    /// Reads the indexes of the running kernel. Modules in `blacklists`, the comma-separated values
    /// of `modprobe.blacklist=`, are never loaded.
    pub(crate) fn from_kernel<'a>(blacklists: impl Iterator<Item = &'a str>) -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut modules = Self::read(&Path::new("/lib/modules").join(release));
        modules.blacklist = blacklists.flat_map(|list| list.split(',')).map(normalize).collect();
        modules
    }

    fn read(root: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let mut modules = Self { root: root.to_owned(), ..Self::default() };
        for line in text("modules.dep").lines() {
            let Some((file, dependencies)) = line.split_once(':') else { continue };
            let dependencies = dependencies.split_whitespace().map(module_name).collect();
            modules.files.insert(module_name(file), (file.to_owned(), dependencies));
        }
        for line in text("modules.alias").lines() {
            let mut fields = line.split(' ');
            let (Some("alias"), Some(pattern), Some(module)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let entry = (pattern.to_owned(), module.to_owned());
            let literal_len = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
            match pattern.get(..KEY_LEN) {
                Some(key) if literal_len >= KEY_LEN => {
                    modules.by_key.entry(key.to_owned()).or_default().push(entry);
                }
                _ => modules.unkeyed.push(entry),
            }
        }
        modules
    }

    /// The modules whose patterns match the alias of a device.
    pub(crate) fn for_device(&self, alias: &str) -> Vec<&str> {
        let keyed = alias.get(..KEY_LEN).and_then(|key| self.by_key.get(key)).into_iter().flatten();
        let all = keyed.chain(self.unkeyed.iter());
        all.filter(|(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()))
            .map(|(_, module)| module.as_str())
            .collect()
    }

    /// Loads the modules for a device with this alias.
    pub(crate) fn load_for(&self, alias: &str) {
        self.for_device(alias).into_iter().for_each(|module| self.load(module));
    }

    /// Loads a module after its dependencies, or waits until another thread has done so. Failures
    /// are not reported: the kernel logs them.
    pub(crate) fn load(&self, name: &str) {
        let name = normalize(name);
        let Some((file, dependencies)) = self.files.get(&name) else { return };
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
            // the farthest dependency must be loaded first
            dependencies.iter().rev().for_each(|dependency| self.load(dependency));
            let path = self.root.join(file);
            let flags =
                if path.extension().is_some_and(|end| end == "ko") { 0 } else { COMPRESSED };
            if let Ok(file) = File::open(&path) {
                let _ = rustix::system::finit_module(&file, c"", flags);
            }
        });
    }
}

/// The name of the module in a file: `kernel/drivers/net/virtio_net.ko.xz` has `virtio_net`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    normalize(name.split('.').next().unwrap_or(name))
}

/// `-` and `_` are the same in names of modules.
fn normalize(name: &str) -> String {
    name.replace('-', "_")
}

/// Matches shell patterns like `fnmatch`, without escapes, which module aliases do not use.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // after a mismatch: the pattern behind the last star, and the next position in the text
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

/// Length of the bracket expression at the start of `pattern`, if it contains `c`.
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
        let dep = "kernel/net/failover.ko.xz:\n\
                   kernel/net/net_failover.ko.xz: kernel/net/failover.ko.xz\n\
                   kernel/virtio_net.ko.xz: kernel/net/net_failover.ko.xz \
                   kernel/net/failover.ko.xz\n";
        let alias = "# Aliases\n\
                     alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n\
                     alias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
                     alias virtio:d00000001v* virtio-net\n\
                     alias scsi:t-0x00* sd_mod\n";
        fs::write(dir.path().join("modules.dep"), dep).unwrap();
        fs::write(dir.path().join("modules.alias"), alias).unwrap();
        Modules::read(dir.path())
    }

    #[test]
    fn drivers_are_found_by_vendor_or_by_class() {
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
    fn dependencies_are_found_with_dashes_or_underscores() {
        let modules = modules();
        assert_eq!(modules.files["virtio_net"].1, ["net_failover", "failover"]);
        assert_eq!(module_name("kernel/x/cdc-acm.ko"), "cdc_acm");
    }

    #[test]
    fn patterns_match_like_those_of_a_shell() {
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
