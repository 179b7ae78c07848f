//! The files that machines boot: versions of the live environment, and boot programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bty::Digest;
use serde::Serialize;

use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::ipxe::Environment;
use crate::tftp;

pub mod dhcp;
mod dhcp6;
pub mod dhcp_lines;

/// Suffixes of the file names of a version.
pub const PARTS: [&str; 3] = ["vmlinuz", "initrd", "squashfs"];

/// Maximum size of a checksum file, in bytes.
pub const SUMS_BYTES_MAX: u64 = 1 << 20;

const PREFIX: &str = "bty-netboot-pc-x86_64-v";

/// Suffix of the name of the list of components, which only releases of bty have.
pub const PARTS_LIST: &str = "spdx.json";

/// Returns which live environment `version` is: only bty's releases have a list of components among
/// their checksums. A version without checksums counts as bty's.
#[must_use]
pub fn environment_of(config: &Config, version: &str) -> Environment {
    let sums = find(config, &file_name(version, "sha256")).and_then(|path| read_sums(&path));
    let has_parts_list = |sums: String| {
        bty::digest::find_in_checksums(&sums, &file_name(version, PARTS_LIST)).is_some()
    };
    if sums.is_none_or(has_parts_list) { Environment::Small } else { Environment::Reference }
}

/// Name of a file of the live environment.
#[must_use]
pub fn file_name(version: &str, part: &str) -> String {
    format!("{PREFIX}{version}.{part}")
}

/// Returns the file served as `name`: from the boot directory, or the one installed with the
/// program.
#[must_use]
pub fn find(config: &Config, name: &str) -> Option<PathBuf> {
    // no symbolic links, which could point to any file
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    [&config.boot_dir, &config.boot_seed_dir].map(|dir| dir.join(name)).into_iter().find(is_file)
}

/// A version of the live environment.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct NetbootVersion {
    /// The version in its file names.
    pub version: String,
    /// Its files, whether present or not.
    pub files: Vec<Artifact>,
}

/// A file that machines boot.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Artifact {
    /// Name of the file.
    pub name: String,
    /// True if the file exists.
    pub is_present: bool,
    /// True if machines cannot boot without it. The squashfs of bty's own releases is optional:
    /// only the full environment uses it.
    pub is_needed: bool,
    /// Size in bytes.
    pub size_bytes: Option<u64>,
    /// SHA-256 in the checksum file of the release.
    #[schema(value_type = Option<String>)]
    pub sha256: Option<Digest>,
    #[serde(skip)]
    path: Option<PathBuf>,
}

impl NetbootVersion {
    /// Returns the files of `version`.
    #[must_use]
    pub fn of(config: &Config, version: &str) -> Self {
        let sums = find(config, &file_name(version, "sha256"))
            .and_then(|path| read_sums(&path))
            .unwrap_or_default();
        let is_small = environment_of(config, version) == Environment::Small;
        let artifact = |part: &str| {
            let name = file_name(version, part);
            let path = find(config, &name);
            let size_bytes =
                path.as_ref().and_then(|path| path.metadata().ok()).map(|meta| meta.len());
            let sha256 = bty::digest::find_in_checksums(&sums, &name);
            let is_needed = part != "squashfs" || !is_small;
            Artifact { is_present: path.is_some(), is_needed, name, size_bytes, sha256, path }
        };
        Self { version: version.to_owned(), files: PARTS.into_iter().map(artifact).collect() }
    }

    /// True if all files that a machine needs exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing().next().is_none()
    }

    fn missing(&self) -> impl Iterator<Item = &str> {
        self.files
            .iter()
            .filter(|file| file.is_needed && !file.is_present)
            .map(|file| file.name.as_str())
    }

    /// Compares all files with their digests, and returns what is wrong. Reads every byte, which
    /// takes seconds.
    ///
    /// # Errors
    /// `ErrorKind::Internal` when a file cannot be read.
    pub fn verify(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for file in &self.files {
            match (&file.path, file.sha256) {
                (None, _) if !file.is_needed => {}
                (None, _) => wrong.push(format!("{} is missing", file.name)),
                (Some(_), None) => {
                    wrong.push(format!(
                        "{} has no digest in {}",
                        file.name,
                        file_name(&self.version, "sha256")
                    ));
                }
                (Some(path), Some(expected)) => {
                    let found = digest(path)?;
                    if found != expected {
                        wrong
                            .push(format!("{} has the SHA-256 {found}, not {expected}", file.name));
                    }
                }
            }
        }
        Ok(wrong)
    }
}

fn digest(path: &Path) -> Result<Digest> {
    let at = |e: std::io::Error| Error::internal(format!("reading {}: {e}", path.display()));
    let mut hasher = bty::digest::Hasher::new();
    hasher.read(&mut std::fs::File::open(path).map_err(at)?).map_err(at)?;
    Ok(hasher.finish())
}

fn read_sums(path: &Path) -> Option<String> {
    let meta = path.metadata().ok()?;
    (meta.len() <= SUMS_BYTES_MAX).then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// Returns all versions with at least one file, sorted as text.
#[must_use]
pub fn releases(config: &Config) -> Vec<NetbootVersion> {
    let mut versions = BTreeMap::new();
    for dir in [&config.boot_dir, &config.boot_seed_dir] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((version, part)) =
                name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('.'))
            else {
                continue;
            };
            if PARTS.contains(&part) {
                versions.insert(version.to_owned(), ());
            }
        }
    }
    versions.into_keys().map(|version| NetbootVersion::of(config, &version)).collect()
}

/// Returns the installed boot programs, with their sizes in bytes.
#[must_use]
pub fn programs(config: &Config) -> Vec<(String, u64)> {
    let size = |name: &str| {
        let path =
            [&config.tftp_root, &config.boot_dir, &config.boot_seed_dir].map(|dir| dir.join(name));
        path.iter()
            .find_map(|path| path.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|meta| meta.len())
    };
    tftp::PROGRAMS.into_iter().filter_map(|name| Some((name.to_owned(), size(name)?))).collect()
}

/// Returns what prevents machines from booting `version`; `None` if nothing does.
#[must_use]
pub fn mismatch(config: &Config, version: &str) -> Option<String> {
    let release = NetbootVersion::of(config, version);
    let missing: Vec<&str> = release.missing().collect();
    if !missing.is_empty() {
        return Some(format!(
            "machines boot version {version}, but {} is missing",
            missing.join(", ")
        ));
    }
    let own = env!("CARGO_PKG_VERSION");
    (version != own).then(|| {
        format!(
            "machines boot version {version}, but the server is version {own}: plans may use \
             functions that version {version} lacks"
        )
    })
}
