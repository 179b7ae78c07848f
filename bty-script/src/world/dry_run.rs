//! A dry run: looks at the world as it is, and takes note of what would have been done to it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bty::client::{Reply, Request};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::hardware::{Dmi, Inventory};
use bty::{CancelToken, Disk, Observer, Result, SystemHost};

use super::effect::Target;
use super::{Effect, Effects, Flasher, Image, Machine, Web, World};

/// Stands before the parts of a world that change something.
pub struct DryRunWorld {
    inner: World,
    effects: Effects,
}

impl DryRunWorld {
    /// The world as it is, in which nothing is changed; what would have been is in the effects.
    #[must_use]
    pub fn dry(world: &World) -> (World, Effects) {
        let effects = Effects::default();
        let recorder = Arc::new(Self { inner: world.clone(), effects: effects.clone() });
        let dry = World {
            flasher: recorder.clone(),
            machine: recorder.clone(),
            web: recorder,
            ..world.clone()
        };
        (dry, effects)
    }
}

/// The effect of `plan`, with the reasons against it found first, as the real executor finds them.
pub(super) fn flash_effect(plan: &FlashPlan) -> Result<Effect> {
    plan.check()?;
    Ok(Effect::Flash {
        image: plan.image.source.clone(),
        sha256: plan.image.expected_sha256,
        targets: plan.targets.iter().map(Target::of).collect(),
        options: Box::new(plan.options.clone()),
    })
}

/// The effect of sending `request`, if it sends anything.
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
        self.effects.add(flash_effect(plan)?);
        Ok(plan.dry_run_report())
    }

    /// Reading back changes nothing, so it is done.
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
        self.effects.add(Effect::Create { path: path.to_owned(), size_bytes });
        Ok(disk)
    }
}

impl Machine for DryRunWorld {
    fn now(&self) -> SystemTime {
        self.inner.machine.now()
    }

    fn sleep(&self, time: Duration, cancel: &CancelToken) -> Result<()> {
        cancel.check()?;
        self.effects.add(sleep_effect(time));
        Ok(())
    }

    fn hostname(&self) -> String {
        self.inner.machine.hostname()
    }

    fn cmdline(&self) -> String {
        self.inner.machine.cmdline()
    }

    fn dmi(&self) -> Dmi {
        self.inner.machine.dmi()
    }

    fn inventory(&self) -> Result<Inventory> {
        self.inner.machine.inventory()
    }

    fn load_kernel(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn log(&self, line: &str) {
        self.effects.add(Effect::Log { line: line.to_owned() });
    }
}

impl Web for DryRunWorld {
    /// Questions are asked; what would be sent is taken note of, and answered by an empty object.
    fn exchange(&self, request: &Request<'_>, cancel: &CancelToken) -> Result<Reply> {
        match post_effect(request) {
            None => self.inner.web.exchange(request, cancel),
            Some(effect) => {
                self.effects.add(effect);
                Ok(Reply::simulated(200, &serde_json::json!({})))
            }
        }
    }
}
