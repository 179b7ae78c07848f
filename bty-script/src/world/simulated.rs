//! A machine that is only described: for dry runs and tests of scripts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bty::catalog::Catalog;
use bty::client::{Reply, Request};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::hardware::{Dmi, Inventory};
use bty::image::directory::ImageFile;
use bty::image::{Contents, OpenOptions};
use bty::{CancelToken, Device, Disk, DiskHost, Error, ErrorKind, Event, Observer, Phase, Result};

use super::description::{Description, DiskFacts};
use super::dry_run::{flash_effect, post_effect, sleep_effect};
use super::{Effect, Effects, Flasher, Image, Images, Machine, Web, World};
use crate::terminal::Scripted;

/// A described machine. See `docs/reference/scripts.md` for the format.
pub struct SimulatedWorld {
    description: Description,
    started: SystemTime,
    state: Mutex<State>,
    effects: Effects,
}

struct State {
    disks: Vec<Disk>,
    /// What was flashed to where.
    flashed: HashMap<PathBuf, String>,
    /// How much time has passed.
    passed: Duration,
}

impl SimulatedWorld {
    /// The machine that `text` describes, in TOML or JSON; the effects on it; and its terminal,
    /// with what was shown there.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the description cannot be understood.
    pub fn parse(text: &str) -> Result<(World, Effects, Scripted)> {
        let description = Description::parse(text)?;
        let time: jiff::Timestamp = description.machine.time.parse().map_err(|e| {
            Error::new(ErrorKind::Usage, format!("machine.time is no time: {e}"))
                .hint("write 2026-01-01T00:00:00Z")
        })?;
        let disks = (1..).zip(&description.disks).map(|(seq, facts)| facts.disk(seq)).collect();
        let effects = Effects::default();
        let terminal = Scripted::new(description.answers.clone());
        let described = Arc::new(Self {
            started: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0)),
            state: Mutex::new(State { disks, flashed: HashMap::new(), passed: Duration::ZERO }),
            effects: effects.clone(),
            description,
        });
        let world = World {
            disks: described.clone(),
            images: described.clone(),
            flasher: described.clone(),
            machine: described.clone(),
            web: described,
            terminal: Arc::new(terminal.clone()),
            observer: Arc::new(()),
        };
        Ok((world, effects, terminal))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self, path: &Path) -> Option<&DiskFacts> {
        self.state()
            .disks
            .iter()
            .position(|d| d.path == path)
            .and_then(|at| self.description.disks.get(at))
    }
}

/// Says that something is missing in the description.
fn missing(kind: ErrorKind, what: &str, section: &str) -> Error {
    Error::new(kind, format!("the described machine has no {what}"))
        .with_path(what)
        .hint(format!("describe it with [[{section}]]"))
}

fn failing(kind: ErrorKind, path: &str, message: Option<&String>) -> Result<()> {
    message.map_or(Ok(()), |message| Err(Error::new(kind, message.clone()).with_path(path)))
}

impl DiskHost for SimulatedWorld {
    fn list(&self) -> Result<Vec<Disk>> {
        let state = self.state();
        let is_there = |facts: &DiskFacts| state.passed.as_secs() >= facts.appears_after;
        let facts = self.description.disks.iter();
        // files that were created come after the described disks
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
        Err(Error::new(ErrorKind::Host, format!("{} is only described", disk.path.display())))
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
        Ok(Image { info: Arc::new(info), opened: None })
    }

    fn list(&self, dir: &Path) -> Result<Vec<ImageFile>> {
        let local =
            self.description.images.iter().filter(|i| Path::new(&i.src).parent() == Some(dir));
        Ok(local
            .filter_map(|i| {
                ImageFile::described(Path::new(&i.src), i.info().source_bytes.unwrap_or(0))
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
        Ok(Contents::foreseen(&image.info))
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
        self.effects.add(flash_effect(plan)?);
        let mut report = plan.dry_run_report();
        for phase in [Phase::Wipe, Phase::Write, Phase::Verify] {
            observer.event(&Event::Phase { phase });
            observer.event(&Event::reached(phase, &report));
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
        let report = VerifyReport::foreseen(&image.info, disk, is_equal);
        observer.event(&Event::comparing(disk, &image.info, report.compared_bytes));
        Ok(report)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk> {
        if self.probe(path).is_ok() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is there already", path.display()),
            ));
        }
        self.effects.add(Effect::Create { path: path.to_owned(), size_bytes });
        let disk = Disk::planned_file(path, size_bytes);
        self.state().disks.push(disk.clone());
        Ok(disk)
    }
}

impl Machine for SimulatedWorld {
    fn now(&self) -> SystemTime {
        self.started + self.state().passed
    }

    fn sleep(&self, time: Duration, cancel: &CancelToken) -> Result<()> {
        cancel.check()?;
        self.effects.add(sleep_effect(time));
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
        Ok(Inventory::described(&DiskHost::list(self)?))
    }

    fn load_kernel(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn log(&self, line: &str) {
        self.effects.add(Effect::Log { line: line.to_owned() });
    }
}

impl Web for SimulatedWorld {
    fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        cancel.check()?;
        let method = if request.body.is_some() { "POST" } else { "GET" };
        let found =
            self.description.http.iter().find(|a| a.url == request.url && a.method == method);
        if let Some(effect) = post_effect(request) {
            self.effects.add(effect);
        }
        let answer = found.ok_or_else(|| {
            missing(ErrorKind::Source, &format!("answer to {method} {}", request.url), "http")
        })?;
        Ok(Reply::json_of(answer.status, &answer.json))
    }
}
