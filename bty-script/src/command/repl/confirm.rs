//! Asks before a line that a person has typed overwrites disks.

use std::path::Path;
use std::sync::Arc;

use bty::create::{CreateOptions, CreateReport};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::pack::{PackOptions, PackReport};
use bty::{CancelToken, Disk, Error, ErrorKind, Observer, Result, text};
use bty_script::terminal::{Console, Terminal};
use bty_script::world::{Flasher, Image};

use crate::output::Output;
use crate::session::Session;
use crate::signals::Signals;
use crate::verbs::flash::show_target;

/// A flasher that asks before each flash; what creates a new file is not asked about.
struct AskingFlasher {
    inner: Arc<dyn Flasher>,
    console: Arc<Console>,
    signals: Signals,
    output: Output,
}

/// Wraps the flasher of `session`.
pub(super) fn asking(session: &Session, output: &Output) -> Arc<dyn Flasher> {
    Arc::new(AskingFlasher {
        inner: Arc::clone(&session.world.flasher),
        console: Arc::clone(&session.console),
        signals: session.signals.clone(),
        output: output.clone(),
    })
}

impl Flasher for AskingFlasher {
    fn execute(
        &self,
        plan: &FlashPlan,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<FlashReport> {
        // nobody is asked about what is refused anyway
        plan.check()?;
        plan.targets.iter().for_each(|disk| show_target(disk, &self.output));
        let paths: Vec<String> = plan.targets.iter().map(|d| text::escape_name(&d.path)).collect();
        let prompt = format!("Type yes to write to {}: ", paths.join(", "));
        let answer = self.signals.ask(|question| self.console.read_line(&prompt, question))?;
        if answer.as_deref().map(str::trim) != Some("yes") {
            return Err(Error::new(ErrorKind::Cancelled, "nothing was written"));
        }
        self.inner.execute(plan, image, observer, cancel)
    }

    fn verify(
        &self,
        image: &Image,
        disk: &Disk,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<VerifyReport> {
        self.inner.verify(image, disk, observer, cancel)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> Result<Disk> {
        self.inner.create(path, size_bytes)
    }

    fn pack(
        &self,
        image: &Image,
        path: &Path,
        options: &PackOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<PackReport> {
        self.inner.pack(image, path, options, observer, cancel)
    }

    fn create_image(
        &self,
        disk: &Disk,
        path: &Path,
        options: &CreateOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<CreateReport> {
        self.inner.create_image(disk, path, options, observer, cancel)
    }
}
