//! What every script of the command runs in: this machine, its terminal, and everything allowed.

use std::sync::Arc;

use bty::{Client, Result};
use bty_script::engine::Interrupts;
use bty_script::terminal::Console;
use bty_script::world::{OneDisk, System, World};
use bty_script::{Capabilities, Engine, Limits, ScriptContext};
use rhai::Dynamic;

use crate::cli::Network;
use crate::network;
use crate::output::Output;
use crate::progress::Watcher;
use crate::signals::Signals;

/// Where images of this machine are when nobody says otherwise.
const IMAGE_ROOT: &str = "/var/lib/bty/images";

/// This machine as scripts see it.
pub(crate) struct Session {
    pub(crate) console: Arc<Console>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) signals: Signals,
}

impl Session {
    pub(crate) fn new(network: &Network, output: &Output) -> Result<Self> {
        let signals = Signals::listen()?;
        let console = Arc::new(Console::new(output.has_colour()));
        let watcher = Arc::new(Watcher::new(output.is_json()));
        let client = network::client(network, watcher.clone())?;
        let world = System::world(client.clone(), console.clone(), watcher.clone());
        Ok(Self { console, watcher, client, world, signals })
    }

    /// From now on the machine has only this disk.
    pub(crate) fn use_one_disk(&mut self, disk: OneDisk) {
        let (client, console, watcher) =
            (self.client.clone(), self.console.clone(), self.watcher.clone());
        self.world = System::world_with(Arc::new(disk), client, console, watcher);
    }

    /// An engine in which everything is allowed on this machine. Ctrl-C goes to it.
    pub(crate) fn engine(&self, facts: Facts, interrupts: Interrupts, limits: Limits) -> Engine {
        self.engine_of(self.world.clone(), facts, interrupts, limits)
    }

    /// The same on another world.
    pub(crate) fn engine_of(
        &self,
        world: World,
        facts: Facts,
        interrupts: Interrupts,
        limits: Limits,
    ) -> Engine {
        let host = ScriptContext::new(Capabilities::all(), world)
            .with_facts(facts.list())
            .with_interrupts(interrupts);
        self.signals.guard(&host, &self.console);
        Engine::new(host, limits)
    }
}

/// However it ends: signals keep the console too, so that it is not dropped by itself.
impl Drop for Session {
    fn drop(&mut self) {
        self.console.restore();
    }
}

/// What scripts find in `BTY`, besides the version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) catalog: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) banner: Option<String>,
}

impl Facts {
    fn list(self) -> Vec<(&'static str, Dynamic)> {
        let text = |value: Option<String>| value.map_or(Dynamic::UNIT, Dynamic::from);
        vec![
            ("image_root", image_root().into()),
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

/// Whether the wizard lets the firmware boot the flashed disk next.
fn registers_uefi_boot() -> bool {
    is_set("BTY_REGISTER_UEFI_BOOT")
}

fn is_set(name: &str) -> bool {
    let wish = std::env::var(name).unwrap_or_default();
    ["1", "true", "yes", "on"].contains(&wish.to_ascii_lowercase().as_str())
}
