//! Simulated machines, for dry runs and tests of scripts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bty::catalog::Catalog;
use bty::client::{Reply, Request};
use bty::create::{CreateOptions, CreateReport};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::hardware::{Dmi, Inventory};
use bty::image::directory::ImageFile;
use bty::image::{Contents, OpenOptions};
use bty::pack::{PackCheck, PackOptions, PackReport};
use bty::{CancelToken, Device, Disk, DiskHost, Error, ErrorKind, Event, Observer, Phase, Result};

use super::description::{Description, DiskSection};
use super::dry_run::{flash_effect, post_effect, record_image, record_pack, sleep_effect};
use super::files::{DescribedFiles, RecordedFiles};
use super::{Effect, EffectLog, Flasher, Image, Images, Platform, Web, World};
use crate::terminal::ScriptedTerminal;

/// A simulated machine. `docs/reference/scripts.md` has the format of descriptions.
pub struct SimulatedWorld {
    description: Description,
    started: SystemTime,
    state: Mutex<SimulationState>,
    effects: EffectLog,
}

struct SimulationState {
    disks: Vec<Disk>,
    /// Source of the image on each flashed disk.
    flashed: HashMap<PathBuf, String>,
    /// Time that scripts have slept; the clock is `started` plus this.
    passed: Duration,
}

impl SimulatedWorld {
    /// Creates the machine that `text` describes in TOML or JSON. Also returns the log of effects,
    /// and the machine's terminal.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`]: the description is invalid.
    pub fn parse(text: &str) -> Result<(World, EffectLog, ScriptedTerminal)> {
        let description = Description::parse(text)?;
        let time: jiff::Timestamp = description.machine.time.parse().map_err(|e| {
            Error::new(
                ErrorKind::Usage,
                format!("reading the description of the simulated machine: machine.time: {e}"),
            )
            .hint("use the form 2026-01-01T00:00:00Z")
        })?;
        let disks = (1..).zip(&description.disks).map(|(seq, facts)| facts.disk(seq)).collect();
        let effects = EffectLog::default();
        let terminal = ScriptedTerminal::new(description.answers.clone());
        let machine = Arc::new(Self {
            started: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0)),
            state: Mutex::new(SimulationState {
                disks,
                flashed: HashMap::new(),
                passed: Duration::ZERO,
            }),
            effects: effects.clone(),
            description,
        });
        let files = DescribedFiles(machine.description.files.clone());
        let world = World {
            disks: machine.clone(),
            images: machine.clone(),
            flasher: machine.clone(),
            platform: machine.clone(),
            web: machine,
            files: Arc::new(RecordedFiles::new(files, effects.clone())),
            terminal: Arc::new(terminal.clone()),
            observer: Arc::new(()),
        };
        Ok((world, effects, terminal))
    }

    fn state(&self) -> MutexGuard<'_, SimulationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self, path: &Path) -> Option<&DiskSection> {
        self.state()
            .disks
            .iter()
            .position(|d| d.path == path)
            .and_then(|at| self.description.disks.get(at))
    }
}

/// The error for something that the description lacks.
fn missing(kind: ErrorKind, what: &str, section: &str) -> Error {
    Error::new(kind, format!("the simulated machine has no {what}"))
        .with_path(what)
        .hint(format!("add it to the description in a section [[{section}]]"))
}

fn failing(kind: ErrorKind, path: &str, message: Option<&String>) -> Result<()> {
    message.map_or(Ok(()), |message| Err(Error::new(kind, message.clone()).with_path(path)))
}

impl DiskHost for SimulatedWorld {
    fn list(&self) -> Result<Vec<Disk>> {
        let state = self.state();
        let is_there = |facts: &DiskSection| state.passed.as_secs() >= facts.appears_after;
        let facts = self.description.disks.iter();
        // created files come after the disks of the description
        let created = state.disks.iter().skip(self.description.disks.len());
        let described = state
            .disks
            .iter()
            .zip(facts)
            .filter(|(_, facts)| is_there(facts))
            .map(|(disk, _)| disk);
        let mut disks: Vec<Disk> = described.cloned().collect();
        disks.extend(created.filter(|disk| disk.kind == bty::disks::DiskKind::Disk).cloned());
        disks.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(disks)
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        let found = self.state().disks.iter().find(|d| d.path == path).cloned();
        found.ok_or_else(|| missing(ErrorKind::Refused, &path.display().to_string(), "disks"))
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        Err(Error::new(
            ErrorKind::Host,
            format!("cannot open {}: it is simulated", disk.path.display()),
        ))
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        DiskHost::open(self, disk)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<()> {
        Flasher::create(self, path, size_bytes).map(drop)
    }
}

impl Images for SimulatedWorld {
    fn open(&self, reference: &str, options: &OpenOptions, cancel: &CancelToken) -> Result<Image> {
        cancel.check()?;
        let found = self.description.images.iter().find(|image| image.src == reference);
        let facts = found.ok_or_else(|| missing(ErrorKind::Source, reference, "images"))?;
        failing(ErrorKind::Source, reference, facts.fails.as_ref())?;
        let mut info = facts.info();
        if let (Some(given), Some(declared)) = (options.sha256, info.expected_sha256)
            && given != declared
        {
            let message =
                format!("{reference} is declared with digest {declared}, but {given} is expected");
            return Err(Error::new(ErrorKind::Integrity, message));
        }
        info.expected_sha256 = options.sha256.or(info.expected_sha256);
        (info.expected_sha512, info.expected_image_sha256) = (options.sha512, options.image_sha256);
        info.expected_pack_index_sha256 = options.pack_index_sha256;
        Ok(Image { info: Arc::new(info), opened: None })
    }

    fn list(&self, dir: &Path) -> Result<Vec<ImageFile>> {
        let local =
            self.description.images.iter().filter(|i| Path::new(&i.src).parent() == Some(dir));
        Ok(local
            .filter_map(|i| {
                ImageFile::simulated(Path::new(&i.src), i.info().source_bytes.unwrap_or(0))
            })
            .collect())
    }

    fn read_fully(
        &self,
        image: &Image,
        _: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Contents> {
        cancel.check()?;
        Ok(Contents::simulated(&image.info))
    }

    fn check_packed(&self, image: &Image, cancel: &CancelToken) -> Result<PackCheck> {
        cancel.check()?;
        Ok(PackCheck::simulated(&image.info))
    }

    fn catalog(&self, reference: &str, cancel: &CancelToken) -> Result<Catalog> {
        cancel.check()?;
        let found = self.description.catalogs.iter().find(|catalog| catalog.src == reference);
        let facts = found.ok_or_else(|| missing(ErrorKind::Catalog, reference, "catalogs"))?;
        failing(ErrorKind::Catalog, reference, facts.fails.as_ref())?;
        facts.catalog()
    }

    fn resolve_oci(&self, reference: &str, cancel: &CancelToken) -> Result<serde_json::Value> {
        let image = Images::open(self, reference, &OpenOptions::default(), cancel)?;
        let info = &image.info;
        Ok(serde_json::json!({
            "digest": info.expected_sha256, "size_bytes": info.source_bytes, "title": info.name
        }))
    }
}

impl Flasher for SimulatedWorld {
    fn execute(
        &self,
        plan: &FlashPlan,
        _: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        cancel.check()?;
        self.effects.record(flash_effect(plan)?);
        let mut report = plan.dry_run_report();
        for phase in [Phase::Wipe, Phase::Write, Phase::Verify] {
            observer.event(&Event::Phase { phase });
            observer.event(&report.progress(phase));
        }
        for target in &mut report.targets {
            let path = target.disk.path.clone();
            if let Some(message) = self.facts(&path).and_then(|facts| facts.fails.clone()) {
                target.fail(&Error::new(ErrorKind::Target, message).with_path(path.display()));
                continue;
            }
            let mut state = self.state();
            state.flashed.insert(path.clone(), plan.image.source.clone());
            if let Some(disk) = state.disks.iter_mut().find(|disk| disk.path == path) {
                disk.table = plan.image.table;
                disk.partitions.clone_from(&plan.image.partitions);
                disk.content = None;
            }
        }
        Ok(report)
    }

    fn verify(
        &self,
        image: &Image,
        disk: &Disk,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<VerifyReport> {
        cancel.check()?;
        let is_equal = self.state().flashed.get(&disk.path) == Some(&image.info.source);
        let report = VerifyReport::dry_run(&image.info, disk, is_equal);
        observer.event(&report.progress());
        Ok(report)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk> {
        if self.probe(path).is_ok() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("cannot create {}: it already exists", path.display()),
            ));
        }
        self.effects.record(Effect::Create { path: path.to_owned(), size_bytes });
        let disk = Disk::planned_file(path, size_bytes);
        self.state().disks.push(disk.clone());
        Ok(disk)
    }

    fn pack(
        &self,
        image: &Image,
        path: &Path,
        options: &PackOptions,
        _: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<PackReport> {
        cancel.check()?;
        record_pack(&self.effects, image, path, options)
    }

    fn create_image(
        &self,
        disk: &Disk,
        path: &Path,
        options: &CreateOptions,
        _: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<CreateReport> {
        cancel.check()?;
        if let Some(message) = self.facts(&disk.path).and_then(|facts| facts.fails.clone()) {
            return Err(Error::new(ErrorKind::Source, message).with_path(disk.path.display()));
        }
        record_image(&self.effects, disk, path, options)
    }
}

impl Platform for SimulatedWorld {
    fn now(&self) -> SystemTime {
        self.started + self.state().passed
    }

    fn sleep(&self, time: Duration, cancel: &CancelToken) -> Result<()> {
        cancel.check()?;
        self.effects.record(sleep_effect(time));
        let mut state = self.state();
        state.passed = state.passed.saturating_add(time);
        Ok(())
    }

    fn hostname(&self) -> String {
        self.description.machine.hostname.clone()
    }

    fn cmdline(&self) -> String {
        self.description.machine.cmdline.clone()
    }

    fn dmi(&self) -> Dmi {
        self.description.machine.dmi.clone()
    }

    fn inventory(&self) -> Result<Inventory> {
        Ok(Inventory::dry_run(&DiskHost::list(self)?))
    }

    fn load_kernel(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn log(&self, line: &str) {
        self.effects.record(Effect::Log { line: line.to_owned() });
    }
}

impl Web for SimulatedWorld {
    fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        cancel.check()?;
        let method = if request.body.is_some() { "POST" } else { "GET" };
        let found =
            self.description.http.iter().find(|a| a.url == request.url && a.method == method);
        if let Some(effect) = post_effect(request) {
            self.effects.record(effect);
        }
        let answer = found.ok_or_else(|| {
            missing(ErrorKind::Source, &format!("answer to {method} {}", request.url), "http")
        })?;
        Ok(Reply::simulated(answer.status, &answer.json))
    }
}
