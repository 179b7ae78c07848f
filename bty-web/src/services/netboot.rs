//! What is there for machines to boot: versions of the live environment, and boot programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bty::Digest;
use serde::Serialize;

use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::ipxe::Environment;
use crate::tftp;

pub mod dhcp;

/// The last parts of the names of a version's files.
pub const PARTS: [&str; 3] = ["vmlinuz", "initrd", "squashfs"];

/// A file with digests is at most this large.
pub const SUMS_BYTES_MAX: u64 = 1 << 20;

const PREFIX: &str = "bty-netboot-pc-x86_64-v";

/// The last part of the name of the list of what went in: only our own releases have it.
pub const PARTS_LIST: &str = "spdx.json";

/// Which live environment `version` is: releases of bty list their parts among the digests. A
/// version that is not there is taken for one of bty.
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

/// The file that is served as `name`: from the boot directory, else from the one that comes with
/// the program.
#[must_use]
pub fn find(config: &Config, name: &str) -> Option<PathBuf> {
    // a link could lead anywhere
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    [&config.boot_dir, &config.boot_seed_dir].map(|dir| dir.join(name)).into_iter().find(is_file)
}

/// A version of the live environment.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = NetbootVersion)]
pub struct Release {
    /// The version in the names of its files.
    pub version: String,
    /// Its files.
    pub files: Vec<Artifact>,
}

/// A file that machines boot.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// It is there.
    pub is_present: bool,
    /// No machine boots without it. The full environment of our own releases is fetched only when
    /// somebody wants it.
    pub is_needed: bool,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// The digest that its release says it has.
    #[schema(value_type = Option<String>)]
    pub sha256: Option<Digest>,
    #[serde(skip)]
    path: Option<PathBuf>,
}

impl Release {
    /// What is there of `version`.
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

    /// True when all that a machine needs is there.
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

    /// Compares the files with their digests; gives what is wrong. Reads all of them: that takes
    /// seconds.
    ///
    /// # Errors
    /// When a file cannot be read.
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

/// All versions of which something is there, the highest last as text is sorted.
#[must_use]
pub fn releases(config: &Config) -> Vec<Release> {
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
    versions.into_keys().map(|version| Release::of(config, &version)).collect()
}

/// Boot programs that are there, with their sizes.
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

/// What is wrong with what machines boot, as far as it can be seen without booting one.
#[must_use]
pub fn mismatch(config: &Config, version: &str) -> Option<String> {
    let release = Release::of(config, version);
    let missing: Vec<&str> = release.missing().collect();
    if !missing.is_empty() {
        return Some(format!(
            "machines are sent to version {version}, of which {} is missing",
            missing.join(", ")
        ));
    }
    let own = env!("CARGO_PKG_VERSION");
    (version != own).then(|| {
        format!("machines boot version {version}, the server is version {own}: plans may use what it does not know")
    })
}
