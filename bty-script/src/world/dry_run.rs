//! Dry runs: read the real world, and record what would have been changed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bty::client::{Reply, Request};
use bty::create::{CreateOptions, CreateReport};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::hardware::{Dmi, Inventory};
use bty::pack::{PackOptions, PackReport};
use bty::{CancelToken, Disk, Observer, Result, SystemHost};

use super::effect::EffectTarget;
use super::files::RecordedFiles;
use super::{Effect, EffectLog, Flasher, Image, Platform, Web, World};

/// Wraps a [`World`] so that nothing is changed.
pub struct DryRunWorld {
    inner: World,
    effects: EffectLog,
}

impl DryRunWorld {
    /// Wraps `world`. The log fills with the effects that a real run would have.
    #[must_use]
    pub fn wrap(world: &World) -> (World, EffectLog) {
        let effects = EffectLog::default();
        let dry_run = Arc::new(Self { inner: world.clone(), effects: effects.clone() });
        let dry = World {
            flasher: dry_run.clone(),
            platform: dry_run.clone(),
            web: dry_run,
            files: Arc::new(RecordedFiles::new(Arc::clone(&world.files), effects.clone())),
            ..world.clone()
        };
        (dry, effects)
    }
}

/// The effect of `plan`. Refuses it for the same reasons as the real executor.
pub(super) fn flash_effect(plan: &FlashPlan) -> Result<Effect> {
    plan.check()?;
    if let (Some(way), [disk]) = (plan.image.erases, plan.targets.as_slice()) {
        return Ok(Effect::Erase { disk: EffectTarget::of(disk), way });
    }
    Ok(Effect::Flash {
        image: plan.image.source.clone(),
        sha256: plan.image.expected_sha256,
        targets: plan.targets.iter().map(EffectTarget::of).collect(),
        options: Box::new(plan.options.clone()),
    })
}

/// Records that an image would have been packed.
pub(super) fn record_pack(
    effects: &EffectLog,
    image: &Image,
    path: &Path,
    options: &PackOptions,
) -> Result<PackReport> {
    let report = PackReport::dry_run(&image.info, path, options)?;
    effects.record(Effect::Pack { image: image.info.source.clone(), path: path.to_owned() });
    Ok(report)
}

/// Records that an image would have been created.
pub(super) fn record_image(
    effects: &EffectLog,
    disk: &Disk,
    path: &Path,
    options: &CreateOptions,
) -> Result<CreateReport> {
    let report = CreateReport::dry_run(disk, path, options)?;
    let disk = EffectTarget::of(disk);
    effects.record(Effect::CreateImage { disk, path: path.to_owned() });
    Ok(report)
}

/// The effect of `request`, if it has a body.
pub(super) fn post_effect(request: &Request<'_>) -> Option<Effect> {
    let (_, body) = request.body.as_ref()?;
    let text = || serde_json::Value::String(String::from_utf8_lossy(body).into_owned());
    let body = serde_json::from_slice(body).unwrap_or_else(|_| text());
    Some(Effect::Post { url: request.url.to_owned(), body })
}

pub(super) fn sleep_effect(time: Duration) -> Effect {
    Effect::Sleep { millis: u64::try_from(time.as_millis()).unwrap_or(u64::MAX) }
}

impl Flasher for DryRunWorld {
    fn execute(
        &self,
        plan: &FlashPlan,
        _: &Image,
        _: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        cancel.check()?;
        self.effects.record(flash_effect(plan)?);
        Ok(plan.dry_run_report())
    }

    /// Changes nothing, so it is really done.
    fn verify(
        &self,
        image: &Image,
        disk: &Disk,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<VerifyReport> {
        self.inner.flasher.verify(image, disk, observer, cancel)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk> {
        let disk = SystemHost::new().plan_file(path, size_bytes)?;
        self.effects.record(Effect::Create { path: path.to_owned(), size_bytes });
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
        record_image(&self.effects, disk, path, options)
    }
}

impl Platform for DryRunWorld {
    fn now(&self) -> SystemTime {
        self.inner.platform.now()
    }

    fn sleep(&self, time: Duration, cancel: &CancelToken) -> Result<()> {
        cancel.check()?;
        self.effects.record(sleep_effect(time));
        Ok(())
    }

    fn hostname(&self) -> String {
        self.inner.platform.hostname()
    }

    fn cmdline(&self) -> String {
        self.inner.platform.cmdline()
    }

    fn dmi(&self) -> Dmi {
        self.inner.platform.dmi()
    }

    fn inventory(&self) -> Result<Inventory> {
        self.inner.platform.inventory()
    }

    fn load_kernel(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn log(&self, line: &str) {
        self.effects.record(Effect::Log { line: line.to_owned() });
    }
}

impl Web for DryRunWorld {
    /// Sends requests without a body. Others are recorded, and answered with an empty JSON object.
    fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        match post_effect(request) {
            None => self.inner.web.exchange(request, cancel),
            Some(effect) => {
                self.effects.record(effect);
                Ok(Reply::simulated(200, &serde_json::json!({})))
            }
        }
    }
}
