//! The environment of scripts that the command runs: this machine, its terminal, and all
//! capabilities.

use std::sync::Arc;

use bty::{Client, Result};
use bty_script::engine::InterruptTarget;
use bty_script::terminal::Console;
use bty_script::world::{SingleDiskHost, SystemWorld, World};
use bty_script::{Capabilities, Engine, Limits, ScriptContext};
use rhai::Dynamic;

use crate::cli::Network;
use crate::network;
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::signals::Signals;

/// Default directory of local images; `BTY_IMAGE_ROOT` overrides it.
const IMAGE_ROOT: &str = "/var/lib/bty/images";

/// This machine with its terminal, client and signal handlers.
pub(crate) struct Session {
    pub(crate) console: Arc<Console>,
    pub(crate) progress: Arc<ProgressDisplay>,
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) signals: Signals,
}

impl Session {
    pub(crate) fn new(network: &Network, output: &Output) -> Result<Self> {
        let signals = Signals::listen()?;
        let console = Arc::new(Console::new(output.has_color()));
        let progress = Arc::new(ProgressDisplay::new(output.is_json()));
        let client = network::client(network, progress.clone())?;
        let world = SystemWorld::world(client.clone(), console.clone(), progress.clone());
        Ok(Self { console, progress, client, world, signals })
    }

    /// Presents `disk` as the only disk of the machine.
    pub(crate) fn use_single_disk(&mut self, disk: SingleDiskHost) {
        let (client, console, progress) =
            (self.client.clone(), self.console.clone(), self.progress.clone());
        self.world = SystemWorld::world_with(Arc::new(disk), client, console, progress);
    }

    /// An engine with all capabilities on this machine. Ctrl-C interrupts its scripts.
    pub(crate) fn engine(
        &self,
        facts: ScriptFacts,
        interrupt_target: InterruptTarget,
        limits: Limits,
    ) -> Engine {
        self.engine_for(self.world.clone(), facts, interrupt_target, limits)
    }

    /// An engine with all capabilities on `world`. Ctrl-C interrupts its scripts.
    pub(crate) fn engine_for(
        &self,
        world: World,
        facts: ScriptFacts,
        interrupt_target: InterruptTarget,
        limits: Limits,
    ) -> Engine {
        let context = ScriptContext::new(Capabilities::all(), world)
            .with_facts(facts.list())
            .with_interrupt_target(interrupt_target);
        self.signals.route_to_script(&context, &self.console);
        Engine::new(context, limits)
    }
}

/// The signal handlers keep a reference to the console, so it is not restored by being dropped.
impl Drop for Session {
    fn drop(&mut self) {
        self.console.restore();
    }
}

/// Entries of the constant `BTY` besides the version.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScriptFacts {
    pub(crate) catalog: Option<String>,
    /// Directory of local images, instead of the default.
    pub(crate) image_root: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) banner: Option<String>,
}

impl ScriptFacts {
    fn list(self) -> Vec<(&'static str, Dynamic)> {
        let text = |value: Option<String>| value.map_or(Dynamic::UNIT, Dynamic::from);
        vec![
            ("image_root", self.image_root.unwrap_or_else(image_root).into()),
            ("uefi_boot", registers_uefi_boot().into()),
            ("is_live", is_set("BTY_LIVE").into()),
            ("catalog", text(self.catalog)),
            ("mac", text(self.mac)),
            ("server", text(self.server)),
            ("banner", text(self.banner)),
        ]
    }
}

fn image_root() -> String {
    std::env::var("BTY_IMAGE_ROOT")
        .ok()
        .filter(|root| !root.is_empty())
        .unwrap_or_else(|| IMAGE_ROOT.to_owned())
}

/// True if the wizard and `auto` make the firmware boot the flashed disk next.
fn registers_uefi_boot() -> bool {
    is_set("BTY_REGISTER_UEFI_BOOT")
}

fn is_set(name: &str) -> bool {
    let value = std::env::var(name).unwrap_or_default();
    ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}
