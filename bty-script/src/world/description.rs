//! The description of a simulated machine in TOML or JSON. Unknown keys are errors, so that a typo
//! cannot make a test pass.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bty::catalog::Entry;
use bty::disks::{Content, Disk, DiskKind, Partition, TableKind, Use};
use bty::hardware::Dmi;
use bty::image::{Format, ImageInfo};
use bty::{Digest, Error, ErrorKind, Result, size};
use serde::{Deserialize, Deserializer};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Description {
    pub(super) machine: MachineSection,
    pub(super) disks: Vec<DiskSection>,
    pub(super) images: Vec<ImageSection>,
    pub(super) catalogs: Vec<CatalogSection>,
    pub(super) http: Vec<HttpAnswer>,
    /// Texts of files by path.
    pub(super) files: BTreeMap<String, String>,
    /// The person's answers, line by line.
    pub(super) answers: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MachineSection {
    pub(super) hostname: String,
    pub(super) cmdline: String,
    /// Start time, in RFC 3339.
    pub(super) time: String,
    pub(super) dmi: Dmi,
}

impl Default for MachineSection {
    fn default() -> Self {
        Self {
            hostname: "machine".into(),
            cmdline: String::new(),
            time: "2026-01-01T00:00:00Z".into(),
            dmi: Dmi::default(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiskSection {
    path: PathBuf,
    #[serde(deserialize_with = "bytes")]
    size: u64,
    #[serde(default = "sector", rename = "sector")]
    sector_bytes: u32,
    vendor: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    wwn: Option<String>,
    transport: Option<String>,
    #[serde(default)]
    removable: bool,
    #[serde(default)]
    read_only: bool,
    rotational: Option<bool>,
    table: Option<TableKind>,
    content: Option<Content>,
    #[serde(default)]
    partitions: Vec<PartitionSection>,
    /// Mount point; makes the disk one in use.
    mounted: Option<PathBuf>,
    /// True for the disk that the system runs from.
    #[serde(default)]
    system: bool,
    /// Seconds after the start at which the disk appears.
    #[serde(default)]
    pub(super) appears_after: u64,
    /// If set, flashing the disk fails with this message.
    pub(super) fails: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartitionSection {
    #[serde(deserialize_with = "bytes")]
    size: u64,
    name: Option<String>,
    #[serde(rename = "type")]
    type_id: Option<String>,
    content: Option<Content>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageSection {
    /// Path or URL, as scripts name it.
    pub(super) src: String,
    format: Option<Format>,
    #[serde(default, deserialize_with = "maybe_bytes")]
    source_size: Option<u64>,
    #[serde(default, deserialize_with = "maybe_bytes")]
    disk_size: Option<u64>,
    sha256: Option<Digest>,
    table: Option<TableKind>,
    #[serde(rename = "sector")]
    sector_bytes: Option<u32>,
    /// False for an image without partition table, file system or boot sector.
    #[serde(default = "yes")]
    recognized: bool,
    /// If set, opening the image fails with this message.
    pub(super) fails: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogSection {
    /// Path or URL, as scripts name it.
    pub(super) src: String,
    #[serde(default)]
    images: Vec<EntrySection>,
    /// If set, loading the catalog fails with this message.
    pub(super) fails: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntrySection {
    name: String,
    src: String,
    sha256: Option<Digest>,
    format: Option<String>,
    size_bytes: Option<u64>,
    description: Option<String>,
    arch: Option<String>,
}

/// The response to an HTTP request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpAnswer {
    pub(super) url: String,
    #[serde(default = "get")]
    pub(super) method: String,
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) json: serde_json::Value,
}

fn sector() -> u32 {
    512
}

fn get() -> String {
    "GET".into()
}

fn ok() -> u16 {
    200
}

/// A number of bytes, or a string such as `500GB`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    Number(u64),
    Text(String),
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    match Bytes::deserialize(deserializer)? {
        Bytes::Number(bytes) => Ok(bytes),
        Bytes::Text(text) => size::parse(&text).map_err(serde::de::Error::custom),
    }
}

fn maybe_bytes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<u64>, D::Error> {
    bytes(deserializer).map(Some)
}

impl Description {
    /// Parses TOML, or JSON if the text starts with a brace.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| {
            Error::new(
                ErrorKind::Usage,
                format!("reading the description of the simulated machine: {why}"),
            )
        };
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|e| bad(e.to_string()));
        }
        toml::from_str(text).map_err(|e| bad(e.to_string().trim_end().to_owned()))
    }
}

fn yes() -> bool {
    true
}

impl DiskSection {
    pub(super) fn disk(&self, diskseq: u64) -> Disk {
        let mut start = size::MIB;
        let mut partitions = Vec::new();
        for (number, facts) in (1..).zip(&self.partitions) {
            partitions.push(Partition {
                path: Some(format!("{}p{number}", self.path.display()).into()),
                number,
                start_bytes: start,
                size_bytes: facts.size,
                type_id: facts.type_id.clone(),
                name: facts.name.clone(),
                content: facts.content.clone(),
            });
            start = start.saturating_add(facts.size);
        }
        let device = || self.path.clone();
        let mounted =
            self.mounted.iter().map(|at| Use::Mounted { device: device(), mountpoint: at.clone() });
        let system = self.system.then(|| Use::System { device: device() });
        let mut disk = Disk::new(&self.path, DiskKind::Disk, self.size);
        disk.logical_sector_bytes = self.sector_bytes;
        disk.vendor.clone_from(&self.vendor);
        disk.model.clone_from(&self.model);
        disk.serial.clone_from(&self.serial);
        disk.wwn.clone_from(&self.wwn);
        disk.transport.clone_from(&self.transport);
        disk.is_removable = self.removable;
        disk.is_read_only = self.read_only;
        disk.is_rotational = self.rotational;
        disk.diskseq = Some(diskseq);
        disk.table = self.table.or((!partitions.is_empty()).then_some(TableKind::Gpt));
        disk.content.clone_from(&self.content);
        disk.partitions = partitions;
        disk.uses = mounted.chain(system).collect();
        disk
    }
}

impl ImageSection {
    pub(super) fn info(&self) -> ImageInfo {
        let mut info = ImageInfo::simulated(&self.src, self.format.unwrap_or(Format::Raw));
        info.source_bytes =
            self.source_size.or(self.disk_size.filter(|_| info.format == Format::Raw));
        info.disk_bytes = self.disk_size;
        info.expected_sha256 = self.sha256;
        info.is_recognized = self.recognized;
        info.table = self.table.or(Some(TableKind::Gpt)).filter(|_| self.recognized);
        info.sector_bytes =
            self.sector_bytes.or(Some(512)).filter(|_| info.table == Some(TableKind::Gpt));
        info
    }
}

impl CatalogSection {
    pub(super) fn catalog(&self) -> Result<bty::catalog::Catalog> {
        let mut catalog = bty::catalog::Catalog::new();
        for facts in &self.images {
            let mut entry = Entry::new(&facts.name, &facts.src)?;
            entry.sha256 = facts.sha256;
            entry.format = facts.format.clone().or(entry.format);
            entry.size_bytes = facts.size_bytes;
            entry.description.clone_from(&facts.description);
            entry.arch = facts.arch.clone().or(entry.arch);
            catalog.add(entry)?;
        }
        Ok(catalog)
    }
}
