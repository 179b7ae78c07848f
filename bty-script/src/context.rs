//! What a script may do, and to whom it does it.

use std::sync::Arc;

use rhai::{Dynamic, Map, NativeCallContext};

use crate::engine::{Interrupts, Meter};
use crate::error::{HostError, Outcome, note_call, raise};
use crate::world::World;

/// Something that a host lets scripts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Look at disks, images, catalogs and the machine.
    Read,
    /// Reach other machines: images and catalogs on the network, HTTP.
    Network,
    /// Write to disks and create files.
    Flash,
    /// Talk to the person at the terminal.
    Dialogs,
    /// Wait, reboot, switch off.
    Power,
}

impl Capability {
    const ALL: [Self; 5] = [Self::Read, Self::Network, Self::Flash, Self::Dialogs, Self::Power];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Read => "looking at disks, images and the machine",
            Self::Network => "reaching other machines",
            Self::Flash => "writing",
            Self::Dialogs => "talking to a person",
            Self::Power => "waiting and rebooting",
        }
    }
}

/// A set of [`Capability`]s. The empty one can only compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u8);

impl Capabilities {
    /// None: compute only.
    pub const NONE: Self = Self(0);

    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Capability::ALL.into_iter().fold(Self::NONE, Self::with)
    }

    /// This set, and `capability`.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// This set without `capability`.
    #[must_use]
    pub fn without(self, capability: Capability) -> Self {
        Self(self.0 & !capability.bit())
    }

    /// True when `capability` is in it.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }
}

/// What stands behind the functions of an engine. Cheap to clone.
#[derive(Clone)]
pub struct ScriptContext {
    pub(crate) capabilities: Capabilities,
    pub(crate) world: World,
    pub(crate) meter: Arc<Meter>,
    pub(crate) facts: Arc<Map>,
    pub(crate) interrupts: Interrupts,
}

impl ScriptContext {
    /// Lets scripts do `capabilities` to `world`.
    #[must_use]
    pub fn new(capabilities: Capabilities, world: World) -> Self {
        let facts = Map::from([("version".into(), env!("CARGO_PKG_VERSION").into())]);
        Self {
            capabilities,
            world,
            meter: Arc::default(),
            facts: Arc::new(facts),
            interrupts: Interrupts::default(),
        }
    }

    /// Adds facts to the constant `BTY` of scripts, which has the `version`.
    #[must_use]
    pub fn with_facts(mut self, facts: impl IntoIterator<Item = (&'static str, Dynamic)>) -> Self {
        let mut all = (*self.facts).clone();
        all.extend(facts.into_iter().map(|(name, value)| (name.into(), value)));
        self.facts = Arc::new(all);
        self
    }

    /// What [`interrupt`](Self::interrupt) ends.
    #[must_use]
    pub fn with_interrupts(mut self, interrupts: Interrupts) -> Self {
        self.interrupts = interrupts;
        self
    }

    /// Somebody pressed Ctrl-C: ends the running script, or what it is waiting for. May be called
    /// from any thread.
    pub fn interrupt(&self) {
        self.meter.interrupt();
    }

    /// What it does it to.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// A host that lets scripts compute and nothing else.
    #[must_use]
    pub fn compute_only() -> Self {
        Self::new(Capabilities::NONE, World::nothing())
    }

    /// The host behind a call, when it lets scripts do `capability`.
    pub(crate) fn of(context: &NativeCallContext<'_>, capability: Capability) -> Outcome<Self> {
        let host = Self::behind(context)?;
        if host.capabilities.has(capability) {
            return Ok(host);
        }
        let message =
            format!("{}() is not allowed here: {} is not", context.fn_name(), capability.doing());
        Err(raise(
            HostError::new("capability", message)
                .hint("run the script where it may do that, for example with bty run"),
        ))
    }

    /// The host behind a call, whatever it allows.
    pub(crate) fn behind(context: &NativeCallContext<'_>) -> Outcome<Self> {
        note_call(context.call_position());
        let host = context.tag().and_then(|tag| tag.read_lock::<Self>().map(|host| host.clone()));
        host.ok_or_else(|| raise(HostError::new("host", "this engine was made without a host")))
    }
}
