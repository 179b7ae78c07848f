//! What a script may do, and what it acts on: its capabilities and its world.
//!
//! A function that needs a capability which the context does not grant fails with an error of kind
//! `capability`, and changes nothing.
//!
//! ```
//! use bty_script::{Capabilities, Capability};
//!
//! let capabilities = Capabilities::all().without(Capability::Power);
//! assert!(capabilities.has(Capability::Flash) && !capabilities.has(Capability::Power));
//! ```

use std::sync::Arc;

use rhai::{Dynamic, Map, NativeCallContext};

use crate::error::{CallResult, HostError, note_call, raise};
use crate::host_function::HostFunction;
use crate::meter::{InterruptTarget, Meter};
use crate::world::World;

/// A class of host functions that a [`ScriptContext`] can grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Read disks, images, catalogs and facts about the machine.
    Read,
    /// Connect to other hosts: images and catalogs on the network, HTTP.
    Network,
    /// Write to disks and create files.
    Flash,
    /// Show text to the person at the terminal and ask questions.
    Dialogs,
    /// Sleep, reboot, power off.
    Power,
    /// Read and write text files below the directory of the world.
    Files,
}

impl Capability {
    const ALL: [Self; 6] =
        [Self::Read, Self::Network, Self::Flash, Self::Dialogs, Self::Power, Self::Files];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn activity(self) -> &'static str {
        match self {
            Self::Read => "read disks, images or the machine",
            Self::Network => "use the network",
            Self::Flash => "write to disks or files",
            Self::Dialogs => "talk to a person",
            Self::Power => "wait, reboot or power off",
            Self::Files => "read or write text files",
        }
    }
}

/// A set of [`Capability`]s. Scripts with the empty set can only compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u8);

impl Capabilities {
    /// The empty set: scripts can only compute.
    pub const NONE: Self = Self(0);

    /// Every capability, for scripts of the person at the machine.
    #[must_use]
    pub fn all() -> Self {
        Capability::ALL.into_iter().fold(Self::NONE, Self::with)
    }

    /// Adds `capability` to the set.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// Removes `capability` from the set.
    #[must_use]
    pub fn without(self, capability: Capability) -> Self {
        Self(self.0 & !capability.bit())
    }

    /// True if the set contains `capability`.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }
}

/// The world that the functions of an [`Engine`](crate::Engine) act on, and the capabilities of its
/// scripts. Clones share one state, so that [`interrupt`](Self::interrupt) works on any of them.
#[derive(Clone)]
pub struct ScriptContext {
    pub(crate) capabilities: Capabilities,
    pub(crate) world: World,
    pub(crate) meter: Arc<Meter>,
    pub(crate) facts: Arc<Map>,
    pub(crate) interrupt_target: InterruptTarget,
    /// Functions of the program that the scripts of tests can call too.
    pub(crate) test_functions: Arc<[HostFunction]>,
}

impl ScriptContext {
    /// Grants scripts `capabilities` over `world`.
    #[must_use]
    pub fn new(capabilities: Capabilities, world: World) -> Self {
        let facts = Map::from([("version".into(), env!("CARGO_PKG_VERSION").into())]);
        Self {
            capabilities,
            world,
            meter: Arc::default(),
            facts: Arc::new(facts),
            interrupt_target: InterruptTarget::default(),
            test_functions: Arc::default(),
        }
    }

    /// Adds entries to the constant `BTY` that scripts see; `version` is always in it.
    #[must_use]
    pub fn with_facts(mut self, facts: impl IntoIterator<Item = (&'static str, Dynamic)>) -> Self {
        let mut all = (*self.facts).clone();
        all.extend(facts.into_iter().map(|(name, value)| (name.into(), value)));
        self.facts = Arc::new(all);
        self
    }

    /// Sets what [`interrupt`](Self::interrupt) ends; the default is the script.
    #[must_use]
    pub fn with_interrupt_target(mut self, target: InterruptTarget) -> Self {
        self.interrupt_target = target;
        self
    }

    /// Handles a Ctrl-C from any thread: ends the running script, or the operation that it waits
    /// for, depending on [`with_interrupt_target`](Self::with_interrupt_target).
    pub fn interrupt(&self) {
        self.meter.interrupt();
    }

    /// The world that scripts act on.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// A context without capabilities: scripts compute and nothing else.
    #[must_use]
    pub fn compute_only() -> Self {
        Self::new(Capabilities::NONE, World::empty())
    }

    /// The context of the engine that makes `call`, if it grants `capability`; fails with an error
    /// of kind `capability` otherwise.
    pub(crate) fn require(
        call: &NativeCallContext<'_>,
        capability: Capability,
    ) -> CallResult<Self> {
        let context = Self::from_call(call)?;
        if context.capabilities.has(capability) {
            return Ok(context);
        }
        let (name, activity) = (call.fn_name(), capability.activity());
        let message = format!("{name}() is not allowed here: this script may not {activity}");
        Err(raise(
            HostError::new("capability", message)
                .hint("run it where that is allowed, for example with bty run"),
        ))
    }

    /// The context of the engine that makes `call`. Also records the position of the call, which
    /// [`raise`] puts into errors.
    pub(crate) fn from_call(call: &NativeCallContext<'_>) -> CallResult<Self> {
        note_call(call.call_position());
        let context =
            call.tag().and_then(|tag| tag.read_lock::<Self>().map(|context| context.clone()));
        context.ok_or_else(|| raise(HostError::new("host", "the engine has no script context")))
    }
}
